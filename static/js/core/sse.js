// Server-sent events out of a fetched answer or a captured body.

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
