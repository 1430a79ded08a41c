// The load of the machine: CPU, memory, GPUs, and the share of each model.

import { html, signal, useEffect, useMemo } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { everyWhileVisible } from "../shared/timing.js";
import { bytes, percent, speed } from "../shared/format.js";
import { stored } from "../shared/storage.js";
import { Empty, Problem, Segmented } from "../shared/controls.js";
import { refreshRequests, requests } from "../timeline/store.js";
import { swaps } from "../timeline/swaps.js";
import { Chart } from "./chart.js";
import { loadOf } from "./load.js";

const REFRESH_MS = 5000;
const KEPT = 720;
const SYNC = "performance";
const RANGES = [[5, "5 min"], [15, "15 min"], [60, "1 h"]];

const range = stored("performance-range", 60);

const samples = signal([]);
const known = signal(false);
const problem = signal("");

const refresh = singleFlight(async () => {
  try {
    const newest = samples.peek().at(-1)?.at_ms ?? 0;
    const body = await getJson(`/api/performance?since=${newest}`);
    const fresh = body.samples.filter((sample) => sample.at_ms > newest);
    if (fresh.length) samples.value = [...samples.peek(), ...fresh].slice(-KEPT);
    problem.value = "";
  } catch (error) {
    problem.value = error.message;
  }
  known.value = true;
});

const some = (series) => series.some((each) => each.values.some((value) => value !== null && value !== undefined));

/** One series per name that *pick* finds anywhere: {name: value} per sample. */
function seriesOf(list, pick) {
  const picked = list.map(pick);
  const names = [...new Set(picked.flatMap((each) => Object.keys(each)))].sort();
  return names.map((name) => ({ name, values: picked.map((each) => each[name] ?? null) }));
}

const perProcess = (field) => (sample) => Object.fromEntries((sample.processes ?? []).map((process) => [process.model_id, process[field]]));
const perGpu = (field) => (sample) => Object.fromEntries((sample.gpus ?? []).map((gpu) => [`${gpu.index}: ${gpu.name}`, gpu[field]]));

const watts = (value) => (value === null || value === undefined ? "–" : `${Math.round(value)} W`);
const degrees = (value) => (value === null || value === undefined ? "–" : `${Math.round(value)} °C`);
const size = (value) => (value === null || value === undefined ? "–" : bytes(value));

function chartsOf(list) {
  const last = list.at(-1);
  const gpuTotal = Math.max(0, ...(last?.gpus ?? []).map((gpu) => gpu.memory_total ?? 0));
  return [
    { title: "CPU", format: percent, max: 100, series: seriesOf(list, (sample) => ({ "all cores": sample.host?.cpu_percent ?? null })) },
    { title: "Memory", format: size, binary: true, max: last?.host?.memory_total || undefined, series: seriesOf(list, (sample) => ({ used: sample.host?.memory_used ?? null })) },
    { title: "Memory per model", format: size, binary: true, stacked: true, series: seriesOf(list, perProcess("rss_bytes")) },
    { title: "CPU per model (100% is one core)", format: percent, stacked: true, series: seriesOf(list, perProcess("cpu_percent")) },
    { title: "GPU load", format: percent, max: 100, series: seriesOf(list, perGpu("utilization_percent")) },
    { title: "GPU memory", format: size, binary: true, max: gpuTotal || undefined, series: seriesOf(list, perGpu("memory_used")) },
    { title: "GPU temperature", format: degrees, series: seriesOf(list, perGpu("temperature_c")) },
    { title: "GPU power", format: watts, series: seriesOf(list, perGpu("power_w")) },
  ].filter(({ series }) => some(series));
}

/** Tokens per second of each model, and how many requests wait. */
function loadCharts({ times, tokens, waiting }) {
  return [
    { title: "Generated tokens/s", format: speed, stacked: true, times, series: tokens },
    { title: "Waiting requests", format: speed, times, series: [{ name: "waiting", values: waiting }] },
  ].filter(({ series }) => some(series));
}

export default function PerformancePage({ active }) {
  useEffect(() => {
    if (!active) return undefined;
    const read = () => {
      refresh();
      refreshRequests();
    };
    read();
    return everyWhileVisible(REFRESH_MS, read);
  }, [active]);
  const all = samples.value;
  const list = useMemo(() => all.filter((sample) => sample.at_ms > all.at(-1).at_ms - range.value * 60000), [all, range.value]);
  const marks = useMemo(() => swaps.value.filter((swap) => swap.outcome).map((swap) => swap.ended_ms / 1000), [swaps.value]);
  const times = useMemo(() => list.map((sample) => sample.at_ms / 1000), [list]);
  const load = useMemo(() => {
    const end = list.at(-1)?.at_ms ?? 0;
    const known = Math.min(list[0]?.at_ms ?? end, requests.value[0]?.started_ms ?? end); // nothing is before
    return loadOf(requests.value, Math.max(known, end - range.value * 60000), end);
  }, [requests.value, list]);
  const charts = useMemo(() => (list.length ? [...loadCharts(load), ...chartsOf(list)] : []), [load, list]);
  return html`
    <header class="page-head"><h1>Performance</h1><span class="muted small">Dotted lines are swaps</span>
      <div class="tools"><${Segmented} label="Range" value=${range.value} options=${RANGES} onChange=${(next) => { range.value = next; }} /></div></header>
    <div class="page-body">
      ${problem.value && html`<${Problem}>No samples: ${problem.value}</${Problem}>`}
      ${known.value && !list.length && !problem.value && html`<${Empty} icon="gauge" title="No samples yet">The first one is taken a few seconds after the start.</${Empty}>`}
      <div class="charts">${charts.map((chart) => html`<${Chart} key=${chart.title} times=${times} ...${chart} marks=${marks} sync=${SYNC} />`)}</div>
      ${list.length > 0 && !(list.at(-1).gpus ?? []).length && html`<p class="small muted">No GPU is seen. With NVIDIA cards, install llmsnap with its GPU extra to see them here.</p>`}
    </div>`;
}
