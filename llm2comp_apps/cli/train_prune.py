"""``llm2comp train prune``: an encoder of some of another one's layers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, JsonOption, examples
from llm2comp_apps.cli.options.training import data_option, out_option
from llm2comp_apps.cli.ui.console import note, print_json
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.errors import UsageError

__all__ = ["register"]


def register(group: typer.Typer) -> None:
    """Add the command."""
    group.command(
        "prune",
        epilog=examples(
            "llm2comp train prune default --layers 24 --data pairs/ --out runs/24",
            "llm2comp train prune runs/scl/encoder --layers 0,1,2,10,11,23,24,29 --data pairs/ --out runs/8",
        ),
    )(prune)


def prune(
    encoder: Annotated[str, typer.Argument(help="Encoder to cut: default, or a checkpoint directory.")],
    layers: Annotated[
        str, typer.Option("--layers", metavar="N|LIST", help="Number of layers to keep, or a list of them: 0,1,11,29.")
    ],
    data: Annotated[list[str], data_option("Files or folders whose texts decide.")],
    out: Annotated[Path, out_option("Folder of the new encoder.")],
    method: Annotated[
        str,
        typer.Option(
            "--method",
            help="Way to choose: greedy (drop what costs least, layer by layer) or influence (one pass, faster).",
        ),
    ] = "greedy",
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the texts.")] = 0,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut an encoder down to some of its layers, and report what that costs before it is trained again."""
    check_device(device)
    wanted = _layers(layers)
    from llm2comp_train.pruning import prune_encoder

    from llm2comp_apps.cli.ui.progress import ProgressDisplay

    with ProgressDisplay("choosing", "layers taken out") as display:
        report = prune_encoder(
            encoder,
            data,
            wanted,
            out,
            method=method,
            device=device,
            seed=seed,
            on_progress=lambda done, total: display.update(done, done / total),
        )
    if as_json:
        print_json(dataclasses.asdict(report) | {"out": str(out)})
        return
    note(f"{out}: {len(report.layers)} of {report.layers_before} layers: {','.join(map(str, report.layers))}")
    note(f"cosine to the encoder it was cut from: {report.cosine:.3f} on average, {report.lowest:.3f} at least")
    note(
        f"{report.speed:.1f} times as fast; layers of {report.bytes_now / 1e6:.0f} MB instead of "
        f"{report.bytes_before / 1e6:.0f} MB in float32"
    )


def _layers(text: str) -> int | list[int]:
    """``12``, or ``0,1,11,29``; a single layer by number is ``11,``."""
    try:
        numbers = [int(part) for part in text.split(",") if part.strip()]
    except ValueError:
        numbers = []
    if not numbers:
        raise UsageError(f"must be a number or a list like 0,1,11,29, not {text!r}", field="layers")
    return numbers if "," in text else numbers[0]
