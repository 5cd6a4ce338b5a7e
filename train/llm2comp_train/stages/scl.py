"""``scl``; see :mod:`llm2comp_train.losses.scl`, and :mod:`llm2comp_train.losses.similarity` for its teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from llm2comp_apps.errors import UsageError
from llm2comp_train.stages._stage import Bench, Stage

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from llm2comp_apps.encoder.protocol import TextEncoder
    from llm2comp_train.data.batches import PairBatch
    from llm2comp_train.data.sources import DataFile, Row
    from llm2comp_train.engine.work import Outcome, Work
    from llm2comp_train.settings import Settings

__all__ = ["STAGE"]


class _SCL(Stage):
    name = "scl"
    about = "supervised contrast: a query's own answer against those of the batch and hard negatives"
    family = "contrastive"
    rows = "pairs"
    embeds = True

    def check(self, settings: Settings) -> None:
        super().check(settings)
        if len(settings.teachers) > 1:
            raise UsageError("may name one encoder only in stage scl", field="teacher")
        for name, weight in settings.teachers:
            if weight != 1:
                reason = f"may have no weight in stage scl, not {weight:g} for {name}: weights belong to stage align"
                raise UsageError(f"{reason}; `teacher_weight` is the share of the teacher's loss", field="teacher")

    def read(self, file: DataFile, settings: Settings, prompt: str) -> Iterator[Row]:
        from llm2comp_train.data.sources import pair_rows

        return pair_rows(file.records(), prompt, settings.negatives)

    def teachers(self, settings: Settings, device: str) -> list[TextEncoder]:
        from llm2comp_train.data.teacher import load_teacher

        return [load_teacher(name, device) for name, _ in settings.teachers]

    def work(self, bench: Bench) -> Work:
        from llm2comp_train.data.batches import PairBatches
        from llm2comp_train.data.teacher import Teacher
        from llm2comp_train.engine.contrast import ContrastiveWork
        from llm2comp_train.losses.maxsim import max_sim
        from llm2comp_train.losses.scl import ranking_loss

        batches = PairBatches(bench.store, bench.settings)
        symmetric = [bench.settings.is_symmetric(name) for name in bench.store.names]
        teacher = next(
            (Teacher(it, bench.store, bench.backbone.tokenizer, bench.prompts) for it in bench.teachers), None
        )
        device = bench.network.memory_tokens.device

        class Supervised(ContrastiveWork):
            """Pairs of one file, graded by a teacher, too, if there is one."""

            def backward(self, step: int) -> Outcome:
                batch = batches.batch(step)
                graded = teacher.vectors(batch).to(device) if teacher else None
                loss_of = _loss(bench.settings, batch, graded, device, symmetric=symmetric[batch.file])
                count, same = len(batch.rows), batch.same.to(device)

                def late(memory: Tensor) -> Tensor:
                    scores = max_sim(memory[:count], memory[count:])
                    return ranking_loss(scores / bench.settings.temperature, same=same)

                return self.learn(batch.texts, loss_of, batch.rows, late=late)

        return Supervised(bench)


def _loss(
    settings: Settings, batch: PairBatch, graded: Tensor | None, device: torch.device, *, symmetric: bool
) -> Callable[[Tensor], Tensor]:
    """The loss of a batch's vectors, in the order of ``batch.texts``."""
    from llm2comp_train.losses.scl import scl_loss
    from llm2comp_train.losses.similarity import similarity_loss

    count, same, share = len(batch.rows), batch.same.to(device), settings.teacher_weight

    def loss_of(vectors: Tensor) -> Tensor:
        own = scl_loss(
            vectors[:count], vectors[count:], temperature=settings.temperature, same=same, symmetric=symmetric
        )
        if graded is None:
            return own
        learned = similarity_loss(
            vectors, graded, temperature=settings.temperature, level_weight=settings.teacher_level
        )
        return (1 - share) * own + share * learned

    return loss_of


STAGE = _SCL()
