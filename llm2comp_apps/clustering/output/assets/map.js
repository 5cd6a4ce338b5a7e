"use strict";
// The topic map: what is shown of it, searched and chosen. PointMap draws. No library, no network.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const decode = (base64, Type) => new Type(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
const X = decode(data.x, Uint16Array), Y = decode(data.y, Uint16Array);
const topicOf = decode(data.topic, Int16Array), probability = decode(data.probability, Uint8Array);
const n = X.length, topics = data.topics, OUTLIER = topics.length;
const slotOf = Uint16Array.from(topicOf, (t) => (t < 0 ? OUTLIER : t));
const number = new Intl.NumberFormat("en");
const counted = (count, thing) => `${number.format(count)} ${thing}${count === 1 ? "" : "s"}`;

const overlay = $("labels"), tip = $("tip"), legend = $("legend");
const everything = new Set(topics.keys());
const chosen = new Set();       // slots of the topics the legend keeps; empty: all
let hits = null;                // Uint8Array of search hits, or null
const found = new Uint32Array(topics.length + 1);  // search hits in each slot
let words = [], hovered = -1, preview = null, selected = -1, palette = [];

// ---------------------------------------------------------------- drawing

const bySize = topics.map((topic, slot) => ({ ...topic, slot, lines: PointMap.wrapped(topic.name), weight: topic.size / n })).sort((a, b) => b.size - a.size);
const map = new PointMap({
  stage: $("stage"), points: $("points"), ink: overlay, x: X, y: Y, slot: slotOf,
  rank(i) {
    const slot = slotOf[i];
    if (preview) return preview.has(slot) ? 3 : 0;
    if (chosen.size && !chosen.has(slot)) return 0;
    if (hits) return hits[i] ? 3 : 0;
    return slot === OUTLIER && !chosen.size ? 1 : 2;
  },
  focus: () => preview || hits || chosen.size,
  labels() {
    const shown = preview || (chosen.size ? chosen : null) || everything;
    return bySize.filter(({ slot }) => shown.has(slot)).map((label) => ({ ...label, faint: hits && !found[label.slot] }));
  },
  rings: () => [hovered, selected].filter((i) => i >= 0),
});

const hex = (c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16));

function applyTheme(name) {
  document.documentElement.dataset.theme = name;
  const dark = name === "dark";
  palette = topics.map((t) => hex(dark ? t.dark : t.light));
  palette.push(dark ? [84, 91, 104] : [190, 195, 203]);
  for (const dot of document.querySelectorAll("[data-slot]")) dot.style.background = `rgb(${palette[dot.dataset.slot]})`;
  map.setColors(palette, hex(getComputedStyle(document.documentElement).getPropertyValue("--bg").trim()));
}

// ---------------------------------------------------------------- texts

const escaped = (s) => s.replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" }[c]));
function marked(text) {
  if (!words.length) return escaped(text);
  const pattern = new RegExp(`(${words.map((w) => w.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join("|")})`, "gi");
  return text.split(pattern).map((part, k) => (k % 2 ? `<mark>${escaped(part)}</mark>` : escaped(part))).join("");
}
const nameOf = (slot) => (slot === OUTLIER ? "Outliers" : topics[slot].name);
const swatch = (slot) => `<span class="dot" data-slot="${slot}" style="background:rgb(${palette[slot]})"></span>`;
// The words searched for that are only in the part of the text that is not shown.
function beyond(i) {
  const shown = `${data.texts[i]}\n${data.ids[i]}`.toLowerCase();
  const only = words.filter((w) => !shown.includes(w) && folded[i].includes(w));
  return only.length ? `<div class="beyond">further on: ${marked(only.join(", "))}</div>` : "";
}
const belongs = (i) => `<div class="of">${swatch(slotOf[i])}<span>${escaped(nameOf(slotOf[i]))}, ${(probability[i] / 255).toFixed(2)}</span></div>`;

function showTip(i, px, py) {
  if (hovered !== i) {
    hovered = i;
    overlay.classList.toggle("pointing", i >= 0);
    if (i >= 0) tip.innerHTML = `<div>${marked(data.texts[i])}</div>${beyond(i)}${belongs(i)}`;
    map.redraw();
  }
  tip.hidden = i < 0;
  if (i >= 0) map.place(tip, px, py);
}

function select(i) {
  selected = i;
  const card = $("card");
  card.hidden = i < 0;
  if (i >= 0) {
    card.innerHTML = `<button class="close" aria-label="Close">&times;</button><h2>${escaped(data.ids[i])}</h2><p>${marked(data.texts[i])}</p>${beyond(i)}${belongs(i)}`;
    card.querySelector(".close").onclick = () => select(-1);
  }
  map.redraw();
}

// ---------------------------------------------------------------- legend and search

const slotsOf = (button) => button.dataset.slots.split(",").map(Number);

const outliers = slotOf.reduce((sum, slot) => sum + (slot === OUTLIER), 0);
const sizeOf = (slot) => (slot === OUTLIER ? outliers : topics[slot].size);

