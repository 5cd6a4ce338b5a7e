"""``align``; see :mod:`llm2comp_train.losses.align`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from llm2comp_apps.errors import UsageError
from llm2comp_train.stages._stage import Bench, Stage

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from llm2comp_apps.encoder.packing import PackedTexts
    from llm2comp_apps.encoder.protocol import TextEncoder
    from llm2comp_train.data.alignment import Alignment
    from llm2comp_train.data.batches import LengthBatches
    from llm2comp_train.data.sources import DataFile, Row
    from llm2comp_train.engine.work import Outcome, Work
    from llm2comp_train.settings import Settings

__all__ = ["STAGE"]

_LATE = 256
"""Most texts of a batch that are compared by late interaction."""
_CHARACTERS = 6
"""More than a token has as a mean over a text."""


class _Align(Stage):
    name = "align"
    about = "learn the embeddings of other encoders, so that a small encoder does what a large one does"
    family = "aligning"
    rows = "any"
    embeds = True

    def check(self, settings: Settings) -> None:
        if not settings.teachers:
            raise UsageError("is missing: stage align needs an encoder to learn from", field="teacher")
        for name, weight in settings.teachers:
            if not math.isfinite(weight):
                raise UsageError(f"must have finite weights, not {weight:g} for {name}", field="teacher")
            if weight <= 0:
                raise UsageError(f"must have weights above 0, not {weight:g} for {name}", field="teacher")
        if settings.joined > _CHARACTERS * settings.max_length:
            most = _CHARACTERS * settings.max_length
            reason = f"must be at most {most}, about what {settings.max_length} tokens hold, not {settings.joined}"
            raise UsageError(f"{reason}; raise `max_length`, too", field="joined")

    def read(self, file: DataFile, settings: Settings, prompt: str) -> Iterator[Row]:
        from llm2comp_train.data.sources import single_rows

        pieces, joined = settings.pieces, settings.joined
        return single_rows(file.records(), prompt, settings.min_chars, pieces=pieces, joined=joined)

    def teachers(self, settings: Settings, device: str) -> list[TextEncoder]:
        from llm2comp_train.data.teacher import load_teacher

        return [load_teacher(name, device) for name, _ in settings.teachers]

    def work(self, bench: Bench) -> Work:
        import torch

        from llm2comp_train.data.alignment import describe_teachers, shares_space
        from llm2comp_train.data.batches import LengthBatches
        from llm2comp_train.engine.ahead import Ahead
        from llm2comp_train.engine.contrast import ContrastiveWork
        from llm2comp_train.engine.work import Provenance
        from llm2comp_train.judging.live import mean_cosine
        from llm2comp_train.losses.align import align_loss
        from llm2comp_train.losses.maxsim import max_sim_level

        batches = LengthBatches(bench.store, bench.settings, bench.network.extra_tokens)
        alignment = _alignment(bench, batches)
        if bench.settings.topics:
            batches.by_topic(_topics(bench, batches, alignment))
        device = bench.network.memory_tokens.device
        loss_from = partial(
            align_loss,
            cosine_weight=bench.settings.cosine_weight,
            contrast_weight=bench.settings.contrast_weight,
            temperature=bench.settings.temperature,
        )
        teachers = describe_teachers(bench.teachers, alignment.weights)
        home = bench.teachers[0] if shares_space(bench.teachers, bench.network.memory_tokens.shape[1]) else None

        class Aligning(ContrastiveWork):
            """Texts of similar length, each with the vectors that its teachers gave it."""

            def __init__(self, bench: Bench) -> None:
                super().__init__(bench)
                self._ahead = Ahead(self._prepared)

            def _prepared(self, step: int) -> tuple[list[int], list[int], Tensor, PackedTexts | None]:
                rows = batches.batch(step)
                texts = [bench.store.texts(row)[0] for row in rows]
                known = alignment.teacher(rows)
                return rows, texts, known.pin_memory() if device.type == "cuda" else known, self.packed(texts)

            def backward(self, step: int) -> Outcome:
                rows, texts, known, ready = self._ahead(step)
                targets = alignment.mapped(known.to(device, non_blocking=True))

                def loss_of(vectors: Tensor) -> Tensor:
                    return loss_from(vectors, targets)

                # Late interaction takes k times k cosines a pair of texts: a sample of the batch will do.
                few = torch.arange(0, len(rows), -(-len(rows) // _LATE), device=device)

                def late(memory: Tensor) -> Tensor:
                    return max_sim_level(memory[few], targets[few])

                return self.learn(texts, loss_of, rows, late=late, ready=ready)

            def figures(self) -> dict[str, float]:
                rows = batches.held_out()
                vectors = embed_rows(bench, rows)
                targets = alignment.targets(rows, vectors.device)
                near = torch.nn.functional.cosine_similarity(vectors, targets).mean()
                loss = loss_from(vectors, targets)
                return {
                    "validation_loss": float(loss),
                    "teacher_cosine": float(near),
                    "cosine": mean_cosine(vectors),
                }

            def provenance(self) -> Provenance:
                return Provenance(
                    training={"alignment": {"teachers": teachers}},
                    space=None if home is None else {"name": home.name, "fingerprint": home.fingerprint},
                    alignment=alignment.map,
                )

        return Aligning(bench)


def _alignment(bench: Bench, batches: LengthBatches) -> Alignment:
    """The teachers' vectors of all texts that the run will see, and the map into the student's space."""
    from llm2comp_train.data import alignment as kept
    from llm2comp_train.data.teacher_vectors import StoreTexts, teacher_vectors

    weights = [weight for _, weight in bench.settings.teachers]
    rows, folder = batches.visited(), bench.folder / "data"
    read = StoreTexts(bench.store, bench.backbone.tokenizer, bench.prompts)
    paths = [folder / f"teacher-{number}.f16" for number in range(len(weights))]

    def vectors() -> list[np.ndarray]:
        return [
            teacher_vectors(path, teacher, rows, len(bench.store), read, bench.say)
            for path, teacher in zip(paths, bench.teachers, strict=True)
        ]

    if bench.processes.main:
        vectors()
    bench.processes.wait()
    found = kept.Alignment(vectors=vectors(), weights=weights, map=None)
    if kept.shares_space(bench.teachers, bench.network.memory_tokens.shape[1]):
        return found
    turned = kept.kept_map(folder, bench.init, kept.describe_teachers(bench.teachers, weights))
    if turned is None:
        chosen = batches.sample(bench.settings.fit_texts)
        turned = kept.fit_map(found.teacher(chosen), embed_rows(bench, chosen).cpu())
    if bench.processes.main:
        kept.write_map(folder / kept.ALIGNMENT, turned)
    return kept.Alignment(vectors=found.vectors, weights=weights, map=turned)


def _topics(bench: Bench, batches: LengthBatches, alignment: Alignment) -> npt.NDArray[np.int32]:
    """Groups of alike texts, found by the main process."""
    from llm2comp_train.data.topics import topics_of

    path, settings = bench.folder / "data" / "topics.npy", bench.settings

    def found() -> npt.NDArray[np.int32]:
        rows, count = batches.visited(), len(bench.store)
        return topics_of(path, rows, count, settings.topics, settings.seed, alignment.teacher)

    if bench.processes.main:
        found()
    bench.processes.wait()
    return found()


def embed_rows(bench: Bench, rows: list[int]) -> Tensor:
    """Unit embeddings ``(n, d)`` of rows as the student stands."""
    import torch

    was_training = bench.network.training
    bench.network.eval()
    out = bench.live.embed_ids([bench.store.ids(bench.store.texts(row)[0]) for row in rows])
    bench.network.train(was_training)
    return torch.nn.functional.normalize(out, dim=-1)


STAGE = _Align()
