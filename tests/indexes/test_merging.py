"""The merge policy: few segments, and few rewrites of any row."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st
from llm2comp_indexes.storage.merging import FAN_IN, SMALL_ROWS, segments_to_absorb


def live(commits: list[int]) -> tuple[list[int], int]:
    """Sizes of the segments after a sequence of commits, and how many rows were written in all."""
    sizes: list[int] = []
    written = 0
    for new in commits:
        absorbed = segments_to_absorb(sizes, new)
        assert 0 <= absorbed <= len(sizes)
        merged = new + sum(sizes[len(sizes) - absorbed :])
        sizes[len(sizes) - absorbed :] = [merged]
        written += merged
    return sizes, written


@given(st.lists(st.integers(1, 60_000), max_size=200))
def test_no_row_is_lost_and_segments_stay_few(commits):
    sizes, _ = live(commits)
    assert sum(sizes) == sum(commits)
    classes = 1 + math.log(max(1, sum(commits) / SMALL_ROWS), FAN_IN)
    assert len(sizes) <= FAN_IN * (classes + 1)


def test_single_adds_make_segments_that_grow_geometrically():
    sizes, written = live([1] * 20_000)
    assert len(sizes) <= 2 * FAN_IN
    # Up to SMALL_ROWS the newest segment is rewritten by each commit; beyond, a row moves log8(n) times.
    assert written <= 20_000 * (SMALL_ROWS / 2 + 10)


def test_the_commits_of_a_build_rewrite_each_row_a_few_times():
    sizes, written = live([4096] * 250)
    assert len(sizes) < 3 * FAN_IN
    assert written <= 4 * sum(sizes)
