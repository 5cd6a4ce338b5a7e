"""``llm2comp index info``, ``show`` and ``list``: the commands that look at an index and change nothing."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import JsonOption, add_command
from llm2comp_apps.cli.options.index_settings import ExistingIndex, IndexArgument
from llm2comp_apps.cli.ui.console import note, print_json, printable
from llm2comp_apps.cli.ui.tables import print_tables

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the commands to the group."""
    add_command(group, info, "llm2comp index info corpus.index --json")
    add_command(group, show, "llm2comp index show corpus.index 4983")
    add_command(group, list_, "llm2comp index list", name="list")


def info(index: IndexArgument = None, as_json: JsonOption = False) -> None:
    """Show what is in an index: documents, encoder, kind, size, rerankers, and what the fields hold."""
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.looking import field_facts, field_lines
    from llm2comp_apps.retrieval.rerank.usable import usable_lines, usable_rerankers

    library = Collection.open(index)
    found, fields, rerankers = library.info(), library.index.fields(), usable_rerankers(library.index)
    if as_json:
        named = [asdict(reranker) for reranker in rerankers]
        print_json({**asdict(found), "rerankers": named, "fields": field_facts(fields)})
        return
    for line in found.lines():
        typer.echo(line)
    for name, lines in (("rerankers", usable_lines(rerankers)), ("fields", field_lines(fields))):
        for number, line in enumerate(lines):
            typer.echo(f"{'' if number else name:<20}{printable(line)}")


def show(
    index: ExistingIndex,
    id: Annotated[str, typer.Argument(metavar="ID", help="Id of a document, as a search prints it.")],  # noqa: A002
    as_json: JsonOption = False,
) -> None:
    """Show a document: title, fields and the whole text."""
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.looking import one_document

    document = one_document(Collection.open(index).index, id)
    if as_json:
        print_json({"id": id, "title": document.title, "text": document.text, "metadata": document.metadata})
        return
    if document.title:
        typer.echo(printable(document.title))
    for name, value in document.metadata.items():
        typer.echo(printable(f"{name}: {value}"))
    typer.echo()
    typer.echo("\n".join(map(printable, document.text.splitlines())))
    if document.spans:
        note(f"{len(document.spans)} chunks")


def list_(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder to look into.")] = Path(),
    as_json: JsonOption = False,
) -> None:
    """List the indexes in a folder, with their documents, size, encoder and kind."""
    from llm2comp_apps.retrieval.looking import indexes_in, indexes_table

    found = indexes_in(folder)
    if as_json:
        rows = [asdict(each.info) if each.info else {"path": str(each.path), "reason": each.reason} for each in found]
        print_json({"indexes": rows})
    elif found:
        print_tables([indexes_table(found)])
    else:
        note(f"{folder.resolve()} holds no *.index folder")
