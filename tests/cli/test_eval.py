"""``llm2comp eval`` with stand-in encoders over small datasets."""

from __future__ import annotations

import json
import sys

import pytest

from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.errors import EncoderError


@pytest.fixture
def encoders(monkeypatch, make_hash_encoder):
    """Stand-ins for what ``load_encoder`` would load, by name; packages are looked for as they are."""
    table = {"default": make_hash_encoder()}

    def load(name, backbone=None, device=None):
        if name.startswith("pypi:"):
            return load_encoder(name, backbone=backbone, device=device)
        if name not in table:
            raise EncoderError(f"encoder {name}: not a directory and not one of ours")
        return table[name]

    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", load)
    return table


@pytest.fixture
def data(tmp_path):
    """Three small datasets."""
    root = tmp_path / "data"

    def write(name, rows):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    words = ["cell", "star", "bread", "ship"]
    pairs = [
        {"sentence1": f"a {first} here", "sentence2": f"one {second} there", "score": 5 if first == second else 1}
        for first in words
        for second in words
    ]
    write("sts/stsbenchmark/dev.jsonl", pairs)
    write("sts/stsbenchmark/test.jsonl", pairs)
    write(
        "clustering/words.jsonl", [{"text": f"{word} {number}", "label": word} for word in words for number in range(6)]
    )
    write("retrieval/library/corpus.jsonl", [{"_id": word, "text": f"all of {word}"} for word in words])
    write("retrieval/library/queries.jsonl", [{"_id": f"q-{word}", "text": f"which {word}"} for word in words])
    (root / "retrieval/library/qrels.tsv").write_text("".join(f"q-{word}\t{word}\t1\n" for word in words))
    return root


def test_a_table_of_encoders_baselines_and_bm25(cli, encoders, data, make_hash_encoder):
    encoders["baseline:wmp"] = make_hash_encoder(seed="wmp")
    done = cli(
        "eval", "run", "--data", data, "--encoder", "ours=default", "--baseline", "wmp", "--encoder", "bm25",
        "--against", "baseline:wmp", "-o", "out",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    for word in ("ours", "baseline:wmp", "bm25", "stsbenchmark", "words", "library", "Difference from baseline:wmp"):
        assert word in done.stdout
    assert "ours: library ndcg@10 100.00" in done.stderr
    report = json.loads((data.parent / "out" / "report.json").read_text())
    assert set(report["systems"]) == {"ours", "bm25", "baseline:wmp"}
    assert (data.parent / "out" / "report.md").read_text().startswith("# Evaluation")
    assert "<!doctype html>" in (data.parent / "out" / "report.html").read_text()


def test_eval_alone_is_eval_run_and_goes_on_where_it_stopped(cli, encoders, data):
    call = ("eval", "--suite", "dev", "--data", data, "--encoder", "default", "-o", "out", "--json")
    first = cli(*call)
    assert first.exit_code == 0, first.stderr
    assert "kept" not in first.stderr
    second = cli(*call)
    assert "default: stsbenchmark:dev cosine_spearman" in second.stderr
    assert second.stderr.count("(kept") == 1
    assert "lacks scifact:train" in first.stderr
    tables = [json.loads(result.stdout)["table"] for result in (first, second)]
    assert tables[0] == tables[1]


def test_prompts_are_taken_and_printed(cli, encoders, data):
    done = cli(
        "eval", "--data", data, "--encoder", "default", "--task", "library", "-o", "out",
        "--prompt", "library=find it:\\n",
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    assert "query prompt 'find it:\\n'" in done.stderr
    assert "`find it:⏎`" in (data.parent / "out" / "report.md").read_text()


def test_the_tasks_of_a_suite_can_be_listed(cli, data, monkeypatch):
    monkeypatch.setenv("LLM2COMP_EVAL_DATA", str(data))
    assert cli("eval", "run", "--list").stdout.splitlines() == [
        "Retrieval\tlibrary\tndcg@10", "Clustering\twords\tv_measure", "STS\tstsbenchmark\tcosine_spearman"
    ]  # fmt: skip
    assert json.loads(cli("eval", "run", "--list", "--json").stdout)[0]["task"] == "library"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--encoder", "default"], 2, "--data is missing: the folder of the evaluation data"),
        (["--data", "data"], 2, "nothing to evaluate"),
        (["--data", "nowhere", "--encoder", "default"], 1, "nowhere: no such folder"),
        (["--data", "data", "--encoder", "default", "--task", "wrods"], 1, "no task 'wrods'; there are library"),
        (["--data", "data", "--encoder", "default", "--suite", "big"], 1, "unknown suite 'big'"),
        (["--data", "data", "--encoder", "default", "--prompt", "oops"], 2, "--prompt 'oops': write TASK=TEXT"),
        (
            ["--data", "data", "--encoder", "default", "--instructions", "some"],
            2,
            "--instructions must be one of auto, task, none, not 'some'",
        ),
        (["--data", "data", "--encoder", "default", "--against", "you"], 2, "--against 'you': no such row"),
        (
            ["--data", "data", "--encoder", "default", "--prompt", "wrods=x"],
            2,
            "--prompt wrods=...: no task or category of this run; there are library, stsbenchmark, words, Clustering",
        ),
        (["--data", "data", "--encoder", "default", "--prompt", "Reranking=x"], 2, "--prompt Reranking=...: no task"),
        (
            ["--data", "data", "--encoder", "default", "--encoder", "bm25", "--task", "words"],
            2,
            "bm25 ranks documents and has no embeddings: it can do none of these tasks (words)",
        ),
        (["--data", "data", "--encoder", "pypi:no-such"], 1, "package 'no-such' is not installed"),
    ],
)
def test_a_wrong_call_is_one_line(cli, encoders, data, arguments, code, message):
    done = cli("eval", "run", *arguments)
    assert done.exit_code == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_row_that_cannot_be_loaded_fails_at_the_end_with_the_others_reported(cli, encoders, data):
    done = cli("eval", "--data", data, "--encoder", "pypi:no-such", "--encoder", "default", "-o", "out")
    assert done.exit_code == 1
    assert "stsbenchmark" in done.stdout
    assert "Warning: not evaluated: pypi:no-such" in done.stderr


