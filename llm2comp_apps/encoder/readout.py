"""What stands behind a text, and which last hidden states of the LM become its vectors.

| name | behind the text | vectors of a text | attention | source (arXiv) |
|---|---|---|---|---|
| ``memory`` | k memory tokens | the states of the memory tokens, k | bidirectional | LLM2Comp, 2511.17129 |
| ``tokens`` | nothing | the mean over the text's own states, 1 | bidirectional | LLM2Vec, 2404.05961 |
| ``prompts`` | two prompts, each in its own pass with half the memory tokens | k | causal | Llama2Vec, 2312.15503 |

The first is this project's; the others carry the comparators ``mntp`` and ``ebar`` (``llm2comp train``), so that what
they make is an encoder like any other. Llama2Vec closes each prompt with one special token, which is k = 2 here.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT_READOUT", "READOUTS", "Readout"]


@dataclass(frozen=True, slots=True)
class Readout:
    """A row of the table above.

    Attributes:
        name: written into checkpoints; stands for the wording of the prompts, too.
        prompts: texts between text and memory tokens, each with a pass and a share of the memory tokens of its own.
        causal: attention sees what comes before alone.
        of_text: the mean over the text's own states, without memory tokens.
    """

    name: str
    prompts: tuple[str, ...] = ("",)
    causal: bool = False
    of_text: bool = False


DEFAULT_READOUT = Readout("memory")
READOUTS = {
    readout.name: readout
    for readout in (
        DEFAULT_READOUT,
        Readout("tokens", of_text=True),
        Readout("prompts", (" The original sentence: ", " The next sentence: "), causal=True),
    )
}
