"""What a corpus is about: topics of documents, found once, used and kept up to date from then on.

    from llm2comp_apps import Collection, TopicModel

    topics = TopicModel.fit(Collection.open("library.index"), levels=3)
    print([topic.name for topic in topics.topics])
    topics.update(["texts that came later", "may be topics of their own"])
    topics.save("library.clusters")

It composes the files beside it: :mod:`.pipeline` finds topics, :mod:`.fitted` assigns, :mod:`.update` adds documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray, IntArray
from llm2comp_apps.clustering.describing.llm_names import LLM, chosen_namer
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.clustering.embedding import DocumentEncoder, Progress, ProgressCallback
from llm2comp_apps.clustering.fitted import FittedModel
from llm2comp_apps.clustering.output.atlas import ATLAS
from llm2comp_apps.clustering.output.map_points import map_points
from llm2comp_apps.clustering.output.model_files import load_model, read_clustering
from llm2comp_apps.clustering.output.report import report_markdown
from llm2comp_apps.clustering.output.store import PARQUET, document_rows, write_clustering, write_map
from llm2comp_apps.clustering.output.tables import with_contents
from llm2comp_apps.clustering.pipeline import Clustering, ClusterSettings, Namer, check_documents, cluster
from llm2comp_apps.clustering.sources import DocumentSource, offered
from llm2comp_apps.clustering.update import TopicUpdate, update
from llm2comp_apps.corpus.document import Document
from llm2comp_apps.encoder.names import source_of
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import UsageError

__all__ = ["TopicModel"]


class TopicModel:
    """The topics of a corpus.

    Make one with :meth:`fit` or :meth:`load`. Documents are given as a collection (anything with an ``index``, or the
    path of one: its vectors are used), as a :class:`~llm2comp_apps.clustering.sources.Source`, or as texts or
    :class:`~llm2comp_apps.corpus.document.Document` objects, which are encoded, or come with ``vectors``.
    """

    def __init__(self, model: FittedModel, clustering: Clustering | None, folder: Path | None = None) -> None:
        """Join what assigns with what was found; the latter is read from ``folder`` when it is needed first."""
        self._model = model
        self._clustering = clustering
        self._folder = folder

    @classmethod
    def fit(
        cls,
        source: DocumentSource,
        *,
        vectors: FloatArray | None = None,
        settings: ClusterSettings | None = None,
        encoder: str | TextEncoder = "default",
        device: str | None = None,
        cache: bool = True,
        namer: Namer | LLM | None = None,
        on_progress: ProgressCallback | None = None,
        **changes: Any,
    ) -> TopicModel:
        """Find the topics of documents.

        Args:
            source: the documents, see the class.
            vectors: ``(n, d)``, for texts or documents that are encoded already.
            settings: how to cluster.
            encoder: its name or itself, for texts without vectors.
            device: where a named encoder runs.
            cache: keep embeddings for the next time.
            namer: renames the topics; ``llm`` for the language model under the encoder.
            on_progress: told what is being done, and how far the encoding is.
            **changes: settings by name, as :class:`~llm2comp_apps.clustering.pipeline.ClusterSettings` has them:
                ``method``, ``k``, ``min_cluster_size``, ``reduce``, ``outliers``, ``levels``, ``seed`` ...

        Raises:
            UsageError: a setting makes no sense, or an id comes twice with different texts.
            ClusteringError: there is nothing to cluster, or not as asked.
            EncoderError: the encoder cannot be loaded.
        """
        wanted = replace(settings or ClusterSettings(), **changes)
        progress = Progress(on_progress)
        check = partial(check_documents, settings=wanted)
        whole = offered(source, vectors, DocumentEncoder(encoder, device, cache, progress), check).whole()
        found = cluster(whole, wanted, namer=chosen_namer(namer, whole.encoder, device), note=progress.step)
        return cls(FittedModel.of(found), found)

    @classmethod
    def load(cls, folder: str | Path) -> TopicModel:
        """Read a folder that :meth:`save` wrote.

        Raises:
            UsageError: there is no clustering.
            ClusteringError: it is damaged, or of a newer format.
        """
        return cls(load_model(Path(folder)), None, Path(folder))

    @property
    def clustering(self) -> Clustering:
        """Everything that is known, as :func:`~llm2comp_apps.clustering.pipeline.cluster` gives it."""
        if self._clustering is None:
            assert self._folder is not None
            self._clustering = read_clustering(self._folder)
        return self._clustering

    @property
    def encoder(self) -> dict[str, str]:
        """What made the vectors: ``name``, ``fingerprint``, ``source``."""
        return self._model.encoder

    @property
    def topics(self) -> list[Topic]:
        """The topics that documents belong to."""
        return self.clustering.base_topics

    @property
    def names(self) -> dict[int, str]:
        """The name of each topic that documents belong to, by its id."""
        return dict(zip(self._model.ids, self._model.names, strict=True))

    @property
    def hierarchy(self) -> list[Topic]:
        """The topics of all levels, the parents last; ``parent`` and ``children`` hold ids."""
        return list(self.clustering.topics)

    @property
    def documents(self) -> Sequence[Document]:
        """The documents that were fitted or came by an update, in that order."""
        return self.clustering.source.documents

    @property
    def labels(self) -> IntArray:
        """The id of each document's topic, ``(n,)``; -1 for outliers."""
        return np.append(np.array(self._model.ids, dtype=np.int32), np.int32(-1))[self._model.assigner.labels]

    @property
    def warnings(self) -> list[str]:
        """What a reader of the topics should know, a line each."""
        return self.clustering.warnings

    def assign(
        self,
        source: DocumentSource,
        *,
        vectors: FloatArray | None = None,
        encoder: str | TextEncoder | None = None,
        device: str | None = None,
        cache: bool = True,
        on_progress: ProgressCallback | None = None,
        contents: bool = False,
    ) -> list[dict[str, Any]]:
        """Find the topics of documents; nothing is changed, and those that were fitted get what they got then.

        Args:
            source: the documents, see the class.
            vectors: as in :meth:`fit`.
            encoder: by default the one that made the vectors, and another one is refused; where those were given, it is
                not known and has to be named.
            device: as in :meth:`fit`.
            cache: as in :meth:`fit`.
            on_progress: as in :meth:`fit`.
            contents: put title, text and fields of each document into its line, too.

        Returns:
            For each document a line of the table: ``_id``, ``cluster`` (the topic's id, -1 for an outlier), ``name``,
            ``probability``, ``second_cluster``, ``second_probability``.

        Raises:
            ClusteringError: the vectors were made by another encoder, or do not fit.
        """
        progress = Progress(on_progress)
        encoded = DocumentEncoder(encoder or source_of(self.encoder), device, cache, progress, self.encoder)
        offer = offered(source, vectors, encoded)
        labels, membership = self._model.assign([document.content for document in offer.documents], offer.vectors_of)
        rows = document_rows([document.id for document in offer.documents], labels, membership, self._model)
        return with_contents(rows, offer.documents) if contents else rows

    def update(
        self,
        source: DocumentSource,
        *,
        vectors: FloatArray | None = None,
        encoder: str | TextEncoder | None = None,
        device: str | None = None,
        cache: bool = True,
        min_cluster_size: int | None = None,
        namer: Namer | LLM | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> TopicUpdate:
        """Take new documents in: topics grow, new ones appear with the next ids, and no document changes its topic.

        :mod:`llm2comp_apps.clustering.update` has the rules. Documents that are there already change nothing.

        Args:
            source: the documents, see the class.
            vectors: as in :meth:`fit`.
            encoder: as in :meth:`assign`.
            device: as in :meth:`fit`.
            cache: as in :meth:`fit`.
            min_cluster_size: smallest new topic; by default that of the fit.
            namer: names the new topics, as in :meth:`fit`.
            on_progress: as in :meth:`fit`.

        Raises:
            UsageError: a setting makes no sense, or an id comes twice with different texts.
            ClusteringError: the vectors were made by another encoder, or do not fit.
        """
        if min_cluster_size is not None and min_cluster_size < 2:
            raise UsageError(f"must be at least 2, not {min_cluster_size}", field="min_cluster_size")
        found, progress = self.clustering, Progress(on_progress)
        encoded = DocumentEncoder(encoder or source_of(self.encoder), device, cache, progress, self.encoder)
        offer = offered(source, vectors, encoded)
        self._clustering, report = update(
            found,
            offer.documents,
            offer.vectors_of,
            min_cluster_size=min_cluster_size,
            namer=chosen_namer(namer, self.encoder, device),
            note=progress.step,
        )
        self._model = FittedModel.of(self._clustering)
        return report

    def save(
        self, folder: str | Path, *, parquet: bool = False, atlas: bool = False, like: str | Path | None = None
    ) -> list[str]:
        """Write the folder: table of documents, topics, map, report and the model; an older clustering is replaced.

        Args:
            folder: where.
            parquet: the table of documents as Parquet, too.
            atlas: ``atlas.parquet`` and ``atlas-labels.parquet`` for Embedding Atlas, too.
            like: a folder of a clustering; those of these tables that it has are written, too.

        Returns:
            Lines about what had to be left out.

        Raises:
            UsageError: something else is at ``folder``.
            ClusteringError: it cannot be written.
        """
        if like is not None:
            parquet = parquet or (Path(like) / PARQUET).is_file()
            atlas = atlas or (Path(like) / ATLAS).is_file()
        return write_clustering(self.clustering, Path(folder), parquet=parquet, atlas=atlas)

    def report(self, title: str = "Topics") -> str:
        """Settings, scores, topics and warnings as Markdown."""
        return report_markdown(self.clustering, title)

    def map_points(self) -> dict[str, Any]:
        """The points of the map as plain data, see :func:`~llm2comp_apps.clustering.output.map_points.map_points`.

        Point ``i`` is document ``i`` of :attr:`documents`.
        """
        found = self.clustering
        return map_points(found.positions, found.labels, found.topics)

    def map(self, path: str | Path) -> None:
        """Draw the map: ``.html`` for a page to explore, ``.png`` for a picture.

        Raises:
            UsageError: another ending.
            ClusteringError: it cannot be written, or matplotlib is not installed, which pictures need.
        """
        write_map(self.clustering, Path(path))
