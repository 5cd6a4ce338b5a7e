"""A run from its options to its directory: data, network, loop, result."""

from __future__ import annotations

import dataclasses
import fnmatch
import itertools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from llm2comp_apps.encoder.backbones import Backbone, default_device, default_dtype, load_backbone
from llm2comp_apps.encoder.checkpoint import SETTINGS
from llm2comp_apps.encoder.network import CompressionNetwork, left_pad
from llm2comp_apps.encoder.probe import probe
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import TrainingError, TrainingStoppedError, UsageError
from llm2comp_train.data.batches import CompressionBatches, sentence_ends
from llm2comp_train.data.sources import DataFile, Row, find_data, pair_rows, sentence_rows, text_rows
from llm2comp_train.data.store import TokenStore, write_store
from llm2comp_train.data.teacher import Teacher, load_teacher
from llm2comp_train.engine import checkpoints
from llm2comp_train.engine.adapters import build_network, export
from llm2comp_train.engine.loop import Progress, Run, StopRequest, train
from llm2comp_train.engine.metrics import METRICS, best_step, require_tensorboard
from llm2comp_train.engine.processes import Processes
from llm2comp_train.engine.recompute import checkpoint_layers
from llm2comp_train.engine.sharding import shard_layers
from llm2comp_train.engine.steps import Compression, MaskedPrediction, Supervised, TextWork, Unsupervised, Work
from llm2comp_train.judging.curve import draw_curve
from llm2comp_train.judging.validation import (
    LiveEncoder,
    dev_scores,
    load_dev,
    mean_cosine,
    memory_gain,
    validation_loss,
)
from llm2comp_train.recipes import COMPRESSION, Settings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from llm2comp_apps.evaluation.tasks import Task

__all__ = ["RunOptions", "check_call", "run_stage"]

