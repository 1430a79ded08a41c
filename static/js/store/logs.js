// The log of llmsnap itself and that of all models, as they come over the event stream, and the log
// of one model, which has a stream of its own.

import { subscribe } from "../core/events.js";
import { modelPath, request } from "../core/api.js";
import { LineBuffer } from "../core/lines.js";

export const logs = { proxy: new LineBuffer(), upstream: new LineBuffer() };

export function startLogs() {
  // A new connection begins with the whole history.
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
