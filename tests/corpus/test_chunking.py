"""Chunks cover the text in order, fit the encoder, and break at sentences."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm2comp_apps.corpus import Document, chunk_document
from llm2comp_apps.corpus.chunking import sentence_spans
from llm2comp_apps.errors import UsageError

SENTENCE = st.lists(
    st.sampled_from(["the", "of", "Fuchs", "naïve", "漢字漢字", "e.g.", "3.14", "(see", "x" * 90, "🦊", "on,"]),
    min_size=1,
    max_size=30,
).map(" ".join)
TEXTS = st.lists(
    st.tuples(SENTENCE, st.sampled_from([". ", "! ", "?\n", "\n\n", "。", " ", "\t", ".” "])), max_size=25
).map(lambda parts: "".join(sentence + end for sentence, end in parts))


@given(text=TEXTS | st.text(max_size=300), size=st.integers(16, 64), share=st.floats(0, 0.9))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_invariants(text: str, size: int, share: float, tokenizer: Any) -> None:
    overlap = int(size * share)
    chunks = chunk_document(Document("1", text, "title"), tokenizer, size, overlap)
    count = lambda piece: len(tokenizer(piece, add_special_tokens=False)["input_ids"])  # noqa: E731
    assert chunks
    covered = 0
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        assert chunk.text == text[chunk.start : chunk.end] == chunk.text.strip()
        assert count(chunk.text) <= size or len(chunk.text) == 1
        if chunk.start > covered:
            assert not text[covered : chunk.start].strip(), "text between chunks was lost"
        if before is not None:
            assert chunk.start > before.start
            assert chunk.end > before.end
            assert count(text[chunk.start : before.end]) <= overlap
        covered = chunk.end
    assert not text[covered:].strip()


def test_breaks_at_sentences_and_repeats_whole_ones(tokenizer: Any) -> None:
    sentences = [f"The of and to in {number}." for number in range(30)]
    chunks = chunk_document(Document("1", " ".join(sentences)), tokenizer, 60, 25)
    assert len(chunks) > 2
    for before, chunk in itertools.pairwise(chunks):
        parts = chunk.text.split(". ")
        assert all(part.startswith("The of") for part in parts)
        assert chunk.start < before.end, "no overlap although a sentence fits"
        assert before.text.endswith(".")


def test_short_text_is_one_chunk(tokenizer: Any) -> None:
    (chunk,) = chunk_document(Document("1", "  The text.  It is short.\n"), tokenizer, 64, 8)
    assert (chunk.text, chunk.start, chunk.end) == ("The text.  It is short.", 2, 25)
    (empty,) = chunk_document(Document("1", "", "only a title"), tokenizer, 64)
    assert (empty.text, empty.start, empty.end) == ("", 0, 0)


@pytest.mark.parametrize(("size", "overlap"), [(15, 0), (0, 0), (32, 32), (32, -1)])
def test_sizes_that_make_no_sense(size: int, overlap: int, tokenizer: Any) -> None:
    with pytest.raises(UsageError):
        chunk_document(Document("1", "text"), tokenizer, size, overlap)


def test_sentences() -> None:
    text = (
        'Dr. Smith et al. (Fig. 2) saw 3.5 mm, e.g. in mice. "Really?" he said. No.\n'
        "A heading\n\nThe text below it… And more! 漢字です。次の文。 U.S. law applies."
    )
    assert [text[start:end] for start, end in sentence_spans(text)] == [
        "Dr. Smith et al. (Fig. 2) saw 3.5 mm, e.g. in mice.",
        '"Really?" he said.',
        "No.\nA heading",
        "The text below it…",
        "And more!",
        "漢字です。",
        "次の文。",
        "U.S. law applies.",
    ]


@pytest.mark.parametrize("text", ["." * 300_000, "a." * 150_000, "\n " * 150_000, "word " * 60_000, "x" * 300_000])
def test_time_is_linear_in_hostile_texts(text: str, tokenizer: Any) -> None:
    start = time.process_time()
    spans = list(sentence_spans(text))
    assert time.process_time() - start < 20  # under one second; quadratic time would be minutes
    assert all(end - start <= 4096 for start, end in spans)
