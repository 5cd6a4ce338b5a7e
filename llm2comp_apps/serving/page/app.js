// The page: what is asked, when it is asked, and where the answers go.
//
// While somebody types, words are searched at once; when the pause comes, meaning is searched too, and fields are
// counted. The address holds the question, so that it can be kept and sent.

import * as address from "./address.js";
import { ApiError, Latest, ask, documentPath, indexPath, isAbort } from "./api.js";
import { command } from "./command.js";
import { $, copied, h, many, number, short, toast } from "./dom.js";
import { counted, showFacets, worthShowing } from "./facets.js";
import { currentHit, markOpen, move, moveTo, rows, showHits } from "./hits.js";
import { bindKeys } from "./keys.js";
import { closeDocument, isOpen, openDocument } from "./reader.js";
import * as topicMap from "./topicmap.js";
import { toggled } from "./where.js";

const PAUSE = 280, PAGE = 20;
const COUNTED = 200, RERANKED = 100;  // hits that the server counts at most; there may be more
const SETTLED = 4000;  // milliseconds without typing, after which further typing is a new step of the history
const TYPED = 500;  // characters; what is longer was pasted, and its last word is whole
const MODES = [["hybrid", "Both", "Meaning and words"], ["dense", "Meaning", "By meaning alone"], ["lexical", "Words", "By words alone"], ["ltr", "Reranked", "By both, then the best hits compared once more"]];

const state = { index: "", q: "", mode: "hybrid", where: "", like: null, shape: null, topic: null, doc: null };
let indexes = [], about = null, fields = [], shown = [], total = 0, lit = null, timer = null, counts = null, ready = false;
const WORDS = { mode: "lexical", rerank: undefined };
const quick = new Latest(), full = new Latest(), further = new Latest();

// ---------------------------------------------------------------- asking

const narrowing = () => ({
  ...(state.where.trim() && { where: state.where }),
  ...(state.shape && { lasso: state.shape }),
  ...(state.topic && { topic: state.topic.id }),
});
const narrowed = () => Object.keys(narrowing()).length > 0;

const searchedBy = (mode) => (mode === "ltr" ? { mode: "hybrid", rerank: "ltr" } : { mode });
const isOffered = (mode) => about.modes.includes(searchedBy(mode).mode);

// What is asked for: hits of a query, documents like one, or the documents that meet the conditions.
function question(extra) {
  const path = indexPath(state.index);
  if (state.like) return [`${path}/similar`, { id: state.like.id, limit: PAGE, ...narrowing(), ...extra }];
  if (state.q.trim()) return [`${path}/search`, { q: state.q, ...searchedBy(state.mode), limit: PAGE, ...narrowing(), ...extra }];
  return [`${path}/browse`, { limit: PAGE, ...narrowing(), ...extra }];
}

// The words typed so far; the last one may be the beginning of a word.
const typed = () => (state.q.length < TYPED && /[\p{L}]{3,}$/u.test(state.q) ? `${state.q}*` : state.q);

async function askWords() {
  const [path, body] = question({ ...WORDS, q: typed() });
  try {
    const answer = await quick.ask(path, body);
    if (answer.hits.length || state.mode === "lexical") show(answer, { final: false });
  } catch (error) { failed(error, { quiet: true }); }
}

let asked = 0;
async function askAll() {
  const current = ++asked;
  const [path, body] = question(state.like ? {} : { facets: counted(fields), ...(state.q.trim() && { ids: true }) });
  for (;;) {
    try {
      const answer = await full.ask(path, body);
      quick.stop();
      show(answer, { final: true });
      return;
    } catch (error) {
      if (!(error instanceof ApiError) || !error.retry) { failed(error); return; }
      status(h("span.busy", {}, error.message));  // the encoder is being loaded, or much is going on
      await new Promise((done) => setTimeout(done, 1000 * error.retry));
      if (asked !== current) return;
    }
  }
}

function changed({ typing = false, entered = false } = {}) {
  if (!ready) return;
  clearTimeout(timer);
  $("status").dataset.final = "false";
  asked += 1;
  for (const each of [quick, full, further]) each.stop();
  $("problem").hidden = true;
  $("where").classList.remove("wrong");
  $("where").removeAttribute("aria-invalid");
  topicMap.setShape(state.shape);
  chips();
  if (!state.q.trim() && !state.like && !narrowed()) { remember({ typing }); start(); return; }
  $("start").hidden = true;
  if (typing) {
    if (state.q.trim() && !state.like && state.mode !== "dense") askWords();
    timer = setTimeout(() => { remember({ typing }); askAll(); }, PAUSE);
  } else { remember({ typing: entered }); askAll(); }
}

