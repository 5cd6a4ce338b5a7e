"""The map in a real browser: what a reader clicks, types and switches, and how fast it draws.

Debian's and Ubuntu's ``chromium`` package is enough, or any Chrome; nothing is downloaded. ``LLM2COMP_SCREENSHOTS``
names a folder in which the pictures that the tests take are kept, to be looked at.
"""

from __future__ import annotations

import os
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.output import map_html as map_page
from llm2comp_apps.clustering.output.map_html import MapData, map_html

NEXT_FRAME = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
NAMES = ("dough, yeast", "orbit, moon", "pawn, knight", "whale, reef", "gun, law", "goal, match")


@pytest.fixture(scope="module")
def make_map():
    """Makes the data of a map of n documents: six topics of falling size, and a tenth of outliers."""

    def make(n=600):
        random = np.random.default_rng(0)
        labels = np.sort(random.choice(6, n, p=np.array([30, 24, 18, 13, 9, 6]) / 100)).astype(np.int32)
        angle = labels * np.pi / 3
        positions = 6 * np.stack([np.cos(angle), np.sin(angle)], axis=1) + random.standard_normal((n, 2))
        labels[::10] = -1
        positions[labels < 0] = random.uniform(-8, 8, ((labels < 0).sum(), 2))
        words = [*NAMES, "nothing"]
        texts = [f"document {i} about {words[label].replace(',', ' and')}" for i, label in enumerate(labels.tolist())]
        sizes = np.bincount(labels[labels >= 0])
        topics = [Topic(t, 1, int(sizes[t]), NAMES[t], ((NAMES[t], 1.0),), (0,), 6 + t // 3) for t in range(6)]
        topics += [Topic(6 + g, 2, int(sizes[3 * g : 3 * g + 3].sum()), f"group {g}", (), ()) for g in range(2)]
        probabilities = np.where(labels < 0, 0, random.random(n)).astype(np.float32)
        ids = [f"id-{i}" for i in range(n)]
        return MapData("A corpus", positions.astype(np.float32), labels, probabilities, topics, ids, texts)

    return make


@pytest.fixture
def open_map(browser, make_map, tmp_path):
    """Opens a map in a new page and fails the test on any error or request of the page."""
    troubles, pages = [], []

    def open_(n=600, scheme="light", width=1200, height=800, **changes):
        data = replace(make_map(n), **changes)
        path = tmp_path / f"map-{n}.html"
        path.write_text(map_html(data), "utf-8")
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: troubles.append(request.url) if request.url != path.as_uri() else None)
        page.goto(path.as_uri())
        pages.append(page)
        return page, data

    yield open_
    for page in pages:
        page.close()
    assert not troubles


@pytest.fixture
def picture():
    """Takes a screenshot of the map's drawing area, without the panel beside it: ``(h, w, 3)`` in [0, 1]."""

    def take(page, name):
        page.evaluate(NEXT_FRAME)
        taken = page.screenshot(animations="disabled")
        if folder := os.environ.get("LLM2COMP_SCREENSHOTS"):
            (Path(folder) / f"{name}.png").write_bytes(taken)
        wide = int(page.locator("#stage").bounding_box()["width"])
        return imread(BytesIO(taken))[:, :wide, :3]

    return take


def screen(page, i):
    return page.evaluate("i => topicMap.screenOf(i)", i)


def colored(pixels):
    """Share of the pixels with a colour, neither page nor ink."""
    return float((np.ptp(pixels, axis=2) > 0.25).mean())


def topic_button(page, name):
    return page.locator("#legend button.topic", has_text=name)


def test_page_shows_points_names_and_legend(open_map, picture):
    page, _ = open_map()
    assert page.title() == "A corpus"
    assert page.inner_text("#summary") == "600 documents, 6 topics, 60 outliers"
    assert page.locator("#legend button.topic").count() == 7
    assert page.locator("#legend button.group").all_inner_texts()[0].startswith("group 0")
    pixels = picture(page, "light")
    assert colored(pixels) > 0.005
    assert int(page.get_attribute("#labels", "data-labels")) == 6
    box = page.locator("#stage").bounding_box()
    places = np.array([screen(page, i) for i in range(0, 600, 25)])
    assert (places > 0).all()
    assert (places < [box["width"], box["height"]]).all()


def test_search_brings_out_what_matches(open_map, picture):
    page, data = open_map()
    before = picture(page, "before-search")
    page.keyboard.press("/")
    page.keyboard.type("orbit document")
    expected = sum("orbit" in text for text in data.texts)
    assert page.inner_text("#status") == f"{expected} of 600 documents match"
    sizes = [topic_button(page, name).locator(".size").inner_text() for name in NAMES[:2]]
    assert sizes == [f"0 of {data.topics[0].size}", f"{expected} of {data.topics[1].size}"]
    after = picture(page, "search")
    assert 0 < colored(after) < 0.7 * colored(before)
    page.keyboard.press("Escape")
    assert page.input_value("#search") == ""
    assert page.inner_text("#status") == ""
    np.testing.assert_array_equal(picture(page, "after-search"), before)
    page.fill("#search", "no such words anywhere")
    assert page.inner_text("#status") == "0 of 600 documents match"


def test_search_finds_words_that_are_not_shown_and_says_where_it_looks(open_map, picture, monkeypatch):
    texts = [f"document {i} " + "and so on " * 40 + ("Zygote." if i % 50 == 0 else "") for i in range(600)]
    page, _ = open_map(texts=texts)
    assert page.get_attribute("#search", "title") == "Searches ids and texts; all words must be there"
    assert not page.is_visible("#scope")
    page.fill("#search", "document ZYGOTE")
    assert page.inner_text("#status") == "12 of 600 documents match"
    x, y = screen(page, 100)
    page.mouse.click(x, y)
    assert page.inner_text("#card .beyond") == "further on: zygote"
    assert page.locator("#card .beyond mark").count() == 1
    page.fill("#search", "so on")
    assert page.locator("#card .beyond").count() == 0
    picture(page, "beyond")
    monkeypatch.setattr(map_page, "_FURTHER_LENGTH", 10)
    page, _ = open_map(texts=texts)
    scope = "Searches ids and the first 240 characters of each text"
    assert page.get_attribute("#search", "title") == f"{scope}; all words must be there"
    assert page.inner_text("#scope") == f"{scope}."
    page.fill("#search", "zygote")
    assert page.inner_text("#status") == "0 of 600 documents match"
    picture(page, "scope")


def test_legend_filters(open_map, picture):
    page, data = open_map()
    before = picture(page, "before-filter")
    size = next(topic.size for topic in data.topics if topic.name == NAMES[1])
    topic_button(page, NAMES[1]).click()
    assert page.inner_text("#status") == f"{size} documents in 1 chosen topic"
    assert topic_button(page, NAMES[1]).get_attribute("aria-pressed") == "true"
    page.mouse.move(5, 5)
    filtered = picture(page, "filter")
    assert colored(filtered) < 0.6 * colored(before)
    assert int(page.get_attribute("#labels", "data-labels")) == 1
    topic_button(page, NAMES[4]).click(modifiers=["Control"])
    assert page.inner_text("#status").endswith("documents in 2 chosen topics")
    page.fill("#search", "pawn")
    assert page.inner_text("#status").startswith("0 of ")
    page.fill("#search", "")
    topic_button(page, NAMES[4]).click(modifiers=["Control"])
    topic_button(page, NAMES[1]).click()
    assert page.inner_text("#status") == ""
    page.mouse.move(5, 5)
    np.testing.assert_array_equal(picture(page, "after-filter"), before)
    page.locator("#legend button.group").first.click()
    assert page.inner_text("#status").endswith("documents in 3 chosen topics")


def test_hover_and_click_show_the_document(open_map, picture):
    page, data = open_map()
    i = int(np.flatnonzero(data.labels == 3)[5])
    x, y = screen(page, i)
    page.mouse.move(x, y)
    tip = page.inner_text("#tip")
    assert "about whale and reef" in tip
    assert NAMES[3] in tip
    picture(page, "hover")
    page.mouse.click(x, y)
    assert page.inner_text("#card h2").startswith("id-")
    assert "about whale and reef" in page.inner_text("#card")
    page.fill("#search", "whale")
    assert page.inner_text("#card mark") == "whale"
    picture(page, "card")
    page.click("#card .close")
    assert not page.is_visible("#card")
    page.mouse.move(4, 4)
    assert not page.is_visible("#tip")


def test_zoom_and_pan(open_map):
    page, _ = open_map()
    x, y = screen(page, 100)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -500)
    assert screen(page, 100) == pytest.approx([x, y], abs=1), "zooms about the pointer"
    far = np.subtract(screen(page, 500), screen(page, 100))
    page.keyboard.press("0")
    near = np.subtract(screen(page, 500), screen(page, 100))
    assert np.linalg.norm(far) > 1.5 * np.linalg.norm(near)
    assert screen(page, 100) == pytest.approx([x, y], abs=1)
    page.mouse.down()
    page.mouse.move(x + 30, y + 20, steps=3)
    page.mouse.up()
    assert screen(page, 100) == pytest.approx([x + 30, y + 20], abs=1)
    assert not page.is_visible("#card"), "a drag is no click"
    page.click("#zoom-in")
    page.click("#reset")
    assert screen(page, 100) == pytest.approx([x, y], abs=1)


