// The start page: how to reach the server, what it is doing, and what it runs on.

import { html, signal, useEffect, useState } from "../shared/html.js";
import { address, getJson, singleFlight } from "../shared/api.js";
import { session } from "../shared/session.js";
import { pageLink } from "../shared/router.js";
import { stored } from "../shared/storage.js";
import { subscribe } from "../shared/event-stream.js";
import { everyWhileVisible, now, useLive } from "../shared/timing.js";
import { ago, bytes, clockTime, percent, plural, seconds } from "../shared/format.js";
import { CopyButton, Empty, Figure, Tabs } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { StateBadge } from "../shared/badges.js";
import { inflightTotal } from "../activity/store.js";
import { DeviceBars } from "../memory/device-bars.js";
import { LoadPlan } from "../memory/load-plan.js";
import { devices, memoryKnown, watchMemory } from "../memory/store.js";
import { failures, requestLoad } from "../models/failures.js";
import { ModelSelect } from "../models/model-select.js";
import { useStatus } from "../models/model-status.js";
import { LoadProgress } from "../models/load-progress.js";
import { PeerFailure, PeerHealth } from "../models/peers.js";
import { isLoading, localModels, modelLink, modelsKnown, peerModels, watchDetails } from "../models/store.js";
import { swaps, swapSentence } from "../timeline/swaps.js";
import { WhyButton } from "../timeline/why.js";
import { keyHint, keyText, snippetsFor } from "./snippets.js";

const REFRESH_MS = 5000;
const AT_REST = new Set(["stopped", "shutdown"]);

const snippet = stored("home-snippet", "curl");
const chosen = stored("home-model", "");

/** The newest sample of the machine, and the state of the configuration; null until known. */
const sample = signal(null);
const config = signal(null);

const refreshSample = singleFlight(async () => {
  try {
    const { samples } = await getJson("/api/performance?since=0&limit=1");
    sample.value = samples.at(-1) ?? sample.peek();
  } catch (error) {
    console.info(`/api/performance: ${error.message}`);
  }
});

const refreshConfig = singleFlight(async () => {
  try {
    config.value = await getJson("/api/config/status");
  } catch (error) {
    console.info(`/api/config/status: ${error.message}`);
  }
});

const root = address("/").replace(/\/$/, "");

/** The model in the examples: the chosen one, else one that is loaded, else the first. */
function exampleModel() {
  const listed = localModels.value.filter((model) => !model.unlisted);
  const known = [...listed, ...[...peerModels.value.values()].flat()];
  const found = known.find((model) => model.id === chosen.value) ?? listed.find((model) => model.state === "ready") ?? known[0];
  return found?.id ?? "MODEL";
}

function Connect() {
  const { required } = session.value;
  const model = exampleModel();
  const snippets = snippetsFor({ root, model, key: keyText(required), required });
  const [id, , hint, text] = snippets.find(([each]) => each === snippet.value) ?? snippets[0];
  return html`<section class="card" aria-label="Connect"><div class="card-head"><h2>Connect a program</h2></div><div class="card-body stack">
    <dl class="facts">
      <dt>Address</dt><dd class="row"><code>${root}/v1</code><${CopyButton} label="Copy the address" text="${root}/v1" /></dd>
      <dt>API key</dt><dd>${keyHint(required)}</dd></dl>
    <div class="row"><${Tabs} label="Program" value=${id} options=${snippets} onChange=${(next) => { snippet.value = next; }} panelId="snippet" /></div>
    <div id="snippet" role="tabpanel" aria-label=${hint} class="stack tight"><div class="row"><span class="small muted grow">${hint}</span>
      <div class="model-choice"><${ModelSelect} hideLabel label="Model in the example" value=${model} onChange=${(next) => { chosen.value = next; }} /></div><${CopyButton} withText text=${text} /></div>
      <pre class="code-block" tabindex="0" role="region" aria-label="Example">${text}</pre></div>
  </div></section>`;
}

