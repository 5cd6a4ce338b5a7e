"""Many encoders on many tasks, one kept result per cell, so that a table can be interrupted and continued.

    OUT/results/LABEL/TASK.json     one TaskResult each
    OUT/embeddings/FINGERPRINT.sqlite

A kept cell is used again when encoder fingerprint, task settings, prompts and the scoring version are still the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, get_args

from llm2comp_apps.encoder import parse_name
from llm2comp_apps.encoder.cache import files_sha256
from llm2comp_apps.encoder.protocol import FloatArray, MakesMemory, ReadsTokens, TextEncoder
from llm2comp_apps.errors import EncoderError, EvaluationError, LLM2CompError, UsageError
from llm2comp_apps.evaluation.adapters import RANKERS
from llm2comp_apps.evaluation.cache import (
    CachedEncoder,
    CachedMemoryEncoder,
    CachedTokenEncoder,
    embedding_cache,
    memory_cache,
)
from llm2comp_apps.evaluation.prompts import InstructionMode, Prompts, resolve_prompts
from llm2comp_apps.evaluation.results import TaskResult
from llm2comp_apps.evaluation.runner import applicable, evaluate_task
from llm2comp_apps.evaluation.tasks import Ranker, Search, Task
from llm2comp_apps.files import write_text

__all__ = ["SCORING_VERSION", "System", "Table", "TableOptions", "file_name", "fill_table", "parse_systems"]

SCORING_VERSION = 2
"""Raised when a task's scoring changes, so that kept cells of the old scoring are computed again."""

OVER_PAIRS = ("STS", "PairClassification")
"""Categories whose main metric is computed from all pairs at once, so that its cells keep them."""

_LONGEST_NAME = 160
"""Bytes of a label or task in a file's name. File systems end at 255, and what is being written has a longer name."""

Loader = Callable[[str], "TextEncoder | Ranker"]


