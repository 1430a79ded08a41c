// The three chat APIs: how each takes a conversation, and how it streams its response.
//
// A conversation here is {model, messages, system, temperature, maxTokens}; a message is
// {role, text, images} with images as data URLs. A delta of a response is {text, reasoning, usage,
// error}, each undefined where the API sent nothing.

const DEFAULT_MAX_TOKENS = 4096;

const dataUrl = (url) => {
  const [, type, data] = /^data:([^;,]+);base64,(.*)$/s.exec(url) ?? [];
  return { type, data };
};

const tokens = (input, output) => ({ input: input ?? undefined, output: output ?? undefined });
const errorOf = (data) => data.error && (data.error.message ?? String(data.error));

const chat = {
  title: "Chat completions",
  path: "/v1/chat/completions",
  body({ model, messages, system, temperature, maxTokens }) {
    const content = ({ text, images }) => (images?.length ? [{ type: "text", text }, ...images.map((url) => ({ type: "image_url", image_url: { url } }))] : text);
    const list = messages.map((message) => ({ role: message.role, content: content(message) }));
    if (system) list.unshift({ role: "system", content: system });
    return { model, messages: list, stream: true, stream_options: { include_usage: true }, temperature, ...(maxTokens ? { max_tokens: maxTokens } : {}) };
  },
  delta(data) {
    const choice = data.choices?.[0];
    const part = choice?.delta ?? choice?.message ?? {};
    const text = part.content ?? choice?.text;
    return {
      text: typeof text === "string" ? text : undefined,
      reasoning: part.reasoning_content ?? part.reasoning,
      usage: data.usage ? tokens(data.usage.prompt_tokens, data.usage.completion_tokens) : data.timings && tokens(data.timings.prompt_n, data.timings.predicted_n),
      error: errorOf(data),
    };
  },
};

const responses = {
  title: "Responses",
  path: "/v1/responses",
  body({ model, messages, system, temperature, maxTokens }) {
    const parts = ({ role, text, images }) => [{ type: role === "assistant" ? "output_text" : "input_text", text }, ...(images ?? []).map((url) => ({ type: "input_image", image_url: url }))];
    const input = messages.map((message) => ({ role: message.role, content: parts(message) }));
    return { model, input, stream: true, temperature, ...(system ? { instructions: system } : {}), ...(maxTokens ? { max_output_tokens: maxTokens } : {}) };
  },
  delta(data) {
    const usage = data.response?.usage ?? (data.object === "response" ? data.usage : undefined);
    const whole = data.object === "response" ? (data.output ?? []).flatMap((item) => item.content ?? []).map((part) => part.text ?? "").join("") : undefined;
    return {
      text: data.type === "response.output_text.delta" ? data.delta : whole || undefined,
      reasoning: /^response\.reasoning(_summary)?_text\.delta$/.test(data.type) ? data.delta : undefined,
      usage: usage && tokens(usage.input_tokens, usage.output_tokens),
      error: data.type === "error" ? (data.message ?? errorOf(data)) : (data.response?.error?.message ?? (data.type ? undefined : errorOf(data))),
    };
  },
};

const messages = {
  title: "Anthropic messages",
  path: "/v1/messages",
  body({ model, messages: list, system, temperature, maxTokens }) {
    const image = (url) => {
      const { type, data } = dataUrl(url);
      return { type: "image", source: { type: "base64", media_type: type, data } };
    };
    const content = ({ text, images }) => (images?.length ? [...images.map(image), { type: "text", text }] : text);
    const sent = list.map((message) => ({ role: message.role, content: content(message) }));
    return { model, messages: sent, max_tokens: maxTokens || DEFAULT_MAX_TOKENS, stream: true, temperature, ...(system ? { system } : {}) };
  },
  delta(data) {
    const usage = data.message?.usage ?? data.usage;
    const whole = data.type === "message" ? (data.content ?? []).filter((part) => part.type === "text").map((part) => part.text).join("") : undefined;
    return {
      text: data.delta?.type === "text_delta" ? data.delta.text : whole || undefined,
      reasoning: data.delta?.type === "thinking_delta" ? data.delta.thinking : undefined,
      usage: usage && tokens(usage.input_tokens, usage.output_tokens),
      error: data.type === "error" ? errorOf(data) : undefined,
    };
  },
};

export const DIALECTS = { chat, responses, messages };

/** The dialect of a path; chat completions for an unknown one. */
export function dialectOf(path) {
  const plain = path.split("?")[0];
  return Object.values(DIALECTS).find((dialect) => plain.endsWith(dialect.path)) ?? chat;
}

/** The delta in a frame of the stream, or null. */
export function readFrame(dialect, { data }) {
  if (data === "[DONE]") return null;
  try {
    return dialect.delta(JSON.parse(data));
  } catch {
    return null;
  }
}

/** Join the deltas of all frames: {text, reasoning, usage, error}. */
export function assemble(dialect, frames) {
  const whole = { text: "", reasoning: "", usage: {}, error: "" };
  for (const frame of frames) {
    const delta = readFrame(dialect, frame);
    if (!delta) continue;
    whole.text += delta.text ?? "";
    whole.reasoning += delta.reasoning ?? "";
    mergeUsage(whole.usage, delta.usage);
    whole.error ||= delta.error ?? "";
  }
  return whole;
}

/** Copy the known figures of *more* into *usage*. */
export function mergeUsage(usage, more) {
  for (const [key, value] of Object.entries(more ?? {})) if (value !== undefined) usage[key] = value;
}
