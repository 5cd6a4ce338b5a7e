"""Memory vectors as they are stored: near what was given, and the same bytes when a segment is rewritten."""

from __future__ import annotations

import numpy as np
import pytest
from llm2comp_indexes import IndexedDocument, InputError
from llm2comp_indexes.storage.memory_forms import FLOAT16, INT8, MEMORY_FORMS


@pytest.fixture
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((20, 3, 64)).astype(np.float32) * 10.0 ** rng.integers(-3, 3, (20, 3, 1))
    vectors[4, 1] = 0
    vectors[5, 2, 7] *= 50  # one dimension far beyond the others
    return vectors.astype(np.float32)


@pytest.mark.parametrize("form", MEMORY_FORMS.values(), ids=MEMORY_FORMS)
def test_a_vector_comes_back_within_half_a_step(vectors, form):
    stored = form.pack(vectors)
    assert stored.dtype == np.dtype(form.dtype)
    assert stored.shape == (20, 3, 64 + form.extra)
    found = form.unpack(stored)
    assert found.dtype == np.float32
    step = np.abs(vectors).max(-1, keepdims=True) / (127 if form is INT8 else 1024)
    assert (np.abs(found - vectors) <= step / 2 * 1.001 + 1e-7).all()
    assert not found[4, 1].any()


def test_a_vector_takes_a_byte_for_each_dimension_and_a_scale(vectors):
    assert INT8.pack(vectors).nbytes == 20 * 3 * (64 + 4)


def test_unpacked_vectors_pack_to_the_same_codes(vectors):
    stored = INT8.pack(vectors)
    again = INT8.pack(INT8.unpack(stored))
    np.testing.assert_array_equal(again[..., :64], stored[..., :64])


@pytest.mark.parametrize("form", [INT8, FLOAT16])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused(vectors, form, value):
    vectors[3, 0, 0] = value
    with pytest.raises(InputError, match="memory"):
        form.pack(vectors)


def test_an_empty_batch(vectors):
    assert INT8.unpack(INT8.pack(vectors[:0])).shape == (0, 3, 64)


def test_rewriting_a_segment_changes_no_memory_vector(make_index):
    rng = np.random.default_rng(1)
    index = make_index(dimension=8, memory_tokens=2)
    given = rng.standard_normal((30, 2, 8)).astype(np.float32)
    for start in (0, 10, 20):
        with index.writer() as writer:
            rows = range(start, start + 10)
            documents = [IndexedDocument(f"d{row}", "text") for row in rows]
            writer.add(documents, given[start : start + 10].mean(1), given[start : start + 10])
            writer.commit()
    ids = [f"d{row}" for row in range(30) if row != 7]
    before = index.memory(ids)
    np.testing.assert_allclose(before, np.delete(given, 7, axis=0), atol=0.02)
    with index.writer() as writer:
        writer.delete(["d7"])
        writer.commit()
    index.compact()
    assert len(list((index.path / "segments").iterdir())) == 1
    np.testing.assert_array_equal(index.memory(ids), before)
    assert index.verify() == []
