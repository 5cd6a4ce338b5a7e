"""The options by which commands that read documents say how; shared, so that they are spelled and explained once.

A command declares ``format: Format = "auto"``, ``text_field: TextField = None`` and so on, and hands them to
:class:`~llm2comp_apps.corpus.CorpusOptions` under the same names.
"""

from __future__ import annotations

from typing import Annotated

import typer

from llm2comp_apps.corpus.options import FORMATS, ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS

__all__ = ["CorpusArgument", "Encoding", "EncodingErrors", "Format", "IdField", "OnError", "TextField", "TitleField"]

CorpusArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="CORPUS...", help="Files (jsonl json csv tsv parquet txt md, also .gz .zst), folders, or -."
    ),
]
_PANEL = "Reading documents"

Format = Annotated[
    str,
    typer.Option(
        "--format", metavar="FORMAT", help=f"How the files are read: {', '.join(FORMATS)}.", rich_help_panel=_PANEL
    ),
]
IdField = Annotated[
    str | None,
    typer.Option(
        "--id-field",
        metavar="FIELD",
        help=f"Field with the id.  [default: the first of {', '.join(ID_FIELDS)}; else made from the content]",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
TitleField = Annotated[
    str | None,
    typer.Option(
        "--title-field",
        metavar="FIELD",
        help=f"Field with the title.  [default: the first of {', '.join(TITLE_FIELDS)}]",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
TextField = Annotated[
    str | None,
    typer.Option(
        "--text-field",
        metavar="FIELD",
        help=f"Field with the text.  [default: the first of {', '.join(TEXT_FIELDS)}]",
        rich_help_panel=_PANEL,
        show_default=False,
    ),
]
Encoding = Annotated[
    str, typer.Option("--encoding", metavar="NAME", help="Text encoding of the files.", rich_help_panel=_PANEL)
]
EncodingErrors = Annotated[
    str,
    typer.Option(
        "--encoding-errors",
        metavar="POLICY",
        help="Invalid characters: strict makes their record a broken one, replace puts U+FFFD.",
        rich_help_panel=_PANEL,
    ),
]
OnError = Annotated[
    str,
    typer.Option(
        "--on-error",
        metavar="POLICY",
        help="Broken records: stop at the first, or skip, count and list them.",
        rich_help_panel=_PANEL,
    ),
]
