// The page of one model: state and why, its last hour, requests, log, settings, and how to call it.

import { html, useEffect, useMemo, useState } from "../shared/html.js";
import { linkTo, pageLink } from "../shared/router.js";
import { address } from "../shared/api.js";
import { session } from "../shared/session.js";
import { now, useLive } from "../shared/timing.js";
import { bytes, count, dateTime, ms, plural, seconds, speed } from "../shared/format.js";
import { useFetched } from "../shared/fetched.js";
import { CopyButton, Empty, Figure, Problem, Select } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { keyText, snippetsFor } from "../home/snippets.js";
import { useStatistics } from "../activity/statistics.js";
import { activityTick } from "../activity/store.js";
import { CaptureDialog } from "../activity/capture.js";
import { RequestTable } from "../activity/table.js";
import { LogPanel } from "../logs/log-panel.js";
import { followLog, LineBuffer } from "../logs/store.js";
import { isExplained, LoadPlan } from "../memory/load-plan.js";
import { asleepText, needs, needText } from "../memory/store.js";
import { Strip } from "../timeline/strip.js";
import { lastSwapOf, swapSentence } from "../timeline/swaps.js";
import { WhyButton } from "../timeline/why.js";
import { Actions, ServerLink } from "./actions.js";
import { FailureCard, failures, requestLoad } from "./failures.js";
import { ModelState, placeText, StatusChips } from "./model-row.js";
import { modelStatus } from "./model-status.js";
import { details, findModel, groups, modelsKnown } from "./store.js";

const REQUESTS = 6;
const COLUMNS = ["time", "status", "generated", "speed", "duration"];

// --- why it is as it is

/** Why the model waits, or how it came to its state. */
function Why({ model, state }) {
  const swap = lastSwapOf(model.id);
  return html`${state.why && html`<p><strong>Waiting:</strong> ${state.why}${state.etaS ? `; about ${seconds(Math.max(1, state.etaS))} left` : ""}. <${WhyButton} model=${model.id} of=${model.id} /></p>`}
    <p class="small muted">${swap ? html`Last swap: ${swapSentence(swap)} <span class="nowrap">(${dateTime(swap.ended_ms)})</span> <${WhyButton} swap=${swap.id} of="Swap ${swap.id}" />` : "No swap of this model seen yet."}</p>`;
}

const TRANSITIONS = [["start", "Load"], ["wake", "Wake"], ["sleep", "Sleep"], ["stop", "Stop"]];

function Durations({ durations }) {
  const known = TRANSITIONS.filter(([key]) => durations[key]?.count);
  if (!known.length) return html`<span class="muted">none measured yet</span>`;
  return html`<table class="mini"><thead><tr><th scope="col"><span class="visually-hidden">transition</span></th><th scope="col">median</th><th scope="col">90%</th><th scope="col">last</th><th scope="col">times</th></tr></thead>
    <tbody>${known.map(([key, name]) => html`<tr key=${key}><th scope="row">${name}</th><td>${seconds(durations[key].p50_s)}</td><td>${seconds(durations[key].p90_s)}</td><td>${seconds(durations[key].last_s)}</td><td>${durations[key].count}</td></tr>`)}</tbody></table>`;
}

/** "Never", or after how many seconds. */
const after = (value) => (value > 0 ? `after ${seconds(value)} idle` : "never");

/** "2 prompts, 3,172 tokens, 24.4 MiB", or why none are kept over swaps. */
function promptsText({ prompts, tokens, size, off }) {
  if (off) return `not kept: ${off}`;
  return prompts ? `${plural(prompts, "prompt")}, ${plural(tokens, "token")}, ${bytes(size)}` : "none so far";
}

function Settings({ model, state }) {
  const entry = details.value.get(model.id);
  const group = groups.value.find((each) => each.members.includes(model.id));
  const need = needs.value.get(model.id);
  const asleep = need && asleepText(need);
  const memory = state.memoryBytes ? bytes(state.memoryBytes) : "none: it is not loaded";
  const facts = [
    ["Needs", need && [needText(need), asleep && `keeps ${asleep} asleep`, need.pinned && "pinned: never evicted for another model"].filter(Boolean).join("; ")],
    ["Memory", entry && memory], ["Command", state.cmd && html`<code class="as-typed">${state.cmd}</code> <${CopyButton} text=${state.cmd} label="Copy the command" />`],
    ["Runs on", state.place && placeText(state.place)], ["Address", state.proxy && html`<span class="mono">${state.proxy}</span>`], ["Aliases", state.aliases.join(", ")],
    ["Group", group && (group.id === "(default)" ? "default group" : group.id)],
    ["Unloads", entry && after(entry.ttl_s)], ["Sleeps", entry && model.sleepMode === "enable" && (entry.sleep_off ? `no more: ${entry.sleep_off}` : after(entry.sleep_after_s))],
    ["Kept over swaps", entry?.prompts && promptsText(entry.prompts)], ["Requests at once", entry?.concurrency_limit ? count(entry.concurrency_limit) : ""], ["Durations", entry && html`<${Durations} durations=${state.durations} />`],
  ];
  return html`<section class="card" aria-label="Settings"><div class="card-head"><h2>Settings</h2><div class="tools"><a class="small" href=${pageLink("config")}>Configuration</a></div></div>
    <div class="card-body"><dl class="facts num">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl></div></section>`;
}

