// What went through the server so far: requests, tokens, and how fast tokens come.

import { html, useMemo } from "../core/html.js";
import { compact, count, speed } from "../core/format.js";
import { metrics } from "../store/activity.js";
import { Figure } from "./controls.js";
import { Histogram, binsOf } from "./histogram.js";

const sum = (list, key) => list.reduce((total, each) => total + Math.max(0, each[key]), 0);

function speeds(list) {
  return list.filter((each) => each.output_tokens > 0 && each.duration_ms > 0).map((each) => (each.tokens_per_second > 0 ? each.tokens_per_second : each.output_tokens / (each.duration_ms / 1000)));
}

export function Statistics() {
  const list = metrics.value;
  const bins = useMemo(() => binsOf(speeds(list)), [list]);
  return html`<section class="card" aria-label="Statistics">
    <div class="card-head"><h2>Statistics</h2></div>
    <div class="card-body stack">
      <div class="figures">
        <${Figure} name="requests" value=${count(list.length)} />
        <${Figure} name="tokens processed" value=${compact(sum(list, "input_tokens"))} />
        <${Figure} name="tokens generated" value=${compact(sum(list, "output_tokens"))} />
      </div>
      ${bins
        ? html`<div><p class="label">Generation speed, tokens/s</p><${Histogram} data=${bins} label="Tokens per second" format=${speed} /></div>`
        : html`<p class="muted small">Speeds appear here after the first answer. The <a href="#/">Playground</a> is a quick way to get one.</p>`}
    </div>
  </section>`;
}
