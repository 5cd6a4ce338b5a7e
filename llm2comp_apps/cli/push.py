"""``llm2comp push``: an encoder on the Hugging Face hub."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.common import JsonOption, add_command, dtype_option, output_option
from llm2comp_apps.cli.ui.console import note, print_json, warn

__all__ = ["register"]

_BACKBONE = "Name by which others find the encoder's backbone, where it is a folder here. [default: the folder's name]"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(
        app,
        push,
        "llm2comp push runs/scl/encoder --repo me/my-encoder --private",
        "llm2comp push runs/scl/encoder --repo me/my-encoder --scores report.json --dry-run",
    )


def push(
    encoder: Annotated[str, typer.Argument(help="Encoder: quality, a checkpoint's directory or Hugging Face id.")],
    repo: Annotated[str, typer.Option("--repo", metavar="USER/NAME", help="Repository; made if it is missing.")],
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    pr: Annotated[bool, typer.Option("--pr", help="Open a pull request instead of changing the main branch.")] = False,
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="FILE", help="Scores for the card: report.json of eval run.")
    ] = None,
    dtype: Annotated[str | None, dtype_option(". [default: float32]")] = None,
    folder: Annotated[
        Path | None, output_option("FOLDER", "Folder to keep what goes up in. [default: a temporary one]")
    ] = None,
    backbone: Annotated[str | None, typer.Option("--backbone", metavar="NAME", help=_BACKBONE)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write the folder, list what would go up, and send nothing.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Put an encoder on the Hugging Face hub, for sentence-transformers and for this package.

    Both load it by the name of the repository. It is compared with the encoder first, as by export-model. The token is
    that of hf auth login, or $HF_TOKEN.
    """
    from llm2comp_apps.encoder.publishing.push import push_model

    given: dict[str, Any] = {"scores": scores, "folder": folder, "dtype": dtype, "backbone": backbone}
    pushed = push_model(encoder, repo, private=private, pr=pr, **given, dry_run=dry_run)
    if as_json:
        print_json(asdict(pushed))
    else:
        for path, size in pushed.files.items():
            typer.echo(f"{size:>12,}  {path}")
    warn(*pushed.warnings())
    total = f"{len(pushed.files)} files, {sum(pushed.files.values()) / 1e6:.0f} MB"
    note(f"{total}; nothing was sent" if pushed.url is None else f"{total} at {pushed.url}")
