"""What ``llm2comp cluster`` does, once its options are read."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llm2comp_apps import encoder as encoders
from llm2comp_apps.cli.ui.console import note, print_json, stdout_console, warn
from llm2comp_apps.cli.ui.progress import ProgressDisplay, format_duration
from llm2comp_apps.cli.ui.reading import describe_reading
from llm2comp_apps.cli.ui.spelling import in_options
from llm2comp_apps.cli.ui.text import printable
from llm2comp_apps.clustering.output.destinations import check_folder, check_table
from llm2comp_apps.clustering.output.report import SCORE_NAMES, outlier_policy_effect
from llm2comp_apps.clustering.output.store import document_rows, load_model, write_clustering, write_rows
from llm2comp_apps.clustering.pipeline import Clustering, ClusterSettings, Namer, check_documents, cluster
from llm2comp_apps.clustering.sources import Source, is_index, read_index
from llm2comp_apps.corpus import Document, ReadReport, read_corpus
from llm2comp_apps.errors import ClusteringError, EncoderError, UsageError
from llm2comp_apps.retrieval.discovery import default_index_path

if TYPE_CHECKING:
    from llm2comp_apps.clustering.algorithms.neighbors import FloatArray
    from llm2comp_apps.clustering.output.store import FittedModel
    from llm2comp_apps.corpus import CorpusOptions
    from llm2comp_apps.encoder import TextEncoder

__all__ = ["Request", "assign_documents", "find_topics"]

_SNIPPET = 200
_CENTRAL = "most central document"
_NUMBERS = ("topic", "documents", "share")


@dataclass(frozen=True, slots=True)
class Request:
    """What to read, with what, and where to write.

    Attributes:
        docs: one index, or files and folders of documents.
        options: how documents are read.
        encoder: name of the encoder; None for the default, or the one that a fitted model names.
        device: for it.
        cache: keep embeddings.
        output: as given.
        parquet: the table as ``.parquet`` too.
        as_json: the summary as JSON.
    """

    docs: list[str]
    options: CorpusOptions
    encoder: str | None
    device: str | None
    cache: bool
    output: Path | None
    parquet: bool
    as_json: bool

    @property
    def index(self) -> Path | None:
        """The index, if that is what was named.

        Raises:
            UsageError: an index among several things, or with an encoder.
        """
        indexes = [path for path in self.docs if is_index(path)]
        if not indexes:
            return None
        if len(self.docs) > 1:
            raise UsageError(f"{indexes[0]} is an index: cluster it alone")
        if self.encoder is not None:
            raise UsageError("--encoder: an index has its vectors already; leave it out")
        return Path(indexes[0])

    def target(self, suffix: str) -> Path:
        """Where to write: as given, else ``corpus`` and the suffix beside ``corpus.jsonl`` or ``corpus.index``.

        Raises:
            UsageError: that cannot be told.
        """
        if self.output is not None:
            return self.output
        if len(self.docs) > 1 or self.docs[0] == "-":
            raise UsageError("several corpora, or standard input: say where the result goes with -o PATH")
        beside = self.index or default_index_path(self.docs[0])
        return beside.with_name(beside.name.removesuffix(".index") + suffix)

    def documents(self) -> list[Document]:
        """Read the corpus, and tell what was read."""
        report = ReadReport()
        documents = list(read_corpus(self.docs, self.options, report))
        describe_reading(report)
        return documents

    def embed(self, texts: Sequence[str], encoder: TextEncoder) -> FloatArray:
        """Embed texts as documents; shows progress for those that the cache has not."""
        from llm2comp_apps.clustering.embeddings_cache import embed

        with ProgressDisplay("encoding", "documents") as display:
            return embed(
                texts,
                encoder,
                prompt=encoder.prompts.get("document", ""),
                cache=self.cache,
                progress=lambda done, total: display.update(done, done / total),
            )


def find_topics(request: Request, settings: ClusterSettings, name_with_llm: bool) -> None:
    """Cluster, write the folder, show the topics."""
    start = time.perf_counter()
    target = request.target(".clusters")
    check_folder(target, request.docs)
    source = _source(request, settings)
    namer = _llm_namer(source.encoder.get("source", ""), request.device) if name_with_llm else None
    found = cluster(source, settings, namer=namer, note=note)
    left_out = write_clustering(found, target, parquet=request.parquet)
    lines = [in_options(line) for line in [*found.warnings, *left_out]]
    for line in lines:
        warn(line)
    if request.as_json:
        ids = [document.id for document in source.documents]
        print_json(
            {
                "output": str(target),
                "documents": len(ids),
                "outliers": int((found.labels < 0).sum()),
                "left_out": found.left_out,
                "scores": {name: round(score, 6) for name, score in found.scores.items()},
                "topics": [topic.record(ids) for topic in found.topics],
                "warnings": lines,
            }
        )
    else:
        _show(found)
    note(f"{target}: open map.html in a browser; {format_duration(time.perf_counter() - start)}")


def assign_documents(request: Request, folder: Path) -> None:
    """Assign documents to the topics of a fitted clustering, write the table, show how many went where."""
    target = request.target(".clusters.jsonl")
    check_table(target, request.docs, folder, parquet=request.parquet)
    model = load_model(folder)
    documents, labels, membership = _assigned(request, model, folder)
    inside = np.flatnonzero(labels >= 0)
    probabilities = np.zeros(len(labels), dtype=np.float32)
    probabilities[inside] = membership[inside, labels[inside]]
    ids = [document.id for document in documents]
    write_rows(document_rows(ids, labels, probabilities, membership, model.names), target, parquet=request.parquet)
    sizes = np.bincount(labels[inside], minlength=len(model.names)).tolist()
    outliers = len(labels) - len(inside)
    if request.as_json:
        topics = [{"id": i, "name": name, "size": sizes[i]} for i, name in enumerate(model.names)]
        print_json({"output": str(target), "documents": len(ids), "outliers": outliers, "topics": topics})
    else:
        rows = [(str(i), str(sizes[i]), name) for i, name in enumerate(model.names)]
        _print_table(("topic", "documents", "name"), [*rows, ("", str(outliers), "(outliers)")])
    note(f"{target}: {len(ids)} documents assigned to the topics of {folder}")


def _source(request: Request, settings: ClusterSettings) -> Source:
    """Documents and vectors; what the settings ask of the documents is checked before any is encoded."""
    check = partial(check_documents, settings=settings)
    if request.index is not None:
        source = read_index(request.index, check)
        note(f"{request.index}: {len(source.documents)} documents with their vectors")
        return source
    documents = request.documents()
    check(documents)
    name = request.encoder or "default"
    encoder = encoders.load_encoder(name, device=request.device)
    vectors = request.embed([document.content for document in documents], encoder)
    return Source(documents, vectors, encoders.encoder_record(encoder, name))


def _assigned(request: Request, model: FittedModel, folder: Path) -> tuple[Sequence[Document], Any, FloatArray]:
    """Documents, labels ``(m,)`` and membership ``(m, C)``; texts that were fitted need no vector."""
    if request.index is not None:
        source = read_index(request.index)
        _check_encoder(source.encoder, model, folder, f"{request.index} was built by")
        labels, membership = model.assign([d.content for d in source.documents], lambda new: source.vectors[new])
        return source.documents, labels, membership
    documents = request.documents()
    texts = [document.content for document in documents]

    def encode(new: Sequence[int]) -> FloatArray:
        name = request.encoder or model.encoder.get("source")
        if not name:
            raise ClusteringError(f"{folder} does not say which encoder made its vectors; name it with --encoder")
        encoder = encoders.load_encoder(name, device=request.device)
        _check_encoder(encoders.encoder_record(encoder, name), model, folder, "this is")
        return request.embed([texts[position] for position in new], encoder)

    return documents, *model.assign(texts, encode)


def _check_encoder(record: dict[str, str], model: FittedModel, folder: Path, who: str) -> None:
    if record.get("fingerprint") != model.encoder.get("fingerprint"):
        raise ClusteringError(
            f"{folder} was fitted with the encoder {model.encoder.get('name')}; {who} another one, "
            f"{record.get('name')} (fingerprints {model.encoder.get('fingerprint')}, {record.get('fingerprint')})"
        )


def _llm_namer(encoder: str, device: str | None) -> Namer:
    """Names topics with the language model under the encoder; the default one where that is not known."""
    from llm2comp_apps.clustering.describing.llm_names import backbone_generator, name_topics
    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE
    from llm2comp_apps.encoder.names import backbone_of

    try:
        backbone = backbone_of(encoder) if encoder else None
    except EncoderError:  # one that is no longer there
        backbone = None
    generate = backbone_generator(backbone or DEFAULT_BACKBONE, device)
    return lambda topics, texts: name_topics(topics, texts, generate)


def _show(found: Clustering) -> None:
    n = len(found.labels)
    rows = []
    for topic in found.base_topics:
        central = found.source.documents[topic.representatives[0]].content
        share = f"{topic.size / n:.1%}"
        rows.append((str(topic.id), str(topic.size), share, topic.name, " ".join(central[:_SNIPPET].split())))
    outliers = int((found.labels < 0).sum())
    rows.append(("", str(outliers), f"{outliers / n:.1%}", "(outliers)", ""))
    _print_table(("topic", "documents", "share", "name", _CENTRAL), rows)
    if found.settings.method == "hdbscan":
        stdout_console().print(outlier_policy_effect(found), soft_wrap=True)
    for name, score in found.scores.items():
        if name != "outlier_share":
            stdout_console().print(f"{SCORE_NAMES[name]}: {score:.3f}", soft_wrap=True)


def _print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, expand=True)
    for name in header:
        if name in _NUMBERS:
            table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
        else:
            table.add_column(name, ratio=1, no_wrap=name == _CENTRAL, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: brackets in documents are no markup
    stdout_console().print(table)
