// Requests in flight; each can be cancelled.

import { html, useEffect, useState } from "../shared/html.js";
import { request } from "../shared/api.js";
import { everyWhileVisible, now, useLive } from "../shared/timing.js";
import { bytes, plural, seconds } from "../shared/format.js";
import { attempt } from "../shared/toasts.js";
import { Confirm } from "../shared/dialog.js";
import { inflight, inflightTotal, refreshInflight } from "./store.js";

const REFRESH_MS = 2000;
const PHASES = { waiting: "waiting", sent: "reading", answering: "answering" };

function Row({ each }) {
  const [asking, setAsking] = useState(false);
  const age = (each.age_ms + Math.max(0, useLive(now) - each.seenMs)) / 1000;
  const cancel = () => attempt("Cancelling", async () => {
    await request(`/api/inflight/${each.id}/cancel`, { method: "POST" });
    await refreshInflight();
  });
  return html`<tr data-inflight=${each.id}>
    <td><span class="badge ${each.phase === "waiting" ? "starting" : "ready"} phase">${PHASES[each.phase] ?? each.phase}</span></td>
    <td class="clip model-cell">${each.model_id || each.requested}</td>
    <td class="mono tiny wide-only">${each.path}</td>
    <td class="small wide-only">${each.key_name ?? each.client ?? ""}</td>
    <td class="right wide-only">${bytes(each.response_bytes)}</td>
    <td class="right nowrap">${seconds(age)}</td>
    <td class="right"><button type="button" class="btn small danger" aria-label="Cancel request ${each.request_id}" onClick=${() => setAsking(true)}>Cancel</button>
      ${asking && html`<${Confirm} title="Cancel this request?" action="Cancel request" dismiss="Keep running" onYes=${cancel} onClose=${() => setAsking(false)}><p>${[each.client, each.model_id || each.requested, `running for ${seconds(age)}`].filter(Boolean).join(" · ")}. The client will get an error.</p></${Confirm}>`}</td>
  </tr>`;
}

export function InFlight({ active }) {
  useEffect(() => {
    if (!active) return undefined;
    return everyWhileVisible(REFRESH_MS, () => inflightTotal.peek() > 0 && refreshInflight());
  }, [active]);
  const list = useLive(inflight);
  if (!list.length) return null;
  return html`<section class="card inflight" aria-label="In flight">
    <div class="card-head"><h2>In flight</h2><span class="small muted num">${plural(inflightTotal.value, "request")}</span></div>
    <div class="table-wrap" tabindex="0" role="region" aria-label="Requests in flight"><table class="table"><thead><tr><th scope="col">Phase</th><th scope="col">Model</th><th scope="col" class="wide-only">Path</th><th scope="col" class="wide-only">Client</th><th scope="col" class="right wide-only">Received</th><th scope="col" class="right">Age</th><th scope="col"><span class="visually-hidden">Actions</span></th></tr></thead>
      <tbody>${list.map((each) => html`<${Row} key=${each.id} each=${each} />`)}</tbody></table></div>
  </section>`;
}
