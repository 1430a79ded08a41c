// How models belong together: which swap with each other, which stay.

import { signal } from "../core/html.js";
import { plural } from "../core/format.js";

const DEFAULT = "(default)";

/** Groups of the configuration in force: {id, swap, exclusive, persistent, members}. */
export const groups = signal([]);

const RULES = {
  swap: ["one at a time", "Loading one member unloads the others of this group"],
  together: ["side by side", "Members of this group do not replace each other"],
  exclusive: ["evicts others", "Loading a member unloads the models of other groups"],
  persistent: ["stays", "Other groups cannot evict these models"],
};

function rulesOf(group) {
  return [group.swap ? RULES.swap : RULES.together, group.exclusive && RULES.exclusive, group.persistent && RULES.persistent].filter(Boolean);
}

function described(group, models) {
  const ready = models.filter((model) => model.state === "ready").length;
  return {
    id: group.id,
    title: group.id === DEFAULT ? "Default group" : group.id,
    rules: models.length > 1 || group.id !== DEFAULT ? rulesOf(group) : [],
    summary: `${ready} of ${plural(models.length, "model")} ready`,
  };
}

/** Distribute *models* over their groups; before the groups are known, all are in one. */
export function groupsOf(models) {
  const left = new Map(models.map((model) => [model.id, model]));
  const found = [];
  for (const group of groups.value) {
    const members = models.filter((model) => group.members.includes(model.id));
    members.forEach((model) => left.delete(model.id));
    if (members.length) found.push({ group: described(group, members), models: members });
  }
  const rest = [...left.values()];
  if (rest.length) found.push({ group: { id: "", title: "Models", rules: [], summary: plural(rest.length, "model") }, models: rest });
  return found;
}
