"""What the metadata fields of an index hold, and what a condition that meets nothing found there."""

# ruff: noqa: S608  every value in the SQL of this module is a bound parameter

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import apsw

from llm2comp_indexes.storage.documents import field_names, has_field
from llm2comp_indexes.storage.filters import CompiledFilter, json_path

__all__ = [
    "FieldSummary",
    "PredicateCount",
    "Values",
    "all_fields",
    "count_predicates",
    "joined",
    "joined_values",
    "summary",
    "unknown_fields",
    "values_among",
]

Values: TypeAlias = tuple[tuple[str | float, int], ...]
"""Values with how often each is there."""

_ID = ("_id",)
#: Documents that a summary of all fields looks at: enough to show what there is, and quick in any index.
MOST_DOCUMENTS = 100_000
_DEEPEST = 3  # names of a field inside objects inside objects
_KINDS = {"text": "text", "integer": "number", "real": "number", "true": "true or false", "false": "true or false"}


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """A metadata field.

    Attributes:
        name: with points between the names of a field inside an object.
        documents: that have it, and not as null.
        looked_at: documents that were looked at.
        types: how many values are ``text``, ``number`` or ``true or false``; each element of a list counts.
        values: every different value with its count, the most frequent first.
    """

    name: str
    documents: int
    looked_at: int
    types: dict[str, int] = field(default_factory=dict)
    values: Values = ()


@dataclass(frozen=True, slots=True)
class PredicateCount:
    """One predicate of a condition, and the documents that meet it alone.

    Attributes:
        text: as it was typed.
        names: that lead to its field; ``("_id",)`` for ids.
        values: that the field is compared with.
        documents: that meet it.
    """

    text: str
    names: tuple[str, ...]
    values: tuple[str | float, ...]
    documents: int


def summary(connection: apsw.Connection, names: Sequence[str], most: int | None = None) -> FieldSummary:
    """What a field holds, in the first ``most`` documents or in all."""
    total = next(connection.execute("SELECT count(*) FROM documents"))[0]
    if tuple(names) == _ID:
        values = tuple((id_, 1) for (id_,) in connection.execute("SELECT id FROM documents ORDER BY num"))
        return FieldSummary("_id", total, total, {"text": total} if total else {}, values)
    chosen = "(SELECT metadata FROM documents ORDER BY num LIMIT :most)"
    bound = {"path": json_path(names), "most": total if most is None else most}
    there = f"SELECT count(*) FROM {chosen} WHERE json_type(metadata, :path) <> 'null'"
    (documents,) = next(connection.execute(there, bound))
    each = (
        "SELECT e.type, e.value, count(*) AS often "
        f"FROM {chosen} AS d, json_each(d.metadata, :path) AS e "
        "WHERE json_type(d.metadata, :path) <> 'object' AND e.type NOT IN ('object', 'array', 'null') "
        "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    types: dict[str, int] = {}
    found: list[tuple[str | float, int]] = []
    for kind, value, often in connection.execute(each, bound):
        types[_KINDS[kind]] = types.get(_KINDS[kind], 0) + often
        found.append((kind == "true" if kind in ("true", "false") else value, often))
    return FieldSummary(".".join(names), documents, min(total, bound["most"]), types, tuple(found))


def values_among(connection: apsw.Connection, names: Sequence[str], ids: Sequence[str]) -> Values:
    """How many documents of ``ids`` have each value, the most frequent first; each element of a list counts."""
    sql = (
        "SELECT e.type, e.value, count(DISTINCT d.num) AS often "
        "FROM documents AS d, json_each(d.metadata, :path) AS e "
        "WHERE d.id IN (SELECT value FROM json_each(:ids)) "
        "AND json_type(d.metadata, :path) <> 'object' AND e.type NOT IN ('object', 'array', 'null') "
        "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    if any(not name or '"' in name or "\\" in name or "\0" in name for name in names):
        return ()  # no document can be asked for such a field
    found = connection.execute(sql, {"path": json_path(names), "ids": json.dumps(list(ids))})
    return tuple((kind == "true" if kind in ("true", "false") else value, often) for kind, value, often in found)


def joined(parts: Sequence[FieldSummary]) -> FieldSummary:
    """The same field in several indexes."""
    types: dict[str, int] = {}
    for part in parts:
        for kind, often in part.types.items():
            types[kind] = types.get(kind, 0) + often
    return FieldSummary(
        parts[0].name,
        sum(part.documents for part in parts),
        sum(part.looked_at for part in parts),
        types,
        joined_values([part.values for part in parts]),
    )


def joined_values(parts: Sequence[Values]) -> Values:
    """Values of the same field in several indexes, in the order of one."""
    total: dict[tuple[str, str | float], int] = {}  # True is no 1, and 1.0 is neither
    for value, often in (each for part in parts for each in part):
        total[_type(value), value] = total.get((_type(value), value), 0) + often
    ordered = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))
    return tuple((value, often) for (_, value), often in ordered)


def _type(value: str | float) -> str:
    """What SQLite calls the type of a value in JSON, by which equally frequent ones are ordered."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "text" if isinstance(value, str) else "integer" if isinstance(value, int) else "real"


def all_fields(connection: apsw.Connection, most: int = MOST_DOCUMENTS) -> list[FieldSummary]:
    """Every field by name, those inside objects too; looks at the first ``most`` documents."""
    return [summary(connection, names, most) for names in _names(connection, ())]


def unknown_fields(connection: apsw.Connection, condition: CompiledFilter) -> dict[str, list[str]]:
    """The fields that a condition names and no document has, each with those that there are in its place."""
    unknown = {}
    for names in condition.fields:
        if names == _ID or has_field(connection, names):
            continue
        parent = names[:-1]
        while parent and not field_names(connection, parent):
            parent = parent[:-1]
        unknown[".".join(names)] = [".".join((*parent, name)) for name in field_names(connection, parent)]
    return unknown


def _names(connection: apsw.Connection, parent: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for name in field_names(connection, parent):
        if '"' in name or "\\" in name:  # no condition can name it either
            continue
        names = (*parent, name)
        inside = list(_names(connection, names)) if len(names) < _DEEPEST else []
        yield from inside or [names]


def count_predicates(connection: apsw.Connection, condition: CompiledFilter) -> list[PredicateCount]:
    """How many documents meet each predicate alone; those on fields that no document has are left out."""
    return [
        PredicateCount(
            asked.text,
            asked.names,
            asked.values,
            next(connection.execute(f"SELECT count(*) FROM documents WHERE {asked.sql}", condition.parameters))[0],
        )
        for asked in condition.predicates
        if asked.names == _ID or has_field(connection, asked.names)
    ]
