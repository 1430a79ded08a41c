// Image generation.

import { html, signal, useState } from "../shared/html.js";
import { AsyncTask, postJson } from "../shared/api.js";
import { stored, storedDebounced } from "../shared/storage.js";
import { download, isExternalLink } from "../shared/dom-utils.js";
import { Empty, Problem, Select } from "../shared/controls.js";
import { ImageViewer, LongTextField } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";
import { LoadLine } from "../models/load-line.js";
import { ModelSelect } from "../models/model-select.js";
import { Took } from "./took.js";

const SIZES = ["512x512", "1024x1024", "1024x768", "1280x720", "1792x1024", "768x1024", "720x1280", "1024x1792"];
const NUMBERS = ["1", "2", "4"];
const model = stored("playground-image-model", "");
const size = stored("playground-image-size", "1024x1024");
const prompt = storedDebounced("playground-image-prompt", "");
const number = stored("playground-image-number", "1");
const pictures = signal([]);
const task = new AsyncTask();

async function generate() {
  await task.run(async (abort) => {
    const answer = await postJson("/v1/images/generations", { model: model.value, prompt: prompt.value, n: Number(number.value), size: size.value }, { signal: abort });
    const made = (await answer.json()).data ?? [];
    if (!made.length) throw new Error("the answer holds no picture");
    pictures.value = made.map((each) => (each.b64_json ? { source: `data:image/png;base64,${each.b64_json}` } : { link: each.url }));
  });
}

function Result({ source, link }) {
  const [open, setOpen] = useState(false);
  // An image of another origin is not fetched: the policy of the page forbids it.
  if (link && !isExternalLink(link)) return html`<p class="note">The server answered with something that is not a web address: <span class="mono">${link}</span></p>`;
  if (link) return html`<p class="note">The server answered with an address. <a href=${link} target="_blank" rel="noopener noreferrer">Open the picture</a></p>`;
  return html`<figure class="picture"><button type="button" class="thumb" aria-label="Show the picture in full size" onClick=${() => setOpen(true)}><img src=${source} alt=${prompt.value} /></button>
    <button type="button" class="btn" onClick=${async () => download(`generated-image-${Date.now()}.png`, await toBlob(source))}><${Icon} name="download" size="16" />Download</button>
    ${open && html`<${ImageViewer} source=${source} label="Generated picture" onClose=${() => setOpen(false)} />`}</figure>`;
}

/** Decode a data URL; fetching it would need a wider policy. */
async function toBlob(source) {
  const bytes = Uint8Array.from(atob(source.split(",")[1]), (letter) => letter.charCodeAt(0));
  return new Blob([bytes], { type: "image/png" });
}

function clear() {
  task.reset();
  pictures.value = [];
  prompt.value = "";
}

function Choice({ label, state, options }) {
  return html`<${Select} label=${label} value=${state.value} disabled=${task.busy.value} onChange=${(next) => { state.value = next; }}>${options.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</${Select}>`;
}

export function ImagesTab() {
  const ready = model.value && prompt.value.trim() && !task.busy.value;
  return html`<div class="form-tab">
    <div class="form card">
      <${ModelSelect} value=${model.value} disabled=${task.busy.value} onChange=${(next) => { model.value = next; }} />
      <div class="two-fields"><${Choice} label="Size" state=${size} options=${SIZES} /><${Choice} label="Pictures" state=${number} options=${NUMBERS} /></div>
      <${LongTextField} id="image-prompt" label="Prompt" state=${prompt} placeholder="What the picture shows" onEnter=${() => ready && generate()} />
      <div class="row">${task.busy.value ? html`<button type="button" class="btn" onClick=${() => task.stop()}><${Icon} name="stop" size="16" />Cancel</button>` : html`<button type="button" class="btn primary" disabled=${!ready} onClick=${generate}>Generate</button>`}
        <button type="button" class="btn quiet" onClick=${clear}>Clear</button></div>
    </div>
    <div class="result card">
      ${task.error.value && html`<${Problem}>${task.error.value}</${Problem}>`}
      ${task.busy.value && html`<p class="muted waiting"><span class="thinking">Drawing…</span><${LoadLine} model=${model.value} /></p>`}
      <${Took} task=${task} model=${model.value} />
      ${pictures.value.length > 0 && !task.busy.value && html`<div class="pictures">${pictures.value.map((each, index) => html`<${Result} key=${index} ...${each} />`)}</div>`}
      ${!pictures.value.length && !task.busy.value && !task.error.value && html`<${Empty} icon="image" title="No picture yet">Describe one and press Generate.</${Empty}>`}
    </div>
  </div>`;
}
