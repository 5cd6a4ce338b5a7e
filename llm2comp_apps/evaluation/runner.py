"""Evaluate one encoder on some tasks."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.prompts import InstructionMode, Prompts, resolve_prompts
from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.tasks import Embed, Ranker, RetrievalTask, Task
from llm2comp_apps.evaluation.tasks.base import Role

__all__ = ["applicable", "evaluate", "evaluate_task", "main_scores"]


def evaluate(
    encoder: TextEncoder | Ranker,
    tasks: Sequence[Task[Any]],
    *,
    instructions: InstructionMode = "auto",
    prompt_overrides: Mapping[str, str] | None = None,
    show_progress: bool = False,
    on_result: Callable[[TaskResult], None] | None = None,
) -> list[TaskResult]:
    """Evaluate an encoder on each task; a :class:`Ranker` on the retrieval tasks among them.

    Args:
        encoder: what to evaluate. Wrap it in :class:`~llm2comp_apps.evaluation.cache.CachedEncoder` to keep embeddings.
        tasks: from :func:`~llm2comp_apps.evaluation.suites.load_suite`.
        instructions: see :func:`~llm2comp_apps.evaluation.prompts.resolve_prompts`.
        prompt_overrides: prompts by task or category, see there.
        show_progress: let the encoder draw its progress bar on stderr.
        on_result: called with each result as it comes.

    Returns:
        One result per task, in the order of ``tasks``.
    """
    results = []
    for task in applicable(encoder, tasks):
        result = evaluate_task(
            encoder, task, instructions=instructions, prompt_overrides=prompt_overrides, show_progress=show_progress
        )
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


def evaluate_task(
    encoder: TextEncoder | Ranker,
    task: Task[Any],
    *,
    instructions: InstructionMode = "auto",
    prompt_overrides: Mapping[str, str] | None = None,
    show_progress: bool = False,
) -> TaskResult:
    """Evaluate on one task; arguments as :func:`evaluate`.

    Raises:
        EvaluationError: a system without embeddings was given a task that needs them, or the encoder returned
            something else than finite rows of its dimension.
    """
    start = time.perf_counter()
    if isinstance(encoder, TextEncoder):
        prompts = resolve_prompts(task.name, task.category, encoder.prompts, instructions, prompt_overrides)
        scores = task.evaluate(_embed_with(encoder, prompts, task.name, show_progress))
    elif isinstance(task, RetrievalTask):
        prompts = Prompts()
        scores = task.evaluate_ranker(encoder)
    else:
        raise EvaluationError(f"{encoder.name} ranks texts but has no embeddings, so it cannot do {task.name}")
    return TaskResult(
        encoder=encoder.name,
        fingerprint=encoder.fingerprint,
        task=task.name,
        category=task.category,
        main_metric=task.main_metric,
        scores=scores.scores,
        units=scores.units,
        counts=scores.counts,
        prompts=prompts.to_json(),
        settings=task.settings,
        seconds=round(time.perf_counter() - start, 3),
        pairs=scores.pairs,
    )


def applicable(encoder: TextEncoder | Ranker, tasks: Sequence[Task[Any]]) -> list[Task[Any]]:
    """The tasks that ``encoder`` can do: all for one with embeddings, else the retrieval tasks."""
    return [task for task in tasks if isinstance(encoder, TextEncoder) or isinstance(task, RetrievalTask)]


def main_scores(results: Sequence[TaskResult]) -> dict[str, float]:
    """The main score of each task by name, plus ``average`` over the tasks: what a training log needs."""
    scores = {result.task: result.main_score for result in results}
    return {**scores, "average": float(np.mean(list(scores.values())))}


def _embed_with(encoder: TextEncoder, prompts: Prompts, task: str, show_progress: bool) -> Embed:
    def embed(texts: Sequence[str], role: Role = "query") -> FloatArray:
        prompt = prompts.query if role == "query" else prompts.document
        vectors = encoder.encode(texts, prompt=prompt, show_progress=show_progress)
        if vectors.shape != (len(texts), encoder.dimension) or not np.isfinite(vectors).all():
            raise EvaluationError(
                f"{task}: encoder {encoder.name} returned shape {vectors.shape} or values that are not finite for "
                f"{len(texts)} texts; expected finite ({len(texts)}, {encoder.dimension})"
            )
        return vectors

    return embed
