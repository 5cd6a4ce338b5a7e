from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import normalize

from llm2comp_apps.encoder.pooling import merge_groups, pool
from llm2comp_apps.errors import UsageError


def slow_merge(memory: torch.Tensor, similarity: float) -> torch.Tensor:
    """Cluster-then-merge of one text, by following links one at a time."""
    unit = normalize(memory, dim=-1)
    left = set(range(len(memory)))
    means = []
    while left:
        group, frontier = set(), {left.pop()}
        while frontier:
            current = frontier.pop()
            group.add(current)
            linked = {other for other in left if float(unit[current] @ unit[other]) >= similarity}
            left -= linked
            frontier |= linked
        means.append(memory[sorted(group)].mean(0))
    return torch.stack(means).mean(0)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 9), st.sampled_from([-1.0, 0.0, 0.5, 0.9, 1.1]))
def test_merge_equals_a_slow_reference(seed, k, similarity):
    memory = torch.randn(3, k, 4, generator=torch.Generator().manual_seed(seed))
    expected = torch.stack([slow_merge(text, similarity) for text in memory])
    torch.testing.assert_close(pool(memory, "merge", similarity=similarity), expected, atol=1e-5, rtol=1e-4)


def test_copies_do_not_drown_one_distinct_vector():
    distinct, copied = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    memory = torch.stack([distinct] + [copied] * 7)[None]
    torch.testing.assert_close(pool(memory, "merge"), torch.tensor([[0.5, 0.5]]))
    torch.testing.assert_close(pool(memory, "mean"), torch.tensor([[0.125, 0.875]]))


def test_a_chain_of_links_is_one_group():
    angles = torch.arange(8) * 0.4  # neighbours are close (cosine .92), the ends are not
    memory = torch.stack([angles.cos(), angles.sin()], dim=1)[None]
    assert bool((merge_groups(memory, 0.9) == 1).all())
    assert float(memory[0, 0] @ memory[0, -1]) < 0


def test_first_all_and_unknown():
    memory = torch.randn(2, 3, 4)
    torch.testing.assert_close(pool(memory, "first"), memory[:, 0])
    torch.testing.assert_close(pool(memory, "all"), memory)
    with pytest.raises(UsageError, match="pooling must be one of mean, merge, first, all, not 'median'"):
        pool(memory, "median")
