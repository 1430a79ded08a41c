// What is said of an item of the timeline in the tip at the pointer.

import { html } from "../shared/html.js";
import { ms, speed, timeOfDay } from "../shared/format.js";
import { StateBadge, StatusBadge } from "../shared/badges.js";
import { partsOf } from "../activity/waterfall.js";
import { phaseSentence, swapSentence } from "./swaps.js";

function BarTip({ item }) {
  return html`<div class="row"><${StateBadge} state=${item.bar.state} /><b>${item.model}</b></div>
    <p class="small num">${timeOfDay(item.bar.from)} to ${item.bar.to ? timeOfDay(item.bar.to) : "now"}, ${ms(item.to - item.bar.from)}</p>
    ${item.bar.reason && html`<p class="small">${item.bar.reason}</p>`}`;
}

function RequestTip({ item: { request } }) {
  return html`<div class="row"><b>${request.open ? "Request in flight" : `Request #${request.id + 1}`}</b>${request.open ? html`<span class="badge plain">${request.phase}</span>` : html`<${StatusBadge} status=${request.status} left=${request.client_left} />`}</div>
    <p class="small mono">${request.path}</p>
    <p class="small num">${partsOf(request).filter(([, took]) => took > 0).map(([name, took]) => `${name} ${ms(took)}`).join(", ")}</p>
    ${request.output_tokens > 0 && html`<p class="small num">${request.output_tokens} tokens${request.tokens_per_second ? `, ${speed(request.tokens_per_second)}/s` : ""}</p>`}
    ${(request.reason || request.why) && html`<p class="small">${request.reason || request.why}</p>`}`;
}

function SwapTip({ item: { swap } }) {
  return html`<b>Swap ${swap.id}${swap.outcome ? "" : ", in progress"}</b>
    <p class="small">${swap.outcome ? swapSentence(swap) : `${swap.target} is being loaded`}</p>
    <p class="small num">${phaseSentence(swap)}</p>`;
}

const TIPS = { bar: [BarTip, "Open the model"], request: [RequestTip, "Details"], swap: [SwapTip, "Why?"] };

export function Tooltip({ item, x, y, width, onOpen }) {
  const [Kind, action] = TIPS[item.kind];
  const side = x > width / 2 ? { right: `${width - x + 12}px` } : { left: `${x + 12}px` };
  return html`<div class="tip" role="status" style=${{ ...side, top: `${y + 12}px` }}><${Kind} item=${item} /><button type="button" class="btn small touch-only" onClick=${() => onOpen(item)}>${action}</button></div>`;
}
