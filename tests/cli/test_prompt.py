"""The prompt of ``llm2comp search``, to which somebody types queries."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Makes the command believe that it talks to a person who types these lines."""

    def type_lines(*lines):
        waiting = iter(lines)

        def read(prompt):
            line = next(waiting, None)
            if line is None:
                raise EOFError
            return line

        monkeypatch.setattr("builtins.input", read)
        monkeypatch.setattr("llm2comp_apps.cli.search.is_terminal", lambda stream: True)

    return type_lines


@pytest.mark.parametrize("lines", [("cells divide", "stars burn", ""), ("cells divide", "stars burn")])
def test_the_prompt_loads_the_model_once_and_ends_with_an_empty_line_or_the_end_of_input(
    cli, built, encoders, on_a_terminal, lines
):
    on_a_terminal(*lines)
    result = cli("search", "-k", "1")
    assert result.exit_code == 0
    assert result.stdout.count(" 1. ") == 2
    assert encoders.loaded == ["default"]


def test_the_prompt_survives_an_error_of_one_query(cli, built, on_a_terminal):
    on_a_terminal("cells \udcff", "stars burn", "")
    result = cli("search", "-k", "1")
    assert result.exit_code == 0
    assert "Error: query is not valid UTF-8" in result.stderr
    assert result.stdout.count(" 1. ") == 1


def test_the_prompt_names_operators_and_prints_json_where_it_is_wanted(cli, built, on_a_terminal):
    on_a_terminal("cells -divide", "")
    result = cli("search", "-k", "1", "--json")
    assert "understood as operators: -divide (--no-operators takes them as text)" in result.stderr
    assert json.loads(result.stdout)["query"] == "cells -divide"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mode", "lexical", "--rerank", "ltr"], "--rerank cannot be ltr here"),
        (["--fusion", "learned"], "--fusion needs weights"),
        (["--passages"], "--passages"),
    ],
)
def test_what_no_query_can_change_is_said_before_the_prompt(cli, built, on_a_terminal, arguments, message):
    on_a_terminal("cells", "stars", "")
    result = cli("search", *arguments)
    assert result.exit_code == 2
    assert result.stderr.count(f"Error: {message}") == 1
    assert "Type a query" not in result.stderr
