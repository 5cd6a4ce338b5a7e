"""Training-free baselines: embeddings of an untouched decoder-only LLM, attention causal as it was trained.

| name | embedding | source |
|---|---|---|
| ``lt`` | last hidden state of the text's last token | |
| ``wmp`` | mean of all last hidden states, weighted by position | SGPT, arXiv 2202.08904, section 4.1 |
| ``ee`` | echo: the text is repeated, the mean is over the second copy | arXiv 2402.15449 |
| ``prompteol`` | ``This sentence : "x" means in one word:"``, last state | arXiv 2307.16645 |
| ``metaeol`` | mean of the last states under eight task prompts | arXiv 2402.18458 |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE, Backbone, default_device, default_dtype, load_backbone
from llm2comp_apps.encoder.base import BatchedEncoder, fingerprint_of
from llm2comp_apps.encoder.network import positions
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.errors import UsageError

__all__ = ["BASELINES", "Baseline"]


@dataclass(frozen=True, slots=True)
class Template:
    """Text around a text: ``before + x + after``, and once more ``x`` where it is echoed."""

    before: str = ""
    after: str = ""
    echo: bool = False


def _one_word(task: str) -> Template:
    return Template(f'In this task, {task}\nFor this task, this sentence : "', '" means in one word:"')


# MetaEOL's four task families, two prompts each; the wording is ours.
_META = (
    _one_word("you are given a text and have to tell which topic or category it belongs to."),
    _one_word("you are given a product review and have to tell what kind of product and which aspect it is about."),
    _one_word("you are given a sentence and have to judge the emotion that its writer feels."),
    _one_word("you are given a movie review and have to decide whether its sentiment is positive or negative."),
    _one_word(
        "you are given a sentence and have to say whether another sentence is a paraphrase with the same meaning."
    ),
    _one_word("you are given two questions and have to say whether they ask for the same thing."),
    _one_word("you have to extract the key fact that the sentence states."),
    _one_word("you have to extract the entity or event that the sentence is mainly about."),
)

_TEMPLATES: dict[str, tuple[Template, ...]] = {
    "lt": (Template(),),
    "wmp": (Template(),),
    "ee": (Template("Rewrite the sentence: ", ", rewritten sentence: ", echo=True),),
    "prompteol": (Template('This sentence : "', '" means in one word:"'),),
    "metaeol": _META,
}
BASELINES = tuple(_TEMPLATES)


class Baseline(BatchedEncoder):
    """A training-free baseline on any backbone, with the interface of an encoder."""

    _special_tokens = False  # they belong to the frame around the text

    def __init__(self, kind: str, backbone: Backbone, *, max_length: int = 512) -> None:
        if kind not in _TEMPLATES:
            raise UsageError(f"baseline {kind!r} is unknown; choose one of {', '.join(BASELINES)}.")
        self.kind = kind
        self.lm = backbone.lm
        self.tokenizer = backbone.tokenizer
        self.device = str(next(backbone.lm.parameters()).device)
        self.dimension = int(backbone.lm.get_input_embeddings().weight.shape[1])
        self.max_length = max_length
        self.prompts: dict[str, str] = {}
        self.name = f"baseline:{kind}({backbone.name})"
        self._templates = _TEMPLATES[kind]
        self._active = self._templates[0]
        self.fingerprint = fingerprint_of(
            {
                "kind": kind,
                "backbone": backbone.sha256,
                "max_length": max_length,
                "templates": [(template.before, template.after) for template in self._templates],
            }
        )

    @classmethod
    def load(
        cls,
        kind: str,
        backbone: str | None = None,
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        max_length: int | None = None,
    ) -> Baseline:
        """Load the backbone and wrap it; errors as :func:`~.backbones.load_backbone` raises them."""
        if kind not in _TEMPLATES:
            raise UsageError(f"baseline {kind!r} is unknown; choose one of {', '.join(BASELINES)}.")
        device = device or default_device()
        loaded = load_backbone(backbone or DEFAULT_BACKBONE, device=device, dtype=dtype or default_dtype(device))
        return cls(kind, loaded, max_length=max_length or 512)

    def encode(
        self,
        texts: Sequence[str],
        *,
        prompt: str | None = None,
        show_progress: bool = False,
        tokens_per_batch: int | None = None,
    ) -> FloatArray:
        """Embed texts, ``(n, d)`` float32 with unit rows; the mean over all templates where there are several."""
        total: Any = 0.0
        cut = self.cut
        for template in self._templates:
            self.cut = cut  # each template cuts the same texts
            self._active = template
            shape = (self.dimension,)
            total = total + self._run(texts, prompt, self._forward, shape, tokens_per_batch, show_progress)
        unit = torch.nn.functional.normalize(torch.as_tensor(total), dim=-1)
        vectors: FloatArray = unit.numpy()
        return vectors

    def _frame(self) -> tuple[list[int], list[int]]:
        """Token ids in front of a text and behind it; the first carry the BOS token, if there is one."""
        before = self._tokenise([self._active.before], self.max_length)[0]
        after = self._tokenise([self._active.after], self.max_length, special=False)[0]
        return before, after

    def _rows(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        before, after = self._frame()
        # An empty text still needs one state to read.
        bodies = self._tokenise([prompt + text or " " for text in texts], self.max_length, special=False)
        return [before + body + after + (body if self._active.echo else []) for body in bodies]

    def _forward(self, rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:
        arguments: dict[str, Any] = {"input_ids": ids, "use_cache": False}
        if mask is not None:
            arguments |= {"attention_mask": mask, "position_ids": positions(mask)}
        states: Tensor = self.lm.get_decoder()(**arguments).last_hidden_state.float()
        if self.kind == "wmp":
            weights = (positions(torch.ones_like(ids) if mask is None else mask) + 1).float()
            if mask is not None:
                weights = weights * mask
        elif self.kind == "ee":
            weights = self._second_copy(rows, ids)
        else:
            return states[:, -1]
        return (states * weights[..., None]).sum(1) / weights.sum(1, keepdim=True)

    def _second_copy(self, rows: list[list[int]], ids: Tensor) -> Tensor:
        """1 at the tokens of the echo ``(B, T)``, which ends each left-padded row."""
        around = sum(len(part) for part in self._frame())
        copies = torch.tensor([(len(row) - around) // 2 for row in rows], device=ids.device)
        from_end = torch.arange(ids.shape[1], 0, -1, device=ids.device)
        return (from_end[None, :] <= copies[:, None]).float()
