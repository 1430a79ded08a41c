// Draws a scene on the canvas. States differ in hue and in texture.

import { token } from "../shared/theme.js";
import { dayAndTime, timeOfDay } from "../shared/format.js";
import { AXIS, LANE, laneTop, stepFor, toX } from "./scene.js";

const DAY_MS = 24 * 3600 * 1000;

const STATE_STYLES = {
  ready: ["--ok-soft", "--ok", "plain"],
  starting: ["--warn-soft", "--warn", "hatched"],
  waking: ["--info-soft", "--info", "hatched"],
  stopping: ["--warn-soft", "--warn", "crossed"],
  sleepPending: ["--rest-soft", "--rest", "crossed"],
  asleep: ["--rest-soft", "--rest", "dotted"],
  shutdown: ["--bad-soft", "--bad", "crossed"],
};

/** A repeated tile: lines for transitions, dots for sleep. */
function textured(context, base, ink, kind) {
  if (kind === "plain") return base;
  const tile = document.createElement("canvas");
  const size = kind === "dotted" ? 6 : 7;
  tile.width = tile.height = size;
  const pen = tile.getContext("2d");
  pen.fillStyle = base;
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = pen.fillStyle = ink;
  pen.globalAlpha = 0.6;
  if (kind === "dotted") pen.fillRect(2, 2, 1.6, 1.6);
  const line = (from, to) => { pen.beginPath(); pen.moveTo(...from); pen.lineTo(...to); pen.stroke(); };
  if (kind !== "dotted") line([0, size], [size, 0]);
  if (kind === "crossed") line([0, 0], [size, size]);
  return context.createPattern(tile, "repeat");
}

function drawAxis(context, view, height, colours) {
  const step = stepFor(view.to - view.from, view.width, view.to - view.from > DAY_MS ? 100 : undefined);
  const offset = new Date(view.from).getTimezoneOffset() * 60000;
  context.font = `11px ${colours.font}`;
  context.textAlign = "center";
  for (let at = Math.ceil((view.from - offset) / step) * step + offset; at <= view.to; at += step) {
    const x = Math.round(toX(view, at)) + 0.5;
    context.strokeStyle = colours.line;
    context.beginPath();
    context.moveTo(x, AXIS - 4);
    context.lineTo(x, height);
    context.stroke();
    context.fillStyle = colours.faint;
    if (x > 20 && x < view.width - 20) context.fillText(view.to - view.from > DAY_MS ? dayAndTime(at) : timeOfDay(at, step < 60000), x, 14);
  }
}

function drawLanes(context, view, count, colours) {
  context.strokeStyle = colours.line;
  for (let index = 0; index <= count; index += 1) {
    const y = Math.round(laneTop(index)) + 0.5;
    context.beginPath();
    context.moveTo(0, y);
    context.lineTo(view.width, y);
    context.stroke();
  }
}

function drawBars(context, bars, fills) {
  for (const { bar, x, y, width, height } of bars) {
    const look = fills[bar.state];
    if (!look) continue;
    context.beginPath();
    context.roundRect(x, y, width, height, Math.min(4, width / 2));
    context.fillStyle = look.fill;
    context.fill();
    if (width > 3) {
      context.strokeStyle = look.ink;
      context.stroke();
    }
  }
}

/** Requests in their parts; failed ones are higher, those of a client that left hollow, open ones have an arrow head. */
function drawMarks(context, marks, colours) {
  for (const { request, parts, x, y, width, height } of marks) {
    for (const [kind, left, size] of parts) {
      context.fillStyle = context.strokeStyle = colours[kind];
      if (kind === "left") context.strokeRect(left + 0.5, y + 0.5, Math.max(1, size - 1), height - 1);
      else if (kind === "failed") context.fillRect(left, y - 1, size, height + 2);
      else context.fillRect(left, y, size, height);
    }
    if (!request.open) continue;
    context.beginPath();
    context.moveTo(x + width, y - 1);
    context.lineTo(x + width + 6, y + height / 2);
    context.lineTo(x + width, y + height + 1);
    context.fill();
  }
}

function drawArrow(context, { x, y, sources, swap }, colours) {
  const failed = swap.outcome && swap.outcome !== "done";
  context.strokeStyle = context.fillStyle = failed ? colours.bad : colours.faint;
  context.lineWidth = 1.2;
  context.setLineDash(swap.outcome ? [] : [3, 3]);
  for (const from of sources) {
    const tip = y + (from < y ? -9 : 9);
    context.beginPath();
    context.moveTo(x, from);
    context.lineTo(x, tip);
    context.stroke();
    context.beginPath();
    context.moveTo(x, tip + (from < y ? 5 : -5));
    context.lineTo(x - 4, tip - (from < y ? 2 : -2));
    context.lineTo(x + 4, tip - (from < y ? 2 : -2));
    context.fill();
    context.beginPath();
    context.arc(x, from, 2.6, 0, 7);
    context.fill();
  }
  if (!sources.length) {
    context.beginPath();
    context.moveTo(x, y - 12);
    context.lineTo(x - 4, y - 19);
    context.lineTo(x + 4, y - 19);
    context.fill();
  }
  context.setLineDash([]);
  context.lineWidth = 1;
}

/** A ring around *item*, which the keys have reached. */
function drawRing(context, { x, y, width = 0, height = 0 }, colours) {
  context.strokeStyle = colours.accent;
  context.lineWidth = 2;
  context.beginPath();
  context.roundRect(x - 5, y - 5, width + 10, height + 10, 5);
  context.stroke();
  context.lineWidth = 1;
}

/** *chosen*: the item that is marked, if any. */
export function draw(canvas, view, scene, now, chosen) {
  const height = AXIS + scene.lanes.size * LANE + 1;
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(view.width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const colours = { line: token("--line"), faint: token("--text-2"), text: token("--text"), accent: token("--accent"), bad: token("--bad"), queued: token("--line-strong"), load: token("--warn"), work: token("--accent"), failed: token("--bad"), left: token("--text-3"), font: getComputedStyle(document.body).fontFamily };
  const fills = Object.fromEntries(Object.entries(STATE_STYLES).map(([state, [base, ink, kind]]) => [state, { fill: textured(context, token(base), token(ink), kind), ink: token(ink) }]));
  drawAxis(context, view, height, colours);
  drawLanes(context, view, scene.lanes.size, colours);
  drawBars(context, scene.bars, fills);
  drawMarks(context, scene.marks, colours);
  for (const arrow of scene.arrows) drawArrow(context, arrow, colours);
  if (chosen) drawRing(context, chosen, colours);
  const x = toX(view, now);
  if (x <= view.width) {
    context.strokeStyle = colours.accent;
    context.beginPath();
    context.moveTo(x, AXIS - 6);
    context.lineTo(x, height);
    context.stroke();
  }
}
