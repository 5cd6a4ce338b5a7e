"""Does this backbone really attend in both directions? Asked of the loaded model, not of a list of names.

Silently causal attention is the most common bug of LLM-based embedders: nothing fails, the vectors are just worse.
"""

from __future__ import annotations

import torch

from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.errors import EncoderError

__all__ = ["probe"]


@torch.no_grad()
def probe(network: CompressionNetwork, name: str) -> None:
    """Check that a later token changes an earlier state, and that left padding changes nothing.

    Raises:
        EncoderError: the architecture ignores ``is_causal=False``, or reads padding.
    """
    vocabulary = network.lm.get_input_embeddings().weight.shape[0]
    device = network.memory_tokens.device
    first = [token % vocabulary for token in (11, 7, 23, 5)]
    other = [*first[:-1], (first[-1] + 3) % vocabulary]
    architecture = type(network.lm).__name__
    was_training = network.training
    network.eval()
    try:
        states = [
            network.hidden(network.embed(left_pad([row], 0, device)[0]), None, causal=False) for row in (first, other)
        ]
        if torch.equal(states[0][:, 0], states[1][:, 0]):
            raise EncoderError(
                f"backbone {name}: {architecture} does not take bidirectional attention (its first state ignores its "
                "last token). Use a backbone of another family, such as Llama, Qwen, Mistral, Gemma, Phi or OLMo."
            )
        alone = network.memory(*left_pad([first], 0, device))
        ids, mask = left_pad([first, [*first, *first]], 0, device)
        together = network.memory(ids, mask)[:1]
        cosines = torch.cosine_similarity(alone.float(), together.float(), dim=-1)
        # Rounding to half precision can flip a massive activation and with it one vector (.908 was seen), not most: the
        # median of good encoders was above .9994, with an attention mask left out below .986.
        exact = network.compute_dtype is torch.float32
        similarity = cosines.min() if exact else cosines.median()
        if not similarity > (0.999 if exact else 0.995):
            raise EncoderError(
                f"backbone {name}: {architecture} reads the padding beside a text (cosine {float(similarity):.4f} "
                "instead of 1), so a vector would depend on its batch. Use a backbone of another family."
            )
    finally:
        network.train(was_training)
