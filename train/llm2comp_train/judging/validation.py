"""Is the run alive, and is the encoder getting better?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from llm2comp_apps.encoder.base import BatchedEncoder, fingerprint_of
from llm2comp_apps.encoder.network import CompressionNetwork
from llm2comp_apps.encoder.pooling import pool
from llm2comp_apps.errors import LLM2CompError, UsageError
from llm2comp_train.data.batches import Split
from llm2comp_train.engine.steps import Compression, TextWork

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llm2comp_apps.evaluation.tasks import Task
    from llm2comp_train.recipes import Settings

__all__ = ["LiveEncoder", "dev_scores", "load_dev", "mean_cosine", "memory_gain", "validation_loss"]


@torch.no_grad()
def memory_gain(work: Compression, splits: Sequence[Split]) -> dict[str, float]:
    """What the memory is worth: the loss with another text's memory minus the loss with the text's own.

    A falling training loss alone proves nothing: memory vectors that say the same for every text lower it too, as any
    fixed prompt would. Such a run has a gain near zero.

    Args:
        work: of the stage; its network is in ``eval()``.
        splits: held-out texts, two at least.

    Returns:
        ``validation_loss`` and ``gain``, in nats per position.
    """
    own = validation_loss(work, splits)
    before = iter([splits[-1], *splits[:-1]])  # neighbours in the order of lengths, so about as long
    other = 0.0
    for part in work.passes(splits):
        other += float(work.losses(part, memory_of=list(islice(before, len(part))))[0].sum())
    return {**own, "gain": other / len(splits) - own["validation_loss"]}


@torch.no_grad()
def validation_loss(work: TextWork, splits: Sequence[Split]) -> dict[str, float]:
    """Mean loss of held-out texts, as ``validation_loss``; the network is in ``eval()``."""
    total = sum(float(work.losses(part)[0].sum()) for part in work.passes(splits))
    return {"validation_loss": total / len(splits)}


def mean_cosine(embeddings: Tensor) -> float:
    """Mean cosine between different rows of ``(n, d)``; near 1, all texts look alike."""
    unit = torch.nn.functional.normalize(embeddings.float(), dim=-1)
    count = len(unit)
    return float((unit.sum(0).square().sum() - count) / (count * (count - 1)))


class LiveEncoder(BatchedEncoder):
    """The network in training, its adapter not merged, as an encoder that the evaluation understands."""

    def __init__(self, network: CompressionNetwork, tokenizer: PreTrainedTokenizerBase, settings: Settings) -> None:
        self.network = network
        self.tokenizer = tokenizer
        self.prompts = {"query": settings.query_prompt} if settings.query_prompt else {}
        self.max_length = settings.encoder_length
        self.device = str(network.memory_tokens.device)
        self.dimension = network.memory_tokens.shape[1]
        self.name = "training"
        self.fingerprint = fingerprint_of({"live": id(network)})
        self._extra_tokens = network.extra_tokens
        self._of_text = network.readout.of_text

    def embed_ids(self, rows: Sequence[list[int]]) -> Tensor:
        """Embeddings ``(n, d)`` of token rows, in one batch."""
        from llm2comp_apps.encoder.network import left_pad

        with torch.inference_mode():
            return self._forward([], *left_pad(rows, self._pad_id, self.device))

    def _rows(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        return self._tokenise([prompt + text for text in texts], self.max_length)

    def _forward(self, rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:  # noqa: ARG002 - signature
        with self.network.autocast():
            return pool(self.network.memory(ids, mask))


def load_dev(data: Path) -> list[Task[Any]]:
    """The small ``dev`` suite, which holds development and training splits only, read once to see that it can be.

    Raises:
        UsageError: none of it lies in ``data``, or a file of it is broken.
    """
    from llm2comp_apps.evaluation import load_suite

    try:
        tasks = load_suite("dev", data)
        for task in tasks:
            task.load()
    except LLM2CompError as error:
        raise UsageError(f"--eval-data: {error}") from error
    return tasks


def dev_scores(encoder: LiveEncoder, tasks: Sequence[Task[Any]]) -> dict[str, float]:
    """Scores on the tasks of :func:`load_dev`; ``score`` is their mean."""
    from llm2comp_apps.evaluation import evaluate, main_scores

    scores = dict(main_scores(evaluate(encoder, tasks)))
    average = scores.pop("average")
    return {**scores, "score": average}
