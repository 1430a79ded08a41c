// "Why?": the panel that explains a swap, or what a request waits for, in the sentences of the server.

import { html, signal } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { limited } from "../shared/session.js";
import { useFetched } from "../shared/fetched.js";
import { ms } from "../shared/format.js";
import { CopyButton } from "../shared/controls.js";
import { Dialog } from "../shared/dialog.js";
import { inflight } from "../activity/store.js";
import { sizeText } from "../memory/store.js";
import { swaps, swapSentence } from "./swaps.js";

const AROUND_MS = 5 * 60000;

/** What is explained: {swap}, a number; {request}, an id; or {model}, an id; null: nothing. */
const asked = signal(null);

export const openWhy = (what) => { asked.value = what; };

/** A button that explains a *swap*, or what a *request*, or all of a *model*, waits for. */
export function WhyButton({ of, ...what }) {
  if (limited.value) return null;
  return html`<button type="button" class="btn quiet small why" aria-label="Why? ${of}" onClick=${() => openWhy(what)}>Why?</button>`;
}

// --- sentences

const LABEL = /^([A-Z][a-z]*(?: [a-z]+){0,3}): (.*)$/s;

/** Sentences as paragraphs; what stands before a colon is set off. */
function Sentences({ list }) {
  return html`<div class="sentences stack tight">${list.map((text) => {
    const [, label, rest] = LABEL.exec(text) ?? [];
    return html`<p key=${text}>${label ? html`<b>${label}:</b> ${rest}` : text}</p>`;
  })}</div>`;
}

/** The answer of a request as sentences; *instead* while there is none. */
function Answer({ answer, instead }) {
  if (answer instanceof Error) return html`<p>${instead}</p><p class="muted small">No more is known: ${answer.message}</p>`;
  if (!answer) return html`<p>${instead}</p>`;
  return html`<${Sentences} list=${answer.sentences} />`;
}

// --- a swap in figures

const PHASES = { wait: "queued", drain: "first-token", load: "load" };
const WORDS = { wait: "waiting", drain: "draining", save: "saving prompts", evict: "evicting", barrier: "waiting for memory", failed_wake: "a wake that failed", failed_check: "wrong answers after it", placing: "waiting for a machine", load: "loading", restore: "restoring prompts", canary: "checking answers" };

function Phases({ phases }) {
  const shown = phases.filter((phase) => phase.ms > 0);
  const total = shown.reduce((sum, phase) => sum + phase.ms, 0);
  if (!total) return null;
  const kind = ({ name }) => `part ${PHASES[name] ?? "evict"}`;
  return html`<div class="stack tight"><div class="waterfall" aria-hidden="true">${shown.map((phase) => html`<span key=${phase.name} class=${kind(phase)} style=${{ width: `${(phase.ms / total) * 100}%` }}></span>`)}</div>
    <ul class="legend small" aria-label="Phases">${shown.map((phase) => html`<li key=${phase.name}><span class="swatch ${kind(phase)}"></span>${WORDS[phase.name] ?? phase.name} <b class="num">${ms(phase.ms)}</b></li>`)}</ul></div>`;
}

function Held({ when, device, held }) {
  const share = (bytes) => ({ width: `${Math.min(100, (bytes / device.capacity_bytes) * 100)}%` });
  return html`<span class="small muted">${when}</span><span class="held" aria-hidden="true"><span class="held-by-others" style=${share(device.others_bytes)}></span><span class="held-by-models" style=${share(held)}></span></span><span class="small num nowrap">${sizeText(held)}</span>`;
}

/** What our models held of each device before the swap, and after it; devices of which they held nothing are left out. */
function Change({ memory }) {
  const shown = (memory ?? []).filter((each) => each.before_bytes || each.after_bytes);
  return shown.map((device) => html`<div key=${device.device} class="held-change"><b class="small held-name">${device.device} <span class="muted">${sizeText(device.capacity_bytes)}</span></b>
    <${Held} when="before" device=${device} held=${device.before_bytes} /><${Held} when="after" device=${device} held=${device.after_bytes ?? 0} /></div>`);
}

function Figures({ swap }) {
  const output = (swap?.error ?? "").split("\n").slice(1).join("\n");
  if (!swap) return null;
  return html`<${Phases} phases=${swap.phases ?? []} /><${Change} memory=${swap.memory} />
    ${output && html`<pre class="code-block tiny" tabindex="0" role="region" aria-label="Last output">${output}</pre>`}`;
}

// --- the panels

const copyOf = (answer) => (answer?.sentences ?? []).join("\n");

function Panel({ title, answer, command, swap, children }) {
  const around = swap?.ended_ms && linkTo("timeline", { span: "15", end: String(Math.round(swap.ended_ms + AROUND_MS)) });
  const foot = html`<span class="grow small muted wide-only">${command && html`<code>${command}</code> says the same`}</span>${around && html`<a class="btn small quiet" href=${around} onClick=${() => openWhy(null)}>Show on the timeline</a>`}<${CopyButton} withText text=${() => copyOf(answer)} />`;
  return html`<${Dialog} title=${title} medium onClose=${() => openWhy(null)} foot=${foot}>${children}</${Dialog}>`;
}

function SwapPanel({ swap: id }) {
  const known = swaps.value.find((swap) => swap.id === id);
  const isOver = Boolean(known?.outcome);
  const answer = useFetched(isOver || !known, `/api/swaps/${id}`, isOver);
  const plan = useFetched(Boolean(known) && !isOver, `/api/plan?${new URLSearchParams({ model: known?.target ?? "" })}`, 0);
  const instead = known ? `${isOver ? swapSentence(known) : `${known.target} is being loaded`}.` : "Reading…";
  const swap = answer?.swap ?? (isOver ? known : null);
  return html`<${Panel} title="Why: swap ${id}" answer=${isOver || !known ? answer : plan} swap=${swap} command="llmsnap why ${id}"><${Answer} answer=${isOver || !known ? answer : plan} instead=${instead} /><${Figures} swap=${swap} /></${Panel}>`;
}

/** While it waits, what its model waits for as well. */
function RequestPanel({ request: id }) {
  const answer = useFetched(true, `/api/requests/${encodeURIComponent(id)}`, inflight.value);
  const waits = answer?.request?.position != null;
  const plan = useFetched(waits, `/api/plan?${new URLSearchParams({ model: answer?.request?.model_id ?? "" })}`, inflight.value);
  return html`<${Panel} title="Why: request ${id}" answer=${answer} swap=${answer?.swap} command="llmsnap why ${id}"><${Answer} answer=${answer} instead="Reading…" />
    ${waits && plan?.sentences && html`<${Sentences} list=${plan.sentences} />`}<${Figures} swap=${answer?.swap} /></${Panel}>`;
}

function ModelPanel({ model }) {
  const answer = useFetched(true, `/api/plan?${new URLSearchParams({ model })}`, inflight.value);
  const place = inflight.value.find((each) => each.model_id === model && each.why);
  return html`<${Panel} title="Why: ${model}" answer=${answer} command="llmsnap plan ${model}">
    ${place && html`<p><b>Waiting:</b> ${place.why}.</p>`}<${Answer} answer=${answer} instead="Reading…" /></${Panel}>`;
}

/** The open panel; one for the whole page, since what opened it may go. */
export function WhyPanel() {
  const what = asked.value;
  if (!what) return null;
  const Kind = what.swap !== undefined ? SwapPanel : what.request !== undefined ? RequestPanel : ModelPanel;
  return html`<${Kind} key=${JSON.stringify(what)} ...${what} />`;
}
