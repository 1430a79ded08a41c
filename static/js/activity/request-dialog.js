// One request in a dialog: where its time went, and everything recorded about it.

import { html, useState } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { dateTime } from "../shared/format.js";
import { Dialog } from "../shared/dialog.js";
import { StatusBadge } from "../shared/badges.js";
import { WhyButton } from "../timeline/why.js";
import { CaptureDialog } from "./capture.js";
import { CancelDialog, waitOf } from "./in-flight.js";
import { RequestDetails } from "./table.js";
import { Waterfall } from "./waterfall.js";

function InFlightDialog({ request, onClose }) {
  const [asking, ask] = useState(false);
  const facts = [["Started", dateTime(request.started_ms)], ["Path", `${request.method ?? "POST"} ${request.path}`], ["Client", request.key_name ?? request.client], ["Waiting", waitOf(request)], ["Request id", request.request_id]];
  const foot = html`${request.phase === "waiting" && html`<${WhyButton} request=${request.request_id} of="Request ${request.request_id}" />`}<button type="button" class="btn danger" onClick=${() => ask(true)}>Cancel request</button>`;
  return html`<${Dialog} title="Request in flight" tools=${html`<span class="badge plain">${request.phase}</span>`} foot=${foot} onClose=${onClose}><${Waterfall} record=${request} />
    <dl class="facts num">${facts.filter(([, value]) => value).map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${value}</dd>`)}</dl>
    ${asking && html`<${CancelDialog} list=${[request]} onClose=${() => ask(false)} onDone=${onClose} />`}</${Dialog}>`;
}

/** *request* is a record, or one in flight, with *open* set. */
export function RequestDialog({ request, onClose }) {
  const [capture, setCapture] = useState(null);
  if (request.open) return html`<${InFlightDialog} request=${request} onClose=${onClose} />`;
  if (capture) return html`<${CaptureDialog} record=${capture} onClose=${onClose} />`;
  const tools = html`<${StatusBadge} status=${request.status} left=${request.client_left} /><a class="btn small" href=${linkTo("activity", { request: String(request.id) })}>Open in Activity</a>`;
  return html`<${Dialog} title="Request #${request.id + 1}, ${request.model_id}" tools=${tools} onClose=${onClose}><${RequestDetails} record=${request} onCapture=${setCapture} /></${Dialog}>`;
}