function LoadedModel({ model }) {
  const state = useStatus(model);
  const { inFlight, waiting, stateForS, why, etaS } = state;
  const requests = [inFlight && `${inFlight} in flight`, waiting && `${waiting} waiting`].filter(Boolean).join(", ");
  return html`<li class="home-model" data-home-model=${model.id}><${StateBadge} state=${model.state} /><span class="grow"><a href=${modelLink(model.id)}>${model.id}</a>${waiting > 0 && why && html`<p class="small muted">Waiting: ${why}${etaS ? `; about ${seconds(Math.max(1, etaS))}` : ""}. <${WhyButton} model=${model.id} of=${model.id} /></p>`}${isLoading(model) && html`<div><${LoadProgress} model=${model} state=${state} /></div>`}</span>
    <span class="small muted num nowrap" title="Requests, else the time in this state">${requests || (stateForS === null ? "" : clockTime(stateForS))}</span></li>`;
}

function Load() {
  const [model, setModel] = useState("");
  const options = localModels.value.filter((each) => AT_REST.has(each.state) || each.state === "asleep");
  if (!options.length) return null;
  const load = () => requestLoad(model).then(() => setModel(""));
  return html`<div class="stack tight"><div class="row load"><div class="model-choice grow"><${ModelSelect} hideLabel label="Model to load" value=${model} models=${options} onChange=${setModel} /></div>
    <button type="button" class="btn" disabled=${!model} onClick=${load}><${Icon} name="play" size="16" />Load</button></div>${model && html`<p class="small"><${LoadPlan} id=${model} /></p>`}</div>`;
}

function Failure({ id, failure }) {
  return html`<li class="home-model"><${StateBadge} state="failed" /><span class="grow"><a href=${modelLink(id)}>${id}</a> <span class="small muted">${ago(failure.endedMs, useLive(now))}</span><p class="small">${failure.cause || failure.headline}</p></span></li>`;
}

function HomePeer({ id, models }) {
  return html`<li class="home-model" data-home-peer=${id}><${PeerHealth} id=${id} /><span class="grow"><a href=${pageLink("models")}>${id}</a> <span class="small muted">peer, ${plural(models.length, "model")}</span><${PeerFailure} id=${id} /></span></li>`;
}

function LastSwap() {
  const swap = swaps.value.findLast((each) => each.outcome);
  if (!swap) return null;
  return html`<p class="small muted">Last swap: ${swapSentence(swap)} <span class="nowrap">(${ago(swap.ended_ms, useLive(now))})</span> <${WhyButton} swap=${swap.id} of="Swap ${swap.id}" /></p>`;
}

function Now() {
  const loaded = localModels.value.filter((model) => !AT_REST.has(model.state) && model.state !== "unknown");
  const failed = [...failures.value];
  return html`<section class="card" aria-label="Now"><div class="card-head"><h2>Now</h2><div class="tools"><a class="small" href=${pageLink("models")}>All models</a></div></div><div class="card-body stack">
    <div class="figures"><${Figure} name="loaded" value=${loaded.length} /><${Figure} name="in flight" value=${inflightTotal.value} /><${Figure} name="configured" value=${localModels.value.length} /></div>
    ${loaded.length + failed.length > 0 && html`<ul class="home-models">${failed.map(([id, failure]) => html`<${Failure} key="failed-${id}" id=${id} failure=${failure} />`)}${loaded.map((model) => html`<${LoadedModel} key=${model.id} model=${model} />`)}</ul>`}
    ${!loaded.length && html`<p class="muted">Nothing is loaded. A request for a model loads it, and so does this:</p>`}
    <${Load} /><${LastSwap} />
    ${peerModels.value.size > 0 && html`<ul class="home-models" aria-label="Peers">${[...peerModels.value].map(([id, models]) => html`<${HomePeer} key=${id} id=${id} models=${models} />`)}</ul>`}
  </div></section>`;
}

