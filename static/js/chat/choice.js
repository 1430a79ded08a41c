// The model to talk to; other parts choose it, too.

import { stored } from "../shared/storage.js";

export const chatModel = stored("playground-selected-model", "");
