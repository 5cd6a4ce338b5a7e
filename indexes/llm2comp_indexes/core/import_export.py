"""Vectors and documents in files that other programs read: ``.npy``, ``.parquet``, ``.faiss``.

| suffix | content | beside it |
|---|---|---|
| ``.npy`` | (rows, d) float32 | ``.ids.jsonl`` |
| ``.faiss`` | a plain FAISS index, float16 inner product, positions as ids | ``.ids.jsonl`` |
| ``.parquet`` | columns id, title, text, metadata (JSON), content_hash, start, end, vector (float32) | |

``.ids.jsonl`` has a line for each row: ``{"id": ..., "start": ..., "end": ...}``, the last two only for chunks. Rows
are in the order in which their documents were added, and rows of one document are neighbours. The metadata of a
``.parquet`` schema hold the settings of the index under ``llm2comp.settings`` (JSON). Memory vectors are in none of
these files. A target is replaced only when the new file is complete.
"""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llm2comp_indexes.core import cells
from llm2comp_indexes.dense.faiss_module import import_faiss, write_faiss
from llm2comp_indexes.errors import IndexWriteError, InputError
from llm2comp_indexes.storage import fs
from llm2comp_indexes.types import Float32Array, IndexedDocument

if TYPE_CHECKING:
    from llm2comp_indexes.index import Index

__all__ = [
    "EXPORTS",
    "Batch",
    "export_index",
    "import_vectors",
    "pair_in_order",
    "read_parquet",
    "read_parquet_settings",
    "read_vectors",
    "unread_columns",
]

EXPORTS: Final = (".npy", ".parquet", ".faiss")

_BATCH: Final = 4096
_CHARACTERS: Final = 64_000_000  # written at once: each row of a chunk has the whole text of its document
_BYTES: Final = 256_000_000  # read at once
_SETTINGS: Final = b"llm2comp.settings"
_VECTORS: Final = ("vector", "embedding")  # what a column of vectors may be called, an export's own name first
_OWN: Final = ("id", "title", "text", "metadata", "content_hash", "start", "end", "vector")
_KEYED: Final = {"key", *_OWN}  # what an export to the files of other engines writes; the key is made of the others

Batch = tuple[list[IndexedDocument], Float32Array]
"""Documents, and the vectors of all of them in turn."""


def export_index(index: Index, target: str | Path) -> int:
    """Write all vectors of an index; the suffix of ``target`` says how.

    Returns:
        The number of vectors.

    Raises:
        InputError: the suffix is none of `EXPORTS`.
        IndexWriteError: the operating system refused; what was there before is still there.
    """
    target = Path(target)
    writers: dict[str, Callable[[Index, Path], int]] = {
        ".npy": _export_npy,
        ".parquet": _export_parquet,
        ".faiss": _export_faiss,
    }
    if target.suffix not in writers:
        raise InputError(f"{target}: cannot export to {target.suffix or 'this'}; take one of {', '.join(EXPORTS)}")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}; make it first")
    try:
        with index.pinned() as generation:
            return writers[target.suffix](generation, target)
    except OSError as error:
        raise IndexWriteError(f"{target}: cannot be written: {error.strerror or error}") from error


def import_vectors(
    index: Index,
    documents: Iterable[IndexedDocument],
    vectors: np.ndarray,
    *,
    batch: int = _BATCH,
    device: str = "cpu",
) -> int:
    """Add documents whose vectors were made elsewhere, in one commit.

    Args:
        index: of the vectors' width.
        documents: streamed, in the order of the vectors.
        vectors: (rows, d), a memory map for what does not fit into memory; a row for each document or chunk.
        batch: documents taken at a time.
        device: where a FAISS index is trained, ``cpu`` or ``cuda``.

    Returns:
        The number of documents.

    Raises:
        InputError: there are more or fewer vectors than the documents need; nothing is added.
    """
    count = 0
    with index.writer(device) as writer:
        for part, rows in pair_in_order(documents, vectors, batch):
            writer.add(part, rows)
            count += len(part)
        writer.commit()
    return count


