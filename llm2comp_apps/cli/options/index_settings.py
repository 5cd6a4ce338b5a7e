"""The options that say how an index is made and searched. What is not given is the index's own, or its default."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.expand import Group, option

__all__ = ["BUILD", "DELETE", "EXPORT", "IMPORT", "POLICY", "ExistingIndex", "IndexArgument"]

IndexArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[INDEX]", help="Index. [default: $LLM2COMP_INDEX, else the one *.index here]", show_default=False
    ),
]
ExistingIndex = Annotated[Path, typer.Argument(metavar="INDEX", help="Existing index.")]

_MIB = 2**20


def _given(**values: Any) -> dict[str, Any]:
    """The settings that were given, as an index names and counts them."""
    given = {name: value for name, value in values.items() if value is not None}
    return given | ({"max_ram": given["max_ram"] * _MIB} if "max_ram" in given else {})


def _kind(default: str) -> inspect.Parameter:
    kinds = "auto, flat, ivf, hnsw, sq8, rabitq, or a FAISS factory string"
    return option("kind", str | None, None, "KIND", f"Kind of search among the vectors: {kinds}. [default: {default}]")


def _policy(kind: str, target_recall: str, max_ram: str) -> tuple[inspect.Parameter, ...]:
    recall = f"Recall@10 against exact search that a kind must reach. [default: {target_recall}]"
    memory = f"Memory that a kind may take, of each segment. [default: {max_ram}]"
    return (
        _kind(kind),
        option("target_recall", float | None, None, "SHARE", recall),
        option("max_ram", int | None, None, "MIB", memory, min=1),
    )


_LANGUAGE = option(
    "language",
    str | None,
    None,
    "NAME",
    "Language of the texts, for stemming their words; none leaves them as they are. [default: english]",
)
_CHUNK = (
    "Cut long documents into chunks of at most so many tokens, a vector each. Without it, only the beginning of a "
    "document is read by meaning: as many tokens as the encoder takes, 512 for the default."
)
_MEMORY = "Store memory vectors too, for search --rerank memory. [default: no]"

BUILD = Group(
    _given,
    (
        option("chunk", int | None, None, "TOKENS", _CHUNK),
        option("overlap", int | None, None, "TOKENS", "Tokens that neighbouring chunks share. [default: 0]"),
        option("memory", bool | None, None, None, _MEMORY, flag="--memory/--no-memory"),
        _LANGUAGE,
        *_policy("auto", "0.95", "no limit"),
    ),
)
"""Settings of a new index (:class:`~llm2comp_apps.retrieval.settings.IndexSettings`), those that were given."""

POLICY = Group(_given, _policy(*["as the index has it"] * 3))
"""How an index that is there is searched from now on."""

IMPORT = Group(_given, (_kind("auto"), _LANGUAGE))
"""How an index of ready vectors is searched."""

_WHERE = "Condition on fields; what meets it is deleted."
_YES = "Do not ask, even if --where meets more than half of the documents."
DELETE = (
    option("ids", list[str] | None, None, "ID", "Document to delete. May be given several times.", flag="--id"),
    option("where", str | None, None, "CONDITION", _WHERE),
    option("allow_most", bool, False, None, _YES, flag="--yes"),
)
"""What is deleted."""

_TABLE = "Collection or table of the engine. [default: the index's name]"
EXPORT = (
    option("to", str | None, None, "ENGINE", "Engine to fill: qdrant, lancedb, pgvector or parquet."),
    option("name", str | None, None, "NAME", _TABLE),
)
"""Where an index goes, beside files of vectors."""
