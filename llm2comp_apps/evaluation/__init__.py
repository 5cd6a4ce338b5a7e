"""Measure encoders: tasks with MTEB's definitions, suites over plain data files, analysis of the embedding space.

from llm2comp_apps.evaluation import evaluate, load_suite, main_scores

tasks = load_suite("dev", Path("data/eval"))
print(main_scores(evaluate(encoder, tasks)))
"""

from __future__ import annotations

from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.runner import evaluate, evaluate_task, main_scores
from llm2comp_apps.evaluation.suites import SUITES, load_suite

__all__ = ["SUITES", "TaskResult", "evaluate", "evaluate_task", "load_suite", "main_scores"]
