"""The one network behind encoding and training: a frozen LLM, its LoRA adapter, k memory tokens.

Two roles, one copy of the weights:

* **encoder** - adapter on, attention bidirectional: ``[text, m_1..m_k] -> last hidden states of m_1..m_k``;
* **decoder** (and teacher) - adapter off, attention causal: bit-identical to the frozen LLM.

Geometry: texts are left-padded and the memory tokens are appended as input embeddings, so the memory vectors are
always ``last_hidden_state[:, -k:]``; neither vocabulary nor tokenizer changes.

The encoder may run only some of the LM's layers, see :mod:`.shallow`, or copies of them that train while the LM stays
as it is. The decoder always has all of them. Through the last layers of an encoder the memory tokens may go alone, see
:mod:`.memory_layers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from llm2comp_apps.encoder.memory_layers import stop_text_behind
from llm2comp_apps.encoder.packing import packed_arguments
from llm2comp_apps.encoder.readout import DEFAULT_READOUT, READOUTS
from llm2comp_apps.encoder.shallow import Noted, layer_weights, load_layer_weights, shallow_body
from llm2comp_apps.encoder.token_states import token_depth

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llm2comp_apps.encoder.checkpoint import Memory
    from llm2comp_apps.encoder.packing import PackedTexts

__all__ = ["CompressionNetwork", "left_pad", "positions", "role"]

SPREAD = 1.0
"""Spread of memory about its centre where the decoder reads it, as a share of the token embeddings' spread."""
MOMENTUM = 0.9
"""Of the running mean behind :meth:`CompressionNetwork.track`."""


def left_pad(rows: Sequence[Sequence[int]], pad_id: int, device: torch.device | str) -> tuple[Tensor, Tensor | None]:
    """Stack token rows of different lengths, padding on the left.

    Returns:
        ``input_ids (B, T)`` and ``attention_mask (B, T)``; the mask is ``None`` when no row needed padding, which
        lets scaled-dot-product attention take its fast path.
    """
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    width = int(lengths.max())
    real = np.arange(width) >= (width - lengths)[:, None]
    ids = np.full(real.shape, pad_id, dtype=np.int64)
    ids[real] = np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum()))
    mask = None if real.all() else torch.from_numpy(real.astype(np.int64)).to(device)
    return torch.from_numpy(ids).to(device), mask


def positions(mask: Tensor) -> Tensor:
    """Position ids ``(B, T)`` for a left-padded mask: the first real token of every row is at 0."""
    return (mask.cumsum(-1) - 1).clamp(min=0)


