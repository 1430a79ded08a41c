// A captured request beside its answer, and the same request sent again to any model.

import { html, useEffect, useState } from "../../core/html.js";
import { getJson, getText } from "../../core/api.js";
import { dialectOf } from "../../core/dialects.js";
import { CopyButton, Problem } from "../../components/controls.js";
import { Dialog } from "../../components/dialog.js";
import { StatusBadge } from "../../components/badge.js";
import { Replay } from "./replay.js";
import { Body, decode, typeOf } from "./body.js";

function Headers({ headers, label }) {
  const entries = Object.entries(headers ?? {});
  return html`<details class="section"><summary>${label} <span class="faint small num">${entries.length}</span></summary>
    <dl class="facts headers">${entries.map(([name, value]) => html`<dt key=${name} class="mono">${name}</dt><dd class="mono">${value}</dd>`)}</dl></details>`;
}

/** The capture, or why there is none. */
function useCapture(id) {
  const [state, setState] = useState({ capture: null, problem: "" });
  useEffect(() => {
    getJson(`/api/captures/${id}`).then(
      (capture) => setState({ capture, problem: "" }),
      (error) => setState({ capture: null, problem: error.status === 404 ? "It has been dropped to make room for newer ones; captureBuffer in the configuration says how much is kept." : error.message }),
    );
  }, [id]);
  return state;
}

export function CaptureDialog({ record, onClose }) {
  const { capture, problem } = useCapture(record.id);
  const title = html`<span class="num">#${record.id + 1}</span> <span class="mono small">${capture?.req_path ?? record.path}</span>`;
  const tools = html`<${StatusBadge} status=${record.status} left=${record.client_left} /><${CopyButton} withText label="Copy as curl" text=${() => getText(`/api/captures/${record.id}?format=curl`)} />`;
  return html`<${Dialog} title=${title} tools=${tools} onClose=${onClose}>
    ${problem && html`<${Problem}>This capture cannot be shown. ${problem}</${Problem}>`}
    ${!capture && !problem && html`<p class="muted">Reading…</p>`}
    ${capture && html`<div class="capture">
        <section aria-label="Request" class="stack tight"><h3>Request</h3><${Headers} headers=${capture.req_headers} label="Headers" />
          <${Body} label="Request body" bytes=${decode(capture.req_body)} type=${typeOf(capture.req_headers)} omitted=${capture.req_body_omitted} dialect=${dialectOf(capture.req_path)} /></section>
        <section aria-label="Answer" class="stack tight"><h3>Answer</h3><${Headers} headers=${capture.resp_headers} label="Headers" />
          <${Body} label="Response body" bytes=${decode(capture.resp_body)} type=${typeOf(capture.resp_headers)} omitted=${capture.resp_body_omitted} dialect=${dialectOf(capture.req_path)} /></section>
      </div>
      <${Replay} capture=${capture} record=${record} />`}
  </${Dialog}>`;
}
