"""How likely texts are to a language model that has read another one: no encoder and no memory vectors take part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from llm2comp_apps.encoder.beginnings import first_ids
from llm2comp_apps.encoder.protocol import FloatArray

if TYPE_CHECKING:
    from llm2comp_apps.encoder.backbones import Backbone

__all__ = ["TextReader", "load_text_reader"]


class TextReader:
    """A language model that gives texts their likelihood.

    Args:
        backbone: the model and its tokenizer.
    """

    def __init__(self, backbone: Backbone) -> None:
        self._lm: Any = backbone.lm
        self._tokenizer: Any = backbone.tokenizer

    @torch.inference_mode()
    def likelihood(
        self, texts: Sequence[str], given: str, *, prompt: str = "", max_length: int | None = None
    ) -> FloatArray:
        """Mean log-likelihood per token of each text behind another one, which is read once for all of them.

        Args:
            texts: n texts.
            given: what is read first.
            prompt: stands between the two.
            max_length: tokens of ``given`` that are read; ``None`` for all.

        Returns:
            ``(n,)`` float32 in nats; 0 for an empty text.
        """
        rows = self._ids(texts)
        if not any(rows):
            return np.zeros(len(rows), dtype=np.float32)
        device = self._lm.device
        lengths = torch.tensor([len(row) for row in rows], device=device)
        ids = torch.zeros((len(rows), max(map(len, rows))), dtype=torch.long, device=device)
        for place, row in enumerate(rows):  # right-padded: what follows a text is not seen by it
            ids[place, : len(row)] = torch.tensor(row)
        read = self._lm(self._head(given, prompt, max_length), use_cache=True, logits_to_keep=1)
        logits = read.logits.expand(len(rows), -1, -1)
        if ids.shape[1] > 1:
            read.past_key_values.batch_repeat_interleave(len(rows))
            rest = self._lm(input_ids=ids[:, :-1], past_key_values=read.past_key_values, use_cache=True)
            logits = torch.cat([logits, rest.logits], dim=1)
        likely = logits.float().log_softmax(-1).gather(-1, ids[..., None])[..., 0]
        there = torch.arange(ids.shape[1], device=device)[None] < lengths[:, None]
        means: FloatArray = ((likely * there).sum(1) / lengths.clamp(min=1)).cpu().numpy().astype(np.float32)
        return means

    def _head(self, given: str, prompt: str, max_length: int | None) -> torch.Tensor:
        head = (
            self._tokenizer(given)["input_ids"]
            if max_length is None
            else first_ids(self._tokenizer, [given], max_length)[0][0]
        )
        ids = [*head, *(self._ids([prompt])[0] if prompt else [])]
        # Something has to stand before the first token.
        return torch.tensor([ids or [int(self._tokenizer.pad_token_id or 0)]], device=self._lm.device)

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts that do not begin what is read, so no token of the beginning is put before them."""
        rows: list[list[int]] = self._tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return rows


def load_text_reader(backbone: str, device: str | None = None) -> TextReader:
    """Load a language model to ask it about texts.

    Args:
        backbone: as :func:`~llm2comp_apps.encoder.backbones.load_backbone` takes it.
        device: by default the best there is.

    Raises:
        EncoderError: it cannot be loaded.
    """
    from llm2comp_apps.encoder.backbones import default_device, default_dtype, load_backbone

    device = device or default_device()
    return TextReader(load_backbone(backbone, device=device, dtype=default_dtype(device)))
