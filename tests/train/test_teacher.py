"""Learning a teacher's similarities: the loss against its formula, what the teacher reads, and a run that uses one."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from llm2comp_train.data.teacher import load_teacher
from llm2comp_train.engine.run import RunOptions, run_stage
from llm2comp_train.losses.similarity import similarity_loss

from llm2comp_apps.errors import EncoderError


def test_the_loss_is_the_divergence_of_the_similarities_to_the_other_texts():
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 8, requires_grad=True), torch.randn(5, 3)
    found = similarity_loss(student, teacher, temperature=0.2)
    wanted = 0.0
    for i in range(5):
        others = [j for j in range(5) if j != i]
        shares = []
        for rows in (teacher, student.detach()):
            cosines = torch.stack([torch.cosine_similarity(rows[i], rows[j], dim=0) for j in others])
            shares.append(torch.softmax(cosines / 0.2, dim=0))
        wanted += float((shares[0] * (shares[0] / shares[1]).log()).sum()) / 5
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-5)
    found.backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()


def test_the_loss_vanishes_where_the_similarities_agree():
    vectors = torch.randn(6, 8)
    turned = torch.linalg.qr(torch.randn(8, 8)).Q
    assert float(similarity_loss(vectors @ turned, 3 * vectors, temperature=0.05)) == pytest.approx(0, abs=1e-5)


def test_the_level_of_the_cosines_counts_where_it_is_asked_for():
    torch.manual_seed(1)
    teacher = torch.nn.functional.normalize(torch.randn(6, 4), dim=1)
    # One more dimension in which all are alike: cosines c become (c + 1) / 2.
    student = torch.cat([teacher, torch.ones(6, 1)], dim=1).requires_grad_()
    ranks = similarity_loss(student, teacher, temperature=0.2)
    found = similarity_loss(student, teacher, temperature=0.2, level_weight=0.3)
    cosines = (teacher @ teacher.T)[~torch.eye(6, dtype=torch.bool)]
    wanted = float(ranks.detach()) + 0.3 * float((((1 - cosines) / 2 / 0.2) ** 2).mean())
    assert float(found.detach()) == pytest.approx(wanted, rel=1e-4)
    for _ in range(1000):
        (gradient,) = torch.autograd.grad(similarity_loss(student, teacher, temperature=0.2, level_weight=0.3), student)
        student = (student - 0.03 * gradient).detach().requires_grad_()
    reached = torch.nn.functional.normalize(student.detach(), dim=1)
    torch.testing.assert_close(reached @ reached.T, teacher @ teacher.T, atol=0.02, rtol=0)


class BagOfWords:
    """A teacher to whom texts with the same words are alike; notes what it was shown."""

    def __init__(self) -> None:
        self.prompts = {"query": "Q ", "document": "D "}
        self.seen: list[tuple[str | None, str]] = []

    def encode(self, texts, *, prompt=None):
        self.seen += [(prompt, text) for text in texts]
        vectors = np.zeros((len(texts), 64), dtype=np.float32)
        for row, text in enumerate(texts):
            for word in text.split():
                vectors[row, sum(word.encode()) % 64] += 1
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_run_learns_the_teachers_similarities_from_bare_texts(
    symmetric, settings, data, tmp_path, monkeypatch, backbone_dir
):
    teacher = BagOfWords()
    monkeypatch.setattr("llm2comp_train.data.teacher.load_teacher", lambda _name, _device: teacher)
    losses: list[float] = []
    changed = dataclasses.replace(
        settings, teacher="words", teacher_weight=1.0, max_steps=20, query_prompt="king ",
        symmetric="pairs*" if symmetric else "",
    )  # fmt: skip
    options = RunOptions(
        data=[str(data["pairs"])],
        out=tmp_path / "run",
        device="cpu",
        show=lambda progress: losses.append(progress.loss),
    )
    run_stage("scl", changed, options)
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    prompts = {prompt for prompt, _ in teacher.seen}
    assert prompts == ({"D "} if symmetric else {"Q ", "D "})
    raw = data["pairs"].read_text("utf-8").replace('"', " ").split()
    assert all(word in raw for _, text in teacher.seen for word in text.split())
    for prompt, text in teacher.seen:
        if prompt == "Q ":
            assert len(text.split()) == 5, "a query is shown without the student's prompt"


def test_a_teacher_that_embeds_nothing_or_is_not_there_is_refused(tmp_path):
    with pytest.raises(EncoderError, match="bm25"):
        load_teacher("bm25", "cpu")
    with pytest.raises(EncoderError):
        load_teacher(str(tmp_path / "nothing"), "cpu")
