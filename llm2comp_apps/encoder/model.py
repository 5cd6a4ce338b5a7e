"""The LLM2Comp encoder for use: load, encode, save."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from llm2comp_apps.encoder import checkpoint
from llm2comp_apps.encoder.base import BatchedEncoder
from llm2comp_apps.encoder.batching import limit
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.encoder.fingerprints import encoder_fingerprint, network_digest
from llm2comp_apps.encoder.habits import Texts, one_or_many
from llm2comp_apps.encoder.loading import load_network
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.pooling import pool
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.texts import list_of_texts
from llm2comp_apps.encoder.token_states import TokenStates, unit_states

__all__ = ["LLM2Comp"]


class LLM2Comp(BatchedEncoder):
    """A decoder-only LLM adapted to text encoding by context compression (arXiv 2511.17129).

    A text becomes k memory vectors; their mean, L2-normalised, is its embedding.

    Example:
        >>> encoder = LLM2Comp.from_pretrained("default")
        >>> vectors = encoder.encode(["first text", "second text"])     # (2, d) float32, unit rows
        >>> vectors @ vectors.T                                         # cosine similarities
    """

    def __init__(
        self,
        network: CompressionNetwork,
        tokenizer: Any,
        settings: checkpoint.EncoderSettings,
        *,
        adapter: checkpoint.Adapter | None = None,
        layers_state: dict[str, Tensor] | None = None,
        weights_sha256: str = "",
        packed: Path | None = None,
    ) -> None:
        """Wrap a network whose adapter, if any, is merged; use :meth:`from_pretrained` to load one.

        Args:
            network: what encodes.
            tokenizer: the backbone's.
            settings: what a checkpoint says of the encoder.
            adapter: what was merged, for :meth:`save_pretrained`.
            layers_state: the encoder's own layers as they are stored, for :meth:`save_pretrained`.
            weights_sha256: digest of the file that holds either of the two.
            packed: folder of the checkpoint, where it works by itself, for :meth:`save_pretrained`.
        """
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.settings = settings
        self.adapter = adapter
        self.layers_state = layers_state
        self._packed = packed
        self.device = str(network.memory_tokens.device)
        self.dimension = network.memory_tokens.shape[1]
        self.k = network.vectors
        self.max_length = settings.max_length
        self.prompts = dict(settings.prompts)
        self.pooling = settings.pooling
        self.name = settings.name or settings.backbone
        self.space = settings.space
        self._extra_tokens = network.extra_tokens
        self._of_text = network.readout.of_text
        memory = network.memory_tokens.detach().cpu().float().numpy()
        self.fingerprint = encoder_fingerprint(settings, memory, weights_sha256)
        self.network_digest = network_digest(settings, memory, weights_sha256)

    @classmethod
    def from_pretrained(
        cls,
        name: str = "default",
        *,
        backbone: str | None = None,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        pooling: str | None = None,
        max_length: int | None = None,
    ) -> LLM2Comp:
        """Load an encoder.

        Args:
            name: ``default``, a checkpoint directory, or a Hugging Face id of one.
            backbone: where its backbone lies now, if not where the checkpoint says; must be the very same weights.
            device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; by default the best there is.
            dtype: of the matrix products; by default bfloat16 where the hardware has it, else float32.
            pooling: instead of the checkpoint's own; see :mod:`.pooling`.
            max_length: instead of the checkpoint's own, in tokens.

        Raises:
            EncoderError: checkpoint or backbone missing, damaged, or not made for one another.
        """
        loaded = load_network(
            name, backbone=backbone, device=device, dtype=dtype, pooling=pooling, max_length=max_length
        )
        return cls(
            loaded.network,
            loaded.tokenizer,
            loaded.settings,
            adapter=loaded.adapter,
            layers_state=loaded.layers_state,
            weights_sha256=loaded.weights_sha256,
            packed=loaded.packed,
        )

    @property
    def layers(self) -> list[int]:
        """Numbers of the backbone's layers that run, ascending."""
        if self.settings.layers is not None:
            return list(self.settings.layers)
        body: Any = self.network.encoder
        return list(range(len(body.layers)))

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
        pooling: str | None = None,
    ) -> FloatArray:
        """Embed texts: ``(n, d)`` float32 with unit rows; ``(n, k, d)``, each row of unit norm, for pooling ``all``.

        One text has no first axis: ``(d,)`` or ``(k, d)``.

        See :meth:`.base.BatchedEncoder.encode` for the other arguments; ``pooling`` replaces the encoder's own.
        """
        chosen = pooling or self.pooling
        shape = (self.k, self.dimension) if chosen == "all" else (self.dimension,)

        def forward(rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:
            pooled = pool(self._forward(rows, ids, mask), chosen)
            return torch.nn.functional.normalize(pooled, dim=-1) if normalize_embeddings else pooled

        return self._run(texts, prompt, forward, shape, tokens_per_batch, show_progress, batch_size)

    @one_or_many
    def encode_memory(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        show_progress: bool = False,
        tokens_per_batch: int | None = None,
        batch_size: int | None = None,
    ) -> FloatArray:
        """The memory vectors as they leave the network: ``(n, k, d)`` float32, not normalised."""
        shape = (self.k, self.dimension)
        return self._run(texts, prompt, self._forward, shape, tokens_per_batch, show_progress, batch_size)

    def encode_tokens(self, texts: Sequence[str], *, max_length: int | None = None) -> list[TokenStates]:
        """See :meth:`.protocol.ReadsTokens.encode_tokens`."""
        texts = list_of_texts(texts)
        longest = min(limit(max_length, self.max_length, "max_length"), self.max_length)
        rows = self._tokenise(texts, longest) if texts else []
        found = [unit_states([], np.zeros((0, self.dimension), dtype=np.float32)) for _ in rows]
        filled = [number for number, row in enumerate(rows) if row]

        def forward(_: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:
            with self.network.autocast():
                return self.network.token_states(ids, mask)

        def put(batch: list[int], states: FloatArray) -> None:
            for place, padded in zip(batch, states, strict=True):
                row = rows[filled[place]]
                found[filled[place]] = unit_states(row, padded[-len(row) :])

        self._run_rows([rows[number] for number in filled], forward, put, budget=self.batch_tokens())
        return found

    def to(self, device: str) -> Self:
        """Move the network to a device, and give the encoder back.

        Raises:
            UsageError: there is no such device here.
        """
        check_device(device)
        self.network.to(device)
        self.device = str(self.network.memory_tokens.device)
        return self

    def save_pretrained(self, directory: str | Path) -> None:
        """Write a checkpoint that :meth:`from_pretrained` loads to identical vectors, with tokenizer and model card.

        An encoder that is there already is replaced when the new one is complete, and not before; whatever else the
        folder holds stays.
        """
        memory = self.network.memory_state()
        with checkpoint.replaced(Path(directory)) as fresh:
            if self._packed is not None:
                checkpoint.copy_packed(self._packed, fresh, self.settings)
                return
            checkpoint.write(fresh, self.settings, memory, self.adapter, self.tokenizer, layers_state=self.layers_state)

    def _rows(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        return self._tokenise([prompt + text for text in texts] if prompt else texts, self.max_length)

    def _forward(self, rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002 - signature
        with self.network.autocast():
            return self.network.memory(ids, mask)
