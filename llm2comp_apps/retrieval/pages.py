"""A page of hits, and what the documents behind all pages have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from llm2comp_apps.retrieval.hits import SearchHit

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["FACET_DEPTH", "FacetCounts", "SearchPage", "facet_counts"]

FACET_DEPTH = 200
"""Hits whose fields are counted at least: those that a query is about, and not the whole index."""

FacetCounts: TypeAlias = dict[str, tuple[tuple[str | float, int], ...]]
"""For each field how many hits have each value, the most frequent first."""

_MOST_VALUES = 100


@dataclass(frozen=True, slots=True)
class SearchPage:
    """Some of the hits of a query.

    Attributes:
        hits: best first; ranks count on from the pages before.
        total: hits that were found in all; there may be more below them where it equals ``depth``.
        depth: hits that were looked for.
        ids: of all hits that were found, best first.
        facets: values of the fields that were asked for, among all hits that were found.
    """

    hits: list[SearchHit]
    total: int
    depth: int
    ids: list[str]
    facets: FacetCounts = field(default_factory=dict)


def facet_counts(index: Index, fields: Sequence[str], ids: Sequence[str]) -> FacetCounts:
    """Count the values of fields among documents; of a field with very many values, the most frequent."""
    return {name: index.value_counts(name, ids)[:_MOST_VALUES] for name in fields}
