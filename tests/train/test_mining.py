"""Mined negatives: near, but not answers."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from llm2comp_train.data.mining import hard_negatives, mine_file

from llm2comp_apps.errors import UsageError


def unit(rows, seed):
    vectors = np.random.default_rng(seed).standard_normal((rows, 8)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@given(st.integers(0, 10_000), st.integers(1, 5), st.sampled_from([0.5, 0.9, 1.0]))
def test_negatives_are_the_nearest_under_the_margin(seed, count, margin):
    queries, documents = unit(6, seed), unit(20, seed + 1)
    positives = list(range(6))
    excluded = [{index, index + 1} for index in range(6)]
    found = list(hard_negatives(queries, documents, positives, excluded, count, margin))
    scores = queries @ documents.T
    for row, (chosen, passed_over) in enumerate(found):
        limit = margin * scores[row, row]
        allowed = sorted(set(range(20)) - excluded[row], key=lambda index: -scores[row, index])
        wanted = [index for index in allowed if scores[row, index] <= limit]
        assert chosen == wanted[:count]
        assert passed_over == len(allowed) - len(wanted)


def test_a_positive_far_down_the_list_hides_no_negative():
    queries, documents = unit(1, 0), unit(1000, 1)
    ranked = np.argsort(-(queries @ documents.T)[0])
    ((chosen, passed_over),) = hard_negatives(queries, documents, [int(ranked[300])], [{int(ranked[300])}], 2, 1.0)
    assert chosen == ranked[301:303].tolist()
    assert passed_over == 300


def test_a_query_never_gets_an_answer_of_its_own_as_negative(hash_encoder, tmp_path):
    rows = [("red fox", "the fox is red"), ("red fox", "a fox, red of fur"), ("blue whale", "the whale is blue")]
    pairs, out = tmp_path / "pairs.jsonl", tmp_path / "mined.jsonl"
    pairs.write_text("".join(json.dumps({"query": q, "positive": p}) + "\n" for q, p in rows), "utf-8")
    report = mine_file(hash_encoder, str(pairs), out, negatives=2)
    mined = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert report.pairs == len(mined) == 3
    assert mined[0]["negative"] == mined[1]["negative"] == ["the whale is blue"]
    with pytest.raises(UsageError, match="already exists"):
        mine_file(hash_encoder, str(pairs), out)


def test_a_folder_that_is_not_there_is_refused_before_anything_is_encoded(hash_encoder, tmp_path):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"query": "red fox", "positive": "the fox is red"}\n', "utf-8")
    with pytest.raises(UsageError, match=r"there is no folder .*missing; make it first"):
        mine_file(hash_encoder, str(pairs), tmp_path / "missing" / "mined.jsonl")
    assert hash_encoder.calls == 0


@pytest.mark.parametrize("name", ["mined.csv", "mined.PARQUET", "mined.txt"])
def test_a_name_that_training_would_read_as_another_format_is_refused(hash_encoder, tmp_path, name):
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"query": "red fox", "positive": "the fox is red"}\n', "utf-8")
    with pytest.raises(UsageError, match=r"is to hold JSON lines; give it a name such as mined\.jsonl"):
        mine_file(hash_encoder, str(pairs), tmp_path / name)
    mine_file(hash_encoder, str(pairs), tmp_path / "mined")
