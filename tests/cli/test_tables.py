"""How tables of plain strings are drawn."""

from __future__ import annotations

import pytest

from llm2comp_apps.cli.ui.console import stdout_console
from llm2comp_apps.cli.ui.tables import print_tables, rich_table
from llm2comp_apps.text_table import TextTable, code_span, in_markdown

SCORES = TextTable(
    title="Scores",
    header=["task", "a|b", "c"],
    rows=[["li\x1b[2Jb", "**81.20**", "+1.20 [+0.30, +2.10]*"], ["*Average*", "80.00", "[bold]"]],
    numbers=[1, 2],
)


def test_marks_are_styles_and_nothing_else_is_touched():
    drawn = rich_table(SCORES)
    cells = [[(cell.plain, cell.style) for cell in column._cells] for column in drawn.columns]
    assert cells[0] == [("li[2Jb", ""), ("Average", "italic")]
    assert cells[1] == [("81.20", "bold"), ("80.00", "")]
    assert cells[2] == [("+1.20 [+0.30, +2.10]*", ""), ("[bold]", "")]
    assert [row.end_section for row in drawn.rows] == [False, True]
    assert [column.justify for column in drawn.columns] == ["left", "right", "right"]


def test_a_pipe_gets_every_table_whole(capsys):
    wide = TextTable(title="Wide", header=["name", "x" * 300], rows=[["y" * 300, ""]], numbers=[0, 1])
    print_tables([SCORES, wide])
    shown = capsys.readouterr()
    assert "y" * 300 in shown.out
    assert shown.err == ""


def test_a_terminal_gets_what_fits(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("rich.console.Console.is_terminal", True)
    wide = TextTable(title="Wide", header=["name"], rows=[["y" * 300]], numbers=[0])
    print_tables([SCORES, wide, SCORES])
    shown = capsys.readouterr()
    assert "yyy" not in shown.out
    assert shown.out.count("Average") == 2
    assert shown.err == "Wide: too wide for this terminal, see the report\n"


@pytest.mark.parametrize("columns", ["0", "", "000"])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_console_of_no_columns_still_shows_what_it_has(capsys, monkeypatch, columns, terminal):
    """Terminals of containers may say 0; hits were printed in as many columns, which is to say not at all."""
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    console = stdout_console()
    assert console.width > 20
    console.print("Cells divide", soft_wrap=True)
    assert "Cells divide" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("cell", "line"),
    [
        ("a|b", "a\\|b"),
        ("a\nb", "a⏎b"),
        ("a\r\nb\u2028c", "a⏎b⏎c"),
        ("<!-- a", "&lt;!-- a"),
        ("`<a>`", "`<a>`"),
        ("`` a`<b> ``", "`` a`<b> ``"),
        ("`a` <!-- `", "`a` &lt;!-- `"),
        ("**1.00**", "**1.00**"),
    ],
)
def test_markdown_stays_a_table(cell, line):
    table = TextTable(title="", header=["name", "n"], rows=[[cell, "1"]], numbers=[1])
    assert table.markdown() == ["| name | n |", "| --- | ---: |", f"| {line} | 1 |"]


@pytest.mark.parametrize("text", ["find: ", "a`b", "``", "`<x>`", "a ``b` <c>"])
def test_code_of_anybodys_text_is_code_in_a_table(text):
    span = code_span(text)
    assert in_markdown(span) == span
    assert text in span


def test_a_table_with_columns_to_cut_fits_the_page(capsys):
    rows = [["1", "dough", "bread " * 60]]
    print_tables([TextTable(header=["topic", "name", "text"], rows=rows, numbers=[0], cut=[2])])
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line for line in lines if "dough" in line and line.rstrip().endswith("…")]
