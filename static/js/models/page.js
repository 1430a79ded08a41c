// The models: the list with states and actions, beside it statistics and a log; or the page of one model.

import { classes, html, useEffect, useMemo, useRef, useState } from "../shared/html.js";
import { pageLink, parametersOf, setParameters, subject } from "../shared/router.js";
import { unloadAll } from "../shared/api.js";
import { stored } from "../shared/storage.js";
import { useMedia } from "../shared/dom-utils.js";
import { compact, count, plural, speed } from "../shared/format.js";
import { attempt, showToast } from "../shared/toasts.js";
import { Empty, Figure, IconButton, Segmented, TextField } from "../shared/controls.js";
import { Chooser } from "../shared/chooser.js";
import { Confirm } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";
import { Split } from "../shared/split.js";
import { Histogram } from "../shared/histogram.js";
import { coverage, useStatistics } from "../activity/statistics.js";
import { LogPanel } from "../logs/log-panel.js";
import { followLog, LineBuffer, logs } from "../logs/store.js";
import { DeviceBars } from "../memory/device-bars.js";
import { devices, nodes, watchMemory } from "../memory/store.js";
import { ModelDetail } from "./detail.js";
import { failures } from "./failures.js";
import { ModelRow } from "./model-row.js";
import { optionOf } from "./model-select.js";
import { Peer } from "./peers.js";
import { Selector } from "./selectors.js";
import { groupsOf, isAtRest, localModels, modelsKnown, peerModels, refreshDetails, selectors, watchDetails } from "./store.js";

const showUnlisted = stored("showUnlisted", true);
const showName = stored("showIdorName", "id");
const ALL = "";
const MANY = 24; // from this many on, rows are dense and groups can be folded

/** Ids of the groups of which only loaded models are shown. */
const folded = stored("models-folded", []);

const set = (name) => (value) => setParameters("models", { [name]: value });

/** "Unload all": asks for confirmation, and stays disabled for a second afterwards. */
function UnloadAll() {
  const [busy, setBusy] = useState(false);
  const [asking, setAsking] = useState(false);
  const unload = async () => {
    setBusy(true);
    if (await attempt("Unloading", unloadAll)) showToast("All models are unloaded", "ok");
    refreshDetails();
    setTimeout(() => setBusy(false), 1000);
  };
  const none = !localModels.value.some((model) => !["stopped", "shutdown", "unknown"].includes(model.state));
  return html`<button type="button" class="btn" disabled=${busy || none} onClick=${() => setAsking(true)}>${busy ? "Unloading…" : "Unload all"}</button>
    ${asking && html`<${Confirm} title="Unload all models?" action="Unload all" onYes=${unload} onClose=${() => setAsking(false)}>
      <p>All models stop at once. Their in-flight requests fail.</p></${Confirm}>`}`;
}

const matches = (model, text) => `${model.id} ${model.name} ${model.description} ${(model.aliases ?? []).join(" ")}`.toLowerCase().includes(text.toLowerCase());

/** *models* with loaded and failed ones first; the order rests while the pointer is over the list. */
function useLoadedFirst(models, resting) {
  const order = useRef(new Map());
  const rank = (model) => (isAtRest(model) && !failures.value.has(model.id) ? 1 : 0);
  const sorted = [...models].sort((a, b) => rank(a) - rank(b));
  if (!resting) order.current = new Map(sorted.map((model, index) => [model.id, index]));
  return sorted.sort((a, b) => (order.current.get(a.id) ?? Infinity) - (order.current.get(b.id) ?? Infinity));
}

function Fold({ group, hidden }) {
  const isFolded = folded.value.includes(group.id);
  const toggle = () => { folded.value = isFolded ? folded.value.filter((id) => id !== group.id) : [...folded.value, group.id]; };
  return html`<button type="button" class="btn quiet small" aria-expanded=${String(!isFolded)} aria-label="${isFolded ? "Show" : "Fold"} ${group.title}" onClick=${toggle}>${isFolded && hidden > 0 && `${hidden} more`}<${Icon} name=${isFolded ? "down" : "up"} size="16" /></button>`;
}

