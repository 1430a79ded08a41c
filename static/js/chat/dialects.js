// The three chat APIs: how each takes a conversation, and how it streams its response.
//
// A conversation here is {model, messages, system, parameters}, parameters named as chat completions
// name them, and left out where an API has none like it; a message is
// {role, text, images, toolCalls} with images as data URLs, or {role: "tool", text, toolCallId}. A
// delta of a response is {text, reasoning, toolCalls, finish, usage, error}, each undefined where the
// API sent nothing. Tool calls are {index, id, name, arguments}, arguments in pieces; *finish* says why
// the response ended, "length" at the limit of tokens.

const DEFAULT_MAX_TOKENS = 4096;

const dataUrl = (url) => {
  const [, type, data] = /^data:([^;,]+);base64,(.*)$/s.exec(url) ?? [];
  return { type, data };
};

/** The *parameters* that have a name in *names*, under that name. */
const renamed = (parameters, names) => Object.fromEntries(Object.entries(parameters).filter(([key]) => key in names).map(([key, value]) => [names[key], value]));

const tokens = (input, output) => ({ input: input ?? undefined, output: output ?? undefined });
const errorOf = (data) => data.error && (data.error.message ?? String(data.error));

const chat = {
  title: "Chat completions",
  path: "/v1/chat/completions",
  body({ model, messages, system, parameters = {} }) {
    const content = ({ text, images }) => (images?.length ? [{ type: "text", text }, ...images.map((url) => ({ type: "image_url", image_url: { url } }))] : text);
    const sent = (message) => {
      if (message.role === "tool") return { role: "tool", tool_call_id: message.toolCallId, content: message.text };
      const calls = message.toolCalls?.length ? { tool_calls: message.toolCalls.map(({ id, name, arguments: text }) => ({ id, type: "function", function: { name, arguments: text } })) } : {};
      return { role: message.role, content: content(message), ...calls };
    };
    const list = messages.map(sent);
    if (system) list.unshift({ role: "system", content: system });
    return { model, messages: list, stream: true, stream_options: { include_usage: true }, ...parameters };
  },
  delta(data) {
    const choice = data.choices?.[0];
    const part = choice?.delta ?? choice?.message ?? {};
    const text = part.content ?? choice?.text;
    return {
      text: typeof text === "string" ? text : undefined,
      reasoning: part.reasoning_content ?? part.reasoning,
      toolCalls: part.tool_calls?.map((call, index) => ({ index: call.index ?? index, id: call.id, name: call.function?.name, arguments: call.function?.arguments })),
      finish: choice?.finish_reason ?? undefined,
      usage: data.usage ? tokens(data.usage.prompt_tokens, data.usage.completion_tokens) : data.timings && tokens(data.timings.prompt_n, data.timings.predicted_n),
      error: errorOf(data),
    };
  },
};

/** Tool calls in an event of the Responses API, or in a whole response. */
function callsOfResponse(data) {
  const call = (item, index) => ({ index, id: item.call_id, name: item.name, arguments: item.arguments ?? "" });
  if (data.type === "response.output_item.added" && data.item?.type === "function_call") return [{ ...call(data.item, data.output_index), arguments: "" }];
  if (data.type === "response.function_call_arguments.delta") return [{ index: data.output_index, arguments: data.delta }];
  if (data.object === "response") return (data.output ?? []).map((item, index) => (item.type === "function_call" ? call(item, index) : null)).filter(Boolean);
  return undefined;
}

function finishOfResponse({ status, incomplete_details: incomplete }) {
  if (status === "incomplete") return incomplete?.reason === "max_output_tokens" ? "length" : (incomplete?.reason ?? "incomplete");
  return status === "completed" ? "stop" : undefined;
}

const responses = {
  title: "Responses",
  path: "/v1/responses",
  body({ model, messages, system, parameters = {} }) {
    const parts = ({ role, text, images }) => [{ type: role === "assistant" ? "output_text" : "input_text", text }, ...(images ?? []).map((url) => ({ type: "input_image", image_url: url }))];
    const sent = (message) => {
      if (message.role === "tool") return [{ type: "function_call_output", call_id: message.toolCallId, output: message.text }];
      const calls = (message.toolCalls ?? []).map(({ id, name, arguments: text }) => ({ type: "function_call", call_id: id, name, arguments: text }));
      return [...(message.text || !calls.length ? [{ role: message.role, content: parts(message) }] : []), ...calls];
    };
    const input = messages.flatMap(sent);
    return { model, input, stream: true, ...(system ? { instructions: system } : {}), ...renamed(parameters, { temperature: "temperature", top_p: "top_p", max_tokens: "max_output_tokens" }) };
  },
  delta(data) {
    const usage = data.response?.usage ?? (data.object === "response" ? data.usage : undefined);
    const whole = data.object === "response" ? (data.output ?? []).flatMap((item) => item.content ?? []).map((part) => part.text ?? "").join("") : undefined;
    return {
      text: data.type === "response.output_text.delta" ? data.delta : whole || undefined,
      toolCalls: callsOfResponse(data),
      finish: finishOfResponse(data.response ?? data),
      reasoning: /^response\.reasoning(_summary)?_text\.delta$/.test(data.type) ? data.delta : undefined,
      usage: usage && tokens(usage.input_tokens, usage.output_tokens),
      error: data.type === "error" ? (data.message ?? errorOf(data)) : (data.response?.error?.message ?? (data.type ? undefined : errorOf(data))),
    };
  },
};

