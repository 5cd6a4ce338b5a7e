"""``mntp``: masked next-token prediction, the adaptation objective of LLM2Vec (arXiv 2404.05961); a comparator.

With attention in both directions, some tokens x_i, i in M, replaced by a mask token, h the last hidden states of what
came out (x'), and the frozen LM head:

    L = 1/|M| * sum_{i in M} -log softmax(head(h_{i-1}(x')))[x_i]

The state *before* a masked token predicts it, as the LM was trained to; so the first token is never masked. Mean over
masked tokens, then over texts. The text's embedding is the mean of its own states (readout ``tokens``).

The mask token is the underscore and a fifth of the tokens is masked, as LLM2Vec does for Llama-2; all of these become
the mask token, where LLM2Vec leaves a tenth as it was and makes another tenth random.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_train.losses.decoding import SplitBatch
from llm2comp_train.losses.vocabulary import chunked_cross_entropy, per_text_mean

__all__ = ["mntp_loss"]


def mntp_loss(network: CompressionNetwork, batch: SplitBatch, *, chunk: int = 256) -> Tensor:
    """Loss of each text.

    Args:
        network: its encoder role, adapter on, is h.
        batch: B texts; ``context (B, C)`` is x', ``target (B, C)`` is x. A token counts as masked where they differ.
        chunk: positions whose logits exist at once.

    Returns:
        ``(B,)`` float32, nats per masked token; 0 for a text without one.
    """
    masked, real = batch.context, batch.context_mask
    real = torch.ones_like(masked, dtype=torch.bool) if real is None else real.bool()
    # Padding is on the left here and on the right there; the real tokens come in the same order.
    original = masked.masked_scatter(real, batch.target[batch.positions(extra=0)])
    selected = (masked != original)[:, 1:]
    states = network.hidden(network.embed(masked), batch.context_mask, causal=False)[:, :-1][selected]
    losses = chunked_cross_entropy(states, original[:, 1:][selected], network.logits, chunk=chunk)
    return per_text_mean(losses, selected)
