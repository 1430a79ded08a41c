// The last hour of one model: its states, requests and swaps.

import { html, useEffect, useMemo } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { now, useLive } from "../shared/timing.js";
import { inflight } from "../activity/store.js";
import { Lanes } from "./lanes.js";
import { openRequest, refreshRequests, refreshStates, requests } from "./store.js";

const SPAN_MS = 3600 * 1000;
const STEP_MS = SPAN_MS / 1000; // less than a pixel: it is drawn no more often

export function Strip({ model, active }) {
  const nowMs = Math.floor(useLive(now) / STEP_MS) * STEP_MS;
  const models = useMemo(() => [model], [model]);
  const list = requests.value;
  const shown = useMemo(() => {
    const mine = (each) => each.model_id === model.id;
    return [...list.filter(mine), ...inflight.peek().filter(mine).map((each) => openRequest(each, nowMs))];
  }, [list, model.id, nowMs]);
  useEffect(() => { if (active) refreshStates(now.peek() - SPAN_MS); }, [active]);
  useEffect(() => { if (active) refreshRequests(); }, [active, nowMs]);
  const span = { from: nowMs - SPAN_MS, to: nowMs + SPAN_MS / 50, spanMs: SPAN_MS };
  return html`<section class="card timeline" aria-label="Last hour"><div class="card-head"><h2>Last hour</h2><div class="tools"><a class="small" href=${linkTo("timeline", { span: "60" })}>Timeline</a></div></div>
    <${Lanes} models=${models} requests=${shown} span=${span} nowMs=${nowMs} active=${active} names=${false} /></section>`;
}