function failed(error, { quiet = false } = {}) {
  if (isAbort(error)) return;
  if (error.param === "where") {
    $("where").classList.add("wrong");
    $("where").setAttribute("aria-invalid", "true");
    if ($("status").querySelector(".busy")) status();  // nothing follows
    $("problem").textContent = error.message;
    $("problem").hidden = quiet;
    return;
  }
  if (!quiet) status(h("span", {}, error.message));
}

// ---------------------------------------------------------------- showing

function status(...parts) { $("status").replaceChildren(...parts); }

function show(answer, { final }) {
  shown = answer.hits;
  showHits(shown, hitActions);
  $("results").scrollTop = $("columns").scrollTop = 0;  // on a phone the columns scroll as one
  total = answer.estimatedTotalHits ?? shown.length;
  const waits = !final && state.mode !== "lexical";
  const by = state.like ? `like “${short(state.like.title)}”` : answer.mode === "lexical" ? "by words" : answer.mode === "dense" ? "by meaning" : answer.mode ? "by meaning and words" : "";
  const reranked = final && state.mode === "ltr" && answer.mode, most = reranked ? RERANKED : COUNTED;
  status(
    h("span", {}, shown.length ? `${total >= most && answer.mode ? "The best " : ""}${many(total, state.q.trim() || state.like ? "hit" : "document")} ${by}${reranked ? ", reranked" : ""}`.trim() : "Nothing found."),
    answer.processingTimeMs === undefined ? "" : h("span.time", {}, `${answer.processingTimeMs} ms`),
    answer.queryTruncated ? h("span", {}, "only the beginning of the query was read for its meaning") : "",
    ...(answer.warnings ?? []).map((line) => h("span", {}, line)),
    answer.partial ? h("span", {}, `not all: ${answer.missingShards.join(", ")} did not answer`) : "",
    waits ? h("span.busy", {}, "meaning follows") : "");
  $("status").dataset.final = String(final);
  $("more").hidden = Boolean(state.like) || !final || shown.length < PAGE || shown.length >= total;
  lit = (final && answer.ids) || null;  // more than the list shows
  topicMap.light(lit ?? shown.map((hit) => hit.id), shown);
  if (final) {
    counts = answer.facetDistribution ?? null;
    facets();
  }
  if (isOpen()) markOpen($("reader").dataset.id);
}

async function showMore() {
  const [path, body] = question({ offset: shown.length });
  let answer;
  $("more").disabled = true;
  try { answer = await further.ask(path, body); } catch (error) { failed(error); return; } finally { $("more").disabled = false; }
  const before = new Set(shown.map((hit) => hit.id));  // the index may have changed between two pages
  const fresh = answer.hits.filter((hit) => !before.has(hit.id));
  shown = [...shown, ...fresh];
  showHits(fresh, hitActions, { append: true });
  topicMap.light(lit ?? shown.map((hit) => hit.id), shown);
  $("more").hidden = answer.hits.length < PAGE || shown.length >= total;
}

function facets() { showFacets(fields, state.q.trim() || narrowed() ? counts : null, () => state.where, setWhere); }

function setWhere(where) {
  state.where = $("where").value = where;
  changed();
  facets();
}

function chips() {
  const chip = (text, undo) => h("span.chip", {}, h("span", {}, text), h("button", { type: "button", "aria-label": `Remove: ${text}`, onclick: undo }, "×"));
  $("chips").replaceChildren(...[
    state.like && chip(`Similar to: ${state.like.title}`, () => { state.like = null; changed(); }),
    state.topic && chip(`Topic: ${state.topic.name}`, () => { state.topic = null; changed(); }),
    state.shape && chip("Inside the lasso", () => { state.shape = null; changed(); }),
  ].filter(Boolean));
}

function start() {
  shown = []; counts = null;
  showHits([], hitActions);
  status();
  $("more").hidden = true;
  topicMap.light(null);
  facets();
  const topics = topicMap.topicButtons(chooseTopic);
  $("start").replaceChildren(
    h("h2", {}, many(about?.documents ?? 0, "document")),
    h("p", {}, topics.length ? "Type to search, or begin with a topic." : "Type to search. Press ? for the keys."),
    h("div.topics", {}, ...topics));
  $("start").hidden = false;
}

function chooseTopic(topic) {
  state.topic = topic;
  state.shape = null;
  changed();
}

// ---------------------------------------------------------------- documents

const hitActions = {
  open, color: topicMap.colorOf,
  address: (hit) => here({ doc: hit.id }),
  similar(hit) {
    state.like = { id: hit.id, title: hit.title || hit.id };
    shut();
    showMap(false);  // on a phone it would hide the hits
    changed();
  },
  choose(field, value) { setWhere(toggled(state.where, field, value)); },
};

