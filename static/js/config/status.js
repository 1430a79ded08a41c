// What is wrong with the configuration, for the navigation and the Config page; toasts report reloads.

import { computed, signal } from "../shared/html.js";
import { getJson, singleFlight } from "../shared/api.js";
import { subscribe } from "../shared/event-stream.js";
import { go } from "../shared/router.js";
import { plural } from "../shared/format.js";
import { showToast } from "../shared/toasts.js";

/** The answer of /api/config/status; null before the first. */
export const status = signal(null);

export const refreshStatus = singleFlight(async () => { status.value = await getJson("/api/config/status"); });

/** What the navigation says of it: {text, bad}, null if nothing. */
export const configBadge = computed(() => {
  const { errors = [], advice = [] } = status.value ?? {};
  if (errors.length) return { text: plural(errors.length, "error"), bad: true };
  return advice.length ? { text: `${advice.length} advice`, bad: false } : null;
});

function onReload({ phase, errors }) {
  if (phase === "start") return;
  if (phase === "failed") showToast(`The file has ${plural(errors.length, "error")} and was not loaded. The previous configuration is still running.`, "bad", ["Show", () => go("config")]);
  else showToast("Configuration reloaded", "ok");
  quietRefresh();
}

const quietRefresh = () => refreshStatus().catch((error) => console.info(`/api/config/status: ${error.message}`));

export function startConfig() {
  subscribe("open", quietRefresh);
  subscribe("configReload", onReload);
}
