"""``llm2comp shard``: encode a corpus in parts, on as many machines as there are, and put them into one index."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm2comp_apps.cli.options.common import (
    DeviceOption,
    EncoderOption,
    JsonOption,
    add_command,
    examples,
    output_option,
)
from llm2comp_apps.cli.options.expand import Group, option, with_groups
from llm2comp_apps.cli.options.index_settings import BUILD
from llm2comp_apps.cli.options.reading import READING, CorpusArgument
from llm2comp_apps.cli.options.unused import refuse_given
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.errors import INTERRUPTED
from llm2comp_apps.cli.ui.progress import ProgressDisplay, format_duration, stop_when_asked
from llm2comp_apps.corpus.options import CorpusOptions

if TYPE_CHECKING:
    from llm2comp_apps.scale.run import RunProgress

__all__ = ["register"]

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Folder of the job, or a URL of object storage.")]
_RUN = (
    option("shard", int | None, None, "I", "Encode this part only, counted from 0."),
    option("next", bool, False, None, "Encode one part that nobody works on."),
    option("wait", bool, False, None, "Stay until the parts of others are done; take over those of lost workers."),
    option("retry", bool, False, None, "Try parts again that were given up."),
    option("ray", str | None, None, "ADDRESS", "Deal the parts out by Ray: local, auto or host:port."),
    option("workers", int, 2, "N", "Workers that Ray shall start."),
    option("gpus_per_worker", float, 0.0, "G", "GPUs that each of them needs."),
    option("cpus_per_worker", float, 1.0, "C", "Processor cores that each of them needs."),
)


def register(app: typer.Typer) -> None:
    """Add the group to the app."""
    group = typer.Typer(
        name="shard",
        help="Encode a corpus in parts, on many machines, and put them into one index.",
        no_args_is_help=True,
        epilog=examples(
            "llm2comp shard plan corpus.jsonl -o job/ --shards 100",
            "llm2comp shard run job/",
            "llm2comp shard commit job/ -o corpus.index",
        ),
        rich_markup_mode=None,
    )
    add_command(group, plan, "llm2comp shard plan corpus.jsonl -o job/ --shards 100 --chunk 256")
    add_command(
        group,
        run,
        "llm2comp shard run job/",
        "llm2comp shard run job/ --shard $SLURM_ARRAY_TASK_ID",
        "llm2comp shard run job/ --ray auto --workers 8 --gpus-per-worker 1",
    )
    add_command(group, commit, "llm2comp shard commit job/ -o corpus.index")
    add_command(group, status, "llm2comp shard status job/")
    app.add_typer(group)


@with_groups(
    option("parts", int | None, None, "N", "Number of parts. [default: parts of about 64 MiB]", flag="--shards"),
    settings=BUILD,
    reading=READING,
)
def plan(
    corpus: CorpusArgument,
    job: Annotated[str, output_option("JOB", "Folder of the job, or a URL of object storage.")],
    parts: int | None,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    settings: dict[str, Any],
    reading: CorpusOptions,
) -> None:
    """Cut a corpus into parts, and write down how they are to be encoded.

    All machines must see the corpus and the job under the same paths. The same command again changes nothing.
    """
    from llm2comp_apps.scale import plan_job

    with ProgressDisplay("reading", "%") as display:
        made = plan_job(
            job,
            corpus,
            parts=parts,
            encoder=encoder or "default",
            device=device,
            reading=reading,
            settings=settings,
            on_progress=lambda fraction: display.update(round(100 * fraction), fraction),
        )
    if as_json:
        print_json({"job": job, "id": made.id, "parts": len(made), "encoder": dict(made.blueprint.encoder)})
    note(f"{job}: {len(made)} parts, encoder {made.blueprint.encoder['name']}")


@with_groups(given=Group(dict, _RUN))
def run(
    ctx: typer.Context,
    job: JobArgument,
    *,
    given: dict[str, Any],
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Encode the parts that are not done and that nobody works on.

    Any number of these may run at once, on any machines. What is done is skipped; after a crash, the same command
    continues. A part that fails three times is named, and the others are done.
    """
    from llm2comp_apps.scale import Job, run_on_ray, run_parts

    ray, cluster = given["ray"], {name: given[name] for name in ("workers", "gpus_per_worker", "cpus_per_worker")}
    why = "without --ray, this program is the only worker" if ray is None else "with --ray, all parts are dealt out"
    refuse_given(ctx, cluster if ray is None else ("shard", "next", "wait"), why)
    opened = Job.open(job)
    if given["retry"]:
        opened.forgive()
    with ProgressDisplay("encoding", "documents") as display, stop_when_asked() as stop:

        def show(progress: RunProgress) -> None:
            display.update(progress.documents, progress.fraction)

        shown: dict[str, Any] = {"device": device, "on_progress": show, "should_stop": stop.asked}
        if ray is not None:
            report = run_on_ray(opened, address=ray, **cluster, **shown)
        else:
            shown |= {"part": given["shard"], "most": 1 if given["next"] else None, "wait": given["wait"]}
            report = run_parts(opened, **shown)
    if as_json:
        print_json(asdict(report))
    warn(*report.warnings, *(f"part {part}: given up: {reason}" for part, reason in report.failed.items()))
    if report.lost:
        warn(f"{report.lost} workers were lost; others did their parts")
    took = f"{report.documents} documents in {format_duration(report.seconds)}"
    note(f"{job}: {report.parts} parts encoded ({took}), {report.skipped} done before, {report.left} left")
    if report.interrupted or report.failed:
        raise typer.Exit(INTERRUPTED if report.interrupted else 1)


@with_groups(option("partial", bool, False, None, "Take the parts that are done, even if some are not."))
def commit(
    job: JobArgument,
    output: Annotated[Path, output_option("INDEX", "Index to make, or to continue.")],
    partial: bool,
    as_json: JsonOption = False,
) -> None:
    """Put the parts into an index, in order, with a commit for each.

    After a crash, the same command continues. The index is the one that index build makes of the whole corpus.
    """
    from llm2comp_apps.scale import Job, commit_job

    opened = Job.open(job)
    with ProgressDisplay("committing", "parts", len(opened)) as display, stop_when_asked() as stop:
        report = commit_job(
            opened,
            output,
            partial=partial,
            on_progress=lambda done: display.update(done.parts),
            should_stop=stop.asked,
        )
    if as_json:
        print_json({"index": str(output), **asdict(report)})
    note(f"{output}: {report.parts} parts, {report.added} documents added, {report.unchanged} unchanged")
    warn(*report.warnings)
    if report.interrupted:
        raise typer.Exit(INTERRUPTED)


def status(job: JobArgument, as_json: JsonOption = False) -> None:
    """Show what is done, who works on what, what failed, the rate and the time left."""
    from llm2comp_apps.scale import job_status

    found = job_status(job)
    if as_json:
        print_json(asdict(found))
        return
    typer.echo(f"{found.done} of {found.parts} parts done ({found.fraction:.0%} of the corpus), ", nl=False)
    typer.echo(f"{found.documents} documents, {found.vectors} vectors")
    for part, worker in found.running.items():
        typer.echo(f"part {part}: {worker} works on it")
    for part, reason in found.failed.items():
        typer.echo(f"part {part}: given up: {reason}")
    if found.retried:
        typer.echo(f"{found.retried} parts went wrong and are tried again")
    if found.documents_per_second and found.seconds_left is not None:
        typer.echo(f"{found.documents_per_second:.1f} documents/s, {format_duration(found.seconds_left)} left")
