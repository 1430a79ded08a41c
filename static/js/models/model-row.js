// One model of the list: its state and since when, its requests, its actions.

import { classes, html, useComputed } from "../shared/html.js";
import { bytes, clockTime, seconds } from "../shared/format.js";
import { IconButton, MiddleClip } from "../shared/controls.js";
import { StateBadge } from "../shared/badges.js";
import { needs, needText } from "../memory/store.js";
import { Actions, ServerLink } from "./actions.js";
import { FailureCard, failures, requestLoad } from "./failures.js";
import { LoadProgress } from "./load-progress.js";
import { useStatus } from "./model-status.js";
import { isLoading, modelLink } from "./store.js";

/** Where the server of a model on a cluster runs: "farm, 10.0.0.7", "placing on farm". */
export function placeText({ launcher, node, phase, engine }) {
  if (phase) return `${phase} on ${launcher}`;
  return [launcher, node, engine && "engine does not answer"].filter(Boolean).join(", ");
}

/** What the model is doing, in short parts: requests, countdowns, memory, the progress of a load. */
export function StatusChips({ model, state }) {
  const parts = [];
  const idleVerb = state.idleState === "asleep" ? "sleeps" : "unloads";
  if (state.inFlight) parts.push(html`<span key="f" class="chip"><b>${state.inFlight}</b> in flight</span>`);
  if (state.waiting) parts.push(html`<span key="w" class="chip warn"><b>${state.waiting}</b> waiting${state.etaS ? `, about ${seconds(Math.max(1, state.etaS))}` : ""}</span>`);
  if (state.idleLeftS !== null) parts.push(html`<span key="t" class="chip" title="Idle: ${idleVerb} when this reaches zero">${idleVerb} in ${clockTime(state.idleLeftS)}</span>`);
  if (state.place) parts.push(html`<span key="p" class=${`chip${state.place.engine ? " bad" : ""}`} title=${state.place.engine || "Where its server runs"}>${placeText(state.place)}</span>`);
  const need = useComputed(() => needs.value.get(model.id)).value;
  if (need?.never_fits) parts.push(html`<span key="x" class="chip bad" title=${need.never_fits}>never fits</span>`);
  if (need) parts.push(html`<span key="n" class="chip" title="Memory it needs, and where the figure is from">needs ${needText(need)}</span>`);
  if (state.memoryBytes) parts.push(html`<span key="m" class="chip" title="Main memory of its processes">${bytes(state.memoryBytes)} RAM</span>`);
  if (state.backoffS > 0) parts.push(html`<span key="b" class="chip bad">failed ${state.failures}×, next try in ${clockTime(state.backoffS)}</span>`);
  return html`<div class="doing">${parts}${isLoading(model) && html`<${LoadProgress} model=${model} state=${state} />`}</div>`;
}

/** The state of a model and for how long; a failed load shows until the next one. */
export function ModelState({ model, state, failed }) {
  return html`<div class="model-state"><${StateBadge} state=${failed && model.state === "stopped" ? "failed" : model.state} />
    ${state.stateForS !== null && html`<span class="tiny faint num" title="Time in this state">${clockTime(state.stateForS)}</span>`}</div>`;
}

export function ModelRow({ model, byName, onLog }) {
  const failure = failures.value.get(model.id);
  const state = useStatus(model);
  const shown = byName ? model.name.trim() || model.id : model.id;
  const other = byName ? (model.name.trim() ? model.id : "") : model.name.trim();
  return html`<article class=${classes("model-row", model.unlisted && "unlisted")} data-model=${model.id}>
    <div class="model-main">
      <div class="model-name">
        <a class="name" href=${modelLink(model.id)} title=${shown}><${MiddleClip} text=${shown} /></a>
        ${other && other !== shown && html`<span class="faint small clip" title=${other}>${other}</span>`}
        ${model.unlisted && html`<span class="badge plain">unlisted</span>`}
      </div>
      ${model.description.trim() && html`<p class="muted small model-about" title=${model.description}>${model.description}</p>`}
      <${StatusChips} model=${model} state=${state} />
    </div>
    <${ModelState} model=${model} state=${state} failed=${failure} />
    <div class="model-actions">
      <${Actions} model=${model} />
      <${ServerLink} model=${model} />
      <${IconButton} icon="logs" small label="Log of ${model.id}" onClick=${() => onLog(model.id)} />
    </div>
    ${failure && html`<${FailureCard} id=${model.id} failure=${failure} onRetry=${() => requestLoad(model.id)} onLog=${() => onLog(model.id)} />`}
  </article>`;
}
