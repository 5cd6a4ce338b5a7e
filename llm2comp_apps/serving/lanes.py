"""An encoder whose work an engine does: what collections are given in place of the encoder itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from itertools import islice
from typing import Any

from llm2comp_apps.serving.batching import Engine, FloatArray, Form, Lane
from llm2comp_apps.serving.tokens import Tokenized

__all__ = ["EngineEncoder", "encoder_in_lane"]

_STREAM_WINDOW = 512


class EngineEncoder:
    """Offers what the engine's encoder does; every call goes through the engine, in one lane.

    Args:
        engine: its encoder has been loaded.
        lane: ``query`` for what people wait for, ``bulk`` for the rest.
    """

    def __init__(self, engine: Engine, lane: Lane) -> None:
        encoder = engine.encoder
        self.engine = engine
        self.lane: Lane = lane
        self.name: str = encoder.name
        self.fingerprint: str = encoder.fingerprint
        self.dimension: int = encoder.dimension
        self.prompts: dict[str, str] = dict(encoder.prompts)
        self.space = getattr(encoder, "space", None)
        self.tokenizer = engine.counter.tokenizer
        self.cut = 0

    def room(self, prompt: str | None = None) -> int:
        """Tokens of a text that are read behind a prompt."""
        return self.engine.counter.room(prompt)

    def submit(
        self, texts: Sequence[str], tokenized: Tokenized, *, prompt: str | None = None, form: Form = "embedding"
    ) -> Future[FloatArray]:
        """Hand texts to the engine; see :meth:`.Engine.submit`."""
        if tokenized.truncated:
            self.cut += len(tokenized.truncated)
            self.engine.metrics.truncated.inc(len(tokenized.truncated))
        return self.engine.submit(texts, tokenized.lengths, lane=self.lane, prompt=prompt, form=form)

    def encode(self, texts: Sequence[str], *, prompt: str | None = None, show_progress: bool = False) -> FloatArray:
        """Embed texts: ``(n, d)`` float32, rows of unit norm; waits for the engine."""
        del show_progress  # nobody looks at a server
        return self.submit(texts, self.engine.counter.count(texts, prompt), prompt=prompt).result()

    def encode_stream(self, texts: Iterable[str], *, prompt: str | None = None) -> Iterator[FloatArray]:
        """Embed a stream of texts in windows."""
        stream = iter(texts)
        while window := list(islice(stream, _STREAM_WINDOW)):
            yield self.encode(window, prompt=prompt)


class MemoryEngineEncoder(EngineEncoder):
    """The same for encoders with memory vectors."""

    def __init__(self, engine: Engine, lane: Lane) -> None:
        super().__init__(engine, lane)
        self.k = int(engine.encoder.k)
        self.pooling = str(engine.encoder.pooling)

    def encode_memory(self, texts: Sequence[str], *, prompt: str | None = None) -> FloatArray:
        """Memory vectors ``(n, k, d)`` of texts; waits for the engine."""
        return self.submit(texts, self.engine.counter.count(texts, prompt), prompt=prompt, form="memory").result()


class TokensEngineEncoder(MemoryEngineEncoder):
    """The same for encoders that show their tokens, too."""

    def encode_tokens(self, texts: Sequence[str], *, max_length: int | None = None) -> list[Any]:
        """The states of the tokens of each text; waits for the engine."""
        asked = texts or [" "]  # no texts ask to open what reads tokens, which only the engine's thread may do
        longest = max_length or self.room()
        lengths = [min(length, longest) for length in self.engine.counter.count(asked).lengths]
        made: Future[list[Any]] = self.engine.submit(
            asked, lengths, lane=self.lane, prompt=None, form="tokens", max_length=max_length
        )
        return made.result()[: len(texts)]


def encoder_in_lane(engine: Engine, lane: Lane) -> EngineEncoder:
    """The engine's encoder with the abilities that it has."""
    encoder: Any = engine.encoder
    if not hasattr(encoder, "encode_memory"):
        return EngineEncoder(engine, lane)
    return (TokensEngineEncoder if hasattr(encoder, "encode_tokens") else MemoryEngineEncoder)(engine, lane)
