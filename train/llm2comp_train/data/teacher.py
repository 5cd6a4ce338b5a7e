"""The encoder whose similarities ``scl`` learns: it reads the texts of each batch as the store cut them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_train.data.batches import PairBatch
from llm2comp_train.data.store import TokenStore

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Teacher", "load_teacher"]


class Teacher:
    """Embeds a batch's texts with another encoder, under that encoder's own prompts."""

    def __init__(
        self, encoder: TextEncoder, store: TokenStore, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str]
    ) -> None:
        """Bind an encoder to a store.

        Args:
            encoder: the teacher.
            store: token ids of the texts, made with ``tokenizer``.
            tokenizer: of the student; turns the ids back into text.
            prompts: what the store's queries begin with, by file; the teacher does not get to see it.
        """
        self._encoder, self._store, self._tokenizer, self._prompts = encoder, store, tokenizer, prompts

    def vectors(self, batch: PairBatch) -> Tensor:
        """``(N, t)`` float32 unit rows of the batch's texts, in its order: queries, positives, hard negatives."""
        texts = self._tokenizer.batch_decode(
            [self._store.ids(text) for text in batch.texts],
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        count, prompt = len(batch.rows), self._prompts[batch.file]
        queries = [text.removeprefix(prompt) for text in texts[:count]]
        own = self._encoder.prompts
        # Where no prompt was given to the student, both sides are alike and stay so.
        query_prompt = own.get("query") if prompt else own.get("document")
        found = [
            self._encoder.encode(queries, prompt=query_prompt),
            self._encoder.encode(texts[count:], prompt=own.get("document")),
        ]
        return torch.cat([torch.from_numpy(vectors) for vectors in found])


def load_teacher(name: str, device: str) -> TextEncoder:
    """Load the encoder to learn from; see :mod:`llm2comp_apps.encoder.names` for what it can be.

    Raises:
        EncoderError: it cannot be found or loaded, or its library is not installed.
    """
    from llm2comp_apps.encoder.names import load_encoder

    return load_encoder(name, device=device)
