// Chat with a model, or with two side by side that get the same messages.

import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "../shared/html.js";
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

const NEAR_END_PX = 40;

/** Keeps a view at the end while its content grows, until the user scrolls up; *follow* resumes. */
function useFollow() {
  const view = useRef(null);
  const content = useRef(null);
  const last = useRef({ following: true, top: 0 });
  const [following, setFollowing] = useState(true);
  const set = (on) => {
    last.current.following = on;
    setFollowing(on);
  };
  const toEnd = () => {
    if (!view.current) return; // removed before the observation arrived
    view.current.scrollTop = view.current.scrollHeight;
    last.current.top = view.current.scrollTop;
  };
  const follow = () => {
    set(true);
    toEnd();
  };
  useEffect(() => {
    // Formatting, formulas and images change the height after the text has arrived.
    const observer = new ResizeObserver(() => last.current.following && toEnd());
    observer.observe(view.current);
    observer.observe(content.current);
    return () => observer.disconnect();
  }, []);
  const onScroll = () => {
    if (!view.current?.clientHeight) return; // hidden, or removed before the event arrived
    const { scrollTop, scrollHeight, clientHeight } = view.current;
    const end = scrollHeight - clientHeight;
    if (end - scrollTop < NEAR_END_PX) set(true);
    // Content that shrinks moves the view up as well, but to its end.
    else if (scrollTop < last.current.top) set(false);
    last.current.top = scrollTop;
  };
  return { view, content, following, follow, onScroll };
}

function Conversation({ chat, chosen, hint }) {
  const { view, content, following, follow, onScroll } = useFollow();
  const messages = chat.messages.value;
  // A message sent, now or before a reload, is what the user wants to see the answer to.
  useLayoutEffect(follow, [messages.length]);
  return html`<div class="conversation-frame"><div class="conversation" ref=${view} onScroll=${onScroll} tabindex="0" role="region" aria-label="Conversation ${chosen}">
    <div class="messages" ref=${content}>
      ${!messages.length && hint}
      ${messages.map((message, index) => html`<${Message} key=${message.id} message=${message} last=${index === messages.length - 1}
        onResults=${(results) => chat.sendResults(results, settingsFor(chosen))} onContinue=${() => chat.send("Continue", [], settingsFor(chosen))}
        onEdit=${(text) => chat.retry(index, text, settingsFor(chosen))} onRegenerate=${() => chat.retry(index, undefined, settingsFor(chosen))} />`)}
    </div>
  </div>
  ${!following && html`<button type="button" class="btn small to-end" onClick=${follow}><${Icon} name="end" size="14" />Latest</button>`}</div>`;
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
