// A captured request beside its response, and its replay against any model.

import { html, useEffect, useMemo, useState } from "../shared/html.js";
import { AsyncTask, getJson, getText } from "../shared/api.js";
import { bytes as sizeOf, count, ms, speed } from "../shared/format.js";
import { CopyButton, Note, Problem, Segmented } from "../shared/controls.js";
import { Dialog } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";
import { StatusBadge } from "../shared/badges.js";
import { Markdown } from "../shared/markdown.js";
import { sendChat } from "../chat/chat-client.js";
import { parseEvents } from "../shared/sse.js";
import { assemble, dialectOf } from "../chat/dialects.js";
import { ToolCalls } from "../chat/message.js";
import { LoadLine } from "../models/load-line.js";
import { ModelSelect } from "../models/model-select.js";

// --- bodies

const MAX_SHOWN = 300_000;

/** The bytes of a base64 text; none for an empty one. */
export const decode = (text) => (text ? Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)) : new Uint8Array());

export const typeOf = (headers) => Object.entries(headers ?? {}).find(([name]) => name.toLowerCase() === "content-type")?.[1] ?? "";

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return null;
  }
}

const isText = (type, text) => /^(text\/|application\/(json|xml|x-www-form-urlencoded|x-ndjson))|\+json/.test(type) || (!type && !text.includes("\0"));

/** [id, name, text] of each form of a body (message, pretty-printed, raw), the best first. */
function formsOf(type, text, dialect) {
  const forms = [];
  if (/event-stream/.test(type)) {
    const whole = assemble(dialect, parseEvents(text));
    forms.push(["chat", "Message", whole.text, whole]);
  }
  const json = pretty(text);
  if (json !== null) forms.push(["pretty", "Pretty", json]);
  if (json !== null && !forms.some(([id]) => id === "chat")) {
    const whole = assemble(dialect, [{ data: text }]);
    if (whole.text || whole.toolCalls.length) forms.unshift(["chat", "Message", whole.text, whole]);
  }
  forms.push(["raw", "Raw", text]);
  return forms;
}

function MessageForm({ whole }) {
  return html`${whole.reasoning && html`<details class="reasoning"><summary class="small">Reasoning</summary><div class="as-typed small muted">${whole.reasoning}</div></details>`}
    ${whole.error && html`<p class="small"><strong>${whole.error}</strong></p>`}<${Markdown} text=${whole.text} /><${ToolCalls} calls=${whole.toolCalls} />`;
}

function Picture({ bytes, type }) {
  const [url, setUrl] = useState("");
  useEffect(() => {
    const made = URL.createObjectURL(new Blob([bytes], { type }));
    setUrl(made);
    return () => URL.revokeObjectURL(made);
  }, [bytes, type]);
  return url && html`<img src=${url} alt="Captured picture" />`;
}

export function Body({ label, bytes, type, omitted, dialect }) {
  const text = useMemo(() => new TextDecoder().decode(bytes), [bytes]);
  const forms = useMemo(() => formsOf(type, text, dialect), [type, text]);
  const [chosen, choose] = useState("");
  if (omitted && !bytes.length) return html`<p class="muted small">Not stored: ${omitted}</p>`;
  if (!bytes.length) return html`<p class="muted small">(empty)</p>`;
  if (/^image\/(png|jpeg|gif|webp)/.test(type)) return html`<${Picture} bytes=${bytes} type=${type} />`;
  if (!isText(type, text)) return html`<p class="muted small">${sizeOf(bytes.length)} of ${type || "unknown type"}, not shown.</p>`;
  const [id, , shown, whole] = forms.find(([each]) => each === chosen) ?? forms[0];
  return html`<div class="stack tight">
    <div class="row">${forms.length > 1 && html`<${Segmented} label="${label} as" value=${id} options=${forms} onChange=${choose} />`}<span class="tiny faint num">${sizeOf(bytes.length)}${omitted ? `, ${omitted}` : ""}</span><span class="grow"></span><${CopyButton} text=${shown} label="Copy ${label.toLowerCase()}" /></div>
    ${id === "chat" ? html`<div class="code-block scroll message-block" tabindex="0" role="region" aria-label=${label}><${MessageForm} whole=${whole} /></div>` : html`<pre class="code-block scroll" tabindex="0" role="region" aria-label=${label}>${shown.slice(0, MAX_SHOWN)}${shown.length > MAX_SHOWN ? "\n…" : ""}</pre>`}
  </div>`;
}

