// A histogram with its median and upper percentiles marked.

import { html } from "./html.js";

const WIDTH = 400;
const HEIGHT = 96;
const FOOT = 20;
const MARKS = [["p50", 0.5], ["p95", 0.95], ["p99", 0.99]];

/** Of sorted values the one below which *share* lie: rank floor(n * share). */
export const percentile = (sorted, share) => (sorted.length ? sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] : null);

/** {start, width, counts} of numbers: 10 to 30 equal bins; one bin when all are equal. */
export function binsOf(values) {
  const sorted = [...values].sort((a, b) => a - b);
  if (!sorted.length) return null;
  const number = Math.max(10, Math.min(30, Math.floor(sorted.length / 5)));
  const width = (sorted.at(-1) - sorted[0]) / number;
  const counts = new Array(width > 0 ? number : 1).fill(0);
  for (const value of sorted) counts[width > 0 ? Math.min(number - 1, Math.floor((value - sorted[0]) / width)) : 0] += 1;
  const marks = Object.fromEntries(MARKS.map(([name, share]) => [name, percentile(sorted, share)]));
  return { histogram: { start: sorted[0], width: Math.max(width, 0), counts }, ...marks, count: sorted.length };
}

/** *data* is {histogram, p50, p95, p99} from the server or binsOf; *format* formats a value. */
export function Histogram({ data, label, format }) {
  if (!data?.histogram?.counts?.length) return null;
  const { start, width, counts } = data.histogram;
  const span = width * counts.length || 1;
  const top = Math.max(...counts, 1);
  const step = WIDTH / counts.length;
  const x = (value) => (width ? ((value - start) / span) * WIDTH : WIDTH / 2);
  const bars = counts.map((number, index) => {
    const height = (number / top) * (HEIGHT - 4);
    const from = start + index * width;
    return html`<rect key=${index} x=${index * step + 0.5} y=${HEIGHT - height} width=${Math.max(1, step - 1)} height=${height} rx="1.5">
      <title>${format(from)} to ${format(from + width)}: ${number}</title></rect>`;
  });
  const marks = MARKS.filter(([name]) => data[name] !== null && data[name] !== undefined).map(([name]) => html`<line key=${name} class="mark" x1=${x(data[name])} x2=${x(data[name])} y1="0" y2=${HEIGHT}><title>${name} ${format(data[name])}</title></line>`);
  const summary = MARKS.map(([name]) => `${name} ${format(data[name])}`).join(", ");
  return html`<svg class="histogram" viewBox="0 0 ${WIDTH} ${HEIGHT + FOOT}" preserveAspectRatio="none" role="img" aria-label="${label}: ${summary}">
      ${bars}${marks}<line class="base" x1="0" x2=${WIDTH} y1=${HEIGHT} y2=${HEIGHT} />
    </svg>
    <div class="histogram-foot num tiny muted"><span>${format(start)}</span><span>${MARKS.map(([name]) => html`<span key=${name} class="percentile">${name} <b>${format(data[name])}</b></span>`)}</span><span>${format(start + width * counts.length)}</span></div>`;
}
