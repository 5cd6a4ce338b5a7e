"""Settings of an index, checked before a model and a corpus are read for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm2comp_apps.errors import UsageError

__all__ = ["check_settings", "settings_differ"]

_LANGUAGES = (
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
)  # fmt: skip
_CHANGEABLE = ("kind", "target_recall", "max_ram")


def check_settings(*, language: str | None = None, target_recall: float | None = None) -> None:
    """Refuse values that no index takes.

    Raises:
        UsageError: names the option.
    """
    if target_recall is not None and not 0 < target_recall <= 1:
        raise UsageError(f"--target-recall must lie above 0 and be at most 1, not {target_recall:g}")
    if language is None:
        return
    from llm2comp_indexes.errors import InputError
    from llm2comp_indexes.lexical import check_language

    try:
        check_language(language)
    except InputError as error:
        listed = ", ".join(_LANGUAGES)
        raise UsageError(f"--language {language!r}: words of it cannot be stemmed; take none or {listed}") from error


def settings_differ(index: Path, name: str, wanted: Any, built: Any) -> UsageError:
    """What to say to somebody who builds on an index with another setting than it was built with.

    Args:
        index: where it is.
        name: of the setting.
        wanted: its value now.
        built: its value in the index.
    """
    option = "--" + name.replace("_", "-")
    if name in _CHANGEABLE:
        shown = wanted // 2**20 if name == "max_ram" else wanted
        return UsageError(
            f"{index} is there already; change how it is searched with: llm2comp index compact {index} {option} {shown}"
        )
    how = f"with {option}{'' if built is True else f' {built}'}" if built else f"without {option}"
    return UsageError(f"{index} was built {how}; leave the option out, or build elsewhere with -o")
