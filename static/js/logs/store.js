// Logs: their last lines, and the streams that bring new ones while a page shows them.

import { signal, useEffect } from "../shared/html.js";
import { modelPath, request } from "../shared/api.js";
import { readEvents } from "../shared/sse.js";
import { throttle } from "../shared/timing.js";

const MAX_LINES = 20000;
const MAX_LINE_CHARS = 4000;
const EVERY_MS = 200;

/** The last lines of a log, numbered from *first*; *version* grows at most five times a second. */
export class LineBuffer {
  constructor() {
    this.lines = [];
    this.first = 0;
    this.dropped = 0;
    this.position = ""; // where the server's stream goes on
    this.open = false; // whether the last line is incomplete
    this.generation = 0; // grows with each clear()
    this.version = signal(0);
    this.changed = throttle(EVERY_MS, () => { this.version.value += 1; });
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

const RETRY_MS = 2000;

/** Append a log, *name* is "proxy", "upstream" or a model, until the returned function is called.
 *
 * A later call goes on where the last one ended.
 */
export function followLog(name, buffer) {
  const control = new AbortController();
  const follow = async () => {
    while (!control.signal.aborted) {
      try {
        await readInto(buffer, `/logs/stream/${modelPath(name)}?format=sse`, control.signal);
      } catch (error) {
        if (error.name !== "AbortError") console.info(`log of ${name}: ${error.message}`);
      }
      if (control.signal.aborted) return;
      await new Promise((resolve) => { setTimeout(resolve, RETRY_MS); });
    }
  };
  follow();
  return () => control.abort();
}

async function readInto(buffer, path, signal) {
  const response = await request(path, { signal, headers: buffer.position ? { "Last-Event-ID": buffer.position } : {} });
  for await (const { id, data } of readEvents(response)) {
    if (Number(id) < Number(buffer.position)) buffer.clear(); // the server was restarted
    buffer.position = id;
    buffer.append(`${data}\n`);
  }
}

/** Follow *logs* while *active*. */
export function useLogs(active, names) {
  useEffect(() => {
    if (!active) return undefined;
    const ends = names.map((name) => followLog(name, logs[name]));
    return () => ends.forEach((end) => end());
  }, [active, names.join()]);
}
