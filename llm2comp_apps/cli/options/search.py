"""The options that say how an index is searched: the fields of :class:`.retrieval.search.SearchOptions`."""

from __future__ import annotations

from typing import Annotated, Any

from llm2comp_apps.cli.options.common import k_option
from llm2comp_apps.cli.options.expand import Group, option, spelled

__all__ = ["SEARCH"]


def _make(**values: Any) -> Any:
    from llm2comp_apps.retrieval.search import SearchOptions

    return SearchOptions(**values)


SEARCH = Group(
    _make,
    (
        spelled("k", Annotated[int, k_option("Number of hits.")], 10),
        option("mode", str, "hybrid", "MODE", "Search by dense (meaning), lexical (words) or hybrid (both)."),
        option("fusion", str, "minmax", "METHOD", "Fusion of meaning and words: minmax or rrf."),
        option("rerank_depth", int, 100, "N", "Number of hits that --rerank scores again."),
        option("where", str | None, None, "CONDITION", "Condition on fields that each hit must meet."),
    ),
)
