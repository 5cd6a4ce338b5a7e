"""Which prompt goes in front of which text."""

from __future__ import annotations

import numpy as np
import pytest

from llm2comp_apps.errors import UsageError
from llm2comp_apps.evaluation import evaluate, load_suite
from llm2comp_apps.evaluation.prompts import Prompts, parse_prompts, resolve_prompts

TEMPLATE = {"instruction": "{instruction}:\n", "query": "q: "}
CLAIM = "Given a scientific claim, retrieve documents that support or refute the claim"


@pytest.mark.parametrize(
    ("task", "category", "prompts", "mode", "expected"),
    [
        ("scifact", "Retrieval", {}, "auto", Prompts()),
        ("scifact", "Retrieval", {"query": "q: ", "document": "d: "}, "auto", Prompts("q: ", "d: ")),
        ("scifact", "Retrieval", TEMPLATE, "auto", Prompts(f"{CLAIM}:\n")),
        ("scifact:train", "Retrieval", TEMPLATE, "auto", Prompts(f"{CLAIM}:\n")),
        ("scifact", "Retrieval", {}, "task", Prompts(f"{CLAIM}:\n")),
        ("scifact", "Retrieval", TEMPLATE, "none", Prompts()),
        ("mine", "STS", TEMPLATE, "auto", Prompts("Retrieve semantically similar text:\n")),
        ("mine", "STS", {"query": "q: "}, "auto", Prompts()),
        ("mine", "STS", {"sts": "same? "}, "auto", Prompts("same? ")),
    ],
)
def test_resolution(task, category, prompts, mode, expected):
    assert resolve_prompts(task, category, prompts, mode) == expected


def test_an_override_wins_and_the_task_before_its_category():
    overrides = {"Retrieval": "find ", "scifact": "prove "}
    assert resolve_prompts("scifact:train", "Retrieval", TEMPLATE, "none", overrides) == Prompts("prove ")
    assert resolve_prompts("cacm", "Retrieval", TEMPLATE, "auto", overrides) == Prompts("find ")
    assert resolve_prompts("cacm", "Retrieval", TEMPLATE, "auto", {"cacm": ""}) == Prompts()


def test_queries_are_told_the_task_and_documents_nothing(data, collapsed):
    seen = {}

    def encode(texts, *, prompt=None, show_progress=False):
        seen.setdefault(prompt, []).extend(texts)
        return np.eye(8, dtype=np.float32)[[len(text) % 8 for text in texts]]

    collapsed.encode = encode
    collapsed.prompts = TEMPLATE
    results = evaluate(collapsed, load_suite("offline", data, ["library", "likeness"]))
    assert seen.keys() == {None, "Retrieve text based on user query:\n", "Retrieve semantically similar text:\n"}
    assert len(seen[None]) == 40
    assert len(seen["Retrieve text based on user query:\n"]) == 4
    assert len(seen["Retrieve semantically similar text:\n"]) == 60
    assert results[0].prompts == {"query": "Retrieve text based on user query:\n", "document": ""}


def test_prompts_as_people_write_them():
    assert parse_prompts(["STS=as\\n", "a=b=c"]) == {"STS": "as\n", "a": "b=c"}
    for item in ("oops", "=text"):
        with pytest.raises(UsageError, match="write TASK=TEXT") as error:
            parse_prompts([item])
        assert error.value.field == "prompt_overrides"
