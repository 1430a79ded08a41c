// A line of YAML in the colours of its parts: comment, key, macro. What spans lines is not told apart.

import { html } from "../shared/html.js";

const KEY = /^(\s*(?:- +)*)("[^"]*"|'[^']*'|[^\s#"'[{&*!|>%@`-][^#]*?)(:)(?=\s|$)/;
const COMMENT = /(?:^|\s)#.*$/;
const MACRO = /(\$\{[^}]*\})/;

/** *text* with its macros marked. */
const value = (text) => text.split(MACRO).map((part, index) => (index % 2 ? html`<span class="yaml-macro">${part}</span>` : part));

/** Where a comment begins; a # within quotes is none. */
function commentAt(line) {
  const at = line.search(COMMENT);
  if (at < 0) return line.length;
  const quotes = line.slice(0, at).match(/["']/g) ?? [];
  return quotes.length % 2 ? line.length : at;
}

export function YamlLine({ line }) {
  const end = commentAt(line);
  const [code, comment] = [line.slice(0, end), line.slice(end)];
  const found = KEY.exec(code);
  return html`<code>${found ? html`${found[1]}<span class="yaml-key">${found[2]}</span>${found[3]}${value(code.slice(found[0].length))}` : value(code)}${comment && html`<span class="yaml-comment">${comment}</span>`}${line ? "" : " "}</code>`;
}
