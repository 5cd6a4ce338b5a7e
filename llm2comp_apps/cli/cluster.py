"""``llm2comp cluster``: what is in a corpus."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.clustering import CLUSTERING
from llm2comp_apps.cli.options.common import (
    DeviceOption,
    EncoderOption,
    JsonOption,
    cache_option,
    examples,
    output_option,
)
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.options.unused import refuse_given
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.progress import format_duration
from llm2comp_apps.cli.ui.spelling import in_options
from llm2comp_apps.corpus.options import CorpusOptions
from llm2comp_apps.errors import UsageError

__all__ = ["register"]

_WHAT = "What to write"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        "cluster",
        epilog=examples(
            "llm2comp cluster papers.jsonl",
            "llm2comp cluster papers.index --levels 3 --name-with-llm",
            "llm2comp cluster reviews.csv --text-field review --method kmeans --k 20",
            "llm2comp cluster new.jsonl --with papers.clusters",
            "llm2comp cluster new.jsonl --update papers.clusters",
        ),
    )(cluster)


@with_groups(settings=CLUSTERING, reading=READING)
def cluster(
    ctx: typer.Context,
    docs: Annotated[
        list[str],
        typer.Argument(metavar="DOCS...", help="Index; or files (jsonl json csv tsv parquet txt md), folders, or -."),
    ],
    settings: dict[str, Any],
    reading: CorpusOptions,
    output: Annotated[
        Path | None,
        output_option("PATH", "Output folder [default: DOCS.clusters]; with --with the file, .jsonl or .parquet."),
    ] = None,
    with_: Annotated[
        Path | None,
        typer.Option("--with", metavar="DIR", help="Assign DOCS to the topics of this folder; writes a file."),
    ] = None,
    update: Annotated[
        Path | None,
        typer.Option("--update", metavar="DIR", help="Add DOCS to this folder; topics grow and new ones appear."),
    ] = None,
    name_with_llm: Annotated[
        bool, typer.Option("--name-with-llm", help="Let the language model name the topics.", rich_help_panel=_WHAT)
    ] = False,
    parquet: Annotated[
        bool, typer.Option("--parquet", help="Write the table of documents as .parquet too.", rich_help_panel=_WHAT)
    ] = False,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    cache: Annotated[bool, cache_option("Keep embeddings for the next time.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Find the topics of a corpus, and draw a map of it.

    Writes a folder: documents.jsonl (topic of each document, probability, next best topic), topics.json, map.html to
    open in a browser, map.png, report.md, and the model that --with and --update take.
    """
    if with_ is not None and update is not None:
        refuse_given(ctx, ["update"], "with --with, nothing is added")
    if with_ is not None:
        fitting = (*CLUSTERING.names, "name_with_llm")
        refuse_given(ctx, fitting, f"--with assigns to the topics of {with_} as they were made")
    if update is not None:
        fixed = [name for name in CLUSTERING.names if name != "min_cluster_size"]
        refuse_given(ctx, fixed, f"--update has the settings of {update}")
    if settings["k"] is not None:
        refuse_given(ctx, ["merge"], "with --k, no topics are joined")
    request = _Request(
        docs=docs,
        reading=reading,
        output=output,
        encoder=encoder,
        device=device,
        cache=cache,
        parquet=parquet,
        as_json=as_json,
    )
    if request.index is not None:
        refuse_given(ctx, READING.names, f"{request.index} is an index, its documents are read already")
        needless = ["cache"] if name_with_llm else ["cache", "device"]
        refuse_given(ctx, needless, f"{request.index} is an index, nothing is encoded")
    namer = "llm" if name_with_llm else None
    if with_ is not None:
        _assign(request, with_)
    elif update is not None:
        _update(request, update, settings["min_cluster_size"], namer)
    else:
        _find(request, settings, namer)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    """What to read, with what, and where to write: the options of the same names."""

    docs: list[str]
    reading: CorpusOptions
    output: Path | None
    encoder: str | None
    device: str | None
    cache: bool
    parquet: bool
    as_json: bool

    @property
    def index(self) -> Path | None:
        """The index, if that is what was named.

        Raises:
            UsageError: an index among several things, or with an encoder.
        """
        from llm2comp_apps.clustering.sources import is_index

        indexes = [path for path in self.docs if is_index(path)]
        if not indexes:
            return None
        if len(self.docs) > 1:
            raise UsageError(f"{indexes[0]} is an index: cluster it alone")
        if self.encoder is not None:
            raise UsageError("has no place beside an index, which has its vectors; leave it out", field="encoder")
        return Path(indexes[0])

    def target(self, suffix: str) -> Path:
        """Where to write: as given, else ``corpus`` and the suffix beside ``corpus.jsonl`` or ``corpus.index``.

        Raises:
            UsageError: that cannot be told.
        """
        from llm2comp_apps.retrieval.discovery import default_index_path

        if self.output is not None:
            return self.output
        if len(self.docs) > 1 or self.docs[0] == "-":
            raise UsageError("several corpora, or standard input: say where the result goes with -o PATH")
        beside = self.index or default_index_path(self.docs[0])
        return beside.with_name(beside.name.removesuffix(".index") + suffix)

    def source(self) -> Any:
        """The path of the index, or the documents, after telling what was read."""
        from llm2comp_apps.cli.ui.reading import describe_reading
        from llm2comp_apps.corpus import ReadReport, read_corpus

        if self.index is not None:
            return self.index
        report = ReadReport()
        documents = list(read_corpus(self.docs, self.reading, report))
        describe_reading(report)
        return documents


