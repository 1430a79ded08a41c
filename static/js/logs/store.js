// Logs: those of llmsnap and of all models from the event stream, that of one model from its own stream.

import { signal } from "../shared/html.js";
import { modelPath, request } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { perFrame } from "../shared/timing.js";

const MAX_LINES = 20000;
const MAX_LINE_CHARS = 4000;

/** The last lines of a log, numbered from *first*; *version* grows at most once per frame. */
export class LineBuffer {
  constructor() {
    this.lines = [];
    this.first = 0;
    this.dropped = 0;
    this.open = false; // whether the last line is incomplete
    this.generation = 0; // grows with each clear()
    this.version = signal(0);
    this.changed = perFrame(() => { this.version.value += 1; });
  }

  append(text) {
    if (!text) return;
    const parts = text.replaceAll("\r\n", "\n").split("\n");
    if (this.open) this.#extendLast(parts.shift());
    const complete = text.endsWith("\n");
    if (complete && parts.at(-1) === "") parts.pop();
    for (const part of parts) this.lines.push(part.slice(0, MAX_LINE_CHARS));
    this.open = !complete;
    this.#trim();
    this.changed();
  }

  #extendLast(more) {
    const last = this.lines.length - 1;
    this.lines[last] = (this.lines[last] + more).slice(0, MAX_LINE_CHARS);
  }

  #trim() {
    const over = this.lines.length - MAX_LINES;
    // In large batches: dropping line by line would copy the list each time.
    if (over < MAX_LINES / 10) return;
    this.lines = this.lines.slice(over);
    this.first += over;
    this.dropped += over;
  }

  clear() {
    this.first += this.lines.length;
    this.lines = [];
    this.open = false;
    this.dropped = 0;
    this.generation += 1;
    this.changed();
  }

  text() {
    return this.lines.join("\n");
  }
}

export const logs = { proxy: new LineBuffer(), upstream: new LineBuffer() };

export function startLogs() {
  // A new connection sends the whole history.
  subscribe("open", () => Object.values(logs).forEach((buffer) => buffer.clear()));
  subscribe("logData", ({ source, data }) => logs[source]?.append(data));
}

const RETRY_MS = 2000;

/** Follow the log of one model until the returned function is called. */
export function followModel(id, buffer) {
  const control = new AbortController();
  const follow = async () => {
    while (!control.signal.aborted) {
      buffer.clear();
      try {
        await readInto(buffer, `/logs/stream/${modelPath(id)}`, control.signal);
      } catch (error) {
        if (error.name !== "AbortError") console.info(`log of ${id}: ${error.message}`);
      }
      if (control.signal.aborted) return;
      await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
    }
  };
  follow();
  return () => control.abort();
}

async function readInto(buffer, path, signal) {
  const response = await request(path, { signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    buffer.append(value);
  }
}
