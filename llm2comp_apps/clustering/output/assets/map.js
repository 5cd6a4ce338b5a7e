"use strict";
// The topic map: points are splatted into an ImageData buffer on the CPU (50k antialiased discs take a few
// milliseconds, with no WebGL needed), labels are laid over it on a second canvas. No library, no network.
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const decode = (base64, Type) => new Type(Uint8Array.from(atob(base64), (c) => c.charCodeAt(0)).buffer);
const X = decode(data.x, Uint16Array), Y = decode(data.y, Uint16Array);
const topicOf = decode(data.topic, Int16Array), probability = decode(data.probability, Uint8Array);
const n = X.length, topics = data.topics, OUTLIER = topics.length;
const slotOf = Uint16Array.from(topicOf, (t) => (t < 0 ? OUTLIER : t));
const MARGIN = 40, PICK = 10;
const edges = (values) => values.reduce(([low, high], v) => [Math.min(low, v), Math.max(high, v)], [65535, 0]);
const [[left, right], [top, bottom]] = [edges(X), edges(Y)];
const box = { left, top, right: Math.max(right, left + 1), bottom: Math.max(bottom, top + 1) };
const number = new Intl.NumberFormat("en");

const stage = $("stage"), canvas = $("points"), overlay = $("labels"), tip = $("tip"), legend = $("legend");
const paint = canvas.getContext("2d"), ink = overlay.getContext("2d");
const view = { scale: 1, x: 0, y: 0, fit: 1 };
const everything = new Set(topics.keys());
const chosen = new Set();       // slots of the topics the legend keeps; empty: all
let hits = null;                // Uint8Array of search hits, or null
const found = new Uint32Array(topics.length + 1);  // search hits in each slot
let words = [], hovered = -1, preview = null, selected = -1;
let width = 0, height = 0, ratio = 1, image = null, pixels = null, palette = [], packed = null, background = 0, queued = false;

// ---------------------------------------------------------------- drawing

const hex = (c) => [1, 3, 5].map((i) => parseInt(c.slice(i, i + 2), 16));

function applyTheme(name) {
  document.documentElement.dataset.theme = name;
  const dark = name === "dark";
  palette = topics.map((t) => hex(dark ? t.dark : t.light));
  palette.push(dark ? [84, 91, 104] : [190, 195, 203]);
  packed = Uint32Array.from(palette, ([r, g, b]) => r | (g << 8) | (b << 16));
  background = dark ? 0xff1b1614 : 0xfffafcfc;  // ABGR of --bg
  for (const dot of document.querySelectorAll("[data-slot]")) dot.style.background = `rgb(${palette[dot.dataset.slot]})`;
  redraw();
}

function resize() {
  const before = width;
  width = stage.clientWidth; height = stage.clientHeight; ratio = Math.min(window.devicePixelRatio || 1, 2);
  for (const c of [canvas, overlay]) { c.width = Math.max(1, Math.round(width * ratio)); c.height = Math.max(1, Math.round(height * ratio)); }
  image = paint.createImageData(canvas.width, canvas.height);
  pixels = new Uint32Array(image.data.buffer);
  const old = view.fit;
  view.fit = Math.max(1e-6, Math.min((width - 2 * MARGIN) / (box.right - box.left), (height - 2 * MARGIN) / (box.bottom - box.top)));
  if (!before || view.scale === old) whole(); else redraw();
}

function whole() {
  view.scale = view.fit;
  view.x = (width - (box.left + box.right) * view.scale) / 2;
  view.y = (height - (box.top + box.bottom) * view.scale) / 2;
  redraw();
}

const masks = new Map();
function mask(radius) {  // coverage of an antialiased disc: [dx, dy, alpha 0..256]*
  const key = Math.round(radius * 4);
  if (!masks.has(key)) {
    const r = key / 4, reach = Math.ceil(r), cells = [];
    for (let dy = -reach; dy <= reach; dy++) for (let dx = -reach; dx <= reach; dx++) {
      const cover = Math.max(0, Math.min(1, r + 0.5 - Math.hypot(dx, dy)));
      if (cover > 0) cells.push(dx, dy, Math.round(cover * 256));
    }
    masks.set(key, Int32Array.from(cells));
  }
  return masks.get(key);
}

