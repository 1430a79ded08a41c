// The live connection to /api/events: it reconnects, and calls the subscribers of each event.
//
// A frame without a name is an envelope {type, data} whose data is JSON in a string; frames with a
// name carry their JSON directly. Subscribers of envelopes use the type, those of named frames
// "named:" and the name.

import { signal } from "./html.js";
import { address, getJson, singleFlight } from "./api.js";
import { limited, signedOut } from "./session.js";

const MAX_WAIT_MS = 5000;
const HIDDEN_CLOSE_MS = 60000;

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

/** Call *handler* with the data of each such frame; "open" when a connection begins. */
export function subscribe(kind, handler) {
  if (!handlers.has(kind)) {
    handlers.set(kind, new Set());
    if (source && kind.startsWith("named:")) listenTo(kind);
  }
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

function listenTo(kind) {
  source.addEventListener(kind.slice("named:".length), (event) => {
    try {
      dispatch(kind, JSON.parse(event.data));
    } catch {
      console.warn(`event ${kind}: not JSON`);
    }
  });
}

function onMessage(event) {
  let envelope;
  try {
    envelope = JSON.parse(event.data);
    envelope.data = JSON.parse(envelope.data);
  } catch {
    console.warn("event: not an envelope");
    return;
  }
  dispatch(envelope.type, envelope.data);
}

function onError() {
  close();
  connection.value = "disconnected";
  failures += 1;
  // Jitter keeps many tabs from reconnecting at the same instant.
  const wait = Math.min(1000 * 2 ** (failures - 1), MAX_WAIT_MS) * (0.85 + 0.3 * Math.random());
  retryTimer = setTimeout(connect, wait);
  fetchRefusal();
}

/** EventSource hides the status of a refused connection; another request shows it. */
const fetchRefusal = singleFlight(async () => {
  try {
    await getJson("/api/inflight");
    reason.value = "";
  } catch (error) {
    reason.value = error.status ? error.message : "";
    if (signedOut.peek()) close();
  }
});

function close() {
  clearTimeout(retryTimer);
  source?.close();
  source = null;
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
  source = new EventSource(address("/api/events?format=both"));
  source.onopen = () => {
    failures = 0;
    reason.value = "";
    connection.value = "connected";
    dispatch("open", null);
  };
  source.onmessage = onMessage;
  source.onerror = onError;
  for (const kind of handlers.keys()) if (kind.startsWith("named:")) listenTo(kind);
}

// Browsers open at most six connections to an HTTP/1.1 server, over all tabs: a hidden tab closes its
// own after a minute. The server sends its whole state when the tab is shown again.
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
