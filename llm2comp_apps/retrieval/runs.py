"""Runs in the form that trec_eval, pytrec_eval and ranx read: ``query Q0 document rank score tag``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from llm2comp_apps.errors import UsageError

__all__ = ["trec_lines"]


def trec_lines(query_id: str, ranking: Sequence[tuple[str, float]], tag: str = "llm2comp") -> Iterator[str]:
    """The lines of one query, best first, without line ends.

    trec_eval orders by score and ignores the rank column, so scores are written with the nine digits that tell any
    two float32 apart.

    Args:
        query_id: the query's id.
        ranking: ``(document id, score)``, best first.
        tag: the run's name, the last column.

    Raises:
        UsageError: an id is empty or holds white space, which the form has no way to write.
    """
    _check(query_id, "query")
    for rank, (document_id, score) in enumerate(ranking, start=1):
        _check(document_id, "document")
        yield f"{query_id} Q0 {document_id} {rank} {score:.9g} {tag}"


def _check(identifier: str, kind: str) -> None:
    if not identifier or any(character.isspace() for character in identifier):
        raise UsageError(
            f"{kind} id {identifier!r} is empty or has white space, which a TREC run cannot hold; use --format json"
        )
