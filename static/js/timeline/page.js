// The timeline: one lane per model, its states as bars, requests above, swaps as arrows.

import { html, useEffect, useMemo, useRef, useState } from "../shared/html.js";
import { go } from "../shared/router.js";
import { themeVersion } from "../shared/theme.js";
import { now, useLive } from "../shared/timing.js";
import { count, ms, percent, seconds, timeOfDay } from "../shared/format.js";
import { Empty, Figure, IconButton, Segmented } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { StateBadge } from "../shared/badges.js";
import { activityTick } from "../activity/store.js";
import { failures } from "../models/failures.js";
import { localModels, modelsKnown } from "../models/store.js";
import { draw } from "./draw.js";
import { AXIS, figuresOf, itemAt, LANE, sceneOf, toTime } from "./scene.js";
import { barsVersion, refreshRequests, refreshStates, requests, stateBars } from "./store.js";
import { phaseSentence, swaps, swapSentence } from "./swaps.js";
import { Tooltip } from "./tooltip.js";

const SPANS = [[5, "5 min"], [15, "15 min"], [60, "1 h"], [180, "3 h"]];
const MIN_SPAN_MS = 20000;
const MAX_SPAN_MS = 3 * 3600 * 1000;
const MARGIN = 0.02;

/** The visible span of time. *end* is null while it follows the present. */
function useWindow() {
  const [spanMs, setSpan] = useState(15 * 60000);
  const [end, setEnd] = useState(null);
  const time = useLive(now);
  const right = end ?? time + spanMs * MARGIN;
  const clamp = (value) => Math.min(MAX_SPAN_MS, Math.max(MIN_SPAN_MS, value));
  return {
    from: right - spanMs,
    to: right,
    spanMs,
    paused: end !== null,
    setSpan,
    pause: () => setEnd(right),
    follow: () => setEnd(null),
    pan: (byMs) => setEnd(Math.min(right + byMs, Date.now() + spanMs * MARGIN)),
    zoom: (factor, around = right) => {
      const next = clamp(spanMs * factor);
      if (end !== null) setEnd(around + (right - around) * (next / spanMs));
      setSpan(next);
    },
  };
}

function useWidth() {
  const element = useRef(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => entry.contentRect.width && setWidth(Math.floor(entry.contentRect.width)));
    if (element.current) observer.observe(element.current);
    return () => observer.disconnect();
  }, [element.current]);
  return [element, width];
}

/** Drag and horizontal wheel pan, Ctrl and wheel zoom. */
function usePointer(canvas, window, view, scene) {
  const [hover, setHover] = useState(null);
  const drag = useRef(null);
  const msPerPixel = window.spanMs / view.width;
  const place = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  const onPointerDown = (event) => {
    drag.current = { x: event.clientX, moved: false };
    canvas.current.setPointerCapture(event.pointerId);
  };
  const onPointerMove = (event) => {
    const [x, y] = place(event);
    if (drag.current && event.buttons) {
      const byPixels = drag.current.x - event.clientX;
      drag.current.moved ||= Math.abs(byPixels) > 3;
      if (drag.current.moved) {
        window.pan(byPixels * msPerPixel);
        drag.current.x = event.clientX;
        setHover(null);
      }
      return;
    }
    const item = itemAt(scene, x, y);
    setHover(item && { item, x, y });
  };
  const onPointerUp = () => { drag.current = null; };
  const onWheel = (event) => {
    if (event.ctrlKey || event.metaKey) window.zoom(Math.exp(event.deltaY / 300), toTime(view, place(event)[0]));
    else if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) window.pan(event.deltaX * msPerPixel);
    else return;
    event.preventDefault();
  };
  const latest = useRef(onWheel);
  latest.current = onWheel;
  useEffect(() => {
    // Preact's listener is passive, where preventDefault has no effect.
    const listener = (event) => latest.current(event);
    const element = canvas.current;
    element?.addEventListener("wheel", listener, { passive: false });
    return () => element?.removeEventListener("wheel", listener);
  }, [canvas.current]);
  return { hover, onPointerDown, onPointerMove, onPointerUp, onPointerLeave: () => setHover(null) };
}

function onKey(window) {
  return (event) => {
    const actions = {
      ArrowLeft: () => window.pan(-window.spanMs / 8),
      ArrowRight: () => window.pan(window.spanMs / 8),
      "+": () => window.zoom(0.6),
      "=": () => window.zoom(0.6),
      "-": () => window.zoom(1.6),
      End: window.follow,
      " ": window.paused ? window.follow : window.pause,
    };
    if (!actions[event.key]) return;
    actions[event.key]();
    event.preventDefault();
  };
}

