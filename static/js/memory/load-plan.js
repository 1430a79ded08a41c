// What loading a model would do: whether it fits, who leaves for it, when it would be ready.

import { classes, computed, html, useEffect, useId, useRef, useState } from "../shared/html.js";
import { getJson } from "../shared/api.js";
import { limited } from "../shared/session.js";
import { useLive } from "../shared/timing.js";
import { seconds } from "../shared/format.js";
import { Icon } from "../shared/icons.js";
import { Tip, useHover } from "../shared/tip.js";
import { findModel, localModels } from "../models/store.js";

const SETTLED_MS = 120;
const KINDS = { never_fits: "bad", blocked: "warn" };

/** The states of all models: when one changes, plans may. */
const states = computed(() => localModels.value.map(({ state }) => state).join());

/** The answer of /api/plan for a model, fetched once it is shown and when states change; null before, an Error if there is none. */
function usePlan(id) {
  const [plan, setPlan] = useState(null);
  useEffect(() => setPlan(null), [id]);
  useEffect(() => {
    const control = new AbortController();
    const read = () => getJson(`/api/plan?${new URLSearchParams({ model: id })}`, { signal: control.signal }).then(setPlan, (error) => error.name === "AbortError" || setPlan(error));
    const timer = setTimeout(read, SETTLED_MS);
    return () => {
      clearTimeout(timer);
      control.abort();
    };
  }, [id, useLive(states)]);
  return plan;
}

/** "evicts qwen (14 GiB, idle 3 min)", and when it would be ready, as far as loads were measured. */
export function LoadPlan({ id }) {
  const plan = usePlan(id);
  if (!plan) return null;
  if (plan instanceof Error) return html`<span class="muted">${plan.message}</span>`;
  const kind = KINDS[plan.answer];
  const moves = plan.answer === "plan" && (plan.eta_s === null ? "No load was measured yet" : `Ready in about ${seconds(plan.eta_s)}`);
  return html`<span class=${classes("load-plan", kind)} data-plan=${plan.answer}>${kind && html`<${Icon} name="warn" size="14" />`}<span>${plan.answer === "plan" && plan.leaving.length > 0 && "Loading "}<b>${id}</b> ${plan.summary}${moves && html`<span class="muted num load-eta">${moves}</span>`}</span></span>`;
}

/** Whether a load of the model may be explained: it is one of ours, not loaded, and the key may ask. */
export function isExplained(id) {
  const model = findModel(id);
  return Boolean(model) && !limited.value && !model.peerID && ["stopped", "asleep"].includes(model.state);
}

/** A control that loads model *id*: while it is hovered or focused, a tip says what that would do. *children* gets the id of the tip. */
export function WithLoadPlan({ id, children }) {
  const anchor = useRef(null);
  const tip = useId();
  const { open, close, on } = useHover(anchor);
  return html`<span class="with-tip" ref=${anchor} ...${on} onClick=${close}>${children(open ? tip : undefined)}${open && html`<${Tip} id=${tip} anchor=${anchor}><${LoadPlan} id=${id} /></${Tip}>`}</span>`;
}
