"""``llm2comp index export`` and ``llm2comp index import``."""

from __future__ import annotations

import typer

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the commands to the ``index`` group."""
