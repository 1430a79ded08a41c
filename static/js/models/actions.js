// What can be done with a model in its state, as buttons.

import { html, useState } from "../shared/html.js";
import { address, modelPath, sleepModel, unloadModel } from "../shared/api.js";
import { attempt, showToast } from "../shared/toasts.js";
import { Icon } from "../shared/icons.js";
import { stateWord } from "../shared/badges.js";
import { WithLoadPlan } from "../memory/load-plan.js";
import { requestLoad } from "./failures.js";
import { refreshDetails } from "./store.js";

const doLoad = (model) => requestLoad(model.id);
const doUnload = (model) => attempt(`Unloading ${model.id}`, () => unloadModel(model.id));
const doSleep = async (model) => (await attempt(`Putting ${model.id} to sleep`, () => sleepModel(model.id))) && showToast(`${model.id} is asleep`, "ok");

const LOAD = ["Load", "play", doLoad];
const WAKE = ["Wake", "play", doLoad];
const UNLOAD = ["Unload", "eject", doUnload];
const SLEEP = ["Sleep", "moon", doSleep];
const CANCEL = ["Cancel", "close", doUnload];

function actionsOf(model) {
  switch (model.state) {
    case "stopped": return [LOAD];
    case "asleep": return [WAKE, UNLOAD];
    case "ready": return model.sleepMode === "enable" ? [SLEEP, UNLOAD] : [UNLOAD];
    case "starting":
    case "waking": return [CANCEL];
    default: return [];
  }
}

export function Actions({ model }) {
  const [busy, setBusy] = useState("");
  const run = async (name, action) => {
    setBusy(name);
    await action(model);
    setBusy("");
    refreshDetails();
  };
  const actions = actionsOf(model);
  if (!actions.length) return html`<button type="button" class="btn small" disabled>${stateWord(model.state)}</button>`;
  const button = ([name, icon, action], tip) => html`<button key=${name} type="button" class="btn small" disabled=${busy !== ""}
    aria-label="${name} ${model.id}" aria-describedby=${tip} onClick=${() => run(name, action)}><${Icon} name=${icon} size="14" />${name}</button>`;
  return actions.map((each) => (each[2] === doLoad ? html`<${WithLoadPlan} key=${each[0]} id=${model.id}>${(tip) => button(each, tip)}</${WithLoadPlan}>` : button(each)));
}

/** Opens the page of a model's own server; only while it is ready, since a request would load the model. */
export function ServerLink({ model }) {
  if (model.state !== "ready") return null;
  const label = `Page of the server of ${model.id}`;
  // With the referrer: over plain HTTP it is what proves to the server that the session is ours.
  return html`<a class="btn quiet icon small" href=${address(`/upstream/${modelPath(model.id)}/`)} target="_blank" rel="noopener" title=${label} aria-label=${label}><${Icon} name="link" size="16" /></a>`;
}