def test_a_cell_that_fails_is_named_at_the_end_with_the_others_reported(cli, encoders, data):
    with (data / "clustering" / "words.jsonl").open("a") as file:
        file.write('{"text": "ship", "label": [1]}\n')
    done = cli("eval", "--data", data, "--encoder", "default", "-o", "out")
    assert done.exit_code == 1
    assert "default: stsbenchmark cosine_spearman" in done.stderr
    assert "Warning: not evaluated: default, words: " in done.stderr
    assert "words.jsonl:25" in done.stderr
    assert "default, words: " in (data.parent / "out" / "report.md").read_text()


def test_a_table_without_a_single_score_has_no_stray_warning(cli, encoders, data, recwarn):
    (data / "clustering" / "words.jsonl").write_text('{"text": "ship", "label": "ship"}\n')
    done = cli("eval", "--data", data, "--encoder", "default", "--task", "words", "-o", "out")
    assert done.exit_code == 1
    assert done.stderr.count("Warning") == 1
    assert "default, words: needs texts of at least two classes" in done.stderr


@pytest.mark.filterwarnings("always:.*embeddings are computed again")
def test_a_damaged_cache_of_embeddings_costs_a_warning(cli, encoders, data):
    call = ("eval", "--data", data, "--encoder", "default", "-o", "out", "--task", "words", "--json")
    first = cli(*call)
    (path,) = (data.parent / "out" / "embeddings").glob("*.sqlite")
    path.write_bytes(b"no database" * 1000)
    (data.parent / "out" / "results" / "default" / "words.json").unlink()
    again = cli(*call)
    assert again.exit_code == 0, again.stderr
    assert again.stderr.count("Warning") == 1
    assert json.loads(again.stdout)["table"] == json.loads(first.stdout)["table"]


def test_analyze_writes_numbers_and_plots(cli, encoders, data):
    done = cli("eval", "analyze", "--data", data, "--encoder", "default", "-o", "out")
    assert done.exit_code == 0, done.stderr
    assert "effective dimension" in done.stdout
    assert "Poolings of default" in done.stdout
    (study,) = json.loads((data.parent / "out" / "analysis.json").read_text())["studies"]
    assert [result["pooling"] for result in study["poolings"]][-1] == "merge"
    assert {path.name for path in (data.parent / "out").glob("*.png")} == {
        "spectrum.png", "alignment_uniformity.png", "memory_correlation.png", "effect_of_k.png"
    }  # fmt: skip


