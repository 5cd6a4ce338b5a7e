"""Embeddings by content: nothing is encoded twice, and a cache that fails costs a warning and time."""

from __future__ import annotations

import itertools
import sqlite3

import numpy as np
import pytest

from llm2comp_apps.clustering.embeddings_cache import embed, embeddings_file

TEXTS = ["one dough", "two orbits", "one dough", "three pawns", "\ud800 lone surrogate"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_text_is_encoded_once_whatever_the_order_and_the_company(make_hash_encoder):
    encoder = make_hash_encoder()
    first = embed(TEXTS, encoder)
    assert encoder.calls == 4
    np.testing.assert_array_equal(first, encoder.encode(TEXTS).astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(first[0], first[2])
    encoder.calls = 0
    np.testing.assert_array_equal(embed(TEXTS[::-1], encoder), first[::-1])
    assert encoder.calls == 0
    more = embed(["new text", *TEXTS], encoder)
    assert encoder.calls == 1
    np.testing.assert_array_equal(more[1:], first)
    assert embed([], encoder).shape == (0, 32)


def test_a_vector_that_is_no_vector_is_made_again(make_hash_encoder, monkeypatch):
    encoder = make_hash_encoder()
    sound = encoder.encode(TEXTS)
    with monkeypatch.context() as patched:
        patched.setattr(encoder, "encode", lambda texts, **_: np.full((len(texts), 32), np.nan, np.float32))
        assert np.isnan(embed(TEXTS, encoder)).all()
    np.testing.assert_allclose(embed(TEXTS, encoder), sound, atol=1e-3)


def test_more_texts_than_one_query_takes(make_hash_encoder):
    encoder = make_hash_encoder(4)
    texts = [f"text {number}" for number in range(1000)]
    first = embed(texts, encoder)
    encoder.calls = 0
    np.testing.assert_array_equal(embed(texts, encoder), first)
    assert encoder.calls == 0


def test_encoders_and_prompts_do_not_share(make_hash_encoder):
    one, other = make_hash_encoder(), make_hash_encoder(seed="other")
    files = {embeddings_file(e, p) for e, p in itertools.product((one, other), ("", "find: "))}
    assert len(files) == 4
    a, b = embed(TEXTS, one), embed(TEXTS, other)
    assert not np.array_equal(a, b)
    assert other.calls == 4


def test_without_the_cache_nothing_is_kept_and_the_vectors_are_the_same(make_hash_encoder, cache):
    encoder = make_hash_encoder()
    found = embed(TEXTS, encoder, cache=False)
    assert not cache.exists()
    np.testing.assert_array_equal(found, embed(TEXTS, encoder))
    assert encoder.calls == 8


def test_an_interrupted_run_goes_on(make_hash_encoder):
    class Interrupted(type(make_hash_encoder())):
        def encode_stream(self, texts, *, prompt=None):
            for number, block in enumerate(super().encode_stream(texts, prompt=prompt)):
                if number == 2:
                    raise KeyboardInterrupt
                yield block

    with pytest.raises(KeyboardInterrupt):
        embed(TEXTS, Interrupted())
    encoder = make_hash_encoder()
    embed(TEXTS, encoder)
    assert encoder.calls == 2


def test_progress_counts_what_is_not_in_the_cache(make_hash_encoder):
    encoder, seen = make_hash_encoder(), []
    embed(TEXTS[:2], encoder)
    embed(TEXTS, encoder, progress=lambda told: seen.append((told.done, told.total)))
    assert seen == [(1, 2), (2, 2)]


def test_a_broken_cache_costs_a_warning(make_hash_encoder):
    encoder = make_hash_encoder()
    expected = embed(TEXTS, encoder, cache=False)
    path = embeddings_file(encoder, "")
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database" * 100)
    with pytest.warns(UserWarning, match=r"embeddings are computed again and not kept \(file is not a database"):
        np.testing.assert_array_equal(embed(TEXTS, encoder), expected)


def test_a_cache_directory_that_cannot_be_made_costs_a_warning(make_hash_encoder, cache):
    cache.write_text("a file where the folder should be")
    encoder = make_hash_encoder()
    with pytest.warns(UserWarning, match="embeddings are computed again"):
        assert embed(TEXTS, encoder).shape == (5, 32)


def test_rows_of_another_width_are_not_taken(make_hash_encoder):
    encoder = make_hash_encoder()
    expected = embed(TEXTS, encoder)
    with sqlite3.connect(embeddings_file(encoder, "")) as connection:
        connection.execute("UPDATE embeddings SET vector = x'0011'")
    connection.close()
    np.testing.assert_array_equal(embed(TEXTS, encoder), expected)
