"""``rerank``; see :mod:`llm2comp_train.losses.rerank`.

Rows are those of ``llm2comp train mine-negatives``: a query, its positive and mined negatives. All weights of the kept
layers are trained (``train_weights=all``), and the backbone's token embeddings are shared; ``adapter`` trains a LoRA
adapter beside the backbone instead, as RankLLaMA does with a large one. The guide "Train" has the command for a
reranker of six layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from llm2comp_apps.errors import UsageError
from llm2comp_train.stages._stage import Bench, Stage

if TYPE_CHECKING:
    from torch import Tensor

    from llm2comp_train.data.groups import Group
    from llm2comp_train.data.sources import DataFile, Row
    from llm2comp_train.engine.work import Outcome, Work
    from llm2comp_train.settings import Settings

__all__ = ["STAGE"]


class _Rerank(Stage):
    name = "rerank"
    about = "make a reranker, which reads query and document together, from queries, answers and mined negatives"
    family = "reranking"
    rows = "pairs"
    reranks = True

    def check(self, settings: Settings) -> None:
        if settings.negatives < 1:
            raise UsageError(
                "must be at least 1 in stage rerank, which tells documents apart, not 0", field="negatives"
            )
        if settings.max_length < _SHORTEST:
            reason = f"must be at least {_SHORTEST} in stage rerank: a query and a document share a row"
            raise UsageError(f"{reason}, not {settings.max_length}", field="max_length")

    def read(self, file: DataFile, settings: Settings, prompt: str) -> Iterator[Row]:
        from llm2comp_train.data.sources import pair_rows

        return pair_rows(file.records(), prompt, settings.negatives)

    def work(self, bench: Bench) -> Work:
        import torch

        from llm2comp_train.data.groups import GroupBatches
        from llm2comp_train.engine.ranking import GroupScorer, pair_rows_of
        from llm2comp_train.engine.work import Outcome, Work
        from llm2comp_train.losses.rerank import rerank_loss

        pairs = pair_rows_of(bench)
        batches = GroupBatches(bench.store, bench.settings, pairs, bench.network.extra_tokens)
        scorer = GroupScorer(bench, pairs)
        processes = bench.processes

        def losses(groups: Sequence[Group]) -> Tensor:
            return rerank_loss(*scorer.scores(groups))

        class Reranking(Work):
            """Groups of similar size, as many at a time as the tokens whose activations are kept."""

            def backward(self, step: int) -> Outcome:
                groups = batches.batch(step)
                parts = scorer.parts(processes.share(groups))
                idle = processes.idle_passes(sum(scorer.passes(part) for part in parts))
                found = []
                for part in parts:
                    loss = losses(part).sum() / len(groups)
                    loss.backward()
                    found.append(loss.detach())
                for _ in range(idle):
                    (0.0 * scorer.one(groups[0])).backward()
                total = float(torch.stack(found).sum()) if found else 0.0
                return Outcome(total, scorer.tokens(groups), [group.row for group in groups])

            def figures(self) -> dict[str, float]:
                """The loss of held-out groups and the mean reciprocal rank of their positives, which is the score."""
                with torch.inference_mode():
                    held = [scorer.scores(part) for part in scorer.parts(batches.held_out())]
                    loss = torch.cat([rerank_loss(*part) for part in held]).mean()
                    ranks = torch.cat([1 + ((scores >= scores[:, :1]) & there)[:, 1:].sum(1) for scores, there in held])
                return {"validation_loss": float(loss), "score": float((1 / ranks).mean())}

        return Reranking()


_SHORTEST = 16

STAGE = _Rerank()
