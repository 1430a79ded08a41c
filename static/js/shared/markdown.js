// Model output as formatted text. It is untrusted: HTML in it is shown as text, marked renders the
// Markdown, DOMPurify sanitises the markup, and the result is inserted as nodes. Formulas are typeset
// afterwards from their text. The libraries are loaded with the first text that needs them.

import { html, useEffect, useRef, useState } from "./html.js";
import { copyText, isExternalLink } from "./dom-utils.js";

const LANGUAGES = new Set("bash c cpp css diff dockerfile go ini java javascript json kotlin lua makefile markdown php python ruby rust shell sql swift typescript xml yaml".split(" "));
const ALIASES = { js: "javascript", ts: "typescript", py: "python", sh: "bash", zsh: "bash", html: "xml", svg: "xml", yml: "yaml", rs: "rust", toml: "ini", rb: "ruby", "c++": "cpp", console: "shell", md: "markdown" };
const MATH = /\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\]|\\\(([\s\S]+?)\\\)|(?<![\w$\\])\$(?!\s)((?:\\.|[^$\n\\])+?)(?<!\s)\$(?![\w$])/g;
const CODE = /(^|\n)(```|~~~)[\s\S]*?(\n\2|$)|`[^`\n]+`/g;

const once = (load) => {
  let promise;
  return () => (promise ??= load());
};
const escape = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");

/** HTML stays text, and an image becomes a link: no foreign content is fetched without a click. */
const renderer = {
  html: ({ text }) => escape(text),
  image: ({ href, text }) => `<a href="${escape(href)}">${escape(text || href)}</a>`,
};

const basics = once(async () => {
  const [{ Marked }, { default: purify }] = await Promise.all([import("../../vendor/marked.js"), import("../../vendor/dompurify.js")]);
  return [new Marked({ gfm: true, breaks: true, renderer }), purify];
});
const katex = once(async () => {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("../../vendor/katex/katex.css", import.meta.url).href;
  document.head.append(link);
  return (await import("../../vendor/katex/katex.js")).default;
});
const highlighter = once(async () => (await import("../../vendor/highlight/core.js")).default);

async function highlightWith(name) {
  const hljs = await highlighter();
  if (!hljs.getLanguage(name)) hljs.registerLanguage(name, (await import(`../../vendor/highlight/${name}.js`)).default);
  return hljs;
}

// The placeholder of a formula while marked runs: its number between two private-use characters.
const [OPEN, CLOSE] = ["\uE000", "\uE001"];
const PLACE = /\uE000(\d+)\uE001/;

/** Replace formulas by placeholders, so that their underscores do not become emphasis. Code stays. */
export function splitMath(original) {
  const text = original.replace(/[\uE000\uE001]/g, "");
  const formulas = [];
  const keep = (whole, display, bracketed, inline, dollar) => {
    formulas.push({ source: display ?? bracketed ?? inline ?? dollar, display: (display ?? bracketed) !== undefined, whole });
    return `${OPEN}${formulas.length - 1}${CLOSE}`;
  };
  let rest = "";
  let end = 0;
  for (const match of text.matchAll(CODE)) {
    rest += text.slice(end, match.index).replace(MATH, keep) + match[0];
    end = match.index + match[0].length;
  }
  return { text: rest + text.slice(end).replace(MATH, keep), formulas };
}

/** Return *text* as nodes that are safe to show. */
export async function renderMarkdown(text) {
  const [marked, purify] = await basics();
  const { text: source, formulas } = splitMath(text);
  const markup = marked.parse(source, { async: false });
  const nodes = purify.sanitize(markup, {
    RETURN_DOM_FRAGMENT: true,
    USE_PROFILES: { html: true },
    FORBID_TAGS: ["area", "map", "style", "form", "input", "button", "textarea", "select", "img", "picture", "video", "audio", "source", "link", "meta"],
    FORBID_ATTR: ["style", "id", "class", "name"],
  });
  // Classes are removed above; the language of a code block is read from the markup.
  await Promise.all([colourCode(nodes, markup), typeset(nodes, formulas)]);
  for (const link of nodes.querySelectorAll("a")) {
    if (isExternalLink(link.getAttribute("href"))) Object.assign(link, { target: "_blank", rel: "noopener noreferrer nofollow" });
    else link.replaceWith(...link.childNodes);
  }
  return nodes;
}

async function colourCode(nodes, markup) {
  const names = [...markup.matchAll(/<pre><code(?: class="language-([^"]*)")?/g)].map((match) => match[1] ?? "");
  const blocks = [...nodes.querySelectorAll("pre > code")];
  await Promise.all(blocks.map(async (block, index) => {
    const language = (names[index] ?? "").toLowerCase();
    const name = ALIASES[language] ?? language;
    block.parentElement.tabIndex = 0; // it scrolls, so the keyboard must reach it
    if (!LANGUAGES.has(name) || block.textContent.length > 50000) return;
    const hljs = await highlightWith(name);
    const [, purify] = await basics();
    block.replaceChildren(purify.sanitize(hljs.highlight(block.textContent, { language: name }).value, { RETURN_DOM_FRAGMENT: true, ALLOWED_TAGS: ["span"], ALLOWED_ATTR: ["class"] }));
  }));
}

async function typeset(nodes, formulas) {
  if (!formulas.length) return;
  const { render } = await katex();
  const walker = document.createTreeWalker(nodes, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) if (PLACE.test(walker.currentNode.data)) texts.push(walker.currentNode);
  for (const text of texts) {
    // Every second piece is the number of a formula.
    const parts = text.data.split(PLACE).map((part, index) => (index % 2 ? formulaNode(formulas[Number(part)], render) : part));
    text.replaceWith(...parts);
  }
}

function formulaNode(formula, render) {
  const place = document.createElement("span");
  try {
    render(formula.source, place, { displayMode: formula.display, throwOnError: true, trust: false, maxSize: 50, maxExpand: 200 });
  } catch {
    place.textContent = formula.whole;
  }
  return place;
}

function addCopyButtons(root) {
  for (const block of root.querySelectorAll("pre")) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "btn small copy-code";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      button.textContent = (await copyText(block.querySelector("code").textContent)) ? "Copied" : "Select and copy by hand";
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    const frame = document.createElement("div");
    frame.className = "code-frame";
    block.replaceWith(frame);
    frame.append(block, button);
  }
}

/** Rendering may take this share of the time while a text grows. */
const SHARE = 0.2;
const MIN_PAUSE_MS = 50;

/** A text that may grow: what is shown is replaced only by what is complete, so nothing jumps. */
export function Markdown({ text }) {
  const place = useRef(null);
  const latest = useRef("");
  const running = useRef(false);
  const [failed, setFailed] = useState(false);
  useEffect(() => {
    latest.current = text;
    if (running.current) return;
    running.current = true;
    follow().catch((error) => {
      console.error(error);
      setFailed(true);
    }).finally(() => { running.current = false; });
  }, [text]);
  const follow = async () => {
    let shown;
    while (place.current && shown !== latest.current) {
      shown = latest.current;
      const began = performance.now();
      const nodes = await renderMarkdown(shown);
      if (!place.current) return;
      place.current.replaceChildren(nodes);
      addCopyButtons(place.current);
      const pause = Math.max(MIN_PAUSE_MS, (performance.now() - began) / SHARE);
      if (shown !== latest.current) await new Promise((resolve) => { setTimeout(resolve, pause); });
    }
  };
  if (failed) return html`<div class="prose as-typed">${text}</div>`;
  return html`<div class="prose" ref=${place}></div>`;
}