function Group({ group, models, onLog, foldable, resting }) {
  const ordered = useLoadedFirst(models, resting);
  const shown = foldable && folded.value.includes(group.id) ? ordered.filter((model) => !isAtRest(model) || failures.value.has(model.id)) : ordered;
  return html`<section class="card model-group" aria-label="Group ${group.title}">
    <div class="card-head">
      <h2>${group.title}</h2>
      ${group.rules.map(([word, meaning]) => html`<span key=${word} class="badge plain" title=${meaning}>${word}</span>`)}
      <span class="faint small num grow">${group.summary}</span>
      ${foldable && html`<${Fold} group=${group} hidden=${models.length - shown.length} />`}
    </div>
    ${shown.length > 0 && html`<div class="model-rows">
      ${shown.map((model) => html`<${ModelRow} key=${model.id} model=${model} byName=${showName.value === "name"} onLog=${onLog} />`)}
    </div>`}
  </section>`;
}

function ModelList({ onLog }) {
  const { find: filter = "" } = parametersOf("models");
  const [resting, setResting] = useState(false);
  const visible = localModels.value.filter((model) => (showUnlisted.value || !model.unlisted) && matches(model, filter));
  const groups = groupsOf(visible);
  const peers = [...peerModels.value].map(([id, list]) => [id, list.filter((model) => matches(model, filter))]).filter(([, list]) => list.length);
  const choosing = selectors.value.filter(({ id, targets }) => [id, ...targets.map(({ target }) => target)].some((name) => name.toLowerCase().includes(filter.toLowerCase())));
  const total = localModels.value.length + peerModels.value.size;
  return html`
    <div class="toolbar">
      <div class="grow search"><${TextField} label="Find a model" hideLabel type="search" placeholder="Find a model" value=${filter} onInput=${set("find")} /></div>
      <${Segmented} label="Show models by" value=${showName.value} options=${[["id", "ID"], ["name", "Name"]]} onChange=${(next) => { showName.value = next; }} />
      <${IconButton} icon=${showUnlisted.value ? "eye" : "eyeOff"} kind="" label=${showUnlisted.value ? "Hide unlisted models" : "Show unlisted models"} onClick=${() => { showUnlisted.value = !showUnlisted.value; }} />
      <${UnloadAll} />
    </div>
    <div class=${classes("model-list", total > MANY && "dense")} onPointerEnter=${(event) => event.pointerType === "mouse" && setResting(true)} onPointerLeave=${() => setResting(false)}>
      ${groups.map(({ group, models }) => html`<${Group} key=${group.id} group=${group} models=${models} onLog=${onLog} foldable=${total > MANY && !filter} resting=${resting} />`)}
      ${choosing.map((selector) => html`<${Selector} key="selector ${selector.id}" selector=${selector} />`)}
      ${peers.map(([id, list]) => html`<${Peer} key="peer ${id}" id=${id} models=${list} />`)}
      ${modelsKnown.value && !total && html`<${Empty} icon="models" title="No models yet">Add a model to the configuration file; with <code>--watch-config</code> it appears here as soon as the file is saved.</${Empty}>`}
      ${modelsKnown.value && Boolean(total) && !groups.length && !peers.length && !choosing.length && html`<${Empty} icon="search" title="No model matches">${filter ? html`Nothing here contains “${filter}”.` : "All models are unlisted; the eye above shows them."}</${Empty}>`}
    </div>`;
}

/** The log of the chosen model while the page is active, else that of all. */
function useLog(id, active) {
  const buffer = useMemo(() => (id === ALL ? logs.upstream : new LineBuffer()), [id]);
  useEffect(() => (active ? followLog(id === ALL ? "upstream" : id, buffer) : undefined), [id, active, buffer]);
  return buffer;
}

