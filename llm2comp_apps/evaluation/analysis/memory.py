"""The memory vectors before pooling: how alike they are, and the same encoder read through other poolings of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray, MakesMemory

__all__ = ["MemoryBank", "PooledMemory", "first_k", "memory_correlation", "pooled_as"]

Pool = Callable[[FloatArray], FloatArray]


def memory_correlation(memory: FloatArray) -> FloatArray:
    """Pearson correlation between each two memory vectors of a text (over the d dimensions), averaged over texts.

    Args:
        memory: ``(n, k, d)``.

    Returns:
        ``(k, k)``, ones on the diagonal.
    """
    rows = memory.astype(np.float64)
    rows -= rows.mean(axis=2, keepdims=True)
    rows /= np.maximum(np.linalg.norm(rows, axis=2, keepdims=True), 1e-12)
    correlation: FloatArray = np.einsum("nid,njd->ij", rows, rows) / len(rows)
    return correlation


def first_k(k: int) -> Pool:
    """Mean of a text's first ``k`` memory vectors."""
    return lambda memory: memory[:, :k].mean(axis=1)


def pooled_as(pooling: str) -> Pool:
    """One of the encoder's own poolings: ``mean``, ``merge`` or ``first``."""

    def apply(memory: FloatArray) -> FloatArray:
        import torch

        from llm2comp_apps.encoder.pooling import pool

        pooled: FloatArray = pool(torch.from_numpy(memory), pooling).numpy()
        return pooled

    return apply


class MemoryBank:
    """Memory vectors of every text seen, in RAM, so that each further pooling costs no forward pass."""

    def __init__(self, encoder: MakesMemory) -> None:
        self.encoder = encoder
        self._rows: dict[tuple[str, str], FloatArray] = {}

    def memory(self, texts: Sequence[str], prompt: str | None) -> FloatArray:
        """``(n, k, d)`` in the order of ``texts``."""
        head = prompt or ""
        missing = list(dict.fromkeys(text for text in texts if (head, text) not in self._rows))
        if missing:
            rows = self.encoder.encode_memory(missing, prompt=prompt)
            self._rows.update(((head, text), row) for text, row in zip(missing, rows, strict=True))
        return np.stack([self._rows[head, text] for text in texts])


class PooledMemory:
    """A :class:`MakesMemory` read through ``pool``: a :class:`TextEncoder` of its own."""

    def __init__(self, bank: MemoryBank, label: str, pool: Pool) -> None:
        self._bank = bank
        self._pool = pool
        self.name = f"{bank.encoder.name}@{label}"
        self.fingerprint = hashlib.sha256(f"{bank.encoder.fingerprint}@{label}".encode()).hexdigest()
        self.dimension = bank.encoder.dimension
        self.prompts = bank.encoder.prompts

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        show_progress: bool = False,  # noqa: ARG002 - protocol
    ) -> FloatArray:
        """Pool and normalise the memory of ``texts``; see :meth:`TextEncoder.encode`."""
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        pooled = self._pool(self._bank.memory(texts, prompt))
        unit: FloatArray = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), np.float32(1e-12))
        return unit

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """One block of everything: a bank holds all it has seen anyway."""
        yield self.encode(list(texts), prompt=prompt)
