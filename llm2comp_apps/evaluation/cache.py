"""Embeddings kept on disk, by content: a second metric, an interrupted table or a repeated run costs nothing.

One SQLite file per encoder fingerprint holds ``sha256(prompt, text) -> float32 row``. Each block of texts is committed
as soon as it is embedded, so an evaluation that was stopped continues inside the corpus where it was. Memory vectors,
which rerankers read, have a file of their own and half the bytes a number.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from llm2comp_apps.encoder.batching import encode_in_windows
from llm2comp_apps.encoder.embedding_store import EmbeddingStore
from llm2comp_apps.encoder.progress import EncodingMeter, watcher
from llm2comp_apps.encoder.protocol import FloatArray, MakesMemory, ReadsTokens, TextEncoder
from llm2comp_apps.encoder.token_states import TokenStates

__all__ = ["CachedEncoder", "CachedMemoryEncoder", "CachedTokenEncoder", "embedding_cache", "memory_cache"]

_BLOCK = 1024
_MEMORY_BLOCK = 256


def embedding_cache(directory: Path | None, fingerprint: str) -> EmbeddingStore:
    """What is known of one encoder's embeddings: ``directory/FINGERPRINT.sqlite``; ``None`` keeps nothing."""
    return EmbeddingStore(directory and directory / f"{fingerprint[:32]}.sqlite", "<f4")


def memory_cache(directory: Path | None, fingerprint: str) -> EmbeddingStore:
    """What is known of one encoder's memory vectors: ``directory/FINGERPRINT.memory.sqlite``; as above."""
    return EmbeddingStore(directory and directory / f"{fingerprint[:32]}.memory.sqlite", "<f2")


class CachedEncoder:
    """A :class:`TextEncoder` that asks ``cache`` first and embeds each distinct text once."""

    def __init__(self, encoder: TextEncoder, cache: EmbeddingStore) -> None:
        self.inner = encoder
        self.cache = cache
        self._expected: Counter[bytes] = Counter()
        self._meter = EncodingMeter(encoder, None)

    @property
    def name(self) -> str:
        """The wrapped encoder's name."""
        return self.inner.name

    @property
    def fingerprint(self) -> str:
        """The wrapped encoder's fingerprint."""
        return self.inner.fingerprint

    @property
    def dimension(self) -> int:
        """The wrapped encoder's dimension."""
        return self.inner.dimension

    @property
    def prompts(self) -> dict[str, str]:
        """The wrapped encoder's prompts."""
        return self.inner.prompts

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> FloatArray:
        """Embed ``texts``; see :meth:`TextEncoder.encode`."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        keys = [_key(prompt, text) for text in texts]
        rows = self.cache.get(list(dict.fromkeys(keys)), self.dimension)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in rows}
        # Similar lengths together: the encoder pads less, and the longest (slowest) come first.
        todo = sorted(missing.items(), key=lambda item: -len(item[1]))
        meter = self._meter_of(missing)
        for start in range(0, len(todo), _BLOCK):
            block = todo[start : start + _BLOCK]
            vectors = meter.encode([text for _, text in block], prompt=prompt, show_progress=show_progress)
            block_keys = [key for key, _ in block]
            self.cache.put(block_keys, vectors)
            rows.update(zip(block_keys, vectors, strict=True))
        return np.stack([rows[key] for key in keys])

    def learn(self, prompt: str | None, texts: Sequence[str], vectors: FloatArray) -> None:
        """Keep vectors ``(n, d)`` of texts that this encoder made elsewhere."""
        self.cache.put([_key(prompt, text) for text in texts], vectors)

    def expect(self, texts: Iterable[tuple[str | None, Sequence[str]]]) -> None:
        """Say what calls of :meth:`encode` will be asked for, so that their progress is told as that of one work.

        Args:
            texts: prompt and texts of each call; what the cache has is no work.
        """
        self._expected.clear()
        self._meter = EncodingMeter(self.inner, watcher(), texts=[])
        for prompt, asked in texts:
            wanted = {_key(prompt, text): text for text in asked}
            there = self.cache.known(list(wanted))
            if self.cache.path is not None:
                there |= wanted.keys() & self._expected.keys()
            new = wanted.keys() - there
            self._expected.update(new)
            self._meter.expect(wanted[key] for key in new)
        if self._expected:
            self._meter.begin()

    def _meter_of(self, missing: dict[bytes, str]) -> EncodingMeter:
        """What measures the encoding of texts: all of the work, if they were expected."""
        if not all(self._expected[key] for key in missing):
            meter = EncodingMeter(self.inner, watcher(), texts=list(missing.values()))
            meter.begin()
            return meter
        self._expected.subtract(missing.keys())
        return self._meter

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """Embed a stream block by block; see :meth:`TextEncoder.encode_stream`."""
        return encode_in_windows(texts, _BLOCK, lambda held: self.encode(held, prompt=prompt))


class CachedMemoryEncoder(CachedEncoder):
    """The same of an encoder with memory vectors, which are kept in a file that is made when they are asked for."""

    inner: MakesMemory

    def __init__(self, encoder: MakesMemory, cache: EmbeddingStore, open_memory: Callable[[], EmbeddingStore]) -> None:
        super().__init__(encoder, cache)
        self._open_memory = open_memory
        self._memory: EmbeddingStore | None = None

    @property
    def k(self) -> int:
        """The wrapped encoder's number of memory vectors."""
        return self.inner.k

    @property
    def pooling(self) -> str:
        """The wrapped encoder's pooling."""
        return self.inner.pooling

    def encode_memory(self, texts: Sequence[str], *, prompt: str | None = None) -> FloatArray:
        """Memory vectors ``(n, k, d)``; see :meth:`.MakesMemory.encode_memory`."""
        if self._memory is None:
            self._memory = self._open_memory()
        size = self.k * self.dimension
        keys = [_key(prompt, text) for text in texts]
        rows = self._memory.get(list(dict.fromkeys(keys)), size)
        missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in rows}
        todo = sorted(missing.items(), key=lambda item: -len(item[1]))
        for start in range(0, len(todo), _MEMORY_BLOCK):
            block = todo[start : start + _MEMORY_BLOCK]
            made = self.inner.encode_memory([text for _, text in block], prompt=prompt)
            flat = made.reshape(len(block), size).astype(np.float16)  # as it is read back: a second run scores the same
            block_keys = [key for key, _ in block]
            self._memory.put(block_keys, flat)
            rows.update(zip(block_keys, flat, strict=True))
        memory: FloatArray = np.zeros((len(texts), size), dtype=np.float32)
        for place, key in enumerate(keys):
            memory[place] = rows[key]
        return memory.reshape(len(texts), self.k, self.dimension)

    def close(self) -> None:
        """Close the file of memory vectors, if it was opened; the other one is its owner's."""
        if self._memory is not None:
            self._memory.close()


class _MakesBoth(MakesMemory, ReadsTokens, Protocol):
    """An encoder of ours."""


class CachedTokenEncoder(CachedMemoryEncoder):
    """The same of an encoder that shows the tokens of texts, too; these are made anew each time."""

    inner: _MakesBoth

    def encode_tokens(self, texts: Sequence[str], *, max_length: int | None = None) -> list[TokenStates]:
        """See :meth:`.ReadsTokens.encode_tokens`."""
        return self.inner.encode_tokens(texts, max_length=max_length)


def _key(prompt: str | None, text: str) -> bytes:
    # A length prefix keeps (prompt, text) pairs apart that concatenate to the same string.
    head = (prompt or "").encode()
    return hashlib.sha256(b"%d:" % len(head) + head + text.encode("utf-8", "surrogatepass")).digest()
