"""What the metadata fields of an index hold, and what a condition that meets nothing found there."""

# ruff: noqa: S608  every value in the SQL of this module is a bound parameter

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final, TypeAlias

import apsw

from llm2comp_indexes.storage.documents import field_names, has_field, has_titles, titles
from llm2comp_indexes.storage.filters import CompiledFilter, can_be_asked_for, json_paths, place_sql

__all__ = [
    "MOST_DOCUMENTS",
    "MOST_FIELDS",
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
_TITLE = ("title",)
MOST_DOCUMENTS: Final = 100_000
"""Documents that a summary of all fields looks at: enough to show what there is, and quick in any index."""
MOST_FIELDS: Final = 1_000
"""Fields that a summary of all describes: where there are more, their names are data."""
_MOST_INSIDE = 200  # names inside an object whose fields are described one by one
_DEEPEST = 3  # names of a field inside objects inside objects
_INTEGERS = range(-(1 << 63), 1 << 63)  # beyond them SQLite has floats
_KINDS = {"text": "text", "integer": "number", "real": "number", "true": "true or false", "false": "true or false"}


@dataclass(frozen=True, slots=True)
class FieldSummary:
    """A metadata field.

    Attributes:
        name: with points between the names of a field inside an object.
        documents: that have it, and not as null.
        looked_at: documents that were looked at.
        types: how many values are ``text``, ``number`` or ``true or false``; each element of a list counts. It is
            ``object`` for objects with so many different names inside that these are not described one by one.
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


def summary(connection: apsw.Connection, names: Sequence[str]) -> FieldSummary:
    """What a field holds, in all documents."""
    total = next(connection.execute("SELECT count(*) FROM documents"))[0]
    if tuple(names) == _TITLE and not has_field(connection, names):
        values = tuple(titles(connection))
        documents = sum(often for _, often in values)
        return FieldSummary("title", documents, total, {"text": documents} if values else {}, values)
    if tuple(names) == _ID:
        values = tuple((id_, 1) for (id_,) in connection.execute("SELECT id FROM documents ORDER BY num"))
        return FieldSummary("_id", total, total, {"text": total} if total else {}, values)
    place, bound = _place(names)
    there = f"SELECT count(*) FROM documents WHERE json_type(metadata, {place}) <> 'null'"
    (documents,) = next(connection.execute(there, bound))
    each = (
        "SELECT e.type, e.value, count(*) AS often "
        f"FROM documents AS d, json_each(d.metadata, {place}) AS e "
        f"WHERE json_type(d.metadata, {place}) <> 'object' AND e.type NOT IN ('object', 'array', 'null') "
        "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    types: dict[str, int] = {}
    found: list[tuple[str | float, int]] = []
    for kind, value, often in connection.execute(each, bound):
        types[_KINDS[kind]] = types.get(_KINDS[kind], 0) + often
        found.append((kind == "true" if kind in ("true", "false") else value, often))
    return FieldSummary(".".join(names), documents, total, types, tuple(found))


def _place(names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """SQL of the place of a field in the metadata of a document, and its parameters."""
    bound = dict(zip(("nested", "flat"), json_paths(names), strict=False))
    return place_sql(*(f":{parameter}" for parameter in bound)), bound


def values_among(connection: apsw.Connection, names: Sequence[str], ids: Sequence[str]) -> Values:
    """How many documents of ``ids`` have each value, the most frequent first; each element of a list counts.

    ``_id`` and ``title`` are the document's, as in a condition: a field ``title`` of its metadata goes before it.
    """
    among = json.dumps(list(ids))
    if tuple(names) == _ID:
        held = "SELECT id FROM documents WHERE id IN (SELECT value FROM json_each(?)) ORDER BY 1"
        return tuple((id_, 1) for (id_,) in connection.execute(held, (among,)))
    place, bound = _place(names)
    sql = (
        "SELECT e.type, e.value, count(DISTINCT d.num) AS often "
        f"FROM documents AS d, json_each(d.metadata, {place}) AS e "
        "WHERE d.id IN (SELECT value FROM json_each(:ids)) "
        f"AND json_type(d.metadata, {place}) <> 'object' AND e.type NOT IN ('object', 'array', 'null') "
        "GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2"
    )
    if not all(name and can_be_asked_for(name) for name in names):
        return ()  # no document can be asked for such a field
    found = connection.execute(sql, {**bound, "ids": among})
    values = tuple((kind == "true" if kind in ("true", "false") else value, often) for kind, value, often in found)
    if tuple(names) != _TITLE:
        return values
    own = (
        "SELECT t.title, count(*) FROM documents AS d JOIN texts AS t USING (num) "
        "WHERE d.id IN (SELECT value FROM json_each(:ids)) AND t.title <> '' "
        f"AND coalesce(json_type(d.metadata, {place}), 'null') = 'null' GROUP BY 1"
    )
    return joined_values([values, tuple(connection.execute(own, {**bound, "ids": among}))])


def joined(parts: Sequence[FieldSummary]) -> FieldSummary:
    """The same field in several indexes."""
    types: dict[str, int] = {}
    for part in parts:
        for kind, often in part.types.items():
            types[kind] = types.get(kind, 0) + often
    values = joined_values([part.values for part in parts])
    of_values = (_KINDS[_type(value)] for value, _ in values)  # in whose order one index has them, objects first
    return FieldSummary(
        parts[0].name,
        sum(part.documents for part in parts),
        sum(part.looked_at for part in parts),
        {kind: types[kind] for kind in dict.fromkeys(["object", *of_values, *types]) if kind in types},
        values,
    )


def joined_values(parts: Sequence[Values]) -> Values:
    """Values of the same field in several indexes, in the order of one."""
    total: dict[tuple[str, str | float], int] = {}  # True is no 1, and 1.0 is neither
    for value, often in (each for part in parts for each in part):
        total[_type(value), value] = total.get((_type(value), value), 0) + often
    return tuple((value, often) for (_, value), often in _ordered(total))


def _ordered(counts: dict[tuple[str, str | float], int]) -> list[tuple[tuple[str, str | float], int]]:
    """Values with their types, the most frequent first."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))


def _type(value: str | float) -> str:
    """What SQLite calls the type of a value in JSON, by which equally frequent ones are ordered."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "text" if isinstance(value, str) else "integer" if isinstance(value, int) else "real"


@dataclass(slots=True)
class _Found:
    """What was found of a field, or of all fields together: the names inside of the metadata.

    Attributes:
        documents: that have it, and not as null.
        values: with their types, and how often each is there.
        inside: the fields of objects; None if they are too many to be told one by one.
    """

    documents: int = 0
    values: dict[tuple[str, str | float], int] = field(default_factory=dict)
    inside: dict[str, _Found] | None = field(default_factory=dict)

    def take(self, value: Any, depth: int) -> None:
        """Count what a document has."""
        self.documents += value is not None
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, str | float | int):
                plain = float(each) if isinstance(each, int) and each not in _INTEGERS else each
                key = _type(plain), plain
                self.values[key] = self.values.get(key, 0) + 1
        if isinstance(value, dict) and depth < _DEEPEST:
            self.look_into(value, depth, _MOST_INSIDE)

    def look_into(self, fields: dict[str, Any], depth: int, most: int) -> None:
        """Count the fields of an object."""
        for name, value in fields.items():
            if self.inside is None:
                return
            if name not in self.inside:
                if not can_be_asked_for(name):
                    continue
                if len(self.inside) == most:
                    if depth:
                        self.inside = None
                    continue
                self.inside[name] = _Found()
            self.inside[name].take(value, depth + 1)

    def summaries(self, names: tuple[str, ...], total: int) -> list[FieldSummary]:
        """Of the fields inside, or of the field itself."""
        if self.inside:
            return [each for name in sorted(self.inside) for each in self.inside[name].summaries((*names, name), total)]
        if not names:
            return []
        types: dict[str, int] = {} if self.inside is not None else {"object": self.documents}
        values = []
        for (kind, value), often in _ordered(self.values):
            types[_KINDS[kind]] = types.get(_KINDS[kind], 0) + often
            values.append((value, often))
        return [FieldSummary(".".join(names), self.documents, total, types, tuple(values))]


def all_fields(metadata: Iterable[str]) -> list[FieldSummary]:
    """Every field by name, those inside objects too, but at most `MOST_FIELDS`; looks once at each document."""
    every = _Found()
    for encoded in metadata:
        every.documents += 1
        every.look_into(json.loads(encoded), 0, MOST_FIELDS)
    parts: dict[str, list[FieldSummary]] = {}
    for each in every.summaries((), every.documents):
        parts.setdefault(each.name, []).append(each)  # inside of objects, and under a name with points
    summaries = (replace(joined(parts[name]), looked_at=every.documents) for name in sorted(parts))
    return list(islice(summaries, MOST_FIELDS))


def unknown_fields(connection: apsw.Connection, condition: CompiledFilter) -> dict[str, list[str]]:
    """The fields that a condition names and no document has, each with those that there are in its place."""
    unknown = {}
    for names in condition.fields:
        if _is_there(connection, names):
            continue
        parent = names[:-1]
        while parent and not field_names(connection, parent):
            parent = parent[:-1]
        known = {".".join((*parent, name)) for name in field_names(connection, parent)}
        if not parent and has_titles(connection):
            known.add("title")
        unknown[".".join(names)] = sorted(known)
    return unknown


def _is_there(connection: apsw.Connection, names: tuple[str, ...]) -> bool:
    """Whether a condition can ask any document for a field."""
    return names == _ID or has_field(connection, names) or (names == _TITLE and has_titles(connection))


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
        if _is_there(connection, asked.names)
    ]
