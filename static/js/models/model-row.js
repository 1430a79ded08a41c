// One model: its state and since when, its requests, its actions and details.

import { classes, html, useState } from "../shared/html.js";
import { address, modelPath, sleepModel, unloadModel } from "../shared/api.js";
import { bytes, clockTime, dateTime, seconds } from "../shared/format.js";
import { attempt, showToast } from "../shared/toasts.js";
import { IconButton } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { StateBadge, stateWord } from "../shared/badges.js";
import { lastSwapOf, swapSentence } from "../timeline/swaps.js";
import { failures, FailureCard, requestLoad } from "./failures.js";
import { useStatus } from "./model-status.js";
import { refreshDetails } from "./store.js";

const doLoad = (model) => requestLoad(model.id);
const doUnload = (model) => attempt(`Unloading ${model.id}`, () => unloadModel(model.id));
const doSleep = async (model) => (await attempt(`Putting ${model.id} to sleep`, () => sleepModel(model.id))) && showToast(`${model.id} is asleep`, "ok");

const LOAD = ["Load", "play", doLoad];
const WAKE = ["Wake", "play", doLoad];
const UNLOAD = ["Unload", "eject", doUnload];
const SLEEP = ["Sleep", "moon", doSleep];
const CANCEL = ["Cancel", "close", doUnload];

/** The actions that the state of a model allows. */
function actionsOf(model) {
  switch (model.state) {
    case "stopped": return [LOAD];
    case "asleep": return [WAKE, UNLOAD];
    case "ready": return model.sleepMode === "enable" ? [SLEEP, UNLOAD] : [UNLOAD];
    case "starting":
    case "waking": return [CANCEL];
    default: return [];
  }
}

function Actions({ model }) {
  const [busy, setBusy] = useState("");
  const run = async (name, action) => {
    setBusy(name);
    await action(model);
    setBusy("");
    refreshDetails();
  };
  const actions = actionsOf(model);
  if (!actions.length) return html`<button type="button" class="btn small" disabled>${stateWord(model.state)}</button>`;
  return actions.map(([name, icon, action]) => html`<button key=${name} type="button" class="btn small" disabled=${busy !== ""}
    aria-label="${name} ${model.id}" onClick=${() => run(name, action)}><${Icon} name=${icon} size="14" />${name}</button>`);
}

/** The progress of a load: the time elapsed against the usual duration. */
function LoadProgress({ expectedS, sinceS }) {
  const share = expectedS ? Math.min(0.97, sinceS / expectedS) : null;
  const left = expectedS - sinceS;
  const text = !expectedS ? "no load measured yet" : left > 0 ? `about ${seconds(Math.max(1, left))} left` : `usually ${seconds(expectedS)}`;
  return html`<span class="load-progress"><progress class="bar" max="1" value=${share ?? undefined} aria-label="Loading"></progress><span class="tiny muted num nowrap">${text}</span></span>`;
}

function StatusChips({ model, state }) {
  const parts = [];
  const idleVerb = state.idleState === "asleep" ? "sleeps" : "unloads";
  if (state.inFlight) parts.push(html`<span key="f" class="chip"><b>${state.inFlight}</b> in flight</span>`);
  if (state.waiting) parts.push(html`<span key="w" class="chip warn"><b>${state.waiting}</b> waiting${state.etaS ? `, about ${seconds(state.etaS)}` : ""}</span>`);
  if (state.idleLeftS !== null) parts.push(html`<span key="t" class="chip" title="Idle: ${idleVerb} when this reaches zero">${idleVerb} in ${clockTime(state.idleLeftS)}</span>`);
  if (state.memoryBytes) parts.push(html`<span key="m" class="chip">${bytes(state.memoryBytes)}</span>`);
  if (state.backoffS > 0) parts.push(html`<span key="b" class="chip bad">failed ${state.failures}×, next try in ${clockTime(state.backoffS)}</span>`);
  const loading = model.state === "starting" || model.state === "waking";
  const expected = model.state === "waking" ? state.durations.wake : state.durations.start;
  return html`<div class="doing">${parts}${loading && html`<${LoadProgress} expectedS=${expected?.p50_s} sinceS=${state.stateForS ?? 0} />`}</div>`;
}

