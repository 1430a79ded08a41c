// Parameters of a chat request. One that is not set is not sent: the model's server decides.

import { html } from "../shared/html.js";
import { stored } from "../shared/storage.js";
import { Select, TextField } from "../shared/controls.js";
import { DIALECTS } from "./dialects.js";

export const dialect = stored("playground-endpoint", "chat");
const system = stored("playground-system-prompt", "");

/** Texts as typed, by name; an empty one is not set. */
const parameters = stored("playground-parameters", {});

const NUMBERS = [
  ["temperature", "Temperature", { min: 0, max: 2, step: 0.05 }],
  ["top_p", "Top p", { min: 0, max: 1, step: 0.05 }],
  ["min_p", "Min p", { min: 0, max: 1, step: 0.01 }],
  ["seed", "Seed", { step: 1 }],
  ["max_tokens", "Max tokens (empty = model default)", { min: 1, step: 64 }],
];
const UNSET = "model default";

const set = (name, text) => { parameters.value = { ...parameters.peek(), [name]: text }; };

/** The JSON schema that is typed, or null; "" where it is no JSON. */
function schemaOf(text) {
  if (!text?.trim()) return null;
  try {
    return JSON.parse(text);
  } catch {
    return "";
  }
}

/** {dialect, system, parameters} of the next request; the names are those of chat completions. */
export function requestSettings() {
  const typed = parameters.value;
  const numbers = NUMBERS.map(([name]) => [name, typed[name]?.trim() ? Number(typed[name]) : NaN]).filter(([, value]) => Number.isFinite(value));
  const stop = (typed.stop ?? "").split("\n").filter(Boolean);
  const schema = schemaOf(typed.schema);
  return {
    dialect: dialect.value,
    system: system.value,
    parameters: { ...Object.fromEntries(numbers), ...(stop.length ? { stop } : {}), ...(schema ? { response_format: { type: "json_schema", json_schema: { name: "answer", schema } } } : {}) },
  };
}

function TextArea({ id, label, value, rows, placeholder, onInput, problem }) {
  return html`<div class="field"><label class="label" for=${id}>${label}</label>
    <textarea id=${id} class="area" rows=${rows} value=${value} placeholder=${placeholder} aria-invalid=${problem ? "true" : undefined} spellcheck="false" onInput=${(event) => onInput(event.currentTarget.value)}></textarea>${problem && html`<p class="tiny composer-problem">${problem}</p>`}</div>`;
}

export function Parameters() {
  const typed = parameters.value;
  const any = Object.values(typed).some((text) => text);
  return html`<div class="chat-settings card" role="group" aria-label="Settings of the conversation">
    <div class="wide"><${TextArea} id="system-prompt" label="System prompt" rows="3" value=${system.value} placeholder="How the model should behave" onInput=${(text) => { system.value = text; }} /></div>
    <${Select} label="Endpoint" value=${dialect.value} onChange=${(next) => { dialect.value = next; }}>
      ${Object.entries(DIALECTS).map(([id, each]) => html`<option key=${id} value=${id}>${each.title}</option>`)}
    </${Select}>
    ${NUMBERS.map(([name, label, limits]) => html`<${TextField} key=${name} label=${label} type="number" placeholder=${UNSET} value=${typed[name] ?? ""} onInput=${(text) => set(name, text)} ...${limits} />`)}
    <${TextArea} id="stop" label="Stop sequences, one a line" rows="2" value=${typed.stop ?? ""} onInput=${(text) => set("stop", text)} />
    <${TextArea} id="schema" label="JSON schema of the answer" rows="2" value=${typed.schema ?? ""} onInput=${(text) => set("schema", text)} problem=${schemaOf(typed.schema) === "" && "This is not JSON, so it is not sent."} />
    ${any && html`<div class="wide"><button type="button" class="btn small" onClick=${() => { parameters.value = {}; }}>Use the model's defaults</button></div>`}
  </div>`;
}
