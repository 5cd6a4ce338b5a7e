"""Which layers matter: for several depths, the layers chosen by each method and the cosine that is left.

    python tests/benchmarks/bench_layers.py [--encoder default|plain] [--texts 100] [--keep 8 10 12 15 18]

``plain`` is the default backbone with memory tokens that were never trained. The layers are chosen on half of the texts
(cut to 64 tokens, as many from each training file); the cosine to the full encoder is of the other half.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

DATA = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--encoder", default="default")
    options.add_argument("--texts", type=int, default=100)
    options.add_argument("--keep", type=int, nargs="+", default=[8, 10, 12, 15, 18, 21, 24, 27])
    options.add_argument("--data", type=Path, default=DATA)
    chosen = options.parse_args()

    import numpy as np
    from llm2comp_train.pruning import LONGEST, sample_texts

    from llm2comp_apps import LLM2Comp
    from llm2comp_apps.encoder.backbones import default_dtype, load_backbone
    from llm2comp_apps.encoder.checkpoint import EncoderSettings
    from llm2comp_apps.encoder.layers import agreement, greedy_removals, influence, prune
    from llm2comp_apps.encoder.network import CompressionNetwork
    from llm2comp_apps.encoder.precision import lower_precision

    texts = sample_texts([str(chosen.data / "train" / folder) for folder in ("pairs", "paragraphs")], chosen.texts)
    deciding, judging = texts[::2], texts[1::2]
    if chosen.encoder == "plain":
        backbone = load_backbone(device="cpu")
        settings = EncoderSettings(
            backbone=backbone.name, backbone_sha256=backbone.sha256, k=8, max_length=LONGEST, name="plain"
        )
        network = CompressionNetwork.fresh(backbone.lm, 8)
        lower_precision(network, default_dtype("cpu"), 5)
        encoder = LLM2Comp(network, backbone.tokenizer, settings)
    else:
        encoder = LLM2Comp.from_pretrained(chosen.encoder, device="cpu", max_length=LONGEST)
    full = encoder.encode(judging)
    depth = len(encoder.layers)

    start = time.perf_counter()
    strength = influence(encoder, deciding)
    print(
        f"influence ({time.perf_counter() - start:.0f} s): " + " ".join(f"{i}:{s:.3f}" for i, s in enumerate(strength))
    )
    start = time.perf_counter()
    removals = []
    for removal in greedy_removals(encoder, deciding, depth - min(chosen.keep)):
        removals.append(removal.layer)
        print(f"greedy: {depth - len(removals)} left without {removal.layer} (cosine {removal.cosine:.3f})", flush=True)
    print(f"greedy removal: {time.perf_counter() - start:.0f} s")
    print("| layers | method | cosine | lowest | which |\n|---|---|---|---|---|")
    for keep in chosen.keep:
        ways = {
            "influence": sorted(map(int, np.argsort(-strength, kind="stable")[:keep])),
            "greedy": sorted(set(range(depth)) - set(removals[: depth - keep])),
        }
        for method, layers in ways.items():
            cosines = agreement(full, prune(encoder, layers).encode(judging))
            which = ",".join(map(str, layers))
            print(f"| {keep} | {method} | {cosines.mean():.3f} | {cosines.min():.3f} | {which} |", flush=True)


if __name__ == "__main__":
    main()