/** A meter of *used* of *total*; a device that does not say how much is used has none. */
function Device({ name, used, total, load }) {
  const share = total && used !== null && used !== undefined ? used / total : null;
  return html`<li class="device"><div class="row"><span class="clip grow">${name}</span><span class="small muted num">${[load !== null && load !== undefined && `${percent(load)} busy`, share !== null && `${bytes(used)} of ${bytes(total)}`].filter(Boolean).join(" · ")}</span></div>
    ${share !== null && html`<meter class="meter" min="0" max="1" high="0.9" value=${share} aria-label="Memory used of ${name}">${percent(share * 100)}</meter>`}</li>`;
}

function Devices() {
  const { host, gpus = [] } = sample.value ?? {};
  const budget = new Set(devices.value.map(({ name }) => name));
  const loadOf = (name) => (name === "ram" ? host?.cpu_percent : gpus.find((gpu) => `gpu${gpu.index}` === name)?.utilization_percent);
  const others = gpus.filter((gpu) => !budget.has(`gpu${gpu.index}`));
  if (!memoryKnown.value || (!host && !budget.size)) return null;
  return html`<section class="card" aria-label="Devices"><div class="card-head"><h2>Devices</h2><div class="tools"><a class="small" href=${pageLink("performance")}>Performance</a></div></div><div class="card-body"><ul class="devices">
    <${DeviceBars} loadOf=${loadOf} />
    ${others.map((gpu) => html`<${Device} key=${gpu.index} name="${gpu.index}: ${gpu.name}" used=${gpu.memory_used} total=${gpu.memory_total} load=${gpu.utilization_percent} />`)}
    ${host && !budget.has("ram") && html`<${Device} name="Host" used=${host.memory_used} total=${host.memory_total} load=${host.cpu_percent} />`}</ul></div></section>`;
}

function Configuration() {
  const state = config.value;
  if (!state) return null;
  const errors = state.errors?.length ?? 0;
  const advice = state.advice?.length ?? 0;
  return html`<section class="card" aria-label="Configuration"><div class="card-head"><h2>Configuration</h2><div class="tools"><a class="small" href=${pageLink("config")}>Open</a></div></div><div class="card-body stack tight">
    ${state.source ? html`<div class="row"><code class="clip grow" title=${state.source}>${state.source}</code><${CopyButton} label="Copy the path" text=${state.source} /></div>` : html`<p class="muted">The active configuration did not come from a file.</p>`}
    <p class="small ${errors ? "" : "muted"}">${errors ? `The file has ${plural(errors, "error")} and was not loaded. The previous configuration is still running.` : `0 errors, ${plural(advice, "warning")}. Loaded ${ago(state.loaded_at * 1000, useLive(now))}.`}</p>
  </div></section>`;
}

const FIRST_MODEL = `models:
  my-model:
    cmd: llama-server --host 127.0.0.1 --port \${PORT} -m /path/to/model.gguf
`;

function FirstModel() {
  return html`<${Empty} icon="models" title="No models configured">Add one to ${config.value?.source ? html`<code>${config.value.source}</code>` : "the configuration file"}, then reload on the <a href=${pageLink("config")}>Config</a> page.
    <pre class="code-block as-typed" tabindex="0" role="region" aria-label="Example">${FIRST_MODEL}</pre><${CopyButton} withText text=${FIRST_MODEL} /></${Empty}>`;
}

export default function HomePage({ active }) {
  useEffect(() => {
    if (!active) return undefined;
    refreshSample();
    refreshConfig();
    const stops = [everyWhileVisible(REFRESH_MS, refreshSample), subscribe("configReload", ({ phase }) => phase !== "start" && refreshConfig()), watchDetails(), watchMemory()];
    return () => stops.forEach((stop) => stop());
  }, [active]);
  const none = modelsKnown.value && !localModels.value.length && !peerModels.value.size;
  return html`
    <header class="page-head"><h1>Home</h1></header>
    <div class="page-body">${none && html`<${FirstModel} />`}
      <div class="home"><div class="stack">${!none && html`<${Now} />`}<${Devices} /></div><div class="stack"><${Connect} /><${Configuration} /></div></div>
    </div>`;
}
