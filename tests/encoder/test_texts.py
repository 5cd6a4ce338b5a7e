"""What is no list of texts is an error, and never a vector of something else."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from llm2comp_apps.encoder import load_encoder
from llm2comp_apps.encoder.batching import encode_in_windows
from llm2comp_apps.encoder.texts import list_of_texts
from llm2comp_apps.errors import UsageError

pandas = pytest.importorskip("pandas")
TEXTS = ["Cells divide.", "Bread rises."]


@pytest.mark.parametrize(
    "kind", [list, tuple, deque, np.array, pandas.Series, lambda texts: np.array(texts, object), iter]
)
def test_one_column_of_texts_is_a_list(kind):
    found = list_of_texts(kind(TEXTS))
    assert found == TEXTS
    assert isinstance(found, list)
    assert list_of_texts(kind([])) == []


@pytest.mark.parametrize(
    ("texts", "line"),
    [
        ("Cells divide.", r"texts must be a list of texts; put a single text into a list: \[text\]"),
        (b"Cells divide.", "put a single text into a list"),
        (None, "texts must be a text or a list of texts, not None"),
        (7, "must be a list of texts, not a int"),
        (dict.fromkeys(TEXTS), "not a dict"),
        ({"text": TEXTS}.keys(), "not a dict_keys"),
        (set(TEXTS), "not a set"),
        (["Cells divide.", "a\ud800b"], r"must be valid Unicode, but the one at position 1 has half a .* \(\\ud800\)"),
        (["\udfff"], r"position 0 has half a surrogate pair \(\\udfff\)"),
        (pandas.DataFrame({"text": TEXTS}), r"not a table \(DataFrame\); choose one of its columns"),
        (np.array([TEXTS]), r"not a table \(ndarray\)"),
        (list(zip(TEXTS, TEXTS, strict=True)), "the one at position 0 is a tuple"),
        (["a", None], "the one at position 1 is None"),
        (pandas.Series(["a", "b", float("nan")], dtype=object), "the one at position 2 is nan"),
        ([1, "a"], "the one at position 0 is 1"),
        (["a", b"b"], "the one at position 1 is a bytes"),
    ],
)
def test_everything_else_is_refused(texts, line):
    with pytest.raises(UsageError, match=line) as caught:
        list_of_texts(texts)
    assert caught.value.field == "texts"


@pytest.mark.parametrize("name", ["{}", "baseline:lt@{}/../backbone"])
def test_encoders_refuse_tables(tiny_encoder_dir, name):
    encoder = load_encoder(name.format(tiny_encoder_dir), device="cpu")
    table = pandas.DataFrame({"text": [*TEXTS, "Cats sleep."]})
    with pytest.raises(UsageError, match=r"not a table \(DataFrame\)"):
        encoder.encode(table)
    np.testing.assert_array_equal(encoder.encode(table["text"]), encoder.encode(list(table["text"])))
    with pytest.raises(UsageError, match="put a single text into a list"):
        next(encoder.encode_stream("Cells divide."))


def test_a_stream_is_not_one_text():
    with pytest.raises(UsageError, match="put a single text into a list"):
        list(encode_in_windows("text", 2, lambda held: np.zeros((len(held), 1), np.float32)))
