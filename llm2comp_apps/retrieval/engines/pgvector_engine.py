"""PostgreSQL with pgvector: a table, filled by COPY, with an HNSW index.

Columns: key, id, title, text, start, end, metadata (jsonb), content_hash, embedding. PostgreSQL keeps no NUL
characters; they are left out of texts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.engines.rows import Row

if TYPE_CHECKING:
    from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["open_engine"]

_INDEXED = 2000  # numbers of a vector that pgvector's HNSW takes
_HALVED = 4000  # and with half precision
_COLUMNS = ("key", "id", "title", "text", "start", "end", "metadata", "content_hash", "embedding")
_LONGEST_NAME = 63
_ESCAPED = re.compile(r"\\(?:\\|u0000)")  # in JSON: a backslash, or a NUL character


def open_engine(target: str, name: str, dimension: int) -> _PgVector:
    """The table ``name`` of the database that a connection string names.

    Raises:
        UsageError: a name that is too long.
    """
    if len(name.encode()) > _LONGEST_NAME - 16 or "\x00" in name:
        raise UsageError(f"is too long for a table of PostgreSQL: {name}", field="name")
    return _PgVector(target, name, dimension)


class _PgVector:
    """See :class:`.rows.Engine`."""

    def __init__(self, target: str, name: str, dimension: int) -> None:
        self._connection = psycopg.connect(target)
        self._name, self._dimension = name, dimension
        self._keys: dict[str, str] = {}  # those that have NUL characters, by what they are here
        try:
            self._make()
        except BaseException:
            self._connection.close()
            raise

    def _make(self) -> None:
        self._wait_for_others()
        self._run("CREATE EXTENSION IF NOT EXISTS vector")
        self._run(
            "CREATE TABLE IF NOT EXISTS {table} (key text PRIMARY KEY, id text NOT NULL, title text, text text, "
            '"start" bigint, "end" bigint, metadata jsonb, content_hash text, embedding vector({width}))',
            width=sql.Literal(self._dimension),
        )
        self._connection.commit()

    def _wait_for_others(self) -> None:
        """Until this transaction ends, others make nothing: ``IF NOT EXISTS`` fails where two make the same."""
        self._connection.execute("SELECT pg_advisory_xact_lock(hashtext('llm2comp index export'))")

    def _run(self, query: str, values: Any = None, **parts: sql.Composable) -> Any:
        # Where values are passed, a % of the name would be taken for the place of one.
        table = sql.Identifier(self._name if values is None else self._name.replace("%", "%%"))
        made = sql.SQL(query).format(table=table, **parts)
        return self._connection.execute(made, values)

    def known(self, rows: Sequence[Row]) -> dict[str, str]:
        """By their keys."""
        self._keys |= {_clean(row.key): row.key for row in rows if "\x00" in row.key}
        keys = [_clean(row.key) for row in rows]
        found: list[tuple[str, str]] = self._run(
            "SELECT key, content_hash FROM {table} WHERE key = ANY(%s)", (keys,)
        ).fetchall()
        return {self._keys.get(key, key): content_hash for key, content_hash in found}

    def write(self, rows: Sequence[Row]) -> None:
        """One transaction: into a table of its own by COPY, and from there over what is there."""
        columns = sql.SQL(", ").join(map(sql.Identifier, _COLUMNS))
        self._run("CREATE TEMP TABLE arriving (LIKE {table}) ON COMMIT DROP")
        copy = sql.SQL("COPY arriving ({}) FROM STDIN").format(columns)
        with self._connection.cursor() as cursor, cursor.copy(copy) as sink:
            for row in rows:
                sink.write_row(_values(row))
        updates = sql.SQL(", ").join(
            sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in _COLUMNS[1:]
        )
        self._run(
            "INSERT INTO {table} ({columns}) SELECT {columns} FROM arriving ON CONFLICT (key) DO UPDATE SET {updates}",
            columns=columns,
            updates=updates,
        )
        self._connection.commit()

    def finish(self) -> None:
        """An HNSW index by cosine, where pgvector takes vectors as long as these."""
        self._wait_for_others()
        if self._dimension <= _HALVED:
            half = self._dimension > _INDEXED
            column = (
                f"(embedding::halfvec({self._dimension})) halfvec_cosine_ops" if half else "embedding vector_cosine_ops"
            )
            self._run(
                "CREATE INDEX IF NOT EXISTS {index} ON {table} USING hnsw (" + column + ")",
                index=sql.Identifier(f"{self._name}_embedding"),
            )
        self._connection.commit()
        self._run("ANALYZE {table}")
        self._connection.commit()

    def count(self) -> int:
        """Rows of the table."""
        return int(self._run("SELECT count(*) FROM {table}").fetchone()[0])

    def nearest(self, vectors: FloatArray, k: int) -> list[list[tuple[str, float]]]:
        """By pgvector's own search, through the index that `finish` made."""
        halved = _INDEXED < self._dimension <= _HALVED
        half = sql.SQL("::halfvec({})").format(sql.Literal(self._dimension)) if halved else sql.SQL("")
        query = (
            "SELECT key, 1 - (embedding <=> %s::vector) FROM {table} "
            "ORDER BY embedding{half} <=> %s::vector{half} LIMIT %s"
        )
        found = []
        for vector in vectors:
            written = _written(vector)
            near = self._run(query, (written, written, k), half=half).fetchall()
            found.append([(self._keys.get(key, key), float(cosine)) for key, cosine in near])
        return found

    def close(self) -> None:
        """Close the connection; a batch that is not complete is not kept."""
        self._connection.close()


def _values(row: Row) -> list[Any]:
    metadata = json.dumps(row.metadata, ensure_ascii=False)
    metadata = _ESCAPED.sub(lambda found: "" if found[0] == "\\u0000" else found[0], metadata)
    texts = [_clean(value) for value in (row.key, row.id, row.title, row.text)]
    return [*texts, row.start, row.end, metadata, row.content_hash, _written(row.vector)]


def _clean(text: str) -> str:
    return text.replace("\x00", "")


def _written(vector: FloatArray) -> str:
    return "[" + ",".join(map(repr, vector.tolist())) + "]"
