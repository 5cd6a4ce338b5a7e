"""Topic names by a language model: it reads a topic's keywords and central documents and answers with a title."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Literal

from llm2comp_apps.clustering.describing.memory_names import MemoryNamer, memory_namer
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.encoder.names import source_of
from llm2comp_apps.errors import LLM2CompError

__all__ = [
    "LLM",
    "Generator",
    "Namer",
    "backbone_generator",
    "chosen_namer",
    "clean_name",
    "llm_namer",
    "name_prompt",
    "name_topics",
]

Generator = Callable[[str], str]
LLM = Literal["llm"]
Namer = Callable[[Sequence[Topic], Sequence[str]], list[Topic]]
"""Renames topics, given the texts that their representatives point into."""

_DOCUMENTS = 4
_DOCUMENT_LENGTH = 240
_KEYWORDS = 8
_MOST_WORDS = 6
_NEW_TOKENS = 12
_EXAMPLES = """Give the subject that the texts share a title of two to five words.

Keywords: yeast, dough, flour, oven, sourdough, crust
Texts:
- How long does a dough have to rest before it is baked?
- My loaf stays flat: too little yeast or too cold a kitchen
Title: Baking bread

Keywords: striker, league, goal, coach, penalty, season
Texts:
- United beat City 2-1 after a late penalty
- The coach leaves at the end of the season
Title: Football league matches"""


def chosen_namer(namer: Namer | LLM | None, encoder: dict[str, str], device: str | None) -> Namer | None:
    """The namer as given, or where ``llm`` was given, :func:`llm_namer` of an encoder's record."""
    return llm_namer(source_of(encoder) or "", device) if namer == "llm" else namer


def llm_namer(encoder: str = "", device: str | None = None) -> Namer:
    """Names topics with the language model under an encoder; with the default one where that is not known or gone.

    Where the memory vectors of the encoder can be read back, each topic gets a second name from them, see
    :mod:`.memory_names`, and keeps the likelier.

    Args:
        encoder: its name.
        device: by default the best there is.

    Raises:
        EncoderError: the language model cannot be loaded.
    """
    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE
    from llm2comp_apps.encoder.names import backbone_of

    try:
        backbone = (backbone_of(encoder) if encoder else None) or DEFAULT_BACKBONE
    except LLM2CompError:  # one that is no longer there
        backbone = DEFAULT_BACKBONE
    generate = backbone_generator(backbone, device)
    second = memory_namer(encoder, device) if encoder else None
    return lambda topics, texts: name_topics(topics, texts, generate, second)


def name_topics(
    topics: Sequence[Topic], texts: Sequence[str], generate: Generator, second: MemoryNamer | None = None
) -> list[Topic]:
    """Rename topics; one keeps its name whose answer is no title, copies a document, or is taken on its level.

    Args:
        topics: of all levels.
        texts: the documents, which ``Topic.representatives`` point into.
        generate: continues a prompt; deterministic if the result shall be.
        second: writes another name from the memory of the documents; of two good ones the likelier is taken.
    """
    named: list[Topic] = []
    taken: set[tuple[int, str]] = set()
    for topic in topics:
        documents = [texts[position] for position in topic.representatives]
        prompt = name_prompt(topic, texts)
        answers = [generate(prompt), *([second.write(documents)] if second is not None and documents else [])]
        names = [
            name
            for name in dict.fromkeys(map(clean_name, answers))
            if name and not _copied(name, documents) and (topic.level, name.casefold()) not in taken
        ]
        name = names[0] if names else topic.name
        if second is not None and len(names) > 1:
            name = second.likelier((names[0], names[1]), prompt, documents)
        taken.add((topic.level, name.casefold()))
        named.append(replace(topic, name=name))
    return named


def _copied(name: str, documents: Sequence[str]) -> bool:
    """Whether a name of several words stands in a document as it is."""
    return len(name.split()) > 2 and any(name.casefold() in document.casefold() for document in documents)


def name_prompt(topic: Topic, texts: Sequence[str]) -> str:
    """What the model is asked: two examples first, since a small model without them copies a document."""
    keywords = ", ".join(term for term, _ in topic.keywords[:_KEYWORDS])
    documents = "\n".join(f"- {_short(texts[position])}" for position in topic.representatives[:_DOCUMENTS])
    return f"{_EXAMPLES}\n\nKeywords: {keywords}\nTexts:\n{documents}\nTitle:"


def clean_name(answer: str) -> str:
    """The title in a model's answer: its first line without quotes, labels and end marks; empty if it is no title."""
    line = next((line for line in answer.splitlines() if line.strip()), "")
    line = re.sub(r"^\W*(?:title|topic|subject|answer)\s*:\s*", "", line.strip(), flags=re.IGNORECASE)
    name = line.strip(" \t\"'“”‘’*#-.:;,")
    listed = name.count(",") > 1  # keywords again, not a title
    return name if 1 <= len(name.split()) <= _MOST_WORDS and not listed and re.search(r"[^\W\d_]", name) else ""


def backbone_generator(name: str, device: str | None = None) -> Generator:
    """Let a backbone continue a prompt, greedily.

    The prompt is a list of examples, which any language model can continue. Not in a chat's form, where small models
    talk about the examples.

    Args:
        name: a backbone, as :func:`~llm2comp_apps.encoder.backbones.load_backbone` takes it.
        device: by default the best there is.

    Raises:
        EncoderError: it cannot be loaded.
    """
    import torch

    from llm2comp_apps.encoder.backbones import default_device, default_dtype, load_backbone

    device = device or default_device()
    backbone = load_backbone(name, device=device, dtype=default_dtype(device))
    tokenizer = backbone.tokenizer

    def generate(prompt: str) -> str:
        inputs = tokenizer([prompt], return_tensors="pt")
        with torch.inference_mode():
            tokens = backbone.lm.generate(
                **inputs.to(device),
                max_new_tokens=_NEW_TOKENS,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        return str(tokenizer.decode(tokens[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True))

    return generate


def _short(text: str) -> str:
    return " ".join(text[: 4 * _DOCUMENT_LENGTH].split())[:_DOCUMENT_LENGTH]
