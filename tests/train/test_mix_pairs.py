"""``train/studies/mix_pairs.py``: every pair begins one of its sources, no source outweighs the others."""

import json
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

PROGRAM = Path(__file__).parents[2] / "train" / "studies" / "mix_pairs.py"


@pytest.fixture
def run(capsys):
    """The program inside this process: its exit code, and what it complains of."""
    main = runpy.run_path(str(PROGRAM))["main"]

    def go(*arguments):
        try:
            main([str(each) for each in arguments])
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        return SimpleNamespace(returncode=code, stderr=f"{code if code else ''}\n{capsys.readouterr().err}")

    return go


def test_it_is_a_program_and_complains_before_anything_large_is_imported(tmp_path):
    show = "import runpy, sys; sys.argv[0] = sys.argv.pop(1)\n"
    show += "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
    show += "finally: print(*{'torch', 'sklearn', 'transformers'} & {*sys.modules})"
    command = [sys.executable, "-c", show, PROGRAM, tmp_path / "gone.jsonl", "--out", tmp_path / "mixed"]
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 1
    assert failed.stderr.startswith("Error: ")
    assert "gone.jsonl: no such file" in failed.stderr
    assert failed.stdout == "\n"


def test_pairs_of_all_files_are_cut_and_shuffled_together(run, tmp_path):
    sources = []
    for name, count in (("paraphrase_a", 90), ("questions", 70), ("few", 5)):
        rows = [{"query": f"{name} {n} " + "word " * 40, "positive": f"{name} {n} answer"} for n in range(count)]
        sources.append(tmp_path / f"{name}.jsonl")
        sources[-1].write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ["--rows", "20", "--more-of", "paraphrase_*", "--more-rows", "40", "--words", "7", "--files", "2"]
    texts = []
    for out in ("mixed", "again"):
        assert run(*sources, "--out", tmp_path / out, *options).returncode == 0
        texts.append([file.read_text(encoding="utf-8") for file in sorted((tmp_path / out).iterdir())])
    assert texts[0] == texts[1]
    files = [[json.loads(line) for line in text.splitlines()] for text in texts[0]]
    assert [len(rows) for rows in files] == [33, 32]
    pairs = [(row["query"].split(), row["positive"].split()) for rows in files for row in rows]
    assert all(len(query) == 7 and query[:2] == positive[:2] for query, positive in pairs)
    assert len({tuple(query[:2]) for query, _ in pairs}) == 65
    names = [query[0] for query, _ in pairs]
    assert {name: names.count(name) for name in names} == {"paraphrase_a": 40, "questions": 20, "few": 5}
    assert len(set(names[:20])) > 1


def test_topics_hold_all_pairs_each_with_its_neighbours(run, tmp_path, tiny_encoder_dir):
    source = tmp_path / "pairs.jsonl"
    subjects = ("aaa aaa aaa", "zebra stripes zebra", "12 34 56 78")
    rows = [{"query": f"{subjects[n % 3]} {n}", "positive": f"answer {n}"} for n in range(60)]
    source.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    options = ["--topics", "3", "--encoder", tiny_encoder_dir]
    parts = []
    for out in ("topics", "again"):
        made = run(source, "--out", tmp_path / out, *options)
        assert made.returncode == 0, made.stderr
        parts.append({file.name: file.read_text(encoding="utf-8") for file in sorted((tmp_path / out).iterdir())})
    assert parts[0] == parts[1]
    assert list(parts[0]) == ["topic_000.jsonl", "topic_001.jsonl", "topic_002.jsonl"]
    files = [[json.loads(line)["query"] for line in text.splitlines()] for text in parts[0].values()]
    assert sorted(query for queries in files for query in queries) == sorted(row["query"] for row in rows)
    assert [len({query[:3] for query in queries}) for queries in files] == [1, 1, 1]
    refused = run(source, "--out", tmp_path / "many", "--topics", "61", "--encoder", tiny_encoder_dir)
    assert refused.returncode
    assert "--topics 61: there are 60 pairs only" in refused.stderr
    assert not (tmp_path / "many").exists()
    nothing = run(source, "--out", tmp_path / "many", "--topics", "3", "--encoder", "bm25")
    assert nothing.returncode
    assert "encoder bm25: not a directory" in nothing.stderr
    stale = run(source, "--out", tmp_path / "topics", "--topics", "2", "--encoder", tiny_encoder_dir)
    assert stale.returncode
    assert "holds files already" in stale.stderr
    assert len(list((tmp_path / "topics").iterdir())) == 3


def test_what_cannot_be_mixed_is_named_in_one_line(run, tmp_path):
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"query": "who"}\n', encoding="utf-8")
    for arguments, message in (
        ([tmp_path / "gone.jsonl"], "gone.jsonl: no such file"),
        ([broken], "broken.jsonl:1: the field 'positive' is not there"),
        ([broken, broken], "two data files are called broken.jsonl"),
        ([broken, "--rows", "0"], "argument --rows: '0' is no number from 1 on"),
        ([broken, "--more-rows", "many"], "argument --more-rows: 'many' is no number from 1 on"),
        ([broken, "--seed", "-1"], "argument --seed: '-1' is no number from 0 on"),
        ([broken, "--topics", "2", "--files", "2"], "argument --files: not allowed with argument --topics"),
    ):
        failed = run(*arguments, "--out", tmp_path / "mixed")
        assert failed.returncode
        assert message in failed.stderr
        assert not (tmp_path / "mixed").exists()
