"""Checkpoints of a run, in the order of training."""

from __future__ import annotations

import os

import pytest

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation import load_suite
from llm2comp_apps.evaluation.curve import curve_points, find_checkpoints, plot_curve
from llm2comp_apps.evaluation.report import build_report
from llm2comp_apps.evaluation.table import fill_table


def checkpoint(run, name, written):
    folder = run / name
    folder.mkdir(parents=True)
    (folder / "encoder.json").write_text("{}")
    os.utime(folder / "encoder.json", (written, written))


@pytest.fixture
def run(tmp_path):
    """Two stages; names sort neither as numbers nor as the stages followed one another."""
    root = tmp_path / "run"
    checkpoint(root, "kl/checkpoints/step-50", 100)
    checkpoint(root, "kl/checkpoints/step-100", 200)
    checkpoint(root, "kl/checkpoints/step-9", 50)
    checkpoint(root, "a-later-stage/checkpoints/step-20", 300)
    (root / "kl" / "checkpoints" / "step-120").mkdir()  # being written
    (root / "kl" / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "eval": 1}\n{"step": 2, "lo')
    return root


def test_checkpoints_follow_the_training(run):
    found = find_checkpoints(run)
    assert [(item.stage, item.step, item.total_step) for item in found] == [
        ("kl", 9, 9), ("kl", 50, 50), ("kl", 100, 100), ("a-later-stage", 20, 120)
    ]  # fmt: skip
    assert [item.system.label for item in found] == ["kl@9", "kl@50", "kl@100", "a-later-stage@20"]


def test_a_run_of_one_stage_needs_no_stage_name(tmp_path):
    checkpoint(tmp_path, "checkpoints/step-000010/encoder", 1)
    (only,) = find_checkpoints(tmp_path)
    assert (only.stage, only.step, only.system.label) == ("", 10, "step-10")


@pytest.mark.parametrize(("name", "message"), [("empty", "no checkpoint"), ("nowhere", "no such run folder")])
def test_a_run_without_checkpoints(tmp_path, name, message):
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=message):
        find_checkpoints(tmp_path / name)


def test_points_and_plot(run, data, tmp_path, make_hash_encoder):
    found = find_checkpoints(run)
    table = fill_table(
        [item.system for item in found],
        load_suite("offline", data, ["likeness", "groups"]),
        tmp_path / "out",
        lambda spec: make_hash_encoder(seed=spec),
    )
    report = build_report(table, {})
    points = curve_points(found, report)
    assert [point["total_step"] for point in points] == [9, 50, 100, 120]
    assert points[2]["scores"]["likeness"] == table.cells["kl@100"]["likeness"].main_score
    assert points[2]["scores"].keys() == {"likeness", "groups", "Average (2 tasks)"}
    plot_curve(found, report, run, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
