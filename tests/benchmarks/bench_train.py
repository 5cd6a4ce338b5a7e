"""Speed and peak memory of a ``kl`` step: ours beside the research code's way, the same backbone, batch and loss.

    python tests/benchmarks/bench_train.py [--texts 8] [--tokens 192] [--rounds 5]
    python tests/benchmarks/bench_train.py --texts 16 --tokens 512 --data PARAGRAPHS     # lengths as they are drawn
    python tests/benchmarks/bench_train.py ... --compile                                 # ours with --compile

The research code's way, written out in :class:`Research`: encoder and decoder are two copies of the weights, texts are
padded on the right, the decoder gives logits at all positions over the whole vocabulary, the KL is taken from these and
masked. In its favour, the encoder leaves out the LM head, softmax is taken in float32 and attention is the kernel that
is faster here. Both take a whole optimiser step on the same batch of real text, each text split at random: Python's
documentation, joined to texts of one half to all of ``--tokens``, or, with ``--data``, paragraphs as training draws
them, cut at ``--tokens``: the more their lengths differ, the more of the other way is padding. Before anything is
measured the losses must agree, in float32 on a smaller batch: in bfloat16 the memory of an untrained encoder is so
sensitive to rounding that a text's loss moves by a twentieth with the shape of its batch.

Each way has a process of its own, so that its peak memory is its own; the two take turns, step by step. The ratio of
speed is that of the median processor times, which a busy machine disturbs less than wall time.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

BACKBONE = "smollm2-135m"
PAD = 0


class Way(Protocol):
    def step(self) -> float:
        """One optimiser step; returns the loss before it."""
        ...


@dataclass(frozen=True)
class Batch:
    """Which texts, and in what type the weights are."""

    count: int
    tokens: int
    data: str | None = None
    dtype: str = "auto"

    def splits(self, tokenizer: Any) -> list[tuple[list[int], list[int]]]:
        """The texts' token ids, split at random."""
        import numpy as np

        draw = np.random.default_rng(0)
        rows = drawn(self, tokenizer, draw) if self.data else joined(self, tokenizer, draw)
        points = [int(draw.integers(10, len(ids) - 9)) for ids in rows]
        return [(ids[:point], ids[point:]) for ids, point in zip(rows, points, strict=True)]


def drawn(batch: Batch, tokenizer: Any, draw: Any) -> list[list[int]]:
    """Texts of the training data at random, each of at least 20 tokens and cut after ``batch.tokens``."""
    from llm2comp_train.data.sources import find_data, text_rows

    assert batch.data is not None
    texts = [row.texts[0] for file in find_data([batch.data]) for row in text_rows(file.records())]
    rows = (tokenizer(texts[place])["input_ids"][: batch.tokens] for place in draw.permutation(len(texts)))
    return list(islice((ids for ids in rows if len(ids) >= 20), batch.count))


