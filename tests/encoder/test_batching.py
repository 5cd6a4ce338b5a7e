from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps.encoder.batching import MAX_ROWS, length_batches


@given(st.lists(st.integers(0, 600), max_size=400), st.integers(8, 4096))
def test_every_row_once_and_within_the_budget(lengths, budget):
    batches = length_batches(lengths, budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[index] for index in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget
        assert len(batch) <= MAX_ROWS


def test_lengths_in_a_batch_are_alike_and_batches_are_not_tiny():
    lengths = [(7 * index) % 300 + 8 for index in range(3000)]
    batches = length_batches(lengths, 2048)
    padded = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
    assert padded < 1.08 * sum(lengths)
    assert len(batches) < 1.5 * sum(lengths) / 2048
