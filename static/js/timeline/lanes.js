// The lanes of some models on a canvas, with what the pointer and the keys do there.

import { html, useEffect, useMemo, useRef, useState } from "../shared/html.js";
import { themeVersion } from "../shared/theme.js";
import { timeOfDay } from "../shared/format.js";
import { MiddleClip } from "../shared/controls.js";
import { StateBadge } from "../shared/badges.js";
import { RequestDialog } from "../activity/request-dialog.js";
import { failures } from "../models/failures.js";
import { modelLink } from "../models/store.js";
import { draw } from "./draw.js";
import { AXIS, itemAt, keyOf, LANE, sceneOf, stepsOf, toTime } from "./scene.js";
import { barsVersion, stateBars } from "./store.js";
import { swaps } from "./swaps.js";
import { Tooltip } from "./tooltip.js";
import { openWhy } from "./why.js";

const FINGER_PX = 10;

function useWidth() {
  const element = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry.contentRect.width && setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}

/** Drag and horizontal wheel pan, Ctrl and wheel zoom; a click opens an item, a tap shows its tip. */
function usePointer(canvas, span, view, scene, onOpen) {
  const [hover, setHover] = useState(null);
  const drag = useRef(null);
  const msPerPixel = (view.to - view.from) / view.width;
  const place = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const show = (event, room) => {
    const [x, y] = place(event);
    const item = itemAt(scene, x, y, room);
    setHover(item && { item, x, y });
    return item;
  };
  const onPointerDown = (event) => {
    drag.current = { x: event.clientX, moved: false };
    canvas.current.setPointerCapture(event.pointerId);
  };
  const onPointerMove = (event) => {
    if (!drag.current || !event.buttons) {
      show(event);
      return;
    }
    const byPixels = drag.current.x - event.clientX;
    drag.current.moved ||= Math.abs(byPixels) > 3;
    if (!drag.current.moved) return;
    span.pan?.(byPixels * msPerPixel);
    drag.current.x = event.clientX;
    setHover(null);
  };
  const onPointerUp = (event) => {
    const still = drag.current && !drag.current.moved;
    drag.current = null;
    if (!still) return;
    if (event.pointerType === "touch") {
      show(event, FINGER_PX);
      return;
    }
    const item = itemAt(scene, ...place(event));
    if (item) onOpen(item);
  };
  const onPointerLeave = (event) => event.pointerType === "touch" || setHover(null);
  const onWheel = (event) => {
    if ((event.ctrlKey || event.metaKey) && span.zoom) span.zoom(Math.exp(event.deltaY / 300), toTime(view, place(event)[0]));
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY) && span.pan) span.pan(event.deltaX * msPerPixel);
    else return;
    event.preventDefault();
  };
  const latest = useRef(onWheel);
  latest.current = onWheel;
  useEffect(() => {
    // Preact's listener is passive, where preventDefault has no effect.
    const listener = (event) => latest.current(event);
    const element = canvas.current;
    element.addEventListener("wheel", listener, { passive: false });
    return () => element.removeEventListener("wheel", listener);
  }, []);
  return { hover, hide: () => setHover(null), on: { onPointerDown, onPointerMove, onPointerUp, onPointerLeave } };
}

/** The item that the keys have reached: {item, step, leave}; it stays chosen while the scene moves on. */
function useSteps(scene) {
  const [key, setKey] = useState("");
  const steps = useMemo(() => (key ? stepsOf(scene) : []), [scene, key]);
  const item = steps.find((each) => keyOf(each) === key) ?? null;
  const step = (by) => {
    const all = stepsOf(scene);
    const at = item ? all.findIndex((each) => keyOf(each) === key) + by : by < 0 ? all.length - 1 : 0;
    if (all[at]) setKey(keyOf(all[at]));
  };
  return { item, step, leave: () => setKey("") };
}

