"""``llm2comp doctor``: what is installed, what it runs on, what is wrong and what to do about it."""

from __future__ import annotations

from dataclasses import asdict

import typer

from llm2comp_apps.cli.options.common import JsonOption, add_command
from llm2comp_apps.cli.ui.console import print_json

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(app, doctor, "llm2comp doctor", "llm2comp doctor --json")


def doctor(as_json: JsonOption = False) -> None:
    """Show what is installed, which device is used, where files are kept, and what is wrong.

    Loads no model and uses no network. The exit code is 1 if something is broken, 0 otherwise.
    """
    from llm2comp_apps.diagnosis import diagnose

    checks = diagnose()
    broken = any(check.status == "error" for check in checks)
    if as_json:
        print_json({"ok": not broken, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            typer.echo(check)
    if broken:
        raise typer.Exit(1)
