"""Instructions: which prompt goes in front of which text, for which encoder.

Instruction-trained encoders are told the task in front of each query and nothing in front of documents (LLM2Comp,
arXiv 2511.17129; E5-Mistral, arXiv 2401.00368). The texts of symmetric tasks (STS, classification, clustering, pair
classification) all count as queries. The wording is MTEB's own for the tasks it has.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from llm2comp_apps.errors import UsageError

__all__ = ["INSTRUCTIONS", "InstructionMode", "Prompts", "instruction_for", "parse_prompts", "resolve_prompts"]

InstructionMode = Literal["auto", "task", "none"]

_DEFAULT_TEMPLATE = "{instruction}:\n"

_BY_CATEGORY = {
    "Retrieval": "Retrieve text based on user query",
    "Reranking": "Given a question, retrieve passages that answer the question",
    "Clustering": "Identify categories in user passages",
    "PairClassification": "Retrieve text that are semantically similar to the given text",
    "Classification": "Classify user passages",
    "STS": "Retrieve semantically similar text",
}

_EMOTION = (
    "Classify the emotion expressed in the given Twitter message into one of the six emotions: anger, fear, joy, love, "
    "sadness, and surprise"
)

INSTRUCTIONS = {
    "scifact": "Given a scientific claim, retrieve documents that support or refute the claim",
    "nfcorpus_processed": "Given a question, retrieve relevant documents that best answer the question",
    "cranfield": "Given a question about aerodynamics, retrieve abstracts that answer the question",
    "cisi": "Given a question about information science, retrieve documents that answer the question",
    "npl": "Given a question about physics, retrieve abstracts that answer the question",
    "cacm": "Given a question about computer science, retrieve abstracts that answer the question",
    "xquad_en": "Given a question, retrieve Wikipedia passages that answer the question",
    "banking77": "Given a online banking query, find the corresponding intents",
    "emotion": _EMOTION,
    "amazon_counterfactual_en": (
        "Classify a given Amazon customer review text as either counterfactual or not-counterfactual"
    ),
    "hwu64": "Given a user utterance as query, find the user intents",
    "trec_question_type": "Given a question, find the type of its answer",
    "sst2_sentences": "Classify the sentiment expressed in the given movie review text",
    "twentynewsgroups_subjects": "Identify the topic or theme of the given news articles",
    "twentynewsgroups_bodies_test": "Identify the topic or theme of the given news articles",
    "biorxiv_titles": "Identify the main category of Biorxiv papers based on the titles",
    "biomedical_titles": "Identify the main category of biomedical papers based on the titles",
    "searchsnippets": "Identify the topic of the given search snippets",
    "agnews_test": "Identify the topic or theme of the given news articles",
    "bbc_news": "Identify the topic or theme of the given news articles",
    "twitterurl": "Retrieve tweets that are semantically similar to the given tweet",
    "SciFact": "Given a scientific claim, retrieve documents that support or refute the claim",
    "NFCorpus": "Given a question, retrieve relevant documents that best answer the question",
    "ArguAna": "Given a claim, find documents that refute the claim",
    "SciDocsRR": "Given a title of a scientific paper, retrieve the titles of other relevant papers",
    "StackOverflowDupQuestions": "Retrieve duplicate questions from StackOverflow forum",
    "BiorxivClusteringS2S": "Identify the main category of Biorxiv papers based on the titles",
    "MedrxivClusteringS2S": "Identify the main category of Medrxiv papers based on the titles",
    "TwentyNewsgroupsClustering": "Identify the topic or theme of the given news articles",
    "SprintDuplicateQuestions": "Retrieve duplicate questions from Sprint forum",
    "Banking77Classification": "Given a online banking query, find the corresponding intents",
    "EmotionClassification": _EMOTION,
    "MassiveIntentClassification": "Given a user utterance as query, find the user intents",
}
"""Instruction by dataset name, ours and MTEB's; a dataset not listed takes its category's."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """What stands in front of a task's queries and documents; ``None`` for nothing."""

    query: str | None = None
    document: str | None = None

    def to_json(self) -> dict[str, str]:
        """``{"query": ..., "document": ...}`` with empty strings for no prompt."""
        return {"query": self.query or "", "document": self.document or ""}


def instruction_for(task: str, category: str) -> str:
    """The instruction of a task, by dataset name (``scifact`` for ``scifact:train``), else by category."""
    return INSTRUCTIONS.get(task.partition(":")[0]) or _BY_CATEGORY.get(category, _BY_CATEGORY["Retrieval"])


def resolve_prompts(
    task: str,
    category: str,
    encoder_prompts: Mapping[str, str],
    mode: InstructionMode = "auto",
    overrides: Mapping[str, str] | None = None,
) -> Prompts:
    """Decide the prompts of one encoder on one task.

    Args:
        task: the task's name.
        category: its category.
        encoder_prompts: the encoder's own ``prompts``. A key ``instruction`` holds a template with the field
            ``{instruction}`` and marks an encoder that was trained with instructions.
        mode: ``auto`` uses the task's instruction where the encoder has a template, else the encoder's own ``query``
            and ``document`` prompts on retrieval and reranking; ``task`` always uses the instruction; ``none`` nothing.
        overrides: prompt by task name or category, used as it stands for the query side; the task's name wins.

    Returns:
        The prompts, empty ones as ``None``.
    """
    chosen = overrides or {}
    for key in (task, task.partition(":")[0], category):
        if key in chosen:
            return Prompts(query=chosen[key] or None)
    if mode == "none":
        return Prompts()
    template = encoder_prompts.get("instruction", _DEFAULT_TEMPLATE if mode == "task" else "")
    if template:
        instruction = instruction_for(task, category)
        return Prompts(template.replace("{instruction}", instruction), encoder_prompts.get("document") or None)
    if category in ("Retrieval", "Reranking"):
        return Prompts(encoder_prompts.get("query") or None, encoder_prompts.get("document") or None)
    return Prompts(query=encoder_prompts.get(category.lower()) or None)


def parse_prompts(items: Iterable[str]) -> dict[str, str]:
    r"""``TASK=TEXT`` or ``CATEGORY=TEXT`` items as prompts by name; ``\n`` in a text is a line break.

    Raises:
        UsageError: there is no ``=``, or nothing before it.
    """
    prompts = {}
    for item in items:
        name, equals, text = item.partition("=")
        if not name or not equals:
            raise UsageError(f"{item!r}: write TASK=TEXT or CATEGORY=TEXT", field="prompt_overrides")
        prompts[name] = text.replace("\\n", "\n")
    return prompts
