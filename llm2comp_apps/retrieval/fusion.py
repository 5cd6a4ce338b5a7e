"""Joining the two rankings of one query, by meaning and by words, into one.

All functions take rankings (best first, as ``(id, score)``), count a document that a ranking lacks as nothing, and
break ties by id, so that equal input gives equal output. None looks at documents or encoders.

Which one: ``weighted``, the default, asks of each query how decisive either side is, and weighs them by it
(:func:`share_of_meaning`). On texts of science, where words decide, it scores like equal weights; on how-to questions,
whose words stand everywhere, like meaning alone. ``minmax`` weighs all queries alike, ``rrf`` looks at ranks only and
does not care about outliers. ``learned`` is ``weighted`` with weights of the index (:mod:`.learned`).
docs/results/encoders.md has all of them on all sets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import fmean, pstdev
from typing import Literal, TypeAlias, get_args

from llm2comp_indexes import QueryWords

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.query_text import check_number

__all__ = [
    "RRF_K",
    "Fusion",
    "Ranking",
    "check_fusion",
    "fuse",
    "min_max_average",
    "reciprocal_rank_fusion",
    "share_of_meaning",
    "weighted_average",
]

Ranking: TypeAlias = Sequence[tuple[str, float]]
Fusion: TypeAlias = Literal["weighted", "minmax", "rrf", "learned"]

#: The constant of Cormack et al.; the larger, the less the first ranks stand out.
RRF_K = 60
#: Best documents of a ranking that are compared with its first.
_NEXT = slice(1, 10)
#: Documents of a dense ranking that the first is compared with; as many as a hybrid search asks for.
_FIELD = 200
#: How the weight of words to meaning grows, by its logarithm. Fitted on train queries alone: SciFact's, questions about
#: Python's documentation and man pages, and samples of training pairs (questions, claims and headlines to passages),
#: with two encoders, so that no set falls far below its better side.
_WORDS_AT_REST = -1.1
_BY_COVERAGE = 4.9  # share of the query's words that its best document holds, weighed by rarity
_BY_LENGTH = 0.5  # logarithm of the number of words that say something
_BY_LEAD_OF_WORDS = 1.6  # share by which the first is ahead of the next
_BY_LEAD_OF_MEANING = -0.6  # deviations by which the first is ahead of the field
_MOST_TIMES = 20.0  # neither side ever weighs more than so many times the other


def check_fusion(fusion: str, alpha: float | None) -> None:
    """Refuse an unknown method, and a share of meaning that is none.

    Raises:
        UsageError: names the setting.
    """
    if fusion not in get_args(Fusion):
        raise UsageError(f"must be one of {', '.join(get_args(Fusion))}, not {fusion!r}", field="fusion")
    check_number(alpha, "alpha")
    if alpha is not None and not 0 <= alpha <= 1:
        raise UsageError(f"must be from 0 (words alone) to 1 (meaning alone), not {alpha:g}", field="alpha")
    if alpha is not None and fusion == "rrf":
        raise UsageError("weighs scores, and `fusion=rrf` looks at ranks alone", field="alpha")
    if alpha is not None and fusion == "learned":
        raise UsageError("says what `fusion=learned` has learned; leave one of them out", field="alpha")


def share_of_meaning(dense: Ranking, lexical: Ranking, words: QueryWords) -> float:
    r"""The weight of meaning for one query, by how decisive either side is; words get the rest.

    .. math:: \ln \frac{1 - \alpha}{\alpha} = b_0 + b_1 \frac{l_1}{m} + b_2 \ln n + b_3 \left(1 -
        \frac{\bar{l}_{2..10}}{l_1}\right) + b_4 \frac{d_1 - \bar{d}}{\sigma_d}

    with :math:`l_i` and :math:`d_i` the lexical and dense scores, best first, m the most that BM25 gives for the query,
    n its words that say something, and mean and deviation of the 200 nearest documents.

    Args:
        dense: best first.
        lexical: best first.
        words: of the query in the index.

    Returns:
        From 1/21 to 20/21; 1 where no word was found, and 0 where nothing is near.
    """
    if not lexical or words.most <= 0:
        return 1.0
    if not dense:
        return 0.0
    scores, near = [score for _, score in lexical], [score for _, score in dense[:_FIELD]]
    deviation = pstdev(near)
    lead_of_words = 1 - fmean(scores[_NEXT]) / scores[0] if len(scores) > 2 else 1.0
    lead_of_meaning = (near[0] - fmean(near)) / deviation if deviation > 0 else 0.0
    logarithm = (
        _WORDS_AT_REST
        + _BY_COVERAGE * scores[0] / words.most
        + _BY_LENGTH * math.log(max(words.content, 1))
        + _BY_LEAD_OF_WORDS * lead_of_words
        + _BY_LEAD_OF_MEANING * lead_of_meaning
    )
    ratio = min(max(math.exp(min(logarithm, 50.0)), 1 / _MOST_TIMES), _MOST_TIMES)
    return 1 / (1 + ratio)


def weighted_average(
    dense: Ranking, lexical: Ranking, words: QueryWords, alpha: float | None = None
) -> list[tuple[str, float]]:
    r"""Weighted mean of meaning and words, with scores that mean the same for every query.

    Documents are ordered by

    .. math:: \alpha \frac{d - \min d}{\max d - \min d} + (1 - \alpha) \frac{l}{\max l}

    Each side is thereby stretched, which would let the best of a bad lot look good. The scores that are returned are
    not: they are the same sum, divided by its weights for the cosine d and the coverage :math:`l / m` of the query's
    words. So they keep the order, and are a mean of two numbers that mean the same for every query: a document that has
    nothing to do with it is near 0, and one that says the same in the same words near 1.

    Args:
        dense: best first; a document that it lacks is as far as its last.
        lexical: best first; a document that it lacks covers nothing.
        words: of the query in the index.
        alpha: weight of meaning, from 0 to 1; ``None`` for :func:`share_of_meaning`.

    Returns:
        ``(id, score)``, best first.
    """
    share = share_of_meaning(dense, lexical, words) if alpha is None else alpha
    near, found = dict(dense), dict(lexical)
    low, high = (min(near.values()), max(near.values())) if near else (0.0, 0.0)
    floor = low if high > low else low - 1.0
    most = max(words.most, 1e-9)
    of_meaning = share / (high - floor) if near else 0.0
    of_words = (1 - share) * most / max(found.values()) if found else 0.0
    total = (of_meaning + of_words) or 1.0
    return _best_first(
        (document, (of_meaning * near.get(document, floor) + of_words * found.get(document, 0.0) / most) / total)
        for document in {**near, **found}
    )


def min_max_average(rankings: Sequence[Ranking], weights: Sequence[float] | None = None) -> list[tuple[str, float]]:
    r"""Mean of the scores after each ranking is scaled to [0, 1].

    .. math:: f(d) = \sum_{i=1}^{n} w_i \frac{s_i(d) - \min s_i}{\max s_i - \min s_i}

    A term is 0 where ranking i lacks d, and 1 for every document of a ranking whose scores are all equal. An empty
    ranking is an opinion too ("nothing matches") and keeps its weight, so that scores stay comparable between queries.

    Source: Bruch, Gai, Ingber, "An Analysis of Fusion Functions for Hybrid Retrieval", TOIS 2023 (arXiv 2210.11934),
    convex combination with equal weights; CombSUM of Fox and Shaw, TREC-2, 1994, up to the factor.

    Args:
        rankings: one per retriever; the order inside a ranking does not matter, only its scores do.
        weights: one per ranking, with a sum of 1; equal ones by default.

    Returns:
        ``(id, score)`` with scores in [0, 1], best first.
    """
    fused: dict[str, float] = {}
    equal = [1 / max(len(rankings), 1)] * len(rankings)
    for ranking, weight in zip(rankings, weights or equal, strict=True):
        if not ranking:
            continue
        scores = [score for _, score in ranking]
        low, high = min(scores), max(scores)
        for document, score in ranking:
            scaled = (score - low) / (high - low) if high > low else 1.0
            fused[document] = fused.get(document, 0.0) + weight * scaled
    return _best_first(fused.items())


def reciprocal_rank_fusion(rankings: Sequence[Ranking], constant: int = RRF_K) -> list[tuple[str, float]]:
    r"""Sum of reciprocal ranks.

    .. math:: f(d) = \sum_{i=1}^{n} \frac{1}{c + r_i(d)}

    with :math:`r_i(d)` the rank of d in ranking i, counted from 1; a term is 0 where ranking i lacks d.

    Source: Cormack, Clarke, Buettcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods", SIGIR 2009, where c = 60.

    Args:
        rankings: one per retriever, best first; scores are ignored.
        constant: c.

    Returns:
        ``(id, score)``, best first.
    """
    fused: dict[str, float] = {}
    for ranking in rankings:
        for rank, (document, _) in enumerate(ranking, start=1):
            fused[document] = fused.get(document, 0.0) + 1.0 / (constant + rank)
    return _best_first(fused.items())


def fuse(
    dense: Ranking, lexical: Ranking, words: QueryWords, *, fusion: Fusion = "weighted", alpha: float | None = None
) -> list[tuple[str, float]]:
    """Join both sides by the method's name.

    Args:
        dense: by meaning, best first.
        lexical: by words, best first.
        words: of the query in the index; see :meth:`llm2comp_indexes.Index.query_words`.
        fusion: the method.
        alpha: weight of meaning from 0 to 1; by default of the query's own (``weighted``), or a half (``minmax``).

    Raises:
        UsageError: there is no such method, or it takes no such weight.
    """
    if fusion != "learned":  # whose weight comes with the call
        check_fusion(fusion, alpha)
    if fusion == "rrf":
        return reciprocal_rank_fusion([dense, lexical])
    if fusion == "minmax":
        share = 0.5 if alpha is None else alpha
        return min_max_average([dense, lexical], [share, 1 - share])
    return weighted_average(dense, lexical, words, alpha)


def _best_first(scored: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))
