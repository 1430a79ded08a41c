// One message of a conversation, and its actions.

import { html, useEffect, useRef, useState } from "../shared/html.js";
import { ms, speed } from "../shared/format.js";
import { CopyButton, IconButton, Problem } from "../shared/controls.js";
import { ImageViewer } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";
import { Markdown } from "../shared/markdown.js";
import { LoadLine } from "../models/load-line.js";

function Reasoning({ message }) {
  const text = message.reasoning.value;
  if (!text) return null;
  const thinking = message.status.value === "streaming" && !message.text.value;
  const took = message.reasoningMs.value;
  return html`<details class="reasoning">
    <summary class="small">Reasoning <span class="faint num">${text.length.toLocaleString("en")} characters${took ? `, ${ms(took)}` : ""}</span>
      ${thinking && html`<span class="thinking"> thinking…</span>`}</summary>
    <div class="as-typed small muted">${text}</div>
  </details>`;
}

const pretty = (text) => {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
};

/** Tool calls with their arguments; with *onResults*, a field for the result of each. */
export function ToolCalls({ calls, onResults }) {
  const form = useRef(null);
  if (!calls.length) return null;
  const send = () => {
    const fields = [...form.current.querySelectorAll("textarea")];
    onResults(calls.map(({ id, name }, index) => ({ id, name, text: fields[index].value })));
  };
  return html`<div class="tool-calls" ref=${form}>${calls.map(({ index, name, arguments: text }) => html`<section key=${index} class="tool-call" aria-label="Tool call ${name}">
      <div class="row"><${Icon} name="gear" size="14" /><strong class="mono small grow">${name}</strong><${CopyButton} text=${text} label="Copy arguments" /></div>
      <pre class="code-block small" tabindex="0" role="region" aria-label="Arguments of ${name}">${pretty(text)}</pre>
      ${onResults && html`<textarea class="area" rows="2" aria-label="Result of ${name}" placeholder="Result of the call"></textarea>`}
    </section>`)}
    ${onResults && html`<div><button type="button" class="btn small" onClick=${send}>${calls.length > 1 ? "Send results" : "Send result"}</button></div>`}</div>`;
}

const logLink = (id) => html`<a href="#/models?${new URLSearchParams({ log: id })}">View its log</a>`;

/** Why a response is not complete, and what can be done. */
function Incomplete({ stats, onContinue }) {
  if (stats?.finish === "length") return html`<p class="small muted incomplete">Stopped at max tokens. ${onContinue && html`<button type="button" class="btn small" onClick=${onContinue}>Continue</button>`}</p>`;
  if (stats?.cut) return html`<p class="small incomplete">The connection closed before the response was complete; the model's server may have ended. ${logLink(stats.model)}</p>`;
  return null;
}

/** Tokens, speed and first-token time, where known. */
export function AnswerStats({ stats }) {
  if (!stats) return null;
  const parts = [
    stats.usage.output !== undefined && `${stats.usage.output} tokens`,
    stats.speed && `${speed(stats.speed)} tokens/s`,
    stats.firstMs && `first token after ${ms(stats.firstMs)}`,
    stats.loadMs > 50 && `${ms(stats.loadMs)} of it loading`,
    stats.queueMs > 50 && `${ms(stats.queueMs)} queued`,
  ].filter(Boolean);
  return html`<span class="tiny faint num answer-stats">${parts.join(" · ")}</span>`;
}

function Images({ images }) {
  const [open, setOpen] = useState(null);
  if (!images.length) return null;
  return html`<div class="message-images">
    ${images.map((source, index) => html`<button key=${index} type="button" class="thumb" aria-label="Show attached image ${index + 1}" onClick=${() => setOpen(source)}><img src=${source} alt="" /></button>`)}
    ${open && html`<${ImageViewer} source=${open} label="Attached image" onClose=${() => setOpen(null)} />`}
  </div>`;
}

