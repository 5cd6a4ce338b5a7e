"""Rerankers for CPUs: the graph of an encoder reads query and document together, and the head scores what it makes.

The graph is the same that an encoder of these layers has, so it is exported, checked and kept in the same way
(:mod:`.exported`); besides, its scores are compared with the network's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from llm2comp_apps.encoder.arrays import open_arrays
from llm2comp_apps.encoder.backends import load_light, resolve_backend, wants_light
from llm2comp_apps.encoder.backends.onnx_encoder import OnnxEncoder
from llm2comp_apps.encoder.locate import locate_checkpoint
from llm2comp_apps.encoder.pairs import PairReader, PairScores
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.settings import RERANK
from llm2comp_apps.errors import EncoderError

__all__ = ["OnnxPairScorer", "load_pair_scorer"]

_HEAD = "head.safetensors"


class OnnxPairScorer:
    """What :class:`~llm2comp_apps.encoder.pair_scorer.PairScorer` is, without torch.

    Attributes:
        name: for people.
        precision: of the products with weights, ``int8`` or ``float32``.
    """

    def __init__(self, network: OnnxEncoder, head: FloatArray) -> None:
        """Join a graph and a head ``(d,)``."""
        self.name, self.precision = network.name, network.precision
        self._network, self._head = network, head
        tokenizer = network.tokenizer
        self._reader = PairReader.of(
            network.prompts,
            network.max_length,
            tokens=lambda texts: tokenizer.cut(texts, network.max_length)[0],
            bare=lambda text: list(tokenizer(text, add_special_tokens=False)["input_ids"]),
            first=tokenizer.first,
        )

    def score(self, query: str, documents: Sequence[str]) -> FloatArray:
        """See :class:`~llm2comp_apps.encoder.pairs.PairScores`."""
        rows = self.rows(query, documents)
        scores: FloatArray = self._network.memory_of(rows).mean(axis=1) @ self._head
        return scores

    def rows(self, query: str, documents: Sequence[str]) -> list[list[int]]:
        """Token ids of each pair, without memory tokens."""
        return self._reader.rows(query, documents)


def load_pair_scorer(name: str, device: str | None = None, backend: str = "auto") -> PairScores:
    """Load a reranker of ours: into ONNX Runtime on a CPU, exporting it first where that was not done, else into torch.

    Args:
        name: its folder or Hugging Face id.
        device: where it runs; ``None`` for the best there is.
        backend: as encoders take it, see :mod:`llm2comp_apps.encoder.backends`.

    Raises:
        EncoderError: it is missing, an encoder, damaged, or made for another backbone.
        UsageError: an unknown backend, or one that does not run on the device.
    """
    backend = resolve_backend(backend, device)
    if wants_light(backend, device):
        network = load_light(name, backend=backend, task=RERANK)
        if network is not None:
            return OnnxPairScorer(network, _head(name))
    from llm2comp_apps.encoder.pair_scorer import PairScorer

    return PairScorer.from_pretrained(name, device=device)


def _head(name: str) -> FloatArray:
    path = locate_checkpoint(name) / _HEAD
    try:
        return np.array(open_arrays(path)["weight"], dtype=np.float32)
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(f"{path}: missing or damaged ({error}).") from error
