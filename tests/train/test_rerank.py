"""Rerankers: their loss, their token rows, their batches, and a run from data to scores."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from llm2comp_train.data.groups import GroupBatches, PairRows
from llm2comp_train.data.sources import pair_rows
from llm2comp_train.data.store import TokenStore, write_store
from llm2comp_train.engine.metrics import read_metrics
from llm2comp_train.engine.ranking import GroupScorer
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.losses.rerank import rerank_loss

from llm2comp_apps import LLM2Comp
from llm2comp_apps.corpus import read_records
from llm2comp_apps.encoder.backbones import load_backbone
from llm2comp_apps.encoder.checkpoint import read_settings
from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.encoder.pair_scorer import PairScorer
from llm2comp_apps.encoder.pairs import SEPARATOR, pair_row
from llm2comp_apps.encoder.settings import RERANK
from llm2comp_apps.errors import EncoderError, TrainingError, UsageError

WORDS = ("king", "tree", "peace", "stone")
FILLERS = ("cell", "energy", "market", "river", "atom", "light", "sound", "of")


@pytest.fixture(scope="module")
def mined(tmp_path_factory):
    """Queries of one word; the positive holds it, the negatives hold others."""
    draw = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("mined") / "mined.jsonl"
    with path.open("w") as file:
        for number in range(160):
            word = WORDS[number % len(WORDS)]
            keys = [word, *draw.permutation([other for other in WORDS if other != word])]
            texts = [" ".join([*draw.choice(FILLERS, int(draw.integers(3, 8))), key, "the"]) for key in keys]
            row = {"query": word, "positive": texts[0], "negative": texts[1 : 4 - number % 9 // 6]}
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def reranking(settings):
    return replace(
        settings,
        train_weights="all",
        negatives=3,
        max_steps=60,
        batch_size=16,
        validation_texts=12,
        lr=5e-3,
        save_every=500,
        eval_every=20,
    )


def train(settings, data, out, **options):
    return run_stage("rerank", settings, RunOptions(data=[str(data)], out=out, device="cpu", **options))


def store_of(path, folder, tokenizer, negatives=3, limit=40):
    write_store(folder, [("mined", pair_rows(read_records([str(path)]), "the ", negatives))], tokenizer, limit)
    return TokenStore(folder)


def test_the_loss_is_the_negative_log_of_the_positives_share():
    scores = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.0, 9.0]])
    there = torch.tensor([[True, True, True], [True, True, False]])
    first = -math.log(math.exp(1) / (math.exp(1) + math.exp(2) + math.exp(-1)))
    second = -math.log(math.exp(0.5) / (math.exp(0.5) + 1))
    assert rerank_loss(scores, there).tolist() == pytest.approx([first, second], abs=1e-6)


@pytest.mark.parametrize(("limit", "first"), [(40, None), (9, None), (9, 3)])
def test_rows_of_many_pairs_are_those_of_one_pair(mined, backbone, tmp_path, limit, first):
    store = store_of(mined, tmp_path / "data", backbone.tokenizer)
    pairs = PairRows(store, [7, 8], limit, first)
    queries = np.array([store.texts(row)[0] for row in range(30)])
    documents = np.array([store.texts(row)[1] for row in range(30)])
    wanted = [
        pair_row(store.ids(query), store.ids(document), [7, 8], limit, first)
        for query, document in zip(queries.tolist(), documents.tolist(), strict=True)
    ]
    ids, real = pairs.rows(queries, documents, 0)
    assert [row[there].tolist() for row, there in zip(ids, real, strict=True)] == wanted
    padded, mask = left_pad(wanted, 0, "cpu")
    assert torch.equal(torch.from_numpy(ids), padded)
    assert mask is None or torch.equal(torch.from_numpy(real).long(), mask)
    assert pairs.lengths(queries, documents).tolist() == [len(row) for row in wanted]


def test_short_groups_are_filled_with_other_texts_of_the_batch(mined, reranking, backbone, tmp_path):
    store = store_of(mined, tmp_path / "data", backbone.tokenizer)
    batches = GroupBatches(store, reranking, PairRows(store, [7], 40, None), 3)
    again = GroupBatches(store, reranking, PairRows(store, [7], 40, None), 3)
    held_out = {group.row for group in batches.held_out()}
    assert len(held_out) == 12
    for step in (50, 3, 4):
        groups = batches.batch(step)
        assert groups == again.batch(step)
        for group in groups:
            assert group.row not in held_out
            own = store.texts(group.row)
            assert (group.query, *group.documents[: len(own) - 1]) == tuple(own)
            assert len(group.documents) == 4
            assert len({int(store.digests[text]) for text in group.documents}) == 4


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def test_no_answer_counts_as_a_negative(reranking, backbone, tmp_path):
    answers = [f"{word} of the {other}" for word in WORDS for other in FILLERS]
    rows = [
        {"query": WORDS[number // 8], "positive": text, "negative": [text, WORDS[number // 8], "a sound", "a sound"]}
        for number, text in enumerate(answers)
    ]
    store = store_of(write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "data", backbone.tokenizer, negatives=4)
    given = replace(reranking, negatives=4, batch_size=12)
    digest = {int(store.digests[store.texts(row)[1]]): rows[row]["query"] for row in range(len(rows))}
    for group in GroupBatches(store, given, PairRows(store, [7], 40, None), 3).batch(0):
        found = [int(store.digests[text]) for text in group.documents]
        assert len(set(found)) == len(found) > 2
        assert all(digest.get(other) != rows[group.row]["query"] for other in found[1:])


@pytest.mark.parametrize("row", [{"query": "king", "positive": "the king"}, {"query": None, "positive": "the king"}])
def test_answers_that_nothing_can_be_told_from_are_refused(reranking, tmp_path, row):
    rows = [row | {"query": row["query"] or f"{first} {second}"} for first in WORDS for second in FILLERS]
    with pytest.raises(TrainingError, match=r"nothing to tell an answer from: no two of the 32 pairs"):
        train(reranking, write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "run")


def test_passes_and_parts_change_no_score(mined, reranking, backbone, tmp_path):
    store = store_of(mined, tmp_path / "data", backbone.tokenizer)
    network = CompressionNetwork.fresh(backbone.lm, 3).with_head(torch.randn(32))
    pairs = PairRows(store, [7], 40, None)
    groups = GroupBatches(store, reranking, pairs, 3).batch(0)

    def scorer(**changes):
        return GroupScorer(SimpleNamespace(network=network, settings=replace(reranking, **changes), pad_id=0), pairs)

    with torch.inference_mode():
        scores, there = scorer().scores(groups)
        small = scorer(tokens_per_pass=20, tokens_kept=60)
        assert small.passes(groups) > 3
        parts = small.parts(groups)
        assert [group for part in parts for group in part] == groups
        assert len(parts) > 2
        found = torch.cat([small.scores(part)[0] for part in parts])
        for row, group in enumerate(groups):
            alone = pair_row(store.ids(group.query), store.ids(group.documents[1]), [7], 40)
            one = network.score(*left_pad([alone], 0, "cpu"))
            assert scores[row, 1] == pytest.approx(float(one), abs=1e-4)
    assert there.all()
    assert torch.allclose(found, scores, atol=1e-4)


def test_a_reranker_learns_and_is_read_back(mined, reranking, tmp_path):
    folder = train(reranking, mined, tmp_path / "run")
    evaluated = [row for row in read_metrics(tmp_path / "run") if "score" in row]
    assert evaluated[-1]["score"] > 0.8
    scorer = PairScorer.from_pretrained(str(folder), device="cpu", dtype=torch.float32)
    row = [json.loads(line) for line in mined.read_text().splitlines()][3]
    scores = scorer.score(row["query"], [row["negative"][0], row["positive"], *row["negative"][1:]])
    assert scores.argmax() == 1
    assert scorer.score("king", []).shape == (0,)
    alone = [scorer.score(row["query"], [text])[0] for text in (row["positive"], row["negative"][0])]
    assert [scores[1], scores[0]] == pytest.approx(alone, abs=1e-4)


def test_training_and_use_read_the_same_rows(mined, reranking, backbone, tmp_path):
    folder = train(replace(reranking, max_steps=1), mined, tmp_path / "run")
    scorer = PairScorer.from_pretrained(str(folder), device="cpu", max_length=reranking.max_length)
    store = TokenStore(tmp_path / "run/data")
    separator = backbone.tokenizer(SEPARATOR, add_special_tokens=False)["input_ids"]
    row = json.loads(mined.read_text().splitlines()[5])
    ids, real = PairRows(store, separator, reranking.max_length, None).rows(
        np.array([store.texts(5)[0]]), np.array([store.texts(5)[1]]), 0
    )
    assert scorer.rows(row["query"], [row["positive"]]) == [ids[0][real[0]].tolist()]


@pytest.mark.parametrize("train_weights", ["all", "adapter"])
def test_an_interrupted_run_ends_bit_for_bit_as_an_undisturbed_one(mined, reranking, tmp_path, train_weights):
    settings = replace(reranking, train_weights=train_weights, max_steps=5, save_every=2)

    class Killed(Exception):
        pass

    def kill(progress):
        if progress.step == 3:
            raise Killed

    whole = train(settings, mined, tmp_path / "whole")
    with pytest.raises(Killed):
        train(settings, mined, tmp_path / "cut", show=kill)
    cut = train(settings, mined, tmp_path / "cut", resume=True)
    for path in whole.glob("*.safetensors"):
        assert path.read_bytes() == (cut / path.name).read_bytes()


def test_settings_that_it_is_said_not_to_read_change_nothing(mined, reranking, tmp_path, with_other_values):
    settings = replace(reranking, max_steps=3)
    one = train(settings, mined, tmp_path / "one")
    other = train(with_other_values(settings, "rerank"), mined, tmp_path / "other")
    for path in one.glob("*.safetensors"):
        assert path.read_bytes() == (other / path.name).read_bytes()


def test_a_reranker_starts_from_an_encoder_and_from_a_reranker(mined, reranking, backbone_dir, tmp_path):
    loaded = load_backbone(str(backbone_dir), device="cpu")
    kept = replace(reranking, max_steps=2, lr=1e-12, layers="1,")
    first = train(kept, mined, tmp_path / "first")
    second = train(replace(kept, layers=""), mined, tmp_path / "second", init=tmp_path / "first")
    assert read_settings(second, task="rerank").layers == [1]
    texts = ["the king of the", "the queen of the war"]
    scores = [PairScorer.from_pretrained(str(path), device="cpu").score("king", texts) for path in (first, second)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert loaded.name in read_settings(second, task=None).backbone
    with pytest.raises(EncoderError, match="a reranker, not an encoder"):
        run_stage("align", replace(kept, teacher="x"), RunOptions(data=[str(mined)], out=tmp_path / "no", init=first))


def test_layers_of_a_reranker_are_chosen_by_their_number(mined, reranking, tmp_path):
    settings = replace(reranking, max_steps=1)
    first = train(settings, mined, tmp_path / "first")
    second = train(replace(settings, layers="1"), mined, tmp_path / "second", init=first)
    assert len(read_settings(second, task=RERANK).layers) == 1


def test_too_few_texts_for_a_batch_of_tokens_are_said_to_be_that(mined, reranking, tmp_path):
    with pytest.raises(TrainingError, match=r"a batch of 90000 tokens takes about \d+. .* lower `batch_tokens`"):
        train(replace(reranking, batch_tokens=90_000), mined, tmp_path / "run")


def test_neither_is_taken_for_the_other(mined, reranking, deep_encoder_dir, tmp_path):
    folder = train(replace(reranking, max_steps=1), mined, tmp_path / "run")
    assert json.loads((folder / "encoder.json").read_text())["format"] == 3
    with pytest.raises(EncoderError, match="a reranker, not an encoder"):
        LLM2Comp.from_pretrained(str(folder))
    with pytest.raises(EncoderError, match="an encoder, not a reranker"):
        PairScorer.from_pretrained(str(deep_encoder_dir))


def test_what_the_stage_cannot_use_is_refused(mined, reranking, tmp_path):
    with pytest.raises(UsageError, match="negatives must be at least 1"):
        train(replace(reranking, negatives=0), mined, tmp_path / "a")
    with pytest.raises(UsageError, match="max_length must be at least 16"):
        train(replace(reranking, max_length=10), mined, tmp_path / "a")
    with pytest.raises(UsageError, match="eval_data cannot be used"):
        train(reranking, mined, tmp_path / "a", judge=lambda _encoder: {})
