"""The benchmark of topic names counts what it says."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(BENCHMARKS)
    return pytest.importorskip("bench_names")


def test_a_name_counts_with_any_inflection_of_a_word_of_its_majority_label(bench: ModuleType) -> None:
    topics = bench.Topics.of(np.array([0, 0, 0, 1, 1, -1]), ["cars", "cars", "bikes", "bikes", "bikes", "cars"])
    words = {"cars": ["car", "vehicle"], "bikes": ["bike"]}
    assert (topics.majority, topics.sizes, topics.purity) == (["cars", "bikes"], [3, 2], 0.8)
    assert bench.named([["Electric Cars, oil"], ["engine, biker"]], topics, words) == [True, False]
    assert bench.named([["carpets"], ["mountain-bikes"]], topics, words) == [False, True]
    assert bench.named([["vehicles"], ["car"]], topics, words) == [True, False]  # a word of the other label


def test_stems_join_inflections_and_keep_short_words(bench: ModuleType) -> None:
    for one, other in (("studies", "study"), ("drive", "driving"), ("gene", "genes"), ("boxes", "box")):
        assert bench.stem(one) == bench.stem(other)
    assert bench.stem("DOS") == "dos"
    assert bench.stem("mp") == "mp"


def test_every_label_has_words_that_are_not_all_those_of_another() -> None:
    for labels in json.loads((BENCHMARKS / "topic_labels.json").read_text("utf-8")).values():
        words = {label: set(entry["words"].split()) for label, entry in labels.items()}
        for label, its in words.items():
            assert len(its) >= 2
            assert not any(its <= others for other, others in words.items() if other != label)
