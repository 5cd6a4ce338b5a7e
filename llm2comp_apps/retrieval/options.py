"""How to search: what can be set, checked before anything is opened, and documented once for all who pass it on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, TypedDict, get_args

from llm2comp_indexes import ParsedQuery, parse_query

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.conditions import check_condition
from llm2comp_apps.retrieval.fusion import Fusion, check_fusion
from llm2comp_apps.retrieval.query_text import check_count, check_time

__all__ = ["RERANK_DEPTH", "Mode", "SearchOptions", "SearchSettings"]

Mode: TypeAlias = Literal["dense", "lexical", "hybrid"]

#: Candidates that are scored again by a reranker, unless more hits are asked for.
RERANK_DEPTH = 100


class SearchSettings(TypedDict, total=False):
    """The arguments of :class:`SearchOptions`, for functions that pass them on."""

    k: int
    mode: Mode
    fusion: Fusion
    alpha: float | None
    where: str | None
    rerank_depth: int | None
    rerank_ms: float | None
    operators: bool | None
    passages: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How to search; documented once, for the API and the command line.

    Attributes:
        k: hits wanted; fewer come back only if fewer documents match.
        mode: ``dense`` compares embeddings, ``lexical`` words (BM25), ``hybrid`` joins both.
        fusion: how hybrid search joins: ``weighted``, ``minmax``, ``rrf`` (:mod:`llm2comp_apps.retrieval.fusion`), or
            ``learned`` where the index has weights of its own (:mod:`llm2comp_apps.retrieval.learned`).
        alpha: weight of meaning in a hybrid search, from 0 to 1; ``None`` for one that suits each query (``weighted``).
        where: keep only documents whose metadata meet this condition.
        rerank_depth: candidates to rerank, if there is a reranker; at least k are. ``None`` for 100, or as many of them
            as the time allows.
        rerank_ms: milliseconds for the reranking of a query: the best candidates that can be read in them change
            places, the others follow in their order. 0 for no limit. ``None``: 500 where somebody waits (``search``)
            and a model reads texts; no limit where stored vectors are compared, in runs (``rank``), and where
            ``rerank_depth`` is given.
        operators: whether quotes, ``+``, ``-``, ``title:`` and ``*`` in a query are operators
            (:mod:`llm2comp_indexes.operators`) where words are compared; in a dense search they are text. ``None``: in
            what people type (``search``), and not in runs (``rank``).
        passages: each chunk of a document is a hit of its own (:mod:`llm2comp_apps.retrieval.passages`).
    """

    k: int = 10
    mode: Mode = "hybrid"
    fusion: Fusion = "weighted"
    alpha: float | None = None
    where: str | None = None
    rerank_depth: int | None = None
    rerank_ms: float | None = None
    operators: bool | None = None
    passages: bool = False

    def __post_init__(self) -> None:
        """Refuse what no search can do.

        Raises:
            UsageError: names the setting.
            FilterError: the condition cannot be read.
        """
        check_count(self.k, "k")
        if self.rerank_depth is not None:
            check_count(self.rerank_depth, "rerank_depth")
        check_time(self.rerank_ms, "rerank_ms")
        if self.mode not in get_args(Mode):
            raise UsageError(f"must be one of {', '.join(get_args(Mode))}, not {self.mode!r}", field="mode")
        if self.alpha is not None and self.mode != "hybrid":
            raise UsageError("has no effect: only a hybrid search weighs meaning and words", field="alpha")
        if self.fusion in ("minmax", "rrf") and self.mode != "hybrid":
            raise UsageError("has no effect: only a hybrid search joins two rankings", field="fusion")
        check_fusion(self.fusion, self.alpha)
        check_condition(self.where)

    def parsed(self, queries: Sequence[str], *, typed: bool) -> list[ParsedQuery]:
        """Queries as they are understood, where ``operators`` leaves it open by whether people typed them."""
        wanted = typed if self.operators is None else self.operators
        if not wanted or self.mode == "dense":
            return [ParsedQuery(query) for query in queries]
        return [parse_query(query) for query in queries]

    def wanted(self, *, reranked: bool) -> int:
        """How many hits are wanted, or candidates of a reranker."""
        return max(self.k, self.rerank_depth or RERANK_DEPTH) if reranked else self.k
