"""The options that say how an index searches, its vectors and its words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli.ui.console import note, warn

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = [
    "KindOption",
    "LanguageOption",
    "MaxRamOption",
    "OtherKindOption",
    "OtherMaxRamOption",
    "OtherTargetRecallOption",
    "TargetRecallOption",
    "faiss_device",
    "warn_of_refusal",
]

_KINDS = "auto, flat, ivf, hnsw, sq8, rabitq, or a FAISS factory string"
_KEPT = "as the index has it"


def _kind(default: str) -> Any:
    return typer.Option("--kind", metavar="KIND", help=f"How vectors are searched: {_KINDS}. [default: {default}]")


def _target_recall(default: str) -> Any:
    meaning = "Recall@10 against exact search that a kind must reach."
    return typer.Option("--target-recall", metavar="SHARE", help=f"{meaning} [default: {default}]")


def _max_ram(default: str) -> Any:
    meaning = "Memory that a kind may take, of each segment."
    return typer.Option("--max-ram", metavar="MIB", min=1, help=f"{meaning} [default: {default}]")


KindOption = Annotated[str | None, _kind("auto")]
TargetRecallOption = Annotated[float | None, _target_recall("0.95")]
MaxRamOption = Annotated[int | None, _max_ram("no limit")]
OtherKindOption = Annotated[str | None, _kind(_KEPT)]
OtherTargetRecallOption = Annotated[float | None, _target_recall(_KEPT)]
OtherMaxRamOption = Annotated[int | None, _max_ram(_KEPT)]
LanguageOption = Annotated[
    str | None,
    typer.Option(
        "--language", metavar="NAME", help="Of the texts, for matching words; none: no stemming. [default: english]"
    ),
]


def faiss_device(device: str | None) -> str:
    """Where FAISS works, given ``--device``: ``cuda`` if that was asked for and FAISS sees a GPU, else ``cpu``.

    Says what runs where: at once for the CPU, and as its log lines come for GPUs.
    """
    if device is None or not device.startswith("cuda"):
        return "cpu"
    from llm2comp_indexes import gpu_count

    if not gpu_count():
        note("FAISS sees no GPU (its GPU wheel is pip install 'llm2comp-apps[gpu]'): the index works on the CPU")
        return "cpu"
    logger = logging.getLogger("llm2comp_indexes")
    if not logger.handlers:
        logger.addHandler(_Notes())
        logger.setLevel(logging.INFO)
    return "cuda"


def warn_of_refusal(index: Index, refusal: str | None) -> None:
    """Tell that the index's kind is refused, if it is: a matter of speed, since every document is committed.

    Args:
        index: after the commit.
        refusal: `Writer.refusal`.
    """
    if refusal is None:
        return
    exact = "and searched exactly"
    if index.info().kind != "flat":
        exact = "and those that this kind does not fit are searched exactly"
    warn(
        f"{refusal}: the {len(index):,} documents are safe {exact}; "
        f"choose another with `llm2comp index compact {index.path} --kind ...`"
    )


class _Notes(logging.Handler):
    """Log lines as notes on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())
