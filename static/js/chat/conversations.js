// The conversations that are kept: which there are, which one is open, and how to find one.

import { computed } from "../shared/html.js";
import { readStored, removeStored, stored, writeStored } from "../shared/storage.js";
import { showToast } from "../shared/toasts.js";
import { download } from "../shared/dom-utils.js";
import { Chat, message, plain } from "./store.js";

const KEPT = 100;
const TITLE_CHARS = 60;
const MESSAGES = "playground-chat-";

/** {id, title, at} of each conversation with messages, the newest first; *at* is Unix ms. */
const index = stored("playground-chats", []);
const openId = stored("playground-open-chat", "");

const chats = new Map();

const newId = () => Date.now().toString(36) + Math.random().toString(36).slice(2, 6);

function chatOf(id) {
  if (!chats.has(id)) chats.set(id, new Chat(MESSAGES + id, (list) => note(id, list)));
  return chats.get(id);
}

/** Keep title and time of a conversation current, and the number of conversations bounded. */
function note(id, list) {
  const others = index.peek().filter((each) => each.id !== id);
  if (!list.length) {
    index.value = others;
    return;
  }
  const first = list.find((each) => each.role === "user")?.text.peek().trim() || "Images";
  const all = [{ id, title: first.slice(0, TITLE_CHARS), at: Date.now() }, ...others];
  all.slice(KEPT).forEach((each) => forget(each.id));
  index.value = all.slice(0, KEPT);
}

function forget(id) {
  removeStored(MESSAGES + id);
  chats.delete(id);
}

/** The one conversation of earlier versions becomes the first of many. */
function takeOver() {
  const old = readStored("playground-chat", []);
  removeStored("playground-chat");
  if (!old.length) return;
  const id = newId();
  writeStored(MESSAGES + id, old);
  note(id, old.map((kept) => message(kept.role, kept)));
  openId.value = id;
}

takeOver();
if (!openId.peek()) openId.value = newId();

export const conversations = computed(() => index.value);
export const currentId = computed(() => openId.value);
export const currentChat = computed(() => chatOf(openId.value));

export function openConversation(id) {
  openId.value = id;
}

export function newConversation() {
  openId.value = newId();
}

/** Delete a conversation; a toast brings it back. */
export function deleteConversation(id) {
  const chat = chatOf(id);
  chat.stop();
  const entry = index.peek().find((each) => each.id === id);
  const kept = chat.messages.peek().map(plain);
  index.value = index.peek().filter((each) => each.id !== id);
  forget(id);
  if (openId.peek() === id) newConversation();
  showToast(`Deleted: ${entry.title}`, "info", ["Undo", () => {
    writeStored(MESSAGES + id, kept);
    index.value = [entry, ...index.peek()].sort((a, b) => b.at - a.at);
    openConversation(id);
  }]);
}

/** Open a copy of the messages up to the one at *end*, to go on from there in another way. */
export function branchAt(end) {
  const kept = currentChat.peek().messages.peek().slice(0, end + 1).map(plain);
  const id = newId();
  writeStored(MESSAGES + id, kept);
  openConversation(id);
  note(id, currentChat.peek().messages.peek());
}

/** Save the open conversation as Markdown. */
export function exportConversation() {
  const who = { user: () => "You", assistant: (each) => each.model || "Answer", tool: (each) => `Result of ${each.name}` };
  const parts = currentChat.peek().messages.peek().map((each) => `## ${who[each.role](each)}\n\n${each.text.peek()}\n`);
  download("conversation.md", parts.join("\n"), "text/markdown");
}

/** Ids of the conversations whose title or texts contain *text*. */
export function findConversations(text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return index.value;
  const says = (id) => readStored(MESSAGES + id, []).some((each) => each.text.toLowerCase().includes(wanted));
  return index.value.filter((each) => each.title.toLowerCase().includes(wanted) || says(each.id));
}
