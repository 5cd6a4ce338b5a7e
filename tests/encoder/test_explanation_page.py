"""The page of an explanation in a real browser: all of a text in a window of any width, as it was written."""

from __future__ import annotations

import pytest

from llm2comp_apps.encoder.decoding.explanation import Explanation, Match
from llm2comp_apps.encoder.decoding.page import explanation_page
from llm2comp_apps.encoder.decoding.reader import TokenGain

WORDS = ("def cat():\n", "    return", " 1\n\n", "https://example.com/" + "a" * 300, "<script>window.ran = 1</script>")


@pytest.fixture
def opened(browser, tmp_path):
    tokens = [TokenGain(word, 3.0) for word in WORDS]
    matches = [Match(0, 0, 0.5, ("query", "q" * 200), ("text", "t" * 200))]
    found = Explanation(
        text="".join(WORDS), tokens=tokens, written="w" * 300, beam="שלום עולם!", vectors=[("cat", "v" * 300)],
        other=tokens, matches=matches,
    )  # fmt: skip
    path = tmp_path / "page.html"
    path.write_text(explanation_page([found], encoder="e" * 200, query="a?" + "q" * 200), "utf-8")
    context = browser.new_context(viewport={"width": 380, "height": 700}, is_mobile=True)
    page = context.new_page()
    page.goto(path.as_uri())
    yield page
    context.close()


def test_all_of_a_text_is_in_a_narrow_window(opened):
    assert opened.evaluate("[innerWidth, document.documentElement.scrollWidth]") == [380, 380]
    assert opened.evaluate("window.ran") is None


def test_a_text_keeps_its_lines_and_its_direction(opened):
    assert opened.inner_text(".text").startswith("def cat():\n    return 1\n\nhttps")
    assert opened.eval_on_selector("td:has-text('שלום')", "cell => getComputedStyle(cell).unicodeBidi") == "plaintext"
