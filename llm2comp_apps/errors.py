"""Errors a person can act on.

Every error below carries one finished line: what is wrong, where, and what to do. The command line prints that line
and exits with the class's ``exit_code``; a traceback is shown only for what is a bug of ours.

Messages speak of settings by their names in Python (``k``, ``rerank_depth``), never by a flag, since a caller may be a
program. A :class:`UsageError` names the setting that is wrong as its ``field``. A message that advises another setting
puts it in backquotes: `` `mode` `` or `` `mode=lexical` ``. The command line shows the options of these names instead
(:mod:`llm2comp_apps.cli.ui.errors`), and leaves advice in parentheses out where the command has none; a server answers
422 and the field.

    LLM2CompError
    +-- UsageError          the call itself is wrong (exit 2)
    +-- CorpusError         a document file is missing or broken (exit 1)
    +-- EncoderError        a model or checkpoint cannot be loaded or does not fit (exit 1)
    +-- TrainingError       a training run cannot start or continue (exit 1)
    +-- ClusteringError     a corpus cannot be clustered as asked (exit 1)
    +-- EvaluationError     a task or an encoder cannot be evaluated (exit 1)

The index has its own tree, ``llm2comp_indexes.errors``, since it stands alone.
"""

from __future__ import annotations

__all__ = [
    "ClusteringError",
    "CorpusError",
    "EncoderError",
    "EvaluationError",
    "LLM2CompError",
    "TrainingError",
    "TrainingStoppedError",
    "UsageError",
]


class LLM2CompError(Exception):
    """Base of every error that is the world's fault and not a bug of ours."""

    exit_code = 1


class UsageError(LLM2CompError):
    """The call is wrong: a setting, an argument, an empty query.

    Attributes:
        field: the setting that is wrong, by its name in Python; ``None`` where it is not one alone.
        reason: the message without the field.
    """

    exit_code = 2

    def __init__(self, reason: str, *, field: str | None = None) -> None:
        """Say what is wrong: ``UsageError("must be at least 1, not 0", field="k")``."""
        super().__init__(f"{field} {reason}" if field else reason)
        self.reason = reason
        self.field = field


class CorpusError(LLM2CompError):
    """A corpus, dataset or document file is missing, empty or broken."""


class EncoderError(LLM2CompError):
    """A backbone or checkpoint is missing, damaged, or not what an encoder needs."""


class TrainingError(LLM2CompError):
    """A training run cannot start, cannot resume, or has gone wrong (NaN, dead memory, out of memory)."""


class TrainingStoppedError(TrainingError):
    """A run was asked to stop (ctrl-C, SIGTERM) and has kept what it did."""

    exit_code = 130


class ClusteringError(LLM2CompError):
    """A corpus cannot be clustered as asked."""


class EvaluationError(LLM2CompError):
    """A task or an encoder cannot be evaluated."""
