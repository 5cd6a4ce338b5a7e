r"""Learning to rank: a small network that orders the hits of a hybrid search by what is known of each.

.. math:: s(x) = w \cdot x + v \cdot \max(0, A x + b)

with the :mod:`features <.ltr_features>` x of a hit. It is learned from queries with known answers, by the listwise loss
of Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007, with an equal share for each
answer. ``train/studies/ltr.py`` makes it, and says on which data.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from llm2comp_indexes import DEFAULT_LANGUAGE

from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.rerank.ltr_features import FEATURES, features, scaled
from llm2comp_apps.retrieval.rerank.protocol import FirstSearch, Passage

__all__ = ["ONLY_HYBRID", "SHIPPED", "LtrReranker", "Network"]

SHIPPED = Path(__file__).with_name("ltr.json")
"""The network that the package has."""

ONLY_HYBRID = "cannot be ltr here: it reads what a hybrid search knows of its hits; words needs their texts alone"
"""Why there is no score without such a search."""
_WEIGHTS = ("linear", "inner", "bias", "outer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """The weights.

    Attributes:
        linear: w, ``(f,)``.
        inner: A, ``(h, f)``.
        bias: b, ``(h,)``.
        outer: v, ``(h,)``.
    """

    linear: FloatArray
    inner: FloatArray
    bias: FloatArray
    outer: FloatArray

    @classmethod
    def read(cls, path: Path = SHIPPED) -> Self:
        """A network from its file, whose features must be those of this version."""
        made = cls.of(json.loads(path.read_text(encoding="utf-8")))
        if made is None:
            raise ValueError(f"{path}: made for other features than this version has")
        return made

    @classmethod
    def of(cls, record: Mapping[str, Any] | None) -> Self | None:
        """A network from plain data; ``None`` if there are none, or of other features than this version has."""
        if record is None or tuple(record["features"]) != FEATURES:
            return None
        return cls(**{name: np.array(record[name], dtype=np.float32) for name in _WEIGHTS})

    def record(self) -> dict[str, Any]:
        """The network as plain data, rounded to what matters."""
        weights = {name: np.round(getattr(self, name).astype(np.float64), 4).tolist() for name in _WEIGHTS}
        return {"features": list(FEATURES), **weights}

    def scores(self, rows: FloatArray) -> FloatArray:
        """Scores ``(n,)`` of hits by their features ``(n, f)``."""
        inner = np.maximum(rows @ self.inner.T + self.bias, 0)
        found: FloatArray = rows @ self.linear + inner @ self.outer
        return found

    def beside(self, first: FloatArray, rows: FloatArray, share: float) -> FloatArray:
        """Scores ``(n,)`` with this weight beside those of the first search, both from 0 to 1."""
        return ((1 - share) * first + share * scaled(self.scores(rows))).astype(np.float32)


class LtrReranker:
    """Scores hits by all that is known of them.

    Args:
        language: of their words, as the lexical index takes it.
        network: ``None`` for the one that the package has.
        share: weight of its scores beside those of the first search.
    """

    share = 0.7
    """Weight beside the first search. On kinds of sets that it has not seen, it brings as much on average as by itself,
    and lowers none by more than a tenth of a point."""
    reads_first = True
    compares_all = True
    """A score depends on all hits; they cannot be read in portions."""

    def __init__(
        self, language: str = DEFAULT_LANGUAGE, network: Network | None = None, *, share: float = share
    ) -> None:
        self._language, self._network, self.share = language, network or _shipped(), share

    def score(self, query: str, passages: Sequence[Passage], first: FirstSearch | None = None) -> FloatArray:
        """See :class:`ReadsFirst`; from 0 for the last to 1 for the best."""
        if first is None:
            raise UsageError(ONLY_HYBRID, field="rerank")
        if not passages:
            return np.zeros(0, np.float32)
        return scaled(self._network.scores(features(query, passages, first, self._language))).astype(np.float32)

    @classmethod
    def of(cls, settings: Mapping[str, Any], language: str) -> Self:
        """The reranker of an index: with the network that it has learned, or the one that the package has."""
        own = Network.of(settings.get("ltr"))
        return cls(language) if own is None else cls(language, own, share=settings["ltr"]["share"])


@functools.cache
def _shipped() -> Network:
    return Network.read()
