"""``kl``: continuation with distillation (CTKD), the compression objective of LLM2Comp (arXiv 2511.17129).

With x_1..c a text's context, y_1..n what follows, E(x) its memory vectors and g the frozen LM:

    L = 1/(n+1) * sum_{t=1..n+1} KL( g(. | x, y_{<t})  ||  g(. | E(x), y_{<t}) )

The LM that reads the memory must expect what the LM that reads the text itself expects, at every position from the
one after the context to the one after the last continuation token. Mean over positions, then over texts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_train.losses.decoding import SplitBatch, decoder_states
from llm2comp_train.losses.vocabulary import chunked_kl, per_text_mean

__all__ = ["kl_loss", "teacher_states"]


def kl_loss(network: CompressionNetwork, batch: SplitBatch, memory: Tensor, *, chunk: int = 256) -> Tensor:
    """Loss of each text.

    Args:
        network: its decoder role is g, as teacher and as student.
        batch: B split texts.
        memory: ``(B, k, d)``, E(x); gradients flow through it.
        chunk: positions whose logits exist at once.

    Returns:
        ``(B,)`` float32, nats per position.
    """
    selected = batch.positions(extra=1)
    teacher = teacher_states(network, batch)
    student = decoder_states(network, memory, batch.target)[selected]
    return per_text_mean(chunked_kl(student, teacher, network.logits, chunk=chunk), selected)


@torch.no_grad()
def teacher_states(network: CompressionNetwork, batch: SplitBatch) -> Tensor:
    """The frozen LM's states over [x, y], from the last context token on.

    Context and target are joined without the padding between them, which would double the width of a batch whose long
    contexts meet short targets.

    Returns:
        ``(N, d)``: the positions of ``batch.positions(extra=1)`` in row-major order.
    """
    real = torch.ones_like(batch.context) if batch.context_mask is None else batch.context_mask
    after = batch.positions(extra=0)
    lengths = real.sum(1) + batch.lengths
    place = torch.arange(int(lengths.max()), device=real.device)[None] - (lengths.max() - lengths)[:, None]
    mask = (place >= 0).long()
    joined = torch.cat([real.bool(), after], dim=1)
    ids = torch.zeros_like(mask).masked_scatter(mask.bool(), torch.cat([batch.context, batch.target], dim=1)[joined])
    states = network.decode(network.embed(ids), None if bool(mask.all()) else mask)
    return states[place >= real.sum(1, keepdim=True) - 1]
