// The one live connection: /api/events, with reconnect, told to whoever subscribed.
//
// A frame without a name is an envelope {type, data} whose data is JSON in a string; frames with a
// name carry their JSON directly. Subscribers of envelopes use the type, those of named frames
// "named:" and the name.

import { batch, signal } from "./html.js";
import { address, getJson, single } from "./api.js";

const MAX_WAIT_MS = 5000;
const HIDDEN_CLOSE_MS = 60000;

/** "connecting", "connected", "disconnected", "limited" when the key has no right to live data, or
 * "paused" while the tab has long been hidden. */
export const connection = signal("connecting");

/** The server's sentence about a key that may not see what others do; empty when it may. */
export const refusal = signal("");

/** Why there is no connection, as far as the server says. */
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

function tell(kind, data) {
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
      tell(kind, JSON.parse(event.data));
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
  tell(envelope.type, envelope.data);
}

function onError() {
  close();
  connection.value = "disconnected";
  failures += 1;
  // Chance keeps fifty tabs from coming back in the same instant.
  const wait = Math.min(1000 * 2 ** (failures - 1), MAX_WAIT_MS) * (0.85 + 0.3 * Math.random());
  retryTimer = setTimeout(connect, wait);
  askWhy();
}

/** An event stream itself does not tell why it was refused; any other request does. */
const askWhy = single(async () => {
  try {
    await getJson("/api/inflight");
    reason.value = "";
  } catch (error) {
    reason.value = error.status ? error.message : "";
    if (error.status !== 403) return;
    // No use in trying again: a key keeps its rights until the page is loaded anew.
    close();
    batch(() => {
      connection.value = "limited";
      refusal.value = error.message;
    });
    tell("limited", null);
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
  connection.value = "connecting";
  source = new EventSource(address("/api/events?format=both"));
  source.onopen = () => {
    failures = 0;
    reason.value = "";
    connection.value = "connected";
    tell("open", null);
  };
  source.onmessage = onMessage;
  source.onerror = onError;
  for (const kind of handlers.keys()) if (kind.startsWith("named:")) listenTo(kind);
}

// Browsers open at most six connections to a server that speaks HTTP/1.1, over all tabs: one that
// nobody looks at gives its place back. The server sends its whole state again afterwards.
function onVisibility() {
  clearTimeout(hiddenTimer);
  if (document.hidden) {
    hiddenTimer = setTimeout(() => {
      if (refusal.peek()) return;
      close();
      connection.value = "paused";
    }, HIDDEN_CLOSE_MS);
  } else {
    resume();
  }
}
const resume = () => source || refusal.peek() || connect();
document.addEventListener("visibilitychange", onVisibility);
addEventListener("online", resume);

// A page kept for "back" would keep its connection, too.
addEventListener("pagehide", close);
addEventListener("pageshow", (event) => event.persisted && connect());