@contextmanager
def role(lm: nn.Module, *, adapter: bool) -> Iterator[None]:
    """Run with the LoRA layers on (encoder) or off (decoder, teacher).

    PEFT's own ``disable_adapter()`` also flips ``requires_grad`` of every adapter weight, which would be undone in the
    middle of a backward pass when gradient checkpointing recomputes; only the flag that ``forward`` reads is set here.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers = [module for module in lm.modules() if isinstance(module, BaseTunerLayer)]
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = not adapter
    try:
        yield
    finally:
        for layer, flag in zip(layers, before, strict=True):
            layer._disable_adapters = flag


class CompressionNetwork(nn.Module):
    """Frozen causal LM + k memory tokens (+ LoRA layers, when some were injected into the LM).

    Attributes:
        lm: causal LM; its own weights never train.
        memory_tokens: ``(k, d)`` float32, what is appended to every text.
        shift: ``(k, d)`` float32; this and the following, see :meth:`decoder_input`.
        center: ``(k, d)`` float32, what the memory of all texts has in common.
        spread: ``()`` float32, distance of the decoder's input from ``shift``.
        layers: numbers of the LM's layers that the encoder runs; ``None`` for all.
        own_layers: whether these are copies with weights of their own.
        text_layers: how many of them the text goes through; ``None`` for all.
        shallow: what the encoder runs instead of the LM's body, where it is not all of the LM's own layers.
        compute_dtype: of the matrix products.
        readout: what the vectors of a text are read from, see :mod:`.readout`.
        head: ``(d,)`` float32, of a reranker; see :meth:`score`.
    """

    head: nn.Parameter | None
    center: Tensor
    spread: Tensor

    def __init__(
        self,
        lm: PreTrainedModel,
        memory_tokens: Tensor,
        shift: Tensor | None = None,
        center: Tensor | None = None,
        spread: float | Tensor = 1.0,
        *,
        layers: Sequence[int] | None = None,
        own_layers: bool = False,
        text_layers: int | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            lm: see the attributes, as for the following.
            memory_tokens: ``(k, d)``.
            shift: ``(k, d)``; zero by default.
            center: ``(k, d)``; zero by default.
            spread: ``()``.
            layers: numbers of the LM's layers that the encoder runs, ascending; ``None`` for all.
            own_layers: the encoder runs float32 copies of its layers and of the final norm, made here and now, which
                train without changing the decoder. An adapter must have been merged before.
            text_layers: how many of them the text goes through, see :meth:`stop_text`; ``None`` for all.

        Raises:
            UsageError: a number in ``layers`` that the LM does not have, or impossible ``text_layers``.
            EncoderError: the text cannot stop in an LM of this kind.
        """
        super().__init__()
        self.lm = lm
        self.layers = None if layers is None else tuple(layers)
        self.own_layers = own_layers
        self.shallow: nn.Module | None = None
        if layers is not None or own_layers:
            self.shallow = shallow_body(self.base, layers, copied=own_layers)
        self.text_layers: int | None = None
        self.compute_dtype: torch.dtype = lm.get_input_embeddings().weight.dtype
        self.memory_tokens = nn.Parameter(_own(memory_tokens))
        zeros = torch.zeros_like(self.memory_tokens)
        self.shift = nn.Parameter(_own(zeros if shift is None else shift))
        self.register_buffer("center", _own(zeros if center is None else center))
        self.register_buffer("spread", _own(torch.as_tensor(spread)))
        self.register_parameter("head", None)
        self.readout = DEFAULT_READOUT
        self._prompts: list[list[int]] = [[]]
        self._packed_body: Callable[..., Any] | None = None
        if text_layers is not None:
            self.stop_text(text_layers)

    @classmethod
    def fresh(
        cls,
        lm: PreTrainedModel,
        k: int,
        *,
        seed: int = 0,
        layers: Sequence[int] | None = None,
        own_layers: bool = False,
    ) -> CompressionNetwork:
        """Untrained memory tokens, drawn around the mean token embedding with the embeddings' own spread."""
        embeddings: Any = lm.get_input_embeddings()
        with torch.no_grad():  # looked up, not read off: Gemma multiplies what it looks up
            weight = embeddings(torch.arange(len(embeddings.weight), device=embeddings.weight.device)).float()
        generator = torch.Generator().manual_seed(seed)
        noise = torch.randn(k, weight.shape[1], generator=generator).to(weight.device)
        return cls(lm, weight.mean(0) + noise * weight.std(0), layers=layers, own_layers=own_layers)

    @property
    def k(self) -> int:
        """Number of memory tokens."""
        return self.memory_tokens.shape[0]

    @property
    def vectors(self) -> int:
        """Vectors of a text: k, or 1 where its own states are averaged."""
        return 1 if self.readout.of_text else self.k

    @property
    def extra_tokens(self) -> int:
        """Tokens that are put behind every text."""
        return self.k + sum(map(len, self._prompts))

    def read_by(self, readout: str, tokenizer: PreTrainedTokenizerBase) -> CompressionNetwork:
        """Read by another of :data:`.readout.READOUTS` than ``memory``; returns the network itself."""
        self.readout = READOUTS[readout]
        encoded = tokenizer(list(self.readout.prompts), add_special_tokens=False, return_attention_mask=False)
        self._prompts = [list(ids) for ids in encoded["input_ids"]]
        return self

    def stop_text(self, text_layers: int) -> CompressionNetwork:
        """Let the memory tokens alone go through the layers behind the first ``text_layers``; returns the network.

        Its keys and values there are zeros until they are fitted or loaded. The decoder stays as it is.

        Raises:
            UsageError: fewer than one layer, or all of them.
            EncoderError: the text cannot stop in layers of this kind.
        """
        if self.shallow is None:
            self.shallow = shallow_body(self.base)
        stop_text_behind(self.shallow, text_layers, self.k)
        self.text_layers = text_layers
        return self

    def memory_state(self) -> Memory:
        """What a checkpoint keeps beside adapter and layers, by the names of ``__init__``'s arguments."""
        return {
            "memory_tokens": self.memory_tokens,
            "shift": self.shift,
            "center": self.center,
            "spread": self.spread,
        }

    @property
    def base(self) -> nn.Module:
        """The LM without its head: what the decoder runs."""
        base: nn.Module = self.lm.get_decoder()
        return base

    @property
    def encoder(self) -> nn.Module:
        """What the encoder runs: the LM without its head, or what stands in for it."""
        return self.base if self.shallow is None else self.shallow

    def layer_weights(self) -> dict[str, Tensor]:
        """The encoder's weights without token embeddings, in its own numbering: ``layers.0...``, ``norm.weight``."""
        return layer_weights(self.encoder)

    def load_layers(self, weights: Mapping[str, Tensor]) -> None:
        """Overwrite what :meth:`layer_weights` names.

        Raises:
            EncoderError: a name or a shape differs.
        """
        load_layer_weights(self.encoder, weights)

    def drop_decoder(self) -> CompressionNetwork:
        """Forget the layers that the encoder does not run, where there is nothing to decode; returns the network."""
        if self.shallow is not None:
            base = self.base  # transformers' set_decoder does nothing where the LM holds its body directly
            self.lm.set_submodule(
                next(name for name, module in self.lm.named_modules() if module is base), self.shallow
            )
            self.shallow = None
        return self

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token embeddings as the LM itself makes them, ``(B, T, d)``."""
        embedded: Tensor = self.lm.get_input_embeddings()(input_ids)
        return embedded

    def hidden(self, embeds: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
        """The encoder's last hidden states ``(B, T, d)``; ``mask (B, T)`` is left-padded or ``None``."""
        if self.own_layers:  # float32 weights: the residual stream, too, is float32 beside a half-precision LM
            embeds = embeds.float()
        return _states(self.encoder, embeds, mask, causal=causal)

    def memory(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Memory vectors ``(B, k, d)`` of left-padded token ids ``(B, T)``: the encoder's output E(x).

        With readout ``tokens`` it is the mean of the text's own states, ``(B, 1, d)``; no text may be empty there.
        """
        embeds = self.embed(input_ids)
        if self.readout.of_text:
            states = self.hidden(embeds, mask, causal=self.readout.causal)
            weights = torch.ones_like(input_ids) if mask is None else mask
            return (states.float() * weights[..., None]).sum(1, keepdim=True) / weights.sum(1)[:, None, None]
        shares = self.memory_tokens.tensor_split(len(self._prompts))
        return torch.cat([self._behind(embeds, mask, *added) for added in zip(self._prompts, shares, strict=True)], 1)

    def packed_memory(self, texts: PackedTexts) -> Tensor:
        """Memory vectors ``(N, k, d)`` of texts in one row, see :mod:`.packing`.

        They are those of :meth:`memory`, but for readouts with prompts and for texts that stop behind a layer, which
        cannot be packed.
        """
        embeds = self.embed(texts.ids)
        tokens = self.memory_tokens.to(embeds.dtype).repeat(len(texts.memory), 1)
        embeds = embeds.index_copy(1, texts.memory.flatten(), tokens[None])
        embeds = embeds.float() if self.own_layers else embeds  # as in `hidden`
        body: Callable[..., Any] = self.encoder
        if self._packed_body is not None:
            body = self._packed_body
            torch._dynamo.maybe_mark_dynamic(texts.bounds, 0)  # how many texts there are, it need not know
        states: Tensor = body(**packed_arguments(embeds, texts)).last_hidden_state
        return states[0][texts.memory]

    def compile_packed(self, **options: Any) -> None:
        """Compile the whole body for :meth:`packed_memory`, once for each size of its rows.

        A body in one piece asks the processor for less between two kernels than layers that are compiled one by one.

        Args:
            options: of ``torch.compile``.
        """
        self._packed_body = torch.compile(self.encoder.forward, **options)

    def token_states(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """States ``(B, T, d)`` of left-padded token ids ``(B, T)``, without memory tokens, see :mod:`.token_states`."""
        body: Any = self.encoder
        embeds, depth = self.embed(input_ids), token_depth(len(body.layers), self.text_layers)
        embeds = embeds.float() if self.own_layers else embeds  # as in `hidden`
        if not depth:
            return embeds
        first: Any = shallow_body(body, range(depth))
        # A hook would see the batches of other threads, too, since the layer is theirs as well.
        first.layers[-1] = noted = Noted(first.layers[-1])
        _states(first, embeds, mask, causal=self.readout.causal)
        return noted.made

    def with_head(self, weight: Tensor | None = None) -> CompressionNetwork:
        """Make the network a reranker; returns it.

        Args:
            weight: ``(d,)``; zero by default: then no text is scored above another before training.
        """
        width, device = self.memory_tokens.shape[1], self.memory_tokens.device
        self.head = nn.Parameter(_own(torch.zeros(width) if weight is None else weight).to(device))
        return self

    def score(self, input_ids: Tensor, mask: Tensor | None = None) -> Tensor:
        """Scores ``(B,)`` float32 of left-padded rows ``(B, T)``, each a query and a document, see :mod:`.pairs`.

        The score is the product of the head and the mean memory vector. It has no bias, since only the differences
        between the documents of one query count.
        """
        assert self.head is not None
        # A sum of products, since autocasting would round a matrix product.
        return (self.memory(input_ids, mask).float().mean(1) * self.head).sum(-1)

    def _behind(self, embeds: Tensor, mask: Tensor | None, prompt: list[int], tokens: Tensor) -> Tensor:
        """States of ``tokens (m, d)`` where they follow text and prompt: ``(B, m, d)``."""
        parts = [embeds]
        if prompt:
            parts.append(self.embed(torch.tensor([prompt], device=embeds.device)).expand(len(embeds), -1, -1))
        parts.append(tokens.to(embeds.dtype).expand(len(embeds), -1, -1))
        if mask is not None:
            mask = torch.cat([mask, mask.new_ones(len(mask), len(prompt) + len(tokens))], dim=1)
        states = self.hidden(torch.cat(parts, dim=1), mask, causal=self.readout.causal)
        return states[:, -len(tokens) :]

    def decoder_input(self, memory: Tensor) -> Tensor:
        """Memory vectors as the decoder reads them, ``(B, k, d)``.

        Last hidden states are an order of magnitude longer than the token embeddings that the decoder was trained on,
        and most of that length is common to all texts. What is left of a text's memory without the common part, u, is
        brought to the length of token embeddings and put in the place of a token that says nothing:

            u = memory - center;    input = spread * u / rms(u) + shift,    rms(u)^2 = mean_j |u_j|^2

        The length of u being of no use, no gradient can shrink it. That keeps memory alive: what tells texts apart is
        noise to the decoder at first, and a gradient that may shrink it does so faster than the encoder learns to say
        something with it. Measured on SmolLM2-135M, ``kl``, as gain (the loss with another text's memory minus the
        loss with the text's own): with a learned length 0.00 after 80 steps; with a length held by running statistics
        0.80 after 150 steps, then falling, as the gradient continues to shrink u against them.
        """
        dtype = self.lm.get_input_embeddings().weight.dtype
        own = memory.float() - self.center
        scale = self.spread / own.square().sum(-1).mean(-1).clamp(min=1e-12).sqrt()
        return (own * scale[:, None, None] + self.shift).to(dtype)

    def decode(self, embeds: Tensor, mask: Tensor | None = None) -> Tensor:
        """Last hidden states ``(B, T, d)`` of the frozen LM: adapter off, causal."""
        with self.decoder_role():
            return _states(self.base, embeds, mask, causal=True)

    @contextmanager
    def decoder_role(self) -> Iterator[None]:
        """The frozen LM: LoRA layers off, dropout off."""
        was_training = self.lm.training
        self.lm.eval()
        try:
            with role(self.lm, adapter=False):
                yield
        finally:
            self.lm.train(was_training)

    def logits(self, states: Tensor) -> Tensor:
        """Next-token logits ``(..., V)`` in the head's dtype; select the positions you need first."""
        head = self.lm.get_output_embeddings()
        out: Tensor = head(states)
        return out

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[Tensor, Tensor | None]], anchor: int | None) -> None:
        """Start the decoder's input where the decoder is at home, from a few texts.

        The centre becomes the texts' mean memory, the spread :data:`SPREAD` times that of their token embeddings.

        Args:
            batches: of the texts: ids ``(B, T)``, left-padded, and their mask, ``None`` where nothing is padded.
            anchor: id of a token that says nothing, such as a line break, whose embedding becomes the shift; ``None``
                keeps shift and spread, for a stage that continues a compression stage.
        """
        memory = torch.zeros(self.center.shape, dtype=torch.float64)
        total, squares, texts, tokens = torch.zeros_like(memory[0]), 0.0, 0, 0
        for input_ids, mask in batches:
            memory += self.memory(input_ids, mask).float().sum(0).cpu()
            texts += len(input_ids)
            embedded = self.embed(input_ids).float()
            embedded = embedded.flatten(0, 1) if mask is None else embedded[mask.bool()]
            total += embedded.sum(0).cpu()
            squares += float(embedded.square().sum())
            tokens += len(embedded)
        self.center.copy_(memory / texts)
        if anchor is None:
            return
        self.spread.copy_(SPREAD * (squares / tokens - (total / tokens).square().sum()).sqrt())
        token = torch.tensor([anchor], device=self.shift.device)
        self.shift.copy_(self.embed(token).float().expand_as(self.shift))

    @torch.no_grad()
    def track(self, total: Tensor, count: int) -> None:
        """Let the centre follow the memory by a running mean, after a training step.

        Memory that is not finite is passed over: such a step is skipped, and would spoil the mean for good.

        Args:
            total: ``(k, d)`` float32, the step's memory vectors added up over texts.
            count: number of texts.
        """
        mean = total / count
        self.center.lerp_(torch.where(mean.isfinite().all(), mean, self.center), 1 - MOMENTUM)

    def autocast(self) -> Any:
        """Context for forward passes: float32 adapter weights beside a half-precision LM need autocasting."""
        if self.compute_dtype is torch.float32:
            return nullcontext()
        return torch.autocast(self.memory_tokens.device.type, dtype=self.compute_dtype)


def _states(body: nn.Module, embeds: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor:
    states: Tensor = body(**_arguments(embeds, mask, causal=causal)).last_hidden_state
    return states


def _arguments(embeds: Tensor, mask: Tensor | None, *, causal: bool) -> dict[str, Any]:
    arguments: dict[str, Any] = {"inputs_embeds": embeds, "use_cache": False, "is_causal": causal}
    if mask is not None:
        arguments |= {"attention_mask": mask, "position_ids": positions(mask)}
    return arguments


def _own(tensor: Tensor) -> Tensor:
    """A float32 copy that belongs to nobody else."""
    return tensor.detach().float().clone()