function ModelLog({ active }) {
  const { log = ALL } = parametersOf("models");
  const known = localModels.value;
  const id = known.some((model) => model.id === log) ? log : ALL;
  const buffer = useLog(id, active);
  const options = [{ value: ALL, text: "All models" }, ...known.map((model) => optionOf(model, ""))];
  const choice = html`<${Chooser} label="Log of" hideLabel auto value=${id} options=${options} onChange=${set("log")} />`;
  return html`<${LogPanel} key=${id} id=${id === ALL ? "modelsupstream" : `model-${id}`} title="Log" buffer=${buffer} tools=${choice} sources=${id === ALL} active=${active} />`;
}

// --- statistics: requests, tokens and generation speed

export function Statistics({ active }) {
  const { statistics } = useStatistics("", active);
  if (!statistics) return null;
  const { total } = statistics;
  const covered = coverage(statistics);
  return html`<section class="card" aria-label="Statistics">
    <div class="card-head"><h2>Statistics</h2>${covered && html`<span class="small muted num">${covered}</span>`}</div>
    <div class="card-body stack">
      <div class="figures">
        <${Figure} name="requests" value=${count(total.requests)} />
        <${Figure} name="tokens processed" value=${compact(total.input_tokens)} />
        <${Figure} name="tokens generated" value=${compact(total.output_tokens)} />
      </div>
      ${total.tokens_per_second
        ? html`<div><p class="label">Generation speed, tokens/s</p><${Histogram} data=${total.tokens_per_second} label="Tokens per second" format=${speed} /></div>`
        : html`<p class="muted small">Speeds appear here after the first answer. The <a href=${pageLink("playground")}>Playground</a> is a quick way to get one.</p>`}
    </div>
  </section>`;
}

// --- the page

function Devices() {
  return html`<section class="card models-devices" aria-label="Memory" hidden=${!devices.value.length && !nodes.value.length}><ul class="devices"><${DeviceBars} /></ul></section>`;
}

function ModelsList({ active }) {
  const narrow = useMedia("(max-width: 1099.98px)");
  const onLog = (id) => {
    set("log")(id);
    document.querySelector("[data-page=models] .log-panel")?.scrollIntoView({ block: "nearest" });
  };
  const list = html`<div class="models-left"><${Devices} /><${ModelList} onLog=${onLog} /></div>`;
  const side = html`<div class=${classes("models-right", narrow && "narrow")}>${!narrow && html`<${Statistics} active=${active} />`}<${ModelLog} active=${active} /></div>`;
  return html`
    <header class="page-head"><h1>Models</h1><span class="muted small num">${summary()}</span></header>
    ${narrow
      ? html`<div class="page-body">${list}${side}</div>`
      : html`<div class="page-fill"><${Split} id="models-panel-group" label="Width of the models" stackBelow="1100" initial=${58}>${list}${side}</${Split}></div>`}`;
}

export default function ModelsPage({ active }) {
  const id = active ? subject.value : subject.peek();
  useEffect(() => (active ? watchDetails() : undefined), [active]);
  useEffect(() => (active ? watchMemory() : undefined), [active]);
  // The list stays behind the page of a model, where it was scrolled to.
  return html`<div class="subpage" hidden=${Boolean(id)}><${ModelsList} active=${active && !id} /></div>
    ${id && html`<div class="subpage" data-detail=${id}><${ModelDetail} key=${id} id=${id} active=${active} /></div>`}`;
}

function summary() {
  const states = localModels.value.map((model) => model.state);
  const number = (...wanted) => states.filter((state) => wanted.includes(state)).length;
  const parts = [plural(states.length, "model"), number("ready") && `${number("ready")} ready`, number("starting", "waking") && `${number("starting", "waking")} loading`, number("asleep") && `${number("asleep")} asleep`, failures.value.size && `${failures.value.size} failed`];
  return modelsKnown.value ? parts.filter(Boolean).join(" · ") : "";
}
