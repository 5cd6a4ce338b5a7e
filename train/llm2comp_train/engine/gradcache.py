"""Contrastive batches larger than memory: GradCache (arXiv 2101.06983), with a token budget.

1. Embed every pass without a graph, remembering the random state in front of each.
2. Compute the loss on the embeddings alone; its gradient with respect to each embedding is small enough to keep.
3. Embed every pass again, with a graph and the remembered random state (the same dropout), and push the kept gradients
   back through it.

The gradients are those of one large batch; the price is one more forward pass. A batch that one process can hold at
once is done directly. Several processes each embed their share, and all of them see all embeddings in step 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llm2comp_apps.encoder.batching import length_batches
from llm2comp_apps.encoder.packing import packed_passes
from llm2comp_train.engine.processes import Processes

__all__ = ["LossOf", "contrastive_backward"]

Embed = Callable[[list[list[int]]], Tensor]
"""Token rows of one pass -> ``(n, d)``, or ``(n, k, d)``."""
LossOf = Callable[[Tensor], Tensor]
"""What is embedded, all of it -> scalar."""


def contrastive_backward(
    rows: Sequence[list[int]],
    embed: Embed,
    loss_of: LossOf,
    processes: Processes,
    *,
    tokens_per_pass: int,
    tokens_kept: int,
    extra_tokens: int = 0,
    packed: bool = False,
) -> float:
    """Accumulate the gradients of ``loss_of(embeddings of rows)``, this process' share of them; returns the loss.

    Args:
        rows: N token rows of any length, the same in all processes.
        embed: embeds one pass.
        loss_of: the loss of all embeddings, in the order of ``rows``.
        processes: who shares the work.
        tokens_per_pass: padded tokens of one pass.
        tokens_kept: if all passes together are no larger, their graphs are kept and nothing is computed twice.
        extra_tokens: added to each row by the network (the memory tokens).
        packed: ``embed`` pads nothing, so rows of unlike lengths may share a pass.
    """
    mine = processes.share(rows)
    lengths = [len(row) + extra_tokens for row in mine]
    passes = packed_passes(lengths, tokens_per_pass) if packed else length_batches(lengths, tokens_per_pass)
    padded = sum(lengths) if packed else sum(max(lengths[index] for index in part) * len(part) for part in passes)
    if processes.world == 1 and padded <= tokens_kept:
        loss = loss_of(_in_order([embed([mine[index] for index in part]) for part in passes], passes))
        loss.backward()
        return float(loss.detach())

    states, pieces = [], []
    idle = range(processes.idle_passes(len(passes)))
    with torch.no_grad():
        for part in passes:
            states.append(_random_state(processes.device))
            pieces.append(embed([mine[index] for index in part]))
        extra = [embed([rows[0]])[:0] for _ in idle]
        # With more processes than texts, some have none: their share has no rows, but the form of the others'.
        pieces = pieces or extra[:1] or [embed([rows[0]])[:0]]
    everything = processes.gather(_in_order(pieces, passes), len(rows)).requires_grad_()
    loss = loss_of(everything)
    (gradient,) = torch.autograd.grad(loss, everything)
    kept = gradient[processes.rank :: processes.world]
    for part, state in zip(passes, states, strict=True):
        _restore(state, processes.device)
        embed([mine[index] for index in part]).backward(kept[part])
    for _ in idle:
        (0.0 * embed([rows[0]]).sum()).backward()
    return float(loss.detach())


def _in_order(pieces: Sequence[Tensor], passes: Sequence[Sequence[int]]) -> Tensor:
    """The embeddings of all passes, back in the order of the rows."""
    order = torch.tensor([index for part in passes for index in part], dtype=torch.long)
    return torch.cat(list(pieces))[order.argsort().to(pieces[0].device)]


def _random_state(device: str) -> list[Tensor]:
    """Of what dropout draws from: the CPU's generator, and that of the device that computes, current one or not."""
    states = [torch.get_rng_state()]
    if not device.startswith("cpu"):
        states.append(torch.get_device_module(device).get_rng_state(device))
    return states


def _restore(states: list[Tensor], device: str) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.get_device_module(device).set_rng_state(state, device)
