// The official Node SDKs, and Vercel's ai with its provider for compatible servers, with the
// options they come with.

import { readFileSync } from "node:fs";

const messages = [{ role: "user", content: "hello" }];

async function collected(pieces, read) {
  let text = "";
  for await (const piece of pieces) text += read(piece) ?? "";
  return text;
}

async function openai(url, model, stream) {
  const { default: OpenAI } = await import("openai");
  const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "none" });
  const answer = await client.chat.completions.create({ model, messages, stream });
  if (!stream) return answer.choices[0].message.content;
  return collected(answer, (chunk) => chunk.choices[0]?.delta.content);
}

async function anthropic(url, model, stream) {
  const { default: Anthropic } = await import("@anthropic-ai/sdk");
  const client = new Anthropic({ baseURL: url, apiKey: "none" });
  const asked = { model, messages, max_tokens: 4096 };
  if (!stream) return (await client.messages.create(asked)).content[0].text;
  return client.messages.stream(asked).finalText();
}

async function ai(url, model, stream) {
  const { generateText, streamText } = await import("ai");
  const { createOpenAICompatible } = await import("@ai-sdk/openai-compatible");
  const provider = createOpenAICompatible({ name: "llmsnap", baseURL: `${url}/v1` });
  const asked = { model: provider(model), prompt: "hello" };
  if (!stream) return (await generateText(asked)).text;
  return collected(streamText({ ...asked, onError() {} }).fullStream, (part) => {
    if (part.type === "error") throw part.error;
    return part.type === "text-delta" ? part.text : "";
  });
}

const clients = {
  "openai-node": [openai, "openai"],
  "anthropic-node": [anthropic, "@anthropic-ai/sdk"],
  "ai-node": [ai, "ai"],
};
const [name, url, model, mode] = process.argv.slice(2);
const [ask, packageName] = clients[name];
const about = readFileSync(`node_modules/${packageName}/package.json`, "utf8");
const result = { version: JSON.parse(about).version };
try {
  result.text = await ask(url, model, mode === "streamed");
} catch (error) {
  const message = typeof error === "string" ? error : (error.message ?? JSON.stringify(error));
  result.error = `${error.name ?? "error"}: ${message}`;
}
console.log(`\n${JSON.stringify(result)}`);
