"""Looking into indexes: one document, what the fields hold, and which indexes there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_indexes import MOST_FIELDS, Index, IndexStoreError

from llm2comp_apps.corpus import read_corpus
from llm2comp_apps.encoder.names import source_of
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.discovery import find_index
from llm2comp_apps.text_table import TextTable

if TYPE_CHECKING:
    from llm2comp_indexes import FieldSummary, IndexedDocument, IndexInfo

    from llm2comp_apps.corpus import Document

__all__ = ["FoundIndex", "field_facts", "field_lines", "indexes_in", "indexes_table", "names_of_fields", "one_document"]

_LOOKED_AT = 500  # documents whose fields are names to choose from
_SHOWN = 5  # most frequent values of a field
_LONGEST = 40  # characters of a value that is shown


@dataclass(frozen=True, slots=True)
class FoundIndex:
    """A folder that is called like an index.

    Attributes:
        path: the folder.
        info: what the index says of itself; ``None`` if it cannot be opened.
        reason: why it cannot.
    """

    path: Path
    info: IndexInfo | None
    reason: str = ""


def one_document(index: Index, document_id: str) -> IndexedDocument:
    """A document by its id.

    Raises:
        UsageError: the index has no such document.
    """
    try:
        return index.get([document_id])[0]
    except KeyError as error:
        raise UsageError(f"{document_id!r} is not the id of a document in {index.path}", field="id") from error


def field_facts(fields: Sequence[FieldSummary]) -> list[dict[str, object]]:
    """Fields as plain data, for JSON: name, documents, types, different values and the most frequent of them."""
    return [
        {
            "name": field.name,
            "documents": field.documents,
            "types": field.types,
            "different": len(field.values),
            "values": [{"value": value, "count": count} for value, count in field.values[:_SHOWN]],
        }
        for field in fields
    ]


def field_lines(fields: Sequence[FieldSummary]) -> Iterator[str]:
    """A line for each field: its type, how many documents have it, and its most frequent values or their range."""
    for field in fields:
        held = f"{' or '.join(field.types) or 'nothing'} in {field.documents:,} of {field.looked_at:,} documents"
        inside = ", with too many fields inside to list" if "object" in field.types else ""
        yield f"{field.name}: {held}{inside}{_values(field)}"
    if len(fields) >= MOST_FIELDS:
        yield f"(no more than {MOST_FIELDS:,} fields are described)"


def names_of_fields(place: Path | None) -> list[str]:
    """Names of the fields that the first documents have, sorted, to choose from.

    Args:
        place: an index, or files of a corpus; ``None`` for the index that a search would take.

    Raises:
        LLM2CompError: there is nothing to look into.
    """
    path = place or find_index(None)
    if not (path / "store.db").is_file():
        documents: Iterable[Document | IndexedDocument] = islice(read_corpus([str(path)]), _LOOKED_AT)
    else:
        with Index.open(path) as index:
            documents = index.get(list(islice(index.ids(), _LOOKED_AT)))
    return sorted({name for document in documents for name in document.metadata})


def _values(field: FieldSummary) -> str:
    if not field.values:
        return ""
    numbers = [value for value, _ in field.values if not isinstance(value, str | bool)]
    if len(numbers) == len(field.values) > _SHOWN:
        return f", from {min(numbers)} to {max(numbers)}"
    if len(field.values) > _SHOWN and field.values[0][1] == 1:
        return f", all different, such as {_shown(field.values[0][0])}"
    listed = ", ".join(f"{_shown(value)} ({count:,})" for value, count in field.values[:_SHOWN])
    more = len(field.values) - _SHOWN
    return f": {listed}" + (f" and {more:,} other values" if more > 0 else "")


def _shown(value: str | float) -> str:
    text = str(value).lower() if isinstance(value, bool) else " ".join(str(value).split())
    if not text:
        return "''"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def indexes_in(folder: Path) -> list[FoundIndex]:
    """Every ``*.index`` folder in a folder, by name.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", field="folder")
    return [_found(path) for path in sorted(folder.glob("*.index")) if path.is_dir()]


def _found(path: Path) -> FoundIndex:
    try:
        with Index.open(path) as index:
            return FoundIndex(path, index.info())
    except (IndexStoreError, OSError) as error:
        return FoundIndex(path, None, str(error))


def indexes_table(found: Sequence[FoundIndex]) -> TextTable:
    """The indexes with their documents, encoder, kind and size."""
    rows = []
    for each in found:
        info = each.info
        if info is None:
            rows.append((each.path.name, "", "", "cannot be opened", ""))
            continue
        name = source_of(info.encoder) or info.encoder["name"]
        rows.append((each.path.name, f"{info.documents:,}", f"{info.bytes / 2**20:,.1f} MiB", name, info.kind))
    return TextTable(header=("index", "documents", "size", "encoder", "kind"), rows=rows, numbers=(1, 2))