def joined(batch: Batch, tokenizer: Any, draw: Any) -> list[list[int]]:
    """Python's documentation in texts of at most ``batch.tokens`` tokens and at least half as many."""
    from llm2comp_apps.corpus.pydocs import entries

    count, tokens = batch.count, batch.tokens
    rows: list[list[int]] = [[]]  # short entries are joined
    for entry in entries():
        rows[-1] += tokenizer(entry.text)["input_ids"]
        if len(rows[-1]) >= tokens:
            rows[-1] = rows[-1][: int(draw.integers(tokens // 2, tokens + 1))]
            if len(rows) == count:
                break
            rows.append([])
    return rows


class Ours:
    """What ``llm2comp train --stage kl`` does in a step."""

    def __init__(self, batch: Batch, compiled: bool) -> None:
        import torch
        from llm2comp_train.data.batches import Split
        from llm2comp_train.engine.adapters import build_network, trainable
        from llm2comp_train.engine.machine import fit_to_machine, load_for_training
        from llm2comp_train.engine.processes import Processes
        from llm2comp_train.engine.text_work import CompressionWork
        from llm2comp_train.judging.live import LiveEncoder
        from llm2comp_train.losses.kl import kl_loss
        from llm2comp_train.recipes import resolve
        from llm2comp_train.stages import Bench

        changes = {"backbone": BACKBONE, "dtype": batch.dtype, "compile": compiled}
        settings = resolve("smollm2-135m", "kl", changes)
        backbone = load_for_training(settings, "cpu")
        network = build_network(backbone, settings, None)
        fit_to_machine(network, settings, Processes("cpu"))
        splits = [Split(*parts, row) for row, parts in enumerate(batch.splits(backbone.tokenizer))]
        splits.sort(key=lambda split: len(split.context))

        class Fixed:
            def batch(self, _step: int) -> list[Split]:
                return splits

        fixed: Any = Fixed()
        store: Any = None  # the batch is given
        bench = Bench(
            settings=settings,
            network=network,
            backbone=backbone,
            store=store,
            processes=Processes("cpu"),
            live=LiveEncoder(network, backbone.tokenizer, settings),
            teachers=[],
            prompts=[],
            folder=Path(),
            init=None,
        )
        self._work = CompressionWork(bench, fixed, kl_loss)
        self._parameters = list(trainable(network).values())
        self._optimiser = torch.optim.AdamW(self._parameters, lr=settings.lr)

    def step(self) -> float:
        loss = self._work.backward(0).loss
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss


class Research:
    """Two models, full logits, right padding."""

    def __init__(self, batch: Batch) -> None:
        import torch
        from llm2comp_train.engine.adapters import build_network, trainable
        from llm2comp_train.engine.machine import load_for_training
        from llm2comp_train.recipes import resolve

        settings = resolve("smollm2-135m", "kl", {"backbone": BACKBONE, "dtype": batch.dtype})
        encoder = load_for_training(settings, "cpu")
        self._network = build_network(encoder, settings, None)  # its memory tokens and LoRA; never its decoder role
        self._decoder = load_for_training(settings, "cpu").lm
        rows = batch.splits(encoder.tokenizer)
        self._contexts, self._targets = [context for context, _ in rows], [target for _, target in rows]
        self._parameters = list(trainable(self._network).values())
        self._optimiser = torch.optim.AdamW(self._parameters, lr=settings.lr)

    def _memory(self) -> Any:
        """(B, k, d): the memory tokens follow each text, the padding follows them."""
        import torch

        network, k = self._network, self._network.k
        lengths = torch.tensor([len(context) for context in self._contexts])
        ids = torch.full((len(lengths), int(lengths.max()) + k), PAD)
        for row, context in enumerate(self._contexts):
            ids[row, : len(context)] = torch.tensor(context)
        place = torch.arange(ids.shape[1])[None] - lengths[:, None]
        is_memory = (place >= 0) & (place < k)
        tokens = network.memory_tokens[place.clamp(0, k - 1)].to(network.embed(ids).dtype)
        embeds = torch.where(is_memory[..., None], tokens, network.embed(ids))
        states = network.base(
            inputs_embeds=embeds,
            attention_mask=(place < k).long(),
            is_causal=False,
            use_cache=False,
            output_hidden_states=True,
        ).last_hidden_state
        return states[is_memory].view(len(lengths), k, -1)

    def step(self) -> float:
        import torch
        from torch.nn.functional import kl_div, log_softmax

        network, k = self._network, self._network.k
        with network.autocast():
            memory = self._memory()
            joint, joint_mask = self._right_padded([a + b for a, b in zip(self._contexts, self._targets, strict=True)])
            target, target_mask = self._right_padded(self._targets)
            with torch.no_grad():
                teacher = self._decoder(joint, attention_mask=joint_mask, use_cache=False).logits
            embeds = torch.cat([network.decoder_input(memory), self._decoder.get_input_embeddings()(target)], dim=1)
            mask = torch.cat([target_mask.new_ones(len(target), k), target_mask], dim=1)
            student = self._decoder(inputs_embeds=embeds, attention_mask=mask, use_cache=False).logits
        # Position c - 1 + t of the teacher says what position k - 1 + t of the student should say.
        firsts = torch.tensor([len(context) - 1 for context in self._contexts])
        places = firsts[:, None] + torch.arange(target.shape[1] + 1)[None]
        places = places.clamp(max=joint.shape[1] - 1)
        wanted = log_softmax(teacher.float(), dim=-1)[torch.arange(len(target))[:, None], places]
        found = log_softmax(student.float(), dim=-1)[:, k - 1 :]
        losses = kl_div(found, wanted, reduction="none", log_target=True).sum(-1)
        selected = torch.cat([target_mask.new_ones(len(target), 1), target_mask], dim=1)
        loss = ((losses * selected).sum(1) / selected.sum(1)).mean()
        loss.backward()
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return float(loss.detach())

    def _right_padded(self, rows: list[list[int]]) -> tuple[Any, Any]:
        import torch

        ids = torch.full((len(rows), max(map(len, rows))), PAD)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)], mask[number, : len(row)] = torch.tensor(row), 1
        return ids, mask


WAYS = ("ours", "research")


def serve(name: str, batch: Batch, compiled: bool) -> None:
    """In a child: one step per line of stdin, figures as a line of JSON on stdout."""
    way: Way = Ours(batch, compiled) if name == "ours" else Research(batch)
    print("ready", flush=True)
    for _ in sys.stdin:
        wall, processor = time.perf_counter(), time.process_time()
        loss = way.step()
        figures = {"loss": loss, "wall": time.perf_counter() - wall, "cpu": time.process_time() - processor}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 if sys.platform == "darwin" else 1024)
        print(json.dumps({**figures, "peak": peak / (2**20 if sys.platform == "darwin" else 1)}), flush=True)