function legendRow(slots, name, kind) {
  const item = document.createElement("li"), button = document.createElement("button");
  const group = kind === "group";
  button.innerHTML = `${group ? "" : `<span class="dot" data-slot="${slots[0]}"></span>`}<span class="name">${escaped(name)}</span><span class="size"></span>`;
  button.className = kind;
  button.setAttribute("aria-pressed", "false");
  button.dataset.slots = slots.join(",");
  if (!group && slots[0] !== OUTLIER) button.title = topics[slots[0]].keywords.join(", ");
  button.onclick = (event) => choose(slots, event.ctrlKey || event.metaKey || event.shiftKey);
  button.onpointerenter = () => { preview = new Set(slots); map.refresh(); };
  button.onpointerleave = () => { preview = null; map.refresh(); };
  item.append(button);
  legend.append(item);
}

function buildLegend() {
  const groups = new Map();
  topics.forEach((topic, slot) => groups.set(topic.group, [...(groups.get(topic.group) || []), slot]));
  const alone = [];
  for (const [group, slots] of groups) {
    if (!group || slots.length === 1) { alone.push(...slots); continue; }
    legendRow(slots, group, "group");
    for (const slot of slots) legendRow([slot], topics[slot].name, "topic");
  }
  alone.forEach((slot, k) => legendRow([slot], topics[slot].name, k || !legend.children.length ? "topic" : "topic apart"));
  if (outliers) legendRow([OUTLIER], "Outliers", "topic apart");
  report();
}

// Show only these topics, or leave them out again if they are shown alone; with add, change one and keep the others.
function choose(slots, add) {
  const shown = slots.every((slot) => chosen.has(slot)), alone = shown && chosen.size === slots.length;
  if (!add) chosen.clear();
  for (const slot of slots) if (add && shown) chosen.delete(slot); else if (!alone) chosen.add(slot);
  legend.classList.toggle("filtered", chosen.size > 0);
  for (const button of legend.querySelectorAll("button")) button.setAttribute("aria-pressed", String(slotsOf(button).every((slot) => chosen.has(slot))));
  preview = null;
  report(); map.refresh();
}

const further = (i) => (data.further && data.further[i]) || "";
const folded = data.texts.map((text, i) => `${text}\n${data.ids[i]}\n${further(i)}`.toLowerCase());
function search() {
  words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  hits = words.length ? Uint8Array.from(folded, (text) => (words.every((w) => text.includes(w)) ? 1 : 0)) : null;
  hovered = -1; tip.hidden = true;
  report();
  if (selected >= 0) select(selected);
  map.refresh();
}

function report() {
  found.fill(0);
  if (hits) for (let i = 0; i < n; i++) found[slotOf[i]] += hits[i];
  const sum = (slots, of) => slots.reduce((total, slot) => total + of(slot), 0);
  for (const button of legend.querySelectorAll("button")) {
    const size = sum(slotsOf(button), sizeOf), matching = sum(slotsOf(button), (slot) => found[slot]);
    button.querySelector(".size").textContent = hits ? `${number.format(matching)} of ${number.format(size)}` : number.format(size);
    button.classList.toggle("empty", Boolean(hits) && !matching);
  }
  const slots = chosen.size ? [...chosen] : [...everything, OUTLIER];
  const visible = counted(sum(slots, sizeOf), "document"), scope = chosen.size ? ` in ${counted(chosen.size, "chosen topic")}` : "";
  $("status").textContent = hits ? `${number.format(sum(slots, (slot) => found[slot]))} of ${visible}${scope} match` : chosen.size ? `${visible}${scope}` : "";
}

// ---------------------------------------------------------------- moving about

map.bindPointer({ hover: showTip, select });
const keys = map.keys();
window.addEventListener("keydown", (e) => {
  const typing = e.target === $("search");
  if (e.key === "Escape") {
    $("search").value = ""; choose([], false); search(); select(-1);
  } else if (e.key === "/" && !typing) { e.preventDefault(); $("search").focus(); }
  else if (!typing && keys[e.key] && !e.ctrlKey && !e.metaKey) { e.preventDefault(); keys[e.key](); }
});
$("zoom-in").onclick = keys["+"]; $("zoom-out").onclick = keys["-"]; $("reset").onclick = () => map.whole();
$("theme").onclick = () => applyTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
$("search").addEventListener("input", search);

// ---------------------------------------------------------------- start

$("summary").textContent = `${counted(n, "document")}, ${counted(topics.length, "topic")}` + (outliers ? `, ${counted(outliers, "outlier")}` : "");
const scope = data.further ? "ids and texts" : `ids and the first ${number.format(data.length)} characters of each text`;
$("search").title = `Searches ${scope}; all words must be there`;
$("scope").textContent = `Searches ${scope}.`;
$("scope").hidden = Boolean(data.further);  // what everyone expects needs no line
buildLegend();
const scheme = window.matchMedia("(prefers-color-scheme: dark)");
applyTheme(scheme.matches ? "dark" : "light");
scheme.addEventListener("change", (e) => applyTheme(e.matches ? "dark" : "light"));
new ResizeObserver(() => map.resize()).observe($("stage"));
map.resize();
window.topicMap = map;
})();
