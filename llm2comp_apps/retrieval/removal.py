"""Deleting documents by id or by a condition, guarded against a slip of the pen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.build import refusal_line
from llm2comp_apps.retrieval.conditions import unknown_field_lines, why_nothing_lines
from llm2comp_apps.retrieval.query_text import check_text, listed

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["DeleteReport", "MostDocumentsError", "delete_documents"]


class MostDocumentsError(UsageError):
    """A condition meets more than half of the documents, and nobody agreed to delete that many.

    Attributes:
        found: documents that meet it.
        total: documents in the index.
    """

    def __init__(self, reason: str, *, field: str | None = None, found: int = 0, total: int = 0) -> None:
        """Say how many."""
        super().__init__(reason, field=field)
        self.found = found
        self.total = total


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteReport:
    """What was deleted.

    Attributes:
        deleted: documents that are gone.
        missing: ids that were given and are not in the index.
        warnings: what is worth a word, each a finished line.
    """

    deleted: int
    missing: int = 0
    warnings: list[str] = field(default_factory=list)


def delete_documents(
    index: Index, ids: Iterable[str] | None = None, *, where: str | None = None, allow_most: bool = False
) -> DeleteReport:
    """Delete documents in one commit.

    Args:
        index: an open index.
        ids: of documents; those that are not there are counted.
        where: documents whose fields meet this condition go too.
        allow_most: delete them even if ``where`` meets more than half of the documents.

    Raises:
        UsageError: neither ids nor a condition, one text in place of ids, an argument that is no text, or a condition
            on a field that no document has, which is most likely misspelled. Nothing is deleted.
        MostDocumentsError: ``where`` meets more than half of the documents. Nothing is deleted.
        FilterError: ``where`` cannot be read.
    """
    named = listed(ids if ids is not None else (), "ids")
    if not named and where is None:
        raise UsageError("say what to delete: `ids` or `where`")
    check_text(where, "where")
    for id_ in named:
        check_text(id_, "ids")
    doomed = dict.fromkeys(named)
    warnings: list[str] = []
    with index.writer() as writer:
        if where is not None:
            index.refresh()  # what another program has changed since may meet it no more; now none can change it
            doomed |= dict.fromkeys(_meeting(index, where, allow_most=allow_most))
            warnings += [f"`where`: {line}" for line in why_nothing_lines(index, where)]
        deleted = writer.delete(list(doomed))
        writer.commit()
    if writer.refusal:
        warnings.append(refusal_line(index, writer.refusal))
    return DeleteReport(deleted=deleted, missing=len(doomed) - deleted, warnings=warnings)


def _meeting(index: Index, where: str, *, allow_most: bool) -> list[str]:
    for line in unknown_field_lines(index, where):
        raise UsageError(f"names a field in vain: {line}; nothing was deleted", field="where")
    found = list(index.ids(where=where))
    if not allow_most and 2 * len(found) > len(index):
        reason = f"meets {len(found)} of the {len(index)} documents, more than half; `allow_most=True` deletes them"
        raise MostDocumentsError(reason, field="where", found=len(found), total=len(index))
    return found