// --- replay

/** The request's JSON, or null when it cannot be sent again. */
function parsed(capture) {
  if (capture.req_body_omitted || capture.method === "GET") return null;
  try {
    return JSON.parse(new TextDecoder().decode(decode(capture.req_body)));
  } catch {
    return null;
  }
}

function originalAnswer(capture, dialect) {
  const text = new TextDecoder().decode(decode(capture.resp_body));
  return assemble(dialect, /event-stream/.test(typeOf(capture.resp_headers)) ? parseEvents(text) : [{ data: text }]);
}

function Figures({ output, rate, firstMs, totalMs }) {
  return html`<dl class="facts num"><dt>Tokens</dt><dd>${count(output)}</dd><dt>Speed</dt><dd>${speed(rate)} tokens/s</dd><dt>Time to first token</dt><dd>${ms(firstMs)}</dd><dt>Total</dt><dd>${ms(totalMs)}</dd></dl>`;
}

function ReplaySide({ title, text, reasoning, figures }) {
  return html`<section class="stack tight" aria-label=${title}><h4>${title}</h4>${figures}
    <div class="code-block scroll as-typed" tabindex="0" role="region" aria-label="${title}, text">${reasoning && !text ? html`<span class="muted">${reasoning}</span>` : text || "–"}</div></section>`;
}

export function Replay({ capture, record }) {
  const dialect = dialectOf(capture.req_path);
  const body = useMemo(() => parsed(capture), [capture]);
  const before = useMemo(() => originalAnswer(capture, dialect), [capture]);
  const [model, setModel] = useState(record.model_id || record.requested); // the chooser lists no aliases
  const [text, setText] = useState("");
  const [stats, setStats] = useState(null);
  const task = useMemo(() => new AsyncTask(), []);
  if (!body) return html`<${Note}>This request cannot be sent again: its body was not stored, or is not JSON.</${Note}>`;
  const run = () => task.run(async (abort) => {
    setText("");
    setStats(null);
    let received = "";
    const onDelta = (delta) => {
      received += delta.text ?? "";
      setText(received);
    };
    setStats(await sendChat({ dialect, path: capture.req_path, body: { ...body, model }, signal: abort, onDelta }));
  });
  return html`<section class="replay stack" aria-label="Replay"><div class="row"><h3>Replay</h3><div class="model-choice"><${ModelSelect} hideLabel label="Replay against" value=${model} disabled=${task.busy.value} onChange=${setModel} /></div>
      ${task.busy.value ? html`<button type="button" class="btn" onClick=${() => task.stop()}><${Icon} name="stop" size="16" />Stop</button>` : html`<button type="button" class="btn primary" disabled=${!model} onClick=${run}><${Icon} name="play" size="16" />Send again</button>`}</div>
    ${task.busy.value && !text && html`<p class="muted small">Waiting for the model…<${LoadLine} model=${model} /></p>`}
    ${task.error.value && html`<${Problem}>${task.error.value}</${Problem}>`}
    ${(stats || text || task.busy.value) && html`<div class="capture">
      <${ReplaySide} title="Before, ${record.model_id}" text=${before.text} reasoning=${before.reasoning} figures=${html`<${Figures} output=${record.output_tokens} rate=${record.tokens_per_second} firstMs=${record.first_token_ms} totalMs=${record.duration_ms} />`} />
      <${ReplaySide} title="Now, ${model}" text=${text} figures=${html`<${Figures} output=${stats?.usage.output} rate=${stats?.speed} firstMs=${stats?.firstMs} totalMs=${stats?.totalMs} />`} />
    </div>`}
  </section>`;
}

// --- the dialog

function Headers({ headers, label }) {
  const entries = Object.entries(headers ?? {});
  return html`<details class="section"><summary>${label} <span class="faint small num">${entries.length}</span></summary>
    <dl class="facts headers">${entries.map(([name, value]) => html`<dt key=${name} class="mono">${name}</dt><dd class="mono">${value}</dd>`)}</dl></details>`;
}

/** The capture, or the problem that hides it. */
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
