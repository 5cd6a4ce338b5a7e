"""The paired statistics against scipy and against what they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, permutation_test, spearmanr
from sklearn.metrics import average_precision_score

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.stats import (
    holm,
    paired_difference,
    pairs_difference,
    resampled_average_precision,
    resampled_spearman,
)


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


@given(st.integers(0, 10_000), st.integers(2, 40), st.sampled_from([0, 1, 6]))
def test_resampled_metrics_are_those_of_the_resampled_pairs(seed, size, decimals):
    rng = np.random.default_rng(seed)
    gold, scores = rng.integers(0, 3, size).astype(float), np.round(rng.normal(size=size), decimals)
    drawn = rng.integers(0, size, (5, size))
    counts = np.stack([np.bincount(row, minlength=size) for row in drawn]).astype(float)
    spearman = resampled_spearman(gold)(scores, counts)
    precision = resampled_average_precision((gold > 1).astype(float))(scores, counts)
    for row, ours, ours_ap in zip(drawn, spearman, precision, strict=True):
        constant = np.ptp(gold[row]) == 0 or np.ptp(scores[row]) == 0
        assert ours == pytest.approx(0 if constant else spearmanr(gold[row], scores[row]).statistic)
        positive = gold[row] > 1
        assert ours_ap == pytest.approx(average_precision_score(positive, scores[row]) if positive.any() else 0)


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(3)
    gold = np.round(rng.uniform(0, 5, 80), 1)
    return gold + rng.normal(0, 0.5, 80), gold + rng.normal(0, 3, 80), gold


def test_the_interval_over_pairs_is_scipys_percentile_bootstrap(pairs):
    a, b, gold = pairs
    theirs = bootstrap(
        pairs, lambda x, y, z: spearmanr(x, z).statistic - spearmanr(y, z).statistic, paired=True,
        vectorized=False, method="percentile", n_resamples=2000, rng=np.random.default_rng(1),
    )  # fmt: skip
    ours = pairs_difference(resampled_spearman, a, b, gold, resamples=2000)
    limits = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((limits.low, limits.high), abs=0.03)
    assert ours.delta == pytest.approx(spearmanr(a, gold).statistic - spearmanr(b, gold).statistic)
    assert ours.units == 80
    assert ours.p_value < 0.01
    assert ours == pairs_difference(resampled_spearman, a, b, gold, resamples=2000)  # seeded


def test_equal_systems_do_not_differ_over_pairs(pairs):
    a, _, gold = pairs
    same = pairs_difference(resampled_spearman, a, a, gold)
    assert (same.delta, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_chance_over_pairs_is_called_significant_as_often_as_promised():
    rng = np.random.default_rng(4)
    found = []
    for trial in range(200):
        gold = rng.uniform(0, 1, 60)
        a, b = gold + rng.normal(0, 0.5, (2, 60))
        found.append(pairs_difference(resampled_spearman, a, b, gold, resamples=200, seed=trial).p_value)
    assert 0.01 < np.mean(np.array(found) < 0.05) < 0.1


@pytest.mark.parametrize(("a", "b", "gold"), [([], [], []), ([1.0, 2.0], [1.0], [1.0, 2.0]), ([1.0], [1.0], [1.0])])
def test_pairs_must_be_the_same(a, b, gold):
    with pytest.raises(EvaluationError, match="the same pairs on both sides"):
        pairs_difference(resampled_spearman, a, b, gold)
