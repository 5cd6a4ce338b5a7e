"""``llm2comp export-model``: an encoder as a folder that other programs load."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import JsonOption, add_command, dtype_option, output_option
from llm2comp_apps.cli.ui.console import note, print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(
        app,
        export_model,
        "llm2comp export-model quality -o encoder-for-others",
        "llm2comp export-model runs/scl/encoder -o half --dtype float16",
        "llm2comp export-model default -o graph --format onnx",
        name="export-model",
    )


def export_model(
    encoder: Annotated[
        str, typer.Argument(help="Encoder: default, quality, a checkpoint's directory or Hugging Face id.")
    ],
    folder: Annotated[Path, output_option("FOLDER", "Output folder; an earlier export there is replaced.")],
    format: Annotated[  # noqa: A002 - the word
        str, typer.Option("--format", metavar="FORMAT", help="Format: sentence-transformers or onnx.")
    ] = "sentence-transformers",
    dtype: Annotated[
        str | None,
        dtype_option("; int8 or float32 for onnx. [default: float32; for onnx int8 if it is close enough]"),
    ] = None,
    multi_vector: Annotated[
        bool, typer.Option("--multi-vector", help="Write memory vectors, for late interaction (MaxSim).")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write an encoder as a folder that loads without this package.

    sentence-transformers 5.2 and later load the folder by SentenceTransformer(FOLDER), and download no code. With onnx
    it needs onnxruntime and tokenizers; example.py in the folder shows how. The folder is compared with the encoder in
    a process of its own, and is not written where a vector differs.
    """
    from llm2comp_apps.encoder.publishing.export import export_model as export

    report = export(encoder, folder, format=format, dtype=dtype, multi_vector=multi_vector)
    if as_json:
        print_json(asdict(report))
    found = report.comparison
    note(
        f"{folder}: {report.encoder} in {report.dtype}, {report.size / 1e6:.0f} MB; compared over {found.texts} texts: "
        f"cosine at least {found.smallest_cosine:.6f}, largest difference {found.largest_difference:.1e}"
    )
