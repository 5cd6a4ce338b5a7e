"""The work of ``align``: batches of like lengths beside the vectors that teachers gave them, in the student's space."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llm2comp_train.data import alignment as kept
from llm2comp_train.data.alignment import Alignment, describe_teachers, shares_space
from llm2comp_train.data.batches import LengthBatches
from llm2comp_train.data.teacher_vectors import StoreTexts, teacher_vectors
from llm2comp_train.engine.ahead import Ahead
from llm2comp_train.engine.contrast import ContrastiveWork
from llm2comp_train.engine.work import Outcome, Provenance
from llm2comp_train.judging.live import mean_cosine
from llm2comp_train.losses.align import align_loss
from llm2comp_train.losses.maxsim import max_sim_level

if TYPE_CHECKING:
    from llm2comp_apps.encoder.packing import PackedTexts
    from llm2comp_train.stages import Bench

__all__ = ["AligningWork"]

_LATE = 256
"""Most texts of a batch that are compared by late interaction."""


class AligningWork(ContrastiveWork):
    """Texts of similar length, each with the vectors that its teachers gave it."""

    def __init__(self, bench: Bench) -> None:
        """Let the teachers read all texts of the run, and find where their vectors lie in the student's space.

        Raises:
            UsageError: texts are to be packed, and the network does not read them so.
            TrainingError: too few texts.
        """
        super().__init__(bench)  # refuses before teachers read for hours
        self._bench = bench
        self._device = bench.network.memory_tokens.device
        self._batches = LengthBatches(bench.store, bench.settings, bench.network.extra_tokens)
        self._alignment = _alignment(bench, self._batches)
        if bench.settings.topics:
            self._batches.by_topic(_topics(bench, self._batches, self._alignment))
        self._ahead = Ahead(self._prepared)

    def _prepared(self, step: int) -> tuple[list[int], list[int], Tensor, PackedTexts | None]:
        """Rows of a step, their texts, the teachers' vectors ``(n, t)``, and the texts packed, if they may be."""
        rows = self._batches.batch(step)
        texts = [self._store.texts(row)[0] for row in rows]
        known = self._alignment.teacher(rows)
        return rows, texts, known.pin_memory() if self._device.type == "cuda" else known, self.packed(texts)

    def backward(self, step: int) -> Outcome:
        """See :meth:`.work.Work.backward`."""
        rows, texts, known, ready = self._ahead(step)
        targets = self._alignment.mapped(known.to(self._device, non_blocking=True))
        # Late interaction takes k times k cosines a pair of texts: a sample of the batch will do.
        few = torch.arange(0, len(rows), -(-len(rows) // _LATE), device=self._device)

        def loss_of(vectors: Tensor) -> Tensor:
            return self._loss(vectors, targets)

        def late(memory: Tensor) -> Tensor:
            return max_sim_level(memory[few], targets[few])

        return self.learn(texts, loss_of, rows, late=late, ready=ready)

    def _loss(self, vectors: Tensor, targets: Tensor) -> Tensor:
        """Of embeddings ``(n, d)`` and where they are to lie ``(n, d)``."""
        return align_loss(
            vectors,
            targets,
            cosine_weight=self._settings.cosine_weight,
            contrast_weight=self._settings.contrast_weight,
            temperature=self._settings.temperature,
        )

    def figures(self) -> dict[str, float]:
        """The loss of held-out texts, how near they are to the teachers, and how alike they are to one another."""
        rows = self._batches.held_out()
        vectors = _embedded(self._bench, rows)
        targets = self._alignment.targets(rows, vectors.device)
        return {
            "validation_loss": float(self._loss(vectors, targets)),
            "teacher_cosine": float(torch.nn.functional.cosine_similarity(vectors, targets).mean()),
            "cosine": mean_cosine(vectors),
        }

    def provenance(self) -> Provenance:
        """The teachers, the map from their space, and whose space the student's is, if it is one teacher's own."""
        teachers = self._bench.teachers
        home = teachers[0] if _at_home(self._bench) else None
        return Provenance(
            training={"alignment": {"teachers": describe_teachers(teachers, self._alignment.weights)}},
            space=None if home is None else {"name": home.name, "fingerprint": home.fingerprint},
            alignment=self._alignment.map,
        )


def _at_home(bench: Bench) -> bool:
    """Whether the student learns to stand in the only teacher's own space, without a map."""
    return shares_space(bench.teachers, bench.network.memory_tokens.shape[1])


def _alignment(bench: Bench, batches: LengthBatches) -> Alignment:
    """The teachers' vectors of all texts that the run will see, and the map into the student's space."""
    weights = [weight for _, weight in bench.settings.teachers]
    rows, folder = batches.visited(), bench.folder / "data"
    read = StoreTexts(bench.store, bench.backbone.tokenizer, bench.prompts)

    def read_by_teachers() -> list[npt.NDArray[np.float16]]:
        return [
            teacher_vectors(folder / f"teacher-{number}.f16", teacher, rows, len(bench.store), read, bench.say)
            for number, teacher in enumerate(bench.teachers)
        ]

    vectors = bench.processes.main_first(read_by_teachers)
    found = Alignment(vectors=vectors, weights=weights, map=None)
    if _at_home(bench):
        return found
    turned = kept.kept_map(folder, bench.init, describe_teachers(bench.teachers, weights))
    if turned is None:
        chosen = batches.sample(bench.settings.fit_texts)
        turned = kept.fit_map(found.teacher(chosen), _embedded(bench, chosen).cpu())
    if bench.processes.main:
        kept.write_map(folder / kept.ALIGNMENT, turned)
    return Alignment(vectors=vectors, weights=weights, map=turned)


def _topics(bench: Bench, batches: LengthBatches, alignment: Alignment) -> npt.NDArray[np.int32]:
    """Groups of alike texts, ``(rows,)``, found by the main process."""
    from llm2comp_train.data.topics import topics_of

    path, settings = bench.folder / "data" / "topics.npy", bench.settings
    rows, count = batches.visited(), len(bench.store)
    return bench.processes.main_first(
        lambda: topics_of(path, rows, count, settings.topics, settings.seed, alignment.teacher)
    )


def _embedded(bench: Bench, rows: list[int]) -> Tensor:
    """Unit embeddings ``(n, d)`` of rows as the student stands."""
    was_training = bench.network.training
    bench.network.eval()
    out = bench.live.embed_ids([bench.store.ids(bench.store.texts(row)[0]) for row in rows])
    bench.network.train(was_training)
    return torch.nn.functional.normalize(out, dim=-1)