const TRANSITIONS = [["start", "Load"], ["wake", "Wake"], ["sleep", "Sleep"], ["stop", "Stop"]];

function Durations({ durations }) {
  const known = TRANSITIONS.filter(([key]) => durations[key]?.count);
  if (!known.length) return html`<span class="muted">none measured yet</span>`;
  return html`<table class="mini"><thead><tr><th scope="col"><span class="visually-hidden">transition</span></th><th scope="col">median</th><th scope="col">90%</th><th scope="col">last</th><th scope="col">times</th></tr></thead>
    <tbody>${known.map(([key, name]) => html`<tr key=${key}><th scope="row">${name}</th><td>${seconds(durations[key].p50_s)}</td><td>${seconds(durations[key].p90_s)}</td><td>${seconds(durations[key].last_s)}</td><td>${durations[key].count}</td></tr>`)}</tbody></table>`;
}

function Details({ model, state }) {
  const swap = lastSwapOf(model.id);
  return html`<dl class="facts model-facts">
    <dt>Model id</dt><dd class="mono">${model.id}</dd>
    ${state.cmd && html`<dt>Command</dt><dd class="mono">${state.cmd}</dd>`}
    ${state.aliases.length > 0 && html`<dt>Aliases</dt><dd class="mono">${state.aliases.join(", ")}</dd>`}
    ${state.proxy && html`<dt>Address</dt><dd class="mono">${state.proxy}</dd>`}
    ${state.why && html`<dt>Waiting for</dt><dd>${state.why}</dd>`}
    <dt>Durations</dt><dd><${Durations} durations=${state.durations} /></dd>
    <dt>Last swap</dt><dd>${swap ? `${swapSentence(swap)} (${dateTime(swap.ended_ms)})` : "none seen yet"}</dd>
  </dl>`;
}

export function ModelRow({ model, byName, onLog }) {
  const [open, setOpen] = useState(false);
  const failure = failures.value.get(model.id);
  const state = useStatus(model);
  const shown = byName ? model.name.trim() || model.id : model.id;
  const other = byName ? (model.name.trim() ? model.id : "") : model.name.trim();
  return html`<article class=${classes("model-row", model.unlisted && "unlisted")} data-model=${model.id}>
    <div class="model-main">
      <div class="model-name">
        <a class="name" href=${address(`/upstream/${modelPath(model.id)}/`)} target="_blank" rel="noopener noreferrer" title="Open the page of this model's own server">${shown}</a>
        ${other && other !== shown && html`<span class="faint small">${other}</span>`}
        ${model.unlisted && html`<span class="badge plain">unlisted</span>`}
      </div>
      ${model.description.trim() && html`<p class="muted small model-about">${model.description}</p>`}
      <${StatusChips} model=${model} state=${state} />
    </div>
    <div class="model-state">
      <${StateBadge} state=${failure && model.state === "stopped" ? "failed" : model.state} />
      ${state.stateForS !== null && html`<span class="tiny faint num" title="Time in this state">${clockTime(state.stateForS)}</span>`}
    </div>
    <div class="model-actions">
      <${Actions} model=${model} />
      <${IconButton} icon="logs" small label="Log of ${model.id}" onClick=${() => onLog(model.id)} />
      <button type="button" class="btn quiet icon small" aria-expanded=${String(open)} aria-label="Details of ${model.id}" title="Details" onClick=${() => setOpen(!open)}><${Icon} name=${open ? "up" : "down"} size="16" /></button>
    </div>
    ${failure && html`<${FailureCard} id=${model.id} failure=${failure} onRetry=${() => doLoad(model)} onLog=${() => onLog(model.id)} />`}
    ${open && html`<${Details} model=${model} state=${state} />`}
  </article>`;
}
