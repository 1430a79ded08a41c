// Text to speech.

import { html, signal, useEffect, useRef } from "../shared/html.js";
import { AsyncTask, getJson, postJson } from "../shared/api.js";
import { stored, storedDebounced } from "../shared/storage.js";
import { download } from "../shared/dom-utils.js";
import { dateTime } from "../shared/format.js";
import { Check, Empty, IconButton, Problem, Select } from "../shared/controls.js";
import { LongTextField } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";
import { LoadLine } from "../models/load-line.js";
import { ModelSelect } from "../models/model-select.js";
import { Took } from "./took.js";

const DEFAULT_VOICES = ["coral", "alloy", "echo", "fable", "onyx", "nova", "shimmer"];
const model = stored("playground-speech-model", "");
const voice = stored("playground-speech-voice", "coral");
const autoplay = stored("playground-speech-autoplay", false);
const cache = stored("playground-speech-voices-cache", {});
const text = storedDebounced("playground-speech-text", "");
const sound = signal(null);
const task = new AsyncTask();
const voices = new AsyncTask();

const voicesOf = (name) => (cache.value[name]?.length ? cache.value[name] : DEFAULT_VOICES);

/** Fetch the voices of the model's server. */
async function refreshVoices() {
  await voices.run(async (abort) => {
    let found = [];
    try {
      const body = await getJson(`/v1/audio/voices?model=${encodeURIComponent(model.value)}`, { signal: abort });
      found = (Array.isArray(body) ? body : (body.voices ?? [])).map((each) => (typeof each === "string" ? each : (each.id ?? each.name))).filter(Boolean);
    } finally {
      cache.value = { ...cache.value, [model.value]: found.length ? found : DEFAULT_VOICES };
      [voice.value] = cache.value[model.value];
    }
  });
}

async function speak() {
  await task.run(async (abort) => {
    const answer = await postJson("/v1/audio/speech", { model: model.value, input: text.value, voice: voice.value }, { signal: abort });
    const blob = await answer.blob();
    if (sound.value) URL.revokeObjectURL(sound.value.url);
    sound.value = { blob, url: URL.createObjectURL(blob), voice: voice.value, at: Date.now() };
  });
}

function Player() {
  const player = useRef(null);
  const { url, blob, voice: spoken, at } = sound.value;
  useEffect(() => {
    if (autoplay.value) player.current.play().catch((error) => console.info(`not played: ${error.message}`));
  }, [url]);
  const name = `${spoken}-${dateTime(at).replace(/[: ]/g, "-")}.mp3`;
  return html`<div class="player"><p class="small muted">${spoken}, ${dateTime(at)}</p><audio ref=${player} controls src=${url}></audio>
    <button type="button" class="btn" onClick=${() => download(name, blob)}><${Icon} name="download" size="16" />Download</button></div>`;
}

export function SpeechTab() {
  const ready = model.value && text.value.trim() && !task.busy.value;
  const list = voicesOf(model.value);
  return html`<div class="form-tab">
    <div class="form card">
      <${ModelSelect} value=${model.value} disabled=${task.busy.value} onChange=${(next) => { model.value = next; }} />
      <div class="row end"><div class="grow"><${Select} label="Voice" value=${list.includes(voice.value) ? voice.value : list[0]} onChange=${(next) => { voice.value = next; }}>${list.map((each) => html`<option key=${each} value=${each}>${each}</option>`)}</${Select}></div>
        <${IconButton} icon="refresh" kind="" label="Ask the model for its voices" disabled=${!model.value || voices.busy.value} onClick=${refreshVoices} /></div>
      ${voices.error.value && html`<p class="tiny faint" role="status">No list of voices: ${voices.error.value}</p>`}
      <${LongTextField} id="speech-text" label="Text" state=${text} placeholder="Text to speak" onEnter=${() => ready && speak()} />
      <${Check} label="Play automatically" checked=${autoplay.value} onChange=${(next) => { autoplay.value = next; }} />
      <div class="row">${task.busy.value ? html`<button type="button" class="btn" onClick=${() => task.stop()}><${Icon} name="stop" size="16" />Cancel</button>` : html`<button type="button" class="btn primary" disabled=${!ready} onClick=${speak}>Speak</button>`}
        <button type="button" class="btn quiet" onClick=${() => { text.value = ""; }}>Clear</button></div>
    </div>
    <div class="result card">
      ${task.error.value && html`<${Problem}>${task.error.value}</${Problem}>`}
      ${task.busy.value && html`<p class="muted waiting"><span class="thinking">Speaking…</span><${LoadLine} model=${model.value} /></p>`}
      ${sound.value && !task.busy.value && html`<${Player} />`}
      <${Took} task=${task} model=${model.value} />
      ${!sound.value && !task.busy.value && !task.error.value && html`<${Empty} icon="speaker" title="No audio yet">Write a text and press Speak.</${Empty}>`}
    </div>
  </div>`;
}
