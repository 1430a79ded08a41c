// A choice among many: type to search, arrow keys and Enter to choose.

import { classes, html, useEffect, useId, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { Tip, useHover } from "./tip.js";

const MOST_SHOWN = 100;

const found = (options, typed) => {
  const words = typed.toLowerCase().split(/\s+/);
  return options.filter(({ text, search = "" }) => words.every((word) => `${text} ${search}`.toLowerCase().includes(word)));
};

/** *options* are {value, text, hint, search, group}: *hint* is shown beside the text, *search* is found too.
 *
 * *about* returns what else there is to say of a value: of the one at hand in the list, or the chosen one.
 */
export function Chooser({ label, hideLabel, value, options, onChange, placeholder = "Choose…", disabled, auto, onOpen, about }) {
  const [typed, setTyped] = useState(null); // null while closed
  const [at, setAt] = useState(0);
  const id = useId();
  const list = useRef(null);
  const root = useRef(null);
  const hover = useHover(root);
  const open = typed !== null;
  const shown = open ? found(options, typed).slice(0, MOST_SHOWN) : [];
  const chosen = options.find((option) => option.value === value)?.text ?? "";
  const close = () => setTyped(null);
  const start = () => {
    if (open) return;
    onOpen?.();
    setTyped("");
    setAt(Math.max(0, options.findIndex((option) => option.value === value)));
  };
  const pick = (option) => {
    close();
    onChange(option.value);
  };
  const onKeyDown = (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && !open) start();
    else if (step) setAt(Math.min(shown.length - 1, Math.max(0, at + step)));
    else if (event.key === "Enter" && open && shown[at]) pick(shown[at]);
    else if (event.key === "Escape" && open) close();
    else return;
    event.preventDefault();
    event.stopPropagation(); // Escape also closes dialogs
  };
  useEffect(() => { list.current?.children[at]?.scrollIntoView({ block: "nearest" }); }, [at, open]);
  const atHand = about?.(open ? shown[at]?.value : value);
  return html`<div ref=${root} class=${classes(hideLabel ? "select-only" : "field", "chooser", auto && "auto")} ...${hover.on}>
    <label for=${id} class=${hideLabel ? "visually-hidden" : "label"}>${label}</label>
    <input id=${id} class="input" role="combobox" autocomplete="off" spellcheck="false" aria-autocomplete="list" aria-expanded=${String(open)} aria-controls="${id}-list"
      aria-activedescendant=${open && shown[at] ? `${id}-${at}` : undefined} title=${chosen} disabled=${disabled} placeholder=${chosen || placeholder} value=${open ? typed : chosen}
      onClick=${start} onInput=${(event) => { setTyped(event.currentTarget.value); setAt(0); }} onKeyDown=${onKeyDown} onBlur=${close} />
    <${Icon} name="down" size="14" />
    ${open && html`<div class="menu-list"><ul id="${id}-list" role="listbox" aria-label=${label} ref=${list}>
      ${shown.map((option, index) => html`<li key=${option.value} id="${id}-${index}" role="option" aria-selected=${String(option.value === value)} class=${classes(index === at && "at", option.group !== shown[index - 1]?.group && "first")}
        data-group=${option.group} onMouseDown=${(event) => event.preventDefault()} onClick=${() => pick(option)}><span class="option-text">${option.text}</span>${option.hint && html`<span class="faint tiny">${option.hint}</span>`}</li>`)}
      ${!shown.length && html`<li role="option" aria-selected="false" aria-disabled="true" class="muted">Nothing matches</li>`}
    </ul>${atHand && html`<p class="small chooser-about" id="${id}-about" aria-live="polite">${atHand}</p>`}</div>`}
    ${!open && hover.open && atHand && html`<${Tip} anchor=${root} id="${id}-about">${atHand}</${Tip}>`}
  </div>`;
}
