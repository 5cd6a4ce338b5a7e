"""The build pipeline in one process: what it encodes, what it skips, when it commits, what stopping leaves."""

from __future__ import annotations

import datetime
import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llm2comp_indexes import Index

from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import CorpusError, UsageError
from llm2comp_apps.retrieval.build import CommitRule, Survey, fill_index, survey
from llm2comp_apps.retrieval.plan import EmbeddingPlan


def documents(count, words="a word or two"):
    return [Document(f"d{n}", f"{words} {n} " * (1 + n % 7), title=f"t{n}", metadata={"n": n}) for n in range(count)]


@pytest.fixture
def make_index(tmp_path):
    numbers = iter(range(1000))

    def make(encoder, recipe=None):
        recipe = recipe or EmbeddingPlan()
        return Index.create(
            tmp_path / f"{next(numbers)}.index",
            dimension=encoder.dimension,
            encoder={"name": encoder.name, "fingerprint": encoder.fingerprint},
            settings=recipe.to_settings(),
            memory_tokens=encoder.k if recipe.memory else 0,
        )

    return make


def content(index):
    """Everything that a build decides, in an order of its own."""
    return {
        document.id: (document.text, document.title, document.metadata, document.spans, document.content_hash)
        for document in index.get(list(index.ids()))
    }


def test_every_document_is_found_by_its_own_vector(hash_encoder, make_index):
    index = make_index(hash_encoder)
    corpus = documents(50)
    report = fill_index(index, hash_encoder, corpus, EmbeddingPlan())
    assert (report.read, report.added, report.unchanged, report.vectors) == (50, 50, 0, 50)
    hits = index.search(hash_encoder.encode([document.content for document in corpus]), 1)
    assert [found[0].id for found in hits] == [document.id for document in corpus]
    assert index.get(["d3"])[0].metadata == {"n": 3}


def test_what_another_program_deleted_in_the_meantime_is_added_again(hash_encoder, make_index):
    index = make_index(hash_encoder)
    fill_index(index, hash_encoder, documents(3), EmbeddingPlan())
    with Index.open(index.path) as other, other.writer() as writer:
        writer.delete(["d1"])
        writer.commit()
    report = fill_index(index, hash_encoder, documents(3), EmbeddingPlan())
    assert (report.added, report.unchanged, len(index)) == (1, 2, 3)


def test_a_second_build_encodes_nothing(hash_encoder, make_index):
    index = make_index(hash_encoder)
    fill_index(index, hash_encoder, documents(20), EmbeddingPlan())
    before, generation = hash_encoder.calls, index.generation
    report = fill_index(index, hash_encoder, documents(20), EmbeddingPlan())
    assert (report.unchanged, report.added, report.commits) == (20, 0, 0)
    assert hash_encoder.calls == before
    assert index.generation == generation


@pytest.mark.parametrize("field", ["text", "title", "metadata"])
def test_a_changed_document_replaces_the_old_one(hash_encoder, make_index, field):
    index = make_index(hash_encoder)
    fill_index(index, hash_encoder, documents(5), EmbeddingPlan())
    corpus = documents(5)
    value = {"n": "new"} if field == "metadata" else "something new"
    corpus[2] = Document(**{"id": "d2", "text": corpus[2].text, "title": "t2", "metadata": {"n": 2}, field: value})
    report = fill_index(index, hash_encoder, corpus, EmbeddingPlan())
    assert (report.added, report.unchanged) == (1, 4)
    assert len(index) == 5
    assert getattr(index.get(["d2"])[0], field) == value


def test_another_fingerprint_prompt_or_chunking_is_another_hash():
    document = documents(1)[0]
    hashes = {
        EmbeddingPlan().content_hash(document, "a"),
        EmbeddingPlan().content_hash(document, "b"),
        EmbeddingPlan(prompt="p").content_hash(document, "a"),
        EmbeddingPlan(chunk=32).content_hash(document, "a"),
    }
    assert len(hashes) == 4


def test_title_and_text_cannot_be_confused():
    one, other = Document("d", "b c", title="a"), Document("d", "c", title="a b")
    assert one.content == other.content
    assert EmbeddingPlan().content_hash(one, "f") != EmbeddingPlan().content_hash(other, "f")


