// Conversations. They outlive the page, so that a response goes on streaming while another page is
// open; their messages survive a reload.

import { signal } from "../shared/html.js";
import { readStored, removeStored, writeStored } from "../shared/storage.js";
import { perFrame } from "../shared/timing.js";
import { sendChat } from "./chat-client.js";
import { DIALECTS, mergeToolCalls, splitThinking } from "./dialects.js";

const KEPT_IMAGE_CHARS = 1_000_000;
let serial = 0;

/** A message whose parts change while it is streamed. *status*: done, streaming, stopped, error.
 *
 * One with the role "tool" holds the result of the call *toolCallId* of the tool *name*.
 */
export function message(role, { text = "", images = [], model = "", toolCallId = "", name = "", reasoning = "", toolCalls = [], status = "done", stats = null, error = "", reasoningMs = 0 } = {}) {
  return { model, toolCallId, name, toolCalls: signal(toolCalls), id: ++serial, role, images, text: signal(text), reasoning: signal(reasoning), status: signal(status), stats: signal(stats), error: signal(error), reasoningMs: signal(reasoningMs) };
}

/** A message as it is stored. */
export const plain = (each) => ({
  role: each.role,
  model: each.model,
  toolCallId: each.toolCallId,
  name: each.name,
  toolCalls: each.toolCalls.peek(),
  images: each.images.join("").length < KEPT_IMAGE_CHARS ? each.images : [],
  text: each.text.peek(),
  reasoning: each.reasoning.peek(),
  status: each.status.peek() === "streaming" ? "stopped" : each.status.peek(),
  stats: each.stats.peek(),
  error: each.error.peek(),
  reasoningMs: each.reasoningMs.peek(),
});

/** One conversation with one model. */
export class Chat {
  #control = null;

  /** *onKept* is called with the messages whenever they are stored. */
  constructor(key, onKept = () => {}) {
    this.key = key;
    this.onKept = onKept;
    this.messages = signal(readStored(key, []).map((kept) => message(kept.role, kept)));
    this.busy = signal(false);
    addEventListener("pagehide", () => this.busy.peek() && this.keep());
  }

  keep() {
    const list = this.messages.peek();
    if (list.length) writeStored(this.key, list.map(plain));
    else removeStored(this.key);
    this.onKept(list);
  }

  /** Send *text* and stream the response. */
  send(text, images, settings) {
    this.messages.value = [...this.messages.peek(), message("user", { text, images })];
    return this.answer(settings);
  }

  /** Send the results of tool calls, [{id, name, text}], and stream the response. */
  sendResults(results, settings) {
    this.messages.value = [...this.messages.peek(), ...results.map(({ id, name, text }) => message("tool", { toolCallId: id, name, text }))];
    return this.answer(settings);
  }

  /** Remove the messages from *index* on; with *text*, send it in their place. */
  retry(index, text, settings) {
    this.stop();
    const kept = this.messages.peek().slice(0, index);
    const images = this.messages.peek()[index].images;
    this.messages.value = text === undefined ? kept : [...kept, message("user", { text, images })];
    return this.answer(settings);
  }

  stop() {
    this.#control?.abort();
    this.#control = null;
  }

  clear() {
    this.stop();
    this.messages.value = [];
    this.keep();
  }

  /** Stream a response to the messages so far. Never raises: the message shows the error. */
  async answer({ dialect, model, system, parameters }) {
    const history = historyOf(this.messages.peek().filter((each) => !each.error.peek()));
    const reply = message("assistant", { status: "streaming", model });
    this.messages.value = [...this.messages.peek(), reply];
    const control = new AbortController();
    this.#control = control;
    this.busy.value = true;
    this.keep();
    const writer = new DeltaBuffer(reply);
    try {
      const kind = DIALECTS[dialect] ?? DIALECTS.chat;
      const body = kind.body({ model, messages: history, system: system.trim(), parameters });
      const stats = await sendChat({ dialect: kind, body, signal: control.signal, onDelta: (delta) => writer.add(delta) });
      reply.stats.value = { ...stats, model };
      reply.status.value = "done";
    } catch (error) {
      if (error.name !== "AbortError") reply.error.value = error.status ? `${error.status}: ${error.message}` : error.message;
      reply.status.value = error.name === "AbortError" ? "stopped" : "error";
    } finally {
      writer.flush();
      if (this.#control === control || this.#control === null) {
        this.busy.value = false;
        this.#control = null;
      }
      this.keep();
    }
  }
}

/** The messages as a request sends them.
 *
 * Servers refuse calls without a result, so these stay out, and messages of one side in a row, which
 * an answer that failed leaves: these are sent as one.
 */
function historyOf(messages) {
  const answered = new Set(messages.map((each) => each.toolCallId).filter(Boolean));
  const sent = [];
  for (const each of messages) {
    const text = each.text.peek();
    const last = sent.at(-1);
    if (last?.role === "user" && each.role === "user") {
      last.text = [last.text, text].filter(Boolean).join("\n\n");
      last.images = [...last.images, ...each.images];
    } else sent.push({ role: each.role, text, images: each.images, toolCallId: each.toolCallId, toolCalls: each.toolCalls.peek().filter((call) => answered.has(call.id)) });
  }
  return sent;
}

/** Collects deltas and renders them once per frame. */
class DeltaBuffer {
  constructor(reply) {
    this.reply = reply;
    this.text = "";
    this.reasoning = "";
    this.toolCalls = [];
    this.thinkingSince = 0;
    this.show = perFrame(() => this.flush());
  }

  add({ text, reasoning, toolCalls }) {
    this.reasoning += reasoning ?? "";
    this.text += text ?? "";
    if (toolCalls) this.toolCalls = mergeToolCalls(this.toolCalls, toolCalls);
    const split = this.#split();
    if (split.reasoning) this.thinkingSince ||= performance.now();
    if (split.text) this.#endThinking();
    this.show();
  }

  /** Reasoning comes in a field of its own, or in the text between <think> tags. */
  #split() {
    const { text, reasoning } = splitThinking(this.text);
    return { text, reasoning: this.reasoning + reasoning };
  }

  #endThinking() {
    if (this.thinkingSince && !this.reply.reasoningMs.peek()) this.reply.reasoningMs.value = performance.now() - this.thinkingSince;
  }

  flush() {
    const { text, reasoning } = this.#split();
    this.reply.text.value = text;
    this.reply.reasoning.value = reasoning;
    this.reply.toolCalls.value = this.toolCalls;
    if (this.reply.status.peek() !== "streaming") this.#endThinking();
  }
}
