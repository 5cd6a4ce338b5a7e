"""``llm2comp cluster``: what is in a corpus."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli.options.clustering import CLUSTERING, ENCODING, WRITING
from llm2comp_apps.cli.options.common import JsonOption, examples
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.options.unused import refuse_needless
from llm2comp_apps.cli.ui.console import note, print_json, stdout_console, warn
from llm2comp_apps.cli.ui.progress import format_duration, show_steps
from llm2comp_apps.cli.ui.reading import documents_of
from llm2comp_apps.cli.ui.spelling import in_options
from llm2comp_apps.cli.ui.tables import print_tables
from llm2comp_apps.corpus.options import CorpusOptions

if TYPE_CHECKING:
    from llm2comp_apps.clustering import ClusterSettings, TopicModel
    from llm2comp_apps.clustering.output.summary import Summary

__all__ = ["register"]

_OF_TOPICS = ("name_with_llm", "atlas")  # which an assignment does not write


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


@with_groups(*WRITING, settings=CLUSTERING, reading=READING, encoding=ENCODING)
def cluster(
    ctx: typer.Context,
    docs: Annotated[
        list[str],
        typer.Argument(metavar="DOCS...", help="Index; or files (jsonl json csv tsv parquet txt md), folders, or -."),
    ],
    settings: dict[str, Any],
    reading: CorpusOptions,
    output: Path | None,
    with_: Path | None,
    update: Path | None,
    name_with_llm: bool,
    parquet: bool,
    atlas: bool,
    encoding: dict[str, Any],
    as_json: JsonOption = False,
) -> None:
    """Find the topics of a corpus, and draw a map of it.

    Writes a folder: documents.jsonl and documents.csv (each document with its topic, probability and next best topic),
    topics.json and topics.csv, map.html to open in a browser, map.png, report.md, and the model that --with and
    --update take. With --label-field also labels.csv, with --time-field time.csv and time.png.
    """
    from llm2comp_apps.clustering import ClusterSettings, TopicModel
    from llm2comp_apps.clustering.output.destinations import choose_target
    from llm2comp_apps.clustering.sources import named_index

    start, index = time.perf_counter(), named_index(docs, encoding["encoder"])
    encoders = ["cache"] if name_with_llm else ["cache", "device"]
    refuse_needless(
        ctx,
        (with_, ["update"], "with --with, nothing is added"),
        (with_, [*CLUSTERING.names, *_OF_TOPICS], f"--with assigns to the topics of {with_} as they were made"),
        (update, sorted({*CLUSTERING.names} - {"min_cluster_size"}), f"--update has the settings of {update}"),
        (settings["k"], ["merge"], "with --k, no topics are joined"),
        (index, READING.names, f"{index} is an index, its documents are read already"),
        (index, encoders, f"{index} is an index, nothing is encoded"),
    )
    made, folder = ClusterSettings(**settings), with_ or update
    model = None if folder is None else TopicModel.load(folder)
    target = choose_target(docs, output or update, model=with_, parquet=parquet)
    reading = reading if model is None or index else _as_held(model, docs, reading)
    source = index or list(documents_of(docs, reading))
    with show_steps() as show:
        work = {"source": source, **encoding, "on_progress": show}
        if with_ is None:
            work["namer"] = "llm" if name_with_llm else None
        if model is None:
            shown = _find(work, made, target, parquet=parquet, atlas=atlas)
        elif update is None:
            shown = _assign(work, model, target, parquet=parquet)
        else:
            work["min_cluster_size"] = settings["min_cluster_size"]
            shown = _update(work, model, update, target, parquet=parquet, atlas=atlas)
    _show(shown, target, time.perf_counter() - start, as_json=as_json, atlas=atlas)


def _as_held(model: TopicModel, docs: list[str], reading: CorpusOptions) -> CorpusOptions:
    """Give documents the ids that they have in the clustering."""
    from llm2comp_apps.corpus.earlier_ids import options_as_held

    there = {document.id for document in model.documents}
    return options_as_held(lambda ids: len(there.intersection(ids)), docs, reading)


def _show(summary: Summary, target: Path, seconds: float, *, as_json: bool, atlas: bool) -> None:
    warnings = [in_options(line) for line in summary.warnings]
    warn(*warnings)
    if as_json:
        print_json({"output": str(target), **summary.record, "warnings": warnings})
    else:
        print_tables([summary.table])
        for line in summary.lines:
            stdout_console().print(line, soft_wrap=True)
    note(f"{target}: {summary.done}; {format_duration(seconds)}")
    if atlas:
        tables = target / "atlas.parquet", target / "atlas-labels.parquet"
        note("embedding-atlas {} --text text --x x --y y --neighbors neighbors --labels {}".format(*tables))


def _find(work: dict[str, Any], settings: ClusterSettings, target: Path, *, parquet: bool, atlas: bool) -> Summary:
    """Cluster, and write the folder."""
    from llm2comp_apps.clustering import TopicModel
    from llm2comp_apps.clustering.output.summary import summarize_topics

    model = TopicModel.fit(**{**work, "encoder": work["encoder"] or "default"}, settings=settings)
    return summarize_topics(model.clustering, model.save(target, parquet=parquet, atlas=atlas))


def _assign(work: dict[str, Any], model: TopicModel, target: Path, *, parquet: bool) -> Summary:
    """Assign documents to the topics of a clustering, and write the table."""
    from llm2comp_apps.clustering.output.store import write_rows
    from llm2comp_apps.clustering.output.summary import summarize_assigned

    rows = model.assign(**work, contents=True)
    write_rows(rows, target, parquet=parquet)
    return summarize_assigned(rows, model.names)


def _update(work: dict[str, Any], model: TopicModel, old: Path, target: Path, *, parquet: bool, atlas: bool) -> Summary:
    """Add documents to a clustering, and write its folder again if anything changed."""
    from llm2comp_apps.clustering.output.summary import summarize_update

    report, left_out = model.update(**work), []
    asked = {"atlas.parquet": atlas, "documents.parquet": parquet}
    missing = any(wanted and not (old / name).is_file() for name, wanted in asked.items())
    if report.unchanged < report.documents or target != old or missing:
        left_out = model.save(target, parquet=parquet, atlas=atlas, like=old)
    return summarize_update(report, model.clustering, left_out)