def test_dark_and_light(open_map, picture):
    page, _ = open_map(scheme="light")
    assert picture(page, "theme-light")[2, 2].mean() > 0.95
    page.click("#theme")
    dark = picture(page, "theme-dark")
    assert dark[2, 2].mean() < 0.15
    assert colored(dark) > 0.005
    page.click("#theme")
    assert picture(page, "theme-light-again")[2, 2].mean() > 0.95
    system, _ = open_map(scheme="dark")
    assert picture(system, "system-dark")[2, 2].mean() < 0.15


def test_narrow_windows_keep_the_map_and_the_legend(open_map, picture):
    page, _ = open_map(width=420, height=760)
    picture(page, "narrow")
    stage, side = (page.locator(name).bounding_box() for name in ("#stage", "#side"))
    assert stage["width"] == side["width"] == 420
    assert stage["height"] > 300
    assert side["y"] >= stage["height"]


def test_texts_run_as_their_letters_do(open_map, picture):
    hebrew = "החתול ישב על המחצלת (cat)!"
    page, _ = open_map(60, ids=[hebrew] * 60, texts=[hebrew] * 60, title=hebrew)
    x, y = screen(page, 3)
    page.mouse.click(x, y)
    picture(page, "map-hebrew")
    # The exclamation mark ends a text: it stands at the left of one that runs from right to left.
    ends = """(text) => {
        const node = document.createTreeWalker(text, NodeFilter.SHOW_TEXT).nextNode(), range = document.createRange();
        const left = (at) => (range.setStart(node, at), range.setEnd(node, at + 1), range.getBoundingClientRect().left);
        return [left(0), left(node.length - 1)];
    }"""
    for text in ("h1", "#tip > div", "#card h2", "#card p"):
        first, last = page.eval_on_selector(text, ends)
        assert last < first, text


