"""Find the datasets in a folder by their form.

| form | what it is |
|---|---|
| ``D/corpus.jsonl``, ``D/queries.jsonl``, ``D/qrels.tsv`` | retrieval ``D``; ``P_queries``, ``P_qrels``: ``D:P`` |
| ``D/corpus.jsonl``, ``D/queries.jsonl``, ``D/qrels/SPLIT.tsv`` | the same as BEIR has it: ``D``, or ``D:SPLIT`` |
| ``D/train.jsonl`` and another split, rows ``text, label`` | classification task ``D`` |
| ``D/SPLIT.jsonl``, rows ``sentence1, sentence2, score`` | STS task ``D``, or ``D:SPLIT`` |
| ``D/SPLIT.jsonl``, rows ``sentence1, sentence2, label`` | pair classification task ``D``, or ``D:SPLIT`` |
| ``NAME.jsonl``, rows ``text, label`` | clustering task ``NAME`` |
| ``NAME.jsonl``, rows ``query, positive, negative`` | reranking task ``NAME`` |

Every ``.jsonl`` may be ``.jsonl.gz``. The folders above ``D`` or ``NAME`` do not matter. A file that fits none of these
is passed over with a warning.
"""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import EvaluationError, LLM2CompError
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

_BEIR = "qrels/"

SAMPLES_PER_LABEL = {"emotion": 16, "amazon_counterfactual_en": 32}
"""MTEB's departures from 8 training examples per label."""

_IGNORING_IDENTICAL_IDS = ("arguana", "feedbackqa", "fever", "fiqa", "mlquestions", "msmarco", "quora", "trecdl")
"""How the names of the retrieval tasks begin in which MTEB takes a document with a query's id for the query itself."""