@pytest.mark.parametrize(
    ("document", "line"),
    [
        (Document("a", "half \ud800"), r"^document 'a' cannot be stored: .*surrogates not allowed"),
        (Document("a", "x", "half \udfff", {}, "b.py:3"), "^b.py:3: document 'a' cannot be stored: "),
        (Document("a", "x", metadata={"when": {1, 2}}), "document 'a' cannot be stored: .* set is not JSON"),
        (
            Document("a", "x", metadata={"year": 1, "day": datetime.date(2024, 6, 1)}),
            "'a' cannot be stored: Object of type date is not JSON serializable; make the field 'day' text, a number",
        ),
        (
            Document("a", "x", metadata={"b": [math.nan]}),
            "'a' cannot be stored: .* not JSON compliant.*; leave the field 'b' out, or make it None",
        ),
        (
            Document("a", "x", metadata={"b": [{"c\0": 1}]}),
            r"'a' cannot be stored: the name of the field 'c\\x00' has a NUL",
        ),
        (
            Document("a", "x", metadata=functools.reduce(lambda inside, _: {"b": inside}, range(5_000), {})),
            "'a' cannot be",
        ),
    ],
)
def test_a_document_that_cannot_be_written_down_is_named(document, line):
    with pytest.raises(CorpusError, match=line):
        EmbeddingPlan().content_hash(document, "f")


def test_a_nul_in_a_value_is_no_name(hash_encoder, make_index):
    index = make_index(hash_encoder)
    fill_index(index, hash_encoder, [Document("a", "x\0", metadata={"b": "c\0", "\\u0000": 1})], EmbeddingPlan())
    assert index.get(["a"])[0].metadata == {"b": "c\0", "\\u0000": 1}


def test_long_documents_get_a_vector_per_chunk_and_are_found_by_any(hash_encoder, make_index):
    recipe = EmbeddingPlan(chunk=16, overlap=4)
    index = make_index(hash_encoder, recipe)
    sentences = [f"Sentence {n} speaks of thing{n} and of nothing else at all." for n in range(12)]
    corpus = [Document("long", " ".join(sentences), title="Things"), Document("short", "Only this.")]
    report = fill_index(index, hash_encoder, corpus, recipe)
    assert report.vectors > 12 / 2
    for number in (0, 5, 11):
        hit = index.search(hash_encoder.encode([sentences[number]]), 2)[0][0]
        assert hit.id == "long"
        start, end = hit.span
        assert f"thing{number}" in corpus[0].text[start:end]
    assert index.get(["short"])[0].spans == ()


def test_a_chunk_and_its_title_fit_into_what_the_encoder_reads(make_hash_encoder, make_index):
    encoder = make_hash_encoder()
    encoder.room = lambda prompt: 40
    seen = []
    encode = encoder.encode
    encoder.encode = lambda texts, **options: seen.extend(texts) or encode(texts, **options)
    body = " ".join(f"Sentence {n} speaks of thing{n} and of nothing else at all." for n in range(12))
    corpus = [
        Document("plain", body),
        Document("titled", body, title="a title of several words, twelve of them, to be quite exact here"),
        Document("overlong", body, title="word " * 60),
        Document("overlong-short", "A short text.", title="word " * 60),
        Document("title-only", "", title="word " * 60),
    ]
    fill_index(make_index(encoder, EmbeddingPlan(chunk=32)), encoder, corpus, EmbeddingPlan(chunk=32))
    *_, title_only = (text for text in seen if "Sentence" not in text and "short" not in text)
    assert title_only.split() == ["word"] * 60
    lengths = [len(encoder.tokenizer([text])["input_ids"][0]) for text in seen if text != title_only]
    assert max(lengths) <= 40
    assert sum(text.startswith("a title of") for text in seen) > 4
    for n in range(12):
        assert sum(f"thing{n} " in text for text in seen) == 3


def test_what_the_encoder_cut_off_is_counted(make_hash_encoder, make_index):
    encoder = make_hash_encoder()
    encoder.cut = 5  # from before
    encode = encoder.encode

    def cutting(texts, **options):
        encoder.cut += sum(len(text) > 60 for text in texts)
        return encode(texts, **options)

    encoder.encode = cutting
    corpus = documents(14)
    report = fill_index(make_index(encoder), encoder, corpus, EmbeddingPlan())
    assert report.truncated == sum(len(document.content) > 60 for document in corpus) > 0


