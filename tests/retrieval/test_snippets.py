from __future__ import annotations

import itertools
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps.retrieval.snippets import Snippet, make_snippet

TEXT = (
    "The cat sat on the mat. It was a fine day for sleeping.\n\nMeasurements of diffusing water show "
    "the microstructure of white matter in newborn brains. " * 4 + "At last the neurons run."
)


def words_marked(snippet: Snippet) -> list[str]:
    return [snippet.text[start:end] for start, end in snippet.marks]


def test_marks_by_stem_and_leaves_stop_words_alone():
    snippet = make_snippet("Cells are dividing. The cell divides in the dish.", "how do the cells divide")
    assert words_marked(snippet) == ["Cells", "dividing", "cell", "divides"]


def test_a_query_of_stop_words_only_marks_them():
    assert words_marked(make_snippet("to be or not to be", "to be")) == ["to", "be", "to", "be"]


def test_case_and_accents_do_not_matter():
    assert words_marked(make_snippet("A NAÏVE approach", "naive")) == ["NAÏVE"]


def test_the_window_with_most_distinct_words_wins():
    snippet = make_snippet("cat cat cat cat. " * 30 + "A cat and a dog met. " + "cat. " * 100, "cat dog")
    assert "dog" in words_marked(snippet)


def test_a_late_match_is_shown_with_ellipsis_before_and_none_after():
    snippet = make_snippet(TEXT, "neuron")
    assert snippet.text.startswith("... ")
    assert snippet.text.endswith("At last the neurons run.")


def test_no_match_shows_the_beginning_or_the_span():
    assert make_snippet(TEXT, "zebra").text.startswith("The cat sat on the mat.")
    start = TEXT.index("Measurements")
    assert make_snippet(TEXT, "zebra", span=(start, start + 60)).text.startswith("... Measurements of")


def test_marked_puts_strings_around_matches():
    assert make_snippet("a red fox", "fox").marked() == "a red **fox**"


def test_one_endless_word_is_cut_at_the_width():
    assert make_snippet("x" * 1000, "y", width=50).text == "x" * 50 + " ..."


def test_empty_text():
    assert make_snippet("", "anything") == Snippet("")


@pytest.mark.parametrize("width", [20, 80, 220])
@given(
    text=st.lists(
        st.sampled_from(["cell", "Cells", "divide", "the", "of", "\n", "  ", "naïve.", "x" * 30, "日本"])
    ).map(" ".join),
    query=st.sampled_from(["cell", "cells divide", "the", "?!", ""]),
    data=st.data(),
)
def test_a_snippet_is_a_piece_of_the_text_with_exact_marks(width, text, query, data):
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    for span in (None, (start, end)):
        snippet = make_snippet(text, query, span=span, width=width)
        body = snippet.text.removeprefix("... ").removesuffix(" ...")
        assert body in re.sub(r"\s+", " ", text)
        assert len(body) <= width
        last = 0
        for mark_start, mark_end in snippet.marks:
            assert last <= mark_start < mark_end <= len(snippet.text)
            assert re.fullmatch(r"\w+", snippet.text[mark_start:mark_end])
            last = mark_end


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_match_anywhere_is_in_the_window(before, after):
    text = " ".join(["lorem"] * before + ["needle"] + ["ipsum"] * after)
    assert words_marked(make_snippet(text, "needles", width=60)) == ["needle"]


LANGUAGES = (
    *("none", "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian"),
    *("norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish"),
)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_of_an_index_has_snippets(language):
    snippet = make_snippet("Köln hat einen Dom.", "Dom Zug", language=language)
    assert snippet.marked() == "Köln hat einen **Dom**."


def test_stop_words_are_known_for_the_languages_that_have_some():
    assert make_snippet("The cat of the house", "the cat", language="english").marked() == "The **cat** of the house"
    assert make_snippet("Die Katze und das Haus", "die Katze", language="german").marked() == (
        "Die **Katze** und das Haus"
    )
    assert make_snippet("The cat", "the cat", language="none").marked() == "**The** **cat**"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_marks_lie_where_the_word_stands_however_it_is_written(form):
    text = unicodedata.normalize(form, "In Ko\u0308ln, nai\u0308ve Mu\u0308l\u00adler ﬁnden Ⅷ Dome.")
    marks = make_snippet(text, "köln müller finden dome", language="german").marks
    marked = [unicodedata.normalize("NFKC", text[start:end]).replace("\u00ad", "") for start, end in marks]
    assert marked == ["Köln", "Müller", "finden", "Dome"]


@pytest.mark.parametrize("heading", ["", "前言 ", "第一章\n\n"])
@given(before=st.integers(0, 400), after=st.integers(0, 400))
def test_a_match_in_a_script_without_blanks_is_in_the_window(heading, before, after):
    text = heading + "我" * before + "細胞" + "們" * after
    snippet = make_snippet(text, "細胞", width=80)
    assert words_marked(snippet) == ["細胞"]
    assert len(snippet.text) >= min(len(" ".join(text.split())), 38)


def test_a_match_at_the_end_of_the_window_stays_whole():
    text = "lorem " * 3 + "cell-biology-of-" + "x" * 80
    assert make_snippet(text, "cell", width=25).marked() == "lorem lorem lorem **cell** ..."


@pytest.mark.parametrize("text", ["½ cup", "㍿ソニー", "5㌔ m", "㏕ ½㍿½"])
def test_a_character_of_several_words_is_shown_once(text):
    query = unicodedata.normalize("NFKC", text)
    snippet = make_snippet(text, query)
    assert snippet.text == text
    assert snippet.marks
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(snippet.marks))


def test_function_words_with_accents_are_not_marked():
    snippet = make_snippet("Wege über Wege für das Wasser", "für das Wasser", language="german")
    assert words_marked(snippet) == ["Wasser"]
