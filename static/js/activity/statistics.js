// Distributions over the filtered requests, computed by the server.

import { html, useEffect, useState } from "../shared/html.js";
import { getJson } from "../shared/api.js";
import { everyWhileVisible } from "../shared/timing.js";
import { compact, count, dateTime, ms, speed } from "../shared/format.js";
import { Figure, Problem } from "../shared/controls.js";
import { Chooser } from "../shared/chooser.js";
import { Histogram } from "../shared/histogram.js";
import { activityTick } from "./store.js";

const MEASURES = [
  ["tokens_per_second", "Generation, tokens/s", speed],
  ["prompt_per_second", "Prompt, tokens/s", speed],
  ["first_token_ms", "Time to first token", ms],
  ["queue_ms", "Queued", ms],
  ["load_ms", "Load", ms],
  ["duration_ms", "Total duration", ms],
];

const EVERY_MS = 5000;

/** The server's sums over the requests that the filter *text* leaves, current while *active*. */
export function useStatistics(text, active) {
  const [found, setFound] = useState({ statistics: null, problem: "" });
  useEffect(() => {
    if (!active) return undefined;
    let seen = -1;
    let wanted = true; // answers for another filter may come late
    const read = () => {
      if (activityTick.peek() === seen) return;
      seen = activityTick.peek();
      getJson(`/api/activity/stats?${text}`).then(
        (statistics) => wanted && setFound({ statistics, problem: "" }),
        (error) => wanted && setFound((before) => ({ ...before, problem: error.message })),
      );
    };
    read();
    const stop = everyWhileVisible(EVERY_MS, read);
    return () => {
      wanted = false;
      stop();
    };
  }, [text, active]);
  return found;
}

/** Of which requests statistics tell: "" for all, else the last that memory holds. */
export function coverage({ total, recorded, since_ms: since }) {
  return recorded > total.requests && since ? `the last ${count(total.requests)} of ${count(recorded)}, since ${dateTime(since)}` : "";
}

/** *query* selects the requests. */
export function RequestStatistics({ query, active }) {
  const [model, setModel] = useState("");
  const { statistics, problem } = useStatistics(query, active);
  if (problem) return html`<${Problem}>The statistics could not be read: ${problem}</${Problem}>`;
  if (!statistics) return html`<section class="card"><p class="card-body muted">Counting…</p></section>`;
  const names = Object.keys(statistics.models);
  const one = statistics.models[model];
  const shown = one ?? statistics.total;
  const covered = coverage(statistics);
  return html`<section class="card" aria-label="Statistics">
    <div class="card-head"><h2>Statistics</h2>${covered && html`<span class="small muted num">${covered}</span>`}
      <div class="tools"><${Chooser} label="Statistics of" hideLabel auto value=${one ? model : ""} options=${[{ value: "", text: "All models" }, ...names.map((name) => ({ value: name, text: name }))]} onChange=${setModel} /></div></div>
    <div class="card-body stack">
      <div class="figures"><${Figure} name="requests" value=${count(shown.requests)} /><${Figure} name="failed" value=${count(shown.errors)} /><${Figure} name="disconnected" value=${count(shown.client_left)} />
        <${Figure} name="prompt tokens" value=${compact(shown.input_tokens)} /><${Figure} name="cached tokens" value=${compact(shown.cached_tokens)} /><${Figure} name="generated tokens" value=${compact(shown.output_tokens)} /></div>
      <div class="histograms">${MEASURES.map(([key, name, format]) => html`<div key=${key}><p class="label">${name}</p>${shown[key] ? html`<${Histogram} data=${shown[key]} label=${name} format=${format} />` : html`<p class="small faint">no data</p>`}</div>`)}</div>
    </div>
  </section>`;
}
