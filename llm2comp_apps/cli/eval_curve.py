"""``llm2comp eval curve``: scores over the checkpoints of a training run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, JsonOption
from llm2comp_apps.cli.options.evaluation import (
    DataOption,
    TaskOption,
    backbone_option,
    out_option,
    suite_option,
    tasks_of,
)
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.encoder.devices import check_device

__all__ = ["curve"]


def curve(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Training run with step-N checkpoints.")],
    data: DataOption = None,
    suite: Annotated[str, suite_option("Set of tasks: dev, nano, core or offline.")] = "dev",
    task: TaskOption = None,
    backbone: Annotated[str | None, backbone_option("Place where the checkpoints' backbone lies now.")] = None,
    out: Annotated[Path | None, out_option("Output folder. [default: RUN_DIR/eval]")] = None,
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Score every checkpoint of a training run and plot the scores against the step.

    Checkpoints scored before are not scored again, so it can be repeated while the training continues. Writes
    curve.json and curve.png to DIR.
    """
    check_device(device)
    from llm2comp_apps.cli.ui.scores import announce, print_scores
    from llm2comp_apps.evaluation.curve import score_run

    tasks = tasks_of(suite, data, task)
    scored = score_run(run_dir, tasks, out or run_dir / "eval", backbone=backbone, device=device, on_cell=announce)
    for line in scored.failures:
        warn(f"not scored: {line}")
    for line in scored.warnings:
        warn(line)
    for path in scored.files:
        note(f"wrote {path}")
    if as_json:
        print_json(scored.to_json())
    else:
        print_scores(scored.report)
