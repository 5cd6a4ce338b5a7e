"""Numerics of the losses over the vocabulary: exact in float32, without ever holding all logits.

The LM head turns N selected hidden states ``(N, d)`` into ``(N, V)`` logits, by far the largest tensor of a step
(V is 49k to 256k). The functions here go through the states in chunks and, since the head is frozen and each position's
loss depends on its own state alone, compute the gradient with respect to the states on the spot. So the logits of one
chunk exist at a time, in the forward pass only, and nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, kl_div, log_softmax

__all__ = ["chunked_bag_cross_entropy", "chunked_cross_entropy", "chunked_kl", "per_text_mean"]

Head = Callable[[Tensor], Tensor]


class _HeadLoss(torch.autograd.Function):
    """``loss_of(head(states))`` per position, with its gradient computed in the forward pass, chunk by chunk."""

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, head: Head, loss_of: Callable[[Tensor, slice], Tensor], chunk: int, needed: bool
    ) -> Tensor:
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        for start in range(0, len(states), chunk):
            place = slice(start, start + chunk)
            piece = states[place].detach().requires_grad_(needed)
            with torch.set_grad_enabled(needed):
                loss = loss_of(head(piece).float(), place)
                gradients += torch.autograd.grad(loss.sum(), piece) if needed else ()
            losses.append(loss.detach())
        if needed:
            ctx.save_for_backward(torch.cat(gradients))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> Any:
        (gradient,) = ctx.saved_tensors
        return (gradient * outputs[0][:, None]).to(gradient.dtype), None, None, None, None


def _head_loss(states: Tensor, head: Head, loss_of: Callable[[Tensor, slice], Tensor], chunk: int) -> Tensor:
    if not len(states):
        return states.new_zeros(0, dtype=torch.float32)
    needed = states.requires_grad and torch.is_grad_enabled()
    losses: Tensor = _HeadLoss.apply(states, head, loss_of, chunk, needed)
    return losses


def chunked_kl(student: Tensor, teacher: Tensor, head: Head, *, chunk: int = 256) -> Tensor:
    """KL(p_teacher || p_student) of next-token distributions, per position.

    Args:
        student: hidden states ``(N, d)``; gradients flow here.
        teacher: hidden states ``(N, d)``; constants.
        head: the frozen LM head, ``(n, d) -> (n, V)``.
        chunk: positions whose logits exist at once.

    Returns:
        ``(N,)`` float32, in nats. ``log_softmax`` in float32: ``softmax().log()`` is -inf where a probability
        underflows, and the loss NaN.
    """

    def loss_of(logits: Tensor, place: slice) -> Tensor:
        with torch.no_grad():
            target = log_softmax(head(teacher[place]).float(), dim=-1)
        return kl_div(log_softmax(logits, dim=-1), target, reduction="none", log_target=True).sum(-1)

    return _head_loss(student, head, loss_of, chunk)


def chunked_cross_entropy(states: Tensor, targets: Tensor, head: Head, *, chunk: int = 256) -> Tensor:
    """-log p(target) per position: ``states (N, d)``, ``targets (N,)`` -> ``(N,)`` float32, in nats."""

    def loss_of(logits: Tensor, place: slice) -> Tensor:
        return cross_entropy(logits, targets[place], reduction="none")

    return _head_loss(states, head, loss_of, chunk)


def chunked_bag_cross_entropy(states: Tensor, bags: Tensor, present: Tensor, head: Head, *, chunk: int = 256) -> Tensor:
    """Mean over a bag of tokens of -log p(token), all from one state.

    Args:
        states: hidden states ``(N, d)``; gradients flow here.
        bags: token ids ``(N, T)``, padded anywhere.
        present: ``(N, T)`` bool, false where ``bags`` is padding.
        head: the frozen LM head, ``(n, d) -> (n, V)``.
        chunk: states whose logits exist at once.

    Returns:
        ``(N,)`` float32, in nats; 0 for an empty bag.
    """

    def loss_of(logits: Tensor, place: slice) -> Tensor:
        found = log_softmax(logits, dim=-1).gather(1, bags[place]) * present[place]
        return -found.sum(1) / present[place].sum(1).clamp(min=1)

    return _head_loss(states, head, loss_of, chunk)


def per_text_mean(losses: Tensor, selected: Tensor) -> Tensor:
    """Mean loss of each text.

    Args:
        losses: ``(N,)``, those of the selected positions in row-major order.
        selected: ``(B, T)`` bool with N true entries.

    Returns:
        ``(B,)``; 0 for a text without a position.
    """
    grid = torch.zeros(selected.shape, dtype=losses.dtype, device=losses.device)
    grid = grid.masked_scatter(selected, losses)
    return grid.sum(1) / selected.sum(1).clamp(min=1)
