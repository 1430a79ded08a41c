// The selection of a model: local models first, then selectors, then the models of each peer.

import { html } from "../shared/html.js";
import { Select } from "../shared/controls.js";
import { localModels, peerModels, selectors } from "./store.js";

/** The models offered. */
export const pickable = () => ({ local: localModels.value.filter((model) => !model.unlisted), peers: [...peerModels.value] });

export const hasModels = () => {
  const { local, peers } = pickable();
  return local.length > 0 || peers.length > 0;
};

/** *models*: these local ones only. */
export function ModelSelect({ value, onChange, disabled, label = "Model", hideLabel, models }) {
  const { local, peers } = models ? { local: models, peers: [] } : pickable();
  const choosing = models ? [] : selectors.value;
  if (!local.length && !peers.length) return null;
  const known = local.some((model) => model.id === value) || choosing.includes(value) || peers.some(([, list]) => list.some((model) => model.id === value));
  const option = (model) => html`<option key=${model.id} value=${model.id}>${model.id}</option>`;
  return html`<${Select} label=${label} hideLabel=${hideLabel} value=${known ? value : ""} disabled=${disabled} onChange=${onChange}>
    <option value="">Choose a model…</option>
    ${local.length > 0 && html`<optgroup label="Local">${local.map(option)}</optgroup>`}
    ${choosing.length > 0 && html`<optgroup label="Selectors">${choosing.map((id) => option({ id }))}</optgroup>`}
    ${peers.map(([id, list]) => html`<optgroup key=${id} label="Peer: ${id}">${list.map(option)}</optgroup>`)}
  </${Select}>`;
}