// How a point is drawn: 0 dimmed, 1 an outlier, 2 plain, 3 brought out.
function rank(i) {
  const slot = slotOf[i];
  if (preview) return preview.has(slot) ? 3 : 0;
  if (chosen.size && !chosen.has(slot)) return 0;
  if (hits) return hits[i] ? 3 : 0;
  return slot === OUTLIER && !chosen.size ? 1 : 2;
}

let ranked = null;  // the points of each rank; made anew when what is shown changes, not at every frame
function byRank() {
  const levels = [[], [], [], []];
  for (let i = 0; i < n; i++) levels[rank(i)].push(i);
  return levels.map((points) => Uint32Array.from(points));
}

function drawPoints() {
  pixels.fill(background);
  if (!ranked) ranked = byRank();
  const zoom = view.scale / view.fit, base = Math.max(1.1, Math.min(4.5, 130 / Math.sqrt(n + 100) + 0.6));
  const radius = Math.min(8, base * Math.pow(zoom, 0.35)) * ratio;
  const focus = preview || hits || chosen.size;
  const looks = [[0.85, focus ? 48 : 256], [0.8, 170], [1, 215], [1.25, 256]];
  ranked.forEach((points, level) => splat(points, mask(radius * looks[level][0]), looks[level][1]));
  paint.putImageData(image, 0, 0);
}

function splat(points, disc, strength) {
  const w = canvas.width, h = canvas.height, scale = view.scale * ratio, left = view.x * ratio, top = view.y * ratio, pad = 10 * ratio;
  for (let p = 0; p < points.length; p++) {
    const i = points[p], px = Math.round(X[i] * scale + left), py = Math.round(Y[i] * scale + top);
    if (px < -pad || py < -pad || px > w + pad || py > h + pad) continue;
    const color = packed[slotOf[i]], r = color & 255, g = (color >> 8) & 255, b = color >> 16;
    for (let m = 0; m < disc.length; m += 3) {
      const x = px + disc[m], y = py + disc[m + 1];
      if (x < 0 || y < 0 || x >= w || y >= h) continue;
      const a = (disc[m + 2] * strength) >> 8, at = y * w + x, under = pixels[at];
      const ur = under & 255, ug = (under >> 8) & 255, ub = (under >> 16) & 255;
      pixels[at] = 0xff000000 | ((ub + (((b - ub) * a) >> 8)) << 16) | ((ug + (((g - ug) * a) >> 8)) << 8) | (ur + (((r - ur) * a) >> 8));
    }
  }
}

function wrapped(name) {
  const lines = [""];
  for (const word of name.split(" ")) {
    const last = lines.length - 1;
    if (lines[last] && lines[last].length + word.length > 20 && lines.length < 3) lines.push(word);
    else lines[last] = lines[last] ? `${lines[last]} ${word}` : word;
  }
  return lines;
}

function drawLabels() {
  ink.setTransform(ratio, 0, 0, ratio, 0, 0);
  ink.clearRect(0, 0, width, height);
  ink.textAlign = "center"; ink.textBaseline = "middle"; ink.lineJoin = "round";
  const style = getComputedStyle(document.documentElement), taken = [];
  const color = style.getPropertyValue("--ink"), halo = style.getPropertyValue("--halo");
  const shown = topics.map((_, slot) => slot).filter((slot) => (preview || (chosen.size ? chosen : null) || everything).has(slot));
  shown.sort((a, b) => topics[b].size - topics[a].size);  // the large ones claim their place first
  for (const slot of shown) {
    const topic = topics[slot], size = Math.round(Math.max(11, Math.min(16, 9 + Math.sqrt(topic.size / n) * 24)));
    ink.font = `600 ${size}px ${getComputedStyle(document.body).fontFamily}`;
    const lines = topic.lines, high = lines.length * size * 1.15, wide = Math.max(...lines.map((l) => ink.measureText(l).width));
    const anchor = topic.x * view.scale + view.x, middle = topic.y * view.scale + view.y;
    if (anchor < 0 || anchor > width || middle < 0 || middle > height) continue;
    const x = Math.max(wide / 2 + 6, Math.min(width - wide / 2 - 6, anchor));
    for (const shift of [0, -0.7, 0.7, -1.3, 1.3]) {
      const y = middle + shift * high, box = [x - wide / 2 - 5, y - high / 2 - 3, x + wide / 2 + 5, y + high / 2 + 3];
      if (taken.some((t) => box[0] < t[2] && box[2] > t[0] && box[1] < t[3] && box[3] > t[1])) continue;
      taken.push(box);
      ink.globalAlpha = hits && !found[slot] ? 0.35 : 1;
      lines.forEach((line, k) => {
        const at = y + (k - (lines.length - 1) / 2) * size * 1.15;
        ink.lineWidth = 4; ink.strokeStyle = halo; ink.strokeText(line, x, at);
        ink.fillStyle = color; ink.fillText(line, x, at);
      });
      break;
    }
  }
  ink.globalAlpha = 1;
  for (const i of [hovered, selected]) if (i >= 0) {
    ink.beginPath();
    ink.arc(X[i] * view.scale + view.x, Y[i] * view.scale + view.y, 8, 0, 2 * Math.PI);
    ink.lineWidth = 2.5; ink.strokeStyle = color; ink.stroke();
  }
  overlay.dataset.labels = taken.length;
}

