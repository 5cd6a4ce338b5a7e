"""Find the datasets in a folder by their form.

| form | what it is |
|---|---|
| ``D/corpus.jsonl``, ``D/queries.jsonl``, ``D/qrels.tsv`` | retrieval ``D``; ``P_queries``, ``P_qrels``: ``D:P`` |
| ``D/train.jsonl`` and another split, rows ``text, label`` | classification task ``D`` |
| ``D/SPLIT.jsonl``, rows ``sentence1, sentence2, score`` | STS task ``D``, or ``D:SPLIT`` |
| ``D/SPLIT.jsonl``, rows ``sentence1, sentence2, label`` | pair classification task ``D``, or ``D:SPLIT`` |
| ``NAME.jsonl``, rows ``text, label`` | clustering task ``NAME`` |
| ``NAME.jsonl``, rows ``query, positive, negative`` | reranking task ``NAME`` |

Every ``.jsonl`` may be ``.jsonl.gz``. The folders above ``D`` or ``NAME`` do not matter.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation.datasets import (
    read_clustering,
    read_labelled,
    read_pairs,
    read_reranking,
    read_retrieval,
    read_rows,
)
from llm2comp_apps.evaluation.tasks import (
    ClassificationTask,
    ClusteringTask,
    PairClassificationTask,
    RerankingTask,
    RetrievalTask,
    StsTask,
    Task,
)

__all__ = ["discover", "reported"]

SPLITS = ("train", "dev", "valid", "validation", "test", "all_mteb")
REPORTED_SPLITS = ("all_mteb", "test")
"""The splits whose scores are reported, best first: ``all_mteb`` is a set whole, where MTEB uses it so."""

SAMPLES_PER_LABEL = {"emotion": 16, "amazon_counterfactual_en": 32}
"""MTEB's departures from 8 training examples per label."""


@dataclass(slots=True)
class _Folder:
    """The dataset files of one folder: row files and judgements by stem."""

    path: Path
    rows: dict[str, Path] = field(default_factory=dict)
    judgements: dict[str, Path] = field(default_factory=dict)


def discover(root: Path) -> dict[str, Task[Any]]:
    """All tasks under ``root`` by name, splits other than the reported one as ``NAME:SPLIT``.

    Raises:
        EvaluationError: ``root`` is no folder, nothing in it has a known form, or two datasets share a name.
    """
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder; give the folder of evaluation data with --data")
    folders: dict[Path, _Folder] = {}
    for path in sorted(root.rglob("*")):
        folder = folders.setdefault(path.parent, _Folder(path.parent))
        if path.suffix == ".tsv" and path.stem.endswith("qrels"):
            folder.judgements[path.stem] = path
        elif stem := _row_stem(path.name):
            folder.rows[stem] = path
    tasks: dict[str, Task[Any]] = {}
    for folder in folders.values():
        for task in _tasks_of(folder, root):
            if task.name in tasks:
                where = f"{tasks[task.name].origin['data']} and {task.origin['data']}"
                raise EvaluationError(f"{root}: two datasets are named {task.name!r} ({where}); rename one")
            tasks[task.name] = task
    if not tasks:
        raise EvaluationError(
            f"{root}: no dataset of a known form; see llm2comp_apps/evaluation/README.md for the forms"
        )
    return tasks


def reported(tasks: Iterable[Task[Any]]) -> list[Task[Any]]:
    """The tasks whose split is the reported one: no ``NAME:SPLIT``, no file named ``..._train`` or ``..._dev``."""
    hidden = tuple(f"_{split}" for split in SPLITS if split not in REPORTED_SPLITS)
    return [task for task in tasks if ":" not in task.name and not task.name.endswith(hidden)]


def _row_stem(name: str) -> str | None:
    """``train`` for ``train.jsonl`` and ``train.jsonl.gz``; ``None`` for a file that is neither."""
    for suffix in (".jsonl.gz", ".jsonl"):
        if name.endswith(suffix):
            return name.removesuffix(suffix)
    return None


def _tasks_of(folder: _Folder, root: Path) -> Iterable[Task[Any]]:
    if "corpus" in folder.rows:
        return _retrieval_tasks(folder, root)
    splits = [stem for stem in folder.rows if stem in SPLITS]
    if splits and len(splits) == len(folder.rows):
        return _split_tasks(folder, splits, root)
    return [_single_task(stem, path, root) for stem, path in folder.rows.items()]


def _retrieval_tasks(folder: _Folder, root: Path) -> list[Task[Any]]:
    tasks: list[Task[Any]] = []
    for stem, queries in folder.rows.items():
        qrels = folder.judgements.get(stem.removesuffix("queries") + "qrels")
        if not stem.endswith("queries") or qrels is None:
            continue
        split = stem.removesuffix("queries").rstrip("_")
        name = f"{folder.path.name}:{split}" if split else folder.path.name
        load = partial(read_retrieval, folder.rows["corpus"], queries, qrels)
        tasks.append(RetrievalTask(name, load, _origin(folder.path, root, split or "test")))
    if not tasks:
        raise EvaluationError(f"{folder.path}: a corpus without queries.jsonl and qrels.tsv is no retrieval task")
    return tasks


def _split_tasks(folder: _Folder, splits: list[str], root: Path) -> Iterable[Task[Any]]:
    main = next((split for split in REPORTED_SPLITS if split in splits), None)
    for split in splits:
        path = folder.rows[split]
        name = folder.path.name if split == main else f"{folder.path.name}:{split}"
        origin = _origin(folder.path, root, split)
        fields = _fields(path)
        if {"sentence1", "sentence2", "score"} <= fields:
            yield StsTask(name, partial(read_pairs, path, "score"), origin)
        elif {"sentence1", "sentence2", "label"} <= fields:
            yield PairClassificationTask(name, partial(read_pairs, path, "label"), origin)
        elif {"text", "label"} <= fields and "train" in splits:
            if split != "train":
                load = partial(read_labelled, folder.rows["train"], path)
                per_label = SAMPLES_PER_LABEL.get(folder.path.name, 8)
                yield ClassificationTask(name, load, origin, samples_per_label=per_label)
        else:
            raise _unknown_form(path, fields)


def _single_task(name: str, path: Path, root: Path) -> Task[Any]:
    fields = _fields(path)
    origin = _origin(path, root, "test")
    if {"text", "label"} <= fields:
        return ClusteringTask(name, partial(read_clustering, path), origin)
    if {"query", "positive", "negative"} <= fields:
        return RerankingTask(name, partial(read_reranking, path), origin)
    raise _unknown_form(path, fields)


def _fields(path: Path) -> set[str]:
    for row in read_rows(path):
        return set(row.fields)
    raise EvaluationError(f"{path}: no rows; an evaluation set needs at least one")


def _unknown_form(path: Path, fields: set[str]) -> EvaluationError:
    return EvaluationError(
        f"{path}: fields {sorted(fields)} fit no task; expected (sentence1, sentence2, score | label), "
        "(text, label) or (query, positive, negative)"
    )


def _origin(path: Path, root: Path, split: str) -> dict[str, Any]:
    return {"data": path.relative_to(root).as_posix(), "split": split}
