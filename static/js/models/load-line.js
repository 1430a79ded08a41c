// What a request waits for, in a line: other models, the load, and how long it may take.

import { html, useEffect } from "../shared/html.js";
import { limited } from "../shared/session.js";
import { now, useLive } from "../shared/timing.js";
import { seconds } from "../shared/format.js";
import { modelStatus } from "./model-status.js";
import { details, findModel, watchDetails } from "./store.js";

/** The local model with this id or alias. */
function localModel(name) {
  const alias = [...details.value].find(([, entry]) => entry.aliases.includes(name));
  const model = findModel(name) ?? (alias && findModel(alias[0]));
  return model && !model.peerID ? model : null;
}

function sentence(model, status) {
  if (model.state === "starting" || model.state === "waking") {
    const usual = (model.state === "waking" ? status.durations.wake : status.durations.start)?.p50_s;
    return `Loading for ${seconds(status.stateForS ?? 0)}${usual ? ` of about ${seconds(usual)}` : ""}.`;
  }
  if (!status.waiting || !status.why) return "";
  return `Waiting: ${status.why}${status.etaS ? `; about ${seconds(Math.max(1, status.etaS))}` : ""}.`;
}

/** Shown while a request for *model* has no response yet; empty while the model only computes. */
export function LoadLine({ model: name }) {
  // Without admin right the server does not say what others wait for.
  useEffect(() => (limited.peek() ? undefined : watchDetails()), []);
  const time = useLive(now);
  const model = localModel(name);
  const text = model ? sentence(model, modelStatus(model, time)) : "";
  if (!text) return null;
  return html` <span class="load-line num">${text} <a href="#/models?${new URLSearchParams({ log: model.id })}">View log</a></span>`;
}
