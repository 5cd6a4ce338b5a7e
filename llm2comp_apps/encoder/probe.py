"""Does this backbone really attend in both directions? Asked of the loaded model, not of a list of names.

Silently causal attention is the most common bug of LLM-based embedders: nothing fails, the vectors are just worse.

The question is asked in float32 whatever the weights are in: rounding to bfloat16 can flip one of SmolLM2's massive
activations, and with it a memory vector (cosine .908 was seen), which would look like a leak.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

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
    first = [token % vocabulary for token in (1011, 507, 2023, 705)]  # ordinary words, no marks
    other = [*first[:-1], (first[-1] + 3) % vocabulary]
    architecture = type(network.lm).__name__
    was_training = network.training
    network.eval()
    try:
        with _in_float32(network.encoder):
            states = [_text_states(network, left_pad([row], 0, device)[0]) for row in (first, other)]
            alone = network.memory(*left_pad([first], 0, device))
            together = network.memory(*left_pad([first, [*first, *first]], 0, device))[:1]
        if torch.equal(states[0][:, 0], states[1][:, 0]):
            raise EncoderError(
                f"backbone {name}: {architecture} does not take bidirectional attention (its first state ignores its "
                "last token). Use a backbone of another family, such as Llama, Qwen, Mistral, Gemma, Phi or OLMo."
            )
        similarity = torch.cosine_similarity(alone.float(), together.float(), dim=-1).min()
        if not similarity > 0.999:
            raise EncoderError(
                f"backbone {name}: {architecture} reads the padding beside a text (cosine {float(similarity):.4f} "
                "instead of 1), so a vector would depend on its batch. Use a backbone of another family."
            )
    finally:
        network.train(was_training)


def _text_states(network: CompressionNetwork, ids: Tensor) -> Tensor:
    """States ``(B, T, d)`` of a text by itself, behind the last layer that text goes through."""
    if network.text_layers is not None:
        return network.token_states(ids)
    return network.hidden(network.embed(ids), None, causal=False)


@contextmanager
def _in_float32(base: nn.Module) -> Iterator[None]:
    """Run the parts of an LM in float32, each while it computes: that takes room for one layer, not for all of them."""
    with ExitStack() as hooks:
        for child in base.children():
            for part in child if isinstance(child, nn.ModuleList) else [child]:
                if not isinstance(part, nn.Embedding):  # looks up, and rounds nothing
                    hooks.enter_context(_part_in_float32(part))
        yield


@contextmanager
def _part_in_float32(part: nn.Module) -> Iterator[None]:
    kept: list[tuple[nn.Parameter, Tensor]] = []

    def widen(_: nn.Module, arguments: Any, named: Any) -> tuple[Any, Any]:
        for parameter in part.parameters():
            kept.append((parameter, parameter.data))
            parameter.data = parameter.data.float()
        return _widened(arguments), _widened(named)

    def restore(*_: Any) -> None:
        while kept:
            parameter, data = kept.pop()
            parameter.data = data

    hooks = [
        part.register_forward_pre_hook(widen, with_kwargs=True),
        part.register_forward_hook(restore, always_call=True),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _widened(value: Any) -> Any:
    """Its half-precision tensors in float32, through tuples and keyword arguments."""
    if isinstance(value, tuple):
        return tuple(map(_widened, value))
    if isinstance(value, dict):
        return {key: _widened(one) for key, one in value.items()}
    return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value
