"""``mntp``; see :mod:`llm2comp_train.losses.mntp`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm2comp_train.stages._compression import AdaptingStage, last_id

if TYPE_CHECKING:
    from torch import Tensor

    from llm2comp_train.data.batches import Split
    from llm2comp_train.engine.text_work import TextWork
    from llm2comp_train.stages._stage import Bench

__all__ = ["STAGE"]

MASK_TOKEN = "_"  # noqa: S105 - a token of text


class _MNTP(AdaptingStage):
    name = "mntp"
    about = "LLM2Vec's masked next-token prediction (a comparator)"
    readout = "tokens"

    def work(self, bench: Bench) -> TextWork:
        from llm2comp_train.data.batches import CompressionBatches
        from llm2comp_train.engine.text_work import TextWork
        from llm2comp_train.losses.mntp import mntp_loss

        network, chunk = bench.network, bench.settings.head_chunk
        mask_id = last_id(bench.backbone.tokenizer, MASK_TOKEN)
        ends, lead = self.ends(bench), self.lead(bench)
        batches = CompressionBatches(bench.store, bench.settings, mask_id=mask_id, ends=ends, lead=lead)

        class MaskedPrediction(TextWork):
            """There is no memory: its vectors are none, ``(B, 0, d)``."""

            def losses(self, splits: Sequence[Split]) -> tuple[Tensor, Tensor]:
                batch = self.collate(splits)
                with network.autocast():
                    loss = mntp_loss(network, batch, chunk=chunk)
                return loss, network.memory_tokens.detach().expand(len(splits), -1, -1)

            def read_part(self, split: Split) -> list[int]:
                return split.target

        network.eval()
        return MaskedPrediction(bench, batches)


STAGE = _MNTP()
