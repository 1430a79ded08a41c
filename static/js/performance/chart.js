// One chart over time, drawn by uPlot, in the colours of the theme.

import { html, useEffect, useRef, useState } from "../shared/html.js";
import { themeVersion, token } from "../shared/theme.js";
import { timeOfDay } from "../shared/format.js";
import { colourOf } from "./colours.js";

const HEIGHT = 180;
const DASHES = [[], [6, 4], [2, 3], [10, 4, 2, 4]];
const dashOf = (index) => (index ? DASHES[index % 4] : undefined);

/** Steps of an axis that counts bytes: 1 KiB, 2 KiB ... 2 TiB. */
const BINARY_STEPS = Array.from({ length: 32 }, (_, power) => 2 ** (power + 10));

let library = null;

/** Load uPlot and its style sheet with the first chart. */
function load() {
  library ??= import("../../vendor/uplot.js").then((module) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = new URL("../../vendor/uplot.css", import.meta.url).href;
    document.head.append(link);
    return module.default;
  });
  return library;
}

/** Draw a line at each of the times *marks* returns, in seconds. */
function drawMarks(chart, marks) {
  const { ctx, bbox } = chart;
  ctx.save();
  ctx.strokeStyle = token("--text-3");
  ctx.setLineDash([2, 4]);
  for (const at of marks()) {
    if (at < chart.scales.x.min || at > chart.scales.x.max) continue;
    const x = Math.round(chart.valToPos(at, "x", true)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
  }
  ctx.restore();
}

/** What uPlot draws: of *stacked* series the sums, the largest first, so that each covers the next. */
function dataOf(times, series, stacked) {
  const lists = series.map((each) => each.values);
  if (!stacked) return [times, ...lists];
  const sums = [];
  for (const list of lists) sums.push(list.map((value, index) => (value ?? 0) + (sums.at(-1)?.[index] ?? 0)));
  return [times, ...sums.reverse()];
}

function optionsFor({ series, format, max, sync, binary, stacked }, width) {
  const font = `11px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: token("--text-2"), font, grid: { stroke: token("--line"), width: 1 }, ticks: { show: false } };
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { sync: { key: sync }, points: { size: 6 }, drag: { x: false, y: false } },
    scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), max ?? Math.max((high ?? 0) * 1.1, 1)] } },
    axes: [
      { ...axis, values: (_, times, index, room, step) => times.map((at) => timeOfDay(at * 1000, step < 60)), space: 84, size: 28 },
      { ...axis, values: (_, values) => values.map(format), incrs: binary ? BINARY_STEPS : undefined, size: 66, space: 34 },
    ],
    series: [{}, ...(stacked ? series.toReversed() : series).map((each, index) => ({
      label: each.name, stroke: colourOf(each.name), fill: stacked ? colourOf(each.name) : undefined, width: stacked ? 1 : 1.8, dash: stacked ? undefined : dashOf(index), points: { show: false }, spanGaps: false,
    }))],
  };
}

/** *times* in seconds; *series* are {name, values}; *marks* are times. The legend shows the newest value. */
export function Chart({ title, times, series, format, max, sync, binary, stacked, marks }) {
  const latest = useRef(null); // the library may be loaded later than the first data
  latest.current = { data: dataOf(times, series, stacked), marks };
  const place = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const names = series.map((each) => each.name).join("\n");
  useEffect(() => {
    let gone = false;
    let observer = null;
    load().then((Plot) => {
      if (gone) return;
      const options = optionsFor({ series, format, max, sync, binary, stacked }, place.current.clientWidth || 400);
      options.hooks = { setCursor: [(chart) => setAt(chart.cursor.idx ?? null)], draw: [(chart) => drawMarks(chart, () => latest.current.marks)] };
      plot.current = new Plot(options, latest.current.data, place.current);
      observer = new ResizeObserver(([entry]) => entry.contentRect.width && plot.current.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT }));
      observer.observe(place.current);
    }, (error) => console.error(error));
    return () => {
      gone = true;
      observer?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [names, themeVersion.value]);
  useEffect(() => { plot.current?.setData(latest.current.data); }, [times, marks]);
  const index = at === null || at === undefined ? times.length - 1 : at;
  return html`<figure class="card chart"><figcaption class="card-head"><h2>${title}</h2><span class="tiny faint num">${at === null ? "" : timeOfDay(times[index] * 1000)}</span></figcaption>
    <ul class="legend small chart-legend">${series.map((each, number) => html`<li key=${each.name}><span class=${stacked ? "swatch" : `line-swatch dash-${number % 4}`} style=${{ [stacked ? "background" : "borderColor"]: colourOf(each.name) }}></span>${each.name} <b class="num">${format(each.values[index])}</b></li>`)}</ul>
    <div class="plot" ref=${place} role="img" aria-label="${title}: ${series.map((each) => `${each.name} now ${format(each.values.at(-1))}`).join(", ")}"></div></figure>`;
}
