// The captured request once more, to the same model or another, and both answers with their figures.

import { html, useMemo, useState } from "../../core/html.js";
import { ask } from "../../core/ask.js";
import { assemble, dialectOf } from "../../core/dialects.js";
import { eventsOf } from "../../core/sse.js";
import { count, ms, speed } from "../../core/format.js";
import { Note, Problem } from "../../components/controls.js";
import { Icon } from "../../components/icons.js";
import { ModelSelect } from "../playground/modelselect.js";
import { Work } from "../playground/work.js";
import { decode, typeOf } from "./body.js";

/** The request's JSON, or null when it cannot be sent again. */
function parsed(capture) {
  if (capture.req_body_omitted || capture.method === "GET") return null;
  try {
    return JSON.parse(new TextDecoder().decode(decode(capture.req_body)));
  } catch {
    return null;
  }
}

function originalAnswer(capture, dialect) {
  const text = new TextDecoder().decode(decode(capture.resp_body));
  return assemble(dialect, /event-stream/.test(typeOf(capture.resp_headers)) ? eventsOf(text) : [{ data: text }]);
}

function Figures({ output, rate, firstMs, totalMs }) {
  return html`<dl class="facts num"><dt>Tokens</dt><dd>${count(output)}</dd><dt>Speed</dt><dd>${speed(rate)} tokens/s</dd><dt>First token</dt><dd>${ms(firstMs)}</dd><dt>Whole answer</dt><dd>${ms(totalMs)}</dd></dl>`;
}

function Side({ title, text, reasoning, figures }) {
  return html`<section class="stack tight" aria-label=${title}><h4>${title}</h4>${figures}
    <div class="code-block scroll as-typed" tabindex="0" role="region" aria-label="${title}, text">${reasoning && !text ? html`<span class="muted">${reasoning}</span>` : text || "–"}</div></section>`;
}

export function Replay({ capture, record }) {
  const dialect = dialectOf(capture.req_path);
  const body = useMemo(() => parsed(capture), [capture]);
  const before = useMemo(() => originalAnswer(capture, dialect), [capture]);
  const [model, setModel] = useState(record.requested || record.model_id);
  const [text, setText] = useState("");
  const [stats, setStats] = useState(null);
  const work = useMemo(() => new Work(), []);
  if (!body) return html`<${Note}>This request cannot be sent again: its body was not kept, or is no JSON.</${Note}>`;
  const run = () => work.run(async (abort) => {
    setText("");
    setStats(null);
    let received = "";
    const onPiece = (piece) => {
      received += piece.text ?? "";
      setText(received);
    };
    setStats(await ask({ dialect, path: capture.req_path, body: { ...body, model }, signal: abort, onPiece }));
  });
  return html`<section class="replay stack" aria-label="Replay"><div class="row"><h3>Replay</h3><div class="model-choice"><${ModelSelect} hideLabel label="Replay against" value=${model} disabled=${work.busy.value} onChange=${setModel} /></div>
      ${work.busy.value ? html`<button type="button" class="btn" onClick=${() => work.stop()}><${Icon} name="stop" size="16" />Stop</button>` : html`<button type="button" class="btn primary" disabled=${!model} onClick=${run}><${Icon} name="play" size="16" />Send again</button>`}</div>
    ${work.error.value && html`<${Problem}>${work.error.value}</${Problem}>`}
    ${(stats || text || work.busy.value) && html`<div class="capture">
      <${Side} title="Before, ${record.model_id}" text=${before.text} reasoning=${before.reasoning} figures=${html`<${Figures} output=${record.output_tokens} rate=${record.tokens_per_second} firstMs=${record.first_token_ms} totalMs=${record.duration_ms} />`} />
      <${Side} title="Now, ${model}" text=${text} figures=${html`<${Figures} output=${stats?.usage.output} rate=${stats?.speed} firstMs=${stats?.firstMs} totalMs=${stats?.totalMs} />`} />
    </div>`}
  </section>`;
}
