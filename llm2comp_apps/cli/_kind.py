"""The options that say how an index searches its vectors."""

from __future__ import annotations

from typing import Annotated

import typer

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
    """Where FAISS trains, given where the encoder runs: it knows ``cpu`` and ``cuda``."""
    return "cuda" if device is not None and device.startswith("cuda") else "cpu"
