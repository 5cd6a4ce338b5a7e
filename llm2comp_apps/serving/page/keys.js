// The keyboard. In the box only Escape, Enter and the arrows mean something else than letters.

import { $, h } from "./dom.js";

const TABLE = [
  ["/", "search"], ["j  k", "next and previous hit"], ["Enter", "open the document"], ["s", "similar documents"],
  ["1  2  3  4", "both, meaning, words, reranked"], ["w", "the condition"], ["m", "the map"], ["l", "the lasso"],
  ["0  +  −", "whole map, larger, smaller"], ["c", "copy as command"], ["d", "dark or light"], ["Esc", "back"], ["?", "this list"],
];

export function bindKeys(actions) {
  $("keys").append(h("h2", { id: "keys-name" }, "Keys"), h("table", {}, ...TABLE.map(([keys, what]) =>
    h("tr", {}, h("td", {}, ...keys.split("  ").map((key) => h("kbd", {}, key)).flatMap((key) => [key, " "])), h("td", {}, what)))));
  $("keys").onclick = () => $("keys").close();
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.isComposing || event.keyCode === 229) return;  // Enter and arrows choose among spellings there
    const typing = event.target.matches("input, select, textarea");
    const inBox = { ArrowDown: actions.next, ArrowUp: actions.previous, Enter: actions.enter, Escape: actions.back };
    const table = typing ? (event.target.id === "q" ? inBox : { Escape: actions.back }) : { ...inBox, ...actions.keys, ...(event.target.id === "ink" && actions.map()) };
    if (event.key === "Enter" && event.target.matches("button, a, summary")) return;
    const action = table[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}
