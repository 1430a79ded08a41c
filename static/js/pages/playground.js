// Try a model: conversation, pictures, speech, transcripts, ranking, load. All tabs stay alive.

import { html, useId } from "../core/html.js";
import { stored } from "../core/storage.js";
import { modelsKnown } from "../store/models.js";
import { Empty, Select, Tabs } from "../components/controls.js";
import { useMedia } from "../components/split.js";
import { ChatTab } from "./playground/chat.js";
import { ImagesTab } from "./playground/images.js";
import { SpeechTab } from "./playground/speech.js";
import { TranscriptionTab } from "./playground/transcription.js";
import { RerankTab } from "./playground/rerank.js";
import { hasModels } from "./playground/modelselect.js";
import { LoadTab } from "./playground/loadtest.js";

const TABS = [
  ["chat", "Chat", ChatTab],
  ["images", "Images", ImagesTab],
  ["speech", "Speech", SpeechTab],
  ["transcription", "Transcription", TranscriptionTab],
  ["rerank", "Rerank", RerankTab],
  ["load", "Load test", LoadTab],
];

const noModels = html`<${Empty} icon="models" title="No models configured">Add a model to the configuration file, and it can be tried here.</${Empty}>`;

const selected = stored("playground-selected-tab", "chat");

export default function PlaygroundPage() {
  const narrow = useMedia("(max-width: 767.98px)");
  const id = useId();
  const shown = TABS.some(([key]) => key === selected.value) ? selected.value : "chat";
  const choose = (next) => { selected.value = next; };
  return html`
    <header class="page-head"><h1>Playground</h1>
      ${narrow
        ? html`<div class="grow"><${Select} label="What to try" hideLabel value=${shown} onChange=${choose}>${TABS.map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}</${Select}></div>`
        : html`<${Tabs} label="What to try" value=${shown} options=${TABS} onChange=${choose} panelId=${id} />`}
    </header>
    ${TABS.map(([key, text, Tab]) => html`<div key=${key} class="page-fill" id=${key === shown ? id : undefined} role="tabpanel" aria-label=${text} hidden=${key !== shown} data-tab=${key}>${modelsKnown.value && !hasModels() ? noModels : html`<${Tab} />`}</div>`)}`;
}
