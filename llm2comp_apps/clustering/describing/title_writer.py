"""The language model that writes titles, and says how likely a title is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from llm2comp_apps.encoder.protocol import FloatArray

if TYPE_CHECKING:
    from llm2comp_apps.encoder.backbones import Backbone

__all__ = ["BackboneWriter", "TitleWriter", "backbone_writer"]

_NEW_TOKENS = 12


class TitleWriter(Protocol):
    """Continues a prompt, and judges continuations."""

    def write(self, prompt: str) -> str:
        """What follows the prompt; the same each time if names shall be."""
        ...

    def likelihood(self, titles: Sequence[str], prompt: str) -> FloatArray:
        """Mean log-likelihood per token of each title behind the prompt: ``(n,)``, in nats."""
        ...


class BackboneWriter:
    """A plain backbone.

    The prompt is a list of examples, which any language model can continue. Not in a chat's form, where small models
    talk about the examples.
    """

    def __init__(self, backbone: Backbone) -> None:
        from llm2comp_apps.encoder.decoding import TextReader

        self._lm: Any = backbone.lm
        self._tokenizer: Any = backbone.tokenizer
        self._reader = TextReader(backbone)

    def write(self, prompt: str) -> str:
        """See :class:`TitleWriter`; greedily."""
        import torch

        inputs = self._tokenizer([prompt], return_tensors="pt").to(self._lm.device)
        with torch.inference_mode():
            tokens = self._lm.generate(
                **inputs,
                max_new_tokens=_NEW_TOKENS,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
            )
        return str(self._tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    def likelihood(self, titles: Sequence[str], prompt: str) -> FloatArray:
        """See :class:`TitleWriter`; the prompt is read once for all titles."""
        return self._reader.likelihood([f" {title}" for title in titles], prompt)


def backbone_writer(name: str, device: str | None = None) -> BackboneWriter:
    """Load a backbone to write titles.

    Args:
        name: as :func:`~llm2comp_apps.encoder.backbones.load_backbone` takes it.
        device: by default the best there is.

    Raises:
        EncoderError: it cannot be loaded.
    """
    from llm2comp_apps.encoder.backbones import default_device, default_dtype, load_backbone

    device = device or default_device()
    return BackboneWriter(load_backbone(name, device=device, dtype=default_dtype(device)))