def pair_in_order(documents: Iterable[IndexedDocument], vectors: np.ndarray, batch: int = _BATCH) -> Iterator[Batch]:
    """Documents with their vectors, which are the next rows of the matrix.

    Raises:
        InputError: there are more or fewer rows than the documents need.
    """
    iterator, position, count = iter(documents), 0, 0
    while part := list(itertools.islice(iterator, batch)):
        rows = sum(document.rows for document in part)
        if position + rows > len(vectors):
            raise InputError(f"vectors: {len(vectors)} rows, but document {part[-1].id!r} needs more")
        yield part, np.asarray(vectors[position : position + rows], dtype=np.float32)
        position, count = position + rows, count + len(part)
    if position != len(vectors):
        raise InputError(f"vectors: {len(vectors)} rows for {count} documents that need {position}")


def read_vectors(path: str | Path) -> np.ndarray:
    """A ``.npy`` matrix, memory-mapped.

    Raises:
        InputError: it is not a matrix of numbers.
    """
    try:
        vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a NumPy array: {error}") from error
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu":
        raise InputError(f"{path}: shape {vectors.shape} of {vectors.dtype}, where a matrix of numbers is needed")
    return vectors


def read_parquet(path: str | Path, *, batch: int = _BATCH) -> Iterator[Batch]:
    """Documents and vectors of a Parquet file, such as an export; an id and a vector are needed, the rest is optional.

    The vector may be called ``embedding``. Columns that an export does not have are metadata, except those of bytes
    (see `unread_columns`): dates become ISO 8601, decimals strings, NaN ``None``. In a file of another program
    ``start`` and ``end`` are chunks where they are places in the text, one behind the other; else they are metadata.

    Raises:
        InputError: it cannot be read, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, read_dictionary=_repeated(pq.read_schema(path))) as file:
            names = file.schema_arrow.names
            key = next((name for name in _VECTORS if name in names), None)
            if key is None or "id" not in names:
                wanted = "id" if "id" not in names else " or ".join(_VECTORS)
                raise InputError(f"{path}: has no column {wanted} (its columns: {', '.join(names)})")
            unread = _of_bytes(file.schema_arrow)
            ours = _SETTINGS in (file.schema_arrow.metadata or {})
            rows = _rows(
                file.iter_batches(_at_once(file, batch), columns=[name for name in names if name not in unread])
            )
            groups = (list(group) for _, group in itertools.groupby(rows, key=lambda row: row["id"]))
            row = 1
            for part in _of_rows(groups, batch):
                for group in part:
                    if group[0]["id"] is None or not cells.text(group[0]["id"]):
                        raise InputError(f"{path}: row {row} has no id")
                    row += len(group)
                vectors = cells.vectors([row for group in part for row in group], key, path)
                yield [_document(group, key, path, ours=ours) for group in part], vectors
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error


def _repeated(schema: Any) -> list[str]:
    """Columns that may hold the same long text in many rows, which is then kept once: it would not fit into memory."""
    from pyarrow import types

    wanted = [column for column in schema if column.name in ("title", "text", "metadata")]
    return [column.name for column in wanted if types.is_string(column.type) or types.is_large_string(column.type)]


def _at_once(file: Any, most: int) -> int:
    """Rows to read at a time."""
    groups = [file.metadata.row_group(number) for number in range(file.metadata.num_row_groups)]
    widest = max((group.total_byte_size // max(1, group.num_rows) for group in groups), default=0)
    return int(min(most, max(1, _BYTES // max(1, widest))))


def _rows(batches: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """The cells of each row by the names of their columns."""
    for batch in map(cells.in_microseconds, batches):
        columns = [cells.cells(column) for column in batch.columns]
        yield from (dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True))


def _of_rows(groups: Iterable[list[dict[str, Any]]], rows: int) -> Iterator[list[list[dict[str, Any]]]]:
    """Groups of rows, as many at a time as have about so many rows."""
    part: list[list[dict[str, Any]]] = []
    size = 0
    for group in groups:
        part.append(group)
        size += len(group)
        if size >= rows:
            yield part
            part, size = [], 0
    if part:
        yield part


def unread_columns(path: str | Path) -> list[str]:
    """The columns of a Parquet file that are bytes, such as pictures, and so cannot be metadata.

    Raises:
        InputError: it cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return _of_bytes(pq.read_schema(path))
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error


