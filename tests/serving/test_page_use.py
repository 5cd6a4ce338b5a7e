"""The page in haste, gone back to, without a mouse, on paper, and with values that nobody expects."""

from __future__ import annotations

import shlex

import pytest

from llm2comp_apps import Collection, Document
from llm2comp_apps.serving import key_hash

from .pages import FINAL, search, shown

OPEN = "#reader:not([hidden])"
START = "#start:not([hidden])"


@pytest.fixture
def server(serve_page, clustered):
    with serve_page(clustered) as started:
        yield started


@pytest.fixture
def odd_library(tmp_path, loads_hash):
    """Documents with values of fields as people have them."""
    values = ["it's", 'say "hi", you', "<b>bold</b>", "a , b ( c )", "x" * 2000, "", "日本"]
    with Collection.create(tmp_path / "odd.index", encoder="default") as library:
        library.update(
            Document(
                f"doc-{number}",
                f"Cells divide, {number}.",
                "A long title " * 40 if number == 3 else f"Title {number}",
                {"label": values[number % 7], "stars": [1.0, 2.0, 3.5][number % 3], "year": 1990 + number,
                 "size": 100 + number, "kind": f"kind {number % 14}"},
            )
            for number in range(42)
        )  # fmt: skip
    return tmp_path / "odd.index"


def told(page, beginning: str) -> None:
    page.wait_for_function("text => document.querySelector('#status').innerText.includes(text)", arg=beginning)


def facet(page, name: str):
    return page.locator("#filters .facet", has=page.locator("h3", has_text=name))


def held_back(page, pattern: str, holding: str = "") -> list:
    """The requests to an address that hold a text, which wait until the test lets them go."""
    held: list = []
    page.route(
        pattern, lambda route: held.append(route) if holding in (route.request.post_data or "") else route.continue_()
    )
    return held


def until(page, held: list, count: int) -> None:
    for _ in range(100):
        if len(held) >= count:
            return
        page.wait_for_timeout(30)
    raise AssertionError(f"{len(held)} requests")


# ---------------------------------------------------------------- in haste


def test_similar_documents_are_found_from_the_list(server, open_page) -> None:
    page = open_page(server)
    search(page, "burns hydrogen")
    page.locator(".hit").nth(1).get_by_text("Similar").click()
    told(page, "like")
    assert page.inner_text("#chips").startswith("Similar to: Stars")
    page.keyboard.press("Escape")
    told(page, "by meaning and words")
    page.keyboard.press("j")
    page.keyboard.press("s")
    told(page, "like")


def test_the_document_asked_for_last_is_shown(server, open_page) -> None:
    page = open_page(server)
    search(page, "gas")
    held = held_back(page, "**/documents?id=*")
    first, second = shown(page)[:2]
    page.locator(".hit").nth(0).click()
    page.locator(".hit").nth(1).click()
    until(page, held, 2)
    held[1].continue_()
    page.wait_for_selector(OPEN)
    held[0].continue_()
    page.wait_for_timeout(150)
    assert second in page.inner_text("#reader dl")
    assert first not in page.inner_text("#reader dl")


def test_more_hits_come_once_and_only_to_their_question(server, open_page) -> None:
    page = open_page(server, "#q=gas&mode=dense")
    page.wait_for_selector(FINAL)
    held = held_back(page, "**/search", "offset")
    page.click("#more")
    until(page, held, 1)
    assert page.locator("#more").is_disabled()
    held[0].continue_()
    page.wait_for_function("() => document.querySelectorAll('.hit').length === 40")
    assert len(set(shown(page))) == 40
    page.click("#more")
    until(page, held, 2)
    search(page, "ships float")
    held[1].continue_()
    page.wait_for_timeout(150)
    assert len(shown(page)) == 20
    assert page.locator("#more").is_enabled()


