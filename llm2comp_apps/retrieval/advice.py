"""What is no error in a search and most likely not meant: worth a word before it starts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from llm2comp_indexes import FilterError

from llm2comp_apps.retrieval.conditions import unknown_field_lines, why_nothing_lines
from llm2comp_apps.retrieval.rerank import LTR, MEMORY, TOKENS, WORDS
from llm2comp_apps.retrieval.rerank.usable import usable_lines, usable_rerankers

if TYPE_CHECKING:
    from llm2comp_indexes import Index

    from llm2comp_apps.retrieval.options import SearchOptions

__all__ = ["operator_notes", "rerank_notes", "search_notes", "search_warnings", "shown_warnings"]

_FEW = 10  # hits that nobody wonders at: the default


def search_notes(index: Index, options: SearchOptions) -> list[str]:
    """A line if more hits are wanted than there are documents."""
    if options.passages or options.k <= max(len(index), _FEW):
        return []
    which = "all of them" if options.mode != "lexical" and options.where is None else "all that match"
    return [f"{len(index)} documents in the index; `k` {options.k} gives {which}"]


def rerank_notes(index: Index, rerank: object = None) -> list[str]:
    """A line on what could score the hits again, where nothing does and a reranker of one's own lies at hand."""
    at_hand = [] if rerank is not None else [each for each in usable_rerankers(index) if each.name]
    if all(each.experimental or each.name in (LTR, TOKENS, WORDS) for each in at_hand):
        return []
    return [f"`rerank` can be {' or '.join(usable_lines(at_hand))}"]


def operator_notes(query: str, options: SearchOptions) -> list[str]:
    """A line if something in a query is understood as an operator."""
    (parsed,) = options.parsed([query], typed=True)
    listed = " ".join(map(str, parsed.clauses))
    return [f"understood as operators: {listed} (`operators=False` takes them as text)"] if listed else []


def search_warnings(index: Index, options: SearchOptions, rerank: object = None) -> list[str]:
    """What a search will not do as it was meant, a line each.

    A condition names a field that no document has, or meets no document; memory vectors are wanted and not stored.

    Raises:
        FilterError: the condition cannot be read.
    """
    where = options.where
    amiss = [] if where is None else unknown_field_lines(index, where) or why_nothing_lines(index, where)
    lines = [f"`where`: {line}" for line in amiss]
    if rerank == MEMORY and not index.memory_tokens:
        lines.append(f"{index.path} stores no memory vectors: those of the best hits are made now")
    return lines


def shown_warnings(index: Index, shown: Iterable[str]) -> list[str]:
    """A line for each field that is to be shown with hits and that no document has."""
    lines = []
    for name in shown:
        try:
            lines += unknown_field_lines(index, f"{name} is empty")
        except FilterError:  # a field may have a name that no condition can spell
            continue
    return [f"`show`: {line}" for line in lines]
