// A captured body in the forms that make sense for it: as a message, pretty, raw, as a picture.

import { html, useEffect, useMemo, useState } from "../../core/html.js";
import { assemble } from "../../core/dialects.js";
import { eventsOf } from "../../core/sse.js";
import { bytes as sizeOf } from "../../core/format.js";
import { CopyButton, Segmented } from "../../components/controls.js";
import { Markdown } from "../../components/markdown.js";

const MAX_SHOWN = 300_000;

/** Bytes of a base64 text; none for none. */
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

/** Name and text of each form, the best first. */
function formsOf(type, text, dialect) {
  const forms = [];
  if (/event-stream/.test(type)) {
    const whole = assemble(dialect, eventsOf(text));
    forms.push(["chat", "Message", whole.text, whole]);
  }
  const json = pretty(text);
  if (json !== null) forms.push(["pretty", "Pretty", json]);
  if (json !== null && !forms.some(([id]) => id === "chat")) {
    const whole = assemble(dialect, [{ data: text }]);
    if (whole.text) forms.unshift(["chat", "Message", whole.text, whole]);
  }
  forms.push(["raw", "Raw", text]);
  return forms;
}

function Message({ whole }) {
  return html`${whole.reasoning && html`<details class="reasoning"><summary class="small">Reasoning</summary><div class="as-typed small muted">${whole.reasoning}</div></details>`}
    ${whole.error && html`<p class="small"><strong>${whole.error}</strong></p>`}<${Markdown} text=${whole.text} />`;
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
  if (omitted && !bytes.length) return html`<p class="muted small">Not kept: ${omitted}</p>`;
  if (!bytes.length) return html`<p class="muted small">(empty)</p>`;
  if (/^image\/(png|jpeg|gif|webp)/.test(type)) return html`<${Picture} bytes=${bytes} type=${type} />`;
  if (!isText(type, text)) return html`<p class="muted small">${sizeOf(bytes.length)} of ${type || "unknown type"}, not shown.</p>`;
  const [id, , shown, whole] = forms.find(([each]) => each === chosen) ?? forms[0];
  return html`<div class="stack tight">
    <div class="row">${forms.length > 1 && html`<${Segmented} label="${label} as" value=${id} options=${forms} onChange=${choose} />`}<span class="tiny faint num">${sizeOf(bytes.length)}${omitted ? `, ${omitted}` : ""}</span><span class="grow"></span><${CopyButton} text=${shown} label="Copy ${label.toLowerCase()}" /></div>
    ${id === "chat" ? html`<div class="code-block scroll message-block" tabindex="0" role="region" aria-label=${label}><${Message} whole=${whole} /></div>` : html`<pre class="code-block scroll" tabindex="0" role="region" aria-label=${label}>${shown.slice(0, MAX_SHOWN)}${shown.length > MAX_SHOWN ? "\n…" : ""}</pre>`}
  </div>`;
}
