"""``llm2comp index``: the group, and the commands that look at an index or tidy it."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from llm2comp_apps.cli import index_build, index_transfer
from llm2comp_apps.cli.options.common import DeviceOption, JsonOption, examples
from llm2comp_apps.cli.options.index_kind import (
    OtherKindOption,
    OtherMaxRamOption,
    OtherTargetRecallOption,
    faiss_device,
    warn_of_refusal,
)
from llm2comp_apps.cli.ui.console import note, print_json
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    from llm2comp_indexes import Index

__all__ = ["register"]

IndexArgument = Annotated[
    Path | None,
    typer.Argument(metavar="[INDEX]", help="[default: $LLM2COMP_INDEX, else the one *.index here]", show_default=False),
]
ExistingIndex = Annotated[Path, typer.Argument(metavar="INDEX", help="An existing index.")]


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
    group.command("info", epilog=examples("llm2comp index info corpus.index --json"))(info)
    group.command("verify", epilog=examples("llm2comp index verify corpus.index"))(verify)
    group.command(
        "delete",
        epilog=examples(
            "llm2comp index delete corpus.index --id 4983 --id 5836",
            'llm2comp index delete corpus.index --where "year < 1990"',
        ),
    )(delete)
    group.command(
        "compact",
        epilog=examples("llm2comp index compact corpus.index", "llm2comp index compact corpus.index --kind hnsw"),
    )(compact)
    index_transfer.register(group)
    app.add_typer(group)


def _open(named: Path | None) -> Index:
    from llm2comp_indexes import Index

    from llm2comp_apps.retrieval.discovery import find_index

    return Index.open(find_index(named, origin="INDEX"))


def info(index: IndexArgument = None, as_json: JsonOption = False) -> None:
    """Tell what is in an index: documents, encoder, kind, size."""
    facts = asdict(_open(index).info())
    if as_json:
        print_json(facts)
        return
    for name, value in facts.items():
        if value is not None:
            first, *others = _readable(name, value)
            typer.echo(f"{name.replace('_', ' '):<20}{first}")
            for line in others:
                typer.echo(" " * 20 + line)


def _readable(name: str, value: Any) -> list[str]:
    if isinstance(value, float):
        return [f"{value:,.0f}" if value >= 100 else f"{value:.4g}"]
    if name == "bytes":
        return [f"{value:,} ({value / 2**20:.1f} MiB)"]
    if isinstance(value, dict):
        return [f"{key}: {part}" for key, part in value.items() if part not in (None, "")] or ["-"]
    return [f"{value:,}" if isinstance(value, int) else str(value)]


def verify(index: IndexArgument = None, as_json: JsonOption = False) -> None:
    """Compare every byte of an index with what was committed.

    Exits with 1 and names the files if any differs.
    """
    from llm2comp_indexes import verify_index

    from llm2comp_apps.retrieval.discovery import find_index

    path = find_index(index, origin="INDEX")
    damages = verify_index(path)
    if as_json:
        print_json({"index": str(path), "damaged": [asdict(damage) for damage in damages]})
    else:
        for damage in damages:
            typer.echo(f"{damage.file}: {damage.reason}")
    if damages:
        note(f"{path}: {len(damages)} damaged")
        raise typer.Exit(1)
    note(f"{path}: every byte is as it was committed")


def delete(
    index: ExistingIndex,
    ids: Annotated[
        list[str] | None, typer.Option("--id", metavar="ID", help="A document to delete; may be given often.")
    ] = None,
    where: Annotated[
        str | None, typer.Option("--where", metavar="CONDITION", help="Delete all documents whose fields meet it.")
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", help="Do not ask, even if --where meets more than half of the documents.")
    ] = False,
) -> None:
    """Delete documents, by id or by what their fields say.

    A condition on a field that no document has is refused, since it is most likely misspelled.
    """
    from llm2comp_apps.retrieval.query_text import check_text

    if not ids and where is None:
        raise UsageError("say what to delete: --id ID (may be repeated) or --where CONDITION")
    check_text(where, "where")
    for id_ in ids or ():
        check_text(id_, "ids")
    opened = _open(index)
    doomed = list(ids or [])
    if where is not None:
        doomed += _meeting(opened, where, yes=yes)
    with opened.writer() as writer:
        deleted = writer.delete(doomed)
        writer.commit()
    note(f"{opened.path}: {deleted} documents deleted")
    missing = len(set(doomed)) - deleted
    if missing:
        note(f"{missing} of the ids are not in the index")
    warn_of_refusal(opened, writer.refusal)


def _meeting(index: Index, where: str, *, yes: bool) -> list[str]:
    """The ids of the documents that meet a condition, if it is plausible that they are to be deleted.

    Raises:
        UsageError: no document has a field of that name, or most documents would go and nobody agreed to that.
    """
    from llm2comp_apps.retrieval.conditions import unknown_field_lines

    for line in unknown_field_lines(index, where):
        raise UsageError(f"--where: {line}; nothing was deleted")
    found = list(index.ids(where=where))
    if yes or 2 * len(found) <= len(index):
        return found
    share = f"--where meets {len(found)} of the {len(index)} documents"
    if not _is_terminal(sys.stdin):
        raise UsageError(f"{share}, more than half; if they are to go, say so with --yes")
    if not typer.confirm(f"{share}. Delete them?", err=True):
        note("Nothing was deleted.")
        raise typer.Exit(1)
    return found


def _is_terminal(stream: TextIO) -> bool:
    return stream.isatty()


def compact(
    index: ExistingIndex,
    kind: OtherKindOption = None,
    target_recall: OtherTargetRecallOption = None,
    max_ram: OtherMaxRamOption = None,
    device: DeviceOption = None,
) -> None:
    """Merge segments, drop what was deleted, change the kind.

    This makes searches faster and the index smaller. Without options it stays of its kind. A kind that misses the
    target recall is refused, and the index stays whole.
    """
    from llm2comp_indexes import Policy

    from llm2comp_apps.cli._settings import check_settings

    check_settings(target_recall=target_recall)
    opened = _open(index)
    before = opened.info().bytes
    changes = {"kind": kind, "target_recall": target_recall, "max_ram": max_ram and max_ram * 2**20}
    changes = {name: value for name, value in changes.items() if value is not None}
    policy = Policy.from_settings({**opened.settings, **changes}) if changes else None
    opened.compact(policy, faiss_device(device))
    facts = opened.info()
    kind_now = facts.kind if facts.reason is None else f"{facts.kind}: {facts.reason}"
    note(f"{opened.path}: kind {kind_now}; {before:,} bytes before, {facts.bytes:,} after")