@dataclass(slots=True)
class _Folder:
    """The dataset files of one folder: row files and judgements by stem (BEIR's own as ``qrels/SPLIT``)."""

    path: Path
    rows: dict[str, Path] = field(default_factory=dict)
    judgements: dict[str, Path] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the dataset that lies in it; "." has one, too."""
        return Path(os.path.abspath(self.path)).name  # noqa: PTH100 - a link has its own name


@dataclass(frozen=True, slots=True)
class _Unfit:
    """What is no dataset: the name it would have as a task, and why it is none."""

    name: str
    reason: LLM2CompError


def discover(root: Path, wanted: Sequence[str] = ()) -> dict[str, Task[Any]]:
    """All tasks under ``root`` by name, splits other than the reported one as ``NAME:SPLIT``.

    Args:
        root: the folder of evaluation data.
        wanted: names that are asked for; a file of such a name must be a dataset.

    Raises:
        EvaluationError: ``root`` is no folder, nothing in it has a known form, or two datasets share a name.
        LLM2CompError: a file that is ``wanted``, or the only thing there is, is no dataset.
    """
    if not root.is_dir():
        raise EvaluationError(f"{root}: no such folder; `data` is the folder of the evaluation data")
    tasks: dict[str, Task[Any]] = {}
    unfit: list[_Unfit] = []
    for folder in _folders(root).values():
        for found in _tasks_of(folder, root):
            if isinstance(found, _Unfit):
                unfit.append(found)
            elif found.name in tasks:
                where = f"{tasks[found.name].origin['data']} and {found.origin['data']}"
                raise EvaluationError(f"{root}: two datasets are named {found.name!r} ({where}); rename one")
            else:
                tasks[found.name] = found
    for item in unfit:
        if item.name in wanted or not tasks:
            raise item.reason
        warnings.warn(f"passed over {item.reason}", stacklevel=2)
    if not tasks:
        raise EvaluationError(
            f"{root}: no dataset of a known form; see llm2comp_apps/evaluation/README.md for the forms"
        )
    return tasks


def _folders(root: Path) -> dict[Path, _Folder]:
    folders: dict[Path, _Folder] = {}
    for path in sorted(_files(root)):
        beir = path.parent.name == "qrels" and path.suffix == ".tsv"
        place = path.parent.parent if beir else path.parent
        folder = folders.setdefault(place, _Folder(place))
        if beir:
            folder.judgements[f"{_BEIR}{path.stem}"] = path
        elif path.suffix == ".tsv" and path.stem.endswith("qrels"):
            folder.judgements[path.stem] = path
        elif stem := _row_stem(path.name):
            folder.rows[stem] = path
    return folders


def _files(root: Path) -> Iterator[Path]:
    """The files under a folder and behind its links, each folder once, since a link may lead back up.

    Linked folders come last: a link to what lies there anyway gives it no second name.
    """
    visited = set()
    waiting = deque([root])
    while waiting:
        for name, subfolders, names in os.walk(waiting.popleft()):
            folder = Path(name)
            found = folder.stat()
            if (found.st_dev, found.st_ino) in visited:
                subfolders.clear()
                continue
            visited.add((found.st_dev, found.st_ino))
            waiting.extend(path for each in sorted(subfolders) if (path := folder / each).is_symlink())
            yield from (folder / each for each in names)


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


def _tasks_of(folder: _Folder, root: Path) -> Iterator[Task[Any] | _Unfit]:
    if "corpus" in folder.rows:
        yield from _retrieval_tasks(folder, root)
        return
    splits = [stem for stem in folder.rows if stem in SPLITS]
    main = next((split for split in REPORTED_SPLITS if split in splits), None)
    for stem, path in folder.rows.items():
        name = stem
        if stem in splits:
            name = folder.name if stem == main else f"{folder.name}:{stem}"
        try:
            task = _split_task(name, stem, folder, root) if stem in splits else _single_task(stem, path, root)
        except LLM2CompError as error:
            yield _Unfit(name, error)
            continue
        if task is not None:
            yield task


def _retrieval_tasks(folder: _Folder, root: Path) -> Iterator[Task[Any] | _Unfit]:
    pairs = _judged_queries(folder)
    for split, (queries, qrels) in pairs.items():
        name = f"{folder.name}:{split}" if split else folder.name
        files = (folder.rows["corpus"], queries, qrels)
        plain = "".join(filter(str.isalnum, folder.name.lower()))
        read = partial(read_retrieval, *files, ignore_identical_ids=plain.startswith(_IGNORING_IDENTICAL_IDS))
        yield RetrievalTask(name, read, _origin(folder.path, root, split or "test"), files)
    if not pairs:
        reason = f"{folder.path}: a corpus without queries.jsonl and qrels.tsv (or qrels/test.tsv) is no retrieval task"
        yield _Unfit(folder.name, EvaluationError(reason))


def _judged_queries(folder: _Folder) -> dict[str, tuple[Path, Path]]:
    """Queries and judgements by split, the reported one as ``""``; our form wins over BEIR's own."""
    found: dict[str, tuple[Path, Path]] = {}
    for stem, path in folder.judgements.items():
        split = stem.removeprefix(_BEIR)
        if stem.startswith(_BEIR) and "queries" in folder.rows:
            found["" if split == "test" else split] = (folder.rows["queries"], path)
    for stem, path in folder.rows.items():
        qrels = folder.judgements.get(stem.removesuffix("queries") + "qrels")
        if stem.endswith("queries") and qrels is not None:
            found[stem.removesuffix("queries").rstrip("_")] = (path, qrels)
    return found


def _split_task(name: str, split: str, folder: _Folder, root: Path) -> Task[Any] | None:
    """The task of ``SPLIT.jsonl``; ``None`` for the training texts of a classification task."""
    path, origin = folder.rows[split], _origin(folder.path, root, split)
    fields = _fields(path)
    if {"sentence1", "sentence2", "score"} <= fields:
        return StsTask(name, partial(read_pairs, path, "score"), origin, (path,))
    if {"sentence1", "sentence2", "label"} <= fields:
        return PairClassificationTask(name, partial(read_pairs, path, "label"), origin, (path,))
    if not {"text", "label"} <= fields:
        raise _unknown_form(path, fields)
    if split == "train":
        return None
    if "train" not in folder.rows:
        raise EvaluationError(
            f"{path}: rows of text and label, but no train.jsonl beside it to train a classifier on (for a clustering "
            "task, give the file a name that is no split's)"
        )
    files = (folder.rows["train"], path)
    samples = SAMPLES_PER_LABEL.get(folder.name, 8)
    return ClassificationTask(name, partial(read_labelled, *files), origin, files, samples_per_label=samples)


def _single_task(name: str, path: Path, root: Path) -> Task[Any]:
    fields = _fields(path)
    origin = _origin(path, root, "test")
    if {"text", "label"} <= fields:
        return ClusteringTask(name, partial(read_clustering, path), origin, (path,))
    if {"query", "positive", "negative"} <= fields:
        return RerankingTask(name, partial(read_reranking, path), origin, (path,))
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
