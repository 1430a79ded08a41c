// The timeline: one lane per model, its states as bars, requests above, swaps as arrows.

import { html, useEffect, useMemo } from "../shared/html.js";
import { parametersOf, setParameters } from "../shared/router.js";
import { now, useChanges, useLive } from "../shared/timing.js";
import { count, ms, percent, plural, seconds, timeOfDay } from "../shared/format.js";
import { Empty, Figure, IconButton, Note, Segmented } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { activityTick, inflight, inflightTotal } from "../activity/store.js";
import { failures } from "../models/failures.js";
import { localModels, modelsKnown } from "../models/store.js";
import { Lanes } from "./lanes.js";
import { activeModels, figuresOf } from "./scene.js";
import { useSpan } from "./span.js";
import { barsVersion, cutAt, openRequest, refreshPast, refreshRequests, refreshStates, requests, stateBars } from "./store.js";
import { phaseSentence, swaps, swapSentence } from "./swaps.js";
import { WhyButton } from "./why.js";

const SPANS = [[5, "5 min"], [15, "15 min"], [60, "1 h"], [180, "3 h"], [1440, "1 d"], [10080, "7 d"]];
const SETTLED_MS = 400;

const LEGEND = ["ready", "starting", "waking", "asleep", "stopping"];
const REQUEST_PARTS = [["queued", "queued"], ["load", "loading"], ["request", "generating"], ["failed", "failed"], ["left", "disconnected"]];

function Legend() {
  return html`<ul class="legend tiny" aria-label="Legend">${LEGEND.map((state) => html`<li key=${state}><span class="swatch bar-${state}"></span>${state}</li>`)}
    ${REQUEST_PARTS.map(([kind, word]) => html`<li key=${kind}><span class="swatch bar-${kind}"></span>${word}</li>`)}</ul>`;
}

function SwapList({ span }) {
  const list = swaps.value.filter((swap) => swap.outcome && swap.ended_ms >= span.from && swap.started_ms <= span.to).reverse().slice(0, 100);
  if (!list.length) return null;
  return html`<section class="card" aria-label="Swaps"><div class="card-head"><h2>Swaps</h2></div>
    <div class="table-wrap" tabindex="0" role="region" aria-label="Swaps"><table class="table"><thead><tr><th scope="col">Time</th><th scope="col">What happened</th><th scope="col" class="wide-only">Phases</th><th scope="col" class="right wide-only">Waiters</th><th scope="col" class="right">Took</th><th scope="col"><span class="visually-hidden">Reason</span></th></tr></thead>
      <tbody>${list.map((swap) => html`<tr key=${swap.id}><td class="num nowrap">${timeOfDay(swap.ended_ms)}</td><td>${swapSentence(swap)}</td><td class="small muted num wide-only">${phaseSentence(swap)}</td><td class="right wide-only">${count(swap.waiters)}</td><td class="right nowrap">${ms(swap.ended_ms - swap.started_ms)}</td><td class="right"><${WhyButton} swap=${swap.id} of="Swap ${swap.id}" /></td></tr>`)}</tbody></table></div>
  </section>`;
}

function Tools({ span }) {
  return html`<div class="tools"><${Segmented} label="Span" value=${Math.round(span.spanMs / 60000)} options=${SPANS} onChange=${(minutes) => span.setSpan(minutes * 60000)} />
    <${IconButton} icon="minus" kind="" label="Zoom out" onClick=${() => span.zoom(1.6)} /><${IconButton} icon="plus" kind="" label="Zoom in" onClick=${() => span.zoom(0.6)} />
    <${IconButton} icon="left" kind="wide-only" label="Earlier" onClick=${() => span.pan(-span.spanMs / 3)} /><${IconButton} icon="right" kind="wide-only" label="Later" onClick=${() => span.pan(span.spanMs / 3)} />
    <button type="button" class="btn worded follow" title=${span.paused ? "Jump to now" : "Pause"} aria-pressed=${String(!span.paused)} onClick=${span.paused ? span.follow : span.pause}><${Icon} name=${span.paused ? "play" : "pause"} size="16" /><span class="word">${span.paused ? "Jump to now" : "Live"}</span></button></div>`;
}

/** The models that have a lane, and how many others there are. */
function useLanes(span, list) {
  const all = localModels.value;
  const everything = parametersOf("timeline").lanes === "all";
  // Not with each tick: models would come and go under the reader.
  const step = Math.round(span.spanMs / 60);
  const shown = useMemo(() => {
    const busy = new Set(activeModels(span, all, stateBars, list, swaps.value).map((model) => model.id));
    return all.filter(({ id }) => everything || busy.has(id) || failures.value.has(id));
  }, [Math.floor(span.from / step), span.spanMs, all, list, barsVersion.value, failures.value, everything]);
  return { lanes: shown, others: all.length - shown.length, everything };
}

export default function TimelinePage({ active }) {
  const nowMs = useLive(now);
  const span = useSpan(nowMs);
  const list = requests.value;
  const busy = useLive(inflight);
  const open = useMemo(() => busy.map((each) => openRequest(each, nowMs)), [busy, nowMs]);
  const drawn = useMemo(() => [...list, ...open], [list, open]);
  const { lanes, others, everything } = useLanes(span, drawn);
  useChanges(active, activityTick, refreshRequests);
  useEffect(() => {
    if (!active) return undefined;
    const timer = setTimeout(() => {
      refreshStates(span.from);
      refreshPast(span.from, span.to);
    }, span.paused ? SETTLED_MS : 0);
    return () => clearTimeout(timer);
  }, [active, span.spanMs, span.paused && span.from]);
  const figures = useMemo(() => figuresOf(span, stateBars, list, swaps.value, nowMs), [span.from, span.to, list, swaps.value, barsVersion.value]);
  const showLanes = (value) => () => setParameters("timeline", { lanes: value });
  return html`
    <header class="page-head"><h1>Timeline</h1><${Tools} span=${span} /></header>
    <div class="page-body">
      ${modelsKnown.value && !localModels.value.length
        ? html`<${Empty} icon="timeline" title="Nothing to draw">There is a lane for each model as soon as one is configured.</${Empty}>`
        : html`<div class="figures"><${Figure} name="in flight now" value=${count(inflightTotal.value)} /><${Figure} name="swaps" value=${figures.swaps} /><${Figure} name="time loading" value=${seconds(figures.loadingS)} /><${Figure} name="idle while loaded" value=${figures.idle === null ? "–" : percent(figures.idle * 100)} /></div>
          ${cutAt.value !== null && cutAt.value > span.from && html`<${Note}>Requests that ended before ${timeOfDay(cutAt.value)} are not drawn: there are too many. Zoom in to see them.</${Note}>`}
          <section class="card timeline" aria-label="Timeline">
            ${lanes.length > 0 ? html`<${Lanes} models=${lanes} requests=${drawn} span=${span} nowMs=${nowMs} active=${active} />` : html`<${Empty} icon="timeline" title="Quiet">No model was loaded or used in this span.</${Empty}>`}
            <div class="lane-foot">${lanes.length > 0 && html`<${Legend} />`}${(others > 0 || everything) && html`<button type="button" class="btn small quiet" onClick=${showLanes(everything ? "" : "all")}>${everything ? "Hide models without activity" : `Show ${plural(others, "model")} without activity`}</button>`}</div></section>
          <${SwapList} span=${span} />`}
    </div>`;
}
