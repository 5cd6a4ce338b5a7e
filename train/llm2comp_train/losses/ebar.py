"""``ebar``: EBAE + EBAR, the adaptation objectives of Llama2Vec (LLaRA, arXiv 2312.15503); a comparator.

Two prompts follow a text x, "the original sentence" and "the next sentence", each closed by memory tokens whose states
(readout ``prompts``) are averaged to e_self and e_next. Through the frozen LM head e_self must say the text's tokens
(auto-encoding, EBAE) and e_next those of what follows, y (auto-regression, EBAR), each as a bag, from one vector:

    L = 1/|x| * sum_{t in x} -log softmax(head(e_self))[t]  +  1/|y| * sum_{t in y} -log softmax(head(e_next))[t]

Mean over tokens, repeated ones counted as often as they occur; then the sum of both; then the mean over texts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_train.losses.decoding import SplitBatch
from llm2comp_train.losses.vocabulary import chunked_bag_cross_entropy

__all__ = ["ebar_loss"]


def ebar_loss(network: CompressionNetwork, batch: SplitBatch, memory: Tensor, *, chunk: int = 256) -> Tensor:
    """Loss of each text.

    Args:
        network: for its LM head.
        batch: B texts, ``context`` is x and ``target`` is y.
        memory: ``(B, k, d)``, the first half of the k vectors after the first prompt, the others after the second.
        chunk: rows of logits that exist at once.

    Returns:
        ``(B,)`` float32, nats per token, both parts added up; a part without tokens is 0.
    """
    own, following = (part.mean(1) for part in memory.tensor_split(2, dim=1))
    present = torch.ones_like(batch.context) if batch.context_mask is None else batch.context_mask
    return chunked_bag_cross_entropy(
        own, batch.context, present.bool(), network.logits, chunk=chunk
    ) + chunked_bag_cross_entropy(following, batch.target, batch.positions(extra=0), network.logits, chunk=chunk)
