"""What every text encoder offers, whoever made it: our checkpoints, training-free baselines, other models.

Retrieval, clustering and evaluation are written against :class:`TextEncoder` and nothing narrower.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

__all__ = ["FloatArray", "TextEncoder"]

FloatArray = npt.NDArray[np.float32]


@runtime_checkable
class TextEncoder(Protocol):
    """Turns texts into L2-normalised float32 rows."""

    @property
    def name(self) -> str:
        """A short name for people: ``smollm2-135m``, ``baseline:wmp(smollm2-135m)``, a directory."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of everything that changes a vector; equal fingerprints mean interchangeable vectors."""
        ...

    @property
    def dimension(self) -> int:
        """Width d of an embedding."""
        ...

    @property
    def prompts(self) -> dict[str, str]:
        """Prompts by role, for example ``{"query": "...", "document": ""}``; a missing role means no prompt."""
        ...

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> FloatArray:
        """Embed texts.

        Args:
            texts: n texts, in any order and of any length; longer ones are truncated to the encoder's maximum.
            prompt: put in front of every text (an instruction), such as ``prompts["query"]``; ``None`` for none.
            show_progress: a progress bar on stderr.

        Returns:
            ``(n, d)`` float32, rows of unit norm, in the order of ``texts``. ``(0, d)`` for no texts.
        """
        ...

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """Embed a stream of texts, holding a bounded window of them; yields ``(m, d)`` blocks in input order."""
        ...
