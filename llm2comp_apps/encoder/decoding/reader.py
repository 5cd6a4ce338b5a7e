"""The frozen LM reading memory vectors: what it writes from them, and how much they help it to predict a text.

The **gain** of a token x_t under memory m is

    log g(x_t given m, x_<t) - log g(x_t given nothing, x_<t)

in nats, g the frozen LM. *Nothing* is memory at its centre: the part that the memory of all texts has in common, which
says of no text what sets it apart. A word that the LM would have guessed anyway has no gain, and neither has one that
memory does not hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from llm2comp_apps.encoder.batching import length_batches
from llm2comp_apps.encoder.beginnings import first_ids
from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.encoder.protocol import FloatArray

if TYPE_CHECKING:
    from llm2comp_apps.encoder.checkpoint import EncoderSettings

__all__ = ["MemoryReader", "TokenGain"]

_COMPRESSION = ("rc", "nll", "kl")
_TOKENS_PER_BATCH = 2048
_ANSWERS_AT_ONCE = 50


@dataclass(frozen=True, slots=True)
class TokenGain:
    """A token of a text, and how much memory helps to predict it.

    Attributes:
        text: its characters, blanks included.
        gain: see the module, in nats.
    """

    text: str
    gain: float


class MemoryReader:
    """An encoder and its decoder, one copy of the weights; see :func:`.loading.load_reader`.

    Attributes:
        name: of the encoder.
        fingerprint: of the encoder; memory vectors of another one say nothing here.
        prompts: of the encoder.
        max_length: tokens of a text that the encoder reads.
        k: memory vectors of a text.
        drifted: the last stage of its training did not ask the decoder, so that its memory has moved away from what
            the decoder learned to read; see :meth:`recentre`.
    """

    def __init__(
        self, network: CompressionNetwork, tokenizer: Any, settings: EncoderSettings, fingerprint: str
    ) -> None:
        self.name, self.fingerprint = settings.name or settings.backbone, fingerprint
        self.prompts, self.max_length, self.k = dict(settings.prompts), settings.max_length, network.k
        self.drifted = settings.training.get("stage") not in _COMPRESSION
        self._network, self._tokenizer = network, tokenizer
        self._device = network.memory_tokens.device
        self._pad_id = int(tokenizer.pad_token_id or 0)

    @property
    def center(self) -> FloatArray:
        """What the memory of all texts has in common, ``(k, d)``; as memory it says nothing."""
        center: FloatArray = self._network.center.cpu().numpy()
        return center

    def recentre(self, texts: Sequence[str]) -> None:
        """Measure again what memory has in common, from a few varied texts.

        Contrast moves the memory of all texts, and nobody kept their centre up to date. On 20 sentences the mean
        gain of ``quality`` is -0.20 nats a token with the centre of its checkpoint, and 0.16 with one measured again.
        """
        self._network.center.copy_(torch.from_numpy(self.memory(texts).mean(axis=0)))

    @torch.inference_mode()
    def memory(self, texts: Sequence[str], *, prompt: str = "") -> FloatArray:
        """Memory vectors ``(n, k, d)`` float32 of texts, as the encoder makes them."""
        rows = self._ids([prompt + text for text in texts])
        out = np.zeros((len(rows), self.k, self._network.memory_tokens.shape[1]), dtype=np.float32)
        for batch in length_batches([len(row) + self.k for row in rows], _TOKENS_PER_BATCH) if rows else ():
            held = left_pad([rows[index] for index in batch], self._pad_id, self._device)
            out[batch] = self._network.memory(*held).float().cpu().numpy()
        return out

    @torch.inference_mode()
    def write(self, memory: FloatArray, *, tokens: int = 48, beams: int = 1, prompt: str = "") -> list[str]:
        """What the decoder writes from memory vectors.

        Args:
            memory: ``(n, k, d)``.
            tokens: most tokens of an answer.
            beams: width of a beam search; 1 takes the likeliest token each time.
            prompt: put behind the memory, for the decoder to continue.
        """
        if len(memory) > _ANSWERS_AT_ONCE:
            parts = np.array_split(memory, -(-len(memory) // _ANSWERS_AT_ONCE))
            return [text for part in parts for text in self.write(part, tokens=tokens, beams=beams, prompt=prompt)]
        read = self._network.decoder_input(torch.from_numpy(memory).to(self._device))
        asked = self._tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        if asked:
            ids = torch.tensor([asked] * len(read), device=self._device)
            read = torch.cat([read, self._network.embed(ids)], dim=1)
        lm: Any = self._network.lm
        with self._network.decoder_role(), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*no_repeat_ngram_size.*", category=UserWarning)  # as is meant
            written = lm.generate(
                inputs_embeds=read,
                attention_mask=torch.ones(read.shape[:2], dtype=torch.long, device=self._device),
                max_new_tokens=tokens,
                num_beams=beams,
                do_sample=False,
                no_repeat_ngram_size=4,  # a small LM says the same again and again
                pad_token_id=self._pad_id,
            )
        texts: list[str] = self._tokenizer.batch_decode(written, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def gains(self, text: str, memory: FloatArray) -> list[list[TokenGain]]:
        """The gain of each token of a text under each of several memories.

        Args:
            text: as far as the encoder reads it.
            memory: ``(n, k, d)``, the text's own or others.

        Returns:
            n lists, a token each.
        """
        (ids,) = self._ids([text])
        likely = self._likelihoods(ids, torch.from_numpy(memory).to(self._device))
        pieces = self._pieces(ids)
        gains = (likely[1:] - likely[0]).tolist()
        return [[TokenGain(piece, gain) for piece, gain in zip(pieces, row, strict=True)] for row in gains]

    def carriers(self, text: str, memory: FloatArray) -> FloatArray:
        """What each memory vector carries of a text: how much less likely its tokens are without the vector.

        Args:
            text: as far as the encoder reads it.
            memory: ``(k, d)``.

        Returns:
            ``(k, T)`` float32 in nats; row j is the memory without its vector j, which stands at the centre.
        """
        (ids,) = self._ids([text])
        whole = torch.from_numpy(memory).to(self._device)
        without = whole.repeat(self.k, 1, 1)
        places = torch.arange(self.k, device=self._device)
        without[places, places] = self._network.center
        likely = self._likelihoods(ids, torch.cat([whole[None], without]))
        lost: FloatArray = (likely[1] - likely[2:]).float().cpu().numpy()
        return lost

    def likelihood(self, texts: Sequence[str], memory: FloatArray, *, prompt: str = "") -> FloatArray:
        """Mean log-likelihood per token of each text given the memory in its place.

        Args:
            texts: n texts.
            memory: ``(n, k, d)``.
            prompt: stands between memory and text, and is not counted.

        Returns:
            ``(n,)`` float32 in nats.
        """
        asked = self._tokenizer(prompt, add_special_tokens=False)["input_ids"] if prompt else []
        rows = self._ids(texts, begins=not prompt)
        return self._batched_likelihood([[*asked, *row] for row in rows], len(asked), memory)

    @torch.inference_mode()
    def _batched_likelihood(self, rows: list[list[int]], skipped: int, memory: FloatArray) -> FloatArray:
        out = np.zeros(len(rows), dtype=np.float32)
        for batch in length_batches([len(row) + self.k for row in rows], _TOKENS_PER_BATCH) if rows else ():
            width = max(len(rows[index]) for index in batch)
            ids = torch.full((len(batch), width), self._pad_id, device=self._device)
            for place, index in enumerate(batch):
                ids[place, : len(rows[index])] = torch.tensor(rows[index], device=self._device)
            read = self._network.decoder_input(torch.from_numpy(memory[batch]).to(self._device))
            likely = self._token_likelihoods(read, ids)[:, skipped:]
            counts = torch.tensor([len(rows[index]) - skipped for index in batch], device=self._device)
            there = torch.arange(likely.shape[1], device=self._device)[None] < counts[:, None]
            out[batch] = ((likely * there).sum(1) / counts.clamp(min=1)).cpu().numpy()
        return out

    @torch.inference_mode()
    def _likelihoods(self, ids: list[int], memory: Tensor) -> Tensor:
        """``(1 + n, T)``: log-likelihood of each token without memory, and given each of n memories."""
        nothing = self._network.shift[None].to(self._network.embed(torch.tensor([[0]], device=self._device)).dtype)
        read = torch.cat([nothing, self._network.decoder_input(memory)])
        return self._token_likelihoods(read, torch.tensor([ids] * len(read), device=self._device))

    def _token_likelihoods(self, read: Tensor, ids: Tensor) -> Tensor:
        """``(B, T)`` log-likelihoods of right-padded ids ``(B, T)`` behind ``read (B, k, d)``."""
        states = self._network.decode(torch.cat([read, self._network.embed(ids)], dim=1))
        # The state before a token predicts it: the last memory vector's for the first.
        logits = self._network.logits(states[:, read.shape[1] - 1 : -1]).float()
        return logits.log_softmax(-1).gather(-1, ids[..., None])[..., 0]

    def _ids(self, texts: Sequence[str], *, begins: bool = True) -> list[list[int]]:
        """Token ids of texts; no token of the beginning is put before those that stand behind a prompt."""
        return first_ids(self._tokenizer, texts, self.max_length, special=begins)[0]

    def _pieces(self, ids: list[int]) -> list[str]:
        """The characters of each token; they add up to the text, also where a character takes several tokens."""
        pieces, before = [], ""
        for end in range(1, len(ids) + 1):
            text = self._tokenizer.decode(ids[:end], clean_up_tokenization_spaces=False)
            if text.endswith("\N{REPLACEMENT CHARACTER}"):  # in the middle of a character
                pieces.append("")
                continue
            pieces.append(text[len(before) :])
            before = text
        return pieces
