// The frame around the pages: navigation, connection, theme, toasts.

import { classes, html, signal, useEffect, useRef, useState } from "../shared/html.js";
import { current, openPages, pageLink, PAGES, subject } from "../shared/router.js";
import { getJson } from "../shared/api.js";
import { connect, connection, reason } from "../shared/event-stream.js";
import { keyName, session, signedOut, signOut } from "../shared/session.js";
import { stored } from "../shared/storage.js";
import { chooseTheme, theme } from "../shared/theme.js";
import { attempt, Toasts } from "../shared/toasts.js";
import { IconButton } from "../shared/controls.js";
import { Icon, Logo } from "../shared/icons.js";
import { inflightTotal } from "../activity/store.js";
import { configBadge, status } from "../config/status.js";
import { failures } from "../models/failures.js";
import { models } from "../models/store.js";
import { WhyPanel } from "../timeline/why.js";
import { PageHost } from "./page-host.js";
import { Keyboard } from "./palette.js";
import { ProfileChoice } from "./profile-choice.js";
import { SignIn } from "./sign-in.js";

const MAX_TITLE = 64;
const DEFAULT_TITLE = "llmsnap";
export const title = stored("appTitle", DEFAULT_TITLE);

const DOTS = { connected: "🟢", connecting: "🟡", disconnected: "🔴", limited: "🔵", paused: "⚪" };
const WORDS = { connected: "Live", connecting: "Connecting", disconnected: "Disconnected", limited: "Limited key", paused: "Paused" };

function Title() {
  const [editing, setEditing] = useState(false);
  const field = useRef(null);
  useEffect(() => { if (editing) field.current.select(); }, [editing]);
  const save = (event) => {
    title.value = event.currentTarget.value.replace(/[\r\n]+/g, " ").trim().slice(0, MAX_TITLE) || DEFAULT_TITLE;
    setEditing(false);
  };
  const onKeyDown = (event) => {
    if (event.key === "Escape") event.currentTarget.value = title.value;
    if (event.key === "Enter" || event.key === "Escape") event.currentTarget.blur();
  };
  if (editing) return html`<input ref=${field} class="brand-title" aria-label="Title of this page" defaultValue=${title.value} spellcheck="false" onBlur=${save} onKeyDown=${onKeyDown} />`;
  return html`<span class="brand-title clip" title=${title.value}>${title.value}</span><${IconButton} icon="edit" small label="Edit the title" onClick=${() => setEditing(true)} />`;
}

/** The version of the server, fetched with each new connection; the page itself is of the first. */
const version = signal(null);
let firstCommit;

function fetchVersion() {
  getJson("/api/version").then((found) => {
    firstCommit ??= found.commit;
    version.value = found;
  }, () => {});
}

function Connection() {
  const state = connection.value;
  const known = version.value;
  useEffect(() => { if (state === "connected" || state === "limited") fetchVersion(); }, [state]);
  const about = known ? `llmsnap ${known.version} ${String(known.commit).slice(0, 7)}, built ${known.build_date}` : "";
  return html`<div class="connection" role="status" title=${about}>
    <span class="dot ${state}"></span><span class="grow">${WORDS[state]}</span>
    ${known && html`<span class="tiny faint clip">${known.version}</span>`}
  </div>`;
}

const THEME_ICONS = { system: "auto", light: "sun", dark: "moon" };

function ThemeChoice() {
  return html`<div class="segmented theme" role="group" aria-label="Colours">
    ${Object.entries(THEME_ICONS).map(([name, icon]) => html`<button key=${name} type="button" title="${name} colours" aria-label="${name} colours"
      aria-pressed=${String(theme.value === name)} onClick=${() => chooseTheme(name)}><${Icon} name=${icon} size="16" /></button>`)}
  </div>`;
}

function Account() {
  if (session.value.key === null) return null;
  return html`<div class="account"><${Icon} name="key" size="16" /><span class="grow clip small" title=${keyName.value}>${session.value.key || "Signed in"}</span>
    <button type="button" class="btn small" onClick=${() => attempt("Not signed out", signOut)}>Sign out</button></div>`;
}

function counts() {
  const loaded = models.value.filter((model) => model.state === "ready").length;
  return { models: loaded || "", activity: inflightTotal.value || "" };
}

