"""``llm2comp index``: the group, and the commands that look at an index and tidy it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

import typer

from llm2comp_apps.cli import index_build, index_look, index_transfer, index_tune, index_watch
from llm2comp_apps.cli.options.common import DeviceOption, JsonOption, add_command, examples
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.index_settings import DELETE, POLICY, ExistingIndex, IndexArgument
from llm2comp_apps.cli.ui.console import is_terminal, note, print_json, warn
from llm2comp_apps.cli.ui.log import describe_index_device

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the group to the app."""
    group = typer.Typer(
        name="index",
        help="Build an index over documents, change it, check it, move it.",
        no_args_is_help=True,
        epilog=examples("llm2comp index build corpus.jsonl", "llm2comp index info corpus.index"),
        rich_markup_mode=None,
    )
    index_build.register(group)
    index_watch.register(group)
    index_look.register(group)
    index_tune.register(group)
    add_command(group, verify, "llm2comp index verify corpus.index")
    add_command(
        group,
        delete,
        "llm2comp index delete corpus.index --id 4983 --id 5836",
        'llm2comp index delete corpus.index --where "year < 1990"',
    )
    compacted = "llm2comp index compact corpus.index"
    add_command(group, compact, compacted, f"{compacted} --kind hnsw")
    index_transfer.register(group)
    app.add_typer(group)


def verify(index: IndexArgument = None, as_json: JsonOption = False) -> None:
    """Compare every byte of an index with what was committed.

    Exits with 1 and names the files if any differs.
    """
    from llm2comp_indexes import verify_index

    from llm2comp_apps.retrieval.discovery import find_index

    path = find_index(index)
    damages = verify_index(path)  # not by way of a collection, which a damaged index may not open
    if as_json:
        print_json({"index": str(path), "damaged": [asdict(damage) for damage in damages]})
    else:
        for damage in damages:
            typer.echo(f"{damage.file}: {damage.reason}")
    if damages:
        note(f"{path}: {len(damages)} damaged")
        raise typer.Exit(1)
    note(f"{path}: every byte is as it was committed")


@with_groups(*DELETE)
def delete(index: ExistingIndex, ids: list[str] | None, where: str | None, allow_most: bool) -> None:
    """Delete documents, by id or by what their fields say.

    A condition on a field that no document has is refused, since it is most likely misspelled.
    """
    from llm2comp_apps.retrieval.collection import Collection
    from llm2comp_apps.retrieval.removal import MostDocumentsError

    library = Collection.open(index)
    try:
        report = library.delete(ids, where=where, allow_most=allow_most)
    except MostDocumentsError as most:
        if not is_terminal(sys.stdin):
            raise
        if not typer.confirm(f"--where meets {most.found} of the {most.total} documents. Delete them?", err=True):
            note("Nothing was deleted.")
            raise typer.Exit(1) from most
        report = library.delete(ids, where=where, allow_most=True)
    note(f"{library.path}: {report.deleted} documents deleted")
    if report.missing:
        note(f"{report.missing} of the ids are not in the index")
    warn(*report.warnings)


@with_groups(policy=POLICY)
def compact(index: ExistingIndex, *, policy: dict[str, Any], device: DeviceOption = None) -> None:
    """Merge segments, drop what was deleted, change the kind.

    This makes searches faster and the index smaller. Without options it stays of its kind. A kind that misses the
    target recall is refused, and the index stays whole.
    """
    from llm2comp_apps.retrieval.collection import Collection

    describe_index_device(device)
    library = Collection.open(index, device=device)
    before = library.info().bytes
    facts = library.compact(**policy)
    kind = facts.kind if facts.reason is None else f"{facts.kind}: {facts.reason}"
    note(f"{library.path}: kind {kind}; {before:,} bytes before, {facts.bytes:,} after")
