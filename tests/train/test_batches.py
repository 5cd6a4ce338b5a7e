"""Batches: of one file, without a text twice, the same for the same seed and step, split anew at each visit."""

from __future__ import annotations

import json
import random
from dataclasses import replace

import pytest
from llm2comp_train.data.batches import CompressionBatches, PairBatches, SentenceBatches
from llm2comp_train.data.sources import find_data, pair_rows, sentence_rows, text_rows
from llm2comp_train.data.store import TokenStore, write_store
from llm2comp_train.stages import get_stage

from llm2comp_apps.errors import CorpusError, TrainingError, UsageError

from .conftest import WORDS

PROMPT = "find : "
STEPS = 40


@pytest.fixture
def store_of(backbone, tmp_path):
    def build(files, rows_of):
        for name, rows in files.items():
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (tmp_path / f"{name}.jsonl").write_text(text, "utf-8")
        sources = find_data([str(tmp_path / f"{name}.jsonl") for name in files])
        write_store(tmp_path / "data", [(file.name, rows_of(file)) for file in sources], backbone.tokenizer, 40)
        return TokenStore(tmp_path / "data")

    return build


def texts_of(store, backbone, numbers):
    return [backbone.tokenizer.decode(store.ids(number)) for number in numbers]


@pytest.fixture
def pair_store(store_of):
    """Few texts, so that many of them meet: as query, as positive, as negative, in both orders."""
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=4)) for _ in range(40)]
    pairs = [dict(zip(("query", "positive"), draw.sample(texts, 2), strict=True)) for _ in range(120)]
    pairs += [{"query": pair["positive"], "positive": pair["query"]} for pair in pairs[:60]]
    pairs = [{**pair, "negative": [draw.choice(texts)]} for pair in pairs]
    return store_of({"one": pairs, "other": pairs[:20]}, lambda file: pair_rows(file.records(), PROMPT, 1))


def test_a_batch_of_pairs_has_no_text_twice_whatever_the_prompt(pair_store, backbone, settings):
    batches = PairBatches(pair_store, replace(settings, batch_size=8, max_steps=STEPS))
    seen_files, sizes = set(), []
    for step in range(STEPS):
        batch = batches.batch(step)
        count = len(batch.rows)
        assert {int(pair_store.files[row]) for row in batch.rows} == {batch.file}
        texts = texts_of(pair_store, backbone, batch.texts)
        assert all(text.startswith("<unk> <unk>") for text in texts[:count])  # the prompt, which the network reads
        queries = [text.removeprefix("<unk> <unk>").strip() for text in texts[:count]]
        documents = texts[count:]
        assert len({*queries, *documents[:count]}) == 2 * count
        for row, query in enumerate(queries):
            alike = [document in (query, documents[row]) for document in documents]
            assert batch.same[row].tolist() == alike
        seen_files.add(batch.file)
        sizes.append(count)
    assert seen_files == {0, 1}
    assert max(sizes) == 8


def test_batches_depend_on_seed_and_step_alone(pair_store, settings):
    settings = replace(settings, max_steps=STEPS)
    forward, backward = PairBatches(pair_store, settings), PairBatches(pair_store, settings)
    wanted = [forward.batch(step).rows for step in range(STEPS)]
    assert [backward.batch(step).rows for step in reversed(range(STEPS))] == wanted[::-1]
    other = PairBatches(pair_store, replace(settings, seed=1))
    assert [other.batch(step).rows for step in range(STEPS)] != wanted


def test_every_pair_of_a_file_comes_once_before_any_comes_again(store_of, settings):
    pairs = [{"query": f"{one} {two}", "positive": f"{two} {one} {two}"} for one in WORDS[:6] for two in WORDS[6:12]]
    store = store_of({"one": pairs}, lambda file: pair_rows(file.records(), "", 0))
    batches = PairBatches(store, replace(settings, batch_size=6, max_steps=6))
    assert sorted(row for step in range(6) for row in batches.batch(step).rows) == list(range(36))


def pairs_of(*texts):
    return [dict(zip(("query", "positive", "negative"), row.split(), strict=False)) for row in texts]


@pytest.mark.parametrize(
    "pairs",
    [
        pairs_of("a b"),
        pairs_of("a b", "a b"),
        pairs_of("a b", "b a"),
        pairs_of("a b", "c b", "d b"),  # all have the same answer
        pairs_of("a b", "b c", "c a"),
        pairs_of("a a", "a b", "c a"),
        pairs_of("a b b", "a b a"),  # negatives that are the query or the answer
    ],
)
def test_a_file_without_anything_to_tell_apart_is_refused(store_of, settings, pairs):
    store = store_of({"one": pairs}, lambda file: pair_rows(file.records(), "", 1))
    with pytest.raises(TrainingError, match=rf"one\.jsonl: there is nothing to tell .* its {len(pairs)} pairs"):
        PairBatches(store, settings)


@pytest.mark.parametrize(
    "pairs",
    [
        pairs_of("a b", "c d"),
        pairs_of("a b", "a c", "b d"),
        pairs_of("a b", "c b", "a d"),
        pairs_of("a a", "b b"),
        pairs_of("a b c"),
    ],
)
def test_a_file_in_which_a_batch_can_hold_a_contrast_is_taken(store_of, settings, pairs):
    store = store_of({"one": pairs}, lambda file: pair_rows(file.records(), "", 1))
    batches = PairBatches(store, replace(settings, max_steps=STEPS))
    assert max(batches.batch(step).same.numel() for step in range(STEPS)) > 1


