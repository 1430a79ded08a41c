// Requests in flight: what each does or waits for; one, or all of a model or client, can be cancelled.

import { html, useEffect, useState } from "../shared/html.js";
import { everyWhileVisible, now, useLive } from "../shared/timing.js";
import { bytes, ordinal, plural, seconds } from "../shared/format.js";
import { attempt } from "../shared/toasts.js";
import { Menu, MiddleClip } from "../shared/controls.js";
import { Confirm } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";
import { WhyButton } from "../timeline/why.js";
import { findModel, modelLink } from "../models/store.js";
import { cancelRequests, inflight, inflightTotal, refreshInflight } from "./store.js";

const REFRESH_MS = 2000;
const LOADING = new Set(["starting", "waking"]);
const WORDS = { queued: "queued", loading: "loading", sent: "reading", answering: "answering" };

const modelOf = (each) => each.model_id || each.requested;
const clientOf = (each) => each.key_name ?? each.client ?? "";

/** The phase, with waiting divided into "queued" and "loading". */
const phaseOf = (each) => (each.phase !== "waiting" ? each.phase : LOADING.has(findModel(each.model_id)?.state) ? "loading" : "queued");

const passedMs = (each) => Math.max(0, now.peek() - each.seenMs);
const ageS = (each) => (each.age_ms + passedMs(each)) / 1000;

/** What it waits for, in short: "2nd in line, alpha is serving 1 request for 12 s, about 9 s left". */
export function waitOf(each) {
  if (each.phase !== "waiting") return "";
  const left = each.eta_s === null || each.eta_s === undefined ? null : each.eta_s - passedMs(each) / 1000;
  return [each.position && `${ordinal(each.position)} in line`, each.why, left > 0 && `about ${seconds(Math.max(1, left))} left`].filter(Boolean).join(", ");
}

/** One request in a line: who asked what of which model, and for how long. */
const lineOf = (each) => [clientOf(each), modelOf(each), each.path, `${WORDS[phaseOf(each)]} for ${seconds(ageS(each))}`].filter(Boolean).join(" · ");

/** Asks before *list* is cancelled. */
export function CancelDialog({ list, what, onClose, onDone = () => {} }) {
  const one = list.length === 1;
  const cancel = async () => { if (await attempt("Cancelling", () => cancelRequests(list))) onDone(); };
  return html`<${Confirm} title=${one ? "Cancel this request?" : `Cancel ${what}?`} action=${one ? "Cancel request" : `Cancel ${plural(list.length, "request")}`} dismiss="Keep running" onYes=${cancel} onClose=${onClose}>
    ${list.slice(0, 5).map((each) => html`<p key=${each.id} class="small long">${lineOf(each)}</p>`)}${list.length > 5 && html`<p class="small muted">and ${list.length - 5} more</p>`}
    <p>${one ? "The client will get an error." : "Their clients will get errors."}</p></${Confirm}>`;
}

function Row({ each, onCancel }) {
  const phase = phaseOf(each);
  const wait = waitOf(each);
  return html`<tr data-inflight=${each.id}>
    <td><span class="badge ${{ queued: "plain", loading: "starting" }[phase] ?? "ready"} phase">${WORDS[phase] ?? phase}</span></td>
    <td class="wide-cell"><a class="clip" href=${findModel(each.model_id) ? modelLink(each.model_id) : undefined} title=${modelOf(each)}><${MiddleClip} text=${modelOf(each)} /></a>${wait && html`<span class="tiny muted clip" title=${wait}>${wait}</span>`}</td>
    <td class="mono tiny wide-only">${each.path}</td>
    <td class="small wide-only clip">${clientOf(each)}</td>
    <td class="right wide-only">${bytes(each.response_bytes)}</td>
    <td class="right nowrap">${seconds(ageS(each))}</td>
    <td class="right nowrap">${each.phase === "waiting" && html`<${WhyButton} request=${each.request_id} of="Request ${each.request_id}" />`}<button type="button" class="btn small danger worded" title="Cancel" aria-label="Cancel request ${each.request_id}" onClick=${() => onCancel({ list: [each] })}><${Icon} name="close" size="14" /><span class="word">Cancel</span></button></td>
  </tr>`;
}

/** Groups of at least two: [what, requests] for each model and each client. */
function together(list) {
  const by = (key, name) => [...Map.groupBy(list, key)].filter(([value, each]) => value && each.length > 1).map(([value, each]) => [`all ${each.length} requests ${name} ${value}`, each]);
  return [...by(modelOf, "for"), ...by(clientOf, "of")];
}

function CancelMenu({ list, onCancel }) {
  const choices = together(list);
  if (!choices.length) return null;
  return html`<${Menu} label="Cancel several" icon="close" text="Cancel several">${choices.map(([what, each]) => html`<button key=${what} type="button" class="btn quiet" onClick=${() => onCancel({ list: each, what })}>${`Cancel ${what}`}</button>`)}</${Menu}>`;
}

/** Of fixed height, so that the list below does not move as requests come and go. */
export function InFlight({ active }) {
  const [cancelling, cancel] = useState(null);
  useEffect(() => {
    if (!active) return undefined;
    return everyWhileVisible(REFRESH_MS, () => inflightTotal.peek() > 0 && refreshInflight());
  }, [active]);
  const list = useLive(inflight);
  useLive(now); // ages and estimates go on
  const hidden = inflightTotal.value - list.length;
  return html`<section class="card inflight" aria-label="In flight">
    <div class="card-head"><h2>In flight</h2><span class="small muted num">${plural(inflightTotal.value, "request")}${hidden > 0 ? `, the oldest ${list.length} shown` : ""}</span><div class="tools"><${CancelMenu} list=${list} onCancel=${cancel} /></div></div>
    ${list.length > 0
      ? html`<div class="table-wrap" tabindex="0" role="region" aria-label="Requests in flight"><table class="table"><thead><tr><th scope="col">Phase</th><th scope="col">Model</th><th scope="col" class="wide-only">Path</th><th scope="col" class="wide-only">Client</th><th scope="col" class="right wide-only">Received</th><th scope="col" class="right">Age</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>
        <tbody>${list.map((each) => html`<${Row} key=${each.id} each=${each} onCancel=${cancel} />`)}</tbody></table></div>`
      : html`<p class="card-body muted small">No request is in flight.</p>`}
    ${cancelling && html`<${CancelDialog} ...${cancelling} onClose=${() => cancel(null)} />`}
  </section>`;
}
