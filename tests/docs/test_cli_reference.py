"""The reference of the command line is what the commands say of themselves, all of them and nothing else."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import typer

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "reference" / "cli.md").read_text("utf-8")


@pytest.fixture(scope="module")
def generator():
    return runpy.run_path(str(DOCS / "generate_cli.py"))


def paths(command, path):
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from paths(inner, f"{path} {name}")


def test_the_page_is_current(generator) -> None:
    assert generator["page"]() == PAGE, "the help changed: run `python docs/generate_cli.py`"


def test_every_command_has_a_section_and_every_section_a_command() -> None:
    from llm2comp_apps.cli.main import app

    sections = re.findall(r"^## `(.+)`$", PAGE, re.MULTILINE)
    assert len(sections) == len(set(sections))
    assert set(sections) == set(paths(typer.main.get_command(app), "llm2comp"))


def test_a_section_is_what_a_terminal_shows(generator) -> None:
    """The page is compared with what is really printed, not only with what its own generator would write."""
    from typer.testing import CliRunner

    from llm2comp_apps.cli.main import app

    shown = CliRunner().invoke(app, ["index", "info", "--help"], terminal_width=generator["WIDTH"]).stdout
    section = PAGE.partition("## `llm2comp index info`")[2].partition("\n## ")[0]
    assert "--json" in shown
    assert section.split("```")[1].removeprefix("text").split() == shown.split()
