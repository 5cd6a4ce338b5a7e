"""How likely texts are to a language model that has read others: no encoder and no memory vectors take part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE, Backbone, default_device, default_dtype, load_backbone
from llm2comp_apps.encoder.names import backbone_of
from llm2comp_apps.encoder.protocol import FloatArray

__all__ = ["TextReader", "load_text_reader"]

_LONGEST = 512
"""Tokens of a text that are read."""


class TextReader:
    """A language model that gives texts their likelihood.

    Args:
        backbone: the model and its tokenizer.
        max_length: tokens that are read of each text.
    """

    def __init__(self, backbone: Backbone, max_length: int = _LONGEST) -> None:
        self._lm: Any = backbone.lm
        self._tokenizer, self._max_length = backbone.tokenizer, max_length
        self._pad_id = int(backbone.tokenizer.pad_token_id or 0)

    @torch.inference_mode()
    def likelihood_after(self, texts: Sequence[str], given: Sequence[str], *, prompt: str = "") -> FloatArray:
        """Mean log-likelihood per token of each text behind another one.

        Args:
            texts: n texts.
            given: n texts that are read first.
            prompt: stands between the two, and is not counted.

        Returns:
            ``(n,)`` float32 in nats; 0 for an empty text.
        """
        asked = self._tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        out = np.zeros(len(texts), dtype=np.float32)
        for index, (before, row) in enumerate(zip(self._ids(given), self._ids(texts), strict=True)):
            if not row:
                continue
            head = [*before, *asked] or [self._pad_id]  # something has to stand before the first token
            ids = torch.tensor([[*head, *row]], device=self._lm.device)
            # The head is asked for the text's tokens alone: its product with the vocabulary is as dear as ten layers.
            logits = self._lm(ids[:, :-1], use_cache=False, logits_to_keep=len(row)).logits[0]
            likely = logits.float().log_softmax(-1).gather(-1, ids[0, len(head) :, None])
            out[index] = float(likely.mean())
        return out

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        rows: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self._max_length)["input_ids"]
        return rows


def load_text_reader(name: str, *, device: str | None = None) -> TextReader:
    """Load the language model under an encoder, whatever was made of it.

    Args:
        name: of an encoder; one that stands on no language model, such as a model of sentence-transformers, gets the
            default backbone.
        device: ``None`` for the best there is.

    Raises:
        EncoderError: the encoder or its language model cannot be found or loaded.
        UsageError: the name is malformed.
    """
    device = device or default_device()
    return TextReader(load_backbone(backbone_of(name) or DEFAULT_BACKBONE, device=device, dtype=default_dtype(device)))