def test_analyze_without_matplotlib_leaves_out_the_plots(cli, encoders, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    done = cli("eval", "analyze", "--data", data, "--encoder", "default", "-o", "out")
    assert done.exit_code == 0, done.stderr
    assert "Warning: no plots: plots need matplotlib" in done.stderr
    assert "effective dimension" in done.stdout
    assert "wrote out/analysis.json" in done.stderr


def test_analyze_wants_pairs_and_embeddings(cli, encoders, data):
    done = cli("eval", "analyze", "--data", data, "--encoder", "default", "--pairs", "words")
    assert (done.exit_code, "choose an STS set" in done.stderr) == (2, True)
    done = cli("eval", "analyze", "--data", data, "--encoder", "bm25")
    assert (done.exit_code, "bm25: has no embeddings to analyse" in done.stderr) == (1, True)


def test_analyze_keeps_what_it_found_when_another_encoder_is_misspelt(cli, encoders, data):
    done = cli("eval", "analyze", "--data", data, "--encoder", "default", "--encoder", "defualt", "-o", "out")
    assert done.exit_code == 1
    assert "Warning: not analysed: defualt: encoder defualt: not a directory" in done.stderr
    assert "Poolings of default" in done.stdout
    found = json.loads((data.parent / "out" / "analysis.json").read_text())
    assert [study["label"] for study in found["studies"]] == ["default"]
    assert len(found["failures"]) == 1


def test_curve_scores_the_checkpoints_of_a_run(cli, encoders, data, make_hash_encoder):
    run = data.parent / "run"
    for step in (10, 20, 30):
        folder = run / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        (folder / "encoder.json").write_text("{}")
        if step < 30:
            encoders[str(folder)] = make_hash_encoder(seed=str(step))
    done = cli("eval", "curve", run, "--data", data)
    assert done.exit_code == 1, "as eval run and eval analyze end where a row is missing"
    assert "step-10" in done.stdout
    assert "Warning: not scored: step-30" in done.stderr
    points = json.loads((run / "eval" / "curve.json").read_text())["points"]
    assert [point["step"] for point in points] == [10, 20]
    assert (run / "eval" / "curve.png").stat().st_size > 1000
    assert json.loads(cli("eval", "curve", run, "--data", data, "--json").stdout)["points"] == points


def test_a_run_without_checkpoints(cli, data):
    done = cli("eval", "curve", data, "--data", data)
    assert (done.exit_code, "no checkpoint" in done.stderr) == (1, True)


def test_a_run_is_scored(cli, tmp_path):
    (tmp_path / "run").write_text("q1 Q0 d2 1 2.0 t\nq1 Q0 d1 2 1.0 t\nq3 Q0 d1 1 1.0 t\n")
    (tmp_path / "qrels").write_text("q1 0 d1 1\nq2 0 d1 1\n")
    done = cli("eval", "trec", tmp_path / "run", tmp_path / "qrels")
    assert "mrr@10       25.00" in done.stdout
    assert "2 judged queries, 1 of them not in the run; 1 not judged" in done.stderr
    means = json.loads(cli("eval", "trec", tmp_path / "run", tmp_path / "qrels", "--json").stdout)["means"]
    assert means["mrr@10"] == 0.25


def test_searches_are_rows_beside_their_encoder(cli, encoders, data):
    call = ("eval", "--data", data, "--task", "library", "-o", "out")
    done = cli(*call, "--encoder", "default", "--search", "hybrid", "--search", "lexical", "--json")
    assert done.exit_code == 0, done.stderr
    assert set(json.loads(done.stdout)["systems"]) == {"default", "default hybrid search", "lexical search"}
    assert "default hybrid search: library ndcg@10 100.00" in done.stderr
    done = cli(*call, "--encoder", "default", "--search", "rerank")
    assert "default rerank search (memory): library ndcg@10 100.00" in done.stderr
    refused = cli(*call, "--encoder", "default", "--search", "fuzzy")
    assert refused.exit_code == 2
    assert "--search must be one of dense, lexical, hybrid, rerank, not 'fuzzy'" in refused.stderr


def test_an_index_is_a_row(cli, encoders, data):
    assert cli("index", "build", data / "retrieval/library/corpus.jsonl", "-o", "library.index").exit_code == 0
    call = ("eval", "--data", data, "-o", "out", "--index", "library.index", "--search", "lexical")
    done = cli(*call, "--task", "library")
    assert done.exit_code == 0, done.stderr
    assert "library.index lexical search: library ndcg@10 100.00" in done.stderr
