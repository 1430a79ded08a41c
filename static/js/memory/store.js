// The memory budget: what each device holds, and what each model needs.

import { batch, signal } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { limited } from "../shared/session.js";
import { subscribe } from "../shared/event-stream.js";
import { throttle } from "../shared/timing.js";

const REFRESH_SOON_MS = 1000;
const ANY_GPU = "any";
const UNKNOWN = "unknown"; // the source of a need that is

/** What decides which models run together: "group", "matrix" or "memory"; empty before an answer has arrived. */
export const mode = signal("");

/** The devices of the budget; empty where groups or a matrix decide. */
export const devices = signal([]);

/** The machines of launchers, in the form of devices with GPUs instead of bytes. */
export const nodes = signal([]);

/** Whether an answer has arrived: before that, what there is besides the budget may not be shown yet. */
export const memoryKnown = signal(false);

/** Model id -> {need, asleep, source, pinned, alone_on}, the first two by device in bytes. */
export const needs = signal(new Map());

/** Set where *found* says something else, so that what shows it rests otherwise. */
function show(target, found, plain = found) {
  const text = JSON.stringify(plain);
  if (texts.get(target) === text) return;
  texts.set(target, text);
  target.value = found;
}
const texts = new Map();

/** Fetch what devices hold and models need. */
export const refreshMemory = singleFlight(async () => {
  if (limited.peek()) return;
  try {
    const found = await getJson("/api/memory");
    batch(() => {
      mode.value = found.mode;
      show(devices, found.devices.filter((device) => isUsed(device, found.models)));
      show(nodes, (found.nodes ?? []).filter(({ gpus }) => gpus > 0).map(asDevice));
      show(needs, new Map(found.models.map((each) => [each.model, each])), found.models);
    });
  } catch (error) {
    console.info(`/api/memory: ${error.message}`);
  }
  memoryKnown.value = true;
});

const share = ({ model, gpus, asleep }) => ({ model, bytes: gpus, asleep, source: "" });
const asDevice = ({ name, gpus, others, free, residents, reserved }) => ({ name, label: null, unit: "gpus", capacity: gpus, reserve: 0, free, others: { bytes: others, holders: "" }, residents: residents.map(share), reserved: reserved.map(share) });

/** RAM is always a device of the budget, though it says nothing where models run on GPUs only. */
const isUsed = ({ name, residents, reserved, others }, models) => name !== "ram" || residents.length > 0 || reserved.length > 0 || others.bytes > 0 || models.some(({ need }) => "ram" in need);

/** How many components show memory; it is fetched only while there are some. */
let watchers = 0;
const refreshSoon = throttle(REFRESH_SOON_MS, () => watchers && refreshMemory());

/** Keep *devices* and *needs* current until the returned function is called; events say when. */
export function watchMemory() {
  watchers += 1;
  refreshSoon();
  return () => { watchers -= 1; };
}

/** A request that begins or ceases to wait may be what a swap is decided for, or given up. */
let waiting = "";
function onInFlight({ models }) {
  const found = models.filter((each) => each.waiting).map((each) => each.model).join();
  if (found !== waiting) refreshSoon();
  waiting = found;
}

export function startMemory() {
  for (const kind of ["open", "modelStatus", "swapStarted", "swap", "memoryChanged"]) subscribe(kind, refreshSoon);
  subscribe("configReload", ({ phase }) => phase === "end" && refreshSoon());
  subscribe("inFlight", onInFlight);
}

/** Whether a model that is not loaded fits beside what is, by the budget; false where that is unknown. */
export function fitsNow(id) {
  const entry = needs.value.get(id);
  if (!entry || entry.source === UNKNOWN) return false;
  const has = (bytes, name) => devices.value.some((device) => (name === ANY_GPU ? device.name !== "ram" : device.name === name) && device.free >= bytes);
  return Object.entries(entry.need).every(([name, bytes]) => !bytes || has(bytes, name));
}

// --- in words

const GIB = 1024 ** 3;

/** What a device has: (1610612736) -> "1.5 GiB", (1, "gpus") -> "1 GPU". */
export const amountText = (amount, unit) => (unit === "gpus" ? `${amount.toLocaleString("en", { maximumFractionDigits: 2 })} ${amount === 1 ? "GPU" : "GPUs"}` : sizeText(amount));

/** 15032385536 -> "14 GiB", 1610612736 -> "1.5 GiB". */
export const sizeText = (bytes) => `${(bytes / GIB).toLocaleString("en", { maximumFractionDigits: 1 })} GiB`;

const place = (name) => ({ [ANY_GPU]: "any GPU", ram: "RAM" }[name] ?? name);
const sizes = (byDevice) => Object.entries(byDevice).filter(([, bytes]) => bytes > 0).map(([name, bytes]) => `${sizeText(bytes)} ${name === "ram" ? "of" : "on"} ${place(name)}`).join(" + ");

/** "18 GiB on gpu0, measured"; "an unknown amount: gets gpu0 alone". */
export function needText({ need, source, alone_on }) {
  if (source === UNKNOWN) return `an unknown amount: gets ${place(alone_on)} alone`;
  return `${sizes(need) || "no memory"}, ${source}`;
}

/** What a model keeps while it sleeps; empty where that is nothing or unknown. */
export const asleepText = ({ asleep }) => sizes(asleep);

/** What it needs in all, for lists: "18 GiB"; empty where that is unknown. */
export function needTotal(entry) {
  const total = Object.values(entry?.need ?? {}).reduce((sum, bytes) => sum + bytes, 0);
  return total ? sizeText(total) : "";
}
