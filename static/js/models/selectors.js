// The selectors in the list of models: which targets each has, how they stand, and what each serves.

import { html } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { clockTime, count, plural } from "../shared/format.js";
import { StateBadge } from "../shared/badges.js";
import { findModel, modelLink } from "./store.js";

const STRATEGIES = {
  pin: "The first target serves every request",
  warm: "The target that can answer soonest serves",
  spillover: "The first targets serve; a further one is loaded once these have many requests",
  failover: "The first target serves; one that fails is skipped for a while",
};

/** The badge and word of each standing; the others are their own. */
const STANDINGS = {
  draining: ["stopping", "about to leave"],
  leaving: ["stopping", "leaving"],
  failing: ["failed", "skipped"],
  remote: ["", "remote"],
};

/** Whether its failures have a target skipped: the state of its circuit. */
function circuitText({ failures, retry_in_s: waitS }) {
  if (waitS > 0) return `for ${clockTime(waitS)}, ${plural(failures, "failure")}`;
  return failures ? `${plural(failures, "failure")} in a row` : "";
}

function Target({ target }) {
  const [state, word] = STANDINGS[target.state] ?? [target.state, target.state];
  const model = findModel(target.target);
  const circuit = circuitText(target);
  return html`<tr><td>${model && !model.peerID ? html`<a href=${modelLink(model.id)}>${target.target}</a>` : target.target}</td>
    <td><${StateBadge} state=${state} word=${word} />${circuit && html`<span class="tiny muted num"> ${circuit}</span>`}</td>
    <td class="right">${count(target.requests)}</td><td class="right wide-only">${count(target.sessions)}</td></tr>`;
}

export function Selector({ selector: { id, strategy, targets } }) {
  return html`<section class="card model-group" aria-label="Selector ${id}">
    <div class="card-head"><h2 class="long">${id}</h2><span class="badge plain">selector</span><span class="badge plain" title=${STRATEGIES[strategy]}>${strategy}</span>
      <span class="faint small grow">${plural(targets.length, "target")}</span><a class="small" href=${linkTo("activity", { selector: id })}>Requests</a></div>
    <div class="table-wrap" tabindex="0" role="region" aria-label="Targets of ${id}"><table class="table targets"><thead><tr><th scope="col">Target</th><th scope="col">State</th><th scope="col" class="right">In flight</th><th scope="col" class="right wide-only">Sessions</th></tr></thead>
      <tbody>${targets.map((target) => html`<${Target} key=${target.target} target=${target} />`)}</tbody></table></div>
  </section>`;
}
