// Badges of states: hue, shape and word together, so that each alone is enough.

import { html } from "./html.js";

const WORDS = { sleepPending: "going to sleep", shutdown: "shut down", "": "remote" };
const KNOWN = new Set(["ready", "starting", "stopping", "stopped", "asleep", "waking", "sleepPending", "shutdown", "failed"]);

const SHAPES = {
  ready: html`<circle cx="8" cy="8" r="6" fill="currentColor" />`,
  stopped: html`<circle cx="8" cy="8" r="5" fill="none" stroke="currentColor" stroke-width="2" />`,
  asleep: html`<path d="M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3Z" fill="currentColor" />`,
  sleepPending: html`<path d="M13.5 9.8A6 6 0 0 1 6.2 2.5a6 6 0 1 0 7.3 7.3Z" fill="none" stroke="currentColor" stroke-width="1.8" />`,
  starting: html`<g class="spin"><path d="M8 2a6 6 0 1 1-6 6" fill="none" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" /></g>`,
  waking: html`<path d="M8 2v5M4.2 4.2A6 6 0 1 0 11.8 4.2" fill="none" stroke="currentColor" stroke-width="2.2" stroke-linecap="round" />`,
  stopping: html`<rect x="3" y="3" width="10" height="10" rx="1.5" fill="none" stroke="currentColor" stroke-width="2.2" />`,
  shutdown: html`<path d="m4 4 8 8M12 4l-8 8" stroke="currentColor" stroke-width="2.4" stroke-linecap="round" />`,
};
SHAPES.failed = SHAPES.shutdown;

export const stateWord = (state) => WORDS[state] ?? state;

/** *word*: what to call the state here. */
export function StateBadge({ state, word = stateWord(state), children }) {
  const kind = KNOWN.has(state) ? state : "plain";
  return html`<span class="badge ${kind}" data-state=${state}>
    ${SHAPES[state] && html`<svg viewBox="0 0 16 16" aria-hidden="true" focusable="false">${SHAPES[state]}</svg>`}
    ${word}${children}
  </span>`;
}

/** An HTTP status; *left*: the client disconnected before the end. */
export function StatusBadge({ status, left }) {
  if (left) return html`<span class="badge plain">${status} disconnected</span>`;
  return status < 400
    ? html`<span class="badge plain num">${status}</span>`
    : html`<span class="badge failed num"><svg viewBox="0 0 16 16" aria-hidden="true" focusable="false">${SHAPES.failed}</svg>${status}</span>`;
}
