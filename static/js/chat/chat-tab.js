// Chat with a model, or with two side by side that get the same messages.

import { classes, html, useEffect, useLayoutEffect, useRef, useState } from "../shared/html.js";
import { stored } from "../shared/storage.js";
import { Empty, IconButton } from "../shared/controls.js";
import { Icon } from "../shared/icons.js";
import { ModelSelect } from "../models/model-select.js";
import { chatModel as model } from "./choice.js";
import { Composer } from "./composer.js";
import { branchAt, conversations, currentChat, exportConversation, newConversation } from "./conversations.js";
import { ConversationList } from "./conversation-list.js";
import { Message } from "./message.js";
import { Parameters, requestSettings } from "./parameters.js";
import { Chat } from "./store.js";

const otherModel = stored("playground-compare-model", "");
const comparing = stored("playground-compare", false);

const second = new Chat("playground-chat-compared");

const settingsFor = (chosen) => ({ ...requestSettings(), model: chosen });

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

function Conversation({ chat, chosen, hint, onBranch }) {
  const { view, content, following, follow, onScroll } = useFollow();
  const messages = chat.messages.value;
  // A message sent, now or before a reload, is what the user wants to see the answer to.
  useLayoutEffect(follow, [messages.length]);
  return html`<div class="conversation-frame"><div class="conversation" ref=${view} onScroll=${onScroll} tabindex="0" role="region" aria-label="Conversation ${chosen}">
    <div class="messages" ref=${content}>
      ${!messages.length && hint}
      ${messages.map((message, index) => html`<${Message} key=${message.id} message=${message} last=${index === messages.length - 1}
        onResults=${(results) => chat.sendResults(results, settingsFor(chosen))} onContinue=${() => chat.send("Continue", [], settingsFor(chosen))}
        onEdit=${(text) => chat.retry(index, text, settingsFor(chosen))} onRegenerate=${() => chat.retry(index, undefined, settingsFor(chosen))} onBranch=${onBranch && (() => onBranch(index))} />`)}
    </div>
  </div>
  ${!following && html`<button type="button" class="btn small to-end" onClick=${follow}><${Icon} name="end" size="14" />Latest</button>`}</div>`;
}

const nothingYet = html`<${Empty} icon="chat" title="Talk to a model">Choose a model above and write below. If it is not loaded, your first message loads it.</${Empty}>`;

export function ChatTab() {
  const [showSettings, setShowSettings] = useState(false);
  const [showList, setShowList] = useState(false);
  const first = currentChat.value;
  const chats = comparing.value ? [first, second] : [first];
  const busy = chats.some((chat) => chat.busy.value);
  const empty = chats.every((chat) => !chat.messages.value.length);
  const chosen = [model.value, otherModel.value];
  const ready = chosen[0] !== "" && (!comparing.value || chosen[1] !== "");
  const send = (text, images) => chats.forEach((chat, index) => chat.send(text, images, settingsFor(chosen[index])));
  const begin = () => {
    newConversation();
    second.clear();
  };
  return html`<div class=${classes("chat", comparing.value && "two")}>
    <div class="toolbar">
      <div class="model-choice"><${ModelSelect} hideLabel label="Model" value=${model.value} disabled=${busy} onChange=${(next) => { model.value = next; }} /></div>
      ${comparing.value && html`<div class="model-choice"><${ModelSelect} hideLabel label="Second model" value=${otherModel.value} disabled=${busy} onChange=${(next) => { otherModel.value = next; }} /></div>`}
      <${IconButton} icon="compare" kind="" label="Compare two models" pressed=${comparing.value} disabled=${busy} onClick=${() => { comparing.value = !comparing.value; }} />
      <${IconButton} icon="gear" kind="" label="Settings" pressed=${showSettings} onClick=${() => setShowSettings(!showSettings)} />
      <${IconButton} icon="list" kind="" label="Conversations" disabled=${!conversations.value.length} onClick=${() => setShowList(true)} />
      <${IconButton} icon="download" kind="wide-only" label="Save the conversation" disabled=${!first.messages.value.length} onClick=${exportConversation} />
      <button type="button" class="btn worded" title="New chat" disabled=${empty} onClick=${begin}><${Icon} name="plus" size="16" /><span class="word">New chat</span></button>
    </div>
    ${showSettings && html`<${Parameters} />`}
    ${showList && html`<${ConversationList} onClose=${() => setShowList(false)} />`}
    <div class=${classes("conversations", comparing.value && "two")}>
      ${chats.map((chat, index) => html`<${Conversation} key=${chat.key} chat=${chat} chosen=${chosen[index]} hint=${index === 0 && nothingYet} onBranch=${index === 0 && branchAt} />`)}
    </div>
    <${Composer} ready=${ready} busy=${busy} onSend=${send} onStop=${() => chats.forEach((chat) => chat.stop())} />
  </div>`;
}
