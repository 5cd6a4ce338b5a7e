"""Named sets of tasks over a data folder.

- ``offline``: every dataset found, on its reported split.
- ``core``: six of them that cover the categories and stay affordable on a CPU.
- ``nano``: a fixed sample of ``offline`` for a quick look, minutes on two cores.
- ``dev``: a fixed sample of development and training splits alone, for choosing a checkpoint while training. Choosing
  by test scores would make them worthless, so nothing in ``dev`` is test data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.discovery import discover, reported
from llm2comp_apps.evaluation.results import CATEGORIES
from llm2comp_apps.evaluation.sampling import (
    SEED,
    sample_clustering,
    sample_labelled,
    sample_pairs,
    sample_reranking,
    sample_retrieval,
)
from llm2comp_apps.evaluation.tasks import ClassificationTask, Task

__all__ = ["SUITES", "load_suite", "missing_tasks"]

CORE = ("stsbenchmark", "sickr", "scifact", "cranfield", "banking77", "twentynewsgroups_subjects")

_SAMPLERS: dict[str, Callable[..., Any]] = {
    "Retrieval": sample_retrieval,
    "Reranking": sample_reranking,
    "Clustering": sample_clustering,
    "PairClassification": sample_pairs,
    "Classification": sample_labelled,
    "STS": sample_pairs,
}

NANO: dict[str, dict[str, int]] = {
    "scifact": {"queries": 50, "documents": 160},
    "cranfield": {"queries": 25, "documents": 200},
    "wikiqa_test": {"size": 40},
    "twentynewsgroups_subjects": {"size": 1000},
    "mrpc": {"size": 300},
    "banking77": {"size": 500},
    "emotion": {"size": 500},
    "stsbenchmark": {"size": 400},
    "sickr": {"size": 400},
}

NANO_EXPERIMENTS = 2
"""Draws of a classification task in ``nano``: each embeds up to 8 further training texts per label."""

DEV: dict[str, dict[str, int]] = {
    "stsbenchmark:dev": {"size": 750},
    "scifact:train": {"queries": 100, "documents": 300, "max_words": 48},
}

SUITES = ("offline", "core", "nano", "dev")


def missing_tasks(suite: str, tasks: Sequence[Task[Any]]) -> list[str]:
    """Tasks that a fixed suite has and ``tasks``, loaded from some folder, lacks."""
    wanted = {"core": CORE, "nano": tuple(NANO), "dev": tuple(DEV)}.get(suite, ())
    there = {task.name for task in tasks}
    return [name for name in wanted if name not in there]


def load_suite(suite: str, data: Path, names: Sequence[str] = ()) -> list[Task[Any]]:
    """The tasks of a suite.

    Args:
        suite: one of :data:`SUITES`.
        data: folder of datasets in the simple form.
        names: only these tasks (``NAME`` or ``NAME:SPLIT``); with ``offline`` also ones outside the suite.

    Returns:
        Tasks by category in the order of :data:`CATEGORIES`, then by name.

    Raises:
        EvaluationError: unknown suite, unknown task, or none of the suite's datasets in the folder.
    """
    found = discover(data, names)
    if suite == "offline":
        chosen = [_named(found, name, data) for name in names] if names else reported(found.values())
    elif suite == "core":
        chosen = [found[name] for name in CORE if name in found]
    elif suite in ("nano", "dev"):
        samples = NANO if suite == "nano" else DEV
        chosen = [_sampled(found[name], sample) for name, sample in samples.items() if name in found]
    else:
        raise EvaluationError(f"unknown suite {suite!r}; choose one of {', '.join(SUITES)} or poster")
    if names and suite != "offline":
        available = {task.name: task for task in chosen}
        chosen = [_named(available, name, data) for name in names]
    if not chosen:
        more = f"; name one of {', '.join(sorted(found))} as a `task`" if suite == "offline" else ""
        raise EvaluationError(f"{data}: none of the datasets of suite {suite!r} is there{more}")
    return sorted(chosen, key=lambda task: (CATEGORIES.index(task.category), task.name))


def _named(tasks: dict[str, Task[Any]], name: str, data: Path) -> Task[Any]:
    if name not in tasks:
        raise EvaluationError(f"{data}: no task {name!r}; there are {', '.join(sorted(tasks))}")
    return tasks[name]


def _sampled(task: Task[Any], sample: dict[str, int]) -> Task[Any]:
    sampler = _SAMPLERS[task.category]
    load = task.load
    if isinstance(task, ClassificationTask):
        task = replace(task, experiments=NANO_EXPERIMENTS)
    return replace(
        task, load=lambda: sampler(load(), **sample), origin={**task.origin, "sample": {**sample, "seed": SEED}}
    )
