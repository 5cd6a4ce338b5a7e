"""The work of ``llm2comp eval analyze`` and ``llm2comp eval curve``; imported only when one of them runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table as RichTable

from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.scores import announce, wide_console
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import EvaluationError, LLM2CompError, UsageError
from llm2comp_apps.evaluation.adapters import load_system
from llm2comp_apps.evaluation.analysis import Study
from llm2comp_apps.evaluation.analysis import analyze as analyze_encoder
from llm2comp_apps.evaluation.analysis.plots import write_plots
from llm2comp_apps.evaluation.curve import curve_points, find_checkpoints, plot_curve
from llm2comp_apps.evaluation.datasets import PairData
from llm2comp_apps.evaluation.report import build_report
from llm2comp_apps.evaluation.report_text import percent, rich_scores
from llm2comp_apps.evaluation.table import System, TableOptions, fill_table, parse_systems
from llm2comp_apps.evaluation.tasks import StsTask

if TYPE_CHECKING:
    from llm2comp_apps.evaluation.tasks import Task

__all__ = ["run_analysis", "run_curve"]


def run_analysis(
    specs: list[str],
    pairs: Task[Any],
    tasks: list[Task[Any]],
    backbone: str | None,
    device: str | None,
    out: Path,
    *,
    as_json: bool,
) -> None:
    """Analyse each encoder, write numbers and plots, print the summary.

    Raises:
        typer.Exit: some encoder could not be analysed; the others have been.
        UsageError: ``pairs`` is no STS set.
    """
    if not isinstance(pairs, StsTask):
        raise UsageError(f"--pairs {pairs.name}: is a {pairs.category} task; choose an STS set")
    systems = parse_systems(specs)
    data = pairs.load()
    studies: list[Study] = []
    failures = []
    for system in systems:
        try:
            studies.append(_study(system, backbone, device, data, tasks))
        except LLM2CompError as error:
            failures.append(f"{system.label}: {error}")
            continue
        # After each: a study takes long, and the next may not come to its end.
        _write_analysis(_analysis(pairs, tasks, studies, failures), out)
    if studies:
        report = _analysis(pairs, tasks, studies, failures)
        _write_analysis(report, out)
        _print_analysis(report, studies, out, as_json=as_json)
    if failures:
        for line in failures:
            warn(f"not analysed: {line}")
        raise typer.Exit(1)


def _study(system: System, backbone: str | None, device: str | None, data: PairData, tasks: list[Task[Any]]) -> Study:
    """Of one encoder, which is gone before the next one is loaded."""
    encoder = load_system(system.spec, backbone=backbone, device=device)
    if not isinstance(encoder, TextEncoder):
        raise EvaluationError("has no embeddings to analyse")
    note(f"{system.label}: analysing {len(data.gold)} pairs")
    return analyze_encoder(system.label, encoder, data, tasks)


def _analysis(pairs: Task[Any], tasks: list[Task[Any]], studies: list[Study], failures: list[str]) -> dict[str, Any]:
    return {
        "pairs": {"task": pairs.name, **pairs.settings},
        "tasks": {task.name: task.settings for task in tasks},
        "studies": [study.to_json() for study in studies],
        "failures": failures,
    }


def _write_analysis(report: dict[str, Any], out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "analysis.json").write_text(json.dumps(report, indent=1), encoding="utf-8")


def _print_analysis(report: dict[str, Any], studies: list[Study], out: Path, *, as_json: bool) -> None:
    try:
        for path in write_plots(studies, out):
            note(f"wrote {path}")
    except EvaluationError as error:
        warn(f"no plots: {error}")
    note(f"wrote {out / 'analysis.json'}")
    if as_json:
        print_json(report)
        return
    console = wide_console()
    console.print(_summary(studies))
    for study in studies:
        if study.poolings:
            console.print(_poolings(study))


def run_curve(
    run_dir: Path, tasks: list[Task[Any]], backbone: str | None, device: str | None, out: Path, *, as_json: bool
) -> None:
    """Score the checkpoints of a run, write the curve, print the table."""
    checkpoints = find_checkpoints(run_dir)
    table = fill_table(
        [checkpoint.system for checkpoint in checkpoints],
        tasks,
        out,
        lambda spec: load_system(spec, backbone=backbone, device=device),
        # Each checkpoint is embedded once: its embeddings would only fill the disk.
        TableOptions(keep_embeddings=False),
        announce,
    )
    for line in table.failures:
        warn(f"not scored: {line}")
    scored = {system.label for system in table.systems}
    checkpoints = [checkpoint for checkpoint in checkpoints if checkpoint.system.label in scored]
    if not checkpoints:
        raise EvaluationError(f"{run_dir}: none of its checkpoints could be loaded")
    report = build_report(table, {"run": str(run_dir), "tasks": [task.name for task in tasks]})
    out.mkdir(parents=True, exist_ok=True)
    points = {"tasks": report.settings["tasks"], "points": curve_points(checkpoints, report)}
    (out / "curve.json").write_text(json.dumps(points, indent=1), encoding="utf-8")
    note(f"wrote {out / 'curve.json'}")
    try:
        plot_curve(checkpoints, report, run_dir, out / "curve.png")
        note(f"wrote {out / 'curve.png'}")
    except EvaluationError as error:
        warn(f"no curve.png: {error}")
    if as_json:
        print_json(points)
        return
    console = wide_console()
    console.print(rich_scores(report))


def _summary(studies: list[Study]) -> RichTable:
    table = RichTable(title="Embedding space")
    columns = (
        "encoder",
        "d",
        "effective dimension",
        "participation ratio",
        "90 % of variance",
        "alignment",
        "uniformity",
    )
    for name in (*columns, "mean cosine", "memory correlation"):
        table.add_column(name, justify="left" if name == "encoder" else "right", no_wrap=True)
    for study in studies:
        spectrum, geometry, memory = study.spectrum, study.geometry, study.mean_memory_correlation
        table.add_row(
            study.label,
            str(study.dimension),
            f"{spectrum.effective_dimension:.1f}",
            f"{spectrum.participation_ratio:.1f}",
            str(spectrum.dimensions_90),
            f"{geometry.alignment:.3f}",
            f"{geometry.uniformity:.3f}",
            f"{geometry.mean_cosine:.3f}",
            "–" if memory is None else f"{memory:.3f}",
        )
    return table


def _poolings(study: Study) -> RichTable:
    table = RichTable(title=f"Poolings of {study.label}")
    names = list(study.poolings[0].scores)
    for name in ("pooling", "effective dimension", *names):
        table.add_column(name, justify="left" if name == "pooling" else "right", no_wrap=True)
    for result in study.poolings:
        scores = [percent(result.scores[name]) for name in names]
        table.add_row(result.pooling, f"{result.effective_dimension:.1f}", *scores)
    return table
