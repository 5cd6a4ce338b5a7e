"""``train/studies/stages.py`` at toy size: the whole study, again without work, and out of time."""

from __future__ import annotations

import importlib.util
import json
import random
import shutil
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "train" / "studies" / "stages.py"
WORDS = [
    "cell",
    "energy",
    "market",
    "river",
    "king",
    "queen",
    "war",
    "peace",
    "atom",
    "light",
    "sound",
    "tree",
    "stone",
]
TASKS = ["scifact", "twentynewsgroups_subjects", "banking77", "stsbenchmark"]


@pytest.fixture(scope="module")
def stages():
    spec = importlib.util.spec_from_file_location("stages", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look their types up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def study_data(tmp_path_factory) -> Path:
    root, draw = tmp_path_factory.mktemp("study"), random.Random(0)

    def text(words=6):
        return " ".join(draw.choices(WORDS, k=words))

    def write(name, rows):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")

    write("train/paragraphs/a.jsonl", [{"text": text(20) + " ."} for _ in range(40)])
    write("train/pairs/a.jsonl", [{"query": text(), "positive": text()} for _ in range(30)])
    for split in ("dev", "test"):
        rows = [{"sentence1": text(), "sentence2": text(), "score": draw.random() * 5} for _ in range(12)]
        write(f"eval/sts/stsbenchmark/{split}.jsonl", rows)
    write("eval/retrieval/scifact/corpus.jsonl", [{"_id": f"d{n}", "title": "", "text": text()} for n in range(12)])
    for prefix in ("", "train_"):
        write(f"eval/retrieval/scifact/{prefix}queries.jsonl", [{"_id": f"q{n}", "text": text()} for n in range(3)])
        judged = "".join(f"q{n}\td{n}\t1\n" for n in range(3))
        (root / f"eval/retrieval/scifact/{prefix}qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    labelled = [{"text": text(), "label": WORDS[n % 3]} for n in range(30)]
    write("eval/classification/banking77/train.jsonl", labelled)
    write("eval/classification/banking77/test.jsonl", labelled[:9])
    write("eval/clustering/twentynewsgroups_subjects.jsonl", labelled)
    return root


def call(study_data, out, backbone_dir):
    small = {
        "k": 3, "lora_r": 4, "dtype": "float32", "batch_size": 4, "context": "4,6", "continuation": 4,
        "validation_texts": 4, "float32_layers": 0,
    }  # fmt: skip
    return [
        *("--data", str(study_data), "--out", str(out), "--backbone", str(backbone_dir), "--device", "cpu"),
        *("--preset", "cpu", "--steps", "2", "--scl-steps", "2", "--chain", "scl", "--arms", "none,kl,mntp"),
        *("--lrs", "1e-3,1e-2,1e30", "--adapters", "continue,fresh"),
        *(word for name, value in small.items() for word in ("--set", f"{name}={value}")),
    ]


@pytest.mark.slow
def test_the_whole_study_and_again_without_work(stages, study_data, backbone_dir, tmp_path, capsys):
    arguments = call(study_data, tmp_path, backbone_dir)
    assert stages.main(arguments) == 0
    found = json.loads((tmp_path / "study.json").read_text("utf-8"))
    rows = {row["label"]: row for row in found["rows"]}
    assert set(rows) == {"kl", "mntp", "scl", "kl + scl", "kl + scl (fresh)", "mntp + scl", "mntp + scl (fresh)"}
    assert set(found["measured"]) == {*rows, "lt", "wmp", "ee", "prompteol", "metaeol"}
    for label, measured in found["measured"].items():
        assert list(measured["scores"]) == TASKS
        assert measured["effective_dimension"] > 0
        assert (measured["merged_scores"] is None) == (label not in rows or "mntp" in label)
        assert (measured["memory_correlation"] is None) == (measured["merged_scores"] is None)
    tried = rows["kl"]["tried"]
    assert set(tried) == {"0.001", "0.01"}  # the third one was lost, which does not end the study
    assert rows["kl"]["rate"] == float(max(tried, key=tried.get))
    assert rows["kl"]["run"] in json.loads((Path(rows["kl + scl"]["run"]) / "run.json").read_text())["init"]
    assert "gain" in rows["kl"]["figures"]
    page = (tmp_path / "study.md").read_text("utf-8")
    assert capsys.readouterr().out == page
    assert len([line for line in page.splitlines() if line.startswith("|")]) == 2 + 5 + 7

    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    assert stages.main(arguments) == 0
    changed = {path.name for path in before if path.stat().st_mtime_ns != before[path]}
    assert changed == {"study.json", "study.md"}
    assert (tmp_path / "study.md").read_text("utf-8") == page

    # Without time, and with more to do: what there is is told, with what was measured of it.
    shutil.rmtree(rows["mntp + scl"]["run"])
    (tmp_path / "figures" / "metaeol-nano.json").unlink()
    assert stages.main([*arguments, "--minutes", "0", "--beside", "bm25"]) == 3
    again = json.loads((tmp_path / "study.json").read_text("utf-8"))
    assert {row["label"] for row in again["rows"]} == set(rows) - {"mntp + scl"}
    assert set(again["measured"]) == set(found["measured"]) - {"mntp + scl", "metaeol"}
    assert stages.main([*arguments, "--beside", "bm25"]) == 0
    again = json.loads((tmp_path / "study.json").read_text("utf-8"))
    assert set(again["measured"]) == {*found["measured"], "bm25"}
    assert list(again["measured"]["bm25"]["scores"]) == ["scifact"]


def test_nothing_is_begun_after_the_deadline(stages, study_data, backbone_dir, tmp_path, capsys):
    assert stages.main([*call(study_data, tmp_path, backbone_dir), "--minutes", "0"]) == 3
    assert not (tmp_path / "runs").exists()
    assert "run the same command again" in capsys.readouterr().err
    assert not (tmp_path / "study.md").exists()


def test_a_folder_with_a_study_of_other_settings_is_refused(stages, study_data, backbone_dir, tmp_path, capsys):
    arguments = call(study_data, tmp_path, backbone_dir)
    assert stages.main([*arguments, "--minutes", "0"]) == 3
    assert stages.main([*arguments, "--minutes", "0", "--steps", "4"]) == 3  # nothing is kept yet
    (tmp_path / "runs").mkdir()
    assert stages.main([*arguments, "--minutes", "0", "--steps", "4", "--lrs", "1e-4"]) == 3
    capsys.readouterr()
    assert stages.main([*arguments, "--set", "max_length=9"]) == 2
    complaint = capsys.readouterr().err
    assert "holds a study with another steps (was {'adapt': 4" in complaint
    assert "settings (was {" in complaint


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--lrs", "1e-3,fast"], "argument --lrs: invalid learning_rates value: '1e-3,fast'"),
        (["--ks", "a"], "argument --ks: invalid whole_numbers value: 'a'"),
        (["--set", "k=few"], "--set k=few: k is of type int"),
        (["--set", "crop=yes"], "--set crop=yes: crop is true or false"),
        (["--adapters", "continue,typo"], "--adapters continue,typo: must be continue, fresh, or both"),
    ],
)
def test_wrong_values_are_refused(stages, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit):
        stages.main(["--data", str(tmp_path), "--out", str(tmp_path / "out"), *arguments])
    assert message in capsys.readouterr().err


