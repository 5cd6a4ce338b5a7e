"""Reading and writing the documents of ``store.db``, by id and by number."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import apsw

from llm2comp_indexes.errors import InputError
from llm2comp_indexes.storage.filters import CompiledFilter, json_path, json_paths
from llm2comp_indexes.types import IndexedDocument

__all__ = [
    "EncodedDocument",
    "IdAndSpans",
    "all_ids_and_spans",
    "check_metadata",
    "delete_numbers",
    "encode",
    "field_names",
    "has_field",
    "has_titles",
    "hashes",
    "ids_after",
    "ids_and_spans",
    "insert",
    "iterate",
    "matching",
    "metadata_after",
    "numbers",
    "read",
    "titles",
    "tombstones",
]

EncodedDocument = tuple[tuple[Any, ...], tuple[Any, ...]]
"""The row of ``documents`` and the row of ``texts``."""

IdAndSpans = tuple[str, tuple[tuple[int, int], ...]]
"""What a hit needs of a document."""

_BATCH = 5_000
_DEEPEST = 1_000  # levels of JSON that SQLite reads; for one document with more it refuses every condition
_COLUMNS = "id, text, title, metadata, spans, content_hash"


def _many(connection: apsw.Connection, sql: str, keys: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """Run ``sql``, which reads its keys from ``(SELECT value FROM json_each(?))``, over any number of keys."""
    for start in range(0, len(keys), _BATCH):
        yield from connection.execute(sql, (json.dumps(list(keys[start : start + _BATCH])),))


def _encode(num: int, document: IndexedDocument) -> EncodedDocument:
    try:
        metadata = json.dumps(document.metadata, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        row = (num, document.id, document.content_hash, json.dumps(document.spans) if document.spans else "", metadata)
        text = (num, document.title, document.text)
        check_metadata(document.metadata, metadata)
        for value in (document.id, document.title, document.text, metadata):
            value.encode()
    except (TypeError, ValueError, RecursionError) as error:  # UnicodeEncodeError, a lone surrogate, is a ValueError
        raise InputError(f"document {document.id!r}: cannot be stored: {error}") from error
    return row, text


def check_metadata(metadata: object, encoded: str) -> None:
    """Refuse metadata that SQLite could not look into: by them, no document could be asked for any field.

    Args:
        metadata: of a document.
        encoded: JSON that holds them, with whatever else.

    Raises:
        ValueError: a NUL character in the name of a field, or objects inside objects beyond what SQLite reads.
    """
    if encoded.count("{") + encoded.count("[") > _DEEPEST:
        inside: list[object] = [metadata]
        for _ in range(_DEEPEST + 1):
            inside = [each for value in inside for each in _inside(value)]
        if inside:
            raise ValueError(f"metadata are nested in more than {_DEEPEST} levels")
    if "\\u0000" in encoded:
        _check_field_names(metadata)


def _inside(value: object) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()


def _check_field_names(value: object) -> None:
    if isinstance(value, dict):
        for name, inside in value.items():
            if "\0" in str(name):
                raise ValueError(f"the name of the field {name!r} has a NUL character")
            _check_field_names(inside)
    elif isinstance(value, list | tuple):
        for inside in value:
            _check_field_names(inside)


def _decode(row: tuple[Any, ...]) -> IndexedDocument:
    id_, text, title, metadata, spans, content_hash = row
    return IndexedDocument(id_, text, title, json.loads(metadata), _spans(spans) if spans else (), content_hash)


def _spans(encoded: str) -> tuple[tuple[int, int], ...]:
    return tuple((start, end) for start, end in json.loads(encoded))


def encode(first: int, documents: Iterable[IndexedDocument]) -> list[EncodedDocument]:
    """Rows for `insert`, under the numbers ``first``, ``first + 1``, ...

    Raises:
        InputError: a document holds what JSON or UTF-8 cannot express.
    """
    return [_encode(num, document) for num, document in enumerate(documents, first)]


def insert(connection: apsw.Connection, encoded: Sequence[EncodedDocument]) -> None:
    """Store documents; none of their ids may be stored yet."""
    connection.executemany("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", (row for row, _ in encoded))
    connection.executemany("INSERT INTO texts VALUES (?, ?, ?)", (text for _, text in encoded))


def delete_numbers(connection: apsw.Connection, nums: Sequence[int]) -> None:
    """Remove documents, and remember that their vectors are dead."""
    keys = [(num,) for num in nums]
    connection.executemany("DELETE FROM documents WHERE num = ?", keys)
    connection.executemany("DELETE FROM texts WHERE num = ?", keys)
    connection.executemany("INSERT INTO tombstones VALUES (?)", keys)


def numbers(connection: apsw.Connection, ids: Sequence[str]) -> dict[str, int]:
    """Number of each of ``ids`` that is stored."""
    sql = "SELECT id, num FROM documents WHERE id IN (SELECT value FROM json_each(?))"
    return dict(_many(connection, sql, ids))


def hashes(connection: apsw.Connection, ids: Sequence[str]) -> dict[str, str]:
    """Content hash of each of ``ids`` that is stored."""
    sql = "SELECT id, content_hash FROM documents WHERE id IN (SELECT value FROM json_each(?))"
    return dict(_many(connection, sql, ids))


def ids_and_spans(connection: apsw.Connection, nums: Sequence[int]) -> dict[int, IdAndSpans]:
    """Id and chunk spans by number."""
    sql = "SELECT d.num, d.id, d.spans FROM json_each(?) AS key CROSS JOIN documents AS d ON d.num = key.value"
    return {num: (id_, _spans(spans) if spans else ()) for num, id_, spans in _many(connection, sql, nums)}


def all_ids_and_spans(connection: apsw.Connection) -> dict[int, IdAndSpans]:
    """Id and chunk spans of every document by number: about 200 bytes each."""
    rows = connection.execute("SELECT num, id, spans FROM documents")
    return {num: (id_, _spans(spans) if spans else ()) for num, id_, spans in rows}


def read(connection: apsw.Connection, ids: Sequence[str]) -> dict[str, IndexedDocument]:
    """Those of ``ids`` that are stored."""
    sql = (
        f"SELECT {_COLUMNS} FROM documents JOIN texts USING (num) "  # noqa: S608  a constant of this module
        "WHERE id IN (SELECT value FROM json_each(?))"
    )
    return {row[0]: _decode(row) for row in _many(connection, sql, ids)}


def iterate(connection: apsw.Connection) -> Iterator[tuple[int, IndexedDocument]]:
    """Every document with its number, in the order in which they were added."""
    sql = f"SELECT num, {_COLUMNS} FROM documents JOIN texts USING (num) ORDER BY num"  # noqa: S608  as above
    for num, *row in connection.execute(sql):
        yield num, _decode(tuple(row))


def ids_after(connection: apsw.Connection, num: int, count: int) -> list[tuple[int, str]]:
    """Number and id of the next ``count`` documents after number ``num``, in the order in which they were added."""
    sql = "SELECT num, id FROM documents WHERE num > ? ORDER BY num LIMIT ?"
    return list(connection.execute(sql, (num, count)))


def metadata_after(connection: apsw.Connection, num: int, count: int) -> list[tuple[int, str]]:
    """Number and metadata, as JSON, of the next ``count`` documents after number ``num``."""
    sql = "SELECT num, metadata FROM documents WHERE num > ? ORDER BY num LIMIT ?"
    return list(connection.execute(sql, (num, count)))


def matching(connection: apsw.Connection, condition: CompiledFilter) -> list[int]:
    """Numbers of the documents that satisfy a filter, ascending."""
    sql = f"SELECT num FROM documents WHERE {condition.sql} ORDER BY num"  # noqa: S608  its values are bound parameters
    return [num for (num,) in connection.execute(sql, condition.parameters)]


def has_field(connection: apsw.Connection, names: Sequence[str]) -> bool:
    """Whether any document has the metadata field to which ``names`` lead; one that is null counts."""
    sql = "SELECT 1 FROM documents WHERE json_type(metadata, ?) IS NOT NULL LIMIT 1"
    return any(next(connection.execute(sql, (path,)), None) is not None for path in json_paths(names))


def titles(connection: apsw.Connection) -> Iterator[tuple[str, int]]:
    """Every title that is not empty with how many documents have it, the most frequent first."""
    yield from connection.execute("SELECT title, count(*) FROM texts WHERE title <> '' GROUP BY 1 ORDER BY 2 DESC, 1")


def has_titles(connection: apsw.Connection) -> bool:
    """Whether any document has a title."""
    return next(connection.execute("SELECT 1 FROM texts WHERE title <> '' LIMIT 1"), None) is not None


def field_names(connection: apsw.Connection, parent: Sequence[str] = ()) -> list[str]:
    """Names of all metadata fields of all documents, sorted; of those inside the object ``parent`` if it is given."""
    path = json_path(parent)
    sql = (
        "SELECT DISTINCT inner.key FROM documents AS d, json_each(d.metadata, ?) AS inner "
        "WHERE json_type(d.metadata, ?) = 'object' ORDER BY 1"
    )
    return [name for (name,) in connection.execute(sql, (path, path))]


def tombstones(connection: apsw.Connection) -> list[int]:
    """Numbers whose vectors are dead but still in a segment, ascending."""
    return [num for (num,) in connection.execute("SELECT num FROM tombstones ORDER BY num")]
