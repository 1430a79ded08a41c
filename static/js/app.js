// Starts the interface: the stores, the connection, the shell.

import { html, render } from "./core/html.js";
import { connect } from "./core/events.js";
import { startModels } from "./store/models.js";
import { startLogs } from "./store/logs.js";
import { startActivity } from "./store/activity.js";
import { startSwaps } from "./store/swaps.js";

import { Shell } from "./components/shell.js";

startModels();
startLogs();
startActivity();
startSwaps();
connect();
const root = document.getElementById("app");
root.replaceChildren();
render(html`<${Shell} />`, root);
