"""Settings in messages of the rooms below become options of the command that runs, and of no other."""

from __future__ import annotations

import pickle
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from llm2comp_apps.cli.ui.console import note
from llm2comp_apps.cli.ui.errors import CommandGroup
from llm2comp_apps.errors import UsageError


def run(error, *arguments):
    app = typer.Typer(cls=CommandGroup, rich_markup_mode=None)
    group = typer.Typer()

    @app.command()
    def other(depth: int = 1) -> None:
        pass

    @group.command()
    def inner(
        index: Annotated[str, typer.Argument(metavar="INDEX")],
        more: Annotated[list[str] | None, typer.Argument(metavar="[MORE]...")] = None,
        k: Annotated[int, typer.Option("-k")] = 10,
        rerank_depth: int = 5,
        memory: Annotated[bool, typer.Option("--memory/--no-memory")] = False,
    ) -> None:
        if isinstance(error, str):
            note(error)
        else:
            raise error

    app.add_typer(group, name="outer")
    return CliRunner().invoke(app, ["outer", "inner", "x.index", *arguments])


@pytest.mark.parametrize(
    ("field", "shown"),
    [
        ("k", "-k"),
        ("rerank_depth", "--rerank-depth"),
        ("index", "INDEX"),
        ("more", "MORE"),
        ("depth", "depth"),
        (None, None),
    ],
)
def test_the_field_of_an_error_is_the_option_of_the_command(field, shown):
    result = run(UsageError("must be at least 1, not 0", field=field))
    assert result.exit_code == 2
    assert result.stderr == f"Error: {shown + ' ' if shown else ''}must be at least 1, not 0\n"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("take `k` or `rerank_depth=50`", "take -k or --rerank-depth 50"),
        ("`memory=True` or `memory=False`, `memory`", "--memory or --no-memory, --memory"),
        ("`depth=3` and `depth` are another command's", "depth=3 and depth are another command's"),
        ("`llm2comp index build` stays", "`llm2comp index build` stays"),
        ("broken (`k=0` mends it) there (at 3)", "broken (-k 0 mends it) there (at 3)"),
        ("broken (`depth=0` mends it, `k` too) there (at 3)", "broken there (at 3)"),
    ],
)
def test_settings_in_backquotes_are_spelled_in_errors_and_notes(message, shown):
    assert run(UsageError(message)).stderr == f"Error: {shown}\n"
    assert run(message).stderr == f"{shown}\n"


def test_without_a_command_line_an_error_keeps_its_python_words():
    error = pickle.loads(pickle.dumps(UsageError("must be at least 1, not 0", field="k")))
    assert (str(error), error.field, error.reason) == ("k must be at least 1, not 0", "k", "must be at least 1, not 0")
