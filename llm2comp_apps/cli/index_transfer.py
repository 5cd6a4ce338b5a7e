"""``llm2comp index export`` and ``import``: vectors to other programs, and from them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command, output_option
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.index_settings import EXPORT, IMPORT, ExistingIndex
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.options.unused import refuse_given
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.log import describe_index_device
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.cli.ui.reading import documents_of
from llm2comp_apps.corpus.options import CorpusOptions

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the commands to the group."""
    exported = "llm2comp index export corpus.index"
    add_command(group, export, f"{exported} corpus.parquet", f"{exported} http://localhost:6333 --to qdrant")
    add_command(
        group,
        import_,
        "llm2comp index import corpus.parquet -o corpus.index --encoder default",
        "llm2comp index import vectors.npy corpus.jsonl -o corpus.index --encoder default",
        name="import",
    )


@with_groups(*EXPORT)
def export(
    ctx: typer.Context,
    index: ExistingIndex,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Output file: .parquet (documents too), .npy or .faiss. With --to: a folder or URL (qdrant, lancedb), "
            "a connection string (pgvector), a folder (parquet).",
        ),
    ],
    *,
    to: str | None,
    name: str | None,
    as_json: JsonOption = False,
) -> None:
    """Write vectors to a file that other programs read, or fill another engine.

    Beside .npy and .faiss comes .ids.jsonl, a line for each row. A .parquet file keeps the settings of the index too
    (chunks, language, kind). Memory vectors are not exported.

    An engine gets vectors, ids, texts and metadata. An export that was cut off continues where it stopped, and a later
    one sends what has changed. In the end rows are counted, and 100 of them are searched for.
    """
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.engines import export_to

    library = Collection.open(index)
    if to is None:
        refuse_given(ctx, ["name", "as_json"], "belongs to --to ENGINE")
        note(f"{target}: {library.export(target)} vectors")
        return
    with ProgressDisplay("exporting", "rows") as progress:
        done = export_to(library.index, to, target, name=name, on_progress=progress.update)
    if as_json:
        print_json(asdict(done))
    note(
        f"{done.target}: {done.rows} rows in {done.name}, {done.written} of them sent now; {done.found} of "
        f"{done.searches} were found again, with {100 * done.overlap:.1f} % of the neighbours that the index finds"
    )


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
    warn(*report.warnings)
