"""Batches as pure functions of (seed, step): nothing to save, nothing to replay when a run is resumed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from llm2comp_apps.encoder.network import left_pad
from llm2comp_apps.errors import TrainingError
from llm2comp_train.data.store import TokenStore
from llm2comp_train.losses.decoding import SplitBatch
from llm2comp_train.settings import Settings

__all__ = [
    "CompressionBatches",
    "LengthBatches",
    "PairBatch",
    "PairBatches",
    "SentenceBatches",
    "Split",
    "can_be_told_apart",
    "collate",
    "generator_for",
    "sentence_ends",
]

WINDOW = 32
"""Batches whose texts are sorted by length together."""
TOPIC_WINDOWS = 4
"""Windows in one where texts are sorted by topic first, so that a topic has texts of all lengths in it."""
LEAST = 10
"""Tokens on either side of a split, where a text has twice as many; else it is split in the middle."""

_ORDER, _SPLIT, _MIX, _FILES, _REFILL, _HELD_OUT, _MASKED, _FILL = range(8)  # purposes: no two draws share a generator


def _generator(seed: int, *purpose: int) -> np.random.Generator:
    return np.random.default_rng([seed, *purpose])


def generator_for(seed: int, step: int) -> np.random.Generator:
    """What the others of a batch are drawn from to fill a group up; ``step`` is -1 for the held-out rows."""
    return _generator(seed, _FILL, step + 1)


class _Visits:
    """Rows in the order of visit, without end: each epoch is a permutation of its own."""

    def __init__(self, rows: npt.NDArray[np.int64], seed: int, name: int = 0) -> None:
        self._rows, self._seed, self._name = rows, seed, name
        self._epoch, self._order = -1, rows

    @property
    def count(self) -> int:
        """Rows of an epoch."""
        return len(self._rows)

    def take(self, start: int, count: int) -> list[int]:
        """Rows number ``start`` to ``start + count``."""
        out = []
        for position in range(start, start + count):
            epoch, offset = divmod(position, len(self._rows))
            if epoch != self._epoch:
                generator = _generator(self._seed, _ORDER, self._name, epoch)
                self._epoch, self._order = epoch, generator.permutation(self._rows)
            out.append(int(self._order[offset]))
        return out


@dataclass(frozen=True, slots=True)
class Split:
    """One visit of a text: its context, its target, the row it came from."""

    context: list[int]
    target: list[int]
    row: int


class CompressionBatches:
    """Texts split into context and target, the split point (and the sentence to start at) drawn again at every visit.

    Texts are grouped by the lengths that were drawn within a window of :data:`WINDOW` batches, so that batches have
    next to no padding; the batches of a window come in random order.
    """

    def __init__(
        self,
        store: TokenStore,
        settings: Settings,
        *,
        reconstruct: bool = False,
        mask_id: int | None = None,
        ends: Collection[int] = (),
        lead: int = 0,
    ) -> None:
        """Hold out ``settings.validation_texts`` rows and shuffle the others.

        Args:
            store: rows of one text.
            settings: of the stage.
            reconstruct: the target is the context itself (``rc``), not what follows.
            mask_id: the target is context and continuation in one, the context the same with masked tokens (``mntp``).
            ends: token ids that end a sentence, see :func:`sentence_ends`; empty for no cropping.
            lead: special tokens in front of every text, which stay there when it is cropped.

        Raises:
            TrainingError: too few texts.
        """
        self._lead = lead
        self._store, self._settings, self._reconstruct, self._mask_id = store, settings, reconstruct, mask_id
        self._ends = np.asarray(sorted(ends), dtype=np.int64)
        usable = np.flatnonzero(store.lengths() >= 2)
        if len(usable) < settings.validation_texts + settings.batch_size:
            raise TrainingError(
                f"the data hold {len(usable)} texts of two tokens and more; {settings.validation_texts} are held out "
                f"for validation and a batch takes {settings.batch_size}. Give more data, or lower `validation_texts`."
            )
        order = _generator(settings.seed, _HELD_OUT).permutation(usable)
        self._held_out = order[: settings.validation_texts]
        self._visits = _Visits(np.sort(order[settings.validation_texts :]), settings.seed)
        self._window, self._planned = -1, [[Split([], [], 0)]]

    def batch(self, step: int) -> list[Split]:
        """The texts of a step."""
        window, place = divmod(step, WINDOW)
        if window != self._window:
            self._window, self._planned = window, self._plan(window)
        return self._planned[place]

    def _plan(self, window: int) -> list[list[Split]]:
        size, seed = self._settings.batch_size, self._settings.seed
        start = window * WINDOW * size
        rows = self._visits.take(start, WINDOW * size)
        splits = [self.split(row, _generator(seed, _SPLIT, start + index)) for index, row in enumerate(rows)]
        splits.sort(key=lambda split: (len(split.context), len(split.target)))
        batches = [splits[first : first + size] for first in range(0, len(splits), size)]
        return [batches[index] for index in _generator(seed, _MIX, window).permutation(WINDOW)]

    def split(self, row: int, generator: np.random.Generator) -> Split:
        """Split a row's text at a point drawn from ``generator``."""
        ids = self._store.ids(self._store.texts(row)[0])
        contexts, limit = self._settings.contexts, self._settings.continuation
        if contexts:
            context = int(generator.choice(contexts))
            ids = self._crop(ids, context + limit, generator)
        else:
            least = min(LEAST, len(ids) // 2)
            context = int(generator.integers(least, len(ids) - least + 1))
        return self._mask(self._cut(ids, context, row), generator)

    def validation(self) -> list[Split]:
        """The held-out texts, cut the same way at every evaluation: from the start, at the longest context."""
        contexts = self._settings.contexts
        texts = [(int(row), self._store.ids(self._store.texts(int(row))[0])) for row in self._held_out]
        splits = [self._cut(ids, max(contexts) if contexts else len(ids) // 2, row) for row, ids in texts]
        generator = _generator(self._settings.seed, _MASKED)
        splits = [self._mask(split, generator) for split in splits]
        return sorted(splits, key=lambda split: (len(split.context), len(split.target)))

    def _crop(self, ids: list[int], wanted: int, generator: np.random.Generator) -> list[int]:
        """``ids`` from a sentence drawn among those with ``wanted`` tokens from their start on."""
        last = len(ids) - wanted
        if last <= 0 or not len(self._ends):
            return ids
        starts = 1 + np.flatnonzero(np.isin(ids[:last], self._ends))
        start = int(generator.choice([0, *starts]))
        return ids[: self._lead] + ids[start:] if start >= self._lead else ids

    def _cut(self, ids: list[int], context: int, row: int) -> Split:
        if self._reconstruct:
            return Split(ids[:context], ids[:context], row)
        context = min(context, len(ids) - min(LEAST, len(ids) // 2))
        end = context + self._settings.continuation if self._settings.continuation else None
        return Split(ids[:context], ids[context:end], row)

    def _mask(self, split: Split, generator: np.random.Generator) -> Split:
        """For ``mntp``: masked text and text; at least one token is masked, never the first."""
        if self._mask_id is None:
            return split
        ids = np.array(split.context + split.target)
        count = max(1, round(self._settings.mask_share * (len(ids) - 1)))
        masked = ids.copy()
        masked[1 + generator.permutation(len(ids) - 1)[:count]] = self._mask_id
        return Split(masked.tolist(), ids.tolist(), split.row)


def collate(splits: Sequence[Split], pad_id: int, device: torch.device) -> SplitBatch:
    """Tensors of split texts: contexts left-padded, targets right-padded."""
    context, mask = left_pad([split.context for split in splits], pad_id, device)
    lengths = torch.tensor([len(split.target) for split in splits])
    target = torch.full((len(splits), int(lengths.max())), pad_id)
    for index, split in enumerate(splits):
        target[index, : len(split.target)] = torch.tensor(split.target)
    return SplitBatch(context, mask, target.to(device), lengths.to(device))


def sentence_ends(vocabulary: Sequence[str]) -> list[int]:
    """Ids of the tokens that end a sentence: those whose last character is ``.``, ``!`` or ``?``."""
    return [index for index, token in enumerate(vocabulary) if token.endswith((".", "!", "?"))]


class SentenceBatches:
    """Distinct sentences for ``ucl``."""

    def __init__(self, store: TokenStore, settings: Settings) -> None:
        """Shuffle the rows.

        Raises:
            TrainingError: there is nothing to tell a sentence from.
        """
        if len(np.unique(store.digests)) < 2:
            raise TrainingError("the data hold one sentence only; a batch needs two, which are told apart.")
        self._store, self._size = store, settings.batch_size
        self._visits = _Visits(np.arange(len(store)), settings.seed)

    def batch(self, step: int) -> list[int]:
        """Rows of a step: ``batch_size`` of them, less those whose text is already there."""
        kept: dict[int, int] = {}
        for row in self._visits.take(step * self._size, self._size):
            kept.setdefault(int(self._store.digests[self._store.texts(row)[0]]), row)
        return list(kept.values())


class LengthBatches:
    """Texts of similar length for ``align``.

    The texts of a window of :data:`WINDOW` batches are sorted by length and cut into batches: of ``batch_size`` texts,
    or, given ``batch_tokens``, of nearly that many tokens each, so that every step costs the same. The batches of a
    window come in random order. With ``topics``, larger windows are sorted by topic first, and batches are of one topic
    (or of two, where one ends).
    """

    def __init__(
        self,
        store: TokenStore,
        settings: Settings,
        extra_tokens: int,
        lengths: npt.NDArray[np.int64] | None = None,
    ) -> None:
        """Hold out ``settings.validation_texts`` rows and shuffle the others.

        Args:
            store: rows of one text, unless ``lengths`` are given.
            settings: of the stage.
            extra_tokens: that the network adds to a text.
            lengths: ``(rows,)`` tokens of each row; by default of its first text.

        Raises:
            TrainingError: too few texts.
        """
        self._settings = settings
        self._lengths = (store.lengths() if lengths is None else lengths) + extra_tokens
        size = settings.batch_size
        if settings.batch_tokens:
            size = max(2, round(settings.batch_tokens / float(self._lengths.mean())))
        if len(store) < settings.validation_texts + size:
            batch, way = f"a batch takes {size}", "`validation_texts`"
            if settings.batch_tokens:
                batch, way = f"a batch of {settings.batch_tokens} tokens takes about {size}", "`batch_tokens`"
            raise TrainingError(
                f"the data hold {len(store)} texts; {settings.validation_texts} are held out for validation and "
                f"{batch}. Give more data, or lower {way}."
            )
        order = _generator(settings.seed, _HELD_OUT).permutation(len(store))
        self._held_out = order[: settings.validation_texts]
        self._visits = _Visits(np.sort(order[settings.validation_texts :]), settings.seed)
        self._size = size
        self._span = WINDOW * (TOPIC_WINDOWS if settings.topics else 1)
        self._topics: npt.NDArray[np.int32] | None = None
        self._window, self._planned = -1, [[0]]

    def by_topic(self, topics: npt.NDArray[np.int32]) -> None:
        """Take batches from groups of alike texts; ``(rows,)`` numbers of the groups."""
        self._topics, self._window = topics, -1

    def batch(self, step: int) -> list[int]:
        """Rows of a step."""
        window, place = divmod(step, self._span)
        if window != self._window:
            self._window, self._planned = window, self._plan(window)
        return self._planned[place]

    def held_out(self) -> list[int]:
        """Rows that are never trained on."""
        return [int(row) for row in self._held_out]

    def sample(self, count: int) -> list[int]:
        """The first ``count`` rows of the run."""
        return self._visits.take(0, min(count, self._settings.max_steps * self._size))

    def visited(self) -> npt.NDArray[np.int64]:
        """Every row that the run reads, ascending, held-out ones included."""
        windows = -(-self._settings.max_steps // self._span)
        trained = self._visits.take(0, min(windows * self._span * self._size, self._visits.count))
        return np.unique(np.concatenate([np.asarray(trained, dtype=np.int64), self._held_out]))

    def _plan(self, window: int) -> list[list[int]]:
        count = self._span * self._size
        rows = np.asarray(self._visits.take(window * count, count))
        lengths = self._lengths[rows]
        order = np.argsort(lengths, kind="stable")
        if self._topics is not None:
            order = order[np.argsort(self._topics[rows][order], kind="stable")]
        if self._settings.batch_tokens:
            tokens = np.cumsum(lengths[order])
            before = np.arange(1, self._span)  # batches before each end, each of at least one text
            ends = np.searchsorted(tokens, tokens[-1] * before / self._span)
            ends = np.maximum.accumulate(np.clip(ends - before, 0, count - self._span)) + before
        else:
            ends = self._size * np.arange(1, self._span)
        batches = [part.tolist() for part in np.split(rows[order], ends)]
        return [batches[index] for index in _generator(self._settings.seed, _MIX, window).permutation(self._span)]


@dataclass(frozen=True, slots=True)
class PairBatch:
    """Pairs of one file.

    Attributes:
        file: its number.
        rows: B rows of the store.
        texts: B queries, B positives in their order, H hard negatives: numbers of texts of the store.
        same: ``(B, B + H)`` bool: documents that must not count as negatives of a query.
    """

    file: int
    rows: list[int]
    texts: list[int]
    same: Tensor


class PairBatches:
    """Batches of one file each, files drawn by a damped power of their size; no text twice in a batch.

    Each file's rows are visited in epochs. Rows that would bring a text twice are replaced by others of the file drawn
    at random; a file with fewer different pairs than ``batch_size`` makes smaller batches.
    """

    def __init__(self, store: TokenStore, settings: Settings) -> None:
        """Shuffle the rows of each file.

        Raises:
            TrainingError: every batch of a file would be a single pair without a negative.
        """
        self._store, self._size, self._seed = store, settings.batch_size, settings.seed
        numbers = np.asarray(store.files)
        self._rows = [np.flatnonzero(numbers == number) for number in range(len(store.names))]
        for name, rows in zip(store.names, self._rows, strict=True):
            if not can_be_told_apart(store, rows):
                raise TrainingError(
                    f"{name}: there is nothing to tell an answer from: no two of its {len(rows)} pairs differ in both "
                    "texts, and none has a hard negative. Give more pairs, or negatives."
                )
        self._visits = [_Visits(rows, settings.seed, number) for number, rows in enumerate(self._rows)]
        weights = np.array([min(len(rows), settings.file_cap) ** settings.file_exponent for rows in self._rows])
        chances = np.cumsum(weights / weights.sum())
        # One generator for all steps: the files drawn before a step say how far each file has been visited.
        drawn = _generator(settings.seed, _FILES).random(settings.max_steps)
        self._files = np.searchsorted(chances[:-1], drawn, side="right")

    def batch(self, step: int) -> PairBatch:
        """The pairs of a step."""
        file = int(self._files[step])
        earlier = int((self._files[:step] == file).sum())
        rows = self._visits[file].take(earlier * self._size, self._size)
        spare = _generator(self._seed, _REFILL, step).choice(self._rows[file], self._size)
        kept: list[int] = []
        seen: set[int] = set()
        for row in [*rows, *map(int, spare)]:
            texts = self._store.texts(row)[:2]
            digests = {int(self._store.digests[text]) for text in texts}
            if len(kept) < self._size and not digests & seen:
                seen |= digests
                kept.append(row)
        return self._assemble(file, kept)

    def _assemble(self, file: int, rows: list[int]) -> PairBatch:
        members = [self._store.texts(row) for row in rows]
        queries, positives = [texts[0] for texts in members], [texts[1] for texts in members]
        documents = positives + [text for texts in members for text in texts[2:]]
        own, right, other = (
            torch.from_numpy(self._store.digests[texts].view(np.int64)) for texts in (queries, positives, documents)
        )
        same = (own[:, None] == other) | (right[:, None] == other)
        return PairBatch(file, rows, queries + documents, same)


def can_be_told_apart(store: TokenStore, rows: npt.NDArray[np.int64]) -> bool:
    """Whether two pairs among rows ``(n,)`` share no text, so one batch can hold both; or one has a hard negative."""
    first = np.asarray([store.texts(int(row)).start for row in rows])
    queries, positives = store.digests[first], store.digests[first + 1]
    one, other = queries[0], positives[0]
    has_one = (queries == one) | (positives == one)
    has_other = (queries == other) | (positives == other)
    if not (has_one | has_other).all():
        return True
    # Every pair shares a text with the first one: (one, x) and (other, y) are disjoint where x is not y.
    beside_one, beside_other = (
        set(np.where(queries == text, positives, queries)[mine & ~theirs].tolist())
        for text, mine, theirs in ((one, has_one, has_other), (other, has_other, has_one))
    )
    if beside_one and beside_other and len(beside_one | beside_other) > 1:
        return True
    return any(
        int(store.digests[text]) not in (int(query), int(positive))
        for row, query, positive in zip(rows, queries, positives, strict=True)
        for text in store.texts(int(row))[2:]
    )
