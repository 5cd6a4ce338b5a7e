"""``llm2comp index build`` and ``llm2comp index add``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, examples
from llm2comp_apps.cli.options.index_kind import KindOption, LanguageOption, MaxRamOption, TargetRecallOption
from llm2comp_apps.cli.options.reading import CorpusArgument, with_reading
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.errors import UsageError

__all__ = ["add", "build", "register"]

ChunkOption = Annotated[
    int | None,
    typer.Option(
        "--chunk",
        metavar="TOKENS",
        help="Cut long documents into chunks of at most so many tokens, a vector each. Without it, only the beginning "
        "of a document is read by meaning: as many tokens as the encoder takes, 512 for the default.",
    ),
]
OverlapOption = Annotated[
    int | None, typer.Option("--overlap", metavar="TOKENS", help="Tokens that neighbouring chunks share. [default: 0]")
]
MemoryOption = Annotated[
    bool | None,
    typer.Option("--memory/--no-memory", help="Store memory vectors too, for search --rerank memory. [default: no]"),
]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``index`` group."""
    app.command(
        "build",
        epilog=examples(
            "llm2comp index build corpus.jsonl",
            "llm2comp index build notes/ papers.csv -o library.index --chunk 256 --overlap 32",
            "zcat dump.jsonl.gz | llm2comp index build - -o dump.index",
        ),
    )(build)
    app.command("add", epilog=examples("llm2comp index add library.index new-papers.jsonl"))(add)


@with_reading
def build(
    corpus: CorpusArgument,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="The index. [default: corpus.index beside the corpus]"),
    ] = None,
    encoder: EncoderOption = None,
    chunk: ChunkOption = None,
    overlap: OverlapOption = None,
    memory: MemoryOption = None,
    language: LanguageOption = None,
    kind: KindOption = None,
    target_recall: TargetRecallOption = None,
    max_ram: MaxRamOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Make an index of a corpus, or bring one up to date.

    Commits as it goes: after ctrl-C, a crash or a power cut, the same command goes on where it stopped. Documents
    that the index holds unchanged are not encoded again.
    """
    from llm2comp_apps.cli._filling import Corpus, Filling
    from llm2comp_apps.cli._settings import check_settings
    from llm2comp_apps.retrieval.discovery import default_index_path

    check_settings(language=language, target_recall=target_recall)
    if output is not None and output.is_file():
        raise UsageError(f"-o {output}: that is a file, not an index; an index is a folder, say {output.stem}.index")
    documents = Corpus(corpus, reading)
    documents.check()
    if output is None:
        if len(corpus) > 1:
            raise UsageError("several corpora: say where their index goes with -o DIR")
        output = default_index_path(corpus[0])
    settings: dict[str, Any] = {
        "chunk": chunk,
        "overlap": overlap,
        "memory": memory,
        "language": language,
        "kind": kind,
    }
    settings |= {"target_recall": target_recall, "max_ram": max_ram and max_ram * 2**20}
    filling = Filling(documents, encoder, device, as_json)
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        filling.existing(output, settings, whole=True)
    else:
        filling.new(output, settings)


@with_reading
def add(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An existing index.")],
    corpus: CorpusArgument,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Add documents, or replace those with the same ids.

    They are encoded, chunked and stored as the index was built. Documents that it holds unchanged are skipped.
    """
    from llm2comp_apps.cli._filling import Corpus, Filling

    documents = Corpus(corpus, reading)
    documents.check()
    Filling(documents, encoder, device, as_json).existing(index, {}, whole=False)
