"""Settings of an index, checked before a model and a corpus are read for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.plan import EmbeddingPlan
from llm2comp_apps.retrieval.query_text import check_number, check_whole

if TYPE_CHECKING:
    from llm2comp_indexes import Index, Policy

__all__ = ["LANGUAGES", "IndexSettings", "changed_policy", "check_same_settings", "check_target_recall"]

LANGUAGES = (
    "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
)  # fmt: skip
#: What `compact` can change later.
_CHANGEABLE = ("kind", "target_recall", "max_ram")


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexSettings:
    """Settings of a new index; documented once, for Python and the command line.

    Attributes:
        chunk: cut documents into chunks of at most so many tokens, a vector each; ``None`` gives one vector per
            document, of as many of its first tokens as the encoder reads.
        overlap: tokens that neighbouring chunks share.
        memory: store memory vectors too, for reranking by them.
        language: of the texts, for matching words; ``none`` turns stemming off.
        kind: how vectors are searched: a name of :mod:`llm2comp_indexes.dense.kinds`, or a FAISS factory string.
        target_recall: recall@10 against exact search that a kind must reach.
        max_ram: bytes that a kind may take, of each segment; ``None`` for no limit.
    """

    chunk: int | None = None
    overlap: int = 0
    memory: bool = False
    language: str = "english"
    kind: str = "auto"
    target_recall: float = 0.95
    max_ram: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that no index takes.

        Raises:
            UsageError: names the setting.
        """
        if self.chunk is not None:
            check_whole(self.chunk, "chunk")
            object.__setattr__(self, "chunk", int(self.chunk))  # of numpy's, too, which no JSON holds
        check_whole(self.overlap, "overlap")
        object.__setattr__(self, "overlap", int(self.overlap))
        object.__setattr__(self, "memory", bool(self.memory))
        _check_language(self.language)
        check_target_recall(self.target_recall)
        _ = self.plan, self.policy

    @property
    def plan(self) -> EmbeddingPlan:
        """How a document becomes vectors; without the encoder's prompt."""
        return EmbeddingPlan(chunk=self.chunk, overlap=self.overlap, memory=self.memory)

    @property
    def policy(self) -> Policy:
        """How the vectors are searched."""
        from llm2comp_indexes import Policy

        return Policy(kind=self.kind, target_recall=self.target_recall, max_ram=self.max_ram)

    @property
    def of_search(self) -> dict[str, Any]:
        """The settings that ``Index.create`` reads."""
        return {"language": self.language, **asdict(self.policy)}


def check_target_recall(target_recall: float) -> None:
    """Refuse a share that no kind can reach.

    Raises:
        UsageError: says which are possible.
    """
    check_number(target_recall, "target_recall")
    if target_recall is None or not 0 < target_recall <= 1:
        raise UsageError(f"must lie above 0 and be at most 1, not {target_recall}", field="target_recall")


def _check_language(language: str) -> None:
    from llm2comp_indexes import InputError, check_language

    try:
        check_language(language)
    except InputError as error:
        reason = f"must be none or one of {', '.join(LANGUAGES)}, not {language!r}"
        raise UsageError(reason, field="language") from error


def check_same_settings(index: Index, wanted: Mapping[str, Any]) -> None:
    """Refuse to build on an index with other settings than it was built with.

    Args:
        index: an open index.
        wanted: settings by name.

    Raises:
        UsageError: names the first setting that differs.
    """
    for name, value in wanted.items():
        built = index.settings.get(name)
        if value == built:
            continue
        if name in _CHANGEABLE:
            reason = f"differs from that of {index.path}, which is there already: llm2comp index compact {index.path}"
            raise UsageError(f"{reason} changes it", field=name)
        how = f"with `{name}={built}`" if built else f"without `{name}`"
        reason = f"differs: {index.path} was built {how}; leave it out, or build another index"
        raise UsageError(reason, field=name)


def changed_policy(index: Index, **changes: Any) -> Policy | None:
    """How the vectors of an index are to be searched from now on; ``None`` where no change is given.

    Args:
        index: an open index.
        changes: ``kind``, ``target_recall``, ``max_ram``; ``None`` takes what the index has.

    Raises:
        UsageError: a value makes no sense.
    """
    from llm2comp_indexes import Policy

    given = {name: value for name, value in changes.items() if value is not None}
    if not given:
        return None
    check_target_recall(given.get("target_recall", 1.0))
    return Policy.from_settings({**index.settings, **given})