// --- how to call it

function Snippets({ id }) {
  const [kind, setKind] = useState("curl");
  const { required } = session.value;
  const snippets = snippetsFor({ root: address("/").replace(/\/$/, ""), model: id, key: keyText(required), required });
  const [, , hint, text] = snippets.find(([key]) => key === kind);
  return html`<section class="card" aria-label="How to call it"><div class="card-head"><h2>How to call it</h2>
      <div class="tools"><${Select} label="Program" hideLabel auto value=${kind} onChange=${setKind}>${snippets.map(([key, name]) => html`<option key=${key} value=${key}>${name}</option>`)}</${Select}><${CopyButton} text=${text} label="Copy the example" /></div></div>
    <div class="card-body stack tight"><p class="small muted">${hint}</p><pre class="code-block" role="region" aria-label="Example" tabindex="0">${text}</pre></div></section>`;
}

// --- its requests and its log

function Figures({ statistics }) {
  const total = statistics?.total;
  if (!total) return null;
  return html`<div class="figures"><${Figure} name="requests" value=${count(statistics.recorded)} /><${Figure} name="failed" value=${count(total.errors)} />
    <${Figure} name="tokens/s, median" value=${speed(total.tokens_per_second?.p50)} /><${Figure} name="time to first token, median" value=${ms(total.first_token_ms?.p50)} /></div>`;
}

function Requests({ id, page, onCapture }) {
  const records = page?.records ?? [];
  const [open, setOpen] = useState(null);
  return html`<section class="card" aria-label="Requests"><div class="card-head"><h2>Last requests</h2><div class="tools"><a class="small" href=${linkTo("activity", { model: id })}>All requests</a></div></div>
    ${records.length > 0 ? html`<${RequestTable} records=${records} columns=${COLUMNS} open=${open} onOpen=${setOpen} onCapture=${onCapture} />` : html`<p class="card-body muted">${page instanceof Error ? `Not shown: ${page.message}` : page ? "None yet." : "Reading…"}</p>`}</section>`;
}

function ModelLog({ id, active }) {
  const buffer = useMemo(() => new LineBuffer(), [id]);
  useEffect(() => (active ? followLog(id, buffer) : undefined), [id, active, buffer]);
  return html`<div class="detail-log"><${LogPanel} id=${`model-${id}`} title="Log" buffer=${buffer} active=${active} /></div>`;
}

// --- the page

const modelQuery = (id) => new URLSearchParams({ model: id }).toString();

export function ModelDetail({ id, active }) {
  const [capture, setCapture] = useState(null);
  const model = findModel(id);
  const time = useLive(now);
  const page = useFetched(active, `/api/activity?${modelQuery(id)}&limit=${REQUESTS}`, activityTick);
  const { statistics } = useStatistics(modelQuery(id), active);
  const back = html`<a class="btn quiet icon" href=${pageLink("models")} title="All models" aria-label="All models"><${Icon} name="left" /></a>`;
  if (!model || model.peerID) {
    return html`<header class="page-head">${back}<h1 class="long">${id}</h1></header>
      <div class="page-body">${modelsKnown.value && html`<${Empty} icon="models" title="No model of this name">It may have been removed from the configuration. <a href=${pageLink("models")}>All models</a></${Empty}>`}</div>`;
  }
  const state = modelStatus(model, time);
  const failure = failures.value.get(id);
  const need = needs.value.get(id);
  return html`<header class="page-head">${back}<h1 class="long" title=${id}>${id}</h1><${ModelState} model=${model} state=${state} failed=${failure} />
      <div class="tools"><${Actions} model=${model} /><${ServerLink} model=${model} /></div></header>
    <div class="page-body">
      <section class="stack tight" aria-label="State">
        ${(model.name.trim() || model.description.trim()) && html`<p class="muted">${[model.name.trim(), model.description.trim()].filter(Boolean).join(": ")}</p>`}
        <${StatusChips} model=${model} state=${state} /><${Why} model=${model} state=${state} />
        ${isExplained(id) && !need?.never_fits && html`<p class="small"><${LoadPlan} id=${id} /></p>`}
        ${need?.never_fits && html`<${Problem}><strong>${id} never fits</strong>: ${need.never_fits}. Change <code>memory</code> of the model or of the device, or what is pinned: see “What fits with what” in docs/what-fits.md.</${Problem}>`}
        ${failure && html`<${FailureCard} id=${id} failure=${failure} onRetry=${() => requestLoad(id)} onLog=${() => document.querySelector(".detail-log")?.scrollIntoView()} />`}
      </section>
      <${Figures} statistics=${statistics} />
      <${Strip} model=${model} active=${active} />
      <div class="detail-columns">
        <div class="stack"><${Requests} id=${id} page=${page} onCapture=${setCapture} /><${ModelLog} id=${id} active=${active} /></div>
        <div class="stack"><${Settings} model=${model} state=${state} /><${Snippets} id=${id} /></div>
      </div>
    </div>
    ${capture && html`<${CaptureDialog} record=${capture} onClose=${() => setCapture(null)} />`}`;
}
