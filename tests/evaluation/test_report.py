"""The report: averages, comparisons, and the three ways of printing it."""

from __future__ import annotations

import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from rich.console import Console

from llm2comp_apps.cli.ui.tables import rich_table
from llm2comp_apps.errors import EvaluationError, UsageError
from llm2comp_apps.evaluation import load_suite
from llm2comp_apps.evaluation.bm25 import Bm25Ranker
from llm2comp_apps.evaluation.report import build_report
from llm2comp_apps.evaluation.report_html import render_html
from llm2comp_apps.evaluation.report_text import comparisons_table, percent, render_markdown, report_tables
from llm2comp_apps.evaluation.table import fill_table, parse_systems


@pytest.fixture(scope="module")
def table(shared_data, tmp_path_factory, make_hash_encoder, jsonl):
    letters = [{"text": f"a{index}", "label": index % 2} for index in range(20)]
    jsonl(shared_data / "clustering" / "letters.jsonl", letters)
    encoders = {"hash": make_hash_encoder(), "sm<all>": make_hash_encoder(2), "bm25": Bm25Ranker()}

    def load(spec):
        if spec not in encoders:
            raise EvaluationError("no such model")
        return encoders[spec]

    specs = parse_systems([*encoders, "gone"])
    return fill_table(specs, load_suite("offline", shared_data), tmp_path_factory.mktemp("out"), load)


@pytest.fixture(scope="module")
def report(table):
    return build_report(table, {"suite": "offline", "prompt": "a|b"})


def line(report, name):
    return next(line for line in report.lines if line.name == name)


def test_categories_and_the_whole_are_averaged_over_tasks(report):
    values = {item.name: item.values["hash"] for item in report.lines if item.kind == "task"}
    assert len(values) == 7
    assert line(report, "Clustering").values["hash"] == pytest.approx((values["groups"] + values["letters"]) / 2)
    assert line(report, "Average (7 tasks)").values["hash"] == pytest.approx(np.mean(list(values.values())))
    # A category of one task needs no average.
    assert not [item for item in report.lines if item.name == "STS"]


def test_the_summary_has_every_category_and_the_whole(report):
    assert [item.name for item in report.summary] == [
        "Retrieval (1)", "Reranking (1)", "Clustering (2)", "PairClassification (1)", "Classification (1)", "STS (1)",
        "Average (7 tasks)",
    ]  # fmt: skip
    assert report.summary[2].values == line(report, "Clustering").values
    assert report.summary[0].values == line(report, "library").values


def test_a_system_that_lacks_a_task_has_no_average_over_it(report):
    assert line(report, "library").values["bm25"] is not None
    assert line(report, "groups").values["bm25"] is None
    assert line(report, "Average (7 tasks)").values["bm25"] is None


def test_comparisons_are_against_the_chosen_row_where_it_can_be_resampled(table):
    report = build_report(table, {}, against="sm<all>")
    assert report.reference == "sm<all>"
    assert {(item.task, item.label) for item in report.comparisons} == {
        ("library", "hash"), ("library", "bm25"), ("answers_test", "hash"), ("subject", "hash"),
        ("likeness", "hash"), ("paraphrase", "hash"),
    }  # fmt: skip
    for item in report.comparisons:
        delta = line(report, item.task).values[item.label] - line(report, item.task).values["sm<all>"]
        assert item.difference.delta == pytest.approx(delta, abs=1e-6)
        assert item.difference.low <= item.difference.delta <= item.difference.high
    assert all(item.adjusted_p >= item.difference.p_value for item in report.comparisons)
    with pytest.raises(UsageError, match="against must be one of the rows hash, sm<all>, bm25, not 'wmp'"):
        build_report(table, {}, against="wmp")


def test_every_line_has_a_difference_where_both_rows_were_measured(table):
    report = build_report(table, {}, against="sm<all>")
    for item in report.lines:
        delta = item.values["hash"] - item.values["sm<all>"]
        assert report.delta(item, "hash") == pytest.approx(delta)
        (row,) = [row for row in rows_of(render_markdown(report), "Difference") if item.name in row]
        assert f" {100 * delta:+.2f} " in row
        assert f"{100 * delta:+.2f}" in render_html(report).split("Difference from")[1]
    assert report.delta(line(report, "groups"), "bm25") is None
    (row,) = [row for row in rows_of(render_markdown(report), "Difference") if "groups" in row]
    assert "[" not in row
    assert row.endswith("| – |")
    deltas = {item["name"]: item["deltas"] for item in report.to_json()["table"]}
    assert set(deltas["groups"]) == {"hash", "bm25"}
    assert report.to_json()["results"]["hash"]["likeness"]["pairs"] == {}