function Lanes({ models, window, active }) {
  const canvas = useRef(null);
  const [holder, width] = useWidth();
  const view = { from: window.from, to: window.to, width: Math.max(width, 50) };
  const time = useLive(now);
  const scene = useMemo(() => sceneOf(view, models, stateBars, requests.value, swaps.value, time), [view.from, view.to, view.width, models, requests.value, swaps.value, barsVersion.value, time]);
  const pointer = usePointer(canvas, window, view, scene);
  useEffect(() => {
    if (active && width) draw(canvas.current, view, scene, time);
  }, [scene, active, width, themeVersion.value]);
  return html`<div class="lanes">
    <div class="lane-names" style=${{ paddingTop: `${AXIS}px` }}>${models.map((model) => html`<div key=${model.id} class="lane-name" style=${{ height: `${LANE}px` }}>
      <button type="button" class="link-button clip" title="Requests of ${model.id}" onClick=${() => go("activity", { model: model.id })}>${model.id}</button><${StateBadge} state=${failures.value.has(model.id) && model.state === "stopped" ? "failed" : model.state} /></div>`)}</div>
    <div class="lane-canvas" ref=${holder}>
      <canvas ref=${canvas} tabindex="0" role="img" aria-label="States, requests and swaps of ${models.length} models from ${timeOfDay(window.from)} to ${timeOfDay(window.to)}. Arrow keys move, plus and minus zoom, space pauses. The table below lists the swaps."
        onPointerDown=${pointer.onPointerDown} onPointerMove=${pointer.onPointerMove} onPointerUp=${pointer.onPointerUp} onPointerLeave=${pointer.onPointerLeave} onKeyDown=${onKey(window)}></canvas>
      ${pointer.hover && html`<${Tooltip} ...${pointer.hover} width=${width} />`}
    </div>
  </div>`;
}

const LEGEND = ["ready", "starting", "waking", "asleep", "stopping"];

function Legend() {
  return html`<ul class="legend tiny" aria-label="Legend">${LEGEND.map((state) => html`<li key=${state}><span class="swatch bar-${state}"></span>${state}</li>`)}
    <li><span class="swatch bar-request"></span>request</li><li><span class="swatch bar-failed"></span>failed request</li></ul>`;
}

function SwapList({ window }) {
  const list = swaps.value.filter((swap) => swap.outcome && swap.ended_ms >= window.from && swap.started_ms <= window.to).reverse().slice(0, 100);
  if (!list.length) return null;
  return html`<section class="card" aria-label="Swaps"><div class="card-head"><h2>Swaps</h2></div>
    <div class="table-wrap" tabindex="0" role="region" aria-label="Swaps"><table class="table"><thead><tr><th scope="col">Time</th><th scope="col">What happened</th><th scope="col" class="wide-only">Phases</th><th scope="col" class="right wide-only">Waiters</th><th scope="col" class="right">Took</th></tr></thead>
      <tbody>${list.map((swap) => html`<tr key=${swap.id}><td class="num nowrap">${timeOfDay(swap.ended_ms)}</td><td>${swapSentence(swap)}</td><td class="small muted num wide-only">${phaseSentence(swap)}</td><td class="right wide-only">${count(swap.waiters)}</td><td class="right nowrap">${ms(swap.ended_ms - swap.started_ms)}</td></tr>`)}</tbody></table></div>
  </section>`;
}

export default function TimelinePage({ active }) {
  const window = useWindow();
  const models = localModels.value;
  useEffect(() => { if (active) refreshStates(); }, [active]);
  useEffect(() => { if (active) refreshRequests(); }, [active, useLive(activityTick)]);
  const figures = useMemo(() => figuresOf(window, stateBars, requests.value, swaps.value, now.peek()), [window.from, window.to, requests.value, swaps.value, barsVersion.value]);
  const spanMinutes = Math.round(window.spanMs / 60000);
  return html`
    <header class="page-head"><h1>Timeline</h1>
      <div class="tools"><${Segmented} label="Span" value=${spanMinutes} options=${SPANS} onChange=${(minutes) => window.setSpan(minutes * 60000)} />
        <${IconButton} icon="minus" kind="" label="Zoom out" onClick=${() => window.zoom(1.6)} /><${IconButton} icon="plus" kind="" label="Zoom in" onClick=${() => window.zoom(0.6)} />
        <${IconButton} icon="left" kind="wide-only" label="Earlier" onClick=${() => window.pan(-window.spanMs / 3)} /><${IconButton} icon="right" kind="wide-only" label="Later" onClick=${() => window.pan(window.spanMs / 3)} />
        <button type="button" class="btn worded follow" title=${window.paused ? "Jump to now" : "Pause"} aria-pressed=${String(!window.paused)} onClick=${window.paused ? window.follow : window.pause}><${Icon} name=${window.paused ? "play" : "pause"} size="16" /><span class="word">${window.paused ? "Jump to now" : "Live"}</span></button></div>
    </header>
    <div class="page-body">
      ${modelsKnown.value && !models.length
        ? html`<${Empty} icon="timeline" title="Nothing to draw">There is a lane for each model as soon as one is configured.</${Empty}>`
        : html`<div class="figures"><${Figure} name="swaps" value=${figures.swaps} /><${Figure} name="time loading" value=${seconds(figures.loadingS)} /><${Figure} name="idle while loaded" value=${figures.idle === null ? "–" : percent(figures.idle * 100)} /></div>
          <section class="card timeline" aria-label="Timeline"><${Lanes} models=${models} window=${window} active=${active} /><${Legend} /></section>
          <${SwapList} window=${window} />`}
    </div>`;
}