// Draw what is shown now, which has changed.
function refresh() {
  ranked = null;
  redraw();
}

function redraw() {
  if (queued) return;
  queued = true;
  requestAnimationFrame(() => {
    queued = false;
    const start = performance.now();
    drawPoints(); drawLabels();
    overlay.dataset.frame = (performance.now() - start).toFixed(1);
  });
}

// ---------------------------------------------------------------- finding points

const SIDE = 128, cells = new Uint32Array(SIDE * SIDE + 1), members = new Uint32Array(n);
const cellOf = (i) => ((Y[i] * SIDE) >> 16) * SIDE + ((X[i] * SIDE) >> 16);
for (let i = 0; i < n; i++) cells[cellOf(i) + 1]++;
for (let c = 0; c < SIDE * SIDE; c++) cells[c + 1] += cells[c];
const fill = cells.slice();
for (let i = 0; i < n; i++) members[fill[cellOf(i)]++] = i;

function pick(px, py) {  // the nearest visible point within PICK pixels, or -1
  const wx = (px - view.x) / view.scale, wy = (py - view.y) / view.scale, reach = PICK / view.scale;
  const clamp = (v) => Math.max(0, Math.min(SIDE - 1, Math.floor((v * SIDE) / 65536)));
  let best = -1, least = reach * reach;
  for (let cy = clamp(wy - reach); cy <= clamp(wy + reach); cy++) for (let cx = clamp(wx - reach); cx <= clamp(wx + reach); cx++)
    for (let m = cells[cy * SIDE + cx]; m < cells[cy * SIDE + cx + 1]; m++) {
      const i = members[m], d = (X[i] - wx) ** 2 + (Y[i] - wy) ** 2;
      if (d < least && rank(i) > 0) { least = d; best = i; }
    }
  return best;
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
    redraw();
  }
  tip.hidden = i < 0;
  if (i < 0) return;
  const wide = tip.offsetWidth, high = tip.offsetHeight;
  tip.style.left = `${px + 16 + wide > width ? Math.max(4, px - wide - 12) : px + 16}px`;
  tip.style.top = `${py + 16 + high > height ? Math.max(4, py - high - 12) : py + 16}px`;
}

function select(i) {
  selected = i;
  const card = $("card");
  card.hidden = i < 0;
  if (i >= 0) {
    card.innerHTML = `<button class="close" aria-label="Close">&times;</button><h2>${escaped(data.ids[i])}</h2><p>${marked(data.texts[i])}</p>${beyond(i)}${belongs(i)}`;
    card.querySelector(".close").onclick = () => select(-1);
  }
  redraw();
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
  button.onpointerenter = () => { preview = new Set(slots); refresh(); };
  button.onpointerleave = () => { preview = null; refresh(); };
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
  report(); refresh();
}

const further = (i) => (data.further && data.further[i]) || "";
const folded = data.texts.map((text, i) => `${text}\n${data.ids[i]}\n${further(i)}`.toLowerCase());
function search() {
  words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  hits = words.length ? Uint8Array.from(folded, (text) => (words.every((w) => text.includes(w)) ? 1 : 0)) : null;
  hovered = -1; tip.hidden = true;
  report();
  if (selected >= 0) select(selected);
  refresh();
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
  const visible = number.format(sum(slots, sizeOf)), scope = chosen.size ? ` in ${chosen.size} chosen topic${chosen.size > 1 ? "s" : ""}` : "";
  $("status").textContent = hits ? `${number.format(sum(slots, (slot) => found[slot]))} of ${visible} documents${scope} match` : chosen.size ? `${visible} documents${scope}` : "";
}

