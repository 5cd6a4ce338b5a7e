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

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE, Backbone, default_device, default_dtype, load_backbone
from llm2comp_apps.encoder.base import BatchedEncoder, fingerprint_of
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.encoder.habits import Texts, one_or_many
from llm2comp_apps.encoder.network import positions
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.texts import list_of_texts
from llm2comp_apps.errors import UsageError

__all__ = ["Baseline"]


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

_LAST_STATE = ("prompteol", "metaeol")
"""Read from the last state behind a text: what stands in front of all texts is run once and not once for each."""
_PREFIX_BYTES = 1 << 30
"""Most that the keys and values of what is in front may take in a batch; beyond, each row runs all of its tokens."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Keys and values of the tokens in front of every text.

    Attributes:
        cache: of one row, as transformers made it.
        length: in tokens.
    """

    cache: Any
    length: int


class Baseline(BatchedEncoder):
    """A training-free baseline on any backbone, with the interface of an encoder."""

    _special_tokens = False  # they belong to the frame around the text

    def __init__(self, kind: str, backbone: Backbone, *, max_length: int = 512) -> None:
        _require(kind)
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
        self._prefix: Prefix | None = None
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
        _require(kind)
        device = device or default_device()
        loaded = load_backbone(backbone or DEFAULT_BACKBONE, device=device, dtype=dtype or default_dtype(device))
        return cls(kind, loaded, max_length=max_length or 512)

    @one_or_many
    def encode(
        self,
        texts: Texts,
        *,
        prompt: str | None = None,
        show_progress: bool = False,
        tokens_per_batch: int | None = None,
        batch_size: int | None = None,
        normalize_embeddings: bool = True,
    ) -> FloatArray:
        """Embed texts, ``(n, d)`` float32 with unit rows; the mean over all templates where there are several."""
        texts = list_of_texts(texts)
        total: Any = 0.0
        cut = self.cut
        for template in self._templates:
            self.cut = cut  # each template cuts the same texts
            self._active = template
            self._prefix = self._shared_prefix(self.batch_tokens(tokens_per_batch)) if texts else None
            self._extra_tokens = self._prefix.length if self._prefix else 0
            shape = (self.dimension,)
            total = total + self._run(texts, prompt, self._forward, shape, tokens_per_batch, show_progress, batch_size)
        mean = torch.as_tensor(total / len(self._templates))
        vectors: FloatArray = (torch.nn.functional.normalize(mean, dim=-1) if normalize_embeddings else mean).numpy()
        return vectors

    def to(self, device: str) -> Self:
        """Move the backbone to a device, and give the encoder back.

        Raises:
            UsageError: there is no such device here.
        """
        check_device(device)
        self.lm.to(device)
        self.device = str(next(self.lm.parameters()).device)
        return self

    def _frame(self) -> tuple[list[int], list[int]]:
        """Token ids in front of a text and behind it; the first carry the BOS token, if there is one."""
        before = self._tokenise([self._active.before], self.max_length)[0]
        after = self._tokenise([self._active.after], self.max_length, special=False)[0]
        return before, after

    def _shared_prefix(self, budget: int) -> Prefix | None:
        """What the rows of every batch have in front; ``None`` where that saves nothing or takes too much memory."""
        before, _ = self._frame()
        if self.kind not in _LAST_STATE or not before:
            return None
        with torch.inference_mode():
            ids = torch.tensor([before], device=self.device)
            cache = self.lm.get_decoder()(input_ids=ids, use_cache=True).past_key_values
        layers = getattr(cache, "layers", ())
        if not layers or any(
            layer.is_sliding or not isinstance(getattr(layer, "keys", None), Tensor) for layer in layers
        ):
            return None  # padding behind the prefix would shift a sliding window; recurrent layers have other states
        size = sum(layer.keys.nbytes + layer.values.nbytes for layer in layers)
        return Prefix(cache, len(before)) if size * (budget // (len(before) + 1)) <= _PREFIX_BYTES else None

    def _rows(self, texts: Sequence[str], prompt: str) -> list[list[int]]:
        before, after = self._frame()
        if self._prefix is not None:
            before = []
        # An empty text still needs one state to read.
        bodies = self._tokenise([prompt + text or " " for text in texts], self.max_length, special=False)
        return [before + body + after + (body if self._active.echo else []) for body in bodies]

    def _forward(self, rows: list[list[int]], ids: Tensor, mask: Tensor | None) -> Tensor:
        arguments: dict[str, Any] = {"input_ids": ids, "use_cache": False}
        if mask is not None:
            arguments |= {"attention_mask": mask, "position_ids": positions(mask)}
        if self._prefix is not None:
            cache = copy.deepcopy(self._prefix.cache)  # a forward pass writes into it
            cache.batch_repeat_interleave(len(ids))
            arguments |= {"use_cache": True, "past_key_values": cache}
            if mask is not None:
                seen = mask.new_ones(len(ids), self._prefix.length)
                arguments["attention_mask"] = torch.cat([seen, mask], dim=1)
                arguments["position_ids"] = positions(mask) + self._prefix.length
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


def _require(kind: str) -> None:
    if kind not in _TEMPLATES:
        raise UsageError(f"must be one of {', '.join(_TEMPLATES)}, not {kind!r}", field="kind")
