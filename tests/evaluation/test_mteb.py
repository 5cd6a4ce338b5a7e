"""``mteb``: its evaluators on the same arrays say what ours say; our encoder runs as one of its encoders."""

from __future__ import annotations

import logging

import mteb
import numpy as np
import pytest
from mteb._evaluators.retrieval_metrics import calculate_retrieval_scores
from mteb.abstasks.classification import AbsTaskClassification
from mteb.abstasks.pair_classification import AbsTaskPairClassification
from mteb.mocks.mock_tasks.classification import MockClassificationTask
from mteb.mocks.mock_tasks.clustering import MockClusteringTask
from mteb.mocks.mock_tasks.pair_classification import MockPairClassificationTask
from mteb.mocks.mock_tasks.reranking import MockRerankingTask
from mteb.mocks.mock_tasks.retrieval import MockRetrievalTask
from mteb.mocks.mock_tasks.sts import MockSTSTask
from mteb.models.models_protocols import EncoderProtocol

from llm2comp_apps.errors import EvaluationError
from llm2comp_apps.evaluation import evaluate, mteb_bridge
from llm2comp_apps.evaluation.datasets import ClusteringData, LabelledData, PairData, RetrievalData
from llm2comp_apps.evaluation.mteb_bridge import POSTER, MtebEncoder, poster_tasks, wrap_task
from llm2comp_apps.evaluation.tasks import ClassificationTask, ClusteringTask, PairClassificationTask, StsTask
from llm2comp_apps.evaluation.tasks.retrieval import score_run

MOCKS = [
    MockRetrievalTask,
    MockRerankingTask,
    MockClusteringTask,
    MockPairClassificationTask,
    MockClassificationTask,
    MockSTSTask,
]

