"""``llm2comp index export`` and ``llm2comp index import``: vectors to and from other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, examples
from llm2comp_apps.cli.options.index_kind import KindOption, LanguageOption, faiss_device, warn_of_refusal
from llm2comp_apps.cli.options.reading import with_reading
from llm2comp_apps.cli.ui.console import note, print_json
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from llm2comp_apps.corpus import Document

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

    Beside .npy and .faiss comes .ids.jsonl, a line for each row. A .parquet file keeps the settings of the index too
    (chunks, language, kind). Memory vectors are not exported.
    """
    from llm2comp_indexes import Index, export_index

    from llm2comp_apps.retrieval.discovery import find_index

    rows = export_index(Index.open(find_index(index, origin="INDEX")), target)
    note(f"{target}: {rows} vectors")


@with_reading
def import_(
    vectors: Annotated[Path, typer.Argument(metavar="VECTORS", help="A .parquet file with id and vector, or .npy.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="The new index.")],
    corpus: Annotated[
        str | None, typer.Argument(metavar="[CORPUS]", help="For .npy: the documents of its rows.")
    ] = None,
    encoder: EncoderOption = None,
    kind: KindOption = None,
    language: LanguageOption = None,
    device: DeviceOption = None,
    *,
    reading: CorpusOptions,
    as_json: JsonOption = False,
) -> None:
    """Make an index of vectors that are there already.

    With --encoder, the index knows what made them (a few documents are encoded again, to see that it is so) and can be
    searched by meaning; without, only by words here, and by vectors from Python.

    Beside .npy may lie .ids.jsonl or .ids.txt, as index export and encode write them: rows then go to documents by
    id; otherwise they must be in the same order. A .parquet file from index export brings the settings of its index,
    but no memory vectors.
    """
    from llm2comp_indexes import Index

    from llm2comp_apps.cli._open import encoder_record, load_named_encoder
    from llm2comp_apps.cli._settings import check_settings
    from llm2comp_apps.retrieval.imports import Importer

    _check_call(vectors, corpus)
    check_settings(language=language)
    given = {"kind": kind, "language": language}
    settings = {name: value for name, value in given.items() if value is not None}
    loaded = load_named_encoder(encoder, device) if encoder is not None else None
    record = encoder_record(loaded, encoder) if loaded is not None and encoder is not None else None
    importer = Importer(output, loaded, record, settings, faiss_device(device))
    report = importer.parquet(vectors) if corpus is None else importer.matrix(vectors, _documents(corpus, reading))
    if as_json:
        print_json({"index": str(output), "documents": report.documents, "refusal": report.refusal})
    note(f"{output}: {report.documents} documents")
    if report.memory_left_behind:
        note("Its memory vectors are not in the file; search --rerank memory needs: llm2comp index build --memory")
    with Index.open(output) as index:
        warn_of_refusal(index, report.refusal)


def _check_call(vectors: Path, corpus: str | None) -> None:
    if vectors.suffix not in (".npy", ".parquet"):
        raise UsageError(f"{vectors}: vectors come as .parquet or .npy")
    if (vectors.suffix == ".npy") != (corpus is not None):
        raise UsageError("a .npy file needs the CORPUS of its rows, and a .parquet file brings its own")


def _documents(corpus: str, options: CorpusOptions) -> Iterator[Document]:
    from llm2comp_apps.cli.ui.reading import describe_reading
    from llm2comp_apps.corpus import ReadReport, read_corpus

    report = ReadReport()
    yield from read_corpus([corpus], options, report)
    describe_reading(report)
