// Two panes with a splitter that pointer and arrow keys move.

import { html, useRef, useState } from "./html.js";
import { readStored, writeStored } from "./storage.js";
import { useMedia } from "./dom-utils.js";

const clamp = (value) => Math.min(95, Math.max(5, value));

/** *id* is the storage key of the size; below *stackBelow* pixels the panes are stacked. */
export function Split({ id, label, stackBelow = 1024, initial = 50, children: [first, second] }) {
  const root = useRef(null);
  const stacked = useMedia(`(max-width: ${stackBelow - 0.02}px)`);
  const key = `panel-size-${id}`;
  const [size, setSize] = useState(() => clamp(readStored(key, initial)));
  const choose = (value) => {
    const next = clamp(value);
    setSize(next);
    writeStored(key, next);
  };
  const onPointerDown = (event) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    event.preventDefault();
    event.currentTarget.focus();
  };
  const onPointerMove = (event) => {
    if (!event.currentTarget.hasPointerCapture(event.pointerId)) return;
    const box = root.current.getBoundingClientRect();
    const share = stacked ? (event.clientY - box.top) / box.height : (event.clientX - box.left) / box.width;
    choose(share * 100);
  };
  const onKeyDown = (event) => {
    const step = { ArrowLeft: -2, ArrowUp: -2, ArrowRight: 2, ArrowDown: 2 }[event.key];
    if (!step) return;
    choose(size + step);
    event.preventDefault();
  };
  const tracks = `minmax(0, ${size}fr) 1.25rem minmax(0, ${100 - size}fr)`;
  const style = stacked ? { gridTemplateRows: tracks } : { gridTemplateColumns: tracks };
  return html`<div ref=${root} class="split ${stacked ? "stacked" : "beside"}" style=${style}>
    <div class="pane">${first}</div>
    <div class="split-bar" role="separator" tabindex="0" aria-label=${label} aria-orientation=${stacked ? "horizontal" : "vertical"}
      aria-valuenow=${Math.round(size)} aria-valuemin="5" aria-valuemax="95"
      onPointerDown=${onPointerDown} onPointerMove=${onPointerMove} onKeyDown=${onKeyDown}></div>
    <div class="pane">${second}</div>
  </div>`;
}
