"""``llm2comp index ...`` with a stand-in encoder."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import pytest
from llm2comp_indexes import Index

from llm2comp_apps.cli.ui.log import describe_index_device
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.retrieval.gpus import index_device


@pytest.fixture
def built(cli, encoders, write_corpus):
    """An index of eight documents, ``corpus.index`` in the working directory."""
    corpus = write_corpus(8)
    assert cli("index", "build", corpus).exit_code == 0
    return corpus.with_suffix(".index")


def test_build_writes_beside_the_corpus_and_says_so_on_stderr_only(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    result = cli("index", "build", corpus)
    assert (result.exit_code, result.stdout) == (0, "")
    assert "8 documents from 1 file" in result.stderr
    assert "corpus.index: 8 documents added (8 vectors), 0 unchanged" in result.stderr
    assert len(Index.open(corpus.with_suffix(".index"))) == 8
    assert encoders.loaded == ["default"]


def test_build_reports_as_json(cli, encoders, write_corpus, tmp_path):
    report = json.loads(cli("index", "build", write_corpus(8), "-o", "x.index", "--json").stdout)
    assert (report["index"], report["read"], report["added"], report["interrupted"]) == ("x.index", 8, 8, False)


def test_build_again_adds_only_what_is_new_or_changed(cli, built, encoders, write_corpus):
    before = encoders["default"].calls
    changed = write_corpus(10, **{"stars-1": "Stars are far away."})
    result = cli("index", "build", changed)
    assert "2 documents added, 1 replaced (3 vectors), 7 unchanged" in result.stderr
    assert "Replaced: stars-1" in result.stderr
    assert "7 unchanged" in result.stderr
    assert encoders["default"].calls == before + 3
    assert len(Index.open(built)) == 10


def test_documents_that_left_the_corpus_stay_and_are_counted(cli, built, encoders, write_corpus):
    result = cli("index", "build", write_corpus(6))
    assert "2 documents of the index are not in this corpus; they stay: " in result.stderr
    assert "(--prune removes them)" in result.stderr
    assert len(Index.open(built)) == 8


def test_build_from_standard_input_needs_a_place(cli, encoders):
    record = json.dumps({"_id": "a", "text": "some text"}) + "\n"
    assert cli("index", "build", "-", input=record).exit_code == 2
    result = cli("index", "build", "-", "-o", "x.index", input=record)
    assert result.exit_code == 0
    assert "1 documents added" in result.stderr


def test_several_corpora_need_a_place(cli, encoders, write_corpus):
    paths = [write_corpus(2, "a.jsonl"), write_corpus(4, "b.jsonl")]
    result = cli("index", "build", *paths)
    assert result.exit_code == 2
    assert "--output is needed" in result.stderr


def test_a_missing_corpus_is_told_before_anything_is_loaded(cli, encoders):
    result = cli("index", "build", "nothing.jsonl")
    assert result.exit_code == 1
    assert "nothing.jsonl" in result.stderr
    assert encoders.loaded == []


def test_a_broken_corpus_leaves_no_index(cli, encoders, write_corpus, tmp_path):
    corpus = write_corpus(8)
    with corpus.open("a") as file:
        file.write("{broken\n")
    result = cli("index", "build", corpus)
    assert result.exit_code == 1
    assert "corpus.jsonl:9:" in result.stderr
    assert not corpus.with_suffix(".index").exists()
    assert encoders["default"].calls == 0
    skipping = cli("index", "build", corpus, "--on-error", "skip")
    assert skipping.exit_code == 0
    assert "corpus.jsonl:9:" in skipping.stderr
    assert len(Index.open(corpus.with_suffix(".index"))) == 8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--kind", "hnws"],
            "kind 'hnws': FAISS cannot make it for width 32: could not parse index string hnws; kinds",
        ),
        (["--kind", "PQ7"], "kind 'PQ7': FAISS cannot make it for width 32: The dimension of the vector (d) should be"),
    ],
)
def test_a_kind_that_cannot_be_is_told_before_anything_is_encoded(cli, encoders, write_corpus, options, message):
    corpus = write_corpus()
    result = cli("index", "build", corpus, *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not corpus.with_suffix(".index").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--target-recall", "2"], "--target-recall must lie above 0 and be at most 1, not 2"),
        (["--language", "klingon"], "--language must be none or one of arabic, danish, dutch, english,"),
        (["-o", "corpus.jsonl"], "--output corpus.jsonl is a file, not an index"),
    ],
)
def test_wrong_settings_are_told_before_a_model_and_the_corpus_are_read(cli, encoders, write_corpus, options, message):
    corpus = write_corpus()
    corpus.write_text("broken, which nobody is to find out\n")
    result = cli("index", "build", corpus, *options)
    assert (result.exit_code, encoders.loaded) == (2, [])
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_every_language_that_is_offered_can_be_stemmed():
    from llm2comp_apps.retrieval.settings import LANGUAGES, IndexSettings

    for language in (*LANGUAGES, "none"):
        assert IndexSettings(language=language).language == language


def test_a_file_is_no_index(cli, built):
    for command in (("index", "info", "corpus.jsonl"), ("search", "cells", "--index", "corpus.jsonl")):
        result = cli(*command)
        assert result.exit_code == 2
        assert "is a file, not an index" in result.stderr


def test_another_kind_for_an_index_that_is_there_is_a_matter_of_compact(cli, built, write_corpus):
    result = cli("index", "build", write_corpus(8), "--kind", "hnsw")
    assert result.exit_code == 2
    assert "--kind differs" in result.stderr
    assert f"llm2comp index compact {built} changes it" in result.stderr
    result = cli("index", "build", write_corpus(8), "--max-ram", "64")
    assert "--max-ram differs" in result.stderr
    assert cli("index", "compact", built, "--target-recall", "2").exit_code == 2


def test_fields_are_chosen_by_options(cli, encoders, tmp_path):
    (tmp_path / "rows.csv").write_text("key,heading,words,lang\n1,One,first words,en\n2,Two,second words,de\n")
    options = ["--id-field", "key", "--title-field", "heading", "--text-field", "words"]
    assert cli("index", "build", "rows.csv", *options).exit_code == 0
    document = Index.open("rows.index").get(["2"])[0]
    assert (document.title, document.text, document.metadata) == ("Two", "second words", {"lang": "de"})


def test_an_index_of_another_encoder_is_refused_by_name(cli, built, encoders, write_corpus):
    result = cli("index", "build", write_corpus(8), "--encoder", "other")
    assert result.exit_code == 1
    assert "built with the encoder hash " in result.stderr
    assert "hashother" in result.stderr


def test_building_on_needs_the_same_chunks(cli, built, encoders, write_corpus):
    result = cli("index", "build", write_corpus(8), "--chunk", 64)
    assert result.exit_code == 2
    assert "without --chunk" in result.stderr


def test_chunks_and_memory_are_kept_in_the_settings(cli, encoders, write_corpus):
    corpus = write_corpus(8)
    assert cli("index", "build", corpus, "--chunk", 16, "--overlap", 4, "--memory").exit_code == 0
    index = Index.open(corpus.with_suffix(".index"))
    assert (index.settings["chunk"], index.settings["overlap"], index.settings["memory"]) == (16, 4, True)
    assert index.memory_tokens == 4
    again = cli("index", "build", corpus)
    assert "0 documents added" in again.stderr


def test_documents_longer_than_the_encoder_reads_are_counted_once(cli, tiny_encoder_dir, write_corpus):
    long = "many words that make a text too long to be read whole " * 10
    corpus = write_corpus(8, **{"cells-0": long, "stars-5": long})
    options = ("--encoder", tiny_encoder_dir)
    result = cli("index", "build", corpus, *options, "--json")
    told = "2 documents are longer than 128 tokens; only their beginnings were read by meaning: --chunk 64 reads all\n"
    assert result.stderr.count(told) == 1
    assert json.loads(result.stdout)["truncated"] == 2
    assert "longer than" not in cli("index", "build", corpus, *options).stderr
    result = cli("index", "build", corpus, *options, "--chunk", "64", "-o", "chunked.index", "--json")
    assert "longer than" not in result.stderr
    assert json.loads(result.stdout)["truncated"] == 0


def test_chunks_that_the_encoder_cannot_read_whole_are_refused(cli, tiny_encoder_dir, write_corpus):
    result = cli("index", "build", write_corpus(4), "--encoder", tiny_encoder_dir, "--chunk", "129")
    assert result.exit_code == 2
    assert "--chunk must be at most 128, not 129: the encoder tiny reads 128 tokens" in result.stderr
    assert result.stderr.count("\n") == 1
    assert cli("index", "build", "corpus.jsonl", "--encoder", tiny_encoder_dir, "--chunk", "128").exit_code == 0


def test_a_plain_llm_is_an_encoder_that_the_index_remembers(cli, tiny_encoder_dir, write_corpus, monkeypatch, tmp_path):
    backbone = tiny_encoder_dir.parent / "backbone"
    advised = cli("index", "build", write_corpus(8), "--encoder", backbone)
    assert advised.exit_code == 1
    name = f"baseline:prompteol@{backbone}"
    assert f": {name}\n" in advised.stderr
    monkeypatch.chdir(backbone.parent)
    built = cli("index", "build", tmp_path / "corpus.jsonl", "--encoder", "baseline:prompteol@backbone")
    assert built.exit_code == 0, built.stderr
    monkeypatch.chdir(tmp_path)
    assert Index.open("corpus.index").encoder["source"] == name
    hits = json.loads(cli("search", "cells divide", "--mode", "dense", "-k", "3", "--json").stdout)["hits"]
    assert len(hits) == 3
    assert cli("index", "build", "corpus.jsonl", "--encoder", "baseline:lt@", "-o", "x.index").exit_code == 2


def test_an_empty_directory_is_as_good_as_none(cli, encoders, write_corpus, tmp_path):
    (tmp_path / "made.index").mkdir()
    assert cli("index", "build", write_corpus(4), "-o", "made.index").exit_code == 0
    assert len(Index.open("made.index")) == 4


def test_a_directory_that_is_no_index_is_left_alone(cli, encoders, write_corpus, tmp_path):
    (tmp_path / "corpus.index").mkdir()
    (tmp_path / "corpus.index" / "precious.txt").write_text("mine")
    result = cli("index", "build", write_corpus(4))
    assert result.exit_code == 1
    assert "not an index" in result.stderr
    assert (tmp_path / "corpus.index" / "precious.txt").read_text() == "mine"


def test_an_index_remembers_the_encoder_s_directory_wherever_it_is_searched_from(
    cli, encoders, write_corpus, tmp_path, monkeypatch
):
    (tmp_path / "my-encoder").mkdir()
    encoders["my-encoder"] = encoders[str(tmp_path / "my-encoder")] = encoders["other"]
    assert cli("index", "build", write_corpus(4), "--encoder", "my-encoder").exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert cli("search", "cells", "--index", "../corpus.index").exit_code == 0
    assert encoders.loaded == ["my-encoder", str(tmp_path / "my-encoder")]


def test_a_moved_encoder_is_asked_for(cli, built, encoders, monkeypatch):
    def fail(name, device=None):
        raise EncoderError(f"no encoder at {name}")

    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", fail)
    result = cli("search", "cells")
    assert result.exit_code == 1
    assert "no encoder at default" in result.stderr
    assert "--encoder" in result.stderr


def test_add_uses_the_recipe_of_the_index(cli, encoders, write_corpus):
    corpus = write_corpus(4)
    cli("index", "build", corpus, "--chunk", 16, "-o", "x.index")
    more = write_corpus(12, "more.jsonl")
    result = cli("index", "add", "x.index", more)
    assert "8 documents added" in result.stderr
    assert "4 unchanged" in result.stderr
    index = Index.open("x.index")
    assert len(index) == 12
    assert any(document.spans for document in index.get(list(index.ids())))


def test_add_needs_an_index(cli, encoders, write_corpus):
    result = cli("index", "add", "nothing.index", write_corpus(4))
    assert result.exit_code != 0
    assert "nothing.index" in result.stderr


def test_info_has_the_promised_fields(cli, built):
    facts = json.loads(cli("index", "info", built, "--json").stdout)
    assert facts["documents"] == 8
    assert facts["dimension"] == 32
    assert facts["encoder"]["name"] == "hash"
    assert facts["kind"] == "flat"
    assert facts["bytes"] >= sum(path.stat().st_size for path in built.rglob("*") if path.is_file()) > 8 * 32 * 2
    shown = cli("index", "info")  # the only index here
    assert "documents" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_what_the_line_about_damage_advises_mends_it(cli, encoders, write_corpus):
    corpus, index = write_corpus(), Path("corpus.index")
    assert cli("index", "build", corpus).exit_code == 0
    (vectors,) = index.rglob("vectors.f16")
    vectors.write_bytes(b"x" + vectors.read_bytes()[1:])
    refused = cli("search", "cells", "--mode", "dense")
    assert (refused.exit_code, cli("index", "verify").exit_code) == (1, 1)
    assert "remove the index and build it again" in " ".join(refused.stderr.split())
    shutil.rmtree(index)
    assert cli("index", "build", corpus).exit_code == 0
    assert cli("index", "verify").exit_code == 0


def test_verify_is_silent_about_a_sound_index_and_names_a_damaged_file(cli, built):
    sound = cli("index", "verify", built)
    assert (sound.exit_code, sound.stdout) == (0, "")
    victim = next((built / "segments").rglob("vectors*"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    damaged = cli("index", "verify", built)
    assert damaged.exit_code == 1
    assert victim.name in damaged.stdout
    listed = json.loads(cli("index", "verify", built, "--json").stdout)
    assert [entry["file"] for entry in listed["damaged"]] == [str(victim.relative_to(built))]


def test_delete_by_id_and_by_condition(cli, built):
    result = cli("index", "delete", built, "--id", "cells-0", "--id", "nobody")
    assert result.exit_code == 0
    assert "1 documents deleted" in result.stderr
    assert "1 of the ids" in result.stderr
    assert "4 documents deleted" in cli("index", "delete", built, "--where", "year >= 2004", "--yes").stderr
    assert set(Index.open(built).ids()) == {"stars-1", "bread-2", "ships-3"}
    assert cli("search", "cells divide", "--mode", "lexical").stdout == ""


def test_delete_refuses_a_field_that_no_document_has(cli, built):
    """``yaer != 2020`` is true of every document."""
    result = cli("index", "delete", built, "--where", "yaer != 2020", "--yes")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "'yaer', did you mean 'year'? (there are: _id, title, year)" in result.stderr
    assert len(Index.open(built)) == 8


def test_delete_of_most_documents_needs_a_word(cli, built, monkeypatch):
    doomed = ("index", "delete", built, "--where", "year > 2002")
    refused = cli(*doomed)
    assert refused.exit_code == 2
    assert "5 of the 8 documents" in refused.stderr
    assert "--yes" in refused.stderr
    monkeypatch.setattr("llm2comp_apps.cli.index.is_terminal", lambda stream: True)
    assert cli(*doomed, input="n\n").exit_code == 1
    assert len(Index.open(built)) == 8
    assert cli(*doomed, input="y\n").exit_code == 0
    assert len(Index.open(built)) == 3


def test_half_of_the_documents_go_unasked(cli, built):
    assert cli("index", "delete", built, "--where", "year >= 2004").exit_code == 0
    assert len(Index.open(built)) == 4


def test_arguments_that_are_no_text_are_refused_in_one_line(cli, built):
    for option, value in (("--id", "\udcff"), ("--where", "year = '\udcff'")):
        result = cli("index", "delete", built, option, value)
        assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
        assert f"{option} is not valid UTF-8" in result.stderr


def test_delete_needs_to_be_told_what(cli, built):
    assert cli("index", "delete", built).exit_code == 2
    assert len(Index.open(built)) == 8


def test_compact_keeps_the_content_and_drops_the_rest(cli, built):
    cli("index", "delete", built, "--where", "year >= 2002", "--yes")
    result = cli("index", "compact", built)
    assert result.exit_code == 0
    index = Index.open(built)
    assert set(index.ids()) == {"cells-0", "stars-1"}
    assert (index.info().vectors, index.info().deleted) == (2, 0)
    assert index.verify() == []


def test_a_second_writer_gets_a_line(cli, built, write_corpus):
    with Index.open(built).writer():
        result = cli("index", "delete", built, "--id", "cells-0")
    assert result.exit_code == 1
    assert "writing to this index" in result.stderr


def test_without_a_gpu_for_faiss_the_index_works_on_the_cpu_and_says_so(cli, built):
    result = cli("index", "compact", built, "--device", "cuda")
    assert result.exit_code == 0
    assert "FAISS sees no GPU" in result.stderr


def test_with_a_gpu_for_faiss_its_log_is_told(monkeypatch, capsys):
    monkeypatch.setattr("llm2comp_indexes.gpu_count", lambda: 1)
    logger = logging.getLogger("llm2comp_indexes")
    monkeypatch.setattr(logger, "handlers", [])
    assert [index_device(device) for device in (None, "cpu", "cuda", "cuda:1")] == ["cpu", "cpu", "cuda", "cuda"]
    describe_index_device("cpu")
    assert logger.handlers == []
    describe_index_device("cuda:1")
    logger.info("k-means runs on 1 GPU(s)")
    assert capsys.readouterr().err == "k-means runs on 1 GPU(s)\n"
    logger.setLevel(logging.NOTSET)


def test_an_index_is_looked_into(cli, encoders, write_corpus, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    corpus = write_corpus(8)
    index = corpus.with_suffix(".index")
    assert cli("index", "build", corpus, "-o", index).exit_code == 0
    shown = cli("index", "show", index, "cells-0")
    assert "Cells" in shown.stdout.splitlines()[0]
    assert json.loads(cli("index", "show", index, "cells-0", "--json").stdout)["id"] == "cells-0"
    assert "'no' is not the id" in cli("index", "show", index, "no").stderr
    assert index.name in cli("index", "list", index.parent).stdout
    (row,) = json.loads(cli("index", "list", index.parent, "--json").stdout)["indexes"]
    assert row["documents"] == 8
    facts = json.loads(cli("index", "info", index, "--json").stdout)
    assert facts["documents"] == 8
    assert isinstance(facts["fields"], list)
    (tmp_path / "empty").mkdir()
    assert "holds no *.index folder" in cli("index", "list", tmp_path / "empty").stderr
