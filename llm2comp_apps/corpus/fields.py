"""From a record to a document: which field is the id, the title, the text."""

from __future__ import annotations

from typing import Any

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.corpus.options import CorpusOptions, find_field
from llm2comp_apps.corpus.records import Record, json_type
from llm2comp_apps.corpus.report import ReadReport
from llm2comp_apps.corpus.seen import content_id

__all__ = ["UnfitRecordError", "to_document"]

_FIELDS_NAMED = 8  # of a record, in messages


class UnfitRecordError(Exception):
    """A record that cannot be a document, and why."""


def to_document(record: Record, options: CorpusOptions, report: ReadReport) -> tuple[Document, bool]:
    """Make a record a document, as :func:`read_corpus` does.

    Returns:
        The document, which may have neither title nor text; and whether its id was derived.

    Raises:
        UnfitRecordError: it has no text field, or a value of the wrong type.
    """
    rest = dict(record.fields)
    title_key, id_key = find_field(rest, options.title_fields), find_field(rest, options.id_fields)
    have = ", ".join(map(repr, list(rest)[:_FIELDS_NAMED])) or "no field at all"
    text_keys = [key for key in (find_field(rest, options.text_fields),) if key] or [
        key for name in options.joined_fields if (key := find_field(rest, (name,))) and key != title_key
    ]
    if not text_keys:
        looked = " or ".join(options.joined_fields or options.text_fields)
        raise UnfitRecordError(f"no text: looked for {looked}, found {have} (`text_field` names it)")
    if options.id_field and not id_key:
        raise UnfitRecordError(f"no field {options.id_field!r} (`id_field`), but {have}")
    if options.title_field and not title_key:
        report.note(f"{record.path}: there are records without the field {options.title_field!r} (`title_field`)")
    text = "\n".join(filter(None, [_string(rest, key) for key in text_keys]))
    title, given = _string(rest, title_key), _id(rest, id_key)
    return Document(given or content_id(title, text), text, title, rest, record.place), not given


def _string(fields: dict[str, Any], key: str) -> str:
    value = fields.pop(key, None)
    if value is not None and not isinstance(value, str):
        raise UnfitRecordError(f"the field {key!r} is {json_type(value)}, not a string")
    return value or ""


def _id(fields: dict[str, Any], key: str) -> str:
    value = fields.pop(key, None)
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
        raise UnfitRecordError(f"the field {key!r} is {json_type(value)}; an id is a string or an integer")
    return "" if value is None or not str(value).strip() else str(value)
