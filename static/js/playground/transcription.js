// Speech to text.

import { classes, html, signal, useEffect, useRef, useState } from "../shared/html.js";
import { AsyncTask, request } from "../shared/api.js";
import { stored } from "../shared/storage.js";
import { bytes } from "../shared/format.js";
import { attempt } from "../shared/toasts.js";
import { CopyButton, Empty, Problem } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { LoadLine } from "../models/load-line.js";
import { ModelSelect } from "../models/model-select.js";
import { Took } from "./took.js";

const MAX_BYTES = 25 * 1024 * 1024;

/** Names whose type some systems do not know; videos have a sound track, too. */
const AUDIO = /\.(aac|aiff?|amr|flac|m4a|mka|mp3|mp4|mpga|oga|ogg|opus|wav|weba|webm|wma)$/i;
const model = stored("playground-audio-model", "");
const file = signal(null);
const refused = signal("");
const transcript = signal(null);
const task = new AsyncTask();

function choose(chosen) {
  if (!chosen) return;
  const fits = /^(audio|video)\//.test(chosen.type) || AUDIO.test(chosen.name);
  refused.value = !fits ? `${chosen.name} is not an audio file` : chosen.size > MAX_BYTES ? `${chosen.name} is larger than 25 MiB` : "";
  if (!refused.value) file.value = chosen;
}

async function transcribe() {
  await task.run(async (abort) => {
    const form = new FormData();
    form.append("file", file.value);
    form.append("model", model.value);
    const answer = await request("/v1/audio/transcriptions", { method: "POST", body: form, signal: abort });
    const text = await answer.text();
    try {
      transcript.value = JSON.parse(text).text ?? text;
    } catch {
      transcript.value = text; // response_format text
    }
  });
}

/** Records from the microphone until it is stopped; the recording becomes the file. */
function Recorder() {
  const [recorder, setRecorder] = useState(null);
  const start = () => attempt("Not recorded", async () => {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
    const made = new MediaRecorder(stream);
    const pieces = [];
    made.ondataavailable = ({ data }) => pieces.push(data);
    made.onstop = () => {
      stream.getTracks().forEach((track) => track.stop());
      const type = made.mimeType.split(";")[0];
      choose(new File(pieces, `recording.${type.split("/")[1]}`, { type }));
      setRecorder(null);
    };
    made.start();
    setRecorder(made);
  });
  useEffect(() => () => recorder?.state === "recording" && recorder.stop(), [recorder]);
  if (!navigator.mediaDevices) return null; // browsers offer it to secure origins only
  return recorder
    ? html`<button type="button" class="btn danger" onClick=${() => recorder.stop()}><${Icon} name="stop" size="16" />Stop recording</button>`
    : html`<button type="button" class="btn" onClick=${start}><${Icon} name="mic" size="16" />Record</button>`;
}

function DropZone() {
  const [over, setOver] = useState(false);
  const picker = useRef(null);
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    choose(event.dataTransfer.files[0]);
  };
  return html`<div class=${classes("drop", over && "over")} onDragOver=${(event) => { event.preventDefault(); setOver(true); }} onDragLeave=${() => setOver(false)} onDrop=${drop}>
    <${Icon} name="mic" size="28" />
    ${file.value ? html`<p><strong>${file.value.name}</strong> <span class="faint">${bytes(file.value.size)}</span></p>` : html`<p class="muted">Drop a recording here, up to 25 MiB</p>`}
    <div class="row"><button type="button" class="btn" onClick=${() => picker.current.click()}>${file.value ? "Choose another" : "Browse"}</button><${Recorder} /></div>
    <input ref=${picker} type="file" accept="audio/*,video/*" hidden aria-label="Recording" onChange=${(event) => choose(event.currentTarget.files[0])} />
  </div>`;
}

function clear() {
  task.reset();
  file.value = transcript.value = null;
  refused.value = "";
}

export function TranscriptionTab() {
  const ready = model.value && file.value && !task.busy.value;
  return html`<div class="form-tab">
    <div class="form card">
      <${ModelSelect} value=${model.value} disabled=${task.busy.value} onChange=${(next) => { model.value = next; }} />
      <${DropZone} />
      ${refused.value && html`<${Problem}>${refused.value}.</${Problem}>`}
      <div class="row">${task.busy.value ? html`<button type="button" class="btn" onClick=${() => task.stop()}><${Icon} name="stop" size="16" />Cancel</button>` : html`<button type="button" class="btn primary" disabled=${!ready} onClick=${transcribe}>Transcribe</button>`}
        <button type="button" class="btn quiet" onClick=${clear}>Clear</button></div>
    </div>
    <div class="result card">
      ${task.error.value && html`<${Problem}>${task.error.value}</${Problem}>`}
      ${task.busy.value && html`<p class="muted waiting"><span class="thinking">Listening…</span><${LoadLine} model=${model.value} /></p>`}
      <${Took} task=${task} model=${model.value} />
      ${transcript.value !== null && !task.busy.value && html`<div class="stack"><div class="row"><h2 class="grow">Transcript</h2><${CopyButton} text=${transcript.value} label="Copy transcript" /></div><p class="as-typed prose">${transcript.value || "(silence)"}</p></div>`}
      ${transcript.value === null && !task.busy.value && !task.error.value && html`<${Empty} icon="mic" title="No transcript yet">Choose a recording and press Transcribe.</${Empty}>`}
    </div>
  </div>`;
}
