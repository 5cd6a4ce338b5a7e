"""The options that say how an index searches its vectors."""

from __future__ import annotations

import logging
from typing import Annotated

import typer

from llm2comp_apps.cli._shared import note

__all__ = ["KindOption", "MaxRamOption", "TargetRecallOption", "faiss_device"]

KindOption = Annotated[
    str | None,
    typer.Option(
        "--kind",
        metavar="KIND",
        help="How vectors are searched: auto, flat, ivf, hnsw, sq8, rabitq, or a FAISS factory string. [default: auto]",
    ),
]
TargetRecallOption = Annotated[
    float | None,
    typer.Option(
        "--target-recall",
        metavar="SHARE",
        help="Recall@10 against exact search that a kind must reach. [default: 0.95]",
    ),
]
MaxRamOption = Annotated[
    int | None, typer.Option("--max-ram", metavar="MIB", min=1, help="Memory that a kind may take. [default: no limit]")
]


def faiss_device(device: str | None) -> str:
    """Where FAISS works, given ``--device``: ``cuda`` if that was asked for and FAISS sees a GPU, else ``cpu``.

    Says what runs where: at once for the CPU, and as its log lines come for GPUs.
    """
    if device is None or not device.startswith("cuda"):
        return "cpu"
    from llm2comp_indexes.gpu import gpu_count

    if not gpu_count():
        note("FAISS sees no GPU (its GPU wheel is pip install 'llm2comp-apps[gpu]'): the index works on the CPU")
        return "cpu"
    logger = logging.getLogger("llm2comp_indexes")
    if not logger.handlers:
        logger.addHandler(_Notes())
        logger.setLevel(logging.INFO)
    return "cuda"


class _Notes(logging.Handler):
    """Log lines as notes on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        note(record.getMessage())