/** What is wrong, beside the link to a page: {text, bad}. */
function badgeOf(page) {
  if (page === "models" && failures.value.size > 0) return { text: `${failures.value.size} failed`, bad: true };
  return page === "config" ? configBadge.value : null;
}

function Badge({ page }) {
  const badge = badgeOf(page);
  return badge && html`<span class=${classes("count", badge.bad && "bad")}>${badge.text}</span>`;
}

/** The title of the document: state, model, page, title. */
function documentTitle() {
  const page = PAGES.find(({ id }) => id === current.value).title;
  return `${DOTS[connection.value]} ${[subject.value, page, title.value].filter(Boolean).join(" · ")}`;
}

function Sidebar({ open, onClose }) {
  const numbers = counts();
  const hints = { models: "ready", activity: "in flight" };
  return html`<nav class=${classes("side", open && "open")} aria-label="Pages" id="side">
    <div class="brand"><${Logo} /><${Title} /></div>
    <div class="nav">
      ${openPages.value.map((page) => html`<a key=${page.id} href=${pageLink(page.id)} aria-current=${current.value === page.id ? "page" : undefined} onClick=${onClose}>
        <${Icon} name=${page.icon} /><span>${page.title}</span>
        <${Badge} page=${page.id} />
        ${numbers[page.id] && html`<span class="count" title="${numbers[page.id]} ${hints[page.id]}">${page.id === "models" && html`<span class="dot small-dot"></span>`}${numbers[page.id]}<span class="visually-hidden"> ${hints[page.id]}</span></span>`}
      </a>`)}
    </div>
    <div class="side-foot"><${ProfileChoice} /><${Account} /><${ThemeChoice} /><${Connection} /></div>
  </nav>`;
}

function NewVersion() {
  if (!version.value || version.value.commit === firstCommit) return null;
  return html`<div class="banner" role="status"><${Icon} name="info" /><span class="grow">The server has a new version.</span><a class="btn small" href="">Reload</a></div>`;
}

function Simulated() {
  if (!status.value?.only_simulated) return null;
  return html`<div class="banner" role="status"><${Icon} name="info" /><span class="grow">Answers are simulated: the configuration <code>${status.value.source}</code> has no real model.</span></div>`;
}

function Banner() {
  const state = connection.value;
  const away = state === "connecting" || state === "disconnected";
  const [late, setLate] = useState(false);
  // A reconnect within a second must not move the page.
  useEffect(() => {
    setLate(false);
    if (!away) return undefined;
    const timer = setTimeout(() => setLate(true), 1500);
    return () => clearTimeout(timer);
  }, [away]);
  if (!away || !late) return null;
  return html`<div class="banner bad" role="alert"><${Icon} name="warn" /><span class="grow">${reason.value ? `The server refuses: ${reason.value}` : "Connection lost. Showing the last known state. Reconnecting..."}</span>
    <button type="button" class="btn small" onClick=${connect}>Try now</button></div>`;
}

// A file dropped beside a field would replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

export function Shell() {
  return signedOut.value ? html`<${SignIn} title=${title.value} />` : html`<${Frame} />`;
}

function Frame() {
  const [open, setOpen] = useState(false);
  const menu = useRef(null);
  const close = () => setOpen(false);
  const shown = documentTitle();
  useEffect(() => { document.title = shown; }, [shown]);
  useEffect(() => {
    if (!open) return undefined;
    document.querySelector("#side a")?.focus();
    const escape = (event) => event.key === "Escape" && (close(), menu.current?.querySelector("button")?.focus());
    document.addEventListener("keydown", escape);
    return () => document.removeEventListener("keydown", escape);
  }, [open]);
  return html`<div class="shell">
    <button type="button" class="skip btn" onClick=${() => document.querySelector(".page:not([hidden])")?.focus()}>Skip to the page</button>
    <header class="top" ref=${menu}>
      <${IconButton} icon="menu" label="Pages" onClick=${() => setOpen(true)} />
      <strong class="clip grow">${title.value}</strong>
      <span class="dot ${connection.value}" role="img" aria-label=${WORDS[connection.value]}></span>
    </header>
    <${Sidebar} open=${open} onClose=${close} />
    ${open && html`<button type="button" class="veil" aria-label="Close the menu" onClick=${close}></button>`}
    <div class="stage"><${Banner} /><${NewVersion} /><${Simulated} /><main class="main"><${PageHost} /></main></div>
    <${Toasts} /><${WhyPanel} /><${Keyboard} />
  </div>`;
}
