"""Stages that learn from memory vectors alone what the frozen LM needs to know of a text."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from llm2comp_train.stages._stage import Bench, Stage

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

    from llm2comp_train.data.sources import DataFile, Row
    from llm2comp_train.engine.text_work import CompressionWork
    from llm2comp_train.settings import Settings

__all__ = ["AdaptingStage", "CompressionStage", "last_id"]


class AdaptingStage(Stage):
    """A stage that adapts an LLM by plain texts."""

    family = "adapting"
    rows = "text"

    def read(self, file: DataFile, settings: Settings, prompt: str) -> Iterator[Row]:  # noqa: ARG002 - no queries
        """Texts of at least ``min_chars`` characters."""
        from llm2comp_train.data.sources import text_rows

        return text_rows(file.records(), settings.min_chars)

    def ends(self, bench: Bench) -> list[int]:
        """Token ids that end a sentence; empty where texts are not cropped."""
        from llm2comp_train.data.batches import sentence_ends

        tokenizer = bench.backbone.tokenizer
        vocabulary = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
        return sentence_ends(vocabulary) if bench.settings.crop else []

    def lead(self, bench: Bench) -> int:
        """How many special tokens stand in front of every text."""
        special: Any = bench.backbone.tokenizer("x", return_special_tokens_mask=True)["special_tokens_mask"]
        return special.index(0) if 0 in special else 0


class CompressionStage(AdaptingStage):
    """``rc``, ``nll``, ``kl``, and ``ebar``, which differ in the loss.

    Attributes:
        reconstruct: the target is the context itself, not what follows it.
    """

    readout = "memory"
    reconstruct: ClassVar[bool] = False
    decodes = True

    @abstractmethod
    def loss(self) -> Callable[..., Tensor]:
        """``(network, batch, memory, chunk=) -> (B,)``."""

    def work(self, bench: Bench) -> CompressionWork:
        """Split texts, memory of the contexts, the loss of each text."""
        from llm2comp_train.data.batches import CompressionBatches
        from llm2comp_train.engine.text_work import CompressionWork

        bench.network.eval()
        batches = CompressionBatches(
            bench.store, bench.settings, reconstruct=self.reconstruct, ends=self.ends(bench), lead=self.lead(bench)
        )
        if self.decodes:
            _calibrate(bench, [split.context for split in batches.validation()])
        return CompressionWork(bench, batches, self.loss())


def last_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    """The last token id of ``text``."""
    ids: Any = tokenizer(text, add_special_tokens=False)["input_ids"]
    return int(ids[-1])


def _calibrate(bench: Bench, contexts: list[list[int]]) -> None:
    """Start the decoder's input where the decoder is at home, unless an earlier stage has trained it."""
    from llm2comp_apps.encoder.batching import length_batches
    from llm2comp_apps.encoder.network import left_pad

    lengths = [len(context) + bench.network.extra_tokens for context in contexts]
    passes = length_batches(lengths, bench.settings.tokens_per_pass)
    padded = (left_pad([contexts[i] for i in rows], bench.pad_id, bench.processes.device) for rows in passes)
    anchor = None if bench.init else last_id(bench.backbone.tokenizer, "\n")
    with bench.network.autocast():
        bench.network.calibrate(padded, anchor)
