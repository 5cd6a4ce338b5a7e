"""On the real data folder: every dataset of it is known, and BM25 scores what plain BM25 scores there."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from llm2comp_apps.evaluation import evaluate, load_suite
from llm2comp_apps.evaluation.bm25 import Bm25Ranker

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def real_data():
    data = Path(os.environ.get("LLM2COMP_DATA", ROOT.parent / "shared" / "data")) / "eval"
    if not data.is_dir():
        pytest.skip(f"{data} is not there; set LLM2COMP_DATA")
    return data


def test_every_dataset_is_found(real_data):
    tasks = load_suite("offline", real_data)
    assert Counter(task.category for task in tasks) == {
        "Retrieval": 7, "Reranking": 1, "Clustering": 7, "PairClassification": 2, "Classification": 6, "STS": 8
    }  # fmt: skip
    sizes = {task.name: task.load() for task in tasks if task.name in ("sickr", "stsbenchmark")}
    assert {name: len(data.gold) for name, data in sizes.items()} == {"sickr": 9927, "stsbenchmark": 1379}
    assert [task.name for task in load_suite("dev", real_data)] == ["scifact:train", "stsbenchmark:dev"]
    assert len(load_suite("nano", real_data)) == 9


def test_dev_shares_no_query_with_the_test_set(real_data):
    (dev,) = (task.load() for task in load_suite("dev", real_data) if task.name == "scifact:train")
    (test,) = (task.load() for task in load_suite("offline", real_data, ["scifact"]))
    assert not dev.queries.keys() & test.queries.keys()
    assert len(dev.queries) == 100


@pytest.mark.parametrize(
    ("name", "expected"), [("scifact", 0.662), ("cranfield", 0.349), ("nfcorpus_processed", 0.306)]
)
def test_bm25_scores_what_plain_bm25_scores(real_data, name, expected):
    (result,) = evaluate(Bm25Ranker(), load_suite("offline", real_data, [name]))
    assert result.main_score == pytest.approx(expected, abs=0.005)
