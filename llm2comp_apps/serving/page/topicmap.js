// The topic map beside the hits: hits are lit on it, a lasso or a topic's name narrows the search.

import { ask, indexPath } from "./api.js";
import { $, dotOf, h, number } from "./dom.js";

const GREY = { light: [190, 195, 203], dark: [84, 91, 104] };
const LEAST_STEP = 4, MOST_CORNERS = 300;

let map = null, data = null, place = null, lit = null, hovered = -1, selected = -1, path = null, actions = null;
let titles = new Map(), loads = 0;

const decode = (base64, Type) => new Type(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
const isDark = () => document.documentElement.dataset.theme === "dark";
const rgb = (hex) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));

export const hasMap = () => map !== null;
export const topics = () => data?.topics ?? [];

// takes: { open(hit), lasso(corners), topic(topic) }
export async function loadMap(about, given) {
  const mine = ++loads;
  const found = about.topics ? await ask(`${indexPath(about.name)}/map`) : null;
  if (mine !== loads) return;  // another index was chosen in the meantime
  actions = given;
  map = null; data = found; lit = null; selected = hovered = -1; titles = new Map();
  $("map").hidden = !found;
  $("no-map").hidden = Boolean(found);
  if (!found) return;
  place = new Map(found.ids.map((id, at) => [id, at]));
  const slot = Uint16Array.from(decode(found.topic, Int16Array), (topic) => (topic < 0 ? found.topics.length : topic));
  for (const topic of found.topics) topic.lines = PointMap.wrapped(topic.name);
  const ranks = (i) => (lit ? (lit[i] ? 3 : 0) : slot[i] === found.topics.length ? 1 : 2);
  const bySize = [...found.topics].sort((a, b) => b.size - a.size);
  map = new PointMap({
    stage: $("map"), points: $("points"), ink: fresh("ink"), slot, rank: ranks,
    x: decode(found.x, Uint16Array), y: decode(found.y, Uint16Array),
    focus: () => Boolean(lit), rings: () => [hovered, selected].filter((i) => i >= 0),
    labels: () => bySize.map((topic) => ({ ...topic, weight: topic.size / found.ids.length, faint: lit && !topic.lit })),
  });
  map.overlay = drawPath;
  map.bindPointer({ hover, select, drawing: (event) => event.shiftKey || $("lasso").getAttribute("aria-pressed") === "true", draw });
  recolor();
  map.resize();
  window.topicMap = map;
}

// A canvas without the listeners of the map before.
function fresh(id) {
  const old = $(id), made = old.cloneNode();
  old.replaceWith(made);
  return made;
}

export function recolor() {
  if (!map) return;
  const theme = isDark() ? "dark" : "light";
  const background = rgb(getComputedStyle(document.documentElement).getPropertyValue("--panel").trim());
  map.setColors([...data.topics.map((topic) => rgb(topic[theme])), GREY[theme]], background);
}

export function resize() { if (map && !$("map").hidden && $("map").clientWidth) map.resize(); }
export const whole = () => map?.whole();
export const keys = () => map?.keys() ?? {};
export const zoom = (factor) => map?.zoom(factor);

// The colours and topic of a document, or null where the map does not know it.
export function colorOf(id) {
  const at = place?.get(id);
  if (!map || at === undefined || map.slot[at] >= data.topics.length) return null;
  return data.topics[map.slot[at]];
}

// Light up some documents; null for none and all.
export function light(ids, hits = []) {
  if (!map) return;
  for (const hit of hits) titles.set(hit.id, hit.title || hit.snippet);
  lit = ids && new Uint8Array(data.ids.length);
  for (const topic of data.topics) topic.lit = 0;
  for (const id of ids ?? []) {
    const at = place.get(id);
    if (at === undefined) continue;
    lit[at] = 1;
    if (map.slot[at] < data.topics.length) data.topics[map.slot[at]].lit += 1;
  }
  $("ink").dataset.lit = ids ? String(lit.reduce((sum, each) => sum + each, 0)) : "";
  hovered = -1;
  $("tip").hidden = true;
  map.refresh();
}

export function ring(id) {
  selected = place?.get(id) ?? -1;
  map?.redraw();
}

function hover(i, px, py) {
  const tip = $("tip");
  if (hovered !== i) {
    hovered = i;
    $("ink").classList.toggle("pointing", i >= 0);
    map.redraw();
    if (i >= 0) fillTip(i);
  }
  tip.hidden = i < 0;
  if (i >= 0) map.place(tip, px, py);
}

function fillTip(i) {
  const id = data.ids[i], color = colorOf(id);
  $("tip").replaceChildren(h("div", {}, titles.get(id) ?? id), h("small", {}, color && dotOf(color), color?.name ?? "in no topic"));
  if (titles.has(id)) return;
  titles.set(id, id);
  actions.titleOf(id).then((title) => { titles.set(id, title); if (hovered === i) fillTip(i); }, () => {});
}

function select(i) {
  if (i >= 0) actions.open({ id: data.ids[i] });
}

// ---------------------------------------------------------------- the lasso

function draw(event, phase) {
  const here = map.worldOf(event.offsetX, event.offsetY);
  if (phase === "begin") path = [here];
  else if (phase === "move" && path) {
    const [x, y] = path.at(-1);
    if (Math.hypot(here[0] - x, here[1] - y) * map.view.scale >= LEAST_STEP) path.push(here);
  } else {
    const drawn = phase === "end" ? path : null;
    path = null;
    if (drawn?.length > 2) actions.lasso(thinned(drawn));
  }
  map.redraw();
}

function thinned(corners) {
  const every = Math.ceil(corners.length / MOST_CORNERS);
  return corners.filter((_, at) => at % every === 0).map((corner) => corner.map((v) => Math.max(-65535, Math.min(131070, Math.round(v)))));
}

export function setShape(corners) { if (map) { map.shape = corners; map.redraw(); } }

function drawPath(pen) {
  const corners = path ?? map?.shape;  // a last frame may come when the map is gone
  if (!corners?.length) return;
  const { view } = map, style = getComputedStyle(document.documentElement);
  pen.beginPath();
  for (const [x, y] of corners) pen.lineTo(x * view.scale + view.x, y * view.scale + view.y);
  if (!path) pen.closePath();
  pen.strokeStyle = style.getPropertyValue("--accent");
  pen.lineWidth = 2;
  pen.setLineDash([6, 4]);
  pen.stroke();
  pen.setLineDash([]);
}

export function toggleLasso(on = $("lasso").getAttribute("aria-pressed") !== "true") {
  $("lasso").setAttribute("aria-pressed", String(on));
  $("ink").classList.toggle("drawing", on);
}

export function topicButtons(choose, most = 24) {
  const shown = [...topics()].sort((a, b) => b.size - a.size).slice(0, most);
  return shown.map((topic) => h(
    "button", { type: "button", title: topic.keywords.join(", "), onclick: () => choose(topic) },
    dotOf(topic), h("span", {}, topic.name), h("small", {}, number.format(topic.size))));
}
