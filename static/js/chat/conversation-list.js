// The list of conversations, with a search over their texts.

import { html, useMemo, useState } from "../shared/html.js";
import { now } from "../shared/timing.js";
import { ago, dateTime } from "../shared/format.js";
import { IconButton } from "../shared/controls.js";
import { Dialog } from "../shared/dialog.js";
import { conversations, currentId, deleteConversation, findConversations, openConversation } from "./conversations.js";

export function ConversationList({ onClose }) {
  const [text, setText] = useState("");
  const all = conversations.value;
  const found = useMemo(() => findConversations(text), [text, all]);
  const choose = (id) => {
    openConversation(id);
    onClose();
  };
  return html`<${Dialog} title="Conversations" onClose=${onClose}>
    <input class="input" type="search" aria-label="Search conversations" placeholder="Search titles and texts" autofocus value=${text} onInput=${(event) => setText(event.currentTarget.value)} />
    <ul class="conversation-list">${found.map(({ id, title, at }) => html`<li key=${id}>
      <button type="button" class="link-button grow clip" aria-current=${id === currentId.value ? "true" : undefined} onClick=${() => choose(id)}>${title}</button>
      <span class="tiny faint nowrap" title=${dateTime(at)}>${ago(at, now.value)}</span>
      <${IconButton} icon="trash" small label="Delete ${title}" onClick=${() => deleteConversation(id)} /></li>`)}</ul>
    ${!found.length && html`<p class="muted">${all.length ? "No conversation contains this." : "No conversations are kept."}</p>`}
  </${Dialog}>`;
}
