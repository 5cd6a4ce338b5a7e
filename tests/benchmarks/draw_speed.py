"""A picture of what a score costs: mean of a suite against texts per CPU second, from measured files.

    python tests/benchmarks/draw_speed.py SPEED.json CORE.json OUT.svg
    python tests/benchmarks/draw_speed.py SPEED.json DEV.json OUT.svg --suite dev

``SPEED.json`` is what ``bench_encode.py --json`` wrote, one thread. The other file gives the mean of the suite by
system, a label and its colour group: ``{"default@onnx": {"label": "default", "score": 61.0, "ours": true}}``, and with
``"below": true`` the label's place. A system that stands in one file alone is left out.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("speed", type=Path)
    options.add_argument("scores", type=Path)
    options.add_argument("out", type=Path)
    options.add_argument("--suite", default="core")
    chosen = options.parse_args()
    speed = json.loads(chosen.speed.read_text(encoding="utf-8"))
    scores = json.loads(chosen.scores.read_text(encoding="utf-8"))
    systems = {name: (speed["systems"][name], scores[name]) for name in scores if name in speed["systems"]}
    draw(systems, speed["texts"], chosen.suite, chosen.out)


def draw(
    systems: dict[str, tuple[list[dict[str, float]], dict[str, Any]]], texts: dict[str, int], suite: str, out: Path
) -> None:
    """One panel for each set of texts, ``texts`` of them; a system has its rounds, and its label and score."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "speed"  # the same figures make the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(texts), figsize=(9, 3.6), sharey=True, layout="constrained")
    for panel, (title, count) in zip(panels, texts.items(), strict=True):
        paces = {name: count / min(one[title] for one in rounds) for name, (rounds, _) in systems.items()}
        for name, (_, entry) in systems.items():
            colour, mark = ("#2b6cb0", "o") if entry["ours"] else ("#9c4221", "s")
            panel.plot(paces[name], entry["score"], mark, color=colour, markersize=8)
            right, below = paces[name] > 0.6 * max(paces.values()), entry.get("below", False)
            panel.annotate(
                entry["label"],
                (paces[name], entry["score"]),
                xytext=(-8 if right or below else 8, -14 if below else 6),
                textcoords="offset points",
                ha="right" if right or below else "left",
            )
        panel.set_xlim(0, 1.15 * max(paces.values()))
        panel.margins(y=0.25)
        panel.set_title(title, fontsize=10)
        panel.set_xlabel("texts per CPU second, one thread")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel(f"mean of the {suite} suite")
    figure.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    main()
