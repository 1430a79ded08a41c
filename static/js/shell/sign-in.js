// The sign-in page: a field for the API key.

import { html, useEffect, useRef, useState } from "../shared/html.js";
import { signIn } from "../shared/session.js";
import { Problem } from "../shared/controls.js";
import { Logo } from "../shared/icons.js";

export function SignIn({ title }) {
  const field = useRef(null);
  const [problem, setProblem] = useState("");
  const [busy, setBusy] = useState(false);
  useEffect(() => field.current.focus(), []);
  const submit = async (event) => {
    event.preventDefault();
    if (!field.current.value.trim()) return;
    setBusy(true);
    setProblem("");
    try {
      await signIn(field.current.value);
    } catch (error) {
      setProblem(error.status === 401 ? "This key is not valid." : `Not signed in: ${error.message}.`);
      setBusy(false);
      field.current.select();
    }
  };
  return html`<main class="sign-in"><form class="card stack" onSubmit=${submit}>
    <div class="row"><${Logo} /><h1>${title}</h1></div>
    <div class="field"><label class="label" for="api-key">API key</label>
      <input ref=${field} id="api-key" class="input" type="password" autocomplete="current-password" autocapitalize="off" spellcheck="false" required /></div>
    ${problem && html`<${Problem}>${problem}</${Problem}>`}
    <button type="submit" class="btn primary" disabled=${busy}>${busy ? "Signing in…" : "Sign in"}</button>
    <p class="small muted">One of the keys below apiKeys in the configuration. You stay signed in for 12 hours.</p>
  </form></main>`;
}
