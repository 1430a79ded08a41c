// Native dialogs: they trap the focus, and Escape closes them.

import { classes, html, useEffect, useId, useRef, useState } from "./html.js";
import { IconButton } from "./controls.js";

/** Open while it is rendered; *onClose* must stop rendering it. */
export function Dialog({ title, tools, foot, small, medium, onClose, children }) {
  const element = useRef(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.isConnected && before.focus?.();
  }, []);
  const onClick = (event) => event.target === element.current && onClose();
  return html`<dialog ref=${element} class=${classes("dialog", small && "small", medium && "medium")} aria-labelledby=${id} onClose=${onClose} onClick=${onClick}>
    <div class="dialog-box">
      <div class="dialog-head"><h2 id=${id}>${title}</h2><div class="tools">${tools}<${IconButton} icon="close" label="Close" onClick=${onClose} /></div></div>
      <div class="dialog-body" tabindex="0" role="region" aria-labelledby=${id}>${children}</div>
      ${foot && html`<div class="dialog-foot">${foot}</div>`}
    </div>
  </dialog>`;
}

/** A confirmation before an irreversible action. *dismiss* is the text of the button that does nothing. */
export function Confirm({ title, action, dismiss = "Cancel", onYes, onClose, children }) {
  const foot = html`<button type="button" class="btn" onClick=${onClose}>${dismiss}</button>
    <button type="button" class="btn danger-solid" onClick=${() => { onClose(); onYes(); }}>${action}</button>`;
  return html`<${Dialog} title=${title} small onClose=${onClose} foot=${foot}>${children}</${Dialog}>`;
}

/** An image at full size; a click closes it. */
export function ImageViewer({ source, label, onClose }) {
  const element = useRef(null);
  useEffect(() => { element.current.showModal(); }, []);
  return html`<dialog ref=${element} class="viewer" aria-label=${label} onClose=${onClose} onClick=${onClose}>
    <img src=${source} alt=${label} />
  </dialog>`;
}

// --- fields for long texts

/** A dialog with a text area; *onDone* gets the text, closing it otherwise discards the edit. */
export function TextDialog({ title, label, text, onDone, onClose }) {
  const area = useRef(null);
  const foot = html`<button type="button" class="btn" onClick=${onClose}>Cancel</button><button type="button" class="btn primary" onClick=${() => onDone(area.current.value)}>Done</button>`;
  return html`<${Dialog} title=${title} foot=${foot} onClose=${onClose}><textarea ref=${area} class="area big-editor" aria-label=${label} defaultValue=${text}></textarea></${Dialog}>`;
}

/** A text area that opens in a dialog on demand; Enter calls *onEnter*, Shift+Enter breaks the line. */
export function LongTextField({ id, label, state, placeholder, onEnter }) {
  const [big, setBig] = useState(false);
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    onEnter();
  };
  return html`<div class="field"><div class="row"><label class="label grow" for=${id}>${label}</label>
      <${IconButton} icon="expand" small label="Write in a larger field" onClick=${() => setBig(true)} /></div>
    <textarea id=${id} class="area" rows="5" placeholder=${placeholder} value=${state.value} onInput=${(event) => { state.value = event.currentTarget.value; }} onKeyDown=${onKeyDown}></textarea>
    ${big && html`<${TextDialog} title="Edit" label=${label} text=${state.value} onDone=${(next) => { state.value = next; setBig(false); }} onClose=${() => setBig(false)} />`}</div>`;
}
