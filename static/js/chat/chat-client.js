// Sends a chat request, streams the response, and measures its latency and speed.

import { postJson } from "../shared/api.js";
import { readEvents } from "../shared/sse.js";
import { mergeUsage, readFrame } from "./dialects.js";

const header = (response, name) => {
  const value = response.headers.get(name);
  return value === null ? undefined : Number(value);
};

/** Send *body* and call *onDelta* with each delta of the response.
 *
 * Resolves to {queueMs, loadMs, firstMs, totalMs, usage, speed, finish, cut}; speed counts from the
 * first token on, and *cut* says that a stream ended before its response did. Raises ApiError, AbortError, or Error with the message of an error in the stream.
 */
export async function sendChat({ dialect, path, body, signal, onDelta = () => {} }) {
  const began = performance.now();
  const result = { usage: {}, firstMs: undefined, finish: undefined, cut: false };
  const response = await postJson(path ?? dialect.path, body, { signal });
  result.queueMs = header(response, "X-Queue-Ms");
  result.loadMs = header(response, "X-Load-Ms");
  let deltas = 0;
  const add = (delta) => {
    if (!delta) return;
    if (delta.error) throw new Error(delta.error);
    if (delta.text || delta.reasoning || delta.toolCalls?.length) {
      result.firstMs ??= performance.now() - began;
      deltas += 1;
    }
    mergeUsage(result.usage, delta.usage);
    result.finish = delta.finish ?? result.finish;
    onDelta(delta);
  };
  if (/event-stream/.test(response.headers.get("Content-Type") ?? "")) {
    let done = false;
    try {
      for await (const frame of readEvents(response)) {
        done ||= frame.data === "[DONE]";
        add(readFrame(dialect, frame));
      }
    } catch (error) {
      if (!(error instanceof TypeError)) throw error; // TypeError: the connection broke
    }
    result.cut = !done && !result.finish;
  } else {
    add(dialect.delta(await response.json()));
  }
  result.totalMs = performance.now() - began;
  result.speed = speedOf(result, deltas);
  return result;
}

/** Tokens per second of the generation; without usage figures, each delta counts as a token. */
function speedOf({ usage, firstMs, totalMs }, deltas) {
  const number = usage.output ?? deltas;
  const windowMs = totalMs - (firstMs ?? 0);
  return number > 1 && windowMs > 10 ? ((number - 1) / windowMs) * 1000 : undefined;
}
