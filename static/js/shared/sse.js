// Server-sent events read with fetch, which can send headers and start in the middle.

/** Yield {event, id, data} of each frame in *response* as it arrives. */
export async function* readEvents(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const splitter = new FrameSplitter();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    yield* splitter.push(value);
  }
  yield* splitter.end();
}

/** All frames of a text that is complete. */
export function parseEvents(text) {
  const splitter = new FrameSplitter();
  return [...splitter.push(text), ...splitter.end()];
}

class FrameSplitter {
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
  const found = { event: "message", id: "" };
  const data = [];
  for (const line of frame.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue; // a comment, or nothing
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (name === "data") data.push(value);
    if (name in found) found[name] = value;
  }
  if (data.length) yield { ...found, data: data.join("\n") };
}
