// Fields for longer texts, each with a larger one on demand.

import { html, useRef, useState } from "../../core/html.js";
import { IconButton } from "../../components/controls.js";
import { Dialog } from "../../components/dialog.js";

/** A dialog to write in; *onDone* gets the text, leaving by any other way keeps the old one. */
export function BigEditor({ title, label, text, onDone, onClose }) {
  const area = useRef(null);
  const foot = html`<button type="button" class="btn" onClick=${onClose}>Cancel</button><button type="button" class="btn primary" onClick=${() => onDone(area.current.value)}>Done</button>`;
  return html`<${Dialog} title=${title} foot=${foot} onClose=${onClose}><textarea ref=${area} class="area big-editor" aria-label=${label} defaultValue=${text}></textarea></${Dialog}>`;
}

/** A text area that can be written in at full size; Enter does *onEnter*, Shift+Enter starts a line. */
export function Writing({ id, label, state, placeholder, onEnter }) {
  const [big, setBig] = useState(false);
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    onEnter();
  };
  return html`<div class="field"><div class="row"><label class="label grow" for=${id}>${label}</label>
      <${IconButton} icon="expand" small label="Write in a larger field" onClick=${() => setBig(true)} /></div>
    <textarea id=${id} class="area" rows="5" placeholder=${placeholder} value=${state.value} onInput=${(event) => { state.value = event.currentTarget.value; }} onKeyDown=${onKeyDown}></textarea>
    ${big && html`<${BigEditor} title="Edit" label=${label} text=${state.value} onDone=${(next) => { state.value = next; setBig(false); }} onClose=${() => setBig(false)} />`}</div>`;
}
