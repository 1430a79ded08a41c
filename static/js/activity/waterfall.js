// The time breakdown of a request: queued, load, first token, generation.

import { html } from "../shared/html.js";
import { ms } from "../shared/format.js";

/** [name, ms] of each part, in order; without a first-token time, the answer is one part. */
export function partsOf(record) {
  const queue = record.queue_ms ?? 0;
  const load = record.load_ms ?? 0;
  const first = record.first_token_ms ?? record.first_byte_ms;
  const total = record.duration_ms ?? record.age_ms ?? 0;
  const work = Math.max(0, total - queue - load);
  if (first === null || first === undefined || first < queue + load) return [["queued", queue], ["load", load], ["answer", work]];
  const prefill = Math.max(0, Math.min(first, total) - queue - load);
  return [["queued", queue], ["load", load], ["first token", prefill], ["generation", Math.max(0, work - prefill)]];
}

const slug = (name) => name.replace(" ", "-");

/** A bar in a table cell; *longest* is the length of a full one in ms. */
export function MiniWaterfall({ record, longest }) {
  const parts = partsOf(record).filter(([, took]) => took > 0);
  const summary = parts.map(([name, took]) => `${name} ${ms(took)}`).join(", ");
  return html`<div class="waterfall mini-fall" role="img" aria-label=${summary} title=${summary}>
    ${parts.map(([name, took]) => html`<span key=${name} class="part ${slug(name)}" style=${{ width: `${Math.max(0.8, (took / longest) * 100)}%` }}></span>`)}
  </div>`;
}

/** The bar with its legend, for one request. */
export function Waterfall({ record }) {
  const parts = partsOf(record);
  const total = parts.reduce((sum, [, took]) => sum + took, 0) || 1;
  return html`<div class="stack tight">
    <div class="waterfall" aria-hidden="true">${parts.map(([name, took]) => took > 0 && html`<span key=${name} class="part ${slug(name)}" style=${{ width: `${(took / total) * 100}%` }}></span>`)}</div>
    <ul class="legend small">${parts.map(([name, took]) => html`<li key=${name}><span class="swatch part ${slug(name)}"></span>${name} <b class="num">${ms(took)}</b></li>`)}</ul>
  </div>`;
}
