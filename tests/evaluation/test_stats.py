"""The paired statistics against scipy and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.stats import holm, paired_difference


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    b = rng.uniform(0, 1, 60)
    return np.clip(b + rng.normal(0.06, 0.2, 60), 0, 1), b


def test_the_p_value_is_scipys_permutation_test(scores):
    a, b = scores
    theirs = permutation_test(
        (a, b), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=20_000, rng=np.random.default_rng(1),
    ).pvalue  # fmt: skip
    assert paired_difference(a, b).p_value == pytest.approx(theirs, abs=0.01)


def test_the_interval_is_scipys_percentile_bootstrap(scores):
    a, b = scores
    theirs = bootstrap(
        (a - b,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    ours = paired_difference(a, b)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.004)
    assert ours.delta == pytest.approx(np.mean(a - b))


def test_chance_is_called_significant_as_often_as_promised():
    rng = np.random.default_rng(2)
    p_values = [
        paired_difference(*rng.uniform(0, 1, (2, 40)), resamples=500, seed=trial).p_value for trial in range(300)
    ]
    assert 0.02 < np.mean(np.array(p_values) < 0.05) < 0.09


def test_equal_systems_do_not_differ():
    same = paired_difference([0.5, 0.2, 0.9], [0.5, 0.2, 0.9])
    assert (same.delta, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_swapping_the_systems_mirrors_the_result(scores):
    a, b = scores
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert back.delta == -there.delta
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    assert back.p_value == there.p_value


@pytest.mark.parametrize(("a", "b"), [([], []), ([1.0], [1.0, 0.0])])
def test_units_must_be_the_same(a, b):
    with pytest.raises(EvaluationError, match="the same units on both sides"):
        paired_difference(a, b)


def test_holm_on_a_known_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_never_lowers_a_p_value_nor_changes_the_order(p_values):
    adjusted = holm(p_values)
    assert all(before <= after <= 1 for before, after in zip(p_values, adjusted, strict=True))
    assert max(adjusted) >= adjusted[int(np.argmax(p_values))] == max(adjusted)
    assert adjusted[int(np.argmin(p_values))] == pytest.approx(min(1.0, len(p_values) * min(p_values)))