function Editor({ text, onSave, onCancel }) {
  const area = useRef(null);
  useEffect(() => {
    area.current.focus();
    area.current.setSelectionRange(text.length, text.length);
  }, []);
  const onKeyDown = (event) => {
    if (event.key === "Escape") onCancel();
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      onSave(area.current.value);
    }
  };
  return html`<div class="message-editor"><textarea ref=${area} class="area" rows="3" aria-label="Edit the message" defaultValue=${text} onKeyDown=${onKeyDown}></textarea>
    <div class="row"><button type="button" class="btn small primary" onClick=${() => onSave(area.current.value)}>Send again</button><button type="button" class="btn small" onClick=${onCancel}>Cancel</button></div></div>`;
}

function UserMessage({ message, onEdit }) {
  const [editing, setEditing] = useState(false);
  const text = message.text.value;
  const save = (next) => {
    setEditing(false);
    if (next.trim() && next !== text) onEdit(next);
  };
  return html`<article class="message user" aria-label="You">
    <${Images} images=${message.images} />
    ${editing ? html`<${Editor} text=${text} onSave=${save} onCancel=${() => setEditing(false)} />` : text && html`<div class="bubble as-typed">${text}</div>`}
    ${!editing && html`<div class="message-tools"><${CopyButton} text=${text} label="Copy message" />
      <${IconButton} icon="edit" small label="Edit and send again" onClick=${() => setEditing(true)} /></div>`}
  </article>`;
}

function AssistantMessage({ message, last, onRegenerate, onResults, onContinue, onBranch }) {
  const [raw, setRaw] = useState(false);
  const text = message.text.value;
  const status = message.status.value;
  const streaming = status === "streaming";
  return html`<article class="message assistant" aria-label="Answer" aria-busy=${String(streaming)}>
    <${Reasoning} message=${message} />
    ${streaming && !text && !message.reasoning.value && !message.toolCalls.value.length && html`<p class="muted waiting"><span class="thinking">Waiting for the model…</span><${LoadLine} model=${message.model} /></p>`}
    ${text && (raw ? html`<div class="as-typed mono small">${text}</div>` : html`<${Markdown} text=${text} />`)}
    <${ToolCalls} calls=${message.toolCalls.value} onResults=${last && status === "done" ? onResults : undefined} />
    ${message.error.value && html`<${Problem}><strong>${message.error.value}</strong></${Problem}>`}
    ${!streaming && html`<${Incomplete} stats=${message.stats.value} onContinue=${last ? onContinue : undefined} />`}
    ${status === "stopped" && html`<p class="tiny faint">Stopped.</p>`}
    ${!streaming && html`<div class="message-tools">
      <${IconButton} icon="refresh" small label="Regenerate" onClick=${onRegenerate} />
      <${CopyButton} text=${text} label="Copy answer" />
      <${IconButton} icon="logs" small label=${raw ? "Show formatted" : "Show raw text"} pressed=${raw} onClick=${() => setRaw(!raw)} />
      ${onBranch && html`<${IconButton} icon="branch" small label="Branch from here" onClick=${onBranch} />`}
      <span class="tiny muted answer-model clip" title=${message.model}>${message.model}</span><${AnswerStats} stats=${message.stats.value} />
    </div>`}
  </article>`;
}

function ToolMessage({ message }) {
  return html`<article class="message tool" aria-label="Result of ${message.name}"><p class="small muted">Result of <span class="mono">${message.name}</span></p>
    <pre class="code-block small" tabindex="0" role="region" aria-label="Result of ${message.name}, text">${message.text.value || "(empty)"}</pre></article>`;
}

/** *last*: it is the last one of its conversation. */
export function Message({ message, last, onEdit, onRegenerate, onResults, onContinue, onBranch }) {
  if (message.role === "user") return html`<${UserMessage} message=${message} onEdit=${onEdit} />`;
  if (message.role === "tool") return html`<${ToolMessage} message=${message} />`;
  return html`<${AssistantMessage} message=${message} last=${last} onRegenerate=${onRegenerate} onResults=${onResults} onContinue=${onContinue} onBranch=${onBranch} />`;
}
