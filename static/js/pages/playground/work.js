// One piece of work at a time: running or not, cancelled, failed with a sentence.

import { signal } from "../../core/html.js";

export class Work {
  #control = null;

  constructor() {
    this.busy = signal(false);
    this.error = signal("");
  }

  /** Do *action*, which gets an AbortSignal, unless one is running. */
  async run(action) {
    if (this.busy.peek()) return;
    const control = new AbortController();
    this.#control = control;
    this.busy.value = true;
    this.error.value = "";
    try {
      await action(control.signal);
    } catch (error) {
      if (error.name !== "AbortError") this.error.value = error.status ? `${error.status}: ${error.message}` : error.message;
    } finally {
      this.busy.value = false;
    }
  }

  stop() {
    this.#control?.abort();
  }

  reset() {
    this.stop();
    this.error.value = "";
  }
}
