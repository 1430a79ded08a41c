// The composer: text, images, send or stop.

import { classes, html, useEffect, useRef, useState } from "../shared/html.js";
import { storedDebounced } from "../shared/storage.js";
import { IconButton } from "../shared/controls.js";
import { TextDialog } from "../shared/dialog.js";
import { Icon } from "../shared/icons.js";

const MAX_IMAGES = 5;
const MAX_IMAGE_BYTES = 20 * 1024 * 1024;
const TYPES = ["image/jpeg", "image/png", "image/gif", "image/webp"];

const draft = storedDebounced("playground-draft", "");

const readFile = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result);
  reader.onerror = () => reject(reader.error);
  reader.readAsDataURL(file);
});

/** Return [images as data URLs, a message about the files refused]. */
async function readImages(files, room) {
  const refused = [];
  const good = [];
  for (const file of files) {
    if (!TYPES.includes(file.type)) refused.push(`${file.name} is not a JPEG, PNG, GIF or WebP image`);
    else if (file.size > MAX_IMAGE_BYTES) refused.push(`${file.name} is larger than 20 MiB`);
    else if (good.length >= room) refused.push(`${file.name} exceeds the limit of ${MAX_IMAGES} images`);
    else good.push(file);
  }
  return [await Promise.all(good.map(readFile)), refused.join("; ")];
}

/** A text area that grows with its text. */
function useGrowing(text) {
  const area = useRef(null);
  useEffect(() => {
    const element = area.current;
    if (!element) return;
    element.style.height = "auto";
    // A hidden tab has no height to measure; the minimum of the style sheet holds then.
    if (element.scrollHeight) element.style.height = `${Math.min(element.scrollHeight, 260)}px`;
  }, [text]);
  return area;
}

/** *ready*: a model is chosen. *onSend* gets text and images. */
export function Composer({ ready, busy, onSend, onStop }) {
  const [images, setImages] = useState([]);
  const [problem, setProblem] = useState("");
  const [big, setBig] = useState(false);
  const picker = useRef(null);
  const text = draft.value;
  const area = useGrowing(text);
  const canSend = ready && !busy && (text.trim() !== "" || images.length > 0);
  const addFiles = async (files) => {
    const [read, refused] = await readImages(files, MAX_IMAGES - images.length);
    setImages([...images, ...read]);
    setProblem(refused);
  };
  const send = () => {
    if (!canSend) return;
    onSend(text, images);
    draft.value = "";
    setImages([]);
    setProblem("");
  };
  const onKeyDown = (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  };
  const onPaste = (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) addFiles(files);
  };
  const [over, setOver] = useState(false);
  const onDrop = (event) => {
    event.preventDefault();
    setOver(false);
    if (ready && event.dataTransfer.files.length) addFiles([...event.dataTransfer.files]);
  };
  const onDragOver = (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    setOver(true);
  };
  return html`<div class=${classes("composer card", over && "over")} onDrop=${onDrop} onDragOver=${onDragOver} onDragLeave=${() => setOver(false)}>
    ${problem && html`<p class="small composer-problem" role="alert">${problem}.</p>`}
    ${images.length > 0 && html`<div class="message-images">${images.map((source, index) => html`<span key=${index} class="thumb"><img src=${source} alt="Attached image ${index + 1}" />
      <button type="button" class="thumb-remove" aria-label="Remove image ${index + 1}" onClick=${() => setImages(images.filter((_, other) => other !== index))}><${Icon} name="close" size="12" /></button></span>`)}</div>`}
    <textarea ref=${area} class="composer-text" rows="1" aria-label="Message" placeholder=${ready ? "Ask something. Enter sends, Shift+Enter starts a new line." : "Choose a model first"}
      value=${text} disabled=${!ready} onInput=${(event) => { draft.value = event.currentTarget.value; }} onKeyDown=${onKeyDown} onPaste=${onPaste}></textarea>
    <div class="composer-tools">
      <${IconButton} icon="clip" label="Attach images" disabled=${!ready || images.length >= MAX_IMAGES} onClick=${() => picker.current.click()} />
      <input ref=${picker} type="file" accept=${TYPES.join(",")} multiple hidden aria-label="Images to attach" onChange=${(event) => { addFiles([...event.currentTarget.files]); event.currentTarget.value = ""; }} />
      <${IconButton} icon="expand" label="Write in a larger field" disabled=${!ready} onClick=${() => setBig(true)} />
      <span class="grow"></span>
      ${busy
        ? html`<button type="button" class="btn" onClick=${onStop}><${Icon} name="stop" size="16" />Stop</button>`
        : html`<button type="button" class="btn primary" disabled=${!canSend} onClick=${send}><${Icon} name="send" size="16" />Send</button>`}
    </div>
    ${big && html`<${TextDialog} title="Edit message" label="Message" text=${text} onDone=${(next) => { draft.value = next; setBig(false); }} onClose=${() => setBig(false)} />`}
  </div>`;
}
