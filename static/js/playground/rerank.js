// Ranking of texts by their relevance to a question.

import { html, signal } from "../shared/html.js";
import { AsyncTask, postJson } from "../shared/api.js";
import { stored, storedDebounced } from "../shared/storage.js";
import { Empty, Problem, TextField } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { LoadLine } from "../models/load-line.js";
import { ModelSelect } from "../models/model-select.js";
import { Took } from "./took.js";

const model = stored("playground-rerank-model", "");
const question = storedDebounced("playground-rerank-query", "");
const documents = storedDebounced("playground-rerank-documents", "");
const ranked = signal(null);
const task = new AsyncTask();

const lines = () => documents.value.split("\n").map((line) => line.trim()).filter(Boolean);

async function rank() {
  await task.run(async (abort) => {
    const sent = lines();
    const answer = await postJson("/v1/rerank", { model: model.value, query: question.value, documents: sent, top_n: sent.length }, { signal: abort });
    const results = (await answer.json()).results ?? [];
    ranked.value = results.map((each) => ({ text: sent[each.index] ?? "", score: each.relevance_score ?? each.score })).sort((a, b) => b.score - a.score);
  });
}

/** Scores may be logits or probabilities; the bars only compare them with each other. */
function Ranking() {
  const scores = ranked.value.map((each) => each.score);
  const least = Math.min(...scores, 0);
  const span = Math.max(...scores) - least || 1;
  return html`<ol class="ranking">${ranked.value.map((each, index) => html`<li key=${index}>
    <div class="row"><span class="num faint">${index + 1}</span><span class="grow">${each.text}</span><span class="num small">${each.score.toFixed(4)}</span></div>
    <progress class="bar accent" max="1" value=${(each.score - least) / span} aria-label="Score of place ${index + 1}"></progress></li>`)}</ol>`;
}

export function RerankTab() {
  const ready = model.value && question.value.trim() && lines().length > 0 && !task.busy.value;
  return html`<div class="form-tab">
    <div class="form card">
      <${ModelSelect} value=${model.value} disabled=${task.busy.value} onChange=${(next) => { model.value = next; }} />
      <${TextField} label="Question" value=${question.value} placeholder="What you are looking for" onInput=${(next) => { question.value = next; }} onEnter=${() => ready && rank()} />
      <div class="field"><label class="label" for="rerank-documents">Texts, one per line</label>
        <textarea id="rerank-documents" class="area" rows="8" value=${documents.value} onInput=${(event) => { documents.value = event.currentTarget.value; }}></textarea></div>
      <div class="row">${task.busy.value ? html`<button type="button" class="btn" onClick=${() => task.stop()}><${Icon} name="stop" size="16" />Cancel</button>` : html`<button type="button" class="btn primary" disabled=${!ready} onClick=${rank}>Rank</button>`}</div>
    </div>
    <div class="result card">
      ${task.error.value && html`<${Problem}>${task.error.value}</${Problem}>`}
      ${task.busy.value && html`<p class="muted waiting"><span class="thinking">Ranking…</span><${LoadLine} model=${model.value} /></p>`}
      <${Took} task=${task} model=${model.value} />
      ${ranked.value && !task.busy.value && html`<${Ranking} />`}
      ${!ranked.value && !task.busy.value && !task.error.value && html`<${Empty} icon="rank" title="Nothing ranked yet">Ask a question and give some texts to choose from.</${Empty}>`}
    </div>
  </div>`;
}
