"""``ucl``; see :mod:`llm2comp_train.losses.ucl`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from llm2comp_train.stages._stage import Bench, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from llm2comp_train.data.sources import DataFile, Row
    from llm2comp_train.engine.work import Outcome, Work
    from llm2comp_train.settings import Settings

__all__ = ["STAGE"]


class _UCL(Stage):
    name = "ucl"
    about = "unsupervised contrast: two dropout passes of one sentence are each other's positives"
    family = "contrastive"
    rows = "sentences"
    embeds = True

    def read(self, file: DataFile, settings: Settings, prompt: str) -> Iterator[Row]:  # noqa: ARG002 - no queries
        from llm2comp_train.data.sources import sentence_rows

        return sentence_rows(file.records())

    def work(self, bench: Bench) -> Work:
        from llm2comp_train.data.batches import SentenceBatches
        from llm2comp_train.engine.contrast import ContrastiveWork
        from llm2comp_train.losses.ucl import ucl_loss

        batches, temperature = SentenceBatches(bench.store, bench.settings), bench.settings.temperature

        class Unsupervised(ContrastiveWork):
            """Every sentence goes through twice, with different dropout."""

            def backward(self, step: int) -> Outcome:
                rows = batches.batch(step)
                texts = [bench.store.texts(row)[0] for row in rows]

                def loss_of(vectors: Tensor) -> Tensor:
                    return ucl_loss(*vectors.split(len(rows)), temperature=temperature)

                return self.learn([*texts, *texts], loss_of, rows)

        return Unsupervised(bench)


STAGE = _UCL()
