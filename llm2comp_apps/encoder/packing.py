"""Texts of a pass one behind the other, in one row without padding: what a GPU reads fastest.

A batch of texts of unlike lengths is padded, or cut into many small passes of like ones. Packed, it is one row of
``S`` tokens, each text followed by its memory tokens, and attention stays within a text: on a GPU by PyTorch's
``varlen_attn`` (flash attention), elsewhere text by text, which is right and slow.

It takes an attention function of its own (:data:`PACKED`), known to transformers by its name. Called without packed
texts it is ``sdpa``, so a model that was loaded with it can do everything else, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llm2comp_apps.errors import EncoderError

__all__ = [
    "PACKED",
    "PackedTexts",
    "pack",
    "pack_rows",
    "packed_arguments",
    "packed_passes",
    "register_packed",
    "varlen_kernel",
]

Integers = npt.NDArray[np.int64]

PACKED = "packed"
"""Name of the attention function in transformers."""


_HALF = (torch.bfloat16, torch.float16)
_MULTIPLE = 64
"""Rows are filled up to a multiple of this, which suits matrix products."""


@dataclass(frozen=True, slots=True)
class PackedTexts:
    """N texts in one row.

    Attributes:
        ids: ``(1, S)`` token ids; those at ``memory`` mean nothing.
        positions: ``(1, S)``, each text's from 0.
        bounds: ``(N + 2 or more,)`` int32, where each text begins, then what fills the row up, in pieces; then S.
        memory: ``(N, k)``, where the memory tokens stand.
        longest: tokens of a text at most, a bound that may be the same for all passes.
    """

    ids: Tensor
    positions: Tensor
    bounds: Tensor
    memory: Tensor
    longest: int

    @property
    def tokens(self) -> int:
        """All of them, memory tokens included, without what fills the row up."""
        return int(self.bounds[len(self.memory)])

    def to(self, device: torch.device | str) -> PackedTexts:
        """The same on a device."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pinned(self) -> PackedTexts:
        """The same in memory from which a GPU takes it by itself."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> PackedTexts:
        return PackedTexts(
            change(self.ids), change(self.positions), change(self.bounds), change(self.memory), self.longest
        )


def pack(tokens: Integers, lengths: Integers, k: int, pad_id: int, longest: int = 0, *, least: int = 0) -> PackedTexts:
    """Pack texts, each with room for ``k`` memory tokens behind it.

    Args:
        tokens: ids of all texts, one behind the other.
        lengths: ``(N,)`` how many each has; N is at least 1.
        k: memory tokens of a text.
        pad_id: id of what stands where nothing is read.
        longest: see :class:`PackedTexts`, without memory tokens; by default that of these texts.
        least: fill the row up to so many tokens, so that all rows have one form, for which is compiled once.
    """
    ends = np.cumsum(lengths + k)
    used = int(ends[-1])
    size = -(-max(used + 1, least) // _MULTIPLE) * _MULTIPLE  # so that there is always something that fills up
    most = max(longest, int(lengths.max())) + k
    bounds = np.concatenate([[0], ends, np.arange(used + most, size, most), [size]])  # no piece longer than a text
    positions = np.arange(size) - np.repeat(bounds[:-1], np.diff(bounds))
    memory = ends[:, None] - k + np.arange(k)
    text = np.ones(size, dtype=bool)
    text[memory] = text[used:] = False
    ids = np.full(size, pad_id, dtype=np.int64)
    ids[text] = tokens
    return PackedTexts(
        torch.from_numpy(ids)[None],
        torch.from_numpy(positions)[None],
        torch.from_numpy(bounds.astype(np.int32)),
        torch.from_numpy(memory),
        most,
    )


def pack_rows(rows: Sequence[Sequence[int]], k: int, pad_id: int, longest: int = 0) -> PackedTexts:
    """As :func:`pack`, from a list of token ids for each text."""
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return pack(np.fromiter(chain.from_iterable(rows), np.int64, int(lengths.sum())), lengths, k, pad_id, longest)


def packed_passes(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Indices of texts in their order, cut into passes of at most ``budget`` tokens, or of one longer text."""
    passes: list[list[int]] = []
    used = 0
    for index, length in enumerate(lengths):
        if not passes or used + length > budget:
            passes.append([])
            used = 0
        passes[-1].append(index)
        used += length
    return passes


