"""A step of ``align`` by attention kernel: texts padded in passes of like lengths, and packed in one row.

    python tests/benchmarks/bench_packing.py DATA/train/pairs --layers 0,1,2,8,11,21,22,23,24,27,28,29

Batches are texts of all files at random, which is what ``--topics`` makes of them: their lengths have nothing to do
with each other. The kernels take turns, batch by batch, in one process; a step is the forward and backward pass of all
weights, in bfloat16 where the machine has it, as in a run. ``compiled`` is ``packed`` with compiled layers. The first
batch is for warming up. Prints one JSON object: processor seconds of each kernel, and the least cosine of a vector to
the first kernel's.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from llm2comp_train.data.sources import find_data, single_rows
from llm2comp_train.engine.contrast import ContrastiveWork
from llm2comp_train.engine.full_weights import build_with_own_layers
from llm2comp_train.engine.machine import fit_to_machine, load_for_training, training_dtype
from llm2comp_train.engine.processes import Processes
from llm2comp_train.recipes import resolve

from llm2comp_apps.encoder.batching import length_batches

KERNELS = ("eager", "sdpa", "packed", "compiled")


def batches_of(options: argparse.Namespace, tokenizer: Any) -> list[list[list[int]]]:
    """Token rows of each batch."""
    texts = [row.texts[0] for file in find_data([options.data]) for row in single_rows(file.records(), "", 20)]
    order = iter(np.random.default_rng(0).permutation(len(texts)).tolist())
    batches: list[list[list[int]]] = []
    for _ in range(options.batches):
        rows: list[list[int]] = []
        while sum(map(len, rows)) < options.tokens:
            rows.append(tokenizer(texts[next(order)])["input_ids"][: options.length])
        batches.append(rows)
    return batches


def step(work: ContrastiveWork, rows: list[list[int]]) -> torch.Tensor:
    """Mean memory vectors of a batch, after its backward pass."""
    settings, network = work._settings, work._network
    lengths = [len(row) + network.extra_tokens for row in rows]
    packed = settings.attention == "packed"
    passes = [list(range(len(rows)))] if packed else length_batches(lengths, settings.tokens_per_pass)
    found = torch.empty(len(rows), network.memory_tokens.shape[1])
    for part in passes:
        memory = work._memory([rows[index] for index in part])
        memory.float().square().mean().backward()
        found[part] = memory.detach().float().mean(1)
    network.zero_grad()
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--layers", default="")
    parser.add_argument("--tokens", type=int, default=1300)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--batches", type=int, default=4)
    options = parser.parse_args()
    changes = {"layers": options.layers, "teacher": "none", "k": 4, "max_length": options.length}
    works = {}
    for kernel in KERNELS:
        compiled = kernel == "compiled"
        settings = resolve("smollm2-135m", "align", changes)
        settings = replace(settings, attention="packed" if compiled else kernel, compile=compiled)
        backbone = load_for_training(settings, "cpu")
        network = build_with_own_layers(backbone, settings, None).drop_decoder()
        network.compute_dtype = training_dtype(settings, "cpu")  # as a run does it
        fit_to_machine(network, settings, Processes("cpu"))
        bench: Any = SimpleNamespace(
            settings=settings, network=network, store=None, pad_id=0, processes=Processes("cpu")
        )
        works[kernel] = ContrastiveWork.__new__(type("Stepping", (ContrastiveWork,), {"backward": None}))
        ContrastiveWork.__init__(works[kernel], bench)
    seconds = dict.fromkeys(KERNELS, 0.0)
    near = dict.fromkeys(KERNELS, 1.0)
    batches = batches_of(options, backbone.tokenizer)
    for index, rows in enumerate(batches):
        vectors = {}
        for kernel, work in works.items():
            begun = time.process_time()
            vectors[kernel] = step(work, rows)
            seconds[kernel] += (time.process_time() - begun) * bool(index)
            cosines = torch.nn.functional.cosine_similarity(vectors[kernel], vectors["eager"])
            near[kernel] = min(near[kernel], float(cosines.min()))
    tokens = sum(len(row) + 4 for rows in batches[1:] for row in rows)
    print(json.dumps({"tokens": tokens, "seconds": seconds, "cosine": near}))


if __name__ == "__main__":
    main()
