"""The options that say how documents are read: the fields of :class:`~llm2comp_apps.corpus.CorpusOptions`."""

from __future__ import annotations

import inspect
from typing import Annotated

import typer

from llm2comp_apps.cli.options.expand import Group, option, with_groups
from llm2comp_apps.corpus.options import FORMATS, ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS, CorpusOptions

__all__ = ["READING", "CorpusArgument", "with_reading"]

CorpusArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS...",
        help="Files (jsonl json csv tsv parquet txt md, also .gz .zst; pdf html docx pptx xlsx odt epub eml mbox; "
        "source code), folders, patterns ('notes/**/*.md'), or -.",
    ),
]
_PANEL = "Reading documents"


def _text(name: str, metavar: str, text: str) -> inspect.Parameter:
    default = CorpusOptions.__dataclass_fields__[name].default
    return option(name, str, default, metavar, text, panel=_PANEL)


def _field(what: str, looked_for: tuple[str, ...], otherwise: str = "") -> inspect.Parameter:
    text = f"Field with the {what}. [default: the first of {', '.join(looked_for)}{otherwise}]"
    return option(f"{what}_field", str | None, None, "FIELD", text, panel=_PANEL)


_PAGES = "Make a document of each page of a PDF, slide of a presentation and chapter of a book."
READING = Group(
    CorpusOptions,
    (
        _text("format", "FORMAT", f"Format of the files: {', '.join(FORMATS)}."),
        _field("id", ID_FIELDS, "; else made from the content"),
        _field("title", TITLE_FIELDS),
        _field("text", TEXT_FIELDS, "; several, with commas between them, are joined"),
        _text("encoding", "NAME", "Text encoding of the files."),
        _text(
            "encoding_errors",
            "POLICY",
            "Invalid characters: strict makes their record a broken one, replace puts U+FFFD in their place.",
        ),
        _text(
            "on_error",
            "POLICY",
            "Broken records: stop at the first; skip, count and list them; auto skips in what a folder brought along.",
        ),
        option("pages", bool, False, None, _PAGES, flag="--pages/--no-pages", panel=_PANEL),
        option(
            "max_seconds",
            float,
            CorpusOptions.__dataclass_fields__["max_seconds"].default,
            "SECONDS",
            "Time for each part of a file, such as a page or a row; a file that takes longer is passed over.",
            panel=_PANEL,
        ),
        option(
            "gitignore",
            bool,
            True,
            None,
            "Leave out of folders what their .gitignore files leave out.",
            flag="--gitignore/--no-gitignore",
            panel=_PANEL,
        ),
    ),
)
with_reading = with_groups(reading=READING)
"""Gives a command the reading options in place of its parameter ``reading``."""