def read_parquet_settings(path: str | Path) -> dict[str, Any]:
    """The settings of the index that a Parquet file was exported from; none if something else wrote it.

    Raises:
        InputError: it cannot be read, or its settings are not what an export writes.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        written = (pq.read_schema(path).metadata or {}).get(_SETTINGS, b"{}")
        settings = json.loads(written)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
    if not isinstance(settings, dict):
        raise InputError(f"{path}: {_SETTINGS.decode()} in its metadata is no JSON object")
    return settings


def _of_bytes(schema: Any) -> list[str]:
    """Columns that hold bytes, also inside of lists and structs, and are not read by a name of their own."""
    return [column.name for column in schema if column.name not in _OWN and "binary" in str(column.type)]


def _spans(rows: list[dict[str, Any]], length: int, *, ours: bool) -> tuple[tuple[int, int], ...]:
    """The chunks of a document; none if its columns of that name are something else, such as times.

    Args:
        rows: of the document.
        length: of its text, or more than any where the file has no texts.
        ours: whether an export or a part wrote them, whose columns are nothing else.
    """
    spans = []
    for row in rows:
        start, end = cells.place(row.get("start")), cells.place(row.get("end"))
        if start is None or end is None or not (ours or 0 <= start < end <= length):
            return ()
        spans.append((start, end))
    return tuple(spans) if ours or spans == sorted(spans) else ()


def _document(rows: list[dict[str, Any]], vector: str, path: str | Path, *, ours: bool) -> IndexedDocument:
    """The document of neighbouring rows with one id; of columns that other programs wrote, what can be used."""
    first = rows[0]
    title, text = (cells.text(first.get(name)) for name in ("title", "text"))
    spans = _spans(rows, len(text) if "text" in first else sys.maxsize, ours=ours)
    if len(rows) > max(1, len(spans)):
        raise InputError(
            f"{path}: the id {first['id']!r} stands on {len(rows)} rows, without start and end of chunks in its text"
        )
    metadata = _metadata(first.get("metadata"))
    known = {vector, *(_KEYED if first.keys() == _KEYED else _OWN)}
    further = {name: cells.plain(value) for name, value in first.items() if name not in known}
    times = {name: cells.plain(first.get(name)) for name in ("start", "end") if not spans}
    times = {name: value for name, value in times.items() if value is not None}
    if len(times) == 1 and cells.place(*times.values()) is not None:  # half a chunk
        times = {}
    metadata = {**further, **times, **metadata}
    held = first.get("content_hash")
    content_hash = held if isinstance(held, str) else ""
    return IndexedDocument(cells.text(first["id"]), text, title, metadata, spans, content_hash)


def _metadata(value: Any) -> dict[str, Any]:
    """Fields by a column ``metadata``: those of an object, or of its JSON; anything else is a field of that name."""
    if isinstance(value, dict):
        return dict(cells.plain(value))
    if isinstance(value, str | bytes):
        with contextlib.suppress(ValueError):
            held = json.loads(value, parse_constant=lambda _: None)  # NaN and infinity, which Python writes
            if isinstance(held, dict):
                return held
    return {} if value in (None, "", b"") else {"metadata": cells.plain(value)}


def _batches(index: Index) -> Iterator[Batch]:
    """Every live document with its vectors."""
    iterator = index.ids()
    while ids := list(itertools.islice(iterator, _BATCH)):
        yield index.get(ids), index.vectors(ids)


def _replace(files: dict[Path, Callable[[fs.FileWriter], None]]) -> None:
    """Write files under other names, and give them their own when all are complete."""
    with contextlib.ExitStack() as undone:
        written = {}
        for target, produce in files.items():
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
            temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            writer = fs.FileWriter(temporary)
            undone.callback(temporary.unlink, missing_ok=True)
            undone.callback(writer.abandon)
            produce(writer)
            writer.close()
            written[temporary] = target
        for temporary, target in written.items():
            fs.replace(temporary, target)


def _export_npy(index: Index, target: Path) -> int:
    rows = sum(document.rows for documents, _ in _batches(index) for document in documents)

    def produce(writer: fs.FileWriter) -> None:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            header, {"descr": "<f4", "fortran_order": False, "shape": (rows, index.dimension)}
        )
        writer.write(header.getvalue())
        for _, vectors in _batches(index):
            writer.write(np.ascontiguousarray(vectors, dtype="<f4").data)

    _replace({target: produce, **_ids(index, target)})
    return rows


def _ids(index: Index, target: Path) -> dict[Path, Callable[[fs.FileWriter], None]]:
    """The file of ids that lies beside an export."""

    def produce(writer: fs.FileWriter) -> None:
        for documents, _ in _batches(index):
            lines = [
                json.dumps({"id": document.id} | ({"start": span[0], "end": span[1]} if span else {}))
                for document in documents
                for span in document.spans or (None,)
            ]
            writer.write(("\n".join(lines) + "\n").encode())

    return {target.with_suffix(".ids.jsonl"): produce}


def _export_faiss(index: Index, target: Path) -> int:
    faiss = import_faiss()
    plain = faiss.IndexScalarQuantizer(index.dimension, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT)
    for _, vectors in _batches(index):
        plain.add(vectors)
    _replace({target: lambda writer: write_faiss(plain, writer), **_ids(index, target)})
    return int(plain.ntotal)


def _export_parquet(index: Index, target: Path) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, position = pa.string(), pa.int64()
    schema = pa.schema(
        {"id": text, "title": text, "text": text, "metadata": text, "content_hash": text}
        | {"start": position, "end": position}
        | {"vector": pa.list_(pa.float32(), index.dimension)}
    ).with_metadata({_SETTINGS: json.dumps(index.settings)})
    rows = 0

    def produce(writer: fs.FileWriter) -> None:
        nonlocal rows
        # A text of many rows is in the file once for each piece, however long it is.
        once = {"compression": "zstd", "dictionary_pagesize_limit": 8 * _CHARACTERS}
        with pq.ParquetWriter(pa.PythonFile(_Sink(writer), mode="w"), schema, **once) as file:
            for columns, vectors in _pieces(index):
                *cells, spans = zip(*columns, strict=True)
                arrays = [pa.array(column, text) for column in cells]
                arrays += [pa.array([span and span[place] for span in spans], position) for place in (0, 1)]
                flat = pa.array(vectors.ravel(), type=pa.float32())
                arrays.append(pa.FixedSizeListArray.from_arrays(flat, index.dimension))
                file.write_batch(pa.record_batch(arrays, schema=schema))
                rows += len(columns)

    try:
        _replace({target: produce})
    except pa.ArrowException as error:
        raise IndexWriteError(f"{target}: cannot be written: {error}") from error
    return rows


_Columns = tuple[str, str, str, str, str, "tuple[int, int] | None"]
"""Id, title, text, metadata, content hash and span of a row."""


def _pieces(index: Index) -> Iterator[tuple[list[_Columns], Float32Array]]:
    """Rows of an export with their vectors, as many at a time as have texts of a bounded length.

    Rows of one document are in one piece, unless they are too long for any.
    """
    for documents, vectors in _batches(index):
        rows: list[_Columns] = []
        first = size = 0
        for document in documents:
            metadata = json.dumps(document.metadata, ensure_ascii=False)
            length = len(document.text) + len(document.title) + len(metadata)
            ahead = length * document.rows
            for span in document.spans or (None,):
                if rows and size + ahead > _CHARACTERS:
                    yield rows, vectors[first : first + len(rows)]
                    first, rows, size = first + len(rows), [], 0
                rows.append((document.id, document.title, document.text, metadata, document.content_hash, span))
                size, ahead = size + length, length
        yield rows, vectors[first:]


class _Sink(io.RawIOBase):
    """What pyarrow needs to see of a file writer."""

    def __init__(self, writer: fs.FileWriter) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._writer.size

    def write(self, data: Any) -> int:
        self._writer.write(bytes(data))
        return len(data)
