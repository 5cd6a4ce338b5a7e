// The page: what is asked, when it is asked, and where the answers go.
//
// While somebody types, words are searched at once; when the pause comes, meaning is searched too, and fields are
// counted. The address holds the question, so that it can be kept and sent.

import { ApiError, Latest, ask, documentPath, indexPath, isAbort } from "./api.js";
import { command } from "./command.js";
import { $, h, number, toast } from "./dom.js";
import { counted, showFacets, worthShowing } from "./facets.js";
import { currentHit, markOpen, move, rows, showHits } from "./hits.js";
import { bindKeys } from "./keys.js";
import { closeDocument, isOpen, openDocument } from "./reader.js";
import * as topicMap from "./topicmap.js";
import { toggled } from "./where.js";

const PAUSE = 280, PAGE = 20, LIT = 200;
const MODES = [["hybrid", "Both", "Meaning and words"], ["dense", "Meaning", "By meaning alone"], ["lexical", "Words", "By words alone"]];

const state = { index: "", q: "", mode: "hybrid", where: "", like: null, shape: null, topic: null };
let indexes = [], about = null, fields = [], shown = [], timer = null, counts = null, ready = false;
const quick = new Latest(), full = new Latest();

// ---------------------------------------------------------------- asking

const narrowing = () => ({
  ...(state.where.trim() && { where: state.where }),
  ...(state.shape && { lasso: state.shape }),
  ...(state.topic && { topic: state.topic.id }),
});
const narrowed = () => Object.keys(narrowing()).length > 0;

// What is asked for: hits of a query, documents like one, or the documents that meet the conditions.
function question(extra) {
  const path = indexPath(state.index);
  if (state.like) return [`${path}/similar`, { id: state.like.id, limit: PAGE, ...narrowing(), ...extra }];
  if (state.q.trim()) return [`${path}/search`, { q: state.q, mode: state.mode, limit: PAGE, ...narrowing(), ...extra }];
  return [`${path}/browse`, { limit: PAGE, ...narrowing(), ...extra }];
}

// The words typed so far; the last one may be the beginning of a word.
const typed = () => (/[\p{L}]{3,}$/u.test(state.q) ? `${state.q}*` : state.q);

async function askWords() {
  const [path, body] = question({ mode: "lexical", q: typed() });
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

function changed({ typing = false } = {}) {
  if (!ready) return;
  clearTimeout(timer);
  $("status").dataset.final = "false";
  asked += 1;
  full.stop();
  remember();
  $("problem").hidden = true;
  $("where").classList.remove("wrong");
  topicMap.setShape(state.shape);
  chips();
  if (!state.q.trim() && !state.like && !narrowed()) { quick.stop(); start(); return; }
  $("start").hidden = true;
  if (typing) {
    if (state.q.trim() && !state.like && state.mode !== "dense") askWords();
    timer = setTimeout(askAll, PAUSE);
  } else askAll();
}

function failed(error, { quiet = false } = {}) {
  if (isAbort(error)) return;
  if (error.param === "where") {
    $("where").classList.add("wrong");
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
  $("results").scrollTop = 0;
  const total = answer.estimatedTotalHits ?? shown.length;
  const waits = !final && state.mode !== "lexical";
  const by = state.like ? `like “${state.like.title}”` : answer.mode === "lexical" ? "by words" : answer.mode === "dense" ? "by meaning" : answer.mode ? "by meaning and words" : "";
  status(
    h("span", {}, shown.length ? `${total >= LIT && answer.mode ? "The best " : ""}${number.format(total)} ${state.q.trim() || state.like ? "hits" : "documents"} ${by}`.trim() : "Nothing found."),
    answer.processingTimeMs === undefined ? "" : h("span.time", {}, `${answer.processingTimeMs} ms`),
    answer.partial ? h("span", {}, `not all: ${answer.missingShards.join(", ")} did not answer`) : "",
    waits ? h("span.busy", {}, "meaning follows") : "");
  $("status").dataset.final = String(final);
  $("more").hidden = Boolean(state.like) || !final || shown.length < PAGE || shown.length >= total;
  topicMap.light(shown.map((hit) => hit.id), shown);
  if (final) {
    counts = answer.facetDistribution ?? null;
    facets();
    if (answer.ids) topicMap.light(answer.ids, shown);  // more than the list shows
  }
  if (isOpen()) markOpen($("reader").dataset.id);
}

async function showMore() {
  const [path, body] = question({ offset: shown.length });
  const answer = await ask(path, body).catch((error) => { failed(error); return { hits: [] }; });
  shown = [...shown, ...answer.hits];
  showHits(answer.hits, hitActions, { append: true });
  $("more").hidden = answer.hits.length < PAGE;
}

function facets() { showFacets(fields, state.q.trim() || narrowed() ? counts : null, state.where, setWhere); }

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
    h("h2", {}, `${number.format(about?.documents ?? 0)} documents`),
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
  similar(hit) {
    state.like = { id: hit.id, title: hit.title || hit.id };
    back();
    changed();
  },
  choose(field, value) { setWhere(toggled(state.where, field, value)); },
};

async function open(hit) {
  const full = shown.find((each) => each.id === hit.id) ?? hit;
  try {
    await openDocument(state.index, full, { similar: hitActions.similar, copy, close: back });
  } catch (error) { failed(error); return; }
  $("reader").dataset.id = hit.id;
  $("side").classList.add("open");
  markOpen(hit.id);
  topicMap.ring(hit.id);
}

function back() {
  if (isOpen()) {
    closeDocument();
    markOpen(null);
    topicMap.ring(null);
    if (!$("side").dataset.map) $("side").classList.remove("open");
    return;
  }
  if ($("side").classList.contains("open")) return showMap(false);
  if ($("filters").classList.contains("open")) return showFilters(false);
  if (document.activeElement === $("q")) { if (state.q) { $("q").value = state.q = ""; changed(); } else $("q").blur(); return; }
  if (state.like || state.shape || state.topic) { Object.assign(state, { like: null, shape: null, topic: null }); changed(); return; }
  $("q").focus();
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`Copied: ${text}`);
  } catch { toast(text); }  // without a clipboard it can at least be read
}

