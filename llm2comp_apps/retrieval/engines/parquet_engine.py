"""A folder of Parquet files, for everything that reads them: DuckDB, Spark, Polars, Vespa, Milvus.

Every file holds the rows of one batch and appears when it is complete. Columns: key, id, title, text, start, end,
metadata (JSON), content_hash, vector (a list of float32 of fixed length).
"""

from __future__ import annotations

import glob
import json
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from llm2comp_indexes import IndexWriteError

from llm2comp_apps.errors import UsageError
from llm2comp_apps.files import replaced_file
from llm2comp_apps.retrieval.engines.rows import Row, alone_in

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["as_table", "open_engine", "schema_of"]


def schema_of(dimension: int) -> Any:
    """Of the files, and of a table of LanceDB."""
    text, place = pa.string(), pa.int64()
    columns = {"key": text, "id": text, "title": text, "text": text, "start": place, "end": place, "metadata": text}
    return pa.schema({**columns, "content_hash": text, "vector": pa.list_(pa.float32(), dimension)})


def as_table(rows: Sequence[Row], schema: Any) -> Any:
    """Rows as an Arrow table."""
    columns: dict[str, Any] = {name: [getattr(row, name) for row in rows] for name in schema.names[:-1]}
    columns["metadata"] = [json.dumps(row.metadata, ensure_ascii=False) for row in rows]
    flat = pa.array(np.concatenate([row.vector for row in rows]), pa.float32())
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, schema.field("vector").type.list_size)
    return pa.table(columns, schema=schema)


def open_engine(target: str, name: str, dimension: int) -> _Parquet:
    """The folder ``target``; its files begin with ``name``.

    Raises:
        UsageError: the target is no folder of this machine, or the name leads out of it.
    """
    if "://" in target:
        reason = f"must be a folder, not {target}; write the files to one, and copy them from there"
        raise UsageError(reason, field="target")
    if "/" in name:
        raise UsageError(f"must be the beginning of a file's name, without /, not {name!r}", field="name")
    return _Parquet(Path(target), name, dimension)


class _Parquet:
    """See :class:`.rows.Engine`."""

    def __init__(self, folder: Path, name: str, dimension: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._schema = folder, name, schema_of(dimension)
        self._alone = ExitStack()
        self._alone.enter_context(alone_in(folder, name))
        self._number = 0
        self._written: set[Path] = set()

    def _files(self) -> list[Path]:
        return sorted(self._folder.glob(f"{glob.escape(self._name)}-[0-9][0-9][0-9][0-9][0-9][0-9].parquet"))

    def known(self, rows: Sequence[Row]) -> dict[str, str]:
        """All rows of a batch, if its file holds these and no others; a file is written whole or not at all."""
        path = self._folder / f"{self._name}-{self._number:06d}.parquet"
        self._number += 1
        self._path = path
        self._written.add(path)
        if not path.is_file():
            return {}
        if not pq.read_schema(path).equals(self._schema):
            raise IndexWriteError(f"{path}: another program's file, or an export of vectors of another width")
        found = pq.read_table(path, columns=["key", "content_hash"]).to_pydict()
        held = dict(zip(found["key"], found["content_hash"], strict=True))
        wanted = {row.key: row.content_hash for row in rows}
        return held if held == wanted and all(wanted.values()) else {}

    def write(self, rows: Sequence[Row]) -> None:
        """Write a batch's file."""
        with replaced_file(self._path) as fresh:
            pq.write_table(as_table(rows, self._schema), fresh)

    def finish(self) -> None:
        """Remove files of an earlier export that had more batches."""
        for path in set(self._files()) - self._written:
            path.unlink()

    def count(self) -> int:
        """Rows of all files."""
        return sum(pq.read_metadata(path).num_rows for path in self._files())

    def nearest(self, vectors: FloatArray, k: int) -> list[list[tuple[str, float]]]:
        """By comparing with every row, a file at a time."""
        best: list[list[tuple[str, float]]] = [[] for _ in vectors]
        for keys, rows in self._blocks():
            cosines = vectors @ rows.T
            for place, line in enumerate(cosines):
                top = np.argsort(-line, kind="stable")[:k]
                joined = best[place] + [(keys[number], float(line[number])) for number in top]
                best[place] = sorted(joined, key=lambda pair: -pair[1])[:k]
        return best

    def _blocks(self) -> Iterator[tuple[list[str], FloatArray]]:
        for path in self._files():
            table = pq.read_table(path, columns=["key", "vector"]).combine_chunks()
            flat = table["vector"].combine_chunks().flatten().to_numpy()
            yield table["key"].to_pylist(), flat.reshape(len(table), -1)

    def close(self) -> None:
        """Let the next export in; nothing else is open."""
        self._alone.close()
