// A load test: a number of requests with limited concurrency, and their latencies.

import { html, signal } from "../shared/html.js";
import { AsyncTask } from "../shared/api.js";
import { stored } from "../shared/storage.js";
import { ms, plural, seconds, speed } from "../shared/format.js";
import { Empty, Figure, Problem, TextField } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { binsOf, Histogram } from "../shared/histogram.js";
import { sendChat } from "../chat/chat-client.js";
import { DIALECTS } from "../chat/dialects.js";
import { ModelSelect } from "../models/model-select.js";

const MAX_REQUESTS = 500;
const MAX_PARALLEL = 32;
const model = stored("playground-load-model", "");
const requests = stored("playground-load-requests", 20);
const parallel = stored("playground-load-parallel", 4);
const maxTokens = stored("playground-load-tokens", 64);
const prompt = stored("playground-load-prompt", "Write one sentence about the sea.");
const result = signal(null);
const task = new AsyncTask();

const within = (text, most) => Math.min(most, Math.max(1, Math.floor(Number(text)) || 1));

/** Run the test; *result* grows as answers come. */
async function run() {
  await task.run(async (abort) => {
    const began = performance.now();
    const state = { total: requests.value, done: [], errors: [], tookMs: 0 };
    let started = 0;
    const one = async () => {
      while (started < state.total && !abort.aborted) {
        started += 1;
        await measure(state, abort);
        state.tookMs = performance.now() - began;
        result.value = { ...state };
      }
    };
    result.value = { ...state };
    await Promise.all(Array.from({ length: Math.min(parallel.value, state.total) }, one));
  });
}

async function measure(state, abort) {
  const dialect = DIALECTS.chat;
  const body = dialect.body({ model: model.value, messages: [{ role: "user", text: prompt.value }], parameters: { max_tokens: maxTokens.value } });
  try {
    state.done.push(await sendChat({ dialect, body, signal: abort }));
  } catch (error) {
    if (error.name !== "AbortError") state.errors.push(error.status ? `${error.status}: ${error.message}` : error.message);
  }
}

function Errors({ errors }) {
  const counted = Map.groupBy ? [...Map.groupBy(errors, (text) => text)].map(([text, list]) => [text, list.length]) : [[errors[0], errors.length]];
  return html`<${Problem}>${counted.map(([text, number]) => html`<p key=${text}>${number}× ${text}</p>`)}</${Problem}>`;
}

function Result() {
  const { done, errors, total, tookMs } = result.value;
  const tokens = done.reduce((sum, each) => sum + (each.usage.output ?? 0), 0);
  const finished = done.length + errors.length;
  const distribution = (name, values, format) => {
    const bins = binsOf(values.filter((value) => value !== undefined));
    return bins && html`<div><p class="label">${name}</p><${Histogram} data=${bins} label=${name} format=${format} /></div>`;
  };
  return html`<div class="stack">
    <div class="row"><progress class="bar accent wide" max=${total} value=${finished} aria-label="Requests finished"></progress><span class="small muted num">${finished} of ${total}</span></div>
    <div class="figures">
      <${Figure} name="answers" value=${done.length} /><${Figure} name="failed" value=${errors.length} />
      <${Figure} name="elapsed" value=${seconds(tookMs / 1000)} />
      <${Figure} name="requests/s" value=${speed(finished / (tookMs / 1000))} />
      <${Figure} name="tokens/s total" value=${speed(tokens / (tookMs / 1000))} />
    </div>
    ${errors.length > 0 && html`<${Errors} errors=${errors} />`}
    ${distribution("Total duration", done.map((each) => each.totalMs), ms)}
    ${distribution("Time to first token", done.map((each) => each.firstMs), ms)}
    ${distribution("Tokens/s per request", done.map((each) => each.speed), speed)}
  </div>`;
}

export function LoadTab() {
  const ready = model.value && prompt.value.trim() && !task.busy.value;
  const number = (label, state, most) => html`<${TextField} label=${label} type="number" min="1" max=${most} value=${state.value} onInput=${(text) => { state.value = within(text, most); }} />`;
  return html`<div class="form-tab">
    <div class="form card">
      <${ModelSelect} value=${model.value} disabled=${task.busy.value} onChange=${(next) => { model.value = next; }} />
      <div class="three">${number("Requests", requests, MAX_REQUESTS)}${number("Concurrency", parallel, MAX_PARALLEL)}${number("Max tokens", maxTokens, 4096)}</div>
      <div class="field"><label class="label" for="load-prompt">Prompt</label><textarea id="load-prompt" class="area" rows="3" value=${prompt.value} onInput=${(event) => { prompt.value = event.currentTarget.value; }}></textarea></div>
      <p class="tiny faint">A browser opens about six connections to one server; beyond that requests wait in the browser, and that wait is counted too.</p>
      <div class="row">${task.busy.value ? html`<button type="button" class="btn" onClick=${() => task.stop()}><${Icon} name="stop" size="16" />Stop</button>` : html`<button type="button" class="btn primary" disabled=${!ready} onClick=${run}><${Icon} name="bolt" size="16" />Send ${plural(requests.value, "request")}</button>`}</div>
    </div>
    <div class="result card">${task.error.value && html`<${Problem}>${task.error.value}</${Problem}>`}
      ${result.value ? html`<${Result} />` : html`<${Empty} icon="bolt" title="Not measured yet">Choose a model; the answers and their times appear here.</${Empty}>`}</div>
  </div>`;
}