function showMap(on) {
  $("side").classList.toggle("open", on);
  $("side").dataset.map = on ? "yes" : "";
  topicMap.resize();
}

function showFilters(on) {
  $("filters").classList.toggle("open", on);
  $("show-filters").setAttribute("aria-expanded", String(on));
}

// ---------------------------------------------------------------- modes, theme, address

function setMode(mode) {
  if (!about?.modes.includes(mode)) return;
  state.mode = mode;
  for (const button of $("modes").children) button.setAttribute("aria-checked", String(button.dataset.mode === mode));
  changed();
}

function theme(name) {
  document.documentElement.dataset.theme = name;
  topicMap.recolor();
  if (shown.length) { const at = $("results").scrollTop; showHits(shown, hitActions); $("results").scrollTop = at; }
  else if (about) start();
}

function toggleTheme() {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  localStorage.setItem("llm2comp-theme", next);
  theme(next);
}

function remember() {
  const kept = new URLSearchParams();
  for (const name of ["index", "q", "where"]) if (state[name]) kept.set(name, state[name]);
  if (state.mode !== about?.modes.at(-1)) kept.set("mode", state.mode);
  if (state.like) kept.set("like", state.like.id);
  if (state.topic) kept.set("topic", String(state.topic.id));
  history.replaceState(null, "", `#${kept}`);
}

async function chooseIndex(name) {
  about = indexes.find((each) => each.name === name) ?? indexes[0];
  Object.assign(state, { index: about.name, like: null, shape: null, topic: null });
  $("index").value = about.name;
  document.title = `${about.name} · llm2comp`;
  $("modes").replaceChildren(...MODES.map(([mode, label, title], at) => h(
    "button", { type: "button", role: "radio", title: `${title} (${at + 1})`, disabled: !about.modes.includes(mode), onclick: () => setMode(mode) }, label)));
  [...$("modes").children].forEach((button, at) => { button.dataset.mode = MODES[at][0]; });
  const [found] = await Promise.all([
    ask(`${indexPath(about.name)}/fields`),
    topicMap.loadMap(about, { open, titleOf, lasso(corners) { topicMap.toggleLasso(false); state.shape = corners; state.topic = null; changed(); } }),
  ]);
  fields = worthShowing(found.fields, about.documents);
}

async function titleOf(id) {
  const found = await ask(documentPath(state.index, id));
  return found.title || found.text.slice(0, 120);
}

async function begin() {
  const system = window.matchMedia("(prefers-color-scheme: dark)");
  theme(localStorage.getItem("llm2comp-theme") ?? (system.matches ? "dark" : "light"));
  system.addEventListener("change", (event) => { if (!localStorage.getItem("llm2comp-theme")) theme(event.matches ? "dark" : "light"); });
  indexes = (await ask("indexes")).results;
  if (!indexes.length) { status(h("span", {}, "This server has no index; start it with one: llm2comp serve library.index")); return; }
  $("index").replaceChildren(...indexes.map((each) => h("option", { value: each.name }, each.name)));
  $("index").hidden = indexes.length < 2;
  const kept = new URLSearchParams(location.hash.slice(1));
  await chooseIndex(kept.get("index"));
  state.q = $("q").value ||= kept.get("q") ?? "";  // somebody may have begun to type
  state.where = $("where").value = kept.get("where") ?? "";
  if (kept.get("like")) state.like = { id: kept.get("like"), title: await titleOf(kept.get("like")).catch(() => kept.get("like")) };
  state.topic = topicMap.topics().find((topic) => String(topic.id) === kept.get("topic")) ?? null;
  ready = true;
  setMode(about.modes.includes(kept.get("mode")) ? kept.get("mode") : about.modes.at(-1));
}

$("q").addEventListener("input", () => { state.q = $("q").value; state.like = null; changed({ typing: true }); });
$("where").addEventListener("change", () => setWhere($("where").value));
$("index").onchange = async () => { state.where = $("where").value = ""; await chooseIndex($("index").value); setMode(about.modes.includes(state.mode) ? state.mode : about.modes.at(-1)); };
$("more").onclick = showMore;
$("copy").onclick = () => copy(command(state));
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
  enter: () => { if (currentHit()) open(currentHit()); else { clearTimeout(timer); changed(); } },
  back,
  keys: {
    j: () => move(1), k: () => move(-1), "/": () => { $("q").focus(); $("q").select(); }, w: () => $("where").focus(),
    s: () => { const hit = currentHit() ?? shown.find((each) => each.id === $("reader").dataset.id); if (hit) hitActions.similar(hit); },
    1: () => setMode("hybrid"), 2: () => setMode("dense"), 3: () => setMode("lexical"),
    m: () => showMap(!$("side").classList.contains("open")), l: () => topicMap.toggleLasso(), 0: topicMap.whole,
    "+": () => topicMap.zoom(1.5), "=": () => topicMap.zoom(1.5), "-": () => topicMap.zoom(1 / 1.5),
    c: () => copy(command(state)), d: toggleTheme, "?": () => $("keys").showModal(),
  },
});
window.addEventListener("hashchange", () => location.reload());
begin().catch((error) => failed(error));
window.page = { state, rows };