def _find(request: _Request, chosen: dict[str, Any], namer: Any) -> None:
    """Cluster, write the folder, show the topics."""
    from llm2comp_apps.cli.ui.topics import ClusterDisplay, show_topics
    from llm2comp_apps.clustering import ClusterSettings, TopicModel
    from llm2comp_apps.clustering.output.destinations import check_folder

    start = time.perf_counter()
    settings, target = ClusterSettings(**chosen), request.target(".clusters")
    check_folder(target, request.docs)
    source = request.source()
    with ClusterDisplay() as display:
        model = TopicModel.fit(
            source,
            settings=settings,
            encoder=request.encoder or "default",
            device=request.device,
            cache=request.cache,
            namer=namer,
            on_progress=display.update,
        )
    lines = _warned([*model.warnings, *model.save(target, parquet=request.parquet)])
    if request.as_json:
        found = model.clustering
        scores = {name: round(score, 6) for name, score in found.scores.items()}
        print_json({**_summary(model, target), "left_out": found.left_out, "scores": scores, "warnings": lines})
    else:
        show_topics(model.clustering)
    note(f"{target}: open map.html in a browser; {format_duration(time.perf_counter() - start)}")


def _assign(request: _Request, folder: Path) -> None:
    """Assign documents to the topics of a fitted clustering, write the table, show how many went where."""
    from llm2comp_apps.cli.ui.topics import ClusterDisplay, show_assigned
    from llm2comp_apps.clustering import TopicModel
    from llm2comp_apps.clustering.output.destinations import check_table
    from llm2comp_apps.clustering.output.store import write_rows

    target = request.target(".clusters.jsonl")
    check_table(target, request.docs, folder, parquet=request.parquet)
    model = TopicModel.load(folder)
    source = request.source()
    with ClusterDisplay() as display:
        assigned = partial(model.assign, encoder=request.encoder, device=request.device, cache=request.cache)
        rows = assigned(source, on_progress=display.update)
    write_rows(rows, target, parquet=request.parquet)
    if request.as_json:
        sizes = Counter(row["cluster"] for row in rows)
        topics = [{"id": id_, "name": name, "size": sizes[id_]} for id_, name in model.names.items()]
        print_json({"output": str(target), "documents": len(rows), "outliers": sizes[-1], "topics": topics})
    else:
        show_assigned(rows, model.names)
    note(f"{target}: {len(rows)} documents assigned to the topics of {folder}")


def _update(request: _Request, folder: Path, min_cluster_size: int | None, namer: Any) -> None:
    """Add documents to a clustering, write its folder again, show which topics grew and which are new."""
    from llm2comp_apps.cli.ui.topics import ClusterDisplay, show_update
    from llm2comp_apps.clustering import TopicModel
    from llm2comp_apps.clustering.output.destinations import check_folder

    start, target = time.perf_counter(), request.output or folder
    model = TopicModel.load(folder)
    check_folder(target, request.docs)
    source = request.source()
    with ClusterDisplay() as display:
        report = model.update(
            source,
            encoder=request.encoder,
            device=request.device,
            cache=request.cache,
            min_cluster_size=min_cluster_size,
            namer=namer,
            on_progress=display.update,
        )
    changed = report.unchanged < report.documents
    left_out = []
    if changed or target != folder:
        left_out = model.save(target, parquet=request.parquet or (folder / "documents.parquet").is_file())
    lines = _warned([*report.warnings, *model.warnings, *left_out])
    if request.as_json:
        print_json({**_summary(model, target), "update": report.record(), "warnings": lines})
    else:
        show_update(report, model)
    told = f"{report.added} documents added, {report.replaced} replaced, {report.unchanged} unchanged"
    note(f"{target}: {told}; {format_duration(time.perf_counter() - start)}")


def _summary(model: Any, target: Path) -> dict[str, Any]:
    ids = [document.id for document in model.documents]
    return {
        "output": str(target),
        "documents": len(ids),
        "outliers": int((model.labels < 0).sum()),
        "topics": [topic.record(ids) for topic in model.hierarchy],
    }


def _warned(lines: list[str]) -> list[str]:
    """Print warnings, and give them back with their settings spelled as options."""
    told = [in_options(line) for line in lines]
    for line in told:
        warn(line)
    return told
