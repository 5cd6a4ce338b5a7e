"""Measure encoders: tasks with MTEB's definitions, suites over plain data files, analysis of the embedding space.

from llm2comp_apps.evaluation import compare, evaluate, load_tasks, main_scores

tasks = load_tasks("dev", Path("data/eval"))
print(main_scores(evaluate(encoder, tasks)))                    # one encoder, at hand
compare(["default", "st:all-MiniLM-L6-v2"], tasks, Path("out"))  # several by name, with a report
"""

from __future__ import annotations

from llm2comp_apps.evaluation.compare import Outcome, compare, load_tasks
from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.runner import evaluate, evaluate_task, main_scores
from llm2comp_apps.evaluation.suites import SUITES, load_suite

__all__ = [
    "SUITES",
    "Outcome",
    "TaskResult",
    "compare",
    "evaluate",
    "evaluate_task",
    "load_suite",
    "load_tasks",
    "main_scores",
]