def rows_of(page, title):
    section = page.split(f"## {title}")[1].split("\n## ")[0]
    return [row for row in section.splitlines() if row.startswith("|")]


def test_json_holds_everything_needed_to_repeat_it(report):
    value = json.loads(json.dumps(report.to_json()))
    assert value["settings"]["suite"] == "offline"
    assert value["environment"]["versions"]["torch"]
    assert value["failures"] == ["gone: no such model"]
    assert set(value["systems"]) == {"hash", "sm<all>", "bm25"}
    result = value["results"]["hash"]["subject"]
    assert result["settings"]["samples_per_label"] == 8
    assert result["fingerprint"] == value["systems"]["hash"]["fingerprint"]
    assert result["seconds"] >= 0


def test_markdown_has_every_score_and_stays_a_table(report):
    page = render_markdown(report)
    assert "| library | ndcg@10 |" in page
    for item in report.lines:
        assert percent(item.values["hash"]) in page
    for part, columns in ((2, 7), (4, 4)):  # encoder + 6 averages and the whole, task + metric + 3 encoders
        assert {row.replace("\\|", "").count(" | ") for row in page.split("\n\n")[part].splitlines()} == {columns}
    assert "prompt: a\\|b" in page
    assert "`find: `" in page
    assert "gone: no such model" in page


def test_names_in_a_markdown_page_are_no_html_and_no_second_line(shared_data, tmp_path, hash_encoder):
    odd, shown = "<!-- a|b\r\n# c\u2028d", "&lt;!-- a\\|b⏎# c⏎d"
    tasks = load_suite("offline", shared_data, ["groups"])
    table = fill_table(parse_systems([f"{odd}=hash", "hash"]), tasks, tmp_path, lambda _: hash_encoder)
    table.failures.append(odd)
    page = render_markdown(build_report(table, {"suite": odd}, against=odd))
    assert not re.search(r"<!|[\r\u2028]|^# c", page, re.MULTILINE)
    for line in (f"| {shown} | ", f"## Difference from {shown}\n", f"- suite: {shown}\n", f"- {shown}\n"):
        assert line in page


class Page(HTMLParser):
    """Collects text and everything that would be fetched."""

    def __init__(self):
        super().__init__()
        self.text, self.sources, self.images = "", [], 0

    def handle_starttag(self, tag, attrs):
        self.images += tag == "img"
        self.sources += [value for name, value in attrs if name in ("src", "href")]

    def handle_data(self, text):
        self.text += text


def test_html_needs_nothing_from_outside(report):
    page = Page()
    page.feed(render_html(report))
    assert page.images == 2
    assert all(source.startswith("data:image/svg+xml;base64,") for source in page.sources)
    assert "sm<all>" in page.text
    assert '<meta name="viewport"' in render_html(report)  # else telephones lay it out for a desk, and shrink it
    for item in report.lines:
        assert percent(item.values["hash"]) in page.text


def test_the_terminal_table_has_a_column_for_each_row(report):
    out = io.StringIO()
    Console(width=200, file=out).print(*map(rich_table, report_tables(report)))
    text = out.getvalue()
    for label in report.labels:
        assert label in text
    assert "Difference from hash" in text


def test_one_row_is_compared_with_nobody(shared_data, tmp_path, hash_encoder):
    tasks = load_suite("offline", shared_data, ["library", "groups"])
    table = fill_table(parse_systems(["hash"]), tasks, tmp_path, lambda _: hash_encoder)
    report = build_report(table, {})
    assert report.reference is None
    assert comparisons_table(report) is None
    assert "Difference" not in render_markdown(report)
    assert "Difference" not in render_html(report)


def test_dollars_in_a_label_are_no_formula(shared_data, tmp_path, hash_encoder):
    labels = ["hash", r"for $\b$5"]
    table = fill_table(
        parse_systems([f"{label}=default" for label in labels]),
        load_suite("offline", shared_data, ["library", "groups"]),
        tmp_path,
        lambda _: hash_encoder,
    )
    page = Page()
    page.feed(render_html(build_report(table, {}, against=labels[1])))
    assert page.images == 2
    assert labels[1] in page.text