def test_what_cannot_begin_is_one_line(stages, study_data, backbone_dir, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = call(study_data, tmp_path / "file", backbone_dir)
    assert stages.main(arguments) == 1
    assert "file" in capsys.readouterr().err
    nothing = [*call(study_data, tmp_path / "out", backbone_dir), "--arms", "none", "--adapters", "fresh"]
    assert stages.main(nothing) == 2
    assert "nothing to train: --arms none begins with the --chain" in capsys.readouterr().err
    (tmp_path / "out" / "runs").mkdir()
    (tmp_path / "out" / "settings.json").write_text("{")
    assert stages.main(nothing) == 2
    assert "settings.json: damaged" in capsys.readouterr().err


def test_an_interruption_while_encoders_are_measured(stages, study_data, backbone_dir, tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(stages, "grow", lambda _, row, *__: stages.Row("kl", "kl", None, tmp_path))
    monkeypatch.setattr(stages, "measure", interrupted)
    assert stages.main([*call(study_data, tmp_path, backbone_dir), "--arms", "kl"]) == 130
    assert "run the same command again to continue" in capsys.readouterr().err


@pytest.mark.slow
def test_a_sweep_over_the_number_of_memory_tokens(stages, study_data, backbone_dir, tmp_path):
    sweep = ["--arms", "none,kl,mntp", "--ks", "1,2", "--adapters", "continue", "--lrs", "1e-3"]
    assert stages.main([*call(study_data, tmp_path, backbone_dir), *sweep]) == 0
    found = json.loads((tmp_path / "study.json").read_text("utf-8"))
    rows = {row["label"]: row for row in found["rows"]}
    assert set(rows) == {"kl (k=1)", "kl (k=2)", "mntp", "scl", "kl (k=1) + scl", "kl (k=2) + scl", "mntp + scl"}
    for label, row in rows.items():
        k = json.loads((Path(row["run"]) / "run.json").read_text("utf-8"))["k"]
        assert k == (int(label[6]) if "k=" in label else 3)
    merged = {label: found["measured"][label]["merged_scores"] for label in ("kl (k=1)", "kl (k=2)")}
    assert merged["kl (k=1)"] is None  # one vector is its own mean
    assert merged["kl (k=2)"]
