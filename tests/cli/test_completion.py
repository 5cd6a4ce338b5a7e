"""The shell completes the values of options: of every option that has a set of values, and of what lies in folders."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
import typer

from llm2comp_apps.cli.completion import VALUES
from llm2comp_apps.cli.main import app

# Whatever people write themselves, or the shell's own completion finds: files and folders.
OPEN = {
    "against", "allow_hosts", "api_key", "context", "cors", "document", "html", "id_field", "ids", "job", "layers",
    "like", "host", "lora_targets", "name", "other", "prompt_overrides", "query", "query_prompt", "repo", "shard_key",
    "shards", "symmetric", "text_field", "title_field", "watch", "train.instructions", "train.data", "prune.data",
    "output",
}  # fmt: skip


def takes_text(parameter):
    described = getattr(parameter, "type_descriptor", None)  # of newer versions of typer
    return parameter.type.name == "text" if described is None else "str" in str(described.annotation)


def options():
    """Every option of every command that takes text, as ``command path, parameter``."""

    def walk(command, path):
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*path, name))
        for parameter in command.params:
            if parameter.param_type_name == "option" and not parameter.is_flag and takes_text(parameter):
                yield path, command, parameter

    yield from walk(typer.main.get_command(app), ())


ALL = [
    pytest.param(command, parameter, id=f"{' '.join(path)} {parameter.name}") for path, command, parameter in options()
]


def offered(command, parameter, begun="", **given):
    context = typer.Context(command, resilient_parsing=True)
    context.params = given
    return [item.value for item in parameter.shell_complete(context, begun)]


def test_there_are_options_to_look_at():
    assert len(ALL) > 60
    used = {f"{command.name}.{parameter.name}" for _, command, parameter in options()}
    used |= {parameter.name for _, _, parameter in options()} | {"init"}  # a path or a name
    assert VALUES.keys() <= used, "an entry that no option has"


@pytest.mark.parametrize(("command", "parameter"), ALL)
def test_an_option_offers_its_values_or_takes_anything(command, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    takes_anything = {parameter.name, f"{command.name}.{parameter.name}"} & OPEN
    dynamic = parameter.name in ("show", "where", "label_field", "time_field", "task", "pairs")
    values = offered(command, parameter)
    assert bool(values) != bool(takes_anything or dynamic), values
    assert len(values) == len(set(values))
    if values:
        assert offered(command, parameter, values[-1][:2]) == [one for one in values if one.startswith(values[-1][:2])]
        assert offered(command, parameter, "no such value") == []


@pytest.mark.parametrize(("command", "parameter"), ALL)
def test_what_help_lists_is_offered(command, parameter):
    """A help text such as "Search by dense (meaning), lexical (words) or hybrid." names values that must be offered."""
    values = offered(command, parameter)
    listed = re.search(
        r": ((?:[a-z][\w-]*(?: \([^)]*\))?, )+[a-z][\w-]*(?: \([^)]*\))? or [a-z][\w-]*)", parameter.help
    )
    for value in re.split(r", | or ", re.sub(r" \([^)]*\)", "", listed[1])) if listed and values else ():
        assert value in values or value == "host"  # host:port stands for an address


@pytest.mark.parametrize(
    ("path", "name", "some"),
    [
        ("train", "stage", {"kl", "scl", "all"}),
        ("train", "recipe", {"smollm2-135m"}),
        ("train", "schedule", {"constant", "linear", "cosine"}),
        ("search", "mode", {"dense", "lexical", "hybrid"}),
        ("search", "format", {"trec", "json"}),
        ("index build", "format", {"auto", "pdf", "jsonl"}),
        ("index build", "language", {"english", "tamil", "none"}),
        ("cluster", "language", {"english", "none"}),
        ("eval run", "suite", {"nano", "poster"}),
        ("eval run", "search", {"hybrid", "rerank"}),
        ("eval run", "encoder", {"default", "bm25", "baseline:lt"}),
        ("export-model", "format", {"onnx", "sentence-transformers"}),
    ],
)
def test_values_of_options(path, name, some):
    (found,) = ((command, each) for at, command, each in options() if " ".join(at) == path and each.name == name)
    assert set(offered(*found)) >= some


def completed(words, folder):
    """What bash would show after these words."""
    environment = {**os.environ, "_LLM2COMP_COMPLETE": "complete_bash", "COMP_WORDS": f"llm2comp {words}"}
    environment["COMP_CWORD"] = str(len(words.split()) + words.endswith(" "))
    code = "import sys; sys.argv[0] = 'llm2comp'; from llm2comp_apps.cli.main import main; main()"
    call = [sys.executable, "-c", code]
    done = subprocess.run(call, capture_output=True, text=True, env=environment, cwd=folder, check=False)
    assert done.stderr == ""
    return done.stdout.split()


def test_fields_of_an_index_are_offered(cli, encoders, tmp_path, monkeypatch):
    rows = [{"_id": f"{n}", "text": f"text {n}", "year": n, "yield": "high"} for n in range(5)]
    (tmp_path / "library.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert cli("index", "build", "library.jsonl").exit_code == 0
    assert completed("search stars --where ye", tmp_path) == ["year"]
    assert completed("search stars --index library.index --show y", tmp_path) == ["year", "yield"]
    assert completed("index delete library.index --where y", tmp_path) == ["year", "yield"]
    assert completed("cluster library.index --label-field yi", tmp_path) == ["yield"]
    assert completed("cluster library.jsonl --time-field ye", tmp_path) == ["year"]
    assert completed("search stars --index none.index --show y", tmp_path) == []


def test_checkpoints_and_tasks_are_offered(tmp_path):
    for folder in ("runs/scl/encoder", "mine"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "encoder.json").write_text("{}")
    assert completed("encode a.jsonl --encoder runs", tmp_path) == ["runs/scl"]
    assert completed("encode a.jsonl --encoder mi", tmp_path) == ["mine"]
    (tmp_path / "data/sts/pets").mkdir(parents=True)
    (tmp_path / "data/sts/pets/test.jsonl").write_text('{"sentence1": "a", "sentence2": "b", "score": 1}\n')
    assert completed("eval run --data data --task p", tmp_path) == ["pets"]
    assert completed("eval analyze --data data --pairs p", tmp_path) == ["pets"]
    assert completed("eval run --task p", tmp_path) == []
