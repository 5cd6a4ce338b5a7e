"""Contrastive batches larger than memory: GradCache (arXiv 2101.06983), with a token budget.

1. Embed every pass without a graph, remembering the random state in front of each.
2. Compute the loss on the embeddings alone; its gradient with respect to each embedding is small enough to keep.
3. Embed every pass again, with a graph and the remembered random state (the same dropout), and push the kept gradients
   back through it.

The gradients are those of one large batch; the price is one more forward pass. A batch whose tokens fit ``kept`` at
once is done directly.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from llm2comp_apps.encoder.batching import length_batches

__all__ = ["contrastive_backward"]

Embed = Callable[[list[list[int]]], Tensor]


def contrastive_backward(
    rows: Sequence[list[int]],
    embed: Embed,
    loss_of: Callable[[Tensor], Tensor],
    *,
    tokens_per_pass: int,
    tokens_kept: int,
    extra_tokens: int = 0,
    scale: float = 1.0,
) -> float:
    """Accumulate the gradients of ``scale * loss_of(embeddings of rows)``; returns the loss.

    Args:
        rows: N token rows of any length.
        embed: token rows of one pass -> ``(n, d)`` with a graph.
        loss_of: ``(N, d)`` in the order of ``rows`` -> scalar.
        tokens_per_pass: padded tokens of one pass.
        tokens_kept: if all passes together are no larger, their graphs are kept and nothing is computed twice.
        extra_tokens: added to each row by the network (the memory tokens).
        scale: of the gradient.
    """
    passes = length_batches([len(row) + extra_tokens for row in rows], tokens_per_pass)
    padded = sum(max(len(rows[index]) + extra_tokens for index in part) * len(part) for part in passes)
    back = torch.empty(len(rows), dtype=torch.long)
    back[torch.tensor([index for part in passes for index in part])] = torch.arange(len(rows))
    if padded <= tokens_kept:
        together = torch.cat([embed([rows[index] for index in part]) for part in passes])
        loss = loss_of(together[back.to(together.device)])
        (loss * scale).backward()
        return float(loss.detach())

    states, pieces = [], []
    with torch.no_grad():
        for part in passes:
            states.append(_random_state())
            pieces.append(embed([rows[index] for index in part]))
    embeddings = torch.cat(pieces).detach().requires_grad_()
    after = _random_state()
    loss = loss_of(embeddings[back.to(embeddings.device)])
    (loss * scale).backward()
    assert embeddings.grad is not None
    gradients = embeddings.grad.split([len(part) for part in passes])
    for part, state, gradient in zip(passes, states, gradients, strict=True):
        _restore(state)
        embed([rows[index] for index in part]).backward(gradient)
    _restore(after)
    return float(loss.detach())


def _random_state() -> tuple[Tensor, list[Tensor]]:
    return torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []


def _restore(state: tuple[Tensor, list[Tensor]]) -> None:
    torch.set_rng_state(state[0])
    if state[1]:
        torch.cuda.set_rng_state_all(state[1])
