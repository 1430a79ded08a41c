// Tokens per second and waiting requests over time, from the finished requests. Pure.

/** Steps in which a range is counted. */
const STEPS = 120;

/** Add *amount*, spread evenly over from..to, to the bins it falls into. */
function spread(bins, { start, stepMs }, from, to, amount) {
  const length = Math.max(1, to - from);
  const last = Math.min(bins.length - 1, Math.floor((to - start) / stepMs));
  for (let index = Math.max(0, Math.floor((from - start) / stepMs)); index <= last; index += 1) {
    const left = start + index * stepMs;
    const overlap = Math.min(to, left + stepMs) - Math.max(from, left);
    if (overlap > 0) bins[index] += (amount * overlap) / length;
  }
}

/** {times, tokens, waiting} of *requests* in from..to: seconds, {name, values} per model, values. */
export function loadOf(requests, from, to) {
  const stepMs = Math.max(1000, (to - from) / STEPS);
  const number = Math.max(1, Math.floor((to - from) / stepMs));
  const axis = { start: from, stepMs };
  const empty = () => new Array(number).fill(0);
  const tokens = new Map();
  const waiting = empty();
  for (const each of requests) {
    const begin = each.started_ms + (each.queue_ms ?? 0) + (each.load_ms ?? 0);
    spread(waiting, axis, each.started_ms, begin, (begin - each.started_ms) / stepMs);
    if (!each.output_tokens) continue;
    if (!tokens.has(each.model_id)) tokens.set(each.model_id, empty());
    spread(tokens.get(each.model_id), axis, begin, Math.max(begin, each.ended_ms), each.output_tokens / (stepMs / 1000));
  }
  const series = [...tokens].filter(([, values]) => values.some(Boolean)).sort(([a], [b]) => a.localeCompare(b));
  return { times: waiting.map((_, index) => (from + (index + 1) * stepMs) / 1000), tokens: series.map(([name, values]) => ({ name, values })), waiting };
}
