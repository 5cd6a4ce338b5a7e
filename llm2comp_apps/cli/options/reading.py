"""The options by which commands that read documents say how: spelled and explained once.

A command that has them takes ``reading: CorpusOptions`` and is decorated with :data:`with_reading`, which puts the
seven options of :class:`~llm2comp_apps.corpus.CorpusOptions` in the place of that parameter.
"""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.expand import Group, with_groups
from llm2comp_apps.corpus.options import FORMATS, ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS, CorpusOptions

__all__ = ["READING", "READING_OPTIONS", "CorpusArgument", "with_reading"]

CorpusArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS...", help="Files (jsonl json csv tsv parquet txt md, also .gz .zst), folders, or -."
    ),
]


def _option(name: str, metavar: str, text: str, *, shown: bool = True) -> inspect.Parameter:
    """The option of one field of :class:`CorpusOptions`, with the field's default."""
    default = CorpusOptions.__dataclass_fields__[name].default
    option = typer.Option(
        f"--{name.replace('_', '-')}",
        metavar=metavar,
        help=text,
        rich_help_panel="Reading documents",
        show_default=shown,
    )
    kind: Any = str if isinstance(default, str) else str | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def _field(name: str, what: str, looked_for: tuple[str, ...], otherwise: str = "") -> inspect.Parameter:
    text = f"Field with the {what}. [default: the first of {', '.join(looked_for)}{otherwise}]"
    return _option(name, "FIELD", text, shown=False)


_OPTIONS = (
    _option("format", "FORMAT", f"Format of the files: {', '.join(FORMATS)}."),
    _field("id_field", "id", ID_FIELDS, "; else made from the content"),
    _field("title_field", "title", TITLE_FIELDS),
    _field("text_field", "text", TEXT_FIELDS),
    _option("encoding", "NAME", "Text encoding of the files."),
    _option(
        "encoding_errors",
        "POLICY",
        "Invalid characters: strict makes their record a broken one, replace puts U+FFFD in their place.",
    ),
    _option("on_error", "POLICY", "Broken records: stop at the first, or skip, count and list them."),
)
READING = Group(CorpusOptions, _OPTIONS)
READING_OPTIONS = tuple(option.name for option in _OPTIONS)
"""The parameters of the group."""

with_reading = with_groups(reading=READING)
"""Gives a command the reading options in place of its parameter ``reading``."""
