// Starts the interface: the stores, the connection, the shell.

import { html, render } from "./shared/html.js";
import { connect, subscribe } from "./shared/event-stream.js";
import { readSession } from "./shared/session.js";
import { startActivity } from "./activity/store.js";
import { startConfig } from "./config/status.js";
import { startMemory } from "./memory/store.js";
import { startFailures } from "./models/failures.js";
import { startModels } from "./models/store.js";
import { startProfiles } from "./shell/profile-choice.js";
import { Shell } from "./shell/shell.js";
import { startTimeline } from "./timeline/store.js";
import { startSwaps } from "./timeline/swaps.js";

await readSession();
startModels();
startActivity();
startSwaps();
startMemory();
startFailures();
startTimeline();
startProfiles();
startConfig();
subscribe("configReload", ({ phase }) => phase === "end" && readSession());
connect();
const root = document.getElementById("app");
root.replaceChildren();
render(html`<${Shell} />`, root);
