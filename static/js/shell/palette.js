// Keys for the whole page: Ctrl+K opens a palette of commands, "g" and a letter a page, "/" finds, "?" helps.

import { html, signal, useEffect, useId, useRef, useState } from "../shared/html.js";
import { go, openPages } from "../shared/router.js";
import { unloadModel } from "../shared/api.js";
import { limited } from "../shared/session.js";
import { chooseTheme, THEMES } from "../shared/theme.js";
import { attempt } from "../shared/toasts.js";
import { Dialog } from "../shared/dialog.js";
import { chatModel } from "../chat/choice.js";
import { LoadPlan } from "../memory/load-plan.js";
import { requestLoad } from "../models/failures.js";
import { pickable } from "../models/model-select.js";
import { localModels } from "../models/store.js";

const SHOWN = 50;
const SEQUENCE_MS = 1500;
const LOADED = new Set(["ready", "asleep"]);

/** "palette", "help" or "". */
const open = signal("");

/** [text, hint, action] of every command, and the id of the model that it loads. */
function commands() {
  const { local, peers } = pickable();
  const chat = [...local, ...peers.flatMap(([, list]) => list)].map(({ id }) => [`Chat with ${id}`, "", () => { chatModel.value = id; go("playground"); }]);
  const pages = openPages.value.map((page) => [`Go to ${page.title}`, `g ${page.key}`, () => go(page.id)]);
  const themes = THEMES.map((name) => [`Use ${name} colours`, "", () => chooseTheme(name)]);
  const models = limited.value ? [] : localModels.value.flatMap(({ id, state }) => [
    LOADED.has(state) ? [`Unload ${id}`, "", () => attempt(`Unloading ${id}`, () => unloadModel(id))] : [`Load ${id}`, "", () => requestLoad(id), id],
    [`Log of ${id}`, "", () => go("models", { log: id })],
    [`Requests of ${id}`, "", () => go("activity", { model: id })],
  ]);
  return [...pages, ...models, ...chat, ...themes, ["Show keyboard shortcuts", "?", () => { open.value = "help"; }]];
}

/** The commands that contain every word of *text*; those that begin with it come first. */
function matching(list, text) {
  const wanted = text.toLowerCase().trim();
  const words = wanted.split(/\s+/);
  const found = list.filter(([name]) => words.every((word) => name.toLowerCase().includes(word)));
  const first = found.filter(([name]) => name.toLowerCase().startsWith(wanted));
  return [...first, ...found.filter((each) => !first.includes(each))].slice(0, SHOWN);
}

function Palette({ onClose }) {
  const [text, setText] = useState("");
  const [at, setAt] = useState(0);
  const id = useId();
  const list = useRef(null);
  const found = matching(commands(), text);
  const run = ([, , action]) => {
    onClose();
    action();
  };
  const onKeyDown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && found.length) setAt((at + step + found.length) % found.length);
    else if (event.key === "Enter" && found[at]) run(found[at]);
    else return;
    event.preventDefault();
  };
  useEffect(() => list.current?.children[at]?.scrollIntoView({ block: "nearest" }), [at]);
  return html`<${Dialog} title="Commands" small onClose=${onClose}>
    <input class="input" type="text" role="combobox" aria-label="Command" aria-expanded="true" aria-controls=${id} aria-activedescendant=${found.length ? `${id}-${at}` : undefined} aria-autocomplete="list"
      placeholder="load qwen, log of gemma, go to activity" autocomplete="off" spellcheck="false" autofocus value=${text} onInput=${(event) => { setText(event.currentTarget.value); setAt(0); }} onKeyDown=${onKeyDown} />
    <ul class="palette" id=${id} ref=${list} role="listbox" aria-label="Commands">${found.map((command, index) => html`<li key=${command[0]} id="${id}-${index}" role="option" aria-selected=${String(index === at)} onClick=${() => run(command)}><span class="grow">${command[0]}</span>${command[1] && html`<kbd>${command[1]}</kbd>`}</li>`)}</ul>
    ${found[at]?.[3] && html`<p class="small" aria-live="polite"><${LoadPlan} id=${found[at][3]} /></p>`}
    ${!found.length && html`<p class="muted">No command matches.</p>`}
  </${Dialog}>`;
}

function Help({ onClose }) {
  const keys = [["Ctrl+K", "Commands"], ["/", "Find or filter on this page"], ["?", "This list"], ["Escape", "Close"], ...openPages.value.map((page) => [`g ${page.key}`, page.title])];
  return html`<${Dialog} title="Keyboard shortcuts" small onClose=${onClose}><dl class="facts">${keys.map(([key, what]) => html`<dt key=${key}><kbd>${key}</kbd></dt><dd>${what}</dd>`)}</dl></${Dialog}>`;
}

const TYPING = "input, textarea, select, [contenteditable]";

/** The field that "/" leads to: a search field, else the composer. */
function focusField() {
  const shown = document.querySelector(".page:not([hidden])");
  const field = [...(shown?.querySelectorAll("input[type=search], .composer-text, input, select") ?? [])].find((each) => each.offsetParent && !each.disabled);
  field?.focus();
  return Boolean(field);
}

export function Keyboard() {
  useEffect(() => {
    let goesUntil = 0;
    const onKeyDown = (event) => {
      const isPalette = (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k";
      if (document.querySelector("dialog[open]")) {
        if (isPalette) event.preventDefault();
        return;
      }
      if (isPalette) open.value = "palette";
      else if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.(TYPING)) return;
      else if (event.timeStamp < goesUntil) {
        goesUntil = 0;
        const page = openPages.value.find((each) => each.key === event.key);
        if (!page) return;
        go(page.id);
      } else if (event.key === "g") {
        goesUntil = event.timeStamp + SEQUENCE_MS;
        return;
      } else if (event.key === "?") open.value = "help";
      else if (event.key !== "/" || !focusField()) return;
      event.preventDefault();
    };
    document.addEventListener("keydown", onKeyDown);
    return () => document.removeEventListener("keydown", onKeyDown);
  }, []);
  const close = () => { open.value = ""; };
  if (open.value === "palette") return html`<${Palette} onClose=${close} />`;
  return open.value === "help" ? html`<${Help} onClose=${close} />` : null;
}
