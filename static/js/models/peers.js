// The peers: other servers whose models are offered here. Their health is the outcome of their last request.

import { html } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { now, useLive } from "../shared/timing.js";
import { ago, dateTime, plural } from "../shared/format.js";
import { StateBadge } from "../shared/badges.js";
import { peerOutcomes } from "./store.js";

const hasFailed = (last) => last.status >= 500;

/** "answered", "failed" or "not used yet", and when. */
export function PeerHealth({ id }) {
  const last = peerOutcomes.value.get(id);
  const time = useLive(now);
  if (!last) return html`<span class="badge plain">not used yet</span>`;
  const failed = hasFailed(last);
  return html`<span class="health" title="Its last request, ${dateTime(last.ended_ms)}: status ${last.status}"><${StateBadge} state=${failed ? "failed" : "ready"} word=${failed ? "failed" : "answered"} />
    <span class="tiny faint num">${ago(last.ended_ms, time)}</span></span>`;
}

/** Why its last request failed; nothing if it did not. */
export function PeerFailure({ id }) {
  const last = peerOutcomes.value.get(id);
  return last && hasFailed(last) && html`<p class="small long">${last.reason || `Status ${last.status}`}</p>`;
}

/** A peer in the list of models. */
export function Peer({ id, models }) {
  return html`<section class="card model-group" aria-label="Peer ${id}">
    <div class="card-head"><h2>${id}</h2><span class="badge plain">peer</span><${PeerHealth} id=${id} /><span class="faint small grow">${plural(models.length, "model")} served elsewhere</span>
      <a class="small" href=${linkTo("activity", { peer: id })}>Requests</a></div>
    <div class="card-body stack tight peer-body"><${PeerFailure} id=${id} /><ul class="peer-models">${models.map((model) => html`<li key=${model.id} class="mono small">${model.id}</li>`)}</ul></div>
  </section>`;
}
