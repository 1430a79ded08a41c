// The playground: chat, images, speech, transcription, ranking, load test. All tabs stay mounted.

import { html, useId } from "../shared/html.js";
import { parametersOf, setParameters } from "../shared/router.js";
import { stored } from "../shared/storage.js";
import { useMedia } from "../shared/dom-utils.js";
import { Empty, Select, Tabs } from "../shared/controls.js";
import { ChatTab } from "../chat/chat-tab.js";
import { hasModels } from "../models/model-select.js";
import { modelsKnown } from "../models/store.js";
import { ImagesTab } from "./images.js";
import { LoadTab } from "./load-test.js";
import { RerankTab } from "./rerank.js";
import { SpeechTab } from "./speech.js";
import { TranscriptionTab } from "./transcription.js";

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
  const wanted = parametersOf("playground").tab || selected.value;
  const shown = TABS.some(([key]) => key === wanted) ? wanted : "chat";
  const choose = (next) => {
    selected.value = next;
    setParameters("playground", { tab: next });
  };
  return html`
    <header class="page-head"><h1>Playground</h1>
      ${narrow
        ? html`<div class="grow"><${Select} label="What to try" hideLabel value=${shown} onChange=${choose}>${TABS.map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}</${Select}></div>`
        : html`<${Tabs} label="What to try" value=${shown} options=${TABS} onChange=${choose} panelId=${id} />`}
    </header>
    ${TABS.map(([key, text, Tab]) => html`<div key=${key} class="page-fill" id=${key === shown ? id : undefined} role="tabpanel" aria-label=${text} hidden=${key !== shown} data-tab=${key}>${modelsKnown.value && !hasModels() ? noModels : html`<${Tab} />`}</div>`)}`;
}
