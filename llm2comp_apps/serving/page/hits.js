// The list of hits: what each shows, and which one the keyboard is at.

import { $, dotOf, h, marked } from "./dom.js";

const MOST_FIELDS = 5, LONGEST_VALUE = 60;
// The parts of a hybrid score: what each is called, its bar, and how it is written; both run from 0 to 1.
const PARTS = [
  ["cosine", "meaning", "dense", "Nearness of meaning (cosine)", (value) => value.toFixed(2)],
  ["coverage", "words", "lexical", "Share of the query's words, weighed by rarity", (value) => `${Math.round(100 * value)} %`],
];

const three = new Intl.NumberFormat("en", { minimumSignificantDigits: 3, maximumSignificantDigits: 3, useGrouping: false });
const BY_ITSELF = "a, button";  // what a click on it does is its own affair

let current = -1;

export const rows = () => [...$("hits").children];
export const currentHit = () => rows()[current]?.hit ?? null;

export function moveTo(place) {
  const all = rows();
  current = Math.max(-1, Math.min(all.length - 1, place));
  all.forEach((row, at) => row.classList.toggle("current", at === current));
  all[current]?.querySelector("a").focus({ preventScroll: true });  // a screen reader reads it, and the page scrolls from there
  all[current]?.scrollIntoView({ block: "nearest" });
}
export const move = (step) => moveTo(current + step);

export function markOpen(id) {
  for (const row of rows()) row.classList.toggle("open", row.hit.id === id);
}

// actions: { open(hit), similar(hit), choose(field, value), color(id), address(hit) }
export function showHits(hits, actions, { append = false } = {}) {
  const drawn = hits.map((hit) => draw(hit, actions));
  if (append) $("hits").append(...drawn);
  else { $("hits").replaceChildren(...drawn); current = -1; }
}

function draw(hit, actions) {
  const color = actions.color(hit.id);
  const opens = (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;  // in a tab or window of its own
    event.preventDefault();
    actions.open(hit);
  };
  const title = h("a.title", { href: actions.address(hit), onclick: opens }, hit.title || hit.id);
  const row = h("li.hit", { onclick: (event) => { if (!event.target.closest(BY_ITSELF) && !getSelection().toString()) actions.open(hit); } },
    h("h3", {}, h("span.rank", {}, String(hit.rank)), title, color && dotOf(color)),
    h("p", {}, marked(hit.snippet, hit.marks)),
    h("div.facts", {}, ...scores(hit), ...fields(hit, actions),
      h("button.link", { type: "button", onclick: () => actions.similar(hit) }, "Similar")));
  row.hit = hit;
  return row;
}

function scores(hit) {
  if (hit.score === undefined || hit.score === null) return [];
  const parts = PARTS.filter(([name]) => hit.parts && hit.parts[name] !== null && hit.parts[name] !== undefined);
  return [h("span.score", { title: "Score" }, three.format(hit.score)), ...parts.map(([name, label, kind, title, written]) => {
    const filled = h("i"), value = hit.parts[name];
    filled.style.width = `${Math.round(100 * Math.max(0, Math.min(1, value)))}%`;
    return h("span.score", { title }, label, h(`span.bar.${kind}`, {}, filled), written(value));
  })];
}

function fields(hit, actions) {
  const short = Object.entries(hit.metadata).filter(([, value]) =>
    ["string", "number", "boolean"].includes(typeof value) && value !== "" && String(value).length <= LONGEST_VALUE);
  return short.slice(0, MOST_FIELDS).map(([name, value]) =>
    h("button.field", { type: "button", title: `Only where ${name} is this`, onclick: () => actions.choose(name, value) }, `${name} ${value}`));
}
