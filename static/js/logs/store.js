// Logs: their last lines, and the streams that bring new ones while a page shows them.

import { signal, useEffect } from "../shared/html.js";
import { modelPath, request } from "../shared/api.js";
import { readEvents } from "../shared/sse.js";
import { serverNow, throttle } from "../shared/timing.js";

const MAX_LINES = 20000;
const MAX_LINE_CHARS = 4000;
const EVERY_MS = 250;

/** What a terminal shows of a line: a carriage return begins it anew. One at the end is kept for what follows. */
function overwritten(line) {
  if (!line.includes("\r")) return line;
  const shown = line.split("\r").findLast((part) => part) ?? "";
  return line.endsWith("\r") ? `${shown}\r` : shown;
}

const UNKNOWN = { source: "", at: null };

/** The last lines of a log, numbered from *first*; *version* grows at most four times a second.
 *
 * *origins* has {source, at} of each line: the model that wrote it, and when; null if that is unknown.
 */
export class LineBuffer {
  constructor() {
    this.lines = [];
    this.origins = [];
    this.first = 0;
    this.position = ""; // where the server's stream goes on
    this.open = false; // whether the last line is incomplete
    this.generation = 0; // grows with each clear()
    this.version = signal(0);
    this.changed = throttle(EVERY_MS, () => { this.version.value += 1; });
  }

  /** Add *text*; *marks* [[offset, source, at]] say from where on who wrote it when. */
  append(text, marks = []) {
    if (!text) return;
    const begin = marks[0]?.[0] === 0 ? [] : [[0, UNKNOWN.source, UNKNOWN.at]];
    [...begin, ...marks].forEach(([offset, source, at], index, all) => this.#add(text.slice(offset, all[index + 1]?.[0]), { source, at }));
    this.#trim();
    this.changed();
  }

  #add(text, origin) {
    if (!text) return;
    const parts = text.replaceAll("\r\n", "\n").split("\n");
    if (this.open) this.#extendLast(parts.shift());
    const complete = text.endsWith("\n");
    if (complete && parts.at(-1) === "") parts.pop();
    for (const part of parts) {
      this.lines.push(overwritten(part).slice(0, MAX_LINE_CHARS));
      this.origins.push(origin);
    }
    this.open = !complete;
  }

  #extendLast(more) {
    const last = this.lines.length - 1;
    this.lines[last] = overwritten(this.lines[last] + more).slice(0, MAX_LINE_CHARS);
  }

  #trim() {
    const over = this.lines.length - MAX_LINES;
    // In large batches: dropping line by line would copy the list each time.
    if (over < MAX_LINES / 10) return;
    this.lines = this.lines.slice(over);
    this.origins = this.origins.slice(over);
    this.first += over;
  }

  clear() {
    this.first += this.lines.length;
    this.lines = [];
    this.origins = [];
    this.open = false;
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
        await readInto(buffer, `/logs/stream/${modelPath(name)}?format=json`, control.signal);
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
    // The first piece is output from before.
    const at = buffer.position ? serverNow() : null;
    const { text, marks } = JSON.parse(data);
    buffer.position = id;
    buffer.append(text, marks.length ? marks : [[0, "", at]]);
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