def test_chunking_needs_a_tokenizer(make_index, make_hash_encoder):
    encoder = make_hash_encoder()
    needed = ("name", "fingerprint", "dimension", "prompts", "encode", "encode_stream")
    encoder = SimpleNamespace(**{name: getattr(encoder, name) for name in needed})
    with pytest.raises(UsageError, match="chunk needs a tokenizer to count tokens by, and the encoder hash shows none"):
        fill_index(make_index(encoder), encoder, documents(1), EmbeddingPlan(chunk=16))


def test_memory_vectors_are_stored_with_the_same_embeddings(hash_encoder, make_index):
    with_memory, without = make_index(hash_encoder, EmbeddingPlan(memory=True)), make_index(hash_encoder)
    fill_index(with_memory, hash_encoder, documents(10), EmbeddingPlan(memory=True))
    fill_index(without, hash_encoder, documents(10), EmbeddingPlan())
    assert with_memory.memory_tokens == hash_encoder.k
    query = hash_encoder.encode(["word 3"])
    scores = [[(hit.id, hit.score) for hit in index.search(query, 10)[0]] for index in (with_memory, without)]
    for (_, one), (_, other) in zip(*scores, strict=True):
        assert one == pytest.approx(other, abs=1e-3)


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({"chunk": 15}, "chunk"),
        ({"chunk": 32, "overlap": 32}, "overlap"),
        ({"overlap": 8}, "overlap"),
        ({"chunk": 32, "overlap": -1}, "overlap"),
    ],
)
def test_impossible_chunks_are_refused(plan, field):
    with pytest.raises(UsageError) as refused:
        EmbeddingPlan(**plan)
    assert refused.value.field == field


