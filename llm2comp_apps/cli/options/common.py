"""Options that nearly every command takes, and how a command shows its examples."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["DeviceOption", "EncoderOption", "JsonOption", "examples"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, for programs.")]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="cpu, cuda, cuda:1 ... [default: what is there]")
]
EncoderOption = Annotated[
    str | None,
    typer.Option(
        "--encoder",
        metavar="NAME",
        help="default, a checkpoint directory, a Hugging Face id, or a plain LLM training-free: "
        "baseline:lt|wmp|ee|prompteol|metaeol, with @LLM for another than the default one "
        "(baseline:prompteol@path/to/llm).",
    ),
]


def examples(*commands: str) -> str:
    r"""The ``epilog`` of a command: its examples, one a line (the leading ``\b`` keeps the lines apart)."""
    title = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {command}" for command in commands)])
