"""LanceDB: a table in a folder or an object store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lancedb

from llm2comp_apps.retrieval.engines.parquet_engine import as_table, schema_of
from llm2comp_apps.retrieval.engines.rows import Row, alone_in

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["open_engine"]


def open_engine(target: str, name: str, dimension: int) -> _LanceDB:
    """The table ``name`` of the database at a folder or URI."""
    return _LanceDB(target, name, dimension)


class _LanceDB:
    """See :class:`.rows.Engine`."""

    def __init__(self, target: str, name: str, dimension: int) -> None:
        self._schema = schema_of(dimension)
        self._alone = ExitStack()
        database = lancedb.connect(target)
        self._table = database.create_table(name, schema=self._schema, exist_ok=True)
        if (folder := Path(database.uri.removeprefix("file://"))).is_dir():  # an object store has no locks
            self._alone.enter_context(alone_in(folder, name))

    def known(self, rows: Sequence[Row]) -> dict[str, str]:
        """By their keys."""
        if not self.count():
            return {}
        keys = ", ".join("'" + row.key.replace("'", "''") + "'" for row in rows)
        found: Any = self._table.search().where(f"key IN ({keys})").select(["key", "content_hash"]).limit(len(rows))
        table = found.to_arrow().to_pydict()
        return dict(zip(table["key"], table["content_hash"], strict=True))

    def write(self, rows: Sequence[Row]) -> None:
        """One version of the table."""
        merge = self._table.merge_insert("key").when_matched_update_all().when_not_matched_insert_all()
        merge.execute(as_table(rows, self._schema))

    def finish(self) -> None:
        """Join the fragments that the batches left."""
        self._table.optimize()

    def count(self) -> int:
        """Rows of the table."""
        return int(self._table.count_rows())

    def nearest(self, vectors: FloatArray, k: int) -> list[list[tuple[str, float]]]:
        """By LanceDB's own search."""
        found = []
        for vector in vectors:
            query: Any = self._table.search(vector)
            table = query.distance_type("cosine").select(["key", "_distance"]).limit(k).to_arrow().to_pydict()
            found.append([(key, 1 - away) for key, away in zip(table["key"], table["_distance"], strict=True)])
        return found

    def close(self) -> None:
        """Let the next export in; nothing else is open."""
        self._alone.close()