def test_one_is_counted_as_one(open_map):
    topics = [Topic(0, 1, 1, "dough", (("dough", 1.0),), (0,))]
    labels = np.array([0, -1], np.int32)
    positions, certain, texts = np.eye(2, dtype=np.float32), np.ones(2, np.float32), ["bread", "moon"]
    page, _ = open_map(
        60, labels=labels, topics=topics, positions=positions, probabilities=certain, ids=["a", "b"], texts=texts
    )
    assert page.inner_text("#summary") == "2 documents, 1 topic, 1 outlier"
    topic_button(page, "dough").click()
    assert page.inner_text("#status") == "1 document in 1 chosen topic"


def best_frame(page) -> float:
    """Milliseconds that drawing took while zooming, at best: the others tell how busy the machine was."""
    frames = []
    for step in range(16):
        page.mouse.move(400 + step, 300)
        page.mouse.wheel(0, -60 if step < 8 else 60)
        page.evaluate(NEXT_FRAME)
        frames.append(float(page.get_attribute("#labels", "data-frame")))
    return min(frames)


def test_fifty_thousand_points_are_fluent(open_map, picture):
    """Drawing time of a frame, as the page measures it, and the time to a first picture."""
    small, _ = open_map(500)
    page, _ = open_map(50_000)
    pixels = picture(page, "50k")
    assert colored(pixels) > 0.01
    # Where even a map of 500 points takes so long, it is the machine.
    assert best_frame(page) < max(40, 10 * best_frame(small)), "milliseconds a frame"
    page.fill("#search", "orbit")
    assert page.inner_text("#status").endswith("of 50,000 documents match")
