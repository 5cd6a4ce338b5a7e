"""Compare encoders on evaluation data of your own.

    python examples/compare_encoders.py data/ default baseline:wmp

The forms of the data are listed in docs/guides/evaluate.md; pairs of sentences with a score are enough.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llm2comp_apps import load_encoder
from llm2comp_apps.evaluation import evaluate, load_tasks, main_scores


def main(data: str, *encoders: str) -> None:
    """Print a row of main scores, times 100, for each encoder."""
    tasks = load_tasks("offline", Path(data))
    print("encoder", *(task.name for task in tasks), sep="\t")
    for name in encoders or ("default",):
        scores = main_scores(evaluate(load_encoder(name), tasks))
        print(name, *(f"{100 * scores[task.name]:.1f}" for task in tasks), sep="\t")


if __name__ == "__main__":
    main(*sys.argv[1:])
