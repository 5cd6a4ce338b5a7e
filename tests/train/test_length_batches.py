"""Batches of texts of similar length, and of one topic; the groups of alike texts that they are taken from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as settings_of_examples
from hypothesis import strategies as st
from llm2comp_train.data.batches import TOPIC_WINDOWS, WINDOW, LengthBatches
from llm2comp_train.data.topics import topics_of
from llm2comp_train.settings import Settings
from torch.nn.functional import normalize


class Lengths:
    """A store of rows of given lengths."""

    def __init__(self, lengths):
        self._lengths = np.asarray(lengths)

    def __len__(self):
        return len(self._lengths)

    def lengths(self):
        return self._lengths


@pytest.mark.parametrize("changes", [{"batch_size": 5}, {"batch_tokens": 60}])
def test_batches_are_of_similar_length_and_visit_every_row_once_an_epoch(settings, changes):
    lengths = np.random.default_rng(0).integers(2, 30, 1000)
    settings = replace(settings, validation_texts=40, max_steps=64, **changes)
    batches, again = (LengthBatches(Lengths(lengths), settings, 3) for _ in range(2))
    drawn = [batches.batch(step) for step in range(WINDOW)]
    assert [again.batch(step) for step in reversed(range(WINDOW))] == drawn[::-1]
    rows = [row for batch in drawn for row in batch]
    assert len(set(rows)) == len(rows)
    assert not set(rows) & set(batches.held_out())
    spreads = [np.ptp(lengths[batch]) for batch in drawn]
    assert np.mean(spreads) < 3
    tokens = [int(sum(lengths[batch] + 3)) for batch in drawn]
    if "batch_size" in changes:
        assert {len(batch) for batch in drawn} == {5}
    else:
        assert max(tokens) - min(tokens) <= 2 * 33
        assert np.mean(tokens) == pytest.approx(60, rel=0.15)
    visited = set(batches.visited().tolist())
    assert {row for step in range(64) for row in batches.batch(step)} | set(batches.held_out()) <= visited
    assert visited < set(range(1000))
    assert set(batches.sample(20)) <= set(rows)


@pytest.mark.parametrize("changes", [{"batch_size": 5}, {"batch_tokens": 60}])
def test_batches_of_topics_are_of_one_topic_and_of_similar_length(settings, changes):
    generator = np.random.default_rng(0)
    lengths, topics = generator.integers(2, 30, 4000), generator.integers(0, 6, 4000).astype(np.int32)
    settings = replace(settings, validation_texts=40, max_steps=300, topics=6, **changes)
    batches, again = (LengthBatches(Lengths(lengths), settings, 3) for _ in range(2))
    for one in (batches, again):
        one.by_topic(topics)
    steps = range(WINDOW * TOPIC_WINDOWS)
    drawn = [batches.batch(step) for step in steps]
    assert [again.batch(step) for step in reversed(steps)] == drawn[::-1]
    rows = [row for batch in drawn for row in batch]
    assert len(set(rows)) == len(rows)
    assert not set(rows) & set(batches.held_out())
    assert sum(len(set(topics[batch])) > 1 for batch in drawn) <= 5  # where a topic ends
    assert np.mean([np.ptp(lengths[batch]) for batch in drawn]) < 6
    visited = set(batches.visited().tolist())
    assert {row for step in range(300) for row in batches.batch(step)} | set(batches.held_out()) <= visited


@settings_of_examples(max_examples=40)
@given(st.integers(60, 600), st.integers(1, 8), st.booleans())
def test_no_batch_is_empty_however_long_single_texts_are(batch_tokens, topics, by_topic):
    generator = np.random.default_rng(batch_tokens)
    long = generator.random(4000) < 0.1
    lengths = np.where(long, generator.integers(256, 512, 4000), generator.integers(5, 40, 4000))
    settings = Settings(validation_texts=40, max_steps=300, topics=topics if by_topic else 0, batch_tokens=batch_tokens)
    batches = LengthBatches(Lengths(lengths), settings, 8)
    if by_topic:
        batches.by_topic(generator.integers(0, topics, 4000).astype(np.int32))
    drawn = [batches.batch(step) for step in range(WINDOW * (TOPIC_WINDOWS if by_topic else 1))]
    assert all(drawn)
    rows = [row for batch in drawn for row in batch]
    assert len(set(rows)) == len(rows)


def test_topics_are_groups_of_alike_vectors_and_kept(tmp_path):
    torch.manual_seed(0)
    kinds = torch.arange(60) % 3
    vectors = normalize(torch.eye(8)[kinds] + 0.05 * torch.randn(60, 8), dim=-1)
    rows = np.arange(4, 60)
    found = topics_of(tmp_path / "topics.npy", rows, 60, 3, 0, lambda some: vectors[some])
    assert found.shape == (60,)
    for kind in range(3):
        assert len(set(found[rows][kinds[rows] == kind])) == 1
    assert len(set(found[rows])) == 3
    kept = topics_of(tmp_path / "topics.npy", rows, 60, 3, 1, None)
    assert np.array_equal(kept, found)
