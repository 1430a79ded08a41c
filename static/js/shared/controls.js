// Buttons, switches and fields, each with an accessible name.

import { classes, html, useEffect, useId, useRef, useState } from "./html.js";
import { copyText } from "./dom-utils.js";
import { Icon } from "./icons.js";

/** A button with an icon alone; *label* is its name and tooltip. */
export function IconButton({ icon, label, onClick, pressed, kind = "quiet", small, disabled }) {
  return html`<button type="button" class=${classes("btn icon", kind, small && "small")} title=${label} aria-label=${label}
    aria-pressed=${pressed === undefined ? undefined : String(pressed)} disabled=${disabled} onClick=${onClick}>
    <${Icon} name=${icon} size=${small ? 16 : 18} /></button>`;
}

/** A text of one line, shortened in the middle: the ends of long ids are what tells them apart. */
export function MiddleClip({ text, tail = 14 }) {
  if (text.length <= 2 * tail) return text;
  return html`<span class="middle-clip"><span class="clip">${text.slice(0, -tail)}</span><span>${text.slice(-tail)}</span></span>`;
}

/** A choice among a few visible options. *options* are [value, text] pairs. */
export function Segmented({ label, value, options, onChange }) {
  return html`<div class="segmented" role="group" aria-label=${label}>
    ${options.map(([key, text]) => html`<button key=${key} type="button" aria-pressed=${String(key === value)} onClick=${() => onChange(key)}>${text}</button>`)}
  </div>`;
}

/** Tabs with arrow-key navigation. *options* are [value, text, icon] triples. */
export function Tabs({ label, value, options, onChange, panelId }) {
  const bar = useRef(null);
  const onKeyDown = (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const index = options.findIndex(([key]) => key === value);
    const next = (index + step + options.length) % options.length;
    onChange(options[next][0]);
    bar.current.children[next].focus();
    event.preventDefault();
  };
  return html`<div class="segmented tabs" role="tablist" aria-label=${label} ref=${bar} onKeyDown=${onKeyDown}>
    ${options.map(([key, text]) => html`<button key=${key} type="button" role="tab" aria-selected=${String(key === value)}
      tabindex=${key === value ? 0 : -1} aria-controls=${panelId} onClick=${() => onChange(key)}>${text}</button>`)}
  </div>`;
}

export function Select({ label, value, onChange, children, hideLabel, disabled, auto }) {
  const id = useId();
  return html`<div class=${hideLabel ? "select-only" : "field"}>
    <label for=${id} class=${hideLabel ? "visually-hidden" : "label"}>${label}</label>
    <select id=${id} class=${classes("select", auto && "auto")} value=${value} disabled=${disabled} onChange=${(event) => onChange(event.currentTarget.value)}>${children}</select>
  </div>`;
}

export function TextField({ label, value, onInput, hideLabel, onEnter, ...rest }) {
  const id = useId();
  return html`<div class=${hideLabel ? "field-only" : "field"}>
    <label for=${id} class=${hideLabel ? "visually-hidden" : "label"}>${label}</label>
    <input id=${id} class="input" value=${value} onInput=${(event) => onInput(event.currentTarget.value)}
      onKeyDown=${(event) => event.key === "Enter" && onEnter?.()} ...${rest} />
  </div>`;
}

export function Check({ label, checked, onChange }) {
  return html`<label class="check"><input type="checkbox" checked=${checked} onChange=${(event) => onChange(event.currentTarget.checked)} />${label}</label>`;
}

/** Copies *text*, or what it returns, and shows "Copied" for two seconds. */
export function CopyButton({ text, label = "Copy", small = true, withText = false }) {
  const [done, setDone] = useState(false);
  useEffect(() => {
    if (!done) return undefined;
    const timer = setTimeout(() => setDone(false), 2000);
    return () => clearTimeout(timer);
  }, [done]);
  const copy = async () => setDone(await copyText(typeof text === "function" ? await text() : text));
  const name = done ? "Copied" : label;
  if (!withText) return html`<${IconButton} icon=${done ? "check" : "copy"} label=${name} small=${small} onClick=${copy} />`;
  return html`<button type="button" class=${classes("btn", small && "small")} onClick=${copy}><${Icon} name=${done ? "check" : "copy"} size="16" />${name}</button>`;
}

/** A button that opens its children as a menu; a click elsewhere or Escape closes it. */
export function Menu({ label, icon, text, children }) {
  const [open, setOpen] = useState(false);
  const root = useRef(null);
  useEffect(() => {
    if (!open) return undefined;
    const outside = (event) => root.current?.contains(event.target) || setOpen(false);
    const escape = (event) => event.key === "Escape" && setOpen(false);
    document.addEventListener("pointerdown", outside);
    document.addEventListener("keydown", escape);
    return () => {
      document.removeEventListener("pointerdown", outside);
      document.removeEventListener("keydown", escape);
    };
  }, [open]);
  return html`<div class="menu" ref=${root}>
    <button type="button" class=${classes("btn", text ? "worded" : "icon")} aria-label=${text ? undefined : label} title=${label}
      aria-expanded=${String(open)} onClick=${() => setOpen(!open)}><${Icon} name=${icon} />${text && html`<span class="word">${text}</span>`}</button>
    ${open && html`<div class="menu-list">${children}</div>`}
  </div>`;
}

/** An empty state: what is missing, and what to do. */
export function Empty({ icon = "info", title, children }) {
  return html`<div class="empty"><${Icon} name=${icon} size="32" /><h2>${title}</h2><div>${children}</div></div>`;
}

export function Problem({ children }) {
  return html`<div class="problem" role="alert"><${Icon} name="warn" /><div>${children}</div></div>`;
}

export function Note({ children }) {
  return html`<div class="note"><${Icon} name="info" /><div>${children}</div></div>`;
}

/** A figure with its name below. */
export function Figure({ name, value, unit }) {
  return html`<div class="figure"><span class="value">${value}${unit && html` <span class="unit">${unit}</span>`}</span><span class="name">${name}</span></div>`;
}
