// The live connection to the server's events: it reconnects, and calls the subscribers of each event.
//
// A WebSocket, since browsers open only six other connections to an HTTP/1.1 server, over all tabs;
// server-sent events where a proxy does not let WebSockets through. Each frame is {event, data}. A
// new connection sends no history: subscribers of "open" fetch what they show.

import { effect, signal } from "./html.js";
import { address, getJson, singleFlight } from "./api.js";
import { limited, signedOut } from "./session.js";

const MAX_WAIT_MS = 5000;
const HIDDEN_CLOSE_MS = 60000;
const OPTIONS = "format=named&logs=0&records=0";

/** "connecting", "connected", "disconnected", "limited" (the key may not read events), or "paused"
 * (the tab has been hidden for a minute). */
export const connection = signal("connecting");

/** The server's message about a refused connection; empty if it is not reached. */
export const reason = signal("");

const handlers = new Map();
let source = null;
let failures = 0;
let retryTimer = 0;
let hiddenTimer = 0;
let socketsWork = true;

/** Call *handler* with the data of each such event; "open" when a connection begins. */
export function subscribe(kind, handler) {
  if (!handlers.has(kind)) handlers.set(kind, new Set());
  handlers.get(kind).add(handler);
  return () => handlers.get(kind).delete(handler);
}

function dispatch(kind, data) {
  for (const handler of handlers.get(kind) ?? []) {
    try {
      handler(data);
    } catch (error) {
      console.error(`a handler of ${kind} failed`, error);
    }
  }
}

function onFrame(kind, text) {
  let data;
  try {
    data = JSON.parse(text);
  } catch {
    console.warn(`event ${kind}: not JSON`);
    return;
  }
  if (kind) dispatch(kind, data);
  else dispatch(data.event, data.data);
}

function onOpen() {
  failures = 0;
  reason.value = "";
  connection.value = "connected";
  dispatch("open", null);
}

function onError() {
  if (connection.peek() === "connecting") socketsWork = !socketsWork;
  close();
  connection.value = "disconnected";
  failures += 1;
  // Jitter keeps many tabs from reconnecting at the same instant.
  const wait = Math.min(1000 * 2 ** (failures - 1), MAX_WAIT_MS) * (0.85 + 0.3 * Math.random());
  retryTimer = setTimeout(connect, wait);
  fetchRefusal();
}

/** The status of a refused connection is hidden from scripts; another request shows it. */
const fetchRefusal = singleFlight(async () => {
  try {
    await getJson("/api/version");
    reason.value = "";
  } catch (error) {
    reason.value = error.status ? error.message : "";
    if (signedOut.peek()) close();
  }
});

function close() {
  clearTimeout(retryTimer);
  const last = source;
  source = null;
  last?.close();
}

/** Have *made* call the handlers as long as it is the current connection. */
function attend(made, events) {
  source = made;
  for (const [name, handler] of Object.entries(events)) made.addEventListener(name, (event) => source === made && handler(event));
}

function openSocket() {
  const url = new URL(address(`/api/ws?${OPTIONS}`));
  url.protocol = url.protocol.replace("http", "ws");
  attend(new WebSocket(url), { open: onOpen, message: (event) => onFrame("", event.data), close: onError });
}

function openEventSource() {
  const made = new EventSource(address(`/api/events?${OPTIONS}`));
  attend(made, { open: onOpen, error: onError });
  for (const kind of handlers.keys()) made.addEventListener(kind, (event) => source === made && event.data && onFrame(kind, event.data));
}

/** Connect, or connect again at once. */
export function connect() {
  close();
  if (signedOut.peek()) return;
  if (limited.peek()) {
    connection.value = "limited";
    dispatch("limited", null);
    return;
  }
  connection.value = "connecting";
  if (socketsWork) openSocket();
  else openEventSource();
}

effect(() => signedOut.value && close());

// A hidden tab closes its connection after a minute, and fetches what it shows when it is shown again.
function onVisibility() {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(() => {
      if (!source) return;
      close();
      connection.value = "paused";
    }, HIDDEN_CLOSE_MS);
  } else {
    resume();
  }
}
const resume = () => source || limited.peek() || connect();
document.addEventListener("visibilitychange", onVisibility);
addEventListener("online", resume);

// A page in the back/forward cache would keep its connection.
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => event.persisted && connect());
