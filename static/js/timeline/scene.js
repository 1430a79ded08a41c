// The layout of the timeline: times to pixels, and the item under the pointer. Pure.

export const LANE = 52;
export const AXIS = 26;
export const BAR_TOP = 24;
export const BAR_HEIGHT = 18;
const ROW_HEIGHT = 5;
const ROWS = 4;
const NEAR = 7;
const BEGINS = new Set(["load", "failed_wake", "placing"]); // phases that begin a load
const UNDIVIDED = 5; // narrower requests are drawn in one piece

/** Steps of the axis in seconds, of which the labels name every one. */
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];

/** The step whose labels are at least *roomPx* apart. */
export function stepFor(spanMs, width, roomPx = 76) {
  const least = (spanMs / 1000 / width) * roomPx;
  return (STEPS.find((step) => step >= least) ?? STEPS.at(-1)) * 1000;
}

export const toX = (view, at) => ((at - view.from) / (view.to - view.from)) * view.width;
export const toTime = (view, x) => view.from + (x / view.width) * (view.to - view.from);
export const laneTop = (index) => AXIS + index * LANE;

const overlaps = (view) => (from, to) => to >= view.from && from <= view.to;

/** The models with something to see: loaded ones, and those with states, requests or swaps in *view*. */
export function activeModels(view, models, stateBars, requests, swaps) {
  const shows = overlaps(view);
  const busy = new Set();
  for (const request of requests) if (shows(request.started_ms, request.ended_ms)) busy.add(request.model_id);
  for (const swap of swaps) if (shows(swap.started_ms, swap.ended_ms ?? view.to)) busy.add(swap.target);
  const moved = (id) => (stateBars.get(id) ?? []).some((bar) => bar.state !== "stopped" && shows(bar.from, bar.to ?? view.to));
  return models.filter(({ id }) => busy.has(id) || moved(id));
}

/** Assign each request of a lane to one of a few rows, so that concurrent ones do not overlap. */
function rowsOf(list) {
  const ends = new Array(ROWS).fill(-Infinity);
  return list.map((request) => {
    let row = ends.findIndex((end) => end <= request.started_ms);
    if (row < 0) row = ends.indexOf(Math.min(...ends));
    ends[row] = Math.max(ends[row], request.ended_ms);
    return row;
  });
}

/** Everything to draw in *view* {from, to, width}: {lanes, bars, marks, arrows}, in pixels. */
export function sceneOf(view, models, stateBars, requests, swaps, now) {
  const lanes = new Map(models.map((model, index) => [model.id, index]));
  const shows = overlaps(view);
  const bars = [];
  for (const [model, lane] of lanes) {
    for (const bar of stateBars.get(model) ?? []) {
      const to = bar.to ?? now;
      if (!shows(bar.from, to)) continue;
      const [left, right] = [Math.max(-5, toX(view, bar.from)), Math.min(view.width + 5, toX(view, to))];
      bars.push({ kind: "bar", model, lane, bar, to, x: left, width: Math.max(1.5, right - left), y: laneTop(lane) + BAR_TOP, height: BAR_HEIGHT });
    }
  }
  return { lanes, bars, marks: marksOf(view, lanes, requests, shows), arrows: arrowsOf(view, lanes, swaps, shows, now) };
}

/** [kind, x, width] of each part of a request: queued, load, then work, its kind by the outcome. */
function partsOf(view, request, x, width) {
  const work = request.client_left ? "left" : request.status >= 400 ? "failed" : "work";
  if (width < UNDIVIDED) return [[work, x, width]];
  const queued = Math.min(width, toX(view, request.started_ms + (request.queue_ms ?? 0)) - x);
  const load = Math.min(width - queued, toX(view, view.from + (request.load_ms ?? 0)));
  return [["queued", x, queued], ["load", x + queued, load], [work, x + queued + load, width - queued - load]].filter(([, , size]) => size > 0);
}

