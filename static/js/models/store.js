// The models: ids and states from the event stream, details polled while a page shows them, groups.

import { batch, computed, signal } from "../shared/html.js";
import { getJson, modelPath, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { everyWhileVisible, serverNow, throttle } from "../shared/timing.js";
import { plural } from "../shared/format.js";
import { mode } from "../memory/store.js";

const REFRESH_MS = 5000;
const REFRESH_SOON_MS = 2500;
const LOADS_MS = 1000;

/** All models as the event stream lists them, local ones and those of peers. */
export const models = signal([]);

/** Whether a list has arrived; before that, "no models" would be wrong. */
export const modelsKnown = signal(false);

/** Model id -> its entry of /api/overview, and *seenMs*, when it was fetched. */
export const details = signal(new Map());

/** When each model entered its state, Unix ms; used until the overview is known. */
export const since = signal(new Map());

/** The selectors, {id, strategy, targets}: names in requests, each of which stands for one of several models. */
export const selectors = signal([]);

/** Peer id -> {ended_ms, status, reason} of its last request; null before the first. */
export const peerOutcomes = signal(new Map());

/** Model id -> how far its load is, {percent, loaded_bytes, total_bytes, bytes_per_s}, where that is known. */
export const loads = signal(new Map());

const { compare } = new Intl.Collator("en", { numeric: true });
const byName = (a, b) => compare(a.name + a.id, b.name + b.id);

const AT_REST = new Set(["stopped", "shutdown", "unknown", ""]);

/** Whether a model takes no memory and does nothing. */
export const isAtRest = (model) => AT_REST.has(model.state);

export const isLoading = ({ state }) => state === "starting" || state === "waking";

/** The address of a model's page. */
export const modelLink = (id) => `#/models/${modelPath(id)}`;

export const localModels = computed(() => models.value.filter((model) => !model.peerID).sort(byName));

/** Peer id -> its models, both sorted. */
export const peerModels = computed(() => {
  const peers = new Map();
  for (const model of models.value) {
    if (!model.peerID) continue;
    if (!peers.has(model.peerID)) peers.set(model.peerID, []);
    peers.get(model.peerID).push(model);
  }
  return new Map([...peers].sort(([a], [b]) => compare(a, b)).map(([id, list]) => [id, list.sort(byName)]));
});

export const findModel = (id) => models.value.find((model) => model.id === id);

/** How many components show details; they are polled only while there are some. */
let watchers = 0;

function showModels(list) {
  const changed = new Map(since.peek());
  const before = new Map(models.peek().map((model) => [model.id, model.state]));
  const at = serverNow();
  for (const model of list) {
    if (model.peerID) continue;
    // The start of a state of the first list is unknown.
    if (before.has(model.id) && before.get(model.id) !== model.state) changed.set(model.id, at);
  }
  batch(() => {
    since.value = changed;
    models.value = list;
    modelsKnown.value = true;
  });
  refreshSoon();
}

/** State changes that arrived while the list was fetched; the list may be older than they are. */
let early = null;

function onStateChange({ processName: id, newState: state }) {
  early?.set(id, state);
  const list = models.peek();
  if (list.some((model) => model.id === id && model.state !== state)) showModels(list.map((model) => (model.id === id ? { ...model, state } : model)));
}

const refreshModels = singleFlight(async () => {
  early = new Map();
  try {
    const list = (await getJson("/api/models")).models;
    showModels(list.map((model) => ({ ...model, state: early.get(model.id) ?? model.state })));
  } catch (error) {
    console.info(`/api/models: ${error.message}`);
  }
  early = null;
});

const timeless = (entry) => JSON.stringify({ ...entry, seenMs: 0, state_for_s: 0 });

/** *before*, if *entry* says nothing else but that time has passed, so that what shows it need not be rendered again. */
function unchanged(before, entry) {
  if (!before || before.state !== entry.state) return entry;
  const restartedS = before.state_for_s + (entry.seenMs - before.seenMs) / 1000 - entry.state_for_s;
  return Math.abs(restartedS) < 1 && timeless(before) === timeless(entry) ? before : entry;
}

/** Set *target* unless it holds the same already, so that what shows it rests. */
function setChanged(target, value) {
  if (JSON.stringify(target.peek()) !== JSON.stringify(value)) target.value = value;
}

const refreshSelectors = singleFlight(async () => {
  try {
    setChanged(selectors, (await getJson("/api/selectors")).selectors);
  } catch (error) {
    console.info(`/api/selectors: ${error.message}`);
  }
});

/** Fetch the overview. */
export const refreshDetails = singleFlight(async () => {
  try {
    const overview = await getJson("/api/overview");
    const seenMs = serverNow();
    const known = details.peek();
    const found = new Map(overview.models.map((entry) => [entry.model_id, unchanged(known.get(entry.model_id), { ...entry, seenMs })]));
    batch(() => {
      if (found.size !== known.size || [...found].some(([id, entry]) => known.get(id) !== entry)) details.value = found;
      setChanged(groups, overview.groups);
      if (overview.peers.length) peerOutcomes.value = new Map(overview.peers.map(({ id, last }) => [id, last]));
    });
  } catch (error) {
    console.info(`/api/overview: ${error.message}`);
  }
});

const refreshLoads = singleFlight(async () => {
  const loading = localModels.peek().some(isLoading);
  if (!loading && !loads.peek().size) return;
  try {
    const { running } = loading ? await getJson("/running") : { running: [] };
    loads.value = new Map(running.filter(({ load }) => load).map(({ model, load }) => [model, load]));
  } catch (error) {
    console.info(`/running: ${error.message}`);
  }
});

const refreshWatched = () => Promise.all([refreshDetails(), selectors.peek().length && refreshSelectors()]);

/** A busy model starts and ends requests all the time, and the overview is long. */
const refreshSoon = throttle(REFRESH_SOON_MS, () => watchers && refreshWatched());

/** Keep *details* and what is beside them current until the returned function is called. Memory and countdowns have no event. */
export function watchDetails() {
  watchers += 1;
  refreshWatched();
  const stops = [everyWhileVisible(REFRESH_MS, refreshWatched), everyWhileVisible(LOADS_MS, refreshLoads)];
  return () => {
    watchers -= 1;
    stops.forEach((stop) => stop());
  };
}

function onInFlight({ models: busy }) {
  const found = new Map(busy.map((each) => [each.model, each]));
  let idleChanged = false; // between idle and busy; the event lacks the idle countdown
  let changed = null;
  for (const [id, entry] of details.peek()) {
    const { in_flight = 0, waiting = 0 } = found.get(id) ?? {};
    if (in_flight === entry.in_flight && waiting === entry.waiting) continue;
    idleChanged ||= (in_flight + waiting > 0) !== (entry.in_flight + entry.waiting > 0) || waiting !== entry.waiting;
    changed ??= new Map(details.peek());
    changed.set(id, { ...entry, in_flight, waiting });
  }
  if (changed) details.value = changed;
  if (idleChanged) refreshSoon();
}

/** Without admin right there is no event stream, but the list of models the key may use. */
async function listModelsOfKey() {
  try {
    const { data } = await getJson("/v1/models");
    models.value = data.map((each) => ({ id: each.id, name: each.name ?? "", description: each.description ?? "", state: "unknown", unlisted: false, sleepMode: "", peerID: each.meta?.llamaswap?.peerID ?? "" }));
    modelsKnown.value = true;
  } catch (error) {
    console.info(`/v1/models: ${error.message}`);
  }
}

export function startModels() {
  subscribe("limited", listModelsOfKey);
  const refresh = () => Promise.all([refreshModels(), refreshSelectors()]);
  subscribe("open", refresh);
  subscribe("configReload", ({ phase }) => phase === "end" && refresh());
  subscribe("modelStatus", onStateChange);
  subscribe("inFlight", onInFlight);
  subscribe("swap", refreshSoon);
}

// --- groups: which models swap with each other, which stay

const DEFAULT = "(default)";
const TITLES = { [DEFAULT]: "Default group", "(external)": "Servers run elsewhere" };

/** Groups of the active configuration: {id, swap, exclusive, persistent, members}. */
export const groups = signal([]);

/** Where groups decide; a matrix or a memory budget does not go by them. */
const RULES = {
  swap: ["one at a time", "Loading one member unloads the others of this group"],
  together: ["side by side", "Members of this group do not replace each other"],
  exclusive: ["evicts others", "Loading a member unloads the models of other groups"],
  persistent: ["stays", "Other groups cannot evict these models"],
};

function rulesOf(group) {
  return [group.swap ? RULES.swap : RULES.together, group.exclusive && RULES.exclusive, group.persistent && RULES.persistent].filter(Boolean);
}

function described(group, models) {
  const ready = models.filter((model) => model.state === "ready").length;
  return {
    id: group.id,
    title: TITLES[group.id] ?? group.id,
    rules: mode.value === "group" && (models.length > 1 || group.id !== DEFAULT) ? rulesOf(group) : [],
    summary: `${ready} of ${plural(models.length, "model")} ready`,
  };
}

/** Distribute *models* over their groups; before the groups are known, all are in one. */
export function groupsOf(models) {
  const left = new Map(models.map((model) => [model.id, model]));
  const found = [];
  for (const group of groups.value) {
    const members = models.filter((model) => group.members.includes(model.id));
    members.forEach((model) => left.delete(model.id));
    if (members.length) found.push({ group: described(group, members), models: members });
  }
  const rest = [...left.values()];
  if (rest.length) found.push({ group: { id: "", title: "Models", rules: [], summary: plural(rest.length, "model") }, models: rest });
  return found;
}