def test_an_answer_that_breaks_off_is_no_answer(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector(START)
    script = """async (name) => {
      const { ask } = await import('/page/api.js');
      const before = window.fetch;
      window.fetch = async () => ({ ok: true, status: 200, async json() { throw new DOMException('gone', name); } });
      try { return JSON.stringify(await ask('indexes')); } catch (error) { return `${error.name}: ${error.message}`; }
      finally { window.fetch = before; }
    }"""
    assert page.evaluate(script, "AbortError") == "AbortError: gone"
    assert page.evaluate(script, "NetworkError") == "Error: The server's answer broke off."


def test_another_index_begins_anew(serve_page, open_page, clustered, odd_library) -> None:
    with serve_page(clustered, odd_library) as server:
        page = open_page(server)
        search(page, "gas")
        page.locator(".hit").first.click()
        page.wait_for_selector(OPEN)
        held = held_back(page, "**/indexes/odd/fields")
        page.select_option("#index", "odd")
        until(page, held, 1)
        page.wait_for_selector(OPEN, state="hidden")
        page.select_option("#index", "library")
        page.wait_for_function("() => page.state.index === 'library' && document.querySelectorAll('.hit').length")
        held[0].continue_()
        page.wait_for_timeout(150)
        assert page.locator("#filters h3").all_inner_texts() == ["topic", "year"]
        assert page.evaluate("topicMap.size") == 60
        assert all("-" in each for each in shown(page))


def test_dark_and_light_change_nothing_else(server, open_page) -> None:
    page = open_page(server, "#q=zzqx&mode=lexical", scheme="dark")
    told(page, "Nothing found.")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.click("#theme")
    assert page.inner_text("#status").startswith("Nothing found.")
    assert not page.is_visible("#start")
    search(page, "hydrogen")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector(OPEN)
    color = "() => getComputedStyle(document.querySelector('.hit .dot')).backgroundColor"
    before = page.evaluate(color)
    page.keyboard.press("d")
    assert page.evaluate(color) != before
    assert page.locator(".hit.open.current").count() == 1


def test_long_texts_can_be_pasted(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector(START)
    page.fill("#q", ("gas " * 5000)[:20000])
    page.wait_for_selector(FINAL)
    assert shown(page)
    page.fill("#q", "gas" + "s" * 19997)
    page.wait_for_function("() => page.state.q.length === 20000")
    page.wait_for_selector(FINAL)


def test_one_hit_is_no_hits(server, open_page) -> None:
    page = open_page(server, "#q=stars&mode=lexical&where=year+%3D+2001")
    told(page, "1 hit by words")


# ---------------------------------------------------------------- gone back to


def test_the_address_holds_what_is_read_and_drawn(server, open_page) -> None:
    shape = "0.0_65535.0_65535.65535_-10.65535"
    page = open_page(server, f"#index=library&q=stars&mode=lexical&shape={shape}&doc=stars-1")
    page.wait_for_selector(OPEN)
    page.wait_for_selector(FINAL)
    assert page.inner_text("#chips").startswith("Inside the lasso")
    assert "stars-1" in page.inner_text("#reader dl")
    assert page.evaluate("location.hash").endswith(f"&mode=lexical&shape={shape}&doc=stars-1")
    assert page.title() == "stars · library · llm2comp"
    page.keyboard.press("Escape")
    assert "doc=" not in page.evaluate("location.hash")
    page.reload()
    page.wait_for_selector(FINAL)
    assert page.evaluate("page.state.shape.length") == 4
    assert not page.is_visible("#reader")


def test_back_and_forward_go_through_questions_and_documents(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector(START)
    steps = page.evaluate("history.length")
    search(page, "stars")
    facet(page, "topic").locator("button", has_text="bread").click()
    told(page, "by meaning")
    page.wait_for_function("() => document.querySelector('.hit').hit.id.startsWith('bread')")
    page.locator(".hit").first.click()
    page.wait_for_selector(OPEN)
    page.locator(".hit").nth(1).click()
    page.wait_for_function("id => document.querySelector('#reader').innerText.includes(id)", arg=shown(page)[1])
    assert page.evaluate("history.length") == steps + 3
    page.go_back()
    page.wait_for_selector(OPEN, state="hidden")
    assert page.input_value("#where") == "topic = 'bread'"
    page.go_back()
    page.wait_for_function("() => document.querySelector('#where').value === ''")
    page.wait_for_function("() => document.querySelector('.hit').hit.id.startsWith('stars')")
    page.go_back()
    page.wait_for_selector(START)
    assert page.input_value("#q") == ""
    for _ in range(3):
        page.go_forward()
    page.wait_for_selector(OPEN)
    assert (page.input_value("#q"), page.input_value("#where")) == ("stars", "topic = 'bread'")


def test_the_command_is_what_is_asked(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector(START)
    script = "async ([state, hits]) => (await import('/page/command.js')).command(state, hits)"
    none = {"index": "library", "q": "", "like": None, "mode": "hybrid", "where": ""}
    queries = ["it's", "a  b", '"x y" -mouse', "$HOME `id` \\ !x", "=cat", "~", "# no", "a\tb", "🐁 *", "title:gas"]
    for query in queries:
        words = shlex.split(page.evaluate(script, [{**none, "q": query, "where": " a = 'b''c' "}, 20]), comments=True)
        assert words[2:] == ["--index", "library.index", query, "--where", "a = 'b''c'", "-k", "20"]
    words = shlex.split(page.evaluate(script, [{**none, "q": "-mouse gas", "mode": "lexical"}, 40]))
    assert words[4:] == ["--mode", "lexical", "-k", "40", "--", "-mouse gas"]
    words = shlex.split(page.evaluate(script, [{**none, "q": "x", "like": {"id": 'it\'s "a"'}}, 20]))
    assert words[4:] == ["--like", 'it\'s "a"', "-k", "20"]
    assert page.evaluate(script, [{**none, "where": "year > 1"}, 20]) is None
    page.locator("#start .topics button").first.click()
    page.wait_for_selector(FINAL)
    page.click("#copy")
    page.wait_for_function("() => document.querySelector('#toast').innerText.startsWith('A command needs a query')")
    search(page, "gas")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', { value: undefined })")  # as where there is no https
    page.click("#copy")
    page.wait_for_function(
        "() => document.querySelector('#toast').innerText.startsWith('Copied, without the topic: llm')"
    )


# ---------------------------------------------------------------- values that nobody expects


def test_what_somebody_typed_keeps_its_spelling(server, open_page) -> None:
    page = open_page(server)
    page.wait_for_selector(START)
    cases = [
        ("a = 'x , y ( z . w )'", "n", 1, "a = 'x , y ( z . w )' and n = 1"),
        ("a='x'  and  not  ( b<1 )", "n", 1, "a='x' and not  ( b<1 ) and n = 1"),
        ("lang in ('a , b')", "lang", "c", "lang in ('a , b', 'c')"),
        ('lang = "it\'s"', "lang", "it's", ""),
        ('"odd name".x = 1', "odd name.x", 2, '"odd name".x in (1, 2)'),
        ("a = 'left open", "n", 1, "a = 'left open and n = 1"),
    ]
    for text, name, value, expected in cases:
        script = "async ([text, name, value]) => (await import('/page/where.js')).toggled(text, name, value)"
        assert page.evaluate(script, [text, name, value]) == expected, text


def test_a_condition_on_a_field_that_is_not_there_is_doubted(server, open_page) -> None:
    page = open_page(server, "#q=stars&where=yeer+%3D+2001")
    told(page, "Nothing found.")
    assert "no document has a field 'yeer'" in page.inner_text("#status")


def test_facets_count_and_choose_any_value(serve_page, open_page, odd_library) -> None:
    with serve_page(odd_library) as server:
        page = open_page(server, "#q=cells&mode=lexical")
        page.wait_for_selector(FINAL)
        stars = facet(page, "stars").locator("button")
        assert stars.all_inner_texts() == ["1\n14", "2\n14", "3.5\n14"], "Python calls 2 in a list of floats 2.0"
        assert all(len(text) < 100 for text in facet(page, "label").locator("button").all_inner_texts())
        for place in range(7):
            button = facet(page, "label").locator("button").nth(place)
            button.click()
            told(page, "6 hits by words")
            chosen = facet(page, "label").locator("button[aria-pressed=true]")
            assert chosen.count() == 1
            chosen.click()
            told(page, "42 hits by words")
        heights = page.eval_on_selector_all(".hit .title", "all => all.map(each => each.clientHeight)")
        assert max(heights) < 80, "a long title is cut in the list"


def test_choices_by_the_keyboard_add_up_and_keep_their_place(serve_page, open_page, odd_library) -> None:
    with serve_page(odd_library) as server:
        page = open_page(server, "#q=cells&mode=lexical")
        page.wait_for_selector(FINAL)
        page.get_by_label("year, at least").fill("2000")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.get_by_label("size, at least").fill("120")
        page.keyboard.press("Tab")
        assert page.input_value("#where") == "year >= 2000 and size >= 120"
        page.fill("#where", "")
        page.press("#where", "Enter")
        told(page, "42 hits by words")
        kinds = facet(page, "kind").locator("button")
        kinds.last.focus()
        page.keyboard.press("Enter")
        assert kinds.count() == 14
        kinds.last.focus()
        name = kinds.last.locator(".name").inner_text()
        page.keyboard.press("Enter")
        told(page, "3 hits by words")
        assert page.evaluate("document.activeElement.querySelector('.name').innerText") == name
        assert kinds.count() == 14, "what was unfolded stays so"


def test_words_are_marked_in_scripts_without_spaces(serve_page, open_page, loads_hash, tmp_path) -> None:
    with Collection.create(tmp_path / "cells.index", encoder="default") as library:
        library.update(
            [Document("ja", "細胞は分裂します。その細胞が増える。", "細胞", {}), Document("he", "תאים cell", "תאים")]
        )
    with serve_page(tmp_path / "cells.index") as server:
        page = open_page(server, "#q=細胞&mode=lexical")
        page.wait_for_selector(FINAL)
        page.locator(".hit").first.click()
        page.wait_for_selector(OPEN)
        assert page.locator("#reader mark").all_inner_texts() == ["細胞", "細胞"]
        search(page, "cell")
        page.locator(".hit").first.click()
        page.wait_for_function("() => document.querySelector('#reader h2').innerText === 'תאים'")
        assert page.locator("#reader h2").evaluate("each => getComputedStyle(each).unicodeBidi") == "plaintext"


# ---------------------------------------------------------------- without a mouse, a key, a wide screen, a script


def test_focus_follows_what_is_read(server, open_page) -> None:
    page = open_page(server)
    search(page, "gas")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("j")
    focused = "() => document.activeElement.closest('.hit')?.hit.id ?? document.activeElement.id"
    second = shown(page)[1]
    assert page.evaluate(focused) == second
    page.keyboard.press("Enter")
    page.wait_for_selector(OPEN)
    assert page.evaluate(focused) == "reader"
    page.keyboard.press("Escape")
    assert page.evaluate(focused) == second
    assert f"doc={second}" in page.locator(".hit.current a").get_attribute("href")


def test_a_choice_of_spelling_and_a_new_query_open_nothing(server, open_page) -> None:
    page = open_page(server)
    search(page, "gas")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("/")
    script = """key => document.querySelector('#q').dispatchEvent(
      new KeyboardEvent('keydown', { key, bubbles: true, isComposing: true }))"""
    page.evaluate(script, "Enter")
    page.evaluate(script, "Escape")
    assert page.input_value("#q") == "gas"
    page.keyboard.type("yeast")
    page.keyboard.press("Enter")
    page.wait_for_selector(FINAL)
    assert page.evaluate("page.state.q") == "yeast"
    assert not page.is_visible("#reader")


def test_arrows_choose_the_mode_and_move_the_map(server, open_page) -> None:
    page = open_page(server, "#q=stars")
    page.wait_for_selector(FINAL)
    page.locator("#modes [aria-checked=true]").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.innerText") == "Meaning"
    assert page.evaluate("page.state.mode") == "dense"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#modes [aria-checked=true]").inner_text() == "Reranked"
    page.keyboard.press("ArrowLeft")
    assert page.locator("#modes [aria-checked=true]").inner_text() == "Words"
    assert page.locator("#modes [tabindex='0']").count() == 1
    before = page.evaluate("topicMap.view.x")
    page.locator("#ink").focus()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("topicMap.view.x") == before + 60


def test_a_wrong_key_is_told_and_asking_can_be_ended(serve_page, open_page, clustered) -> None:
    with serve_page(clustered, key_hash=key_hash("secret-key-1")) as server:
        page = open_page(server, refusal="401")
        page.wait_for_selector("#key[open]")
        assert not page.is_visible("#key-wrong")
        page.fill("#key-text", "🔑")
        page.keyboard.press("Enter")
        page.wait_for_selector("#key-wrong:not([hidden])")
        page.keyboard.press("Escape")
        told(page, "This server wants a key")
        assert page.locator("#key[open]").count() == 0


def test_a_phone_without_a_map_and_with_new_hits(serve_page, open_page, library) -> None:
    with serve_page(library) as server:
        page = open_page(server, "#q=stars", width=360, height=700)
        page.wait_for_selector(FINAL)
        page.click("#show-map")
        assert page.is_visible("#no-map")
        page.click("#close-map")
        assert page.locator(".hit").first.is_visible()
        page.evaluate("document.querySelector('#columns').scrollTop = 500")
        search(page, "ships")
        assert page.evaluate("document.querySelector('#columns').scrollTop") == 0


def test_paper_shows_what_is_read_in_ink(server, open_page) -> None:
    page = open_page(server, "#q=stars", scheme="dark")
    page.wait_for_selector(FINAL)
    page.emulate_media(media="print")
    assert [page.is_visible(each) for each in (".hit", "#tools", "#map")] == [True, False, False]
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.evaluate("getComputedStyle(document.querySelector('#results')).overflow") == "visible"
    page.emulate_media(media="screen")
    page.locator(".hit").first.click()
    page.wait_for_selector(OPEN)
    page.emulate_media(media="print")
    assert [page.is_visible(each) for each in ("#reader .text", ".hit")] == [True, False]


def test_a_browser_without_scripts_is_told(server, open_page) -> None:
    page = open_page(server, java_script_enabled=False)
    assert "JavaScript" in page.inner_text("noscript")


def test_a_browser_that_keeps_nothing_searches(server, open_page, browser) -> None:
    page = browser.new_page()
    page.add_init_script("""for (const name of ['localStorage', 'sessionStorage'])
      Object.defineProperty(window, name, { get() { throw new DOMException('no', 'SecurityError'); } });""")
    page.goto(f"{server.ask.url}/#q=stars")
    page.wait_for_selector(FINAL)
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    page.close()
