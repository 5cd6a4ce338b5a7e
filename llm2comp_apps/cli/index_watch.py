"""``llm2comp index watch``."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command, output_option
from llm2comp_apps.cli.options.expand import Group, with_groups
from llm2comp_apps.cli.options.index_settings import BUILD
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.errors import INTERRUPTED
from llm2comp_apps.cli.ui.log import describe_index_device
from llm2comp_apps.cli.ui.progress import format_duration, stop_when_asked
from llm2comp_apps.corpus.options import CorpusOptions

__all__ = ["register"]

#: Broken records are always left out, since what runs for weeks must not end with the first of them.
_READING = Group(CorpusOptions, tuple(each for each in READING.options if each.name != "on_error"))


def register(app: typer.Typer) -> None:
    """Add the command to the ``index`` group."""
    add_command(app, watch, "llm2comp index watch notes/", "llm2comp index watch notes/ -o library.index --once")


@with_groups(settings=BUILD, reading=_READING)
def watch(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder with files of a corpus.")],
    output: Annotated[
        Path | None, output_option("DIR", "Index to keep fresh or make. [default: folder.index beside the folder]")
    ] = None,
    encoder: EncoderOption = None,
    *,
    interval: Annotated[float, typer.Option(metavar="SECONDS", help="Time between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and exit.")] = False,
    settings: dict[str, Any],
    device: DeviceOption = None,
    as_json: JsonOption = False,
    reading: CorpusOptions,
) -> None:
    """Keep an index as a folder is, until ctrl-C.

    New files are added, changed ones replaced, and the documents of files that are gone deleted. Documents from
    elsewhere stay. Nothing is deleted while the folder is empty or missing. With --json, each look that changed
    something prints a line.
    """
    from llm2comp_apps.retrieval.discovery import new_index_path
    from llm2comp_apps.retrieval.watching import FolderWatch, check_folder, open_or_create

    check_folder(folder)
    path = new_index_path([str(folder)], output)
    describe_index_device(device)
    library = open_or_create(path, encoder=encoder, device=device, **settings)
    with FolderWatch(library, folder, options=reading) as watching, stop_when_asked() as stop:
        show = partial(_show, path, as_json)
        if once:
            show(watching.sync(should_stop=stop.asked))
        else:
            note(f"{path} follows {folder}; ctrl-C ends this")
            watching.run(interval=interval, should_stop=stop.asked, on_report=show)
        if stop.asked():
            raise typer.Exit(INTERRUPTED)


def _show(path: Path, as_json: bool, report: Any) -> None:
    """Say what one look found."""
    if as_json:
        print_json({"index": str(path), **asdict(report)}, line=True)
    note(f"{path}: {report} in {format_duration(report.seconds)}")
    warn(*report.warnings)