class Child:
    def __init__(self, name: str, batch: Batch, compiled: bool = False) -> None:
        arguments = ["--serve", name, "--texts", str(batch.count), "--tokens", str(batch.tokens)]
        arguments += ["--dtype", batch.dtype, *(["--data", batch.data] if batch.data else [])]
        arguments += ["--compile"] if compiled else []
        self._process = subprocess.Popen(
            [sys.executable, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._read() == "ready"

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the process ended; its message stands above"
        return line.strip()

    def step(self) -> dict[str, float]:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        figures: dict[str, float] = json.loads(self._read())
        return figures

    def end(self) -> None:
        self._process.communicate()


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--texts", type=int, default=8, help="texts of a batch")
    options.add_argument("--tokens", type=int, default=192, help="tokens of a text, at most")
    options.add_argument("--data", help="file or folder of {text} lines to draw the batch from")
    options.add_argument("--compile", action="store_true", help="ours as with train --compile")
    options.add_argument("--rounds", type=int, default=5, help="measured steps of each way")
    options.add_argument("--dtype", default="auto", help="of the weights, in the measured steps")
    options.add_argument("--serve", choices=WAYS, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.serve:
        serve(chosen.serve, Batch(chosen.texts, chosen.tokens, chosen.data, chosen.dtype), chosen.compile)
        return

    losses = {}
    for name in WAYS:
        exact = Child(name, Batch(3, 64, chosen.data, "float32"))
        losses[name] = exact.step()["loss"]
        exact.end()
    assert abs(losses["ours"] / losses["research"] - 1) < 1e-4, f"the two ways disagree about the loss: {losses}"
    print(f"loss in float32: {losses['ours']:.5f} ours, {losses['research']:.5f} the research code's way")
    batch = Batch(chosen.texts, chosen.tokens, chosen.data, chosen.dtype)
    children = {name: Child(name, batch, chosen.compile) for name in WAYS}
    for child in children.values():
        child.step()  # warms up
    rounds = [{name: child.step() for name, child in children.items()} for _ in range(chosen.rounds)]
    for child in children.values():
        child.end()
    median = {
        name: {what: statistics.median(row[name][what] for row in rounds) for what in ("wall", "cpu", "peak")}
        for name in WAYS
    }
    for name, figures in median.items():
        seconds = f"{figures['cpu']:7.2f} s processor  {figures['wall']:7.2f} s wall"
        print(f"{name:10} {seconds}  {figures['peak']:7.0f} MiB peak")
    print(
        f"ours is {median['research']['cpu'] / median['ours']['cpu']:.2f} times faster (wanted: 2.00) "
        f"and takes {median['ours']['peak'] / median['research']['peak']:.2f} of the memory (wanted: 0.60 at most)"
    )


if __name__ == "__main__":
    main()
