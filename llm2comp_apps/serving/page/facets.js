// The fields of the documents beside the hits. A click writes into the condition; nothing is kept here.

import { $, h, number, short } from "./dom.js";
import { chosen, literal, range, toggled, withRange } from "./where.js";

const MOST_FIELDS = 8, MOST_VALUES = 8, MOST_DISTINCT = 200, LONGEST = 80;

// The fields worth showing: those that split the documents into groups, and numbers.
export function worthShowing(fields, documents) {
  const useful = (field) =>
    field.documents >= 0.02 * documents && field.distinct > 1 &&
    (field.type === "number" || (field.distinct <= MOST_DISTINCT && field.distinct <= field.documents / 2));
  return fields.filter(useful).sort((a, b) => b.documents - a.documents).slice(0, MOST_FIELDS);
}

const isRange = (field) => field.type === "number" && field.distinct > 12;

export const counted = (fields) => fields.filter((field) => !isRange(field)).map((field) => field.name);

let put = null;  // what is to be drawn when nobody types here any longer
let unfolded = new Set(), of = null;

// counts: of the hits by field and value, or null where there is no query; where: tells the condition, which may have
// changed by the time of a click; write: takes the new one.
export function showFacets(fields, counts, where, write) {
  const held = $("filters").contains(document.activeElement) ? document.activeElement : null;
  put = held?.matches("input") ? [fields, counts, where, write] : null;
  if (put) return;
  if (of !== fields) { of = fields; unfolded = new Set(); }
  const drawn = fields.map((field) =>
    h("section.facet", {}, h("h3", {}, field.name), ...(isRange(field) ? [rangeOf(field, where, write)] : valuesOf(field, counts?.[field.name], where, write))));
  const seen = held?.matches(":focus-visible");
  $("filters").replaceChildren(...drawn);
  if (held) [...$("filters").querySelectorAll("button")].find((button) => button.value === held.value)?.focus({ preventScroll: !seen });
  if (!drawn.length) $("filters").append(h("p.soft", {}, "The documents have no fields to choose by."));
}

$("filters").addEventListener("focusout", (event) => {
  if (put && !$("filters").contains(event.relatedTarget)) setTimeout(() => { if (put) showFacets(...put); });
});

// How many hits have a value. Python spells some numbers otherwise than JavaScript does: 2.0 is 2 here.
function counter(field, counts) {
  if (!counts) return (value) => field.values.find(([other]) => other === value)?.[1] ?? 0;
  const numbers = new Map(Object.entries(counts).filter(([spelled]) => spelled.trim()).map(([spelled, often]) => [Number(spelled), often]));
  return (value) => (Object.hasOwn(counts, String(value)) ? counts[String(value)] : typeof value === "number" ? numbers.get(value) ?? 0 : 0);
}

function valuesOf(field, counts, where, write) {
  const taken = chosen(where(), field.name), count = counter(field, counts);
  const isTaken = (value) => taken.includes(literal(value));
  const values = field.values.map(([value]) => value);
  values.sort((a, b) => isTaken(b) - isTaken(a) || count(b) - count(a));
  const row = (value) => h(
    "button.value",
    { type: "button", value: JSON.stringify([field.name, value]), "aria-pressed": String(isTaken(value)), onclick: () => write(toggled(where(), field.name, value)) },
    h("span.name", { title: String(value).length > LONGEST ? short(String(value), 500) : "" }, short(String(value), LONGEST) || "(empty)"),
    // Beside a chosen value the others have no hits, which says nothing about what choosing them would bring.
    h("span.count", {}, count(value) || !taken.length ? number.format(count(value)) : ""),
  );
  const rest = values.slice(MOST_VALUES).map(row);
  const unfold = () => { unfolded.add(field.name); more.replaceWith(...rest); rest[0].focus({ preventScroll: true }); };
  const more = h("button.link", { type: "button", value: field.name, onclick: unfold }, `${rest.length} more`);
  return [...values.slice(0, MOST_VALUES).map(row), ...(unfolded.has(field.name) ? rest : rest.length ? [more] : [])];
}

function rangeOf(field, where, write) {
  const [low, high] = range(where(), field.name);
  const input = (value, hint, label) => h("input", { type: "number", step: "any", value, placeholder: hint, "aria-label": `${field.name}, ${label}` });
  const from = input(low, field.low, "at least"), to = input(high, field.high, "at most");
  from.onchange = to.onchange = () => write(withRange(where(), field.name, from.value, to.value));
  return h("div.range", {}, from, h("span", {}, "to"), to);
}
