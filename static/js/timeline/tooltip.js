// The tooltip of the item under the pointer.

import { html } from "../shared/html.js";
import { ms, speed, timeOfDay } from "../shared/format.js";
import { StateBadge, StatusBadge } from "../shared/badges.js";
import { partsOf } from "../activity/waterfall.js";
import { phaseSentence, swapSentence } from "./swaps.js";

function BarTip({ item }) {
  return html`<div class="row"><${StateBadge} state=${item.bar.state} /><b>${item.model}</b></div>
    <p class="small num">${timeOfDay(item.bar.from)} to ${item.bar.to ? timeOfDay(item.bar.to) : "now"}, ${ms(item.to - item.bar.from)}</p>`;
}

function RequestTip({ item: { request } }) {
  return html`<div class="row"><b>Request #${request.id + 1}</b><${StatusBadge} status=${request.status} left=${request.client_left} /></div>
    <p class="small mono">${request.path}</p>
    <p class="small num">${partsOf(request).filter(([, took]) => took > 0).map(([name, took]) => `${name} ${ms(took)}`).join(", ")}</p>
    ${request.output_tokens > 0 && html`<p class="small num">${request.output_tokens} tokens${request.tokens_per_second ? `, ${speed(request.tokens_per_second)}/s` : ""}</p>`}
    ${request.reason && html`<p class="small">${request.reason}</p>`}`;
}

function SwapTip({ item: { swap } }) {
  return html`<b>Swap ${swap.id}${swap.outcome ? "" : ", in progress"}</b>
    <p class="small">${swap.outcome ? swapSentence(swap) : `${swap.target} is being loaded`}</p>
    <p class="small num">${phaseSentence(swap)}</p>`;
}

const TIPS = { bar: BarTip, request: RequestTip, swap: SwapTip };

export function Tooltip({ item, x, y, width }) {
  const Kind = TIPS[item.kind];
  const side = x > width / 2 ? { right: `${width - x + 12}px` } : { left: `${x + 12}px` };
  return html`<div class="tip" role="status" style=${{ ...side, top: `${y + 12}px` }}><${Kind} item=${item} /></div>`;
}
