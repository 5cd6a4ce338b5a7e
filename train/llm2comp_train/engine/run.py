"""A run from its options to its directory: data, network, loop, result."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.encoder.backbones import default_device
from llm2comp_apps.encoder.backends.tokens import TOKEN_BITS
from llm2comp_apps.encoder.checkpoint import SETTINGS
from llm2comp_apps.encoder.locate import locate_checkpoint
from llm2comp_apps.encoder.packing import PACKED
from llm2comp_apps.encoder.probe import probe
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import TrainingError, TrainingStoppedError, UsageError
from llm2comp_apps.files import check_writable, replaced_folder
from llm2comp_train.data.sources import DataFile, Row, find_data
from llm2comp_train.data.store import TokenStore, write_store
from llm2comp_train.engine import checkpoints
from llm2comp_train.engine.building import build, export
from llm2comp_train.engine.choosing import with_layers_chosen
from llm2comp_train.engine.claim import alone_in, check_claim, claim, read_record, run_claim, run_name, scores_anew
from llm2comp_train.engine.loop import AgreedStop, Progress, Run, train
from llm2comp_train.engine.machine import fit_to_machine, load_for_training
from llm2comp_train.engine.metrics import best_step, require_tensorboard
from llm2comp_train.engine.processes import Processes
from llm2comp_train.judging.curve import draw_curve
from llm2comp_train.judging.live import LiveEncoder
from llm2comp_train.recipes import SYMMETRIC
from llm2comp_train.settings import Settings
from llm2comp_train.stages import Bench, Stage, get_stage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["RunOptions", "check_call", "data_files", "run_stage"]


Judge = Callable[[TextEncoder], Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run is given besides its settings.

    Attributes:
        data: files, folders, globs, Hugging Face datasets.
        out: the run's directory.
        init: run, checkpoint or name of an encoder to start from: its adapter, memory tokens and decoder input.
        resume: continue the run in ``out``.
        device: by default the best there is.
        judge: scores the encoder at every evaluation, by name; ``score`` among them decides which one is the best.
        eval_data: what the judge reads; a run that is resumed finds it in its record.
        judge_of: makes a judge of ``eval_data``, see :func:`~.chain.run_recipe`.
        instructions: prompt of the queries of a pair file, by name pattern.
        tensorboard: write its files, too.
        publish: a second place for the finished encoder.
        show: called after every step.
        say: called with a line that says which stage of a chain runs.
    """

    data: Sequence[str]
    out: Path
    init: Path | None = None
    resume: bool = False
    device: str | None = None
    judge: Judge | None = None
    eval_data: Path | None = None
    judge_of: Callable[[Path], Judge] | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)
    tensorboard: bool = False
    publish: Path | None = None
    show: Callable[[Progress], None] = lambda _progress: None
    say: Callable[[str], None] = lambda _line: None


def run_stage(stage: str, settings: Settings, options: RunOptions) -> Path:
    """Train one stage; returns the finished encoder, ``OUT/encoder``.

    What can be refused without reading the training texts is refused before anything is written.

    Raises:
        TrainingError: see :func:`~.loop.train`; also when the run was stopped before its end, or another process trains
            in ``out``.
        UsageError: ``out`` holds a run and ``resume`` is not set, or one with other settings; or an option names what
            is not there.
    """
    kind = get_stage(stage)
    init = _encoder_of(options.init) if options.init else None
    files = check_call(kind, settings, options)
    processes = Processes(options.device or default_device())
    backbone = load_for_training(settings, processes.device)
    chosen = with_layers_chosen(settings, init, options.out, options.data, processes.device, options.say)
    network = build(backbone, chosen, init, kind)
    probe(network, backbone.name)
    teachers = kind.teachers(settings, processes.device)
    with alone_in(options.out) if processes.main else nullcontext():
        if processes.main:
            check_claim(options.out, run_claim(stage, settings, options), resume=options.resume)  # of another call, too
            scores_anew(options.out, options, settings.max_steps)
            claim(options.out, run_claim(stage, settings, options))
        store = _store(kind, settings, options, files, backbone.tokenizer, processes)
        bench = Bench(
            settings=settings,
            network=network,
            backbone=backbone,
            store=store,
            processes=processes,
            live=LiveEncoder(network, backbone.tokenizer, settings),
            teachers=teachers,
            prompts=[_query_prompt(kind, settings, options, name) for name in store.names],
            folder=options.out,
            init=init,
            say=options.say,
        )
        return _train_to_the_end(_run(kind, bench, options), options)


def _run(kind: Stage, bench: Bench, options: RunOptions) -> Run:
    """What the loop trains: the stage's work, and how its network is judged and written."""
    settings, network, store, backbone = bench.settings, bench.network, bench.store, bench.backbone
    work = kind.work(bench)
    fit_to_machine(network, settings, bench.processes)
    init = str(bench.init) if bench.init else None
    about = {"stage": kind.name, "data": store.names, "init": init, **dataclasses.asdict(settings)}

    def evaluate() -> dict[str, float]:
        return {**work.figures(), **(options.judge(bench.live) if options.judge else {})}

    return Run(
        directory=options.out,
        settings=settings,
        network=network,
        processes=bench.processes,
        work=work,
        evaluate=evaluate,
        export=lambda directory: export(
            directory, network, backbone, settings, about, work.provenance(), name=run_name(options.out)
        ),
        place=store.place,
        show=options.show,
        tensorboard=options.tensorboard,
    )


