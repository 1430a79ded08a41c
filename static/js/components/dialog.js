// Dialogs of the browser's own kind: they keep the focus, and Escape closes them.

import { classes, html, useEffect, useId, useRef } from "../core/html.js";
import { IconButton } from "./controls.js";

/** Open as long as it is rendered; *onClose* must stop rendering it. */
export function Dialog({ title, tools, foot, small, onClose, children }) {
  const element = useRef(null);
  const id = useId();
  useEffect(() => {
    const before = document.activeElement;
    element.current.showModal();
    return () => before?.isConnected && before.focus?.();
  }, []);
  const onClick = (event) => event.target === element.current && onClose();
  return html`<dialog ref=${element} class=${classes("dialog", small && "small")} aria-labelledby=${id} onClose=${onClose} onClick=${onClick}>
    <div class="dialog-box">
      <div class="dialog-head"><h2 id=${id}>${title}</h2><div class="tools">${tools}<${IconButton} icon="close" label="Close" onClick=${onClose} /></div></div>
      <div class="dialog-body" tabindex="0" role="region" aria-labelledby=${id}>${children}</div>
      ${foot && html`<div class="dialog-foot">${foot}</div>`}
    </div>
  </dialog>`;
}

/** Ask before something that cannot be taken back. */
export function Confirm({ title, action, onYes, onClose, children }) {
  const foot = html`<button type="button" class="btn" onClick=${onClose}>Cancel</button>
    <button type="button" class="btn danger-solid" onClick=${() => { onClose(); onYes(); }}>${action}</button>`;
  return html`<${Dialog} title=${title} small onClose=${onClose} foot=${foot}>${children}</${Dialog}>`;
}

/** One picture over everything. */
export function ImageViewer({ source, label, onClose }) {
  const element = useRef(null);
  useEffect(() => { element.current.showModal(); }, []);
  return html`<dialog ref=${element} class="viewer" aria-label=${label} onClose=${onClose} onClick=${onClose}>
    <img src=${source} alt=${label} />
  </dialog>`;
}
