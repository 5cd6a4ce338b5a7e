"""``nll``: continuation; the ablation of ``kl`` without a teacher (LLM2Comp, arXiv 2511.17129).

The frozen LM g, reading memory in place of the context x, continues the text:

    L = 1/n * sum_{t=1..n} -log g(y_t | E(x), y_{<t})

Mean over positions, then over texts.
"""

from __future__ import annotations

from torch import Tensor

from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_train.losses.decoding import SplitBatch, decoder_states
from llm2comp_train.losses.vocabulary import chunked_cross_entropy, per_text_mean

__all__ = ["nll_loss"]


def nll_loss(network: CompressionNetwork, batch: SplitBatch, memory: Tensor, *, chunk: int = 256) -> Tensor:
    """Loss of each text, ``(B,)`` float32, in nats per target token; arguments as :func:`~.kl.kl_loss`."""
    selected = batch.positions(extra=0)
    states = decoder_states(network, memory, batch.target)[:, :-1][selected]
    losses = chunked_cross_entropy(states, batch.target[selected], network.logits, chunk=chunk)
    return per_text_mean(losses, selected)
