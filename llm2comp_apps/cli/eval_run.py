"""``llm2comp eval run``: scores of encoders on the tasks of a suite."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, JsonOption, cache_option
from llm2comp_apps.cli.options.evaluation import (
    BackboneOption,
    BaselinesOption,
    DataOption,
    EncodersOption,
    TaskOption,
    named_encoders,
    out_option,
    parse_prompts,
    suite_option,
    tasks_of,
)
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.encoder.devices import check_device

if TYPE_CHECKING:
    from llm2comp_apps.evaluation.compare import Outcome
    from llm2comp_apps.evaluation.tasks import Task

__all__ = ["run"]


def run(
    suite: Annotated[
        str,
        suite_option("Set of tasks: offline, core, nano, dev (plain files) or poster (mteb)."),
    ] = "offline",
    data: DataOption = None,
    task: TaskOption = None,
    encoder: EncodersOption = None,
    baseline: BaselinesOption = None,
    backbone: BackboneOption = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="LABEL", help="Row that the others are compared with. [default: the first]"),
    ] = None,
    instructions: Annotated[
        str,
        typer.Option(
            "--instructions",
            metavar="MODE",
            help="Encoders that get an instruction: auto (those trained with some), task (all) or none.",
        ),
    ] = "auto",
    prompt_overrides: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TASK=TEXT", help="Query prompt of a task or category, instead of its own."),
    ] = None,
    out: Annotated[Path, out_option("Output folder: results, embeddings and the report.")] = Path("eval-results"),
    cache: Annotated[bool, cache_option("Keep embeddings in DIR/embeddings.")] = True,
    list_tasks: Annotated[bool, typer.Option("--list", help="List the suite's tasks and exit.")] = False,
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Score encoders on the tasks of a suite, one row each.

    Interrupt it at any time: called again with the same -o it continues where it stopped. The report is written to DIR
    as report.json, report.md and report.html.
    """
    from llm2comp_apps.cli.ui.scores import announce
    from llm2comp_apps.evaluation.compare import compare
    from llm2comp_apps.evaluation.table import TableOptions

    options = TableOptions(
        instructions=instructions,  # type: ignore[arg-type]  # checked there
        prompt_overrides=parse_prompts(prompt_overrides),
        keep_embeddings=cache,
        show_progress=sys.stderr.isatty(),
    )
    check_device(device)
    tasks = tasks_of(suite, data, task)
    if list_tasks:
        _print_tasks(tasks, as_json=as_json)
        return
    outcome = compare(
        named_encoders(encoder, baseline),
        tasks,
        out,
        options=options,
        against=against,
        backbone=backbone,
        device=device,
        about={"suite": suite, "data": str(data) if data else None},
        on_cell=announce,
    )
    _show(outcome, as_json=as_json)


def _print_tasks(tasks: list[Task[Any]], *, as_json: bool) -> None:
    if as_json:
        print_json(
            [
                {"task": task.name, "category": task.category, "metric": task.main_metric, "settings": task.settings}
                for task in tasks
            ]
        )
        return
    for task in tasks:
        typer.echo(f"{task.category}\t{task.name}\t{task.main_metric}")


def _show(outcome: Outcome, *, as_json: bool) -> None:
    """Print the report, name its files and what failed.

    Raises:
        typer.Exit: some row or cell is missing.
    """
    from llm2comp_apps.cli.ui.scores import print_report

    for line in outcome.warnings:
        warn(line)
    if outcome.report is not None:
        if as_json:
            print_json(outcome.report.to_json())
        else:
            print_report(outcome.report)
        names = [path.name for path in outcome.files]
        note(f"wrote {', '.join(names[:-1])} and {names[-1]} in {outcome.files[0].parent}")
    for line in outcome.failures:
        warn(f"not evaluated: {line}")
    if outcome.failures:
        raise typer.Exit(1)
