"""What the shell completes the values of options to: sets that the rooms below know, and what lies in folders.

A value is found by the name of its option, or by ``command.option`` where commands differ. Nothing is imported before
somebody presses the key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from inspect import isfunction
from typing import Any, get_args

from llm2comp_apps.errors import LLM2CompError

__all__ = ["VALUES", "offer_values"]

Values = Callable[[dict[str, Any]], Iterable[str]]
"""Gives values, from the parameters that stand on the line so far."""


def _of(place: str, *more: str, key: str | None = None) -> Values:
    """Values that a module below knows, as ``module:NAME``: a tuple, a literal type, keys of a dict or a function."""

    def values(_: dict[str, Any]) -> Iterable[str]:
        module, name = place.split(":")
        known = getattr(import_module(module), name)
        return [*(get_args(known) or (known[key] if key else known() if isfunction(known) else known)), *more]

    return values


def _fields(given: dict[str, Any]) -> Iterable[str]:
    from llm2comp_apps.retrieval.looking import names_of_fields

    index = given.get("index") or given.get("docs")
    return names_of_fields(index[0] if isinstance(index, list | tuple) and index else index or None)


def _tasks(suite: str | None = None, category: str | None = None) -> Values:
    def values(given: dict[str, Any]) -> Iterable[str]:
        from llm2comp_apps.evaluation.compare import load_tasks

        tasks = load_tasks(suite or given.get("suite", ""), given.get("data"))
        return [task.name for task in tasks if category in (None, task.category)]

    return values


def _dtypes(given: dict[str, Any]) -> Iterable[str]:
    from llm2comp_apps.encoder.publishing.export import DTYPES

    return DTYPES.get(given.get("format") or "", DTYPES["sentence-transformers"])


_SETTINGS, _SEARCH = "llm2comp_train.settings:CHOICES", "llm2comp_apps.retrieval.options"
_CORPUS, _CLUSTERS = "llm2comp_apps.corpus.options", "llm2comp_apps.clustering.algorithms"
_ENCODERS = "llm2comp_apps.encoder.names:known_names"
_SUITES = "llm2comp_apps.evaluation.suites:SUITES"
_ALONE = ("words", "tokens", "memory", "likelihood", "upr")
"""Rerankers that need no search."""

VALUES: dict[str, Values] = {
    **{
        name: _of(_SETTINGS, key=name)
        for name in ("schedule", "adapter", "train_weights", "optimizer", "pieces", "attention")
    },
    "train.dtype": _of(_SETTINGS, key="dtype"),
    "stage": _of("llm2comp_train.stages:STAGES", "all"),
    "recipe": _of("llm2comp_train.recipes:RECIPES"),
    "backbone": _of("llm2comp_apps.encoder.wheel_backbone:WHEEL_BACKBONES"),
    "baseline": _of("llm2comp_apps.encoder.names:BASELINES"),
    "device": lambda _: ("cpu", "cuda", "cuda:0", "mps"),
    **dict.fromkeys(("encoder", "query_encoder", "teacher", "init", "layers_of"), _of(_ENCODERS)),
    "run.encoder": _of(_ENCODERS, "bm25", "bm25:stem"),
    "mode": _of(f"{_SEARCH}:Mode"),
    "fusion": _of("llm2comp_apps.retrieval.fusion:Fusion"),
    "search": _of("llm2comp_apps.retrieval.judged:WAYS"),
    "rerank": lambda _: ("ltr", *_ALONE),
    "model": lambda _: _ALONE,
    **dict.fromkeys(("show", "where", "label_field", "time_field"), _fields),
    "format": _of(f"{_CORPUS}:FORMATS"),
    "search.format": _of("llm2comp_apps.retrieval.runs:RunFormat"),
    "export-model.format": _of("llm2comp_apps.encoder.publishing.export:FORMATS"),
    "export-model.dtype": _dtypes,
    "push.dtype": _dtypes,
    "encoding": lambda _: ("utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"),
    "encoding_errors": _of(f"{_CORPUS}:ENCODING_ERRORS"),
    "on_error": _of(f"{_CORPUS}:ON_ERROR"),
    "kind": _of("llm2comp_indexes.dense.kinds:KINDS"),
    "language": _of("llm2comp_apps.retrieval.settings:LANGUAGES", "none"),
    "cluster.language": _of("llm2comp_apps.clustering.pipeline:LANGUAGES"),
    "method": _of(f"{_CLUSTERS}.methods:METHODS"),
    "prune.method": _of("llm2comp_apps.encoder.layers:METHODS"),
    "reduce": _of(f"{_CLUSTERS}.reduce:REDUCTIONS"),
    "outliers": _of(f"{_CLUSTERS}.membership:OUTLIER_POLICIES"),
    "role": _of("llm2comp_apps.evaluation.tasks.base:Role"),
    "to": _of("llm2comp_apps.retrieval.engines:ENGINES"),
    "run.instructions": _of("llm2comp_apps.evaluation.prompts:InstructionMode"),
    "run.suite": _of(_SUITES, "poster"),
    "curve.suite": _of(_SUITES),
    "analyze.suite": _of(_SUITES, "none"),
    "run.task": _tasks(),
    "curve.task": _tasks(),
    "pairs": _tasks("offline", "STS"),
    "ray": lambda _: ("local", "auto"),
}


def offer_values(command: Any) -> None:
    """Have each parameter of a command, and of those below it, complete its values."""
    for inner in getattr(command, "commands", {}).values():
        offer_values(inner)
    for parameter in command.params:
        found = VALUES.get(f"{command.name}.{parameter.name}") or VALUES.get(parameter.name)
        if found and parameter.param_type_name == "option":
            parameter._custom_shell_complete = _completing(found)


def _completing(values: Values) -> Callable[[Any, Any, str], list[str]]:
    def complete(context: Any, _: Any, begun: str) -> list[str]:
        try:
            return [value for value in values(context.params) if value.startswith(begun)]
        except (LLM2CompError, OSError, ValueError):
            return []  # nothing is there to choose from, and a prompt is no place for a message

    return complete
