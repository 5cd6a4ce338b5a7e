// The list of hits: what each shows, and which one the keyboard is at.

import { $, h, marked } from "./dom.js";

const MOST_FIELDS = 5, LONGEST_VALUE = 60;
const PARTS = { dense: "meaning", lexical: "words" };

let current = -1;

export const rows = () => [...$("hits").children];
export const currentHit = () => rows()[current]?.hit ?? null;

export function moveTo(place) {
  const all = rows();
  current = Math.max(-1, Math.min(all.length - 1, place));
  all.forEach((row, at) => row.classList.toggle("current", at === current));
  all[current]?.scrollIntoView({ block: "nearest" });
}
export const move = (step) => moveTo(current + step);

export function markOpen(id) {
  for (const row of rows()) row.classList.toggle("open", row.hit.id === id);
}

// actions: { open(hit), similar(hit), choose(field, value), color(id) }
export function showHits(hits, actions, { append = false, best = {} } = {}) {
  const drawn = hits.map((hit) => draw(hit, actions, best));
  if (append) $("hits").append(...drawn);
  else { $("hits").replaceChildren(...drawn); current = -1; }
}

function draw(hit, actions, best) {
  const color = actions.color(hit.id);
  const dot = color && h("span.dot", { title: color.name });
  if (dot) dot.style.background = color.css;
  const row = h("li.hit", { onclick: (event) => { if (!event.target.closest("button") && !getSelection().toString()) actions.open(hit); } },
    h("h3", {}, h("span.rank", {}, String(hit.rank)), h("span", {}, hit.title || hit.id), dot),
    h("p", {}, marked(hit.snippet, hit.marks)),
    h("div.facts", {}, ...scores(hit, best), ...fields(hit, actions),
      h("button.link", { type: "button", onclick: () => actions.similar(hit) }, "Similar")));
  row.hit = hit;
  return row;
}

// The parts of a hit's score where the server says them, each as a share of the best of its kind.
export function bestParts(hits) {
  const best = {};
  for (const hit of hits) for (const [name, value] of Object.entries(hit.parts ?? {})) best[name] = Math.max(best[name] ?? 0, value ?? 0);
  return best;
}

function scores(hit, best) {
  const parts = Object.entries(hit.parts ?? {}).filter(([name, value]) => name in PARTS && value !== null);
  if (!parts.length) return hit.score === undefined || hit.score === null ? [] : [h("span.score", { title: "Score" }, hit.score.toPrecision(3))];
  return parts.map(([name, value]) => {
    const filled = h("i");
    filled.style.width = `${Math.round(100 * Math.max(0, Math.min(1, value / (best[name] || 1))))}%`;
    return h("span.score", { title: name === "dense" ? "Nearness of meaning (cosine)" : "Shared words (BM25)" },
      PARTS[name], h(`span.bar.${name}`, {}, filled), value.toPrecision(3));
  });
}

function fields(hit, actions) {
  const short = Object.entries(hit.metadata).filter(([, value]) =>
    ["string", "number", "boolean"].includes(typeof value) && value !== "" && String(value).length <= LONGEST_VALUE);
  return short.slice(0, MOST_FIELDS).map(([name, value]) =>
    h("button.field", { type: "button", title: `Only where ${name} is this`, onclick: () => actions.choose(name, value) }, `${name} ${value}`));
}
