// The choice of a model: local models, the soonest first, then selectors, then the models of each peer.

import { stateWord } from "../shared/badges.js";
import { Chooser } from "../shared/chooser.js";
import { html } from "../shared/html.js";
import { isExplained, LoadPlan } from "../memory/load-plan.js";
import { fitsNow, needs, needTotal, refreshMemory } from "../memory/store.js";
import { localModels, peerModels, selectors } from "./store.js";

/** The models offered. */
export const pickable = () => ({ local: localModels.value.filter((model) => !model.unlisted), peers: [...peerModels.value] });

export const hasModels = () => {
  const { local, peers } = pickable();
  return local.length > 0 || peers.length > 0;
};

/** The option of a model with its state and the memory it needs; its name and aliases are found too. */
export const optionOf = (model, group) => ({ value: model.id, text: model.id, hint: [["", "stopped", "unknown"].includes(model.state) ? "" : stateWord(model.state), needTotal(needs.value.get(model.id))].filter(Boolean).join(" · "), search: [model.name, ...(model.aliases ?? [])].join(" "), group });

const SOONNESS = { ready: 0, starting: 1, waking: 1, sleepPending: 2, asleep: 2 };
const [FITTING, OTHERS] = [3, 4];

/** *models*, those that can answer soonest first: ready, loading, asleep, fitting beside what is loaded, others. */
export function soonestFirst(models) {
  const rank = ({ id, state }) => SOONNESS[state] ?? (fitsNow(id) ? FITTING : OTHERS);
  return models.map((model) => [rank(model), model]).sort(([a], [b]) => a - b).map(([, model]) => model);
}

/** *models*: these local ones only. */
export function ModelSelect({ value, onChange, disabled, label = "Model", hideLabel, models }) {
  const { local, peers } = models ? { local: models, peers: [] } : pickable();
  const choosing = models ? [] : selectors.value;
  if (!local.length && !peers.length) return null;
  const options = [
    ...soonestFirst(local).map((model) => optionOf(model, "")),
    ...choosing.map(({ id }) => ({ value: id, text: id, group: "Selectors" })),
    ...peers.flatMap(([id, list]) => list.map((model) => optionOf(model, `Peer: ${id}`))),
  ];
  return html`<${Chooser} label=${label} hideLabel=${hideLabel} value=${value} options=${options} disabled=${disabled} placeholder="Choose a model…" onChange=${onChange}
    onOpen=${refreshMemory} about=${(id) => isExplained(id) && html`<${LoadPlan} id=${id} />`} />`;
}
