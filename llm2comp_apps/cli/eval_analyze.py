"""``llm2comp eval analyze``: what the embedding space of an encoder looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, JsonOption
from llm2comp_apps.cli.options.evaluation import (
    BackboneOption,
    BaselinesOption,
    DataOption,
    EncodersOption,
    named_encoders,
    out_option,
    suite_option,
    tasks_of,
)
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.encoder.devices import check_device

__all__ = ["analyze"]


def analyze(
    data: DataOption = None,
    encoder: EncodersOption = None,
    baseline: BaselinesOption = None,
    backbone: BackboneOption = None,
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs", metavar="TASK", help="STS set whose sentences are the sample and whose best pairs should align."
        ),
    ] = "stsbenchmark:dev",
    suite: Annotated[str, suite_option("Tasks that compare poolings: dev, nano, core or none.")] = "dev",
    out: Annotated[Path, out_option("Output folder: plots and numbers.")] = Path("eval-analysis"),
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Measure dimension collapse: spectrum and effective dimension, alignment and uniformity, memory vectors.

    For encoders with memory vectors also their correlation before pooling, and the effect of averaging the first k of
    them and of cluster-then-merge. Writes analysis.json and PNG plots to DIR.
    """
    check_device(device)
    from llm2comp_apps.cli.ui.scores import print_studies
    from llm2comp_apps.evaluation.analysis import analyze_encoders

    (sts,) = tasks_of("offline", data, [pairs])
    probes = [] if suite == "none" else tasks_of(suite, data)
    found = analyze_encoders(
        named_encoders(encoder, baseline),
        sts,
        probes,
        out,
        backbone=backbone,
        device=device,
        on_start=lambda label, count: note(f"{label}: analysing {count} pairs"),
    )
    for line in found.warnings:
        warn(line)
    for path in found.files:
        note(f"wrote {path}")
    if found.studies and as_json:
        print_json(found.to_json())
    elif found.studies:
        print_studies(found.studies)
    for line in found.failures:
        warn(f"not analysed: {line}")
    if found.failures:
        raise typer.Exit(1)