def packed_arguments(embeds: Tensor, texts: PackedTexts) -> dict[str, Any]:
    """What a body of transformers takes for packed texts; ``embeds (1, S, d)``."""
    return {
        "inputs_embeds": embeds,
        # In four dimensions a mask is taken for a finished one; attention looks at the bounds instead.
        "attention_mask": embeds.new_zeros(1, 1, 1, 1),
        "position_ids": texts.positions,
        "use_cache": False,
        "is_causal": False,
        "cu_seq_lens_q": texts.bounds,
        "max_length_q": texts.longest,
    }


def varlen_kernel() -> Callable[..., Any] | None:
    """PyTorch's attention for texts of unlike lengths, where it has one; its import takes as long as PyTorch's own."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:  # before PyTorch 2.10
        return None
    return varlen_attn


def _kernel_for_this_machine() -> Callable[..., Any] | None:
    return varlen_kernel() if torch.cuda.is_available() else None


def register_packed() -> None:
    """Make :data:`PACKED` known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
    from transformers.masking_utils import sdpa_mask

    attend = partial(_attention, plain=sdpa_attention_forward, repeat=repeat_kv, kernel=_kernel_for_this_machine())
    AttentionInterface.register(PACKED, attend)
    AttentionMaskInterface.register(PACKED, sdpa_mask)


def _attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    plain: Callable[..., tuple[Tensor, None]],
    repeat: Callable[[Tensor, int], Tensor],
    kernel: Callable[..., Any] | None = None,
    cu_seq_lens_q: Tensor | None = None,
    max_length_q: int = 0,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention as transformers asks for it: all ``(B, heads, T, d)``; returns ``(B, T, heads, d)``."""
    if cu_seq_lens_q is None:
        return plain(module, query, key, value, attention_mask, dropout=dropout, **others)
    if (window := others.get("sliding_window")) is not None and window < max_length_q:
        raise EncoderError(f"its attention sees {window} tokens only; packed texts need one that sees them whole")
    groups = getattr(module, "num_key_value_groups", 1)
    # Rotary positions are float32; where products are in half precision, attention is, too.
    whole = query, repeat(key, groups), repeat(value, groups)
    rows: list[Tensor] = [part[0].transpose(0, 1).to(value.dtype) for part in whole]
    scale = float(others.get("scaling") or query.shape[-1] ** -0.5)
    if kernel is not None and _has_flash(value) and not dropout:
        rows[0] = rows[0] * (scale * query.shape[-1] ** 0.5)  # it divides by the root of the width by itself
        places = cu_seq_lens_q, cu_seq_lens_q, max_length_q, max_length_q
        made: Any = kernel(rows[0], rows[1], rows[2], *places)
        return made[None], None
    return _text_by_text(rows, cu_seq_lens_q, scale, dropout)[None], None


def _has_flash(tensor: Tensor) -> bool:
    return tensor.is_cuda and tensor.dtype in _HALF


@torch.compiler.disable  # which would compile a layer anew for each number of texts
def _text_by_text(rows: Sequence[Tensor], bounds: Tensor, scale: float, dropout: float = 0.0) -> Tensor:
    """Of queries, keys and values, all ``(S, heads, d)``.

    On a processor in float32, whose backward pass takes half the time of bfloat16's for texts of some dozen tokens:
    products of small matrices in half precision are prepared anew by each call.
    """
    sizes, dtype, device = bounds.diff().tolist(), rows[0].dtype, rows[0].device.type
    wide = torch.float32 if device == "cpu" else dtype
    query, key, value = (row.to(wide).transpose(0, 1)[None].split(sizes, 2) for row in rows)
    attend = partial(torch.nn.functional.scaled_dot_product_attention, scale=scale, dropout_p=dropout)
    with torch.autocast(device, enabled=False):  # which would round them again
        made = [attend(*part) for part in zip(query, key, value, strict=True)]
    return torch.cat(made, 2)[0].transpose(0, 1).contiguous().to(dtype)  # as `sdpa` gives it: some families view it
