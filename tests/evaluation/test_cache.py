"""Embeddings on disk: the same vectors, each text once, an interruption loses at most a block."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from llm2comp_apps.encoder.progress import watch_encoding
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.evaluation import cache as cache_module
from llm2comp_apps.evaluation.cache import CachedEncoder, CachedMemoryEncoder, embedding_cache, memory_cache

TEXTS = ["a cell", "a much longer text about stars", "a cell", "", "bread"]


@pytest.fixture
def cached(tmp_path, hash_encoder):
    return CachedEncoder(hash_encoder, embedding_cache(tmp_path / "embeddings", hash_encoder.fingerprint))


class Overflowing:
    """The same encoder, where the longest text has a number that is none."""

    def __init__(self, encoder, wrong):
        self.name, self.fingerprint, self.dimension = encoder.name, encoder.fingerprint, encoder.dimension
        self.prompts, self._encoder, self._wrong = encoder.prompts, encoder, wrong

    def encode(self, texts, **options):
        vectors = self._encoder.encode(texts, **options)
        vectors[int(np.argmax([len(text) for text in texts])), 0] = self._wrong
        return vectors


def test_cached_vectors_are_the_encoders_own_in_order(cached, hash_encoder):
    expected = hash_encoder.encode(TEXTS, prompt="find: ")
    for _ in range(2):
        np.testing.assert_array_equal(cached.encode(TEXTS, prompt="find: "), expected)
    np.testing.assert_array_equal(np.concatenate(list(cached.encode_stream(iter(TEXTS), prompt="find: "))), expected)
    assert isinstance(cached, TextEncoder)


def test_each_distinct_text_is_embedded_once_and_never_by_a_later_run(cached, tmp_path, make_hash_encoder):
    cached.encode(TEXTS)
    assert cached.inner.calls == 4
    other = make_hash_encoder()
    CachedEncoder(other, embedding_cache(tmp_path / "embeddings", other.fingerprint)).encode(TEXTS[::-1])
    assert other.calls == 0


def test_another_prompt_or_encoder_is_another_vector(cached, tmp_path, make_hash_encoder):
    cached.encode(["b"], prompt="a")
    cached.encode(["ab"])
    cached.encode(["b"])
    assert cached.inner.calls == 3
    other = make_hash_encoder(seed="other")
    CachedEncoder(other, embedding_cache(tmp_path / "embeddings", other.fingerprint)).encode(["b"])
    assert other.calls == 1


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_vector_that_is_no_vector_is_not_taken_again(wrong, cached, hash_encoder, monkeypatch):
    expected = hash_encoder.encode(TEXTS)
    monkeypatch.setattr(cached, "inner", Overflowing(hash_encoder, wrong))
    assert not np.isfinite(cached.encode(TEXTS)).all()
    monkeypatch.setattr(cached, "inner", hash_encoder)
    hash_encoder.calls = 0
    np.testing.assert_array_equal(cached.encode(TEXTS), expected)
    assert hash_encoder.calls == 1


def test_no_texts(cached):
    assert cached.encode([]).shape == (0, cached.dimension)


def test_an_interruption_keeps_the_blocks_before_it(cached, monkeypatch):
    monkeypatch.setattr(cache_module, "_BLOCK", 10)
    texts = [f"text {index:03}" for index in range(35)]
    encode, blocks = cached.inner.encode, []

    def fails_at_the_third(block, **options):
        blocks.append(len(block))
        if len(blocks) == 3:
            raise KeyboardInterrupt
        return encode(block, **options)

    monkeypatch.setattr(cached.inner, "encode", fails_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        cached.encode(texts)
    assert len(cached.cache) == 20
    monkeypatch.setattr(cached.inner, "encode", encode)
    cached.inner.calls = 0
    np.testing.assert_array_equal(cached.encode(texts), encode(texts))
    assert cached.inner.calls == 15 + 35


def test_a_file_that_is_no_cache_costs_one_warning(tmp_path, hash_encoder):
    path = tmp_path / f"{hash_encoder.fingerprint}.sqlite"
    path.write_bytes(b"not a database, but long enough to be looked at" * 50)
    with pytest.warns(UserWarning, match=r"\.sqlite: embeddings are computed again .*delete it"):
        cached = CachedEncoder(hash_encoder, embedding_cache(tmp_path, hash_encoder.fingerprint))
    # The one warning was that: the suite turns any other of ours into an error.
    np.testing.assert_array_equal(cached.encode(TEXTS), hash_encoder.encode(TEXTS))
    assert len(cached.cache) == 0


def test_a_damaged_page_costs_one_warning_and_the_work_again(tmp_path, hash_encoder):
    texts = [f"text {index:04}" for index in range(300)]
    whole = CachedEncoder(hash_encoder, embedding_cache(tmp_path, hash_encoder.fingerprint))
    expected = whole.encode(texts)
    whole.cache.close()
    path = tmp_path / f"{hash_encoder.fingerprint}.sqlite"
    content = bytearray(path.read_bytes())
    assert len(content) > 5 * 4096
    for start in range(2 * 4096, len(content), 4096):  # past the schema and the root
        content[start : start + 4096] = b"\xff" * 4096
    path.write_bytes(content)
    damaged = CachedEncoder(hash_encoder, embedding_cache(tmp_path, hash_encoder.fingerprint))
    with pytest.warns(UserWarning, match=r"\.sqlite: embeddings are computed again"):
        again = damaged.encode(texts)
    np.testing.assert_array_equal(again, expected)
    np.testing.assert_array_equal(damaged.encode(texts), expected)  # without another warning


def test_a_row_of_another_length_is_embedded_again(cached):
    expected = cached.encode(["a cell"])
    cached.cache._connection.execute("UPDATE embeddings SET vector = x'00'")
    np.testing.assert_array_equal(cached.encode(["a cell"]), expected)


def test_expected_calls_are_one_piece_of_work(cached):
    cached.encode(["known"])
    told = []
    with watch_encoding(told.append):
        cached.expect([(None, ["known", "a", "bb", "a"]), ("query: ", ["a"]), (None, ["bb", "ccc"])])
        assert (told[-1].done, told[-1].total, told[-1].fraction) == (0, 4, 0)
        cached.encode(["known", "a", "bb", "a"])
        assert (told[-1].done, told[-1].total) == (2, 4)
        cached.encode(["a"], prompt="query: ")
        cached.encode(["bb", "ccc"])
    assert (told[-1].done, told[-1].total, told[-1].fraction) == (4, 4, 1)
    assert [progress.fraction for progress in told] == sorted(progress.fraction for progress in told)
    assert cached.inner.calls == 5


def test_what_nobody_expected_is_work_of_its_own(cached):
    told = []
    with watch_encoding(told.append):
        cached.expect([(None, ["a"])])
        cached.encode(["a", "b"])
    assert [(progress.done, progress.total) for progress in told] == [(0, 1), (0, 2), (2, 2)]


def test_without_a_file_repeated_texts_are_work_again(hash_encoder):
    told = []
    cached = CachedEncoder(hash_encoder, embedding_cache(None, hash_encoder.fingerprint))
    with watch_encoding(told.append):
        cached.expect([(None, ["a", "a", "b"]), (None, ["a"])])
        cached.encode(["a", "a", "b"])
        cached.encode(["a"])
    assert (told[-1].done, told[-1].total, told[-1].fraction) == (3, 3, 1)
    assert hash_encoder.calls == 3


def test_memory_vectors_are_kept_in_a_file_of_their_own(tmp_path, hash_encoder):
    for calls in (2, 2):
        with (
            closing(embedding_cache(tmp_path, "0")) as cache,
            closing(CachedMemoryEncoder(hash_encoder, cache, lambda: memory_cache(tmp_path, "0"))) as cached,
        ):
            memory = cached.encode_memory(["one text", "another text", "one text"], prompt="p: ")
        assert memory.shape == (3, 4, 32)
        np.testing.assert_array_equal(memory[0], memory[2])
        direct = hash_encoder.encode_memory(["one text"], prompt="p: ")
        hash_encoder.calls -= 1
        np.testing.assert_allclose(memory[:1], direct, rtol=1e-3, atol=1e-3)
        assert hash_encoder.calls == calls
    assert (tmp_path / "0.memory.sqlite").is_file()
