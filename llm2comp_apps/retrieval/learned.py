r"""Weights of meaning, words and a reranker that were learned for one index; :mod:`.tuning` learns them.

What is learned changes the weight :math:`\alpha` that each query has by itself (:func:`.fusion.share_of_meaning`):

.. math:: \ln \frac{\alpha'}{1 - \alpha'} = t \ln \frac{\alpha}{1 - \alpha} + b

With t = 1 and b = 0 it is ``weighted``; with t = 0 all queries have the same weight. Of the hits that a reranker reads,
the score is :math:`(1 - w)` times that of the first search and w times the reranker's, each scaled to [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.fusion import Ranking, share_of_meaning

if TYPE_CHECKING:
    from llm2comp_indexes import Index, QueryWords

    from llm2comp_apps.retrieval.options import SearchOptions

__all__ = ["LEARNED", "LearnedFusion", "learned_of", "weight_of_meaning"]

LEARNED = "learned"
"""The fusion by these weights, and where an index keeps them among its settings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedFusion:
    """The weights.

    Attributes:
        stretch: t, see the module.
        shift: b.
        reranker: name of the reranker that ``of_reranker`` is about; ``None`` for none.
        reranker_files: digest of its files, where it is a folder; empty where it is none, or in indexes of old.
        of_reranker: w, from 0 to 1.
    """

    stretch: float = 1.0
    shift: float = 0.0
    reranker: str | None = None
    reranker_files: str = ""
    of_reranker: float = 1.0

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Self | None:
        """The weights among the settings of an index; ``None`` if none were learned."""
        held = settings.get(LEARNED)
        return None if held is None else cls(**{name: held[name] for name in cls.__dataclass_fields__ if name in held})

    def is_about(self, reranker: str | None, files: str = "") -> bool:
        """Whether ``of_reranker`` was learned for a reranker of this name, and these files if it lies in a folder."""
        if reranker is None or self.reranker is None:
            return False
        known, asked = Path(self.reranker), Path(reranker)
        if reranker != self.reranker and not (known.is_dir() and asked.is_dir() and known.samefile(asked)):
            return False
        return not self.reranker_files or self.reranker_files == files

    def record(self) -> dict[str, Any]:
        """The weights as plain data."""
        return asdict(self)

    def share(self, alpha: float) -> float:
        """The weight of meaning for a query whose own is ``alpha``; a side that found nothing keeps no weight."""
        if not 0 < alpha < 1:
            return alpha
        return 1 / (1 + math.exp(-(self.stretch * math.log(alpha / (1 - alpha)) + self.shift)))

    def joined(self, first: Sequence[float], reranked: Sequence[float]) -> list[float]:
        """Scores of hits by both searches, from 0 to 1: ``(n,)`` of the first search and of the reranker."""
        pairs = zip(_scaled(first), _scaled(reranked), strict=True)
        return [(1 - self.of_reranker) * one + self.of_reranker * other for one, other in pairs]


def learned_of(index: Index) -> LearnedFusion:
    """The weights of an index.

    Raises:
        UsageError: it has none.
    """
    found = LearnedFusion.of(index.settings)
    if found is None:
        more = "; what it has learned for ltr counts without" if index.settings.get("ltr") else ""
        reason = f"needs weights, and {index.path} has none: `index tune` learns them{more}"
        raise UsageError(reason, field="fusion")
    return found


def weight_of_meaning(
    index: Index, options: SearchOptions, dense: Ranking, lexical: Ranking, words: QueryWords
) -> float | None:
    """The weight of meaning for a query; ``None`` where the fusion itself finds one, or needs none.

    Raises:
        UsageError: learned weights are asked for, and the index has none.
    """
    if options.fusion != LEARNED:
        return options.alpha
    return learned_of(index).share(share_of_meaning(dense, lexical, words))


def _scaled(scores: Sequence[float]) -> list[float]:
    low, high = min(scores, default=0.0), max(scores, default=0.0)
    return [(score - low) / (high - low) if high > low else 1.0 for score in scores]
