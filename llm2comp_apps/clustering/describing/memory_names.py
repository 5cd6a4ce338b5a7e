"""A second name for a topic, which the language model writes from the memory vectors of its documents.

The memory of a text stands for it in the language model's input, so the mean of several is a reading of what they have
in common. Whether that gives a better name than the texts themselves, or the keywords, is asked of the model: to what
names gain by texts (:mod:`.llm_names`) comes what they gain by memory,

    log g(name given the mean memory) - log g(name given memory at its centre)

Only encoders whose training ended with compression have this way (:mod:`llm2comp_apps.encoder.decoding`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import LLM2CompError

__all__ = ["MemoryNamer", "ReadsMemory", "memory_namer"]

_PROMPT = "\nTitle:"
_NEW_TOKENS = 12
_COMPRESSION = ("rc", "nll", "kl")  # stages


class ReadsMemory(Protocol):
    """What is asked of a :class:`~llm2comp_apps.encoder.decoding.MemoryReader`."""

    @property
    def center(self) -> FloatArray:
        """Memory that says nothing, ``(k, d)``."""
        ...

    def memory(self, texts: Sequence[str]) -> FloatArray:
        """Memory vectors ``(n, k, d)``."""
        ...

    def write(self, memory: FloatArray, *, tokens: int, prompt: str) -> list[str]:
        """What the language model writes behind memory and prompt."""
        ...

    def likelihood(self, texts: Sequence[str], memory: FloatArray, *, prompt: str) -> FloatArray:
        """Mean log-likelihoods ``(n,)`` of texts behind memory and prompt."""
        ...


class MemoryNamer:
    """Names from memory, and what names gain by it."""

    def __init__(self, reader: ReadsMemory) -> None:
        self._reader = reader
        self._last: tuple[tuple[str, ...], FloatArray] | None = None

    def write(self, documents: Sequence[str]) -> str:
        """What the model writes as a title of documents, from the mean of their memory vectors."""
        return self._reader.write(self._mean(documents), tokens=_NEW_TOKENS, prompt=_PROMPT)[0]

    def gains(self, names: Sequence[str], documents: Sequence[str]) -> FloatArray:
        """What each name gains a token, ``(n,)`` in nats, when the mean memory of documents is read."""
        texts = [f" {name}" for name in names]
        read = self._mean(documents).repeat(len(names), axis=0)
        nothing = self._reader.center[None].repeat(len(names), axis=0)
        told = self._reader.likelihood(texts, read, prompt=_PROMPT)
        untold = self._reader.likelihood(texts, nothing, prompt=_PROMPT)
        gains: FloatArray = told - untold
        return gains

    def _mean(self, documents: Sequence[str]) -> FloatArray:
        if self._last is None or self._last[0] != tuple(documents):
            self._last = tuple(documents), self._reader.memory(documents).mean(axis=0, keepdims=True)
        return self._last[1]


def memory_namer(encoder: str, device: str | None = None) -> MemoryNamer | None:
    """The namer of an encoder by name; ``None`` where its memory cannot be read back, or it is no longer there.

    Contrast moves memory away from what the language model learned to read. It then writes titles of other things, and
    finds them likely, so the last stage of training has to be one of compression.
    """
    from llm2comp_apps.encoder.locate import locate_checkpoint
    from llm2comp_apps.encoder.names import parse_name
    from llm2comp_apps.encoder.settings import read_settings

    try:
        parsed = parse_name(encoder)
        if parsed.kind != "checkpoint":
            return None
        if read_settings(locate_checkpoint(parsed.target)).training.get("stage") not in _COMPRESSION:
            return None
        from llm2comp_apps.encoder.decoding import load_reader

        return MemoryNamer(load_reader(encoder, device=device))
    except LLM2CompError:
        return None
