"""TextEncoder: scikit-learn's rules, pipelines, column transformers, data frames."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator

from llm2comp_apps.integrations import sklearn as ours
from llm2comp_apps.integrations.sklearn import TextEncoder

TEXTS = ["cells divide by mitosis", "a cell copies itself", "stars burn hydrogen", "a star is born of gas"] * 3
LABELS = [0, 0, 1, 1] * 3


@pytest.fixture
def loaded(hash_encoder, monkeypatch):
    """The names that encoders were loaded by."""
    names = []

    def load(name, device=None):
        names.append(name)
        return hash_encoder

    monkeypatch.setattr(ours, "load_encoder", load)
    return names


@pytest.mark.filterwarnings("ignore:Can't test estimator TextEncoder")
def test_scikit_learn_checks(loaded):
    """Of its checks those that need no numbers; the rest are passed over for estimators of texts."""
    results = check_estimator(TextEncoder(), on_fail=None)
    failed = [r for r in results if r["status"] == "failed"]
    assert not failed, [(r["check_name"], r["exception"]) for r in failed]
    for check in CHECKS:
        getattr(estimator_checks, check)("TextEncoder", TextEncoder())


CHECKS = (
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


def test_vectors_are_the_encoder_s_own(loaded, hash_encoder):
    documents = TextEncoder().transform(TEXTS)
    np.testing.assert_array_equal(documents, hash_encoder.encode(TEXTS))
    np.testing.assert_array_equal(
        TextEncoder(role="query").fit_transform(TEXTS), hash_encoder.encode(TEXTS, prompt="find: ")
    )
    np.testing.assert_array_equal(TextEncoder(hash_encoder, role=None).transform(np.array(TEXTS)), documents)


def test_it_is_loaded_once(loaded):
    encoder = TextEncoder("some")
    encoder.fit_transform(TEXTS)
    encoder.transform(TEXTS)
    assert loaded == ["some"]
    again = pickle.loads(pickle.dumps(encoder))
    again.transform(TEXTS)
    assert loaded == ["some", "some"]
    encoder.set_params(encoder="other").transform(TEXTS)
    assert loaded[-1] == "other"
    assert clone(encoder).encoder == "other"


def test_pipelines(loaded):
    model = make_pipeline(TextEncoder(), LogisticRegression()).fit(TEXTS, LABELS)
    assert model.score(TEXTS, LABELS) == 1
    search = GridSearchCV(model, {"textencoder__role": ["query", "document"]}, cv=3).fit(TEXTS, LABELS)
    assert search.best_score_ > 0.5


def test_one_column_of_a_table(loaded):
    pandas = pytest.importorskip("pandas")
    table = pandas.DataFrame({"text": TEXTS, "year": range(len(TEXTS))})
    columns = ColumnTransformer([("text", TextEncoder(), "text"), ("year", "passthrough", ["year"])])
    columns.set_output(transform="pandas")
    made = columns.fit_transform(table)
    assert made.shape == (12, 33)
    assert made.columns[0] == "text__textencoder0"
    assert TextEncoder().set_output(transform="pandas").fit_transform(table["text"]).index.equals(table.index)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("a text", "must be a list or a column"),
        (None, "must be a list or a column"),
        ([], "holds no texts"),
        (["a", None], "the one at 1 is a NoneType"),
        (np.array([["a", "b"]]), "one column of texts"),
    ],
)
def test_what_is_no_column_of_texts(loaded, given, message):
    with pytest.raises(ValueError, match=message):
        TextEncoder().fit(given)


def test_an_unknown_role_does_not_leave_the_prompt_out(loaded):
    with pytest.raises(ValueError, match="role must be document, query or None, not 'queries'"):
        TextEncoder(role="queries").transform(TEXTS)