async function open(hit) {
  const full = shown.find((each) => each.id === hit.id) ?? hit;
  try {
    await openDocument(state.index, full, { similar: hitActions.similar, copy, close: back });
  } catch (error) {
    if (!isOpen()) state.doc = null;
    failed(error);
    return;
  }
  const replace = state.doc !== null || history.state?.shut;  // back leads from the last document read to the hits
  state.doc = $("reader").dataset.id = hit.id;
  remember({ replace });
  $("side").classList.add("open");
  markOpen(hit.id);
  topicMap.ring(hit.id);
}

function shut() {
  closeDocument();
  state.doc = null;
  markOpen(null);
  topicMap.ring(null);
  if (!$("side").dataset.map) $("side").classList.remove("open");
}

function back() {
  if (isOpen()) {
    shut();
    remember({ replace: true, kept: { shut: true } });
    return;
  }
  if ($("side").classList.contains("open")) return showMap(false);
  if ($("filters").classList.contains("open")) return showFilters(false);
  if (document.activeElement === $("q")) { if (state.q) { $("q").value = state.q = ""; changed(); } else $("q").blur(); return; }
  if (state.like || state.shape || state.topic) { Object.assign(state, { like: null, shape: null, topic: null }); changed(); return; }
  $("q").focus();
}

async function copy(text, note = "") {
  toast(`${await copied(text) ? "Copied" : "Not copied"}${note}: ${short(text, 400)}`);
}

function copyCommand() {
  const text = command(state, Math.max(PAGE, shown.length));
  const left = [state.topic && "topic", state.shape && "lasso"].filter(Boolean).join(" and ");
  if (text) copy(text, left && `, without the ${left}`);
  else toast("A command needs a query, or a document that others are similar to.");
}

function showMap(on) {
  const was = $("side").dataset.map === "yes";
  $("side").classList.toggle("open", on);
  $("side").dataset.map = on ? "yes" : "";
  $("show-map").setAttribute("aria-expanded", String(on));
  if (on) $("close-map").focus();
  else if (was) $("show-map").focus();
  topicMap.resize();
}

function showFilters(on) {
  $("filters").classList.toggle("open", on);
  $("show-filters").setAttribute("aria-expanded", String(on));
}

// ---------------------------------------------------------------- modes, theme, address

function setMode(mode) {
  if (!about || !isOffered(mode)) return;
  state.mode = mode;
  markMode();
  changed();
}

function markMode() {
  for (const button of $("modes").children) {
    button.setAttribute("aria-checked", String(button.dataset.mode === state.mode));
    button.tabIndex = button.dataset.mode === state.mode ? 0 : -1;
  }
}

// Arrows go through a radio group, as everywhere.
function stepMode(event) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || event.ctrlKey || event.metaKey || event.altKey) return;
  const choices = [...$("modes").children].filter((button) => !button.disabled);
  const next = choices.at((choices.indexOf(event.target) + step) % choices.length);
  event.preventDefault();
  event.stopPropagation();
  next.focus();
  setMode(next.dataset.mode);
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  topicMap.recolor();
}

function chosenTheme() {
  try { return localStorage.getItem("llm2comp-theme"); } catch { return null; }
}

function toggleTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try { localStorage.setItem("llm2comp-theme", next); } catch { /* it lasts as long as the page */ }
  theme(next);
}

// The address of what is asked now, beside a document or none.
const here = ({ doc = state.doc } = {}) => address.written({
  index: state.index, q: state.q, where: state.where,
  mode: state.mode !== about?.modes.at(-1) && state.mode,
  like: state.like?.id, topic: state.topic && String(state.topic.id), shape: state.shape && address.shapeText(state.shape), doc,
});

// One step of the history for each question and for the first document read beside it; typing at a stretch is one step.
let stretch = 0;
function remember({ typing = false, replace = false, kept = null } = {}) {
  const goesOn = typing && Date.now() - stretch < SETTLED;
  stretch = typing ? Date.now() : 0;
  document.title = `${state.q.trim() ? `${short(state.q.trim())} · ` : ""}${state.index} · llm2comp`;
  if (here() === location.hash && !kept) return;
  history[replace || goesOn || !location.hash ? "replaceState" : "pushState"](kept, "", here());
}

async function chooseIndex(name) {
  ready = false;
  for (const each of [quick, full, further]) each.stop();
  shut();
  about = indexes.find((each) => each.name === name) ?? indexes[0];
  Object.assign(state, { index: about.name, like: null, shape: null, topic: null });
  $("index").value = about.name;
  $("modes").replaceChildren(...MODES.map(([mode, label, title], at) => h(
    "button", { type: "button", role: "radio", title: `${title} (${at + 1})`, disabled: !isOffered(mode), onclick: () => setMode(mode), onkeydown: stepMode }, label)));
  [...$("modes").children].forEach((button, at) => { button.dataset.mode = MODES[at][0]; });
  markMode();
  const { name: chosen } = about;
  const [found] = await Promise.all([
    ask(`${indexPath(about.name)}/fields`),
    topicMap.loadMap(about, { open, titleOf, lasso(corners) { topicMap.toggleLasso(false); state.shape = corners; state.topic = null; changed(); } }),
  ]).catch((error) => { toast(error.message); return [{ fields: [] }]; });  // it can be searched all the same
  if (chosen !== about.name) return false;  // another was chosen in the meantime
  fields = worthShowing(found.fields, about.documents);
  return ready = true;
}

