"""How long the small suites take with an encoder: ``dev`` must stay under a minute, ``nano`` under four.

    LLM2COMP_DATA=DATA python tests/benchmarks/bench_eval_suites.py [ENCODER]

Prints seconds by task, wall and CPU. Without an argument the encoder is ``default``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from llm2comp_apps.evaluation import evaluate, load_suite
from llm2comp_apps.evaluation.adapters import load_system

LIMITS = {"dev": 60.0, "nano": 240.0}


def main() -> int:
    """Time each suite."""
    root = Path(__file__).resolve().parents[2]
    data = Path(os.environ.get("LLM2COMP_DATA", root.parent / "shared" / "data")) / "eval"
    encoder = load_system(sys.argv[1] if len(sys.argv) > 1 else "default")
    late = False
    for suite, limit in LIMITS.items():
        wall, cpu = time.perf_counter(), time.process_time()
        for result in evaluate(encoder, load_suite(suite, data)):
            print(f"{suite:5} {result.task:26} {100 * result.main_score:6.2f} {result.seconds:7.1f} s", flush=True)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"{suite:5} {'total':26} {'':6} {wall:7.1f} s ({cpu:.1f} s of CPU), limit {limit:.0f} s", flush=True)
        late |= wall > limit
    return int(late)


if __name__ == "__main__":
    sys.exit(main())
