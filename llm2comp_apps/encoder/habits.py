"""What people who know sentence-transformers expect of an encoder in Python.

One text gives one vector; whatever can be gone through in order is a list of texts; queries and documents have methods
of their own; ``batch_size``, ``normalize_embeddings``, ``similarity`` and ``to`` mean what they mean there. Two things
differ: vectors are numpy arrays, and rows are of unit length unless ``normalize_embeddings=False`` asks for the others.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["EncoderHabits", "one_or_many"]

_Self = TypeVar("_Self")
_Options = ParamSpec("_Options")
Texts = str | Iterable[str]
"""One text, or several in order: a list, an array, a column, a generator."""


def one_or_many(
    encode: Callable[Concatenate[_Self, Texts, _Options], FloatArray],
) -> Callable[Concatenate[_Self, Texts, _Options], FloatArray]:
    """Let a method that encodes several texts take a single one too, and give its vector without the first axis."""

    @functools.wraps(encode)
    def wrapped(self: _Self, texts: Texts, *args: _Options.args, **options: _Options.kwargs) -> FloatArray:
        if isinstance(texts, str):
            vectors: FloatArray = encode(self, [texts], *args, **options)[0]
            return vectors
        return encode(self, texts, *args, **options)

    return wrapped


class EncoderHabits(ABC):
    """Methods of every encoder of ours that need nothing but ``encode``."""

    prompts: dict[str, str]

    @abstractmethod
    def encode(self, texts: Texts, *, prompt: str | None = None) -> FloatArray:
        """Embed texts."""

    def encode_query(self, texts: Texts, **options: Any) -> FloatArray:
        """Embed queries: ``encode`` with the encoder's prompt for them."""
        return self.encode(texts, prompt=self.prompts.get("query"), **options)

    def encode_document(self, texts: Texts, **options: Any) -> FloatArray:
        """Embed documents: ``encode`` with the encoder's prompt for them, if it has one."""
        return self.encode(texts, prompt=self.prompts.get("document"), **options)

    def similarity(self, first: npt.ArrayLike, second: npt.ArrayLike) -> FloatArray:
        """Cosines ``(n, m)`` of ``(n, d)`` vectors with ``(m, d)`` vectors; a single vector counts as one row."""
        return _unit_rows(first) @ _unit_rows(second).T


def _unit_rows(vectors: npt.ArrayLike) -> FloatArray:
    rows = np.atleast_2d(np.asarray(vectors, dtype=np.float32))
    unit: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=-1, keepdims=True), 1e-12)
    return unit
