"""The page in a real browser: typing, choosing, reading, the map, the keyboard, a phone, a key."""

from __future__ import annotations

import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.serving import key_hash

from .pages import FINAL, NEXT_FRAME, keep_picture, kinds, search, shown


@pytest.fixture
def server(serve_page, clustered):
    with serve_page(clustered) as started:
        yield started


def test_it_starts_with_topics_and_a_map(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector("#start:not([hidden])")
    assert page.inner_text("#start h2") == "60 documents"
    assert page.locator("#start .topics button").count() == 4
    assert page.locator("#modes button").all_inner_texts() == ["Both", "Meaning", "Words", "Reranked"]
    assert page.evaluate("topicMap.size") == 60
    keep_picture(page, "start")
    page.locator("#start .topics button").first.click()
    page.wait_for_selector(FINAL)
    assert "Topic:" in page.inner_text("#chips")
    assert len(kinds(page)) == 1


def test_words_answer_while_one_types_and_meaning_follows(server, open_page) -> None:
    page = open_page(server)
    asked = []
    page.on("request", lambda request: asked.append(request))
    page.wait_for_selector("#start:not([hidden])")
    search(page, "yeast makes gas")
    *first, last = [request.post_data_json for request in asked if request.url.endswith("/search")]
    assert len(first) > 4
    assert {body["mode"] for body in first} == {"lexical"}
    assert (last["mode"], last["q"]) == ("hybrid", "yeast makes gas")
    assert shown(page)[0].startswith("bread-")
    assert page.locator(".hit").first.locator("mark").all_inner_texts()[:1] == ["yeast"]
    parts = page.locator(".hit").first.locator(".facts .score").all_inner_texts()
    assert [part.split()[0] for part in parts[1:]] == ["meaning", "words"], "the parts of the score"
    lit = int(page.get_attribute("#ink", "data-lit"))
    assert 15 <= lit <= 60
    assert page.locator(".hit .dot").count() == len(shown(page))
    keep_picture(page, "hits")
    page.fill("#q", "")
    page.wait_for_selector("#start:not([hidden])")
    assert shown(page) == []


def test_fields_write_a_condition_that_can_be_edited(server, open_page) -> None:
    page = open_page(server, refusal="422")
    search(page, "gas")
    facet = page.locator("#filters .facet", has_text="topic")
    facet.locator("button", has_text="stars").click()
    assert page.input_value("#where") == "topic = 'stars'"
    page.wait_for_function("() => [...document.querySelectorAll('.hit')].every(row => row.hit.id.startsWith('stars'))")
    assert kinds(page) == {"stars"}
    facet.locator("button", has_text="bread").click()
    assert page.input_value("#where") == "topic in ('stars', 'bread')"
    page.get_by_label("year, at least").fill("2030")
    page.get_by_label("year, at least").press("Tab")
    assert page.input_value("#where") == "topic in ('stars', 'bread') and year >= 2030"
    page.wait_for_function("() => [...document.querySelectorAll('.hit')].every(row => row.hit.metadata.year >= 2030)")
    page.fill("#where", "topic = 'ships' and year <")
    page.press("#where", "Enter")
    page.wait_for_selector("#problem:not([hidden])")
    assert "expected a number" in page.inner_text("#problem")
    page.fill("#where", "topic = 'ships'")
    page.press("#where", "Enter")
    page.wait_for_function("() => [...document.querySelectorAll('.hit')].every(row => row.hit.id.startsWith('ships'))")
    assert not page.is_visible("#problem")
    assert facet.locator("button", has_text="ships").get_attribute("aria-pressed") == "true"
    keep_picture(page, "fields")


def test_conditions_that_somebody_typed_are_kept(server, open_page) -> None:
    """The rules of where.js, asked in the browser itself."""
    page = open_page(server)
    page.wait_for_selector("#start:not([hidden])")
    cases = [
        ("", "lang", "en", "lang = 'en'"),
        ("year >= 2000", "lang", "it's", "year >= 2000 and lang = 'it''s'"),
        ("a = 1 or b = 2", "lang", "en", "(a = 1 or b = 2) and lang = 'en'"),
        ("year between 1 and 5 and lang = 'en'", "lang", "en", "year between 1 and 5"),
        ("lang in ('en', 'de', 'x')", "lang", "de", "lang in ('en', 'x')"),
        ("not (lang = 'en' and x = 1)", "lang", "en", "not (lang = 'en' and x = 1) and lang = 'en'"),
        ("lang = 'a and b'", "n", 3, "lang = 'a and b' and n = 3"),
        ("", "odd name", True, '"odd name" = true'),
        ("author.name = 'x'", "author.name", "x", ""),
    ]
    for text, name, value, expected in cases:
        script = "async ([text, name, value]) => (await import('/page/where.js')).toggled(text, name, value)"
        assert page.evaluate(script, [text, name, value]) == expected, text


def test_a_lasso_filters(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector("#start:not([hidden])")
    target = page.evaluate("() => topicMap.screenOf(7)")
    box = page.locator("#ink").bounding_box()
    x, y = box["x"] + target[0], box["y"] + target[1]
    page.click("#lasso")
    page.mouse.move(x - 60, y - 60)
    page.mouse.down()
    for dx, dy in ((60, -60), (60, 60), (-60, 60), (-60, -50)):
        page.mouse.move(x + dx, y + dy, steps=6)
    page.mouse.up()
    page.wait_for_selector(FINAL)
    assert page.inner_text("#chips").startswith("Inside the lasso")
    script = """([x, y]) => [...Array(60).keys()].filter(i => {
      const [a, b] = topicMap.screenOf(i);
      return Math.abs(a - x) < 60 && Math.abs(b - y) < 60;
    }).length"""
    inside = page.evaluate(script, target)
    assert 0 < inside < 60
    assert page.inner_text("#status").startswith(f"{inside} documents")
    keep_picture(page, "lasso")
    page.locator("#chips button").click()
    page.wait_for_selector("#start:not([hidden])")


def test_reading_and_the_keyboard(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector("#start:not([hidden])")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("burns hydrogen")
    page.wait_for_selector(FINAL)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_selector("#reader:not([hidden])")
    second = shown(page)[1]
    assert second in page.inner_text("#reader dl")
    assert page.locator("#reader mark").count() >= 2
    assert page.locator(".hit.open").evaluate("row => row.hit.id") == second
    keep_picture(page, "reader")
    page.keyboard.press("s")
    page.wait_for_selector("#reader", state="hidden")
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('like')")
    assert second not in shown(page)
    assert kinds(page) == {"stars"} or len(shown(page)) > 14
    page.keyboard.press("Escape")
    page.wait_for_function("() => !document.querySelector('#chips').innerText")
    page.keyboard.press("3")
    page.wait_for_function("() => document.querySelector('#status').innerText.includes('by words')")
    page.keyboard.press("c")
    page.wait_for_selector("#toast:not([hidden])")
    assert "llm2comp search --index library.index 'burns hydrogen' --mode lexical" in page.inner_text("#toast")
    page.keyboard.press("?")
    assert page.locator("#keys[open] tr").count() > 10
    keep_picture(page, "keys")


def test_the_address_holds_the_question(server, open_page) -> None:
    page = open_page(server, "#q=stars&mode=lexical&where=year+%3E+2020")
    page.wait_for_selector(FINAL)
    assert page.input_value("#where") == "year > 2020"
    assert kinds(page) == {"stars"}
    assert page.locator("#modes [aria-checked=true]").inner_text() == "Words"
    page.fill("#q", "ships")
    page.wait_for_function("() => location.hash.includes('q=ships')")


def test_the_best_hits_are_reranked(loads_hash, serve_page, open_page, tmp_path) -> None:
    kinds_of_hits = ("ships sail", "bread rises", "stars shine", "cells divide")
    texts = [f"{kinds_of_hits[number % 4]} {'again ' * (number % 7)}on day {number}" for number in range(130)]
    with Collection.create(tmp_path / "many.index", encoder="default") as library:
        library.update(Document(f"d{number}", text) for number, text in enumerate(texts))
        first = [hit.id for hit in library.search("bread rises again", k=100)]
        learned = [hit.id for hit in library.search("bread rises again", k=100, rerank="ltr")]
    assert learned != first, "else this test says nothing"
    with serve_page(tmp_path / "many.index") as server:
        page = open_page(server, "#q=bread+rises+again")
        page.wait_for_selector(FINAL)
        assert shown(page) == first[:20]
        page.locator("#q").blur()
        page.keyboard.press("4")
        page.wait_for_function("() => document.querySelector('#status').innerText.includes('words, reranked')")
        assert shown(page) == learned[:20]
        assert page.evaluate("location.hash").endswith("&mode=ltr")
        page.keyboard.press("c")
        page.wait_for_selector("#toast:not([hidden])")
        assert "'bread rises again' --rerank ltr -k 20" in page.inner_text("#toast")
        keep_picture(page, "reranked")
        while page.is_visible("#more"):
            before = len(shown(page))
            page.click("#more")
            page.wait_for_function("before => page.rows().length > before", arg=before)
        assert shown(page) == learned
        assert page.inner_text("#status").startswith("The best 100 hits by meaning and words, reranked")
        search(page, "stars shine")
        assert page.locator("#modes [aria-checked=true]").inner_text() == "Reranked"
        again = open_page(server, "#q=bread+rises+again&mode=ltr")
        again.wait_for_selector(FINAL)
        assert shown(again) == learned[:20]


def test_dark_light_and_a_phone(server, open_page) -> None:
    page = open_page(server, "#q=stars", scheme="dark", width=400, height=800)
    page.wait_for_selector(FINAL)
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    assert page.evaluate("document.documentElement.scrollWidth") == 400
    keep_picture(page, "phone-dark")
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "light"
    page.click("#show-filters")
    assert page.locator("#filters button", has_text="stars").is_visible()
    page.keyboard.press("Escape")
    page.click("#show-map")
    assert page.locator("#map").bounding_box()["width"] == 400
    keep_picture(page, "phone-map")
    page.click("#close-map")
    page.locator(".hit").nth(1).click()
    page.wait_for_selector("#reader:not([hidden])")
    assert page.locator("#reader").bounding_box()["width"] == 400
    page.get_by_label("Close the document").click()
    assert page.locator(".hit").first.is_visible()


def test_windows_of_every_width_hold_all_buttons(server, open_page) -> None:
    page = open_page(server, "#q=stars")
    page.wait_for_selector(FINAL)
    for width in (360, 700, 761, 800, 900, 1000, 1100, 1180, 1181, 1280):
        page.set_viewport_size({"width": width, "height": 700})
        page.evaluate(NEXT_FRAME)
        assert page.evaluate("document.documentElement.scrollWidth") == width
    page.set_viewport_size({"width": 800, "height": 700})
    page.click("#show-filters")
    keep_picture(page, "tablet-filters")
    top, fields = (page.locator(each).bounding_box() for each in ("#columns", "#filters"))
    assert fields["y"] >= top["y"]  # it covers no button
    assert fields["y"] + fields["height"] <= 700


def test_documents_are_text_and_never_markup(serve_page, open_page, hash_loader, monkeypatch, tmp_path) -> None:
    nasty = "<img src=x onerror=alert(1)> <script>alert(2)</script> {{JS}} 𝔘nicode 😀 gas"
    with Collection.create(tmp_path / "nasty.index", encoder="default") as library:
        library.update([Document("<b>id</b>/?#", nasty, "<i>title</i>", {"<u>field": "<s>'\"</s>", "k": 1})])
    with serve_page(tmp_path / "nasty.index") as server:
        page = open_page(server)
        search(page, "gas")
        assert page.locator(".hit h3").inner_text().endswith("<i>title</i>")
        assert page.locator(".hit mark").all_inner_texts() == ["gas"]
        assert "😀" in page.locator(".hit p").inner_text()
        page.locator(".hit").click()
        page.wait_for_selector("#reader:not([hidden])")
        assert nasty in page.inner_text("#reader .text")
        assert page.locator("#reader img, .hit img, #reader script").count() == 0


def test_a_server_with_a_key_asks_for_it(serve_page, open_page, clustered) -> None:
    with serve_page(clustered, key_hash=key_hash("secret-key-1")) as server:
        page = open_page(server, refusal="401")
        page.wait_for_selector("#key[open]")
        page.fill("#key-text", "wrong-key")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key[open]")
        page.fill("#key-text", "secret-key-1")
        page.keyboard.press("Enter")
        page.wait_for_selector("#start:not([hidden])")
        search(page, "bread")
        assert shown(page)


def test_an_index_without_an_encoder_is_searched_by_words(serve_page, open_page, library, clustered, tmp_path) -> None:
    from llm2comp_indexes import Index, IndexedDocument

    path = tmp_path / "words.index"
    encoder = {"name": "none", "fingerprint": "unknown"}
    with Index.create(path, dimension=2, encoder=encoder) as index, index.writer() as writer:
        writer.add([IndexedDocument("a", "Cells divide.")], [[1.0, 0.0]])
        writer.commit()
    with serve_page(clustered, path) as server:
        page = open_page(server, "#index=words&q=cells")
        page.wait_for_selector(FINAL)
        assert shown(page) == ["a"]
        assert page.locator("#modes button:disabled").count() == 3
        page.select_option("#index", "library")
        page.wait_for_function("() => [...document.querySelectorAll('.hit')].length > 1")
        assert page.locator("#modes button:disabled").count() == 0
