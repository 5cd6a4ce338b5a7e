"""The options that say how an index is made and searched. ``None`` means: not given."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.expand import group_of

__all__ = ["BUILD", "POLICY", "BuildOptions", "KindOption", "LanguageOption", "PolicyOptions"]

_MIB = 2**20


def _kind(default: str) -> Any:
    kinds = "auto, flat, ivf, hnsw, sq8, rabitq, or a FAISS factory string"
    return typer.Option(
        "--kind", metavar="KIND", help=f"Kind of search among the vectors: {kinds}. [default: {default}]"
    )


def _target_recall(default: str) -> Any:
    meaning = "Recall@10 against exact search that a kind must reach."
    return typer.Option("--target-recall", metavar="SHARE", help=f"{meaning} [default: {default}]")


def _max_ram(default: str) -> Any:
    meaning = "Memory that a kind may take, of each segment."
    return typer.Option("--max-ram", metavar="MIB", min=1, help=f"{meaning} [default: {default}]")


KindOption = Annotated[str | None, _kind("auto")]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--language",
        metavar="NAME",
        help="Language of the texts, for stemming their words; none leaves them as they are. [default: english]",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyOptions:
    """How an index that is there is searched from now on."""

    kind: Annotated[str | None, _kind("as the index has it")] = None
    target_recall: Annotated[float | None, _target_recall("as the index has it")] = None
    max_ram: Annotated[int | None, _max_ram("as the index has it")] = None

    def given(self) -> dict[str, Any]:
        """The settings that were given, as the index names and counts them."""
        return _given(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """Settings of a new index (:class:`~llm2comp_apps.retrieval.settings.IndexSettings`)."""

    chunk: Annotated[
        int | None,
        typer.Option(
            "--chunk",
            metavar="TOKENS",
            help="Cut long documents into chunks of at most so many tokens, a vector each. Without it, only the "
            "beginning of a document is read by meaning: as many tokens as the encoder takes, 512 for the default.",
        ),
    ] = None
    overlap: Annotated[
        int | None,
        typer.Option("--overlap", metavar="TOKENS", help="Tokens that neighbouring chunks share. [default: 0]"),
    ] = None
    memory: Annotated[
        bool | None,
        typer.Option(
            "--memory/--no-memory", help="Store memory vectors too, for search --rerank memory. [default: no]"
        ),
    ] = None
    language: LanguageOption = None
    kind: KindOption = None
    target_recall: Annotated[float | None, _target_recall("0.95")] = None
    max_ram: Annotated[int | None, _max_ram("no limit")] = None

    def given(self) -> dict[str, Any]:
        """The settings that were given, as the index names and counts them."""
        return _given(self)


def _given(options: PolicyOptions | BuildOptions) -> dict[str, Any]:
    values = {name: value for name, value in asdict(options).items() if value is not None}
    if "max_ram" in values:
        values["max_ram"] *= _MIB
    return values


POLICY = group_of(PolicyOptions)
BUILD = group_of(BuildOptions)
