"""``llm2comp index export`` and ``llm2comp index import``: vectors to and from other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli._kind import KindOption, faiss_device
from llm2comp_apps.cli._shared import DeviceOption, EncoderOption, examples, note
from llm2comp_apps.cli.corpus_args import Format, IdField, OnError, TextField, TitleField
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm2comp_apps.corpus import CorpusOptions, Document

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``index`` group."""
    app.command(
        "export",
        epilog=examples(
            "llm2comp index export corpus.index corpus.parquet", "llm2comp index export corpus.index vectors.npy"
        ),
    )(export)
    app.command(
        "import",
        epilog=examples(
            "llm2comp index import corpus.parquet -o corpus.index --encoder default",
            "llm2comp index import vectors.npy corpus.jsonl -o corpus.index",
        ),
    )(import_)


def export(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An existing index.")],
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to: .parquet (documents too), .npy or .faiss.")],
) -> None:
    """Write vectors to a file that other programs read.

    Beside .npy and .faiss comes .ids.jsonl, a line for each row.
    """
    from llm2comp_indexes import Index
    from llm2comp_indexes.exchange import export_index

    from llm2comp_apps.retrieval.discovery import find_index

    rows = export_index(Index.open(find_index(index, origin="INDEX")), target)
    note(f"{target}: {rows} vectors")


def import_(
    vectors: Annotated[Path, typer.Argument(metavar="VECTORS", help="A .parquet file with id and vector, or .npy.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The new index.")],
    corpus: Annotated[
        str | None, typer.Argument(metavar="[CORPUS]", help="For .npy: the documents of its rows, in their order.")
    ] = None,
    encoder: EncoderOption = None,
    kind: KindOption = None,
    device: DeviceOption = None,
    format: Format = "auto",  # noqa: A002 - the name of the option, as CorpusOptions has it
    id_field: IdField = None,
    title_field: TitleField = None,
    text_field: TextField = None,
    on_error: OnError = "stop",
) -> None:
    """Make an index of vectors that are there already.

    With --encoder, the index knows what made them and can be searched by meaning; without, only by words here, and by
    vectors from Python.
    """
    from llm2comp_indexes import Index

    from llm2comp_apps.cli._open import encoder_record, load_named_encoder
    from llm2comp_apps.corpus import CorpusOptions
    from llm2comp_apps.retrieval.imports import import_matrix, import_parquet

    options = CorpusOptions(format, id_field, title_field, text_field, on_error=on_error)
    _check_call(vectors, corpus)
    arguments: dict[str, Any] = {"settings": {"kind": kind} if kind is not None else {}}
    if encoder is not None:
        loaded = load_named_encoder(encoder, device)
        arguments |= {"encoder": loaded, "encoder_record": encoder_record(loaded, encoder)}
    if corpus is None:
        count = import_parquet(output, vectors, **arguments)
    else:
        count = import_matrix(output, vectors, _documents(corpus, options), **arguments)
    note(f"{output}: {count} documents")
    with Index.open(output).writer() as writer:
        writer.maintain(device=faiss_device(device))


def _check_call(vectors: Path, corpus: str | None) -> None:
    if vectors.suffix not in (".npy", ".parquet"):
        raise UsageError(f"{vectors}: vectors come as .parquet or .npy")
    if (vectors.suffix == ".npy") != (corpus is not None):
        raise UsageError("a .npy file needs the CORPUS of its rows, and a .parquet file brings its own")


def _documents(corpus: str, options: CorpusOptions) -> Iterator[Document]:
    from llm2comp_apps.cli._corpus import describe_reading
    from llm2comp_apps.corpus import ReadReport, read_corpus

    report = ReadReport()
    yield from read_corpus([corpus], options, report)
    describe_reading(report)