def test_one_sentence_alone_is_refused(store_of, settings):
    rows = [{"text": "Cells divide by mitosis."}] * 3
    store = store_of({"texts": rows}, lambda file: sentence_rows(file.records()))
    with pytest.raises(TrainingError, match="one sentence only"):
        SentenceBatches(store, settings)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "a", "positive": None}, r"q\.jsonl:1: the field 'positive' is null"),
        ({"query": "a"}, r"q\.jsonl:1: the field 'positive' is not there"),
        ({"query": "a", "positive": " "}, r"q\.jsonl:1: the field 'positive' is empty"),
        ({"query": "a", "positive": 1}, r"q\.jsonl:1: the field 'positive' is not a text"),
    ],
)
def test_a_field_that_cannot_be_read_says_why(tmp_path, row, message):
    (tmp_path / "q.jsonl").write_text(json.dumps(row))
    with pytest.raises(CorpusError, match=message):
        list(pair_rows(find_data([str(tmp_path / "q.jsonl")])[0].records(), "", 1))


@pytest.mark.parametrize("stage", ["scl", "ucl"])
def test_a_batch_of_one_is_refused_where_the_batch_is_the_contrast(settings, stage):
    with pytest.raises(UsageError, match=f"batch_size must be at least 2 in stage {stage}, .*, not 1"):
        get_stage(stage).check(replace(settings, batch_size=1))


@pytest.mark.parametrize("stage", ["rc", "nll", "kl", "mntp", "ebar"])
def test_other_stages_take_one_text_at_a_time(settings, stage):
    get_stage(stage).check(replace(settings, batch_size=1))


def test_sentences_of_a_batch_are_distinct(store_of, settings):
    draw = random.Random(0)
    sentences = [" ".join(draw.choices(WORDS, k=6)).capitalize() + "." for _ in range(12)]
    rows = [{"text": " ".join(draw.choices(sentences, k=5))} for _ in range(40)]
    store = store_of({"texts": rows}, lambda file: sentence_rows(file.records()))
    batches = SentenceBatches(store, replace(settings, batch_size=10))
    for step in range(STEPS):
        digests = [int(store.digests[store.texts(row)[0]]) for row in batches.batch(step)]
        assert 1 < len(set(digests)) == len(digests)


def test_texts_are_split_anew_at_each_visit_and_held_out_ones_never_trained_on(store_of, settings):
    draw = random.Random(0)
    rows = [{"text": " ".join(draw.choices(WORDS, k=30))} for _ in range(26)]
    store = store_of({"texts": rows}, lambda file: text_rows(file.records()))
    settings = replace(settings, context="9,4", batch_size=5, validation_texts=6)
    batches = CompressionBatches(store, settings)
    held_out = batches.validation()
    assert {len(split.context) for split in held_out} == {9}  # the longest, in whatever order they are given
    visits: dict[int, set[int]] = {}
    for step in range(STEPS):
        for split in batches.batch(step):
            ids = store.ids(store.texts(split.row)[0])
            assert split.context + split.target == ids[: len(split.context) + settings.continuation]
            visits.setdefault(split.row, set()).add(len(split.context))
    assert set(visits) == set(range(26)) - {split.row for split in held_out}
    assert all(lengths == {4, 9} for lengths in visits.values())


def test_what_a_tokenizer_puts_in_front_stays_there_when_a_text_is_cropped(store_of, settings):
    rows = [{"text": " ".join(random.Random(n).choices(WORDS, k=40))} for n in range(40)]
    store = store_of({"texts": rows}, lambda file: text_rows(file.records()))
    settings = replace(settings, context="8", continuation=4, batch_size=5, validation_texts=4)
    sentences = [store.ids(store.texts(row)[0]) for row in range(40)]
    ends = {ids[n] for ids in sentences for n in (3, 9, 12)}
    for lead in (0, 2):
        batches = CompressionBatches(store, settings, ends=ends, lead=lead)
        moved = 0
        for split in (split for step in range(STEPS) for split in batches.batch(step)):
            whole, ids = sentences[split.row], split.context + split.target
            assert 10 <= len(ids) <= 12
            assert ids[:lead] == whole[:lead]
            rest = ids[lead:]
            assert any(whole[n : n + len(rest)] == rest for n in range(lead, len(whole)))
            moved += ids != whole[: len(ids)]
        assert moved > 20


def test_a_folder_of_data_is_read_with_its_subfolders(tmp_path):
    for name in ("b.jsonl", "deep/er/a.jsonl", "deep/b.jsonl", "README.md", ".hidden/c.jsonl", "deep/picture.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_text('{"text": "a text"}\n')
    files = find_data([str(tmp_path / "data")])
    assert [file.name for file in files] == ["b.jsonl", "deep/b.jsonl", "deep/er/a.jsonl"]
    assert [len(list(file.records())) for file in files] == [1, 1, 1]
    (tmp_path / "empty").mkdir()
    with pytest.raises(TrainingError, match="the folder is empty"):
        find_data([str(tmp_path / "empty")])
