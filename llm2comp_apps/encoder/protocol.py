"""What every text encoder offers, whoever made it, and what some encoders offer besides.

Retrieval, clustering and evaluation are written against :class:`TextEncoder`. What needs more asks for one ability with
``isinstance``: :class:`CountsCut`, :class:`LimitsLength`, :class:`HasTokenizer`, :class:`MakesMemory`,
:class:`ReadsTokens`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llm2comp_apps.encoder.token_states import TokenStates

__all__ = ["CountsCut", "FloatArray", "HasTokenizer", "LimitsLength", "MakesMemory", "ReadsTokens", "TextEncoder"]

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


@runtime_checkable
class CountsCut(Protocol):
    """Counts the texts that were too long to be read whole."""

    @property
    def cut(self) -> int:
        """Texts encoded so far of which only the beginning was read."""
        ...


@runtime_checkable
class LimitsLength(Protocol):
    """Says how much of a text is read."""

    def room(self, prompt: str | None = None) -> int:
        """Tokens of a text that are read behind a prompt; what a text has beyond them is cut off."""
        ...


@runtime_checkable
class HasTokenizer(Protocol):
    """Shows the tokenizer that counts a text's tokens as the encoder does."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Called with a list of texts, it gives their ``input_ids``."""
        ...


@runtime_checkable
class MakesMemory(TextEncoder, Protocol):
    """An encoder whose embedding is pooled from k memory vectors, which it can hand out."""

    @property
    def k(self) -> int:
        """Memory vectors of a text."""
        ...

    @property
    def pooling(self) -> str:
        """How an embedding is made of them (see :mod:`llm2comp_apps.encoder.pooling`)."""
        ...

    def encode_memory(self, texts: Sequence[str], *, prompt: str | None = None) -> FloatArray:
        """Memory vectors ``(n, k, d)`` float32 of texts, not normalised."""
        ...


@runtime_checkable
class ReadsTokens(TextEncoder, Protocol):
    """An encoder that shows what it makes of single tokens."""

    def encode_tokens(self, texts: Sequence[str], *, max_length: int | None = None) -> list[TokenStates]:
        """The tokens of each text in their context, see :mod:`.token_states`.

        Args:
            texts: n texts; longer ones are cut.
            max_length: tokens of a text that are read; by default, and at most, the encoder's own.

        Raises:
            UsageError: ``max_length`` is less than 1.
        """
        ...
