// Who is signed in. The key is exchanged for a cookie that scripts cannot read; it is stored nowhere.

import { computed, effect, signal } from "./html.js";
import { getJson, request, unauthorized } from "./api.js";

const SIGNED_OUT = { required: true, key: null, admin: false };

/** {required, key, admin}: whether the server needs keys, the name of the key, its right. */
export const session = signal({ required: false, key: null, admin: true });

/** Whether the server serves nothing but this page to this browser. */
export const signedOut = computed(() => session.value.required && session.value.key === null);

/** Whether the key has no admin right, so that only the pages of any key work. */
export const limited = computed(() => session.value.key !== null && !session.value.admin);

/** What to call the key in a sentence. */
export const keyName = computed(() => (session.value.key ? `The key '${session.value.key}'` : "This key"));

/** Ask the server; while it cannot be reached, the page shows what a key would not change. */
export async function readSession() {
  try {
    session.value = await getJson("/session");
  } catch (error) {
    if (error.status === 401) session.value = SIGNED_OUT;
  }
}

/** Exchange *key* for a session. Raises ApiError. */
export async function signIn(key) {
  // A header carries bytes; the server reads them as UTF-8.
  const bytes = String.fromCharCode(...new TextEncoder().encode(key.trim()));
  await request("/session", { method: "POST", headers: { Authorization: `Bearer ${bytes}` } });
  location.reload();
}

/** End the session. A key that the browser itself remembers stays, so the page waits for another. */
export async function signOut() {
  session.value = await (await request("/session", { method: "DELETE" })).json();
}

effect(() => {
  if (unauthorized.value) session.value = SIGNED_OUT;
});
