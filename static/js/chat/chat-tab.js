// Chat with a model, or with two side by side that get the same messages.

import { classes, html, useEffect, useRef, useState } from "../shared/html.js";
import { stored } from "../shared/storage.js";
import { Empty, IconButton, Select, TextField } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { ModelSelect } from "../models/model-select.js";
import { Composer } from "./composer.js";
import { DIALECTS } from "./dialects.js";
import { Message } from "./message.js";
import { Chat } from "./store.js";

const model = stored("playground-selected-model", "");
const otherModel = stored("playground-compare-model", "");
const comparing = stored("playground-compare", false);
const dialect = stored("playground-endpoint", "chat");
const system = stored("playground-system-prompt", "");
const temperature = stored("playground-temperature", 0.7);
const maxTokens = stored("playground-max-tokens", 0);

const first = new Chat("playground-chat");
const second = new Chat("playground-chat-compared");

const settingsFor = (chosen) => ({ dialect: dialect.value, model: chosen, system: system.value, temperature: temperature.value, maxTokens: maxTokens.value });

function Settings() {
  return html`<div class="chat-settings card" role="group" aria-label="Settings of the conversation">
    <div class="field wide"><label class="label" for="system-prompt">System prompt</label>
      <textarea id="system-prompt" class="area" rows="3" value=${system.value} placeholder="How the model should behave" onInput=${(event) => { system.value = event.currentTarget.value; }}></textarea></div>
    <${Select} label="Endpoint" value=${dialect.value} onChange=${(next) => { dialect.value = next; }}>
      ${Object.entries(DIALECTS).map(([id, each]) => html`<option key=${id} value=${id}>${each.title}</option>`)}
    </${Select}>
    <div class="field"><label class="label" for="temperature">Temperature <span class="num">${temperature.value.toFixed(2)}</span></label>
      <input id="temperature" class="range" type="range" min="0" max="2" step="0.05" value=${temperature.value} onInput=${(event) => { temperature.value = Number(event.currentTarget.value); }} /></div>
    <${TextField} label="Max tokens (empty = model default)" type="number" min="0" step="64" value=${maxTokens.value || ""} onInput=${(text) => { maxTokens.value = Math.max(0, Math.floor(Number(text)) || 0); }} />
  </div>`;
}

/** Scrolls to the end as text arrives, unless the user has scrolled up. */
function useFollow(chat) {
  const view = useRef(null);
  const atEnd = useRef(true);
  const last = chat.messages.value.at(-1);
  const mark = `${chat.messages.value.length} ${last?.text.value.length} ${last?.reasoning.value.length} ${last?.status.value}`;
  useEffect(() => {
    if (!atEnd.current) return undefined;
    const toEnd = () => { view.current.scrollTop = view.current.scrollHeight; };
    toEnd();
    // Formatting comes a moment after the text.
    const timer = setTimeout(() => atEnd.current && view.current && toEnd(), 120);
    return () => clearTimeout(timer);
  }, [mark]);
  const onScroll = () => {
    const element = view.current;
    atEnd.current = element.scrollHeight - element.scrollTop - element.clientHeight < 40;
  };
  return { view, onScroll };
}

function Conversation({ chat, chosen, hint }) {
  const { view, onScroll } = useFollow(chat);
  const messages = chat.messages.value;
  return html`<div class="conversation" ref=${view} onScroll=${onScroll} tabindex="0" role="region" aria-label="Conversation ${chosen}">
    <div class="messages">
      ${!messages.length && hint}
      ${messages.map((message, index) => html`<${Message} key=${message.id} message=${message}
        onEdit=${(text) => chat.retry(index, text, settingsFor(chosen))} onRegenerate=${() => chat.retry(index, undefined, settingsFor(chosen))} />`)}
    </div>
  </div>`;
}

const nothingYet = html`<${Empty} icon="chat" title="Talk to a model">Choose a model above and write below. If it is not loaded, your first message loads it.</${Empty}>`;

export function ChatTab() {
  const [showSettings, setShowSettings] = useState(false);
  const chats = comparing.value ? [first, second] : [first];
  const busy = chats.some((chat) => chat.busy.value);
  const empty = chats.every((chat) => !chat.messages.value.length);
  const chosen = [model.value, otherModel.value];
  const ready = chosen[0] !== "" && (!comparing.value || chosen[1] !== "");
  const send = (text, images) => chats.forEach((chat, index) => chat.send(text, images, settingsFor(chosen[index])));
  const each = (action) => () => [first, second].forEach(action);
  return html`<div class=${classes("chat", comparing.value && "two")}>
    <div class="toolbar">
      <div class="model-choice"><${ModelSelect} hideLabel label="Model" value=${model.value} disabled=${busy} onChange=${(next) => { model.value = next; }} /></div>
      ${comparing.value && html`<div class="model-choice"><${ModelSelect} hideLabel label="Second model" value=${otherModel.value} disabled=${busy} onChange=${(next) => { otherModel.value = next; }} /></div>`}
      <${IconButton} icon="compare" kind="" label="Compare two models" pressed=${comparing.value} disabled=${busy} onClick=${() => { comparing.value = !comparing.value; }} />
      <${IconButton} icon="gear" kind="" label="Settings" pressed=${showSettings} onClick=${() => setShowSettings(!showSettings)} />
      <button type="button" class="btn worded" title="New chat" disabled=${empty} onClick=${each((chat) => chat.clear())}><${Icon} name="plus" size="16" /><span class="word">New chat</span></button>
    </div>
    ${showSettings && html`<${Settings} />`}
    <div class=${classes("conversations", comparing.value && "two")}>
      ${chats.map((chat, index) => html`<${Conversation} key=${chat.key} chat=${chat} chosen=${chosen[index]} hint=${index === 0 && nothingYet} />`)}
    </div>
    <${Composer} ready=${ready} busy=${busy} onSend=${send} onStop=${each((chat) => chat.stop())} />
  </div>`;
}