const parsed = (text) => {
  try {
    return JSON.parse(text || "{}");
  } catch {
    return {};
  }
};

/** Tool calls in an event of the Messages API, or in a whole message. */
function callsOfMessage(data) {
  if (data.type === "content_block_start" && data.content_block?.type === "tool_use") return [{ index: data.index, id: data.content_block.id, name: data.content_block.name, arguments: "" }];
  if (data.delta?.type === "input_json_delta") return [{ index: data.index, arguments: data.delta.partial_json }];
  if (data.type === "message") return (data.content ?? []).map((part, index) => (part.type === "tool_use" ? { index, id: part.id, name: part.name, arguments: JSON.stringify(part.input) } : null)).filter(Boolean);
  return undefined;
}

const finishOfMessage = (reason) => (reason === "max_tokens" ? "length" : (reason ?? undefined));

const messages = {
  title: "Anthropic messages",
  path: "/v1/messages",
  body({ model, messages: list, system, parameters = {} }) {
    const image = (url) => {
      const { type, data } = dataUrl(url);
      return { type: "image", source: { type: "base64", media_type: type, data } };
    };
    const content = ({ text, images }) => (images?.length ? [...images.map(image), { type: "text", text }] : text);
    const sent = [];
    for (const message of list) {
      const result = { type: "tool_result", tool_use_id: message.toolCallId, content: message.text };
      const calls = (message.toolCalls ?? []).map(({ id, name, arguments: text }) => ({ type: "tool_use", id, name, input: parsed(text) }));
      if (message.role !== "tool") sent.push({ role: message.role, content: calls.length ? [...(message.text ? [{ type: "text", text: message.text }] : []), ...calls] : content(message) });
      // All results of one message go into the next one together.
      else if (list[list.indexOf(message) - 1]?.role === "tool") sent.at(-1).content.push(result);
      else sent.push({ role: "user", content: [result] });
    }
    const named = renamed(parameters, { temperature: "temperature", top_p: "top_p", max_tokens: "max_tokens", stop: "stop_sequences" });
    return { model, messages: sent, max_tokens: DEFAULT_MAX_TOKENS, stream: true, ...named, ...(system ? { system } : {}) };
  },
  delta(data) {
    const usage = data.message?.usage ?? data.usage;
    const whole = data.type === "message" ? (data.content ?? []).filter((part) => part.type === "text").map((part) => part.text).join("") : undefined;
    return {
      text: data.delta?.type === "text_delta" ? data.delta.text : whole || undefined,
      toolCalls: callsOfMessage(data),
      finish: finishOfMessage(data.delta?.stop_reason ?? data.stop_reason),
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

/** Join the deltas of all frames: {text, reasoning, toolCalls, usage, error}. */
export function assemble(dialect, frames) {
  const whole = { text: "", reasoning: "", toolCalls: [], usage: {}, error: "" };
  for (const frame of frames) {
    const delta = readFrame(dialect, frame);
    if (!delta) continue;
    whole.text += delta.text ?? "";
    whole.reasoning += delta.reasoning ?? "";
    mergeUsage(whole.usage, delta.usage);
    whole.toolCalls = mergeToolCalls(whole.toolCalls, delta.toolCalls);
    whole.error ||= delta.error ?? "";
  }
  const { text, reasoning } = splitThinking(whole.text);
  return { ...whole, text, reasoning: whole.reasoning + reasoning };
}

/** Return *calls* with the pieces in *more*: pieces of one call have its index. */
export function mergeToolCalls(calls, more) {
  const merged = new Map(calls.map((call) => [call.index, call]));
  for (const { index, id, name, arguments: text } of more ?? []) {
    const call = merged.get(index) ?? { index, id: "", name: "", arguments: "" };
    merged.set(index, { index, id: call.id || (id ?? ""), name: call.name || (name ?? ""), arguments: call.arguments + (text ?? "") });
  }
  return [...merged.values()];
}

const [THINK, THOUGHT] = ["<think>", "</think>"];

/** Split a text that begins with <think> into {text, reasoning}; an open tag takes all of the rest. */
export function splitThinking(text) {
  const start = text.trimStart();
  if (!start.startsWith("<")) return { text, reasoning: "" };
  if (!start.startsWith(THINK)) return THINK.startsWith(start) ? { text: "", reasoning: "" } : { text, reasoning: "" };
  const end = start.indexOf(THOUGHT);
  if (end < 0) return { text: "", reasoning: start.slice(THINK.length).trimStart() };
  return { text: start.slice(end + THOUGHT.length).trimStart(), reasoning: start.slice(THINK.length, end).trim() };
}

/** Copy the known figures of *more* into *usage*. */
export function mergeUsage(usage, more) {
  for (const [key, value] of Object.entries(more ?? {})) if (value !== undefined) usage[key] = value;
}