function onKey(span, steps, pointer, onOpen) {
  return (event) => {
    const { item, step, leave } = steps;
    const stepBy = (by) => () => {
      pointer.hide();
      step(by);
    };
    const actions = {
      ArrowUp: stepBy(-1),
      ArrowDown: stepBy(1),
      ...(item && { Enter: () => onOpen(item), Escape: leave }),
      ...(span.pan ? movesOf(span) : {}),
    };
    if (!actions[event.key]) return;
    actions[event.key]();
    event.preventDefault();
  };
}

const movesOf = (span) => ({
  ArrowLeft: () => span.pan(-span.spanMs / 8),
  ArrowRight: () => span.pan(span.spanMs / 8),
  "+": () => span.zoom(0.6),
  "=": () => span.zoom(0.6),
  "-": () => span.zoom(1.6),
  End: span.follow,
  " ": span.paused ? span.follow : span.pause,
});

const busyNow = (requests, id) => requests.filter((request) => request.open && request.model_id === id).length;

function LaneName({ model, requests }) {
  const busy = busyNow(requests, model.id);
  const failed = failures.value.has(model.id) && model.state === "stopped";
  return html`<div class="lane-name" style=${{ height: `${LANE}px` }}><a class="clip" href=${modelLink(model.id)} title=${model.id}><${MiddleClip} text=${model.id} /></a>
    <span class="lane-state"><${StateBadge} state=${failed ? "failed" : model.state} />${busy > 0 && html`<span class="tiny muted num nowrap" title="${busy} in flight">${busy}<span class="lane-words"> in flight</span></span>`}</span></div>`;
}

/** *span* {from, to, spanMs} is the time shown; with its *pan* and *zoom* it can be moved. */
export function Lanes({ models, requests, span, nowMs, active, names = true }) {
  const canvas = useRef(null);
  const [holder, width] = useWidth();
  const [opened, open] = useState(null);
  const view = { from: span.from, to: span.to, width: Math.max(width, 50) };
  const scene = useMemo(() => sceneOf(view, models, stateBars, requests, swaps.value, nowMs), [view.from, view.to, view.width, models, requests, swaps.value, barsVersion.value, nowMs]);
  const onOpen = (item) => {
    pointer.hide();
    if (item.kind === "bar") location.hash = modelLink(item.model);
    else if (item.kind === "swap") openWhy({ swap: item.swap.id });
    else open(item);
  };
  const steps = useSteps(scene);
  const pointer = usePointer(canvas, span, view, scene, onOpen);
  useEffect(() => {
    if (active && width) draw(canvas.current, view, scene, nowMs, steps.item);
  }, [scene, active, width, themeVersion.value, steps.item]);
  const keys = span.pan ? " Left and right move, plus and minus zoom, space pauses." : "";
  const shown = pointer.hover ?? (steps.item && { item: steps.item, x: Math.max(0, steps.item.x), y: steps.item.y });
  return html`<div class=${names ? "lanes" : "lanes unnamed"}>
    ${names && html`<div class="lane-names" style=${{ paddingTop: `${AXIS}px` }}>${models.map((model) => html`<${LaneName} key=${model.id} model=${model} requests=${requests} />`)}</div>`}
    <div class="lane-canvas" ref=${holder}>
      <canvas ref=${canvas} tabindex="0" role="img" aria-label="States, requests and swaps of ${models.length === 1 ? models[0].id : `${models.length} models`} from ${timeOfDay(span.from)} to ${timeOfDay(span.to)}. Up and down step through requests and swaps, Enter opens one.${keys}"
        ...${pointer.on} onKeyDown=${onKey(span, steps, pointer, onOpen)} onBlur=${steps.leave}></canvas>
      ${shown && html`<${Tooltip} ...${shown} width=${width} onOpen=${onOpen} />`}
    </div>
    ${opened?.kind === "request" && html`<${RequestDialog} request=${opened.request} onClose=${() => open(null)} />`}
  </div>`;
}
