"""Embeddings kept on disk, by content: a second metric, an interrupted table or a repeated run costs nothing.

One SQLite file per encoder fingerprint holds ``sha256(prompt, text) -> float32 row``. Each block of texts is committed
as soon as it is embedded, so an evaluation that was stopped continues inside the corpus where it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from llm2comp_apps.encoder.batching import encode_in_windows
from llm2comp_apps.encoder.embedding_store import EmbeddingStore
from llm2comp_apps.encoder.progress import EncodingMeter, watcher
from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder

__all__ = ["CachedEncoder", "embedding_cache"]

_BLOCK = 1024


def embedding_cache(directory: Path, fingerprint: str) -> EmbeddingStore:
    """What is known of one encoder's embeddings: ``directory/FINGERPRINT.sqlite``."""
    return EmbeddingStore(directory / f"{fingerprint[:32]}.sqlite", "<f4")


class CachedEncoder:
    """A :class:`TextEncoder` that asks ``cache`` first and embeds each distinct text once."""

    def __init__(self, encoder: TextEncoder, cache: EmbeddingStore) -> None:
        self.inner = encoder
        self.cache = cache

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
        meter = EncodingMeter(self.inner, watcher(), texts=list(missing.values()))
        for start in range(0, len(todo), _BLOCK):
            block = todo[start : start + _BLOCK]
            vectors = meter.encode([text for _, text in block], prompt=prompt, show_progress=show_progress)
            block_keys = [key for key, _ in block]
            self.cache.put(block_keys, vectors)
            rows.update(zip(block_keys, vectors, strict=True))
        return np.stack([rows[key] for key in keys])

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """Embed a stream block by block; see :meth:`TextEncoder.encode_stream`."""
        return encode_in_windows(texts, _BLOCK, lambda held: self.encode(held, prompt=prompt))


def _key(prompt: str | None, text: str) -> bytes:
    # A length prefix keeps (prompt, text) pairs apart that concatenate to the same string.
    head = (prompt or "").encode()
    return hashlib.sha256(b"%d:" % len(head) + head + text.encode("utf-8", "surrogatepass")).digest()
