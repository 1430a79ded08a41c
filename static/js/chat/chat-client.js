// Sends a request for a conversation and tells its progress; measures what a person would notice.

import { postJson } from "../shared/api.js";
import { mergeUsage, readFrame } from "./dialects.js";

const header = (response, name) => {
  const value = response.headers.get(name);
  return value === null ? undefined : Number(value);
};

/** Send *body* and call *onPiece* with each piece of the answer.
 *
 * Resolves to {queueMs, loadMs, firstMs, totalMs, usage, speed}; speed counts from the first token
 * on. Raises ApiError, AbortError, or Error with what the stream said.
 */
export async function ask({ dialect, path, body, signal, onPiece = () => {} }) {
  const began = performance.now();
  const result = { usage: {}, firstMs: undefined };
  const response = await postJson(path ?? dialect.path, body, { signal });
  result.queueMs = header(response, "X-Queue-Ms");
  result.loadMs = header(response, "X-Load-Ms");
  let pieces = 0;
  const take = (piece) => {
    if (!piece) return;
    if (piece.error) throw new Error(piece.error);
    if (piece.text || piece.reasoning) {
      result.firstMs ??= performance.now() - began;
      pieces += 1;
    }
    mergeUsage(result.usage, piece.usage);
    onPiece(piece);
  };
  if (/event-stream/.test(response.headers.get("Content-Type") ?? "")) {
    for await (const frame of events(response)) take(readFrame(dialect, frame));
  } else {
    take(dialect.piece(await response.json()));
  }
  result.totalMs = performance.now() - began;
  result.speed = speedOf(result, pieces);
  return result;
}

/** Tokens per second of the generation; pieces stand for tokens when nobody counted. */
function speedOf({ usage, firstMs, totalMs }, pieces) {
  const number = usage.output ?? pieces;
  const windowMs = totalMs - (firstMs ?? 0);
  return number > 1 && windowMs > 10 ? ((number - 1) / windowMs) * 1000 : undefined;
}

// --- server-sent events, from a response or from a captured body

/** Yield {event, data} of each frame in *response* as it arrives. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const splitter = new Splitter();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    yield* splitter.push(value);
  }
  yield* splitter.end();
}

/** All frames of a text that is complete. */
export function eventsOf(text) {
  const splitter = new Splitter();
  return [...splitter.push(text), ...splitter.end()];
}

class Splitter {
  #rest = "";

  *push(text) {
    const frames = (this.#rest + text).replaceAll("\r\n", "\n").split("\n\n");
    this.#rest = frames.pop();
    for (const frame of frames) yield* parse(frame);
  }

  *end() {
    yield* parse(this.#rest);
    this.#rest = "";
  }
}

function* parse(frame) {
  let event = "message";
  const data = [];
  for (const line of frame.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue; // a comment, or nothing
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (line.slice(0, colon) === "data") data.push(value);
    if (line.slice(0, colon) === "event") event = value;
  }
  if (data.length) yield { event, data: data.join("\n") };
}
