// Conversations. They outlive the page, so that a response goes on streaming while another page is
// open; their messages survive a reload.

import { signal } from "../shared/html.js";
import { readStored, writeStored } from "../shared/storage.js";
import { perFrame } from "../shared/timing.js";
import { sendChat } from "./chat-client.js";
import { DIALECTS } from "./dialects.js";

const KEPT_IMAGE_CHARS = 1_000_000;
let serial = 0;

/** A message whose parts change while it is streamed. *status*: done, streaming, stopped, error. */
function message(role, { text = "", images = [], reasoning = "", status = "done", stats = null, error = "", reasoningMs = 0 } = {}) {
  return { id: ++serial, role, images, text: signal(text), reasoning: signal(reasoning), status: signal(status), stats: signal(stats), error: signal(error), reasoningMs: signal(reasoningMs) };
}

const plain = (each) => ({
  role: each.role,
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

  constructor(key) {
    this.key = key;
    this.messages = signal(readStored(key, []).map((kept) => message(kept.role, kept)));
    this.busy = signal(false);
    addEventListener("pagehide", () => this.keep());
  }

  keep() {
    writeStored(this.key, this.messages.peek().map(plain));
  }

  /** Send *text* and stream the response. */
  send(text, images, settings) {
    this.messages.value = [...this.messages.peek(), message("user", { text, images })];
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
  async answer({ dialect, model, system, temperature, maxTokens }) {
    const history = this.messages.peek().filter((each) => !each.error.peek()).map((each) => ({ role: each.role, text: each.text.peek(), images: each.images }));
    const reply = message("assistant", { status: "streaming" });
    this.messages.value = [...this.messages.peek(), reply];
    const control = new AbortController();
    this.#control = control;
    this.busy.value = true;
    const writer = new DeltaBuffer(reply);
    try {
      const kind = DIALECTS[dialect] ?? DIALECTS.chat;
      const body = kind.body({ model, messages: history, system: system.trim(), temperature, maxTokens });
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

/** Collects deltas and renders them once per frame. */
class DeltaBuffer {
  constructor(reply) {
    this.reply = reply;
    this.text = "";
    this.reasoning = "";
    this.thinkingSince = 0;
    this.show = perFrame(() => this.flush());
  }

  add({ text, reasoning }) {
    if (reasoning) {
      this.thinkingSince ||= performance.now();
      this.reasoning += reasoning;
    }
    if (text) {
      this.#endThinking();
      this.text += text;
    }
    this.show();
  }

  #endThinking() {
    if (this.thinkingSince && !this.reply.reasoningMs.peek()) this.reply.reasoningMs.value = performance.now() - this.thinkingSince;
  }

  flush() {
    this.reply.text.value = this.text;
    this.reply.reasoning.value = this.reasoning;
    if (this.reply.status.peek() !== "streaming") this.#endThinking();
  }
}
