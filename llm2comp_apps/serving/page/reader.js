// The document in the side view, with the passage that was found.

import { ask, documentPath } from "./api.js";
import { $, h } from "./dom.js";

let scrolled = null;

export async function openDocument(index, hit, actions) {
  const reader = $("reader");
  const found = await ask(documentPath(index, hit.id));
  scrolled ??= document.activeElement;
  reader.replaceChildren(
    h("header", {},
      h("button.tool", { type: "button", onclick: () => actions.similar(hit) }, "Similar"),
      h("button.tool", { type: "button", title: "Copy the id", onclick: () => actions.copy(found.id) }, "Copy id"),
      h("span"),
      h("button.tool.round", { type: "button", title: "Close (Esc)", "aria-label": "Close the document", onclick: actions.close }, "×")),
    h("h2", {}, found.title || found.id),
    facts(found),
    text(found.text, hit.span, wordsOf(hit)));
  reader.hidden = false;
  reader.scrollTop = 0;
  reader.querySelector(".passage")?.scrollIntoView({ block: "center" });
}

export function closeDocument() {
  $("reader").hidden = true;
  $("reader").replaceChildren();
  scrolled = null;
}

export const isOpen = () => !$("reader").hidden;

function facts(found) {
  const rows = [["id", found.id], ...Object.entries(found.metadata)];
  return h("dl", {}, ...rows.flatMap(([name, value]) =>
    [h("dt", {}, name), h("dd", {}, typeof value === "object" ? JSON.stringify(value) : String(value))]));
}

// The words that are marked in the snippet, in the forms that stand there.
function wordsOf(hit) {
  const letters = Array.from(hit.snippet ?? "");
  return [...new Set((hit.marks ?? []).map(([start, end]) => letters.slice(start, end).join("")))];
}

function text(whole, span, words) {
  if (!span) return h("div.text", {}, lit(whole, words));
  const letters = Array.from(whole), [start, end] = span, part = (...ends) => lit(letters.slice(...ends).join(""), words);
  return h("div.text", {}, part(0, start), h("span.passage", {}, part(start, end)), part(end));
}

function lit(piece, words) {
  if (!words.length) return [piece];
  const escaped = words.map((word) => word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])(${escaped.join("|")})(?![\\p{L}\\p{N}])`, "giu");
  return piece.split(pattern).map((each, at) => (at % 2 ? h("mark", {}, each) : each));
}