def test_commits_go_by_documents_and_by_time(hash_encoder, make_index, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.retrieval.build._WINDOW_DOCUMENTS", 10)
    by_count = fill_index(
        make_index(hash_encoder), hash_encoder, documents(40), EmbeddingPlan(), rule=CommitRule(1e9, 20)
    )
    assert by_count.commits == 2
    by_time = fill_index(
        make_index(hash_encoder), hash_encoder, documents(40), EmbeddingPlan(), rule=CommitRule(0.0, 10**9)
    )
    assert by_time.commits == 4


def test_stopping_keeps_what_was_done_and_the_next_build_does_the_rest(hash_encoder, make_index, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.retrieval.build._WINDOW_DOCUMENTS", 10)
    index, whole = make_index(hash_encoder), make_index(hash_encoder)
    first = fill_index(index, hash_encoder, documents(40), EmbeddingPlan(), should_stop=lambda: True)
    assert first.interrupted
    assert 0 < first.added == len(Index.open(index.path)) < 40
    second = fill_index(index, hash_encoder, documents(40), EmbeddingPlan())
    assert not second.interrupted
    assert first.added + second.added == 40
    fill_index(whole, hash_encoder, documents(40), EmbeddingPlan())
    assert content(index) == content(whole)


def test_stopping_works_where_nothing_is_new(hash_encoder, make_index):
    index = make_index(hash_encoder)
    fill_index(index, hash_encoder, documents(30), EmbeddingPlan())
    report = fill_index(index, hash_encoder, documents(30), EmbeddingPlan(), should_stop=lambda: True)
    assert report.interrupted
    assert report.read < 30


def test_an_encoder_that_fails_leaves_the_last_commit(make_hash_encoder, make_index, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.retrieval.build._WINDOW_DOCUMENTS", 10)
    encoder = make_hash_encoder()
    index = make_index(encoder)
    encode = encoder.encode

    def failing(texts, **options):
        if encoder.calls >= 20:
            raise MemoryError
        return encode(texts, **options)

    encoder.encode = failing
    with pytest.raises(MemoryError):
        fill_index(index, encoder, documents(40), EmbeddingPlan(), rule=CommitRule(documents=10))
    assert len(index) == 20
    assert index.verify() == []


def test_batches_hold_texts_of_like_length(make_hash_encoder, make_index):
    """Otherwise padding would cost more than everything else here saves."""
    encoder = make_hash_encoder()
    lengths = []
    encode = encoder.encode

    def spy(texts, **options):
        lengths.append([len(text) for text in texts])
        return encode(texts, **options)

    encoder.encode = spy
    generator = np.random.default_rng(0)
    corpus = [Document(str(n), "x" * int(size)) for n, size in enumerate(generator.integers(1, 5000, 500))]
    fill_index(make_index(encoder), encoder, corpus, EmbeddingPlan())
    flat = [length for batch in lengths for length in batch]
    assert flat == sorted(flat, reverse=True)
    assert sum(lengths[0]) <= 16_000


def test_survey_counts_what_is_to_be_done(hash_encoder, make_index):
    index = make_index(hash_encoder)
    fill_index(index, hash_encoder, documents(3), EmbeddingPlan())
    corpus = [*documents(3), Document("new", "12345", title="678")]
    assert survey(index, corpus, EmbeddingPlan(), hash_encoder.fingerprint) == Survey(4, 1, 8)
    assert survey(None, corpus, EmbeddingPlan(), hash_encoder.fingerprint).new == 4


def test_progress_counts_up_to_the_end(hash_encoder, make_index, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.retrieval.build._WINDOW_DOCUMENTS", 10)
    seen = []
    fill_index(make_index(hash_encoder), hash_encoder, documents(30), EmbeddingPlan(), on_progress=seen.append)
    assert [progress.documents for progress in seen] == sorted(progress.documents for progress in seen)
    assert seen[-1].documents == 30
    assert seen[-1].characters == sum(len(document.content) for document in documents(30))


@settings(max_examples=20, deadline=None)
@given(plan=st.lists(st.tuples(st.lists(st.integers(0, 9), unique=True), st.integers(0, 3)), min_size=1, max_size=4))
def test_any_sequence_of_builds_ends_in_the_last_state_of_each_document(make_hash_encoder, tmp_path_factory, plan):
    encoder = make_hash_encoder(8)
    index = Index.create(
        tmp_path_factory.mktemp("plan") / "x.index",
        dimension=8,
        encoder={"name": encoder.name, "fingerprint": encoder.fingerprint},
    )
    expected = {}
    for numbers, version in plan:
        corpus = [Document(f"d{n}", f"text {n} {version}") for n in numbers]
        fill_index(index, encoder, corpus, EmbeddingPlan())
        expected.update({document.id: document.text for document in corpus})
        assert {document.id: document.text for document in index.get(list(index.ids()))} == expected


@settings(max_examples=30, deadline=None)
@given(
    before=st.lists(st.integers(0, 3), max_size=3),
    stream=st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=12),
    window=st.sampled_from([2, 5, 100]),
    look_up=st.sampled_from([1, 3, 100]),
)
def test_of_one_id_given_twice_the_last_counts(make_hash_encoder, tmp_path_factory, before, stream, window, look_up):
    """Whichever is longer, whether they fall into one window or not, and whatever the index held before."""
    encoder = make_hash_encoder(8)
    index = Index.create(
        tmp_path_factory.mktemp("twice") / "x.index",
        dimension=8,
        encoder={"name": encoder.name, "fingerprint": encoder.fingerprint},
    )

    def document(number, version):
        return Document(f"d{number}", "word " * (3, 1, 4, 2)[version])

    fill_index(index, encoder, [document(*pair) for pair in enumerate(before)], EmbeddingPlan())
    size = len(index)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm2comp_apps.retrieval.build._WINDOW_DOCUMENTS", window)
        patch.setattr("llm2comp_apps.retrieval.build._LOOKUP", look_up)
        corpus = [document(*pair) for pair in stream]
        report = fill_index(index, encoder, corpus, EmbeddingPlan(), rule=CommitRule(documents=3))
    expected = {one.id: one.text for one in [*map(document, range(len(before)), before), *corpus]}
    assert {one.id: one.text for one in index.get(list(index.ids()))} == expected
    assert report.added - report.replaced == len(index) - size
    assert report.read == len(stream) >= report.added + report.unchanged


def test_a_document_that_comes_twice_at_once_is_added_once(hash_encoder, make_index):
    index = make_index(hash_encoder)
    corpus = [Document("a", "the old and much longer text"), Document("a", "new")]
    report = fill_index(index, hash_encoder, corpus, EmbeddingPlan())
    assert (report.read, report.added, report.replaced, report.vectors) == (2, 1, 0, 1)
    assert index.get(["a"])[0].text == "new"
