"""Spectrum, geometry and memory against their definitions and on spaces whose answer is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm2comp_apps.encoder.protocol import MakesMemory, TextEncoder
from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation import load_suite
from llm2comp_apps.evaluation.analysis import (
    PooledMemory,
    analyze,
    measure_geometry,
    measure_spectrum,
    memory_correlation,
)
from llm2comp_apps.evaluation.analysis.memory import MemoryBank, first_k, pooled_as
from llm2comp_apps.evaluation.analysis.plots import write_plots


def sphere(count, dimension, seed=0):
    rows = np.random.default_rng(seed).standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_an_even_space_uses_all_its_dimensions():
    spectrum = measure_spectrum(sphere(4000, 16))
    assert spectrum.effective_dimension == pytest.approx(16, rel=0.01)
    assert spectrum.participation_ratio == pytest.approx(16, rel=0.02)
    assert spectrum.dimensions_99 == 16


def test_a_line_has_one_dimension_and_a_plane_two():
    directions = sphere(2, 32)
    weights = np.random.default_rng(1).standard_normal((500, 2)).astype(np.float32)
    assert measure_spectrum(weights[:, :1] @ directions[:1]).effective_dimension == pytest.approx(1, abs=1e-3)
    plane = measure_spectrum(weights @ directions)
    assert 1 < plane.effective_dimension < 2.01
    assert plane.dimensions_99 <= 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 100))
def test_the_spectrum_does_not_depend_on_rotation_or_offset(seed):
    rows = sphere(60, 8, seed) * np.linspace(1, 3, 8, dtype=np.float32)
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((8, 8)))[0].astype(np.float32)
    moved = measure_spectrum(rows @ rotation + 5)
    assert moved.variances == pytest.approx(measure_spectrum(rows).variances, abs=1e-4)
    assert moved.variances == pytest.approx(np.linalg.svd(np.cov(rows.T), compute_uv=False), abs=1e-4)


def test_a_point_has_no_spectrum():
    with pytest.raises(EvaluationError, match="collapsed to one point"):
        measure_spectrum(np.ones((5, 3), np.float32))
    with pytest.raises(EvaluationError, match="at least two"):
        measure_spectrum(np.ones((1, 3), np.float32))


def test_geometry_is_wang_and_isolas():
    rows, others = sphere(700, 6), sphere(700, 6, seed=1)
    ours = measure_geometry((rows, others), rows)
    squared = np.square(rows[:, None, :].astype(float) - rows[None]).sum(-1)
    upper = np.triu_indices(700, 1)
    assert ours.uniformity == pytest.approx(np.log(np.exp(-2 * squared[upper]).mean()), rel=1e-6)
    assert ours.alignment == pytest.approx(np.square(rows - others).sum(1).mean(), rel=1e-5)
    assert ours.mean_cosine == pytest.approx((rows @ rows.T)[upper].mean(), abs=1e-5)


def test_collapse_is_aligned_but_not_uniform():
    point = np.tile(sphere(1, 6), (50, 1))
    collapsed = measure_geometry((point, point), point)
    assert (collapsed.alignment, collapsed.mean_cosine) == pytest.approx((0, 1), abs=1e-6)
    assert collapsed.uniformity == pytest.approx(0, abs=1e-5)
    with pytest.raises(EvaluationError, match="positive pairs"):
        measure_geometry((point[:0], point[:0]), point)


def test_memory_correlation_is_numpys_averaged_over_texts():
    memory = np.random.default_rng(2).standard_normal((20, 4, 50)).astype(np.float32)
    memory[:, 1] = 3 * memory[:, 0] + 1  # a copy, up to scale and offset
    ours = memory_correlation(memory)
    np.testing.assert_allclose(ours, np.mean([np.corrcoef(text) for text in memory], axis=0), atol=1e-6)
    assert ours[0, 1] == pytest.approx(1)


def test_poolings_of_the_memory_bank(hash_encoder):
    texts = ["cells divide by mitosis in the lab", "stars", "bread rises because of yeast"]
    bank = MemoryBank(hash_encoder)
    everything = PooledMemory(bank, "mean of 4", first_k(4))
    np.testing.assert_allclose(everything.encode(texts), hash_encoder.encode(texts), atol=1e-6)
    first = PooledMemory(bank, "mean of 1", first_k(1)).encode(texts)
    memory = hash_encoder.encode_memory(texts)[:, 0]
    np.testing.assert_allclose(first, memory / np.linalg.norm(memory, axis=1, keepdims=True), atol=1e-6)
    assert everything.fingerprint != PooledMemory(bank, "merge", pooled_as("merge")).fingerprint
    assert isinstance(everything, TextEncoder)
    assert everything.encode([]).shape == (0, 32)


def test_every_pooling_together_costs_one_pass(data, hash_encoder):
    tasks = load_suite("offline", data, ["likeness", "library"])
    study = analyze("hash", hash_encoder, tasks[1].load(), tasks)
    assert [result.pooling for result in study.poolings] == [*(f"mean of {k}" for k in (1, 2, 3, 4)), "merge"]
    # 60 sentences once, the same with the query prompt of retrieval not needed, 40 documents, 4 queries.
    assert hash_encoder.calls == 60 + 40 + 4
    assert study.poolings[3].scores.keys() == {"likeness", "library", "average"}
    assert study.poolings[3].effective_dimension == pytest.approx(study.spectrum.effective_dimension, rel=1e-4)
    assert -1 <= study.mean_memory_correlation <= 1


def test_an_encoder_without_memory_is_analysed_as_far_as_it_goes(data, hash_encoder, tmp_path):
    class Plain:
        """The same encoder, its memory hidden."""

        name, fingerprint, dimension, prompts = "plain", "f" * 32, 32, {}
        encode, encode_stream = hash_encoder.encode, hash_encoder.encode_stream

    assert isinstance(hash_encoder, MakesMemory)
    assert not isinstance(Plain(), MakesMemory)
    pairs = load_suite("offline", data, ["likeness"])[0].load()
    plain, full = analyze("plain", Plain(), pairs), analyze(r"full $\b$", hash_encoder, pairs)
    assert (plain.memory_correlation, plain.poolings, plain.mean_memory_correlation) == (None, [], None)
    assert plain.spectrum.effective_dimension == pytest.approx(full.spectrum.effective_dimension, rel=1e-4)
    assert json.loads(json.dumps(full.to_json()))["mean_memory_correlation"] == full.mean_memory_correlation
    assert [path.name for path in write_plots([plain], tmp_path)] == ["spectrum.png", "alignment_uniformity.png"]
    written = write_plots([plain, full], tmp_path)
    assert [path.name for path in written[2:]] == ["memory_correlation.png", "effect_of_k.png"]
    for path in written:
        assert path.read_bytes().startswith(b"\x89PNG")


def test_the_tiny_checkpoint_has_memory_and_merges_as_the_encoder_does(tiny_encoder_dir):
    from llm2comp_apps.encoder.model import LLM2Comp

    encoder = LLM2Comp.from_pretrained(str(tiny_encoder_dir))
    texts = ["a few words", "so that there is something to learn", "x"]
    assert isinstance(encoder, MakesMemory)
    bank = MemoryBank(encoder)
    for pooling in ("mean", "merge", "first"):
        ours = PooledMemory(bank, pooling, pooled_as(pooling)).encode(texts)
        np.testing.assert_allclose(ours, encoder.encode(texts, pooling=pooling), atol=2e-2)  # bf16 hardware