rng = np.random.default_rng(0)
TEXTS = [f"text {index}" for index in range(200)]
ROWS = rng.standard_normal((200, 12)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
LABELS = [int(value) for value in rng.integers(0, 4, 200)]


def embed(texts, role="query"):
    return np.stack([ROWS[int(text.split()[1])] for text in texts])


class ScriptedModel(mteb_bridge._MtebModel):
    """An mteb encoder that looks the same rows up."""

    def __init__(self):
        super().__init__("scripted", "0" * 40, lambda texts, role, task, category: embed(texts, role))


def run_mteb(task, dataset):
    """Scores of one of mteb's mock tasks on other data."""
    task.dataset = dataset
    task.data_loaded = True
    scores = task.evaluate(ScriptedModel(), split="test", encode_kwargs={"batch_size": 64})
    return scores["default"]


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.UndefinedMetricWarning")  # of the mocks' tiny data


def test_sts_is_mtebs():
    from datasets import Dataset, DatasetDict

    gold = rng.uniform(0, 5, 100).tolist()
    ours = StsTask("t", lambda: PairData(TEXTS[:100], TEXTS[100:], gold)).evaluate(embed).scores
    rows = {"sentence1": TEXTS[:100], "sentence2": TEXTS[100:], "score": gold}
    theirs = run_mteb(MockSTSTask(), DatasetDict(test=Dataset.from_dict(rows)))
    assert ours["cosine_spearman"] == pytest.approx(theirs["cosine_spearman"], abs=1e-6)
    assert ours["cosine_pearson"] == pytest.approx(theirs["cosine_pearson"], abs=1e-6)


def test_pair_classification_is_mtebs():
    from datasets import Dataset, DatasetDict

    labels = rng.integers(0, 2, 100).tolist()
    ours = PairClassificationTask("t", lambda: PairData(TEXTS[:100], TEXTS[100:], labels)).evaluate(embed).scores
    rows = {"sentence1": TEXTS[:100], "sentence2": TEXTS[100:], "labels": labels}
    theirs = run_mteb(MockPairClassificationTask(), DatasetDict(test=Dataset.from_dict(rows)))
    assert issubclass(MockPairClassificationTask, AbsTaskPairClassification)
    for name in ("cosine_ap", "dot_ap", "euclidean_ap", "manhattan_ap", "max_ap"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-6)


def test_clustering_is_mtebs_on_one_set():
    from datasets import Dataset, DatasetDict

    data = ClusteringData(TEXTS, [str(label) for label in LABELS])
    ours = ClusteringTask("t", lambda: data, seeds=1).evaluate(embed).scores
    rows = {"sentences": [TEXTS], "labels": [LABELS]}
    theirs = run_mteb(MockClusteringTask(), DatasetDict(test=Dataset.from_dict(rows)))
    assert ours["v_measure"] == pytest.approx(theirs["v_measure"], abs=1e-9)


def test_classification_is_mtebs_on_the_first_draw():
    from datasets import Dataset, DatasetDict

    # MTEB 2 seeds its generator anew for each draw, the MTEB 1 of the published scores (and we) once: the first draws
    # are the same.
    task = MockClassificationTask()
    task.n_experiments, task.samples_per_label = 1, 8
    names = [str(label) for label in LABELS]
    data = LabelledData(TEXTS[:120], names[:120], TEXTS[120:], names[120:])
    ours = ClassificationTask("t", lambda: data, experiments=1).evaluate(embed).scores
    theirs = run_mteb(
        task,
        DatasetDict(
            train=Dataset.from_dict({"text": TEXTS[:120], "label": LABELS[:120]}),
            test=Dataset.from_dict({"text": TEXTS[120:], "label": LABELS[120:]}),
        ),
    )
    assert issubclass(MockClassificationTask, AbsTaskClassification)
    assert ours["accuracy"] == pytest.approx(theirs["accuracy"])
    assert ours["f1"] == pytest.approx(theirs["f1"])


def test_retrieval_is_mtebs():
    run = {f"q{row}": {f"d{column}": float(ROWS[row] @ ROWS[column]) for column in range(50, 200)} for row in range(50)}
    qrels = {query: {f"d{number}": int(number) % 3 for number in rng.integers(50, 200, 6)} for query in run}
    ours = score_run(run, RetrievalData({}, dict.fromkeys(run, ""), qrels)).scores
    theirs = calculate_retrieval_scores(run, qrels, [10, 100, 1000])
    assert ours["ndcg@10"] == pytest.approx(theirs.ndcg["NDCG@10"], abs=1e-5)
    assert ours["recall@100"] == pytest.approx(theirs.recall["Recall@100"], abs=1e-5)
    assert ours["map"] == pytest.approx(theirs.map["MAP@1000"], abs=1e-5)
    assert ours["mrr@10"] == pytest.approx(theirs.mrr["MRR@10"], abs=1e-5)


@pytest.mark.parametrize("mock", MOCKS, ids=lambda mock: mock.__name__)
def test_a_wrapped_task_scores_as_mteb_evaluate_does(mock, hash_encoder):
    task = mock()
    task.load_data()
    (ours,) = evaluate(hash_encoder, [wrap_task(task)])
    theirs = mteb.evaluate(MtebEncoder(hash_encoder), mock(), cache=None, show_progress_bar=False)
    assert ours.main_score == pytest.approx(theirs.task_results[0].get_score())
    assert ours.category == mock.metadata.type


def test_our_encoder_is_one_of_mtebs(hash_encoder):
    model = MtebEncoder(hash_encoder)
    assert isinstance(model, EncoderProtocol)
    assert model.mteb_model_meta.name == "llm2comp/hash"
    assert model.mteb_model_meta.revision == hash_encoder.fingerprint
    np.testing.assert_allclose(model.similarity(ROWS[:3], ROWS[:5]), ROWS[:3] @ ROWS[:5].T, atol=1e-6)
    np.testing.assert_allclose(model.similarity_pairwise(ROWS[:3], 2 * ROWS[:3]), 1, atol=1e-6)


def test_mtebs_documents_get_no_instruction(collapsed):
    prompts = []
    collapsed.prompts = {"instruction": "{instruction}: "}
    encode = collapsed.encode

    def record(texts, *, prompt=None, show_progress=False):
        prompts.append(prompt)
        return encode(texts)

    collapsed.encode = record
    task = MockRetrievalTask()
    task.load_data()
    evaluate(collapsed, [wrap_task(task)])
    mteb.evaluate(MtebEncoder(collapsed), MockRetrievalTask(), cache=None, show_progress_bar=False)
    assert set(prompts) == {None, "Retrieve text based on user query: "}


def test_the_poster_has_fourteen_english_tasks_in_six_categories():
    tasks = poster_tasks(check=False)
    assert [task.name for task in tasks] == list(POSTER)
    assert len(tasks) == 14
    assert {task.category for task in tasks} == {
        "Retrieval", "Reranking", "Clustering", "PairClassification", "Classification", "STS"
    }  # fmt: skip
    assert all(task.main_metric and task.settings["revision"] for task in tasks)


def test_without_a_hub_there_is_one_clear_line(monkeypatch, caplog):
    def unreachable(self, *args, **kwargs):
        logging.getLogger("huggingface_hub.file_download").warning("retrying")
        raise ConnectionError("Couldn't reach 'mteb/nfcorpus' on the Hub\nand a trace")

    monkeypatch.setattr("mteb.abstasks.retrieval.AbsTaskRetrieval.load_data", unreachable)
    with pytest.raises(EvaluationError, match=r"NFCorpus: its data are not .* `suite=offline` needs no hub$") as caught:
        poster_tasks()
    assert "\n" not in str(caught.value)
    assert not caplog.records


def test_no_such_task():
    with pytest.raises(EvaluationError, match="mteb has no English task 'NoSuchTask'"):
        poster_tasks(["NoSuchTask"])
    with pytest.raises(EvaluationError, match=r"SummEval.*: a task of type Summarization; there are Retrieval"):
        poster_tasks(["SummEvalSummarization.v2"], check=False)
