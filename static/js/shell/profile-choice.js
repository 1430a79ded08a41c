// The choice of the active profile, where the configuration has profiles.

import { html, signal } from "../shared/html.js";
import { getJson, request, singleFlight } from "../shared/api.js";
import { Select } from "../shared/controls.js";
import { subscribe } from "../shared/event-stream.js";
import { limited } from "../shared/session.js";
import { attempt } from "../shared/toasts.js";

/** {active, profiles}, as of /api/profiles. */
const known = signal({ active: null, profiles: [] });

const refresh = singleFlight(async () => {
  try {
    known.value = await getJson("/api/profiles");
  } catch (error) {
    console.info(`/api/profiles: ${error.message}`);
  }
});

export function startProfiles() {
  subscribe("open", refresh);
  subscribe("configReload", ({ phase }) => phase === "end" && refresh());
  subscribe("profileChanged", ({ active }) => { known.value = { ...known.peek(), active }; });
}

async function activate(name) {
  const body = JSON.stringify({ name: name || null });
  await attempt("The profile is as it was", () => request("/api/profiles/active", { method: "PUT", headers: { "Content-Type": "application/json" }, body }));
  await refresh();
}

export function ProfileChoice() {
  const { active, profiles } = known.value;
  if (!profiles.length || limited.value) return null;
  return html`<${Select} label="Profile" value=${active ?? ""} onChange=${activate}>
    <option value="">No profile</option>
    ${profiles.map(({ id, description }) => html`<option key=${id} value=${id} title=${description}>${id}</option>`)}
  </${Select}>`;
}
