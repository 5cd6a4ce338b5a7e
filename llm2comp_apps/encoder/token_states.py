"""What an encoder makes of single tokens: the states behind three quarters of its layers.

The memory vectors hold what a text says as a whole. Which word of a query stands where in a document is in the states
of the document's own tokens. Those of the last layers serve the memory, and those of the first know no context yet;
in between, they find the right document best (``docs/results/encoders.md``, "The tokens of `default`").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["TokenStates", "token_depth", "unit_states"]


class TokenStates(NamedTuple):
    """The tokens of a text.

    Attributes:
        ids: ``(t,)``, in the tokenizer's numbers.
        vectors: ``(t, d)`` float32 of unit length, each in the context of all others.
    """

    ids: npt.NDArray[np.int64]
    vectors: FloatArray


def token_depth(layers: int, text_layers: int | None = None) -> int:
    """Behind how many of an encoder's layers the states of tokens are read: 9 of 12, never behind the last.

    Where memory alone goes through the layers behind the first ``text_layers``, it is behind these.
    """
    return layers * 3 // 4 if text_layers is None else text_layers


def unit_states(row: list[int], states: FloatArray) -> TokenStates:
    """The states ``(t, d)`` of a row of tokens, brought to unit length."""
    lengths = np.linalg.norm(states, axis=-1, keepdims=True)
    return TokenStates(np.array(row, dtype=np.int64), states / np.maximum(lengths, 1e-12))