// ---------------------------------------------------------------- moving about

function zoomAt(px, py, factor) {
  const scale = Math.max(view.fit * 0.5, Math.min(view.fit * 400, view.scale * factor));
  view.x = px - ((px - view.x) * scale) / view.scale;
  view.y = py - ((py - view.y) * scale) / view.scale;
  view.scale = scale;
  redraw();
}

const fingers = new Map();
let moved = 0;
overlay.addEventListener("pointerdown", (e) => { overlay.setPointerCapture(e.pointerId); fingers.set(e.pointerId, [e.offsetX, e.offsetY]); moved = 0; });
overlay.addEventListener("pointermove", (e) => {
  const last = fingers.get(e.pointerId);
  if (!last) return showTip(pick(e.offsetX, e.offsetY), e.offsetX, e.offsetY);
  const dx = e.offsetX - last[0], dy = e.offsetY - last[1];
  moved += Math.abs(dx) + Math.abs(dy);
  if (fingers.size === 2) {
    const other = [...fingers].find(([id]) => id !== e.pointerId)[1];
    const before = Math.hypot(last[0] - other[0], last[1] - other[1]), after = Math.hypot(e.offsetX - other[0], e.offsetY - other[1]);
    zoomAt((e.offsetX + other[0]) / 2, (e.offsetY + other[1]) / 2, after / Math.max(1, before));
  } else if (moved > 3) {
    overlay.classList.add("panning"); tip.hidden = true;
    view.x += dx; view.y += dy; redraw();
  }
  fingers.set(e.pointerId, [e.offsetX, e.offsetY]);
});
function release(e) {
  if (fingers.delete(e.pointerId) && e.type === "pointerup" && moved <= 3) select(pick(e.offsetX, e.offsetY));
  overlay.classList.remove("panning");
}
overlay.addEventListener("pointerup", release);
overlay.addEventListener("pointercancel", release);
overlay.addEventListener("pointerleave", () => showTip(-1));
overlay.addEventListener("dblclick", (e) => zoomAt(e.offsetX, e.offsetY, 2));
overlay.addEventListener("wheel", (e) => { e.preventDefault(); zoomAt(e.offsetX, e.offsetY, Math.exp(-e.deltaY * (e.deltaMode ? 0.05 : 0.0016))); }, { passive: false });

const middle = (factor) => zoomAt(width / 2, height / 2, factor);
const pan = (dx, dy) => { view.x += dx; view.y += dy; redraw(); };
const keys = {
  "+": () => middle(1.5), "=": () => middle(1.5), "-": () => middle(1 / 1.5), "0": whole,
  ArrowLeft: () => pan(60, 0), ArrowRight: () => pan(-60, 0), ArrowUp: () => pan(0, 60), ArrowDown: () => pan(0, -60),
};
window.addEventListener("keydown", (e) => {
  const typing = e.target === $("search");
  if (e.key === "Escape") {
    $("search").value = ""; choose([], false); search(); select(-1);
  } else if (e.key === "/" && !typing) { e.preventDefault(); $("search").focus(); }
  else if (!typing && keys[e.key] && !e.ctrlKey && !e.metaKey) { e.preventDefault(); keys[e.key](); }
});
$("zoom-in").onclick = keys["+"]; $("zoom-out").onclick = keys["-"]; $("reset").onclick = whole;
$("theme").onclick = () => applyTheme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
$("search").addEventListener("input", search);

// ---------------------------------------------------------------- start

$("summary").textContent = `${number.format(n)} documents, ${number.format(topics.length)} topics` + (outliers ? `, ${number.format(outliers)} outliers` : "");
const scope = data.further ? "ids and texts" : `ids and the first ${number.format(data.length)} characters of each text`;
$("search").title = `Searches ${scope}; all words must be there`;
$("scope").textContent = `Searches ${scope}.`;
$("scope").hidden = Boolean(data.further);  // what everyone expects needs no line
for (const topic of topics) topic.lines = wrapped(topic.name);
buildLegend();
const scheme = window.matchMedia("(prefers-color-scheme: dark)");
applyTheme(scheme.matches ? "dark" : "light");
scheme.addEventListener("change", (e) => applyTheme(e.matches ? "dark" : "light"));
new ResizeObserver(resize).observe(stage);
resize();
window.topicMap = { screenOf: (i) => [X[i] * view.scale + view.x, Y[i] * view.scale + view.y], view, size: n };
})();