def _train_to_the_end(run: Run, options: RunOptions) -> Path:
    with AgreedStop(run.processes) as stop:
        steps = train(run, stop, resume=options.resume)
        if steps < run.settings.max_steps:
            raise TrainingStoppedError(
                f"stopped after step {steps} of {run.settings.max_steps}; `resume` continues from there."
            )
        if run.processes.main:
            _copy_best(options.out, steps, [options.out / "encoder", *([options.publish] if options.publish else [])])
            draw_curve(options.out)
        run.processes.wait()
    return options.out / "encoder"


def _copy_best(out: Path, steps: int, places: Sequence[Path]) -> None:
    chosen = out / "checkpoints" / f"step-{best_step(out) or steps:06d}"
    for place in places:
        with replaced_folder(place) as fresh:
            shutil.copytree(chosen, fresh, ignore=shutil.ignore_patterns(checkpoints.STATE), dirs_exist_ok=True)


def _encoder_of(init: Path) -> Path:
    """The encoder that ``init`` means: a checkpoint, the result of a run, or one by name."""
    for directory in (init, init / "encoder"):
        if (directory / SETTINGS).is_file():
            return directory
    if not init.exists():
        return locate_checkpoint(str(init))
    raise TrainingError(f"`init` {init}: neither an encoder's directory nor a finished run.")


def check_call(stage: Stage, settings: Settings, options: RunOptions) -> list[DataFile]:
    """Check what can be checked in no time; returns the data files.

    Raises:
        TrainingError: there are no such data, or a package is missing.
        UsageError: see :func:`~.claim.check_claim`; or the stage refuses a setting; or an instruction, or a pattern of
            alike sides, is for no file; or no text is as long as a context.
    """
    stage.check(settings)
    if settings.attention == PACKED and not stage.embeds:
        raise UsageError(f"cannot be packed in stage {stage.name}, which reads texts in other ways", field="attention")
    if settings.token_bits != TOKEN_BITS[0] and not (stage.embeds and settings.train_weights != "adapter"):
        reason = f"must be {TOKEN_BITS[0]} where the language model is read, too, or an adapter or a reranker trains"
        raise UsageError(f"{reason}, not {settings.token_bits}", field="token_bits")
    check_claim(options.out, run_claim(stage.name, settings, options), resume=options.resume)
    if options.tensorboard:
        require_tensorboard()
    files = data_files(options)
    check_writable(options.out / "run.json", folder=True)
    if options.judge is not None and stage.reranks:
        raise UsageError("cannot be used: it judges encoders, and held-out rows judge a reranker", field="eval_data")
    if options.instructions and not stage.has_queries:
        raise UsageError(f"cannot be used: the rows of stage {stage.name} have no queries", field="instructions")
    names = [file.name for file in files]
    for pattern in options.instructions:
        if not fnmatch.filter(names, pattern):
            raise UsageError(f"{pattern!r} matches none of the data files ({', '.join(names)})", field="instructions")
    if not options.resume:  # a run that began before this was asked goes on
        if stage.has_queries:
            _check_symmetric(settings, names)
        if stage.family == "adapting":
            _check_contexts(settings)
    return files


def _check_symmetric(settings: Settings, names: Sequence[str]) -> None:
    """Refuse patterns that are for no file; a recipe's are for the files that it was made with."""
    for pattern in settings.symmetric_patterns:
        if pattern not in SYMMETRIC and not fnmatch.filter(names, pattern):
            raise UsageError(f"{pattern!r} matches none of the data files ({', '.join(names)})", field="symmetric")


def _check_contexts(settings: Settings) -> None:
    """Refuse lengths that no text has once it is cut, instead of training on shorter ones."""
    longest = max(settings.contexts, default=0)
    if longest > settings.max_length:
        reason = f"must be at most {settings.max_length}, where texts are cut (`max_length`), not {longest}"
        raise UsageError(reason, field="context")


def data_files(options: RunOptions) -> list[DataFile]:
    """The data files of a call, see :func:`~llm2comp_train.data.sources.find_data`.

    Raises:
        TrainingError: there are no such data, or those of a run to continue are gone.
    """
    try:
        return find_data(options.data)
    except TrainingError as error:
        if options.resume and read_record(options.out, begun=True) is not None:
            raise TrainingError(
                f"{error} The run in {options.out} was started with these data, and needs them to continue: put them "
                "back there."
            ) from error
        raise


def _store(
    stage: Stage,
    settings: Settings,
    options: RunOptions,
    sources: Sequence[DataFile],
    tokenizer: PreTrainedTokenizerBase,
    processes: Processes,
) -> TokenStore:
    directory = options.out / "data"
    if processes.main and not (options.resume and (directory / "store.json").is_file()):
        files = [(file.name, _rows(stage, settings, options, file)) for file in sources]
        write_store(directory, files, tokenizer, settings.max_length)
    processes.wait()
    return TokenStore(directory)


def _rows(stage: Stage, settings: Settings, options: RunOptions, file: DataFile) -> Iterator[Row]:
    rows = stage.read(file, settings, _query_prompt(stage, settings, options, file.name))
    return itertools.islice(rows, settings.max_rows or None)


def _query_prompt(stage: Stage, settings: Settings, options: RunOptions, file: str) -> str:
    if not stage.has_queries:
        return ""
    given = [text for pattern, text in options.instructions.items() if fnmatch.fnmatch(file, pattern)]
    if given:
        return given[-1]
    return "" if settings.is_symmetric(file) else settings.query_prompt