function marksOf(view, lanes, requests, shows) {
  const perLane = new Map();
  for (const request of requests) {
    const lane = lanes.get(request.model_id);
    if (lane === undefined || !shows(request.started_ms, request.ended_ms)) continue;
    if (!perLane.has(lane)) perLane.set(lane, []);
    perLane.get(lane).push(request);
  }
  const marks = [];
  for (const [lane, list] of perLane) {
    list.sort((a, b) => a.started_ms - b.started_ms);
    const rows = rowsOf(list);
    list.forEach((request, index) => {
      const x = toX(view, request.started_ms);
      const width = Math.max(2, toX(view, request.ended_ms) - x);
      marks.push({ kind: "request", lane, request, x, width, parts: partsOf(view, request, x, width), y: laneTop(lane) + 2 + (ROWS - 1 - rows[index]) * ROW_HEIGHT, height: ROW_HEIGHT - 1 });
    });
  }
  return marks;
}

/** An arrow runs from each evicted model to the loaded one; without evictions it is a mark. */
function arrowsOf(view, lanes, swaps, shows, now) {
  const arrows = [];
  for (const swap of swaps) {
    const lane = lanes.get(swap.target);
    const ended = swap.ended_ms ?? now;
    if (lane === undefined || !shows(swap.started_ms, ended)) continue;
    const begin = swap.phases?.findIndex(({ name }) => BEGINS.has(name)) ?? -1;
    const load = begin < 0 ? 0 : swap.phases.slice(begin).reduce((sum, phase) => sum + phase.ms, 0);
    const x = toX(view, ended - load);
    const y = laneTop(lane) + BAR_TOP + BAR_HEIGHT / 2;
    const sources = (swap.evicted ?? []).map((id) => lanes.get(id)).filter((each) => each !== undefined);
    arrows.push({ kind: "swap", swap, x, y, sources: sources.map((each) => laneTop(each) + BAR_TOP + BAR_HEIGHT / 2) });
  }
  return arrows;
}

const inBox = (item, x, y, room) => x >= item.x - room && x <= item.x + item.width + room && y >= item.y - room && y <= item.y + item.height + room;

/** The item at a point, or within *room* pixels of it: swaps before requests before bars. */
export function itemAt(scene, x, y, room = 1) {
  const swap = scene.arrows.find((arrow) => {
    const [top, bottom] = [Math.min(arrow.y, ...arrow.sources), Math.max(arrow.y, ...arrow.sources)];
    return Math.abs(arrow.x - x) < NEAR && y > top - NEAR && y < bottom + NEAR;
  });
  return swap ?? scene.marks.findLast((mark) => inBox(mark, x, y, room)) ?? scene.bars.findLast((bar) => inBox(bar, x, y, room)) ?? null;
}

/** The requests and swaps of a scene from left to right: what the keys step through. */
export const stepsOf = (scene) => [...scene.marks, ...scene.arrows].sort((a, b) => a.x - b.x || a.y - b.y);

/** What tells an item from all others, as scenes come and go. */
export const keyOf = (item) => (item.kind === "swap" ? `swap ${item.swap.id}` : `request ${item.request.open ? "open " : ""}${item.request.id}`);

/** Figures of the span: swaps, seconds of loading, share of ready time without a request. */
export function figuresOf(view, stateBars, requests, swaps, now) {
  const within = (from, to) => Math.max(0, Math.min(to, view.to, now) - Math.max(from, view.from));
  let loading = 0;
  let ready = 0;
  for (const bars of stateBars.values()) {
    for (const bar of bars) {
      const length = within(bar.from, bar.to ?? now);
      if (bar.state === "starting" || bar.state === "waking") loading += length;
      if (bar.state === "ready") ready += length;
    }
  }
  const busy = [...Map.groupBy(requests, (request) => request.model_id).values()].reduce((sum, list) => sum + unionOf(list, within), 0);
  const done = swaps.filter((swap) => (swap.ended_ms ?? now) >= view.from && swap.started_ms <= view.to);
  return { swaps: done.length, loadingS: loading / 1000, idle: ready > 0 ? Math.max(0, 1 - busy / ready) : null };
}

/** How long at least one request of *list* ran. */
function unionOf(list, within) {
  let sum = 0;
  let end = -Infinity;
  for (const { started_ms: from, ended_ms: to } of [...list].sort((a, b) => a.started_ms - b.started_ms)) {
    if (to > end) sum += within(Math.max(from, end), to);
    end = Math.max(end, to);
  }
  return sum;
}
