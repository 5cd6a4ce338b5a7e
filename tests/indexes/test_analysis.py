"""Words: texts that read the same have the same words, and each word has its place in the text as it is given."""

from __future__ import annotations

import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes import Index, IndexedDocument, analysis, matching_spans
from llm2comp_indexes.analysis import _INVISIBLE, ANALYSIS, analyzer, function_words, plain, words
from llm2comp_indexes.errors import OutdatedWarning

TEXT = "Die Universität Köln; Frau Müller; café; tiếng Việt; 한국어; ガラス; Ἀθήνα; й; m̄a"
#: Characters of format that are seen: signs before Arabic numbers and the like, annotations, hieroglyphic joiners.
SEEN = {*range(0x600, 0x606), 0x6DD, 0x70F, 0x890, 0x891, 0x8E2, *range(0xFFF9, 0xFFFC), 0x110BD, 0x110CD}
SEEN |= set(range(0x13430, 0x13440))
AWKWARD = "aKßéİﬁ½²…\u00ad\u0301\u0307\u200d\u0304m 한\u1112\u1161\u11abｶﾞ机ेा\u09c7\u09be\u0958Σς\u00a0ŉΐ"
QUERIES = ["Köln", "Koln", "KÖLN", "Müller", "café", "tiếng", "한국어", "ガラス", "Ἀθήνα", "Mül\u00adler"]


def terms(text: str, language: str = "none") -> list[str]:
    return [word.term for word in words(text, language)]


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
def test_equivalent_texts_have_the_same_words(form):
    assert terms(unicodedata.normalize(form, TEXT)) == terms(TEXT)
    assert terms("Köln café tiếng Việt m̄a ﬁn ﾊﾞ Ⅷ") == ["koln", "cafe", "tieng", "viet", "ma", "fin", "バ", "viii"]


@pytest.mark.parametrize("invisible", ["\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff", "\u034f", "\ufe0f"])
def test_invisible_characters_do_not_split_words(invisible):
    assert terms(f"Mül{invisible}ler co{invisible}operate") == ["muller", "cooperate"]


@pytest.mark.parametrize("form", ["NFC", "NFD"])
@pytest.mark.parametrize(
    ("language", "function", "content"),
    [
        ("german", "für ÜBER können daß dass und", "Straße Flüsse fur"),
        ("french", "à même où l", "forêt été a"),
        ("spanish", "él también más está", "canción"),
        ("swedish", "på är från när", "år"),
        ("hungarian", "és után között", "könyv"),
        ("italian", "è più perché", "città"),
        ("english", "the how", "für"),
        ("turkish", "", "için ve"),  # without a list
        ("none", "", "für the"),
    ],
)
def test_function_words_are_known_by_their_accents(language, function, content, form):
    text = unicodedata.normalize(form, f"{function} {content}")
    known = [True] * len(function.split()) + [False] * len(content.split())
    assert function_words(text, language) == known


@given(
    st.text(alphabet=st.one_of(st.sampled_from(AWKWARD + "C+# "), st.characters(codec="utf-8"))),
    st.integers(1, ANALYSIS),
)
def test_each_word_is_a_function_word_or_none(text, version):
    read = plain(text) if version > 1 else text
    for language in ("german", "none"):
        assert len(function_words(text, language, version)) == len(analyzer(language, version).analyze(read))


def test_case_is_folded_as_unicode_has_it():
    folded = ["strasse", "strasse", "istanbul", "istanbul", "σίσυφοσ", "σίσυφοσ"]
    assert terms("STRASSE Straße İstanbul ISTANBUL ΣΊΣΥΦΟΣ σίσυφος") == folded


def test_whatever_unicode_calls_invisible_is():
    formats = {number for number in range(0x110000) if unicodedata.category(chr(number)) == "Cf"}
    assert {number for number in formats if not _INVISIBLE.match(chr(number))} <= SEEN


@given(st.text(alphabet=st.sampled_from(AWKWARD)))
def test_every_word_has_a_place_in_the_text(text):
    found = words(text, "none")
    assert [word.term for word in found] == analyzer("none").analyze(plain(text))
    for word in found:
        assert 0 <= word.start < word.end <= len(text)
    starts = [word.start for word in found]
    assert starts == sorted(starts)


@given(st.text())
def test_plain_is_settled(text):
    assert terms(plain(text)) == terms(text)


def test_spans_are_those_of_the_text_as_it_is_given():
    text = "In Ko\u0308ln steht das Mu\u0308l\u00adler-Haus."
    assert [text[start:end] for start, end in matching_spans("köln müller", text)] == [
        "Ko\u0308ln",
        "Mu\u0308l\u00adler",
    ]


@pytest.fixture
def composed(make_index):
    """An index whose texts are decomposed."""
    index = make_index()
    with index.writer() as writer:
        documents = [IndexedDocument("nfd", unicodedata.normalize("NFD", TEXT)), IndexedDocument("o", "The tram.")]
        writer.add(documents, [[1.0] * 8] * 2)
        writer.commit()
    return index


@pytest.mark.parametrize(
    "query", ["Köln", "Koln", "KÖLN", "Müller", "café", "tiếng", "한국어", "ガラス", "Ἀθήνα", "Mül\u00adler"]
)
@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_either_form_finds_the_other(composed, query, form):
    assert [hit.id for hit in composed.search_lexical(unicodedata.normalize(form, query), 9)] == ["nfd"]


def old(monkeypatch, index: Index) -> None:
    """Make the words of an index those of the version that knew no `plain`."""
    with monkeypatch.context() as patch:
        patch.setattr("llm2comp_indexes.lexical.plain", lambda text: text)
        patch.setattr("llm2comp_indexes.lexical.ANALYSIS", 1)
        index.compact()


@pytest.mark.parametrize("change", ["add", "delete", "compact"])
def test_words_of_an_older_version_are_used_and_replaced(composed, monkeypatch, change):
    old(monkeypatch, composed)
    with Index.open(composed.path) as reader:
        with pytest.warns(OutdatedWarning, match="indexed by an older version"):
            assert reader.search_lexical("Köln", 9) == []
        assert [hit.id for hit in reader.search_lexical("tram", 9)] == ["o"]
    if change == "compact":
        composed.compact()
    else:
        with composed.writer() as writer:
            if change == "add":
                writer.add([IndexedDocument("new", "Köln")], [[1.0] * 8])
            else:
                writer.delete(["o"])
            writer.commit()
    found = {hit.id for hit in composed.search_lexical("Köln", 9)}
    assert found == ({"nfd", "new"} if change == "add" else {"nfd"})
    assert composed.verify() == []


class Lent:
    """A chain that other threads may ask for while it works, as where garbage is collected in the middle of it."""

    def __init__(self) -> None:
        self._lent = False

    def analyze(self, text):
        if self._lent:
            raise RuntimeError("Already borrowed")
        self._lent = True
        time.sleep(0.002)
        self._lent = False
        return text.split()

    def pre_tokenize(self, text):
        return SimpleNamespace(tokens=self.analyze("") or [])


def test_threads_take_turns_at_what_is_lent_to_one_alone(monkeypatch):
    chain = Lent()
    for name in ("analyzer", "_spelling", "_listed_words"):
        monkeypatch.setattr(analysis, name, lambda *_: chain)

    def read(_: int) -> None:
        for _ in range(5):
            assert analysis.terms("how cells divide") == ["how", "cells", "divide"]
            assert words("how cells divide") == []
            assert function_words("wie", "german") == [False]

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(read, range(4)))  # what fails in one of them fails here
