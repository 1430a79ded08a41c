// What a log line is: its level, whether it is noise, the request and the swap it names.

import { html } from "../shared/html.js";
import { linkTo } from "../shared/router.js";
import { swaps } from "../timeline/swaps.js";
import { ansiSpans } from "./ansi.js";

const TAG = /(?:^|[\s[("<|=:])(ERROR|FATAL|CRITICAL|WARN(?:ING)?|INFO|DEBUG|TRACE)(?=[\s\])">|:]|$)/i;
const TAG_WITHIN = 160;
/** The letter of llama.cpp's log behind its time: "0.12.345.678 W srv init: ...". */
const LETTER = /^[\d.:]+ ([DIWE]) /;
const LETTERS = { D: "debug", I: "info", W: "warn", E: "error" };
const WORDS = { error: "error", fatal: "error", critical: "error", warn: "warn", warning: "warn", info: "info", debug: "debug", trace: "debug" };
const FAILED = /\b(failed|exception|traceback|out of memory)\b/i;

/** "error", "warn", "info" or "debug", by the letter or tag near its beginning, else by telling words; "" if nothing says. */
export function levelOf(text) {
  const letter = LETTER.exec(text);
  if (letter) return LETTERS[letter[1]];
  const tag = TAG.exec(text.slice(0, TAG_WITHIN));
  if (tag) return WORDS[tag[1].toLowerCase()];
  return FAILED.test(text) ? "error" : "";
}

const RANKS = { error: 2, warn: 1 };

/** Whether a line is at least of *level*. */
export const reaches = (text, level) => !level || (RANKS[levelOf(text)] ?? 0) >= RANKS[level];

/** Entries about requests of pages of this interface. */
export const isOwnRequest = (text) => /"(?:GET|HEAD|POST) \/(?:ui|api|logs|session)(?:\/|[ "?])/.test(text);

const IDS = /\b(request_id|swap_id)=(\S+)/g;

function linkOf(name, value) {
  if (name === "request_id") return linkTo("activity", { lookup: value });
  const swap = swaps.value.find((each) => String(each.id) === value);
  return swap && linkTo("timeline", { span: "15", end: String((swap.ended_ms ?? swap.started_ms) + 5 * 60000) });
}

/** *text* with matches of *find* marked. */
function marked(text, find) {
  if (!find) return text;
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(new RegExp(find.source, "gi"))) {
    if (!match[0]) continue;
    parts.push(text.slice(end, match.index), html`<mark>${match[0]}</mark>`);
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}

/** *text* with links to the requests and swaps it names. */
function linked(text, find) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(IDS)) {
    const href = linkOf(match[1], match[2]);
    if (!href) continue;
    parts.push(marked(text.slice(end, match.index), find), html`<a href=${href}>${match[0]}</a>`);
    end = match.index + match[0].length;
  }
  parts.push(marked(text.slice(end), find));
  return parts;
}

/** The content of a line: colours of its escape sequences, marks of *find*, links. */
export const content = (text, find) => ansiSpans(text).map((span) => (span.className ? html`<span class=${span.className}>${linked(span.text, find)}</span>` : linked(span.text, find)));
