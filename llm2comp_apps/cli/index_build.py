"""``llm2comp index build`` and ``llm2comp index add``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli._corpus import CorpusArgument
from llm2comp_apps.cli._shared import DeviceOption, EncoderOption, JsonOption, examples, note
from llm2comp_apps.cli.corpus_args import Encoding, EncodingErrors, Format, IdField, OnError, TextField, TitleField
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from llm2comp_apps.cli._filling import Corpus
    from llm2comp_apps.encoder import TextEncoder

__all__ = ["add", "build", "register"]

ChunkOption = Annotated[
    int | None,
    typer.Option("--chunk", metavar="TOKENS", help="Cut long documents into chunks of so many tokens, a vector each."),
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
    device: DeviceOption = None,
    as_json: JsonOption = False,
    format: Format = "auto",  # noqa: A002 - the name of the option, as CorpusOptions has it
    id_field: IdField = None,
    title_field: TitleField = None,
    text_field: TextField = None,
    encoding: Encoding = "utf-8",
    encoding_errors: EncodingErrors = "strict",
    on_error: OnError = "stop",
) -> None:
    """Make an index of a corpus, or bring one up to date.

    Commits as it goes: after ctrl-C, a crash or a power cut, the same command goes on where it stopped. Documents
    that the index holds unchanged are not encoded again.
    """
    from llm2comp_apps.cli._filling import Corpus
    from llm2comp_apps.corpus import CorpusOptions
    from llm2comp_apps.retrieval.discovery import default_index_path

    options = CorpusOptions(format, id_field, title_field, text_field, encoding, encoding_errors, on_error)
    documents = Corpus(corpus, options)
    documents.check()
    if output is None:
        if len(corpus) > 1:
            raise UsageError("several corpora: say where their index goes with -o DIR")
        output = default_index_path(corpus[0])
    wanted = {"chunk": chunk, "overlap": overlap, "memory": memory}
    if output.exists():
        _fill_existing(output, documents, wanted, encoder, device, as_json=as_json)
    else:
        _fill_new(output, documents, wanted, encoder, device, as_json=as_json)


def add(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="An existing index.")],
    corpus: CorpusArgument,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    format: Format = "auto",  # noqa: A002 - the name of the option, as CorpusOptions has it
    id_field: IdField = None,
    title_field: TitleField = None,
    text_field: TextField = None,
    encoding: Encoding = "utf-8",
    encoding_errors: EncodingErrors = "strict",
    on_error: OnError = "stop",
) -> None:
    """Add documents to an index, or replace those whose ids it has.

    They are encoded, chunked and stored as the index was built. Documents that it holds unchanged are skipped.
    """
    from llm2comp_apps.cli._filling import Corpus
    from llm2comp_apps.corpus import CorpusOptions

    options = CorpusOptions(format, id_field, title_field, text_field, encoding, encoding_errors, on_error)
    documents = Corpus(corpus, options)
    documents.check()
    _fill_existing(index, documents, {}, encoder, device, as_json=as_json)


def _fill_new(
    path: Path, corpus: Corpus, wanted: dict[str, Any], encoder_name: str | None, device: str | None, *, as_json: bool
) -> None:
    from llm2comp_indexes import Index

    from llm2comp_apps.cli._filling import fill
    from llm2comp_apps.cli._open import encoder_record, load_named_encoder
    from llm2comp_apps.retrieval.recipe import Recipe
    from llm2comp_apps.retrieval.rerank import encode_memory_with

    recipe = Recipe(**{name: value for name, value in wanted.items() if value is not None})
    source = encoder_name or "default"
    encoder = load_named_encoder(source, device)
    recipe = replace(recipe, prompt=encoder.prompts.get("document", ""))
    memory_tokens = encode_memory_with(encoder).k if recipe.memory else 0
    # The index is made after the corpus has been read once: a broken corpus leaves nothing behind.
    survey = corpus.survey(None, recipe, encoder.fingerprint)
    _announce(encoder, path)
    index = Index.create(
        path,
        dimension=encoder.dimension,
        encoder=encoder_record(encoder, source),
        settings=recipe.to_settings(),
        memory_tokens=memory_tokens,
    )
    fill(index, encoder, corpus, recipe, survey, as_json=as_json)


def _fill_existing(
    path: Path, corpus: Corpus, wanted: dict[str, Any], encoder_name: str | None, device: str | None, *, as_json: bool
) -> None:
    from llm2comp_indexes import Index

    from llm2comp_apps.cli._filling import fill
    from llm2comp_apps.cli._open import load_index_encoder
    from llm2comp_apps.retrieval.recipe import Recipe
    from llm2comp_apps.retrieval.search import check_encoder

    index = Index.open(path)
    recipe = Recipe.from_settings(index.settings)
    for name, value in wanted.items():
        built = getattr(recipe, name)
        if value is not None and value != built:
            how = f"with --{name} {built}" if built else f"without --{name}"
            raise UsageError(f"{path} was built {how}; leave the option out, or build elsewhere with -o")
    encoder = load_index_encoder(index, encoder_name, device)
    check_encoder(index, encoder)
    survey = corpus.survey(index, recipe, encoder.fingerprint)
    _announce(encoder, path)
    fill(index, encoder, corpus, recipe, survey, as_json=as_json)


def _announce(encoder: TextEncoder, path: Path) -> None:
    note(f"{path}: encoder {encoder.name}, {encoder.dimension} dimensions")