READOUT_OF = {**dict.fromkeys(COMPRESSION, "memory"), "mntp": "tokens", "ebar": "prompts"}
"""What a stage reads a text's vectors from; a contrastive stage goes on with what it is given."""
FREE = ("tokens_per_pass", "tokens_kept", "head_chunk", "gradient_checkpointing", "dead_after", "dead_gain")
"""Settings that a resumed run may change: what is learned does not depend on them. Memory may have run out."""
MASK_TOKEN = "_"  # noqa: S105 - a token of text


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What a run is given besides its settings.

    Attributes:
        data: files, folders, globs, Hugging Face datasets.
        out: the run's directory.
        init: run or checkpoint whose adapter, memory tokens and decoder input go on.
        resume: go on with the run in ``out``.
        device: by default the best there is.
        eval_data: folder with evaluation data for the ``dev`` suite; ``None`` for no scores.
        instructions: prompt of the queries of a pair file, by name pattern.
        tensorboard: write its files, too.
        show: is told of every step.
        say: is told in a line which stage of a chain runs.
    """

    data: Sequence[str]
    out: Path
    init: Path | None = None
    resume: bool = False
    device: str | None = None
    eval_data: Path | None = None
    instructions: Mapping[str, str] = field(default_factory=dict)
    tensorboard: bool = False
    show: Callable[[Progress], None] = lambda _progress: None
    say: Callable[[str], None] = lambda _line: None


def run_stage(stage: str, settings: Settings, options: RunOptions) -> Path:
    """Train one stage; returns the finished encoder, ``OUT/encoder``.

    What can be refused without reading the training texts is refused before anything is written.

    Raises:
        TrainingError: see :func:`~.loop.train`; also when the run was stopped before its end.
        UsageError: ``out`` holds a run and ``resume`` is not set, or one with other settings; or an option names what
            is not there.
    """
    init = _encoder_of(options.init) if options.init else None
    files = check_call(stage, settings, options)
    dev = load_dev(options.eval_data) if options.eval_data else []
    processes = Processes(options.device or default_device())
    backbone = _load(settings, processes.device)
    network = build_network(backbone, settings, init, READOUT_OF.get(stage))
    probe(network, backbone.name)
    teacher = load_teacher(settings.teacher, processes.device) if stage == "scl" and settings.teacher else None
    if processes.main:
        _claim(stage, settings, options)
    store = _store(stage, settings, options, files, backbone.tokenizer, processes)
    work, evaluate = _stage_work(stage, settings, options, network, backbone, store, dev, processes, teacher)
    _spare(network, settings, processes)
    about = {"stage": stage, "data": store.names, "init": str(init) if init else None, **dataclasses.asdict(settings)}
    run = Run(
        directory=options.out,
        settings=settings,
        network=network,
        processes=processes,
        work=work,
        evaluate=evaluate,
        export=lambda directory: export(directory, network, backbone, settings, about),
        place=store.place,
        show=options.show,
        tensorboard=options.tensorboard,
    )
    with StopRequest(processes) as stop:
        steps = train(run, stop, resume=options.resume)
        if steps < settings.max_steps:
            raise TrainingStoppedError(
                f"stopped after step {steps} of {settings.max_steps}; --resume goes on from there."
            )
        if processes.main:
            _publish_result(options.out, steps)
            draw_curve(options.out)
        processes.wait()
    return options.out / "encoder"


def _publish_result(out: Path, steps: int) -> None:
    chosen = out / "checkpoints" / f"step-{best_step(out) or steps:06d}"
    without_state = shutil.ignore_patterns(checkpoints.STATE)

    def copy(directory: Path) -> None:
        shutil.copytree(chosen, directory, ignore=without_state, dirs_exist_ok=True)

    checkpoints.publish(out / "encoder", copy)


def _encoder_of(init: Path) -> Path:
    """The encoder that ``--init`` means: a checkpoint, or the result of a run."""
    for directory in (init, init / "encoder"):
        if (directory / SETTINGS).is_file():
            return directory
    raise TrainingError(f"--init {init}: neither an encoder's directory nor a finished run.")


def _spare(network: CompressionNetwork, settings: Settings, processes: Processes) -> None:
    """What saves time or memory, layer by layer."""
    layers = network.base.layers
    assert isinstance(layers, nn.ModuleList)
    if settings.gradient_checkpointing:
        checkpoint_layers(layers)
    if settings.shard and processes.world > 1:
        shard_layers(layers, processes.device, processes.world)
        processes.in_step = True
    if settings.compile:
        # Encoder, teacher and student, with padding and without, trained and not, are so many forms of one layer.
        torch._dynamo.config.recompile_limit = 16
        for layer in layers:
            layer.compile(dynamic=True)


def check_call(stage: str, settings: Settings, options: RunOptions) -> list[DataFile]:
    """Check what can be checked in no time; returns the data files.

    Raises:
        TrainingError: there are no such data, or a package is missing.
        UsageError: see :func:`_check_claim`; or an instruction is for none of the files.
    """
    _check_claim(stage, settings, options)
    if options.tensorboard:
        require_tensorboard()
    files = find_data(options.data)
    if stage == "scl":
        _check_instructions(options, files)
    return files


def _check_claim(stage: str, settings: Settings, options: RunOptions) -> None:
    """Check that ``options.out`` is free, or holds the run to go on with.

    A run that broke off before its first step, at a misspelt option, say, has nothing to go on with: it does not count.

    Raises:
        UsageError: it holds a run and ``resume`` is not set, or one that was started with other settings.
    """
    before = _claimed(options.out)
    if before is None or not _has_begun(options.out):
        return
    if not options.resume:
        raise UsageError(f"--out {options.out}: already holds a run; add --resume to go on with it.")
    wanted = _claim_of(stage, settings, options)
    changed = [name for name, value in wanted.items() if before[name] != value and name not in FREE]
    if changed:
        raise UsageError(
            f"--resume: the run in {options.out} was started with other values of {', '.join(changed)}; give the same "
            "ones again, or another --out."
        )


def _claim(stage: str, settings: Settings, options: RunOptions) -> None:
    """Write ``run.json``, in place of that of a run that never began; see :func:`_check_claim`."""
    wanted, before = _claim_of(stage, settings, options), _claimed(options.out)
    if before is not None and _has_begun(options.out):
        return
    if before is not None and before != wanted:
        shutil.rmtree(options.out / "data", ignore_errors=True)  # token ids that the other call made
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "run.json").write_text(json.dumps(wanted, indent=2) + "\n", "utf-8")


def _claim_of(stage: str, settings: Settings, options: RunOptions) -> dict[str, Any]:
    return {
        "stage": stage,
        "data": list(options.data),
        "init": str(options.init) if options.init else None,
        "instructions": dict(options.instructions),
        **dataclasses.asdict(settings),
    }


def _claimed(out: Path) -> dict[str, Any] | None:
    """What ``run.json`` says, if there is one; a setting that it does not know is younger and had its default."""
    path = out / "run.json"
    if not path.is_file():
        return None
    return dataclasses.asdict(Settings()) | json.loads(path.read_text("utf-8"))


def _has_begun(out: Path) -> bool:
    """Whether a step of the run is behind it."""
    metrics = out / METRICS
    return (metrics.is_file() and metrics.stat().st_size > 0) or (out / "checkpoints").is_dir()


def _check_instructions(options: RunOptions, files: Sequence[DataFile]) -> None:
    for pattern in options.instructions:
        if not any(fnmatch.fnmatch(file.name, pattern) for file in files):
            names = ", ".join(file.name for file in files)
            raise UsageError(f"--instruction {pattern!r}: matches none of the data files ({names}).")


def _load(settings: Settings, device: str) -> Backbone:
    dtype = getattr(torch, settings.dtype, None) or default_dtype(device)
    if dtype is torch.float16:  # its gradients underflow
        dtype = torch.float32
    # The fused attention kernel has no fast backward pass on CPUs for short texts.
    attention = {"auto": "eager" if device == "cpu" else "sdpa"}.get(settings.attention, settings.attention)
    return load_backbone(settings.backbone, device=device, dtype=dtype, attn_implementation=attention)


def _store(
    stage: str,
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


def _rows(stage: str, settings: Settings, options: RunOptions, file: DataFile) -> Iterator[Row]:
    return itertools.islice(_all_rows(stage, settings, options, file), settings.max_rows or None)


def _all_rows(stage: str, settings: Settings, options: RunOptions, file: DataFile) -> Iterator[Row]:
    if stage == "scl":
        return pair_rows(file.records(), _query_prompt(settings, options, file.name), settings.negatives)
    if stage == "ucl":
        return sentence_rows(file.records())
    return text_rows(file.records(), settings.min_chars)


def _query_prompt(settings: Settings, options: RunOptions, file: str) -> str:
    given = [text for pattern, text in options.instructions.items() if fnmatch.fnmatch(file, pattern)]
    if given:
        return given[-1]
    return "" if settings.is_symmetric(file) else settings.query_prompt


def _stage_work(
    stage: str,
    settings: Settings,
    options: RunOptions,
    network: CompressionNetwork,
    backbone: Backbone,
    store: TokenStore,
    dev: Sequence[Task[Any]],
    processes: Processes,
    teacher: TextEncoder | None,
) -> tuple[Work, Callable[[], dict[str, float]]]:
    """What a step does and how the encoder is judged."""
    live = LiveEncoder(network, backbone.tokenizer, settings)
    pad = int(backbone.tokenizer.pad_token_id or 0)

    def scores() -> dict[str, float]:
        return dev_scores(live, dev) if dev else {}

    if stage == "ucl":
        return Unsupervised(settings, network, store, pad, processes), scores
    if stage == "scl":
        prompts = [_query_prompt(settings, options, name) for name in store.names]
        graded = Teacher(teacher, store, backbone.tokenizer, prompts) if teacher else None
        return Supervised(settings, network, store, pad, processes, graded), scores

    tokenizer = backbone.tokenizer
    ends = sentence_ends(tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))) if settings.crop else ()
    network.eval()
    if stage == "mntp":
        batches = CompressionBatches(store, settings, mask_id=_last_id(tokenizer, MASK_TOKEN), ends=ends)
        masked = MaskedPrediction(settings, network, batches, pad, processes)
        return masked, lambda: {**_figures(masked, batches, live), **scores()}

    batches = CompressionBatches(store, settings, reconstruct=stage == "rc", ends=ends)
    if stage in COMPRESSION:
        anchor = None if options.init else _last_id(tokenizer, "\n")
        contexts = [split.context for split in batches.validation()]
        with network.autocast():
            network.calibrate(*left_pad(contexts, pad, processes.device), anchor)
    work = Compression(stage, settings, network, batches, pad, processes)
    return work, lambda: {**_figures(work, batches, live), **scores()}


def _figures(work: TextWork, batches: CompressionBatches, live: LiveEncoder) -> dict[str, float]:
    """How held-out texts fare: their loss, what their memory is worth, and how alike their embeddings are."""
    held_out = batches.validation()
    if isinstance(work, Compression):
        found, texts = memory_gain(work, held_out), [split.context for split in held_out]
    else:
        found, texts = validation_loss(work, held_out), [split.target for split in held_out]
    return {**found, "cosine": mean_cosine(live.embed_ids(texts))}


def _last_id(tokenizer: PreTrainedTokenizerBase, text: str) -> int:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids[-1]
