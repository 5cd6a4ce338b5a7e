"""The options that say how an index is searched, with what, and where the hits go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from llm2comp_apps.cli.options.common import k_option, output_option
from llm2comp_apps.cli.options.expand import Group, option, spelled

__all__ = ["CALL", "SEARCH"]


def _make(**values: Any) -> Any:
    from llm2comp_apps.retrieval.options import SearchOptions

    return SearchOptions(**values)


_OPERATORS = (
    'Understand "a phrase", +must, -must-not, title:word and begin* where words are compared. '
    "[default: in a typed query, not in --queries]"
)

_MODE = "Search by dense (meaning), lexical (words) or hybrid (both)."
_FUSION = "Fusion of meaning and words: weighted, minmax, rrf, or learned (index tune)."
_ALPHA = "Weight of meaning beside words, from 0 to 1. [default: by how decisive either is for the query]"

_DEPTH = "Number of hits that --rerank scores again. [default: 100, as far as --rerank-ms allows]"
_TIME = "Milliseconds for that; the rest keeps its order. 0: no limit. [default: 500 for one query and a model]"
_PASSAGES = "Find passages, the chunks of documents, as hits of their own."

SEARCH = Group(
    _make,
    (
        spelled("k", Annotated[int, k_option("Number of hits.")], 10),
        option("mode", str, "hybrid", "MODE", _MODE),
        option("fusion", str, "weighted", "METHOD", _FUSION),
        option("alpha", float | None, None, "SHARE", _ALPHA),
        option("rerank_depth", int | None, None, "N", _DEPTH),
        option("rerank_ms", float | None, None, "MS", _TIME),
        option("operators", bool | None, None, None, _OPERATORS, flag="--operators/--no-operators"),
        option("where", str | None, None, "CONDITION", "Condition on fields that each hit must meet."),
        option("passages", bool, False, None, _PASSAGES, flag="--passages"),
    ),
)
"""The fields of :class:`~llm2comp_apps.retrieval.options.SearchOptions`."""

_INDEX = "Index to search; several are searched as one. [default: $LLM2COMP_INDEX, else the one *.index here]"
_RERANK = (
    "Score the best hits again: ltr, words, tokens; a reranker's folder or name; experimental: memory, upr, likelihood "
    "(the last not with default)."
)
_QUERIES = (
    "Many queries: _id and text (or qid and query) in any corpus format, .txt with one a line, or the queries.jsonl "
    "of a BEIR folder."
)
_FORMAT = "Format of a run over --queries: trec or json (lines)."
_OUTPUT = output_option("FILE", "Output file of the run. [default: stdout]")
_QUERY_ENCODER = "Encoder of the queries: one aligned to the index's own."
CALL = (
    option("index", list[Path] | None, None, "DIR", _INDEX),
    option("rerank", str | None, None, "MODEL", _RERANK),
    option("queries", Path | None, None, "FILE", _QUERIES),
    option("format", str | None, None, "FORMAT", _FORMAT),
    spelled("output", Annotated[Path | None, _OUTPUT]),
    option("show", list[str] | None, None, "FIELD", "Field to show with each hit; can be repeated."),
    option("like", str | None, None, "ID", "Search for what is nearest to this document, instead of a query."),
    option("query_encoder", str | None, None, "NAME", _QUERY_ENCODER),
    option("timings", bool, False, None, "Print on stderr where the time went."),
)
