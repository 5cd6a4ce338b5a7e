// The document in the side view, with the passage that was found.

import { Latest, documentPath } from "./api.js";
import { $, h } from "./dom.js";

const reading = new Latest();
let before = null;  // what had the focus

export async function openDocument(index, hit, actions) {
  const reader = $("reader");
  const found = await reading.ask(documentPath(index, hit.id));
  if (!reader.contains(document.activeElement)) before = document.activeElement;
  reader.replaceChildren(
    h("header", {},
      h("button.tool", { type: "button", onclick: () => actions.similar(found) }, "Similar"),
      h("button.tool", { type: "button", title: "Copy the id", onclick: () => actions.copy(found.id) }, "Copy id"),
      h("span"),
      h("button.tool.round", { type: "button", title: "Close (Esc)", "aria-label": "Close the document", onclick: actions.close }, "×")),
    h("h2", { id: "reader-name" }, found.title || found.id),
    facts(found),
    text(found.text, hit.span, wordsOf(hit)));
  reader.hidden = false;
  reader.scrollTop = 0;
  reader.focus({ preventScroll: true });  // its keys scroll it, and a screen reader begins there
  reader.querySelector(".passage")?.scrollIntoView({ block: "center" });
}

export function closeDocument() {
  reading.stop();
  if ($("reader").contains(document.activeElement)) before?.focus({ preventScroll: true });
  $("reader").hidden = true;
  $("reader").replaceChildren();
  before = null;
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

const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;

// A word stands alone, except in scripts that are written without spaces.
function wordPattern(word) {
  const escaped = word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  return UNSPACED.test(word) ? escaped : `(?<![\\p{L}\\p{N}])${escaped}(?![\\p{L}\\p{N}])`;
}

function lit(piece, words) {
  if (!words.length) return [piece];
  const longestFirst = [...words].sort((a, b) => b.length - a.length);
  const pattern = new RegExp(`(${longestFirst.map(wordPattern).join("|")})`, "giu");
  return piece.split(pattern).map((each, at) => (at % 2 ? h("mark", {}, each) : each));
}
