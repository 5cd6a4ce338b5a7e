"""``llm2comp index``: the group, and the commands that look at an index, tidy it, or exchange vectors with others."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer

from llm2comp_apps.cli import index_build, index_look, index_tune, index_watch
from llm2comp_apps.cli.options.common import (
    DeviceOption,
    EncoderOption,
    JsonOption,
    add_command,
    examples,
    output_option,
)
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.index_settings import DELETE, IMPORT, POLICY, ExistingIndex, IndexArgument
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.log import describe_index_device
from llm2comp_apps.cli.ui.progress import ProgressDisplay
from llm2comp_apps.cli.ui.reading import documents_of
from llm2comp_apps.corpus.options import CorpusOptions

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the group to the app."""
    group = typer.Typer(
        name="index",
        help="Build an index over documents, change it, check it, move it.",
        no_args_is_help=True,
        epilog=examples("llm2comp index build corpus.jsonl", "llm2comp index info corpus.index"),
        rich_markup_mode=None,
    )
    index_build.register(group)
    index_watch.register(group)
    index_look.register(group)
    index_tune.register(group)
    add_command(group, verify, "llm2comp index verify corpus.index")
    add_command(
        group,
        delete,
        "llm2comp index delete corpus.index --id 4983 --id 5836",
        'llm2comp index delete corpus.index --where "year < 1990"',
    )
    compacted = "llm2comp index compact corpus.index"
    add_command(group, compact, compacted, f"{compacted} --kind hnsw")
    exported = "llm2comp index export corpus.index"
    add_command(group, export, f"{exported} corpus.parquet", f"{exported} http://localhost:6333 --to qdrant")
    add_command(
        group,
        import_,
        "llm2comp index import corpus.parquet -o corpus.index --encoder default",
        "llm2comp index import vectors.npy corpus.jsonl -o corpus.index --encoder default",
        name="import",
    )
    app.add_typer(group)


def verify(index: IndexArgument = None, as_json: JsonOption = False) -> None:
    """Compare every byte of an index with what was committed.

    Exits with 1 and names the files if any differs.
    """
    from llm2comp_indexes import verify_index

    from llm2comp_apps.retrieval.discovery import find_index

    path = find_index(index)
    damages = verify_index(path)  # not by way of a collection, which a damaged index may not open
    if as_json:
        print_json({"index": str(path), "damaged": [asdict(damage) for damage in damages]})
    else:
        for damage in damages:
            typer.echo(f"{damage.file}: {damage.reason}")
    if damages:
        note(f"{path}: {len(damages)} damaged")
        raise typer.Exit(1)
    note(f"{path}: every byte is as it was committed")


@with_groups(*DELETE)
def delete(index: ExistingIndex, ids: list[str] | None, where: str | None, allow_most: bool) -> None:
    """Delete documents, by id or by what their fields say.

    A condition on a field that no document has is refused, since it is most likely misspelled.
    """
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.removal import MostDocumentsError

    library = Collection.open(index)
    try:
        report = library.delete(ids, where=where, allow_most=allow_most)
    except MostDocumentsError as most:
        if not _is_terminal(sys.stdin):
            raise
        if not typer.confirm(f"--where meets {most.found} of the {most.total} documents. Delete them?", err=True):
            note("Nothing was deleted.")
            raise typer.Exit(1) from most
        report = library.delete(ids, where=where, allow_most=True)
    note(f"{library.path}: {report.deleted} documents deleted")
    if report.missing:
        note(f"{report.missing} of the ids are not in the index")
    warn(*report.warnings)


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


@with_groups(policy=POLICY)
def compact(index: ExistingIndex, *, policy: dict[str, Any], device: DeviceOption = None) -> None:
    """Merge segments, drop what was deleted, change the kind.

    This makes searches faster and the index smaller. Without options it stays of its kind. A kind that misses the
    target recall is refused, and the index stays whole.
    """
    from llm2comp_apps.retrieval.collection import Collection

    describe_index_device(device)
    library = Collection.open(index, device=device)
    before = library.info().bytes
    facts = library.compact(**policy)
    kind = facts.kind if facts.reason is None else f"{facts.kind}: {facts.reason}"
    note(f"{library.path}: kind {kind}; {before:,} bytes before, {facts.bytes:,} after")


def export(
    index: ExistingIndex,
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="Output file: .parquet (documents too), .npy or .faiss. With --to: a folder or URL (qdrant, lancedb), "
            "a connection string (pgvector), a folder (parquet).",
        ),
    ],
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="ENGINE", help="Engine to fill: qdrant, lancedb, pgvector or parquet."),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Collection or table of the engine. [default: the index's name]"),
    ] = None,
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
        note(f"{target}: {library.export(target)} vectors")
        return
    with ProgressDisplay("exporting", "rows") as progress:
        done = export_to(library.index, to, target, name=name, on_progress=progress.update)
    if as_json:
        print_json(asdict(done))
    note(
        f"{target}: {done.rows} rows in {done.name}, {done.written} of them sent now; {done.found} of {done.searches} "
        f"were found again, with {100 * done.overlap:.1f} % of the neighbours that the index finds"
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
