"""The options that say how an index is searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from llm2comp_apps.cli.options.expand import group_of

__all__ = ["SEARCH", "SearchArguments"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchArguments:
    """The settings of a search (:class:`~llm2comp_apps.retrieval.search.SearchOptions`), and the reranker."""

    k: Annotated[int, typer.Option("-k", metavar="K", help="Number of hits.")] = 10
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="Search by dense (meaning), lexical (words) or hybrid (both).")
    ] = "hybrid"
    fusion: Annotated[
        str, typer.Option("--fusion", metavar="METHOD", help="Fusion of meaning and words: minmax or rrf.")
    ] = "minmax"
    rerank: Annotated[
        str | None,
        typer.Option(
            "--rerank",
            metavar="MODEL",
            help="Score the best hits again: memory, or a cross-encoder's name or directory.",
        ),
    ] = None
    rerank_depth: Annotated[
        int | None, typer.Option("--rerank-depth", metavar="N", help="Number of hits to score again. [default: 100]")
    ] = None
    where: Annotated[
        str | None, typer.Option("--where", metavar="CONDITION", help="Condition on fields that each hit must meet.")
    ] = None


SEARCH = group_of(SearchArguments)