const modeHere = (mode) => (isOffered(mode) ? mode : about.modes.at(-1));

// What the address asks for: when the page begins, and at each step back or forth.
let followed = 0;
async function follow() {
  const mine = ++followed, kept = address.read(), before = here({ doc: null }), begins = !state.index;
  const { name } = indexes.find((each) => each.name === kept.index) ?? indexes[0];
  if (kept.index && kept.index !== name) toast(`This server has no index ${short(kept.index)}.`);
  if (name !== state.index && !(await chooseIndex(name))) return;
  const like = !kept.like ? null : kept.like === state.like?.id ? state.like : { id: kept.like, title: await titleOf(kept.like).catch(() => kept.like) };
  if (mine !== followed) return;
  if (!begins || !$("q").value) $("q").value = kept.q;  // somebody may type before all is here
  $("where").value = kept.where;
  Object.assign(state, {
    q: $("q").value, where: $("where").value, like, mode: modeHere(kept.mode),
    topic: topicMap.topics().find((topic) => String(topic.id) === kept.topic) ?? null, shape: topicMap.hasMap() ? address.shapeOf(kept.shape) : null,
  });
  const wanted = kept.doc || null, opened = state.doc;
  state.doc = wanted;
  if (here() !== location.hash) history.replaceState(history.state, "", here());  // the same, as it is spelled here
  if (here({ doc: null }) !== before) setMode(state.mode);
  else markMode();
  if (!wanted) shut();
  else if (wanted !== opened) open({ id: wanted });
}

async function titleOf(id) {
  const found = await ask(documentPath(state.index, id));
  return found.title || found.text.slice(0, 120);
}

async function begin() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  system.addEventListener("change", (event) => { if (!chosenTheme()) theme(event.matches ? "dark" : "light"); });
  indexes = (await ask("indexes")).results;
  if (!indexes.length) { status(h("span", {}, "This server has no index; start it with one: llm2comp serve library.index")); return; }
  $("index").replaceChildren(...indexes.map((each) => h("option", { value: each.name }, each.name)));
  $("index").hidden = indexes.length < 2;
  await follow();
}

$("q").addEventListener("input", () => { moveTo(-1); state.q = $("q").value; state.like = null; changed({ typing: true }); });
$("where").addEventListener("change", () => setWhere($("where").value));
$("index").onchange = async () => { state.where = $("where").value = ""; if (await chooseIndex($("index").value)) setMode(modeHere(state.mode)); };
$("more").onclick = showMore;
$("copy").onclick = copyCommand;
$("theme").onclick = toggleTheme;
$("help").onclick = () => $("keys").showModal();
$("show-map").onclick = () => showMap(true);
$("close-map").onclick = () => showMap(false);
$("show-filters").onclick = () => showFilters(!$("filters").classList.contains("open"));
$("lasso").onclick = () => topicMap.toggleLasso();
$("whole").onclick = topicMap.whole;
new ResizeObserver(topicMap.resize).observe($("side"));

bindKeys({
  next: () => { if (document.activeElement === $("q")) $("q").blur(); move(1); },
  previous: () => move(-1),
  enter: () => { if (currentHit()) open(currentHit()); else changed({ entered: true }); },
  back, map: topicMap.keys,
  keys: {
    j: () => move(1), k: () => move(-1), "/": () => { $("q").focus(); $("q").select(); }, w: () => $("where").focus(),
    s: () => { const hit = currentHit() ?? shown.find((each) => each.id === $("reader").dataset.id); if (hit) hitActions.similar(hit); },
    1: () => setMode("hybrid"), 2: () => setMode("dense"), 3: () => setMode("lexical"), 4: () => setMode("ltr"),
    m: () => showMap(!$("side").classList.contains("open")), l: () => topicMap.toggleLasso(), 0: topicMap.whole,
    "+": () => topicMap.zoom(1.5), "=": () => topicMap.zoom(1.5), "-": () => topicMap.zoom(1 / 1.5),
    c: copyCommand, d: toggleTheme, "?": () => $("keys").showModal(),
  },
});
window.addEventListener("hashchange", () => follow().catch((error) => failed(error)));
begin().catch((error) => failed(error));
window.page = { state, rows };
