// One chart over time, drawn by uPlot, in the colours of the theme.

import { html, useEffect, useRef, useState } from "../shared/html.js";
import { themeVersion, token } from "../shared/theme.js";
import { timeOfDay } from "../shared/format.js";

const HEIGHT = 180;
const DASHES = [[], [6, 4], [2, 3], [10, 4, 2, 4]];

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

function optionsFor({ series, format, max, sync, binary }, width) {
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
    series: [{}, ...series.map((each, index) => ({ label: each.name, stroke: token(`--series-${(index % 4) + 1}`), width: 1.8, dash: DASHES[Math.floor(index / 4) % 4].length ? DASHES[Math.floor(index / 4) % 4] : index ? DASHES[index % 4] : undefined, points: { show: false }, spanGaps: false }))],
  };
}

/** *times* in seconds; *series* are {name, values}. The legend shows the newest value. */
export function Chart({ title, times, series, format, max, sync, binary }) {
  const place = useRef(null);
  const plot = useRef(null);
  const [at, setAt] = useState(null);
  const names = series.map((each) => each.name).join("\n");
  useEffect(() => {
    let gone = false;
    let observer = null;
    load().then((Plot) => {
      if (gone) return;
      const options = optionsFor({ series, format, max, sync, binary }, place.current.clientWidth || 400);
      options.hooks = { setCursor: [(chart) => setAt(chart.cursor.idx ?? null)] };
      plot.current = new Plot(options, [times, ...series.map((each) => each.values)], place.current);
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
  useEffect(() => { plot.current?.setData([times, ...series.map((each) => each.values)]); }, [times]);
  const index = at === null || at === undefined ? times.length - 1 : at;
  return html`<figure class="card chart"><figcaption class="card-head"><h2>${title}</h2><span class="tiny faint num">${at === null ? "" : timeOfDay(times[index] * 1000)}</span></figcaption>
    <ul class="legend small chart-legend">${series.map((each, number) => html`<li key=${each.name}><span class="line-swatch series-${(number % 4) + 1} dash-${Math.min(number, 3)}"></span>${each.name} <b class="num">${format(each.values[index])}</b></li>`)}</ul>
    <div class="plot" ref=${place} role="img" aria-label="${title}: ${series.map((each) => `${each.name} now ${format(each.values.at(-1))}`).join(", ")}"></div></figure>`;
}
