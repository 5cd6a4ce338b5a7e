"""``llm2comp explain``: what memory vectors hold, of a text and of a document of an index."""

from __future__ import annotations

import dataclasses
import json

import pytest

FAST = ("--tokens", "3", "--beams", "2", "--device", "cpu")


@pytest.mark.filterwarnings("ignore")
def test_a_text_beside_another_with_a_query(cli, tiny_encoder_dir, tmp_path):
    page = tmp_path / "page.html"
    result = cli(
        "explain", "a few words", "--other", "something to learn", "--query", "few", "--html", page, "--json",
        "--encoder", tiny_encoder_dir, *FAST,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    answer = json.loads(result.stdout)
    shown = [text["text"].replace("Ġ", "").replace(" ", "") for text in answer["texts"]]  # as this tokenizer decodes
    assert shown == ["afewwords", "somethingtolearn"]
    assert all(text["other"] and len(text["matches"]) == 4 for text in answer["texts"])
    assert "last stage was not compression" in result.stderr
    assert "What memory holds" in page.read_text()


@pytest.mark.filterwarnings("ignore")
def test_a_document_is_read_from_its_stored_memory(cli, tiny_encoder_dir, write_corpus):
    cli("index", "build", write_corpus(4), "--memory", "--encoder", tiny_encoder_dir, "--device", "cpu")
    result = cli("explain", "--id", "stars-1", "--json", *FAST)
    assert result.exit_code == 0, result.stderr
    (text,) = json.loads(result.stdout)["texts"]
    assert text["text"].replace("Ġ", "").replace(" ", "").startswith("StarsStarsareborn")
    shown = cli("explain", "--id", "stars-1", *FAST)
    assert "vector 3:" in shown.stdout
    assert "greedy:" in shown.stdout


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [4, 3])
def test_memory_of_another_encoder_is_not_read(cli, tiny_encoder_dir, write_corpus, tmp_path, k):
    from llm2comp_apps import LLM2Comp
    from llm2comp_apps.encoder.network import CompressionNetwork

    other = tmp_path / "other"
    encoder = LLM2Comp.from_pretrained(str(tiny_encoder_dir), device="cpu")
    network = CompressionNetwork.fresh(encoder.network.lm, k)
    network.memory_tokens.data.mul_(-1)
    settings = dataclasses.replace(encoder.settings, k=k, name="other")
    LLM2Comp(network, encoder.tokenizer, settings).save_pretrained(other)
    cli("index", "build", write_corpus(4), "--memory", "--encoder", tiny_encoder_dir, "--device", "cpu")
    result = cli("explain", "--id", "stars-1", "--encoder", other, "--json", *FAST)
    assert result.exit_code == 0, result.stderr
    assert "the index holds memory vectors of another encoder" in result.stderr
    text = "Stars Stars are born in clouds of gas. A star burns hydrogen for most of its life."
    alone = cli("explain", text, "--encoder", other, "--json", *FAST)
    assert result.stdout == alone.stdout


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([" "], "TEXT is empty"),
        (["a few", "--other", ""], "--other is empty"),
        (["a few", "--query", ""], "--query is empty"),
        (["a \udcff few"], "TEXT must be valid Unicode, but has half a surrogate pair (\\udcff)"),
        (["a few", "--query", "\udcff"], "--query must be valid Unicode"),
        (["a few", "--index", "some.index"], "--index: a text is no document of an index; leave it out"),
    ],
)
def test_what_cannot_be_explained_is_one_line(cli, tiny_encoder_dir, arguments, message):
    result = cli("explain", *arguments, "--encoder", tiny_encoder_dir, *FAST)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Error: TEXT is missing: a text, or --id for one of an index"),
        (["a text", "--id", "x"], "Error: TEXT has no effect with --id, whose own text is read; give one of the two"),
        (["--id", "nothing"], "--id names 'nothing', which"),
        (["text", "--encoder", "baseline:lt"], "--encoder must be a checkpoint of ours"),
        (["text", "--beams", "0"], "--beams must be at least 1, not 0"),
        # Before an encoder is looked for.
        (["text", "--tokens", "0", "--encoder", "baseline:lt"], "--tokens must be at least 1, not 0"),
        (["text", "--query", " ", "--encoder", "baseline:lt"], "--query is empty"),
    ],
)
def test_wrong_calls_are_one_line(cli, encoders, write_corpus, arguments, message):
    cli("index", "build", write_corpus(4))
    result = cli("explain", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stdout == ""


def test_what_is_written_with_line_breaks_stands_in_a_line(capsys):
    from llm2comp_apps.cli.ui.explanation import show_explanations
    from llm2comp_apps.encoder.decoding import Explanation

    show_explanations([Explanation(text="a", tokens=[], written="one\n\ntwo", beam=".\n\nThe", vectors=[])])
    assert [line for line in capsys.readouterr().out.splitlines() if line][1:] == ["greedy: one two", "beam:   . The"]
