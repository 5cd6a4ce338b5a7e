"""Development scores of an encoder that is being trained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import LLM2CompError, UsageError
from llm2comp_apps.evaluation.runner import evaluate, main_scores
from llm2comp_apps.evaluation.suites import load_suite

__all__ = ["dev_judge"]


def dev_judge(data: Path) -> Callable[[TextEncoder], dict[str, float]]:
    """Read the ``dev`` suite, which holds development and training splits only; returns what scores an encoder on it.

    The data are read once here, so that what is missing or broken is reported before a run begins. The scores come by
    task; ``score`` is their mean.

    Raises:
        UsageError: ``data`` is no folder, none of the suite lies in it, or a file of it is broken.
    """
    if not data.is_dir():  # here, since an evaluation calls the setting by another name
        raise UsageError(f"cannot be used: {data}: no such folder", field="eval_data")
    try:
        tasks = load_suite("dev", data)
        for task in tasks:
            task.load()
    except LLM2CompError as error:
        raise UsageError(f"cannot be used: {error}", field="eval_data") from error

    def judge(encoder: TextEncoder) -> dict[str, float]:
        scores = dict(main_scores(evaluate(encoder, tasks)))
        average = scores.pop("average")
        return {**scores, "score": average}

    return judge
