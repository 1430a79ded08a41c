// The last hour of one model: its states, requests and swaps.

import { html, useEffect, useMemo } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { now, useLive } from "../shared/timing.js";
import { activityTick, inflight } from "../activity/store.js";
import { Lanes } from "./lanes.js";
import { openRequest, refreshRequests, refreshStates, requests } from "./store.js";

const SPAN_MS = 3600 * 1000;

export function Strip({ model, active }) {
  const nowMs = useLive(now);
  const models = useMemo(() => [model], [model]);
  const mine = useMemo(() => requests.value.filter((request) => request.model_id === model.id), [requests.value, model.id]);
  const open = useLive(inflight).filter((each) => each.model_id === model.id).map((each) => openRequest(each, nowMs));
  useEffect(() => { if (active) refreshStates(now.peek() - SPAN_MS); }, [active]);
  useEffect(() => { if (active) refreshRequests(); }, [active, useLive(activityTick)]);
  const span = { from: nowMs - SPAN_MS, to: nowMs + SPAN_MS / 50, spanMs: SPAN_MS };
  return html`<section class="card timeline" aria-label="Last hour"><div class="card-head"><h2>Last hour</h2><div class="tools"><a class="small" href=${linkTo("timeline", { span: "60" })}>Timeline</a></div></div>
    <${Lanes} models=${models} requests=${[...mine, ...open]} span=${span} nowMs=${nowMs} active=${active} names=${false} /></section>`;
}
