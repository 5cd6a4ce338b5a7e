// The fields of the documents beside the hits. A click writes into the condition; nothing is kept here.

import { $, h, number } from "./dom.js";
import { chosen, range, toggled, withRange } from "./where.js";

const MOST_FIELDS = 8, MOST_VALUES = 8, MOST_DISTINCT = 200;

// The fields worth showing: those that split the documents into groups, and numbers.
export function worthShowing(fields, documents) {
  const useful = (field) =>
    field.documents >= 0.02 * documents && field.distinct > 1 &&
    (field.type === "number" || (field.distinct <= MOST_DISTINCT && field.distinct <= field.documents / 2));
  return fields.filter(useful).sort((a, b) => b.documents - a.documents).slice(0, MOST_FIELDS);
}

const isRange = (field) => field.type === "number" && field.distinct > 12;

export const counted = (fields) => fields.filter((field) => !isRange(field)).map((field) => field.name);

// counts: of the hits by field and value, or null where there is no query; write: takes the new condition.
export function showFacets(fields, counts, where, write) {
  if ($("filters").contains(document.activeElement) && document.activeElement.matches("input")) return;  // somebody types there
  const drawn = fields.map((field) =>
    h("section.facet", {}, h("h3", {}, field.name), ...(isRange(field) ? [rangeOf(field, where, write)] : valuesOf(field, counts?.[field.name], where, write))));
  $("filters").replaceChildren(...drawn);
  if (!drawn.length) $("filters").append(h("p.soft", {}, "The documents have no fields to choose by."));
}

function valuesOf(field, counts, where, write) {
  const taken = chosen(where, field.name);
  const count = (value) => (counts ? counts[String(value)] ?? 0 : field.values.find(([other]) => other === value)?.[1] ?? 0);
  const isTaken = (value) => taken.includes(typeof value === "string" ? `'${value.replaceAll("'", "''")}'` : String(value));
  const values = field.values.map(([value]) => value);
  values.sort((a, b) => isTaken(b) - isTaken(a) || count(b) - count(a));
  const row = (value) => h(
    "button.value",
    { type: "button", "aria-pressed": String(isTaken(value)), onclick: () => write(toggled(where, field.name, value)) },
    h("span.name", {}, String(value)),
    // Beside a chosen value the others have no hits, which says nothing about what choosing them would bring.
    h("span.count", {}, count(value) || !taken.length ? number.format(count(value)) : ""),
  );
  const rest = values.slice(MOST_VALUES).map(row);
  const more = h("button.link", { type: "button", onclick: () => more.replaceWith(...rest) }, `${rest.length} more`);
  return [...values.slice(0, MOST_VALUES).map(row), ...(rest.length ? [more] : [])];
}

function rangeOf(field, where, write) {
  const [low, high] = range(where, field.name);
  const input = (value, hint, label) => h("input", { type: "number", step: "any", value, placeholder: hint, "aria-label": `${field.name}, ${label}` });
  const from = input(low, field.low, "at least"), to = input(high, field.high, "at most");
  from.onchange = to.onchange = () => write(withRange(where, field.name, from.value, to.value));
  return h("div.range", {}, from, h("span", {}, "to"), to);
}
