"""The ``poster`` suite: MTEB's own tasks through the ``mteb`` package, and our encoders as ``mteb`` encoders.

    import mteb
    from llm2comp_apps.evaluation.mteb_bridge import MtebEncoder

    mteb.evaluate(MtebEncoder(encoder), mteb.get_tasks(tasks=["SciFact"]))

Needs the extra ``eval`` and, for tasks that are not in the local cache yet, the Hugging Face hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from llm2comp_apps.encoder.protocol import FloatArray, TextEncoder
from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.prompts import InstructionMode, resolve_prompts
from llm2comp_apps.evaluation.results import CATEGORIES, TaskScores
from llm2comp_apps.evaluation.tasks import Embed, Task
from llm2comp_apps.evaluation.tasks.base import Role

__all__ = ["POSTER", "MtebEncoder", "MtebTask", "poster_tasks"]

POSTER = (
    "NFCorpus",
    "SciFact",
    "SciDocsRR",
    "StackOverflowDupQuestions",
    "BiorxivClusteringS2S",
    "MedrxivClusteringS2S",
    "TwentyNewsgroupsClustering",
    "SprintDuplicateQuestions",
    "Banking77Classification",
    "EmotionClassification",
    "MassiveIntentClassification",
    "SICK-R",
    "STS17",
    "STSBenchmark",
)
"""Fourteen English tasks in six categories: LLM2Vec's MTEB subset (arXiv 2404.05961) without ArguAna."""

_EncodeTask = Callable[[Sequence[str], Role, str, str], FloatArray]


class _MtebModel:
    """``mteb``'s encoder protocol around a function of (texts, role, task name, task type)."""

    def __init__(self, name: str, fingerprint: str, encode: _EncodeTask) -> None:
        self._encode = encode
        self._name = name
        self._fingerprint = fingerprint

    @property
    def mteb_model_meta(self) -> Any:
        """What ``mteb`` files results under."""
        from mteb.models import ModelMeta

        # mteb wants ORGANISATION/MODEL names.
        name = self._name if self._name.count("/") == 1 else f"llm2comp/{self._name.replace('/', '_')}"
        return ModelMeta.create_empty({"name": name, "revision": self._fingerprint[:40]})

    def encode(self, inputs: Any, *, task_metadata: Any, prompt_type: Any = None, **_: Any) -> FloatArray:
        """Embed a loader of ``{"text": [...]}`` batches; ``mteb``'s document side gets no instruction."""
        texts = [text for batch in inputs for text in batch["text"]]
        role: Role = "document" if getattr(prompt_type, "value", prompt_type) in ("document", "passage") else "query"
        return self._encode(texts, role, task_metadata.name, task_metadata.type)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> FloatArray:
        """Cosine of every row of one with every row of the other: ``(n, m)``."""
        cosine: FloatArray = _unit(embeddings1) @ _unit(embeddings2).T
        return cosine

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> FloatArray:
        """Cosine of row i with row i: ``(n,)``."""
        cosine: FloatArray = np.einsum("nd,nd->n", _unit(embeddings1), _unit(embeddings2))
        return cosine


class MtebEncoder(_MtebModel):
    """A :class:`TextEncoder` as an ``mteb`` encoder, with our rules for prompts.

    Args:
        encoder: any of ours.
        instructions: see :func:`~llm2comp_apps.evaluation.prompts.resolve_prompts`.
        prompt_overrides: prompts by task name or type.
    """

    def __init__(
        self,
        encoder: TextEncoder,
        *,
        instructions: InstructionMode = "auto",
        prompt_overrides: Mapping[str, str] | None = None,
    ) -> None:
        def encode(texts: Sequence[str], role: Role, task: str, category: str) -> FloatArray:
            prompts = resolve_prompts(task, category, encoder.prompts, instructions, prompt_overrides)
            return encoder.encode(texts, prompt=prompts.query if role == "query" else prompts.document)

        super().__init__(encoder.name, encoder.fingerprint, encode)


@dataclass(frozen=True)
class MtebTask(Task[Any]):
    """One of ``mteb``'s tasks, scored by ``mteb`` itself; ``load`` gives the ``mteb`` task object."""

    # Instance fields where the other tasks have class variables: every mteb task brings its own.
    category: str = ""  # type: ignore[misc]
    main_metric: str = ""  # type: ignore[misc]

    def evaluate(self, embed: Embed) -> TaskScores:
        """Run ``mteb``'s evaluation on the test split, averaged over the English subsets."""
        task = self.load()
        load_data(task)
        model = _MtebModel(self.name, "", lambda texts, role, _task, _category: embed(texts, role))
        split = "test" if "test" in task.metadata.eval_splits else task.metadata.eval_splits[0]
        subsets = list(task.evaluate(model, split=split, encode_kwargs={"batch_size": 1024}).values())
        numeric = [key for key, value in subsets[0].items() if isinstance(value, (int, float)) and key != "main_score"]
        scores = {key: float(np.mean([subset[key] for subset in subsets])) for key in numeric}
        scores[self.main_metric] = float(np.mean([subset["main_score"] for subset in subsets]))
        return TaskScores(scores, counts={"subsets": len(subsets)})


def poster_tasks(names: Sequence[str] = (), *, check: bool = True) -> list[Task[Any]]:
    """The poster's tasks.

    Args:
        names: only these; any other English ``mteb`` task of the same categories too.
        check: fetch the first task's data at once, so that a machine without the hub learns it before a model loads.

    Raises:
        EvaluationError: ``mteb`` is not installed, there is no such task, or the hub cannot be reached.
    """
    mteb = _import_mteb()
    tasks: list[Task[Any]] = []
    for name in names or POSTER:
        try:
            task = mteb.get_task(name, languages=["eng"], exclusive_language_filter=True)
        except (KeyError, ValueError) as error:
            raise EvaluationError(f"mteb has no English task {name!r}; the poster's are {', '.join(POSTER)}") from error
        if task.metadata.type not in CATEGORIES:
            raise EvaluationError(f"{name}: a task of type {task.metadata.type}; there are {', '.join(CATEGORIES)}")
        if check and not tasks:
            load_data(task)
        tasks.append(wrap_task(task))
    return tasks


def wrap_task(task: Any) -> MtebTask:
    """An ``mteb`` task object as a :class:`Task`."""
    meta = task.metadata
    version = _import_mteb().__version__
    origin = {"mteb": version, "dataset": meta.dataset["path"], "revision": meta.dataset["revision"]}
    return MtebTask(meta.name, lambda: task, origin, category=meta.type, main_metric=meta.main_score)


def load_data(task: Any) -> None:
    """Fetch an ``mteb`` task's data, or say in one line why not.

    Raises:
        EvaluationError: neither in the local cache nor on a hub that can be reached.
    """
    if task.data_loaded:
        return
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.ERROR)  # its retries would print a dozen lines before ours
    try:
        task.load_data()
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise EvaluationError(
            f"{task.metadata.name}: its data are not in the local cache and the Hugging Face hub does not give them "
            f"({reason}); `suite=offline` needs no hub"
        ) from error
    finally:
        hub.setLevel(level)


def _import_mteb() -> Any:
    try:
        import mteb
    except ImportError as error:
        raise EvaluationError("the poster suite needs mteb; pip install 'llm2comp-apps[eval]'") from error
    return mteb


def _unit(rows: Any) -> FloatArray:
    matrix = np.asarray(rows, dtype=np.float32)
    norms = np.linalg.norm(matrix, axis=-1, keepdims=True)
    unit: FloatArray = matrix / np.maximum(norms, np.float32(1e-12))
    return unit
