"""What all our encoders share: tokenise, sort by length, batch by a token budget, restore the order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llm2comp_apps.encoder.backends.cores import usable_cores
from llm2comp_apps.encoder.batching import MAX_ROWS, dealt, encode_in_windows, length_batches, limit, with_progress
from llm2comp_apps.encoder.beginnings import first_ids
from llm2comp_apps.encoder.fingerprints import fingerprint_of
from llm2comp_apps.encoder.habits import EncoderHabits, Texts, one_or_many
from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.texts import list_of_texts
from llm2comp_apps.encoder.threads import fitting_threads, one_thread

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["BatchedEncoder", "fingerprint_of"]

STREAM_WINDOW = 2048
"""Texts that a stream holds at once; large enough for batches of nearly equal length."""

_TOKENS_PER_BATCH = {"cpu": 2048, "cuda": 65536, "mps": 16384}


class BatchedEncoder(EncoderHabits):
    """Base of encoders that run token rows through a network (see :class:`~.protocol.TextEncoder`)."""

    name: str
    fingerprint: str
    dimension: int
    prompts: dict[str, str]
    tokenizer: PreTrainedTokenizerBase
    device: str
    max_length: int
    cut: int = 0
    """Texts encoded so far of which only the beginning was read."""

    @abstractmethod
    def _rows(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        """Token ids of each text as the network will see them, prompt included, cut to ``max_length``."""

    @abstractmethod
    def _forward(self, rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:
        """Run one left-padded batch ``(B, T)``; returns ``(B, ...)``."""

    @one_or_many
    def encode(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        show_progress: bool = False,
        tokens_per_batch: int | None = None,
        batch_size: int | None = None,
        normalize_embeddings: bool = True,
    ) -> FloatArray:
        """Embed texts.

        Args:
            texts: n texts of any length, in any order, or one; what exceeds ``max_length`` tokens is cut off.
            prompt: put in front of every text; ``prompts["query"]`` is meant for queries.
            show_progress: a progress bar on stderr.
            tokens_per_batch: size of a padded batch; by default one that suits the device.
            batch_size: most texts of a batch.
            normalize_embeddings: scale rows to unit length.

        Returns:
            ``(n, d)`` float32; ``(d,)`` for one text.
        """
        forward = self._forward_unit if normalize_embeddings else self._forward
        shape = (self.dimension,)
        return self._run(texts, prompt, forward, shape, tokens_per_batch, show_progress, batch_size)

    def encode_stream(
        self, texts: Iterable[str], *, prompt: str | None = None, window: int = STREAM_WINDOW
    ) -> Iterator[FloatArray]:
        """Embed a stream; yields ``(m, d)`` float32 blocks in input order, holding at most ``window`` texts."""
        return encode_in_windows(texts, window, lambda held: self.encode(held, prompt=prompt))

    def batch_tokens(self, wanted: int | None = None) -> int:
        """Tokens of a padded batch: as wanted, else what suits the device."""
        return limit(wanted, _TOKENS_PER_BATCH.get(self.device.split(":")[0], 2048), "tokens_per_batch")

    def room(self, prompt: str | None = None) -> int:
        """Tokens of a text that are read behind a prompt; what a text has beyond them is cut off."""
        taken = self.tokenizer(prompt or "", add_special_tokens=self._special_tokens)["input_ids"]
        return self.max_length - len(taken)

    def _forward_unit(self, rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:
        return torch.nn.functional.normalize(self._forward(rows, ids, mask).float(), dim=-1)

    def _run(
        self,
        texts: Texts,
        prompt: str | None,
        forward: Callable[[list[list[int]], Tensor, Tensor | None], Tensor],
        shape: tuple[int, ...],
        tokens_per_batch: int | None,
        show_progress: bool,
        batch_size: int | None = None,
    ) -> npt.NDArray[np.float32]:
        """Encode ``texts`` with ``forward`` into ``(n, *shape)`` float32."""
        texts = list_of_texts(texts)
        out = np.empty((len(texts), *shape), dtype=np.float32)
        if not texts:
            return out
        rows = self._rows(texts, prompt or "")

        def put(batch: list[int], found: npt.NDArray[np.float32]) -> None:
            out[batch] = found

        most = limit(batch_size, MAX_ROWS, "batch_size")
        self._run_rows(rows, forward, put, budget=self.batch_tokens(tokens_per_batch), most=most, show=show_progress)
        return out

    def _run_rows(
        self,
        rows: list[list[int]],
        forward: Callable[[list[list[int]], Tensor, Tensor | None], Tensor],
        put: Callable[[list[int], npt.NDArray[np.float32]], None],
        *,
        budget: int,
        most: int = MAX_ROWS,
        show: bool = False,
    ) -> None:
        """Run rows in batches of at most ``budget`` tokens and ``most`` rows, and ``put`` what each batch gives."""
        sizes = [len(row) + self._extra_tokens for row in rows]
        batches = length_batches(sizes, budget, max_rows=most)

        def run(batch: list[int]) -> list[int]:
            with torch.inference_mode():  # a state of each thread
                held = [rows[index] for index in batch]
                ids, mask = left_pad(held, self._pad_id, self.device)
                put(batch, forward(held, ids, mask).float().cpu().numpy())
            return batch

        lanes = min(usable_cores(), len(batches)) if self.device == "cpu" else 1
        with one_thread() if lanes > 1 else fitting_threads(self.device):
            for _ in with_progress(dealt(run, batches, lanes), sizes, show):
                pass

    _extra_tokens = 0  # tokens that the network adds to every row
    _of_text = False  # whether the states of the text itself are read
    _special_tokens = True  # whether max_length counts the tokenizer's special tokens

    @property
    def _pad_id(self) -> int:
        return int(self.tokenizer.pad_token_id or 0)

    def _tokenise(self, texts: Sequence[str], limit: int, *, special: bool = True) -> list[list[int]]:
        rows, cut = first_ids(self.tokenizer, texts, limit, special=special)
        self.cut += cut
        # An empty text has no state of its own to read.
        return [row or [self._pad_id] for row in rows] if self._of_text else rows
