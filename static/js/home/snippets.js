// How programs reach the server: a text to copy for each.

/** [id, name, hint, text] of each; *root* is the address without /v1, *key* what stands for the API key. */
export function snippetsFor({ root, model, key, required }) {
  const v1 = `${root}/v1`;
  const message = `[{"role": "user", "content": "Hello"}]`;
  return [
    ["curl", "curl", "In a terminal", [
      `curl ${v1}/chat/completions \\`,
      ...(required ? [`  -H "Authorization: Bearer ${key}" \\`] : []),
      `  -H "Content-Type: application/json" \\`,
      `  -d '{"model": "${model}", "messages": ${message}}'`,
    ]],
    ["openai", "OpenAI SDK", "pip install openai", [
      "from openai import OpenAI",
      "",
      `client = OpenAI(base_url="${v1}", api_key="${key}")`,
      "answer = client.chat.completions.create(",
      `    model="${model}",`,
      `    messages=${message},`,
      ")",
      "print(answer.choices[0].message.content)",
    ]],
    ["anthropic", "Anthropic SDK", "pip install anthropic", [
      "from anthropic import Anthropic",
      "",
      `client = Anthropic(base_url="${root}", api_key="${key}")`,
      "answer = client.messages.create(",
      `    model="${model}",`,
      "    max_tokens=1024,",
      `    messages=${message},`,
      ")",
      "print(answer.content[0].text)",
    ]],
    ["open-webui", "Open WebUI", "Environment of its container; or Admin Settings, Connections, OpenAI API", [
      `OPENAI_API_BASE_URL=${v1}`,
      `OPENAI_API_KEY=${key}`,
    ]],
    ["claude-code", "Claude Code", "In a terminal", [
      `export ANTHROPIC_BASE_URL=${root}`,
      `export ANTHROPIC_AUTH_TOKEN=${key}`,
      `export ANTHROPIC_MODEL=${model}`,
      `export ANTHROPIC_SMALL_FAST_MODEL=${model}`,
      "claude",
    ]],
    ["continue", "Continue", "~/.continue/config.yaml", [
      "models:",
      `  - name: ${model}`,
      "    provider: openai",
      `    model: ${model}`,
      `    apiBase: ${v1}`,
      `    apiKey: ${key}`,
    ]],
  ].map(([id, name, hint, lines]) => [id, name, hint, lines.join("\n")]);
}

/** What to write for the key: a placeholder, since the page does not have it. */
export const keyText = (required) => (required ? "YOUR_KEY" : "none");
export const keyHint = (required) => (required ? "one of your API keys" : "none needed; clients that insist may send any text");
