"""``llm2comp index export`` and ``llm2comp index import``: vectors to and from other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command, output_option
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.index_settings import IMPORT, ExistingIndex
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.log import describe_index_device
from llm2comp_apps.cli.ui.reading import documents_of
from llm2comp_apps.corpus.options import CorpusOptions

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``index`` group."""
    exported = "llm2comp index export corpus.index"
    add_command(app, export, f"{exported} corpus.parquet", f"{exported} vectors.npy")
    add_command(
        app,
        import_,
        "llm2comp index import corpus.parquet -o corpus.index --encoder default",
        "llm2comp index import vectors.npy corpus.jsonl -o corpus.index",
        name="import",
    )


def export(
    index: ExistingIndex,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="Output file: .parquet (documents too), .npy or .faiss.")
    ],
) -> None:
    """Write vectors to a file that other programs read.

    Beside .npy and .faiss comes .ids.jsonl, a line for each row. A .parquet file keeps the settings of the index too
    (chunks, language, kind). Memory vectors are not exported.
    """
    from llm2comp_apps.retrieval.collection import Collection

    note(f"{target}: {Collection.open(index).export(target)} vectors")


@with_groups(settings=IMPORT, reading=READING)
def import_(
    vectors: Annotated[
        Path, typer.Argument(metavar="VECTORS", help="File of vectors: .parquet (id; vector or embedding), or .npy.")
    ],
    output: Annotated[Path, output_option("DIR", "New index.")],
    documents: Annotated[
        str | None, typer.Argument(metavar="[CORPUS]", help="For .npy: the documents of its rows.")
    ] = None,
    encoder: EncoderOption = None,
    *,
    settings: dict[str, Any],
    device: DeviceOption = None,
    reading: CorpusOptions,
    as_json: JsonOption = False,
) -> None:
    """Make an index of vectors that are there already.

    With --encoder, the index knows what made them (a few documents are encoded again, to see that it is so) and can be
    searched by meaning; without, only by words here, and by vectors from Python.

    Beside .npy may lie .ids.jsonl or .ids.txt, as index export and encode write them: rows then go to documents by
    id; otherwise they must be in the same order. A .parquet file from index export brings the settings of its index,
    but no memory vectors. Further columns are metadata.
    """
    from llm2comp_apps.retrieval.imports import import_index

    describe_index_device(device)
    rows = None if documents is None else documents_of([documents], reading)
    report = import_index(output, vectors, rows, encoder=encoder, device=device, **settings)
    if as_json:
        print_json({"index": str(output), "documents": report.documents, "refusal": report.refusal})
    note(f"{output}: {report.documents} documents")
    for line in report.warnings:
        warn(line)