@dataclass(frozen=True, slots=True)
class System:
    """A row of the table: a label for people and what to load."""

    label: str
    spec: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TableOptions:
    """How a table is filled.

    Attributes:
        instructions: see :func:`~llm2comp_apps.evaluation.prompts.resolve_prompts`.
        prompt_overrides: prompts by task or category.
        keep_embeddings: write the embedding cache.
        show_progress: progress bars while encoding.
        known: gives vectors that are there already, by the fingerprint of their encoder: prompts, texts and vectors
            (such as :func:`llm2comp_apps.retrieval.known_vectors.known_vectors`).
    """

    instructions: InstructionMode = "auto"
    prompt_overrides: Mapping[str, str] = field(default_factory=dict)
    keep_embeddings: bool = True
    show_progress: bool = False
    known: Callable[[str], Iterable[tuple[str, Sequence[str], FloatArray]]] | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: names the setting.
        """
        if self.known is not None and not self.keep_embeddings:
            raise UsageError("are put beside the other embeddings, and so need `keep_embeddings`", field="vectors")
        modes = get_args(InstructionMode)
        if self.instructions not in modes:
            raise UsageError(f"must be one of {', '.join(modes)}, not {self.instructions!r}", field="instructions")


@dataclass(slots=True)
class Table:
    """What came of it.

    Attributes:
        systems: the rows that could be loaded, in the order asked for.
        tasks: the columns.
        cells: results by label and task; a system that cannot do a task, or failed at it, has no cell.
        failures: ``LABEL: reason`` for each row that could not be loaded, ``LABEL, TASK: reason`` for each failed cell.
    """

    systems: list[System] = field(default_factory=list)
    tasks: list[Task[Any]] = field(default_factory=list)
    cells: dict[str, dict[str, TaskResult]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)


def parse_systems(specs: Sequence[str]) -> list[System]:
    """``LABEL=SPEC`` or ``SPEC`` to systems; a bare spec is its own label.

    Raises:
        UsageError: no spec at all, an empty one, an unknown baseline, or one label twice.
    """
    systems = []
    for text in specs:
        label, equals, spec = text.partition("=")
        if not equals or "/" in label:
            label = spec = text
        if not label or not spec:
            raise UsageError(f"encoder {text!r}: expected NAME or LABEL=NAME")
        if spec not in RANKERS:
            parse_name(spec)  # misspelt, it would stop the table after the rows above it
        systems.append(System(label, spec))
    labels = [system.label for system in systems]
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise UsageError(f"two rows are called {sorted(twice)[0]!r}; give one another label: LABEL=NAME")
    if not systems:
        raise UsageError("nothing to evaluate; name at least one encoder")
    return systems


def fill_table(
    systems: Sequence[System],
    tasks: Sequence[Task[Any]],
    out: Path,
    load: Loader,
    options: TableOptions | None = None,
    on_cell: Callable[[System, TaskResult, bool], None] | None = None,
    searches: Mapping[str, Search] | None = None,
) -> Table:
    """Compute the cells that are missing, row by row.

    Args:
        systems: the rows.
        tasks: the columns.
        out: where cells and embeddings are kept.
        load: loads a system by its spec.
        options: see :class:`TableOptions`.
        on_cell: called with each cell and whether it was kept from before.
        searches: further rows by label, each once, or with every encoder that has embeddings (``ENCODER LABEL``).

    Returns:
        The table. What cannot be loaded or computed, a row or a cell, is named in ``failures`` and stops nothing else.
    """
    fill = _Filling(Table(tasks=list(tasks)), out, options or TableOptions(), on_cell, searches or {})
    for system in systems:
        fill.row(system, load)
    for label, search in fill.searches.items():
        if not search.needs_encoder:
            fill.cells(System(label, label), search.ranker())
    return fill.table


@dataclass(frozen=True, slots=True)
class _Filling:
    """A table while it is filled; the fields are the arguments of :func:`fill_table`."""

    table: Table
    out: Path
    options: TableOptions
    on_cell: Callable[[System, TaskResult, bool], None] | None
    searches: Mapping[str, Search]

    def row(self, system: System, load: Loader) -> None:
        """One row and the searches with it; a function of its own, so that its encoder is gone before the next one."""
        try:
            encoder = load(system.spec)
        except (EncoderError, EvaluationError) as error:
            self.table.failures.append(f"{system.label}: {error}")
            return
        with _cached(encoder, self.out, self.options) as embedder:
            if self.options.known is not None and isinstance(embedder, CachedEncoder):
                for prompt, texts, vectors in self.options.known(encoder.fingerprint):
                    embedder.learn(prompt, texts, vectors)
            self.cells(system, embedder)
            if isinstance(embedder, TextEncoder):
                for label, search in self.searches.items():
                    if search.needs_encoder:
                        self.cells(System(f"{system.label} {label}", system.spec), search.ranker(embedder, system.spec))

    def cells(self, system: System, encoder: TextEncoder | Ranker) -> None:
        """The cells of one row."""
        self.table.systems.append(system)
        row = self.table.cells.setdefault(system.label, {})
        folder = self.out / "results" / file_name(system.label)
        cells = [_Cell(encoder, task, folder, self.options) for task in applicable(encoder, self.table.tasks)]
        if isinstance(encoder, CachedEncoder):
            encoder.expect(chain.from_iterable(map(_Cell.texts, cells)))
        for cell in cells:
            task = cell.task
            try:
                result, kept = cell.result()
            except LLM2CompError as error:
                # Messages about what an encoder returned begin with the task already.
                reason = str(error).removeprefix(f"{task.name}: ")
                self.table.failures.append(f"{system.label}, {task.name}: {reason}")
                continue
            row[task.name] = result
            if self.on_cell is not None:
                self.on_cell(system, result, kept)


@contextmanager
def _cached(encoder: TextEncoder | Ranker, out: Path, options: TableOptions) -> Iterator[TextEncoder | Ranker]:
    """The encoder behind its cache for the time of one row; a ranker stays as it is."""
    if not isinstance(encoder, TextEncoder):
        yield encoder
        return
    place = out / "embeddings" if options.keep_embeddings else None
    with closing(embedding_cache(place, encoder.fingerprint)) as cache:
        if isinstance(encoder, MakesMemory):
            open_memory = partial(memory_cache, place, encoder.fingerprint)
            kind = CachedTokenEncoder if isinstance(encoder, ReadsTokens) else CachedMemoryEncoder
            with closing(kind(encoder, cache, open_memory)) as cached:
                yield cached
        else:
            yield CachedEncoder(encoder, cache)


@dataclass(frozen=True, slots=True)
class _Cell:
    """One system on one task."""

    encoder: TextEncoder | Ranker
    task: Task[Any]
    folder: Path
    options: TableOptions

    @property
    def _path(self) -> Path:
        return self.folder / f"{file_name(self.task.name)}.json"

    @property
    def _prompts(self) -> Prompts:
        if not isinstance(self.encoder, TextEncoder):
            return Prompts()
        options, task = self.options, self.task
        own = self.encoder.prompts
        return resolve_prompts(task.name, task.category, own, options.instructions, options.prompt_overrides)

    @property
    def _identity(self) -> dict[str, Any]:
        return {
            "scoring": SCORING_VERSION,
            "fingerprint": self.encoder.fingerprint,
            "settings": self.task.settings,
            "data": files_sha256(self.task.files),
            "prompts": self._prompts.to_json(),
        }

    def texts(self) -> list[tuple[str | None, list[str]]]:
        """What it will embed, each call with its prompt; nothing if it is kept, or cannot be known before."""
        if _read_cell(self._path, self._identity) is not None:
            return []
        prompts = self._prompts
        with suppress(LLM2CompError):  # its turn will come to say so
            calls = self.task.texts()
            return [(prompts.query if role == "query" else prompts.document, asked) for role, asked in calls]
        return []

    def result(self) -> tuple[TaskResult, bool]:
        """The result, and whether it was kept from before."""
        identity = self._identity
        kept = _read_cell(self._path, identity)
        if kept is not None:
            return kept, True
        result = evaluate_task(
            self.encoder,
            self.task,
            instructions=self.options.instructions,
            prompt_overrides=self.options.prompt_overrides,
            show_progress=self.options.show_progress,
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(self._path, json.dumps({"identity": identity, "result": result.to_json()}))
        return result, False


def _read_cell(path: Path, identity: dict[str, Any]) -> TaskResult | None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["identity"] != identity:
            return None
        result = TaskResult.from_json(kept["result"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not there, damaged, or of a version with other fields: it is computed again
    # Cells from before pairs were kept: the embeddings are cached, and without pairs there is no interval.
    return None if result.category in OVER_PAIRS and "pairs" not in kept["result"] else result


def file_name(label: str) -> str:
    """``label`` as one path component; two labels that fall together only make each other's cells be computed again."""
    name = re.sub(r"[^\w.@+=-]+", "_", label).strip(".") or "_"
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    mark = hashlib.sha256(label.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{name.encode()[:_LONGEST_NAME].decode(errors='ignore')}-{mark}"
