"""Train a small encoder on texts of your own, without labels, and look at what it learned.

    python examples/train_encoder.py paragraphs/ runs/kl

Twenty steps show how it works; `llm2comp train --stage kl` has settings that make a good encoder.
"""

from __future__ import annotations

import sys
from pathlib import Path

from llm2comp_train import RunOptions, resolve, run_stage

from llm2comp_apps import load_encoder


def main(texts: str, out: str, backbone: str = "smollm2-135m", steps: int = 20) -> None:
    """Run the stage ``kl``, and compare three texts by the new encoder."""
    changes = {"backbone": backbone, "max_steps": steps, "batch_size": 4, "validation_texts": 8}
    settings = resolve("smollm2-135m", "kl", changes)
    losses: list[float] = []
    options = RunOptions(data=[texts], out=Path(out), show=lambda progress: losses.append(progress.loss))
    folder = run_stage("kl", settings, options)
    print(f"loss {losses[0]:.3f} at the first step, {losses[-1]:.3f} at the last; encoder in {folder}")

    encoder = load_encoder(str(folder))
    vectors = encoder.encode(["Cells divide.", "A cell splits in two.", "Bread rises."])
    print((vectors @ vectors.T).round(2))


if __name__ == "__main__":
    main(*sys.argv[1:3])
