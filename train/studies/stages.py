"""Which adaptation serves contrast best? Train the paper's table at one size, with equal data and steps, and write it.

    python train/studies/stages.py --data DATA --out runs/study                 # one CPU core, small
    python train/studies/stages.py --data DATA --out runs/study --preset gpu    # one GPU, half an hour
    python train/studies/stages.py ... --adapters continue,fresh                          # measures both
    python train/studies/stages.py ... --arms kl --ks 1,4,8,16                            # how many memory tokens?
    python train/studies/stages.py ... --beside default --beside bm25                     # rows beside them

1. Each arm (``rc``, ``nll``, ``kl``, ``mntp``, on request ``ebar``; ``none`` is the backbone as it comes) is trained
   on the same texts for the same steps at each learning rate of a small grid; the ``dev`` suite (development and
   training splits alone) chooses one. With ``--ks``, arms with memory tokens are trained with each number of them.
2. From each chosen one on: ``ucl``, then ``scl``, chosen in the same way.
3. All chosen encoders and the training-free baselines are scored on the suite's test data; dimension collapse is
   measured on its sentences of STS-B; the memory vectors are also read by cluster-then-merge pooling.

``OUT/study.md`` and ``OUT/study.json`` hold the table. The study goes breadth first and keeps all it has done:
interrupt it, or give it ``--minutes``, and run it again with the same settings to continue. It needs what training and
evaluation need, but no FAISS. The data folder has ``train/paragraphs``, ``train/pairs`` and ``eval``. Where no package
registry can be reached, set ``LLM2COMP_CACHE`` to a cache that holds the backbone, or give a model directory with
``--backbone``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm2comp_train.judging.study import Row, markdown, mean_score

from llm2comp_apps.encoder import BASELINES
from llm2comp_apps.errors import EvaluationError, LLM2CompError, TrainingError, TrainingStoppedError, UsageError
from llm2comp_apps.evaluation.table import System, TableOptions, file_name, fill_table, parse_systems
from llm2comp_apps.files import write_text

ARMS = ("none", "rc", "nll", "kl", "mntp")
_FREE = tuple(f"{kind}=baseline:{kind}" for kind in BASELINES)
PAIRS_TASK = "stsbenchmark"


@dataclass(frozen=True, slots=True)
class Preset:
    """Steps, texts per step and learning rates by kind of stage (``adapt``, ``ucl``, ``scl``); the test suite."""

    steps: dict[str, int]
    batch: dict[str, int]
    rates: dict[str, tuple[float, ...]]
    suite: str


PRESETS = {
    "cpu": Preset(
        steps={"adapt": 100, "ucl": 20, "scl": 30},
        batch={"adapt": 16, "ucl": 64, "scl": 64},
        rates={"adapt": (3e-4, 1e-3, 3e-3), "ucl": (1e-4,), "scl": (5e-4,)},
        suite="nano",
    ),
    "gpu": Preset(
        steps={"adapt": 300, "ucl": 100, "scl": 200},
        batch={"adapt": 128, "ucl": 128, "scl": 256},
        rates={"adapt": (3e-4, 1e-3), "ucl": (1e-4,), "scl": (5e-4,)},
        suite="core",
    ),
}


class OutOfTimeError(Exception):
    """``--minutes`` are over: this is not begun."""


@dataclass(frozen=True, slots=True)
class Study:
    """The command line, settled."""

    data: Path
    out: Path
    backbone: str | None
    device: str
    preset: Preset
    arms: Sequence[str]
    ks: Sequence[int]
    chain: Sequence[str]
    adapters: Sequence[str]
    changes: dict[str, Any]
    beside: Sequence[System]
    deadline: float

    def require_time(self) -> None:
        """Nothing new is begun after the deadline."""
        if time.monotonic() > self.deadline:
            raise OutOfTimeError


def note(text: str) -> None:
    """A line on stderr."""
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {text}\n")


# Training


def grow(study: Study, row: Row, stage: str, adapter: str) -> Row:
    """Train ``stage`` from a row's encoder at each learning rate; returns the row of the best one on ``dev``."""
    from llm2comp_train.engine.loop import DivergedError
    from llm2comp_train.engine.metrics import read_metrics

    kind = stage if stage in ("ucl", "scl") else "adapt"
    mark = " (fresh)" if adapter == "fresh" and "fresh" not in row.label else ""
    beginning = row.label if row.stage == stage else stage
    label = (beginning if row.run is None else f"{row.label} + {stage}") + mark
    tried: dict[float, Path] = {}
    for rate in study.preset.rates[kind]:
        run = study.out / "runs" / f"{label.replace(' ', '')}-{rate:g}"
        lost = run / "lost.txt"  # the same seed would lose it again
        try:
            if not lost.is_file():
                train_one(study, stage, rate, adapter, row, run)
                tried[rate] = run
        except DivergedError as error:
            note(f"{run.name} is lost: {error}")
            lost.write_text(f"{error}\n", "utf-8")
    if not tried:
        raise TrainingError(f"{label}: lost at every learning rate.")
    evaluations = {rate: [line for line in read_metrics(run) if "loss" not in line] for rate, run in tried.items()}
    scores = {rate: 100 * max(line["score"] for line in lines) for rate, lines in evaluations.items()}
    best = max(scores, key=lambda rate: scores[rate])
    figures = {name: value for name, value in evaluations[best][-1].items() if name != "step"}
    seconds = sum(line["seconds"] for line in read_metrics(tried[best]) if "seconds" in line)
    shown = {f"{rate:g}": round(found, 2) for rate, found in scores.items()}
    return Row(label, stage, row.k, tried[best], best, shown, figures, seconds)


def train_one(study: Study, stage: str, rate: float, adapter: str, row: Row, run: Path) -> None:
    """One run from a row's encoder on, unless it is finished; an interrupted one is continued."""
    from llm2comp_train.engine.run import RunOptions, run_stage
    from llm2comp_train.recipes import resolve

    from llm2comp_apps.evaluation.judge import dev_judge

    if (run / "encoder").is_dir():
        return
    study.require_time()
    kind = stage if stage in ("ucl", "scl") else "adapt"
    steps = study.preset.steps[kind]
    changes: dict[str, Any] = {
        "lr": rate,
        "max_steps": steps,
        "batch_size": study.preset.batch[kind],
        "warmup_steps": max(1, steps // 10),
        "eval_every": steps,  # one look at the end: all arms get the same steps, none picks its best moment
        "save_every": max(25, steps // 4),
        "adapter": adapter,
        **study.changes,
    }
    if row.k:
        changes["k"] = row.k
    if study.backbone:
        changes["backbone"] = study.backbone
    note(f"training {run.name}: {steps} steps")
    folder = "pairs" if stage == "scl" else "paragraphs"
    share_texts(study.out / "texts" / kind, run / "data")
    run_stage(
        stage,
        resolve("smollm2-135m", stage, changes, gpu=study.device.startswith("cuda")),
        RunOptions(
            data=[str(study.data / "train" / folder)],
            out=run,
            init=row.run,
            resume=True,
            device=study.device,
            judge=dev_judge(study.data / "eval"),
        ),
    )
    share_texts(run / "data", study.out / "texts" / kind)


def share_texts(source: Path, target: Path) -> None:
    """Give a run the token ids that another one of its kind made of the same texts, as links to the same files."""
    if (source / "store.json").is_file() and not target.exists():
        temporary = target.with_name(f".{target.name}.new")
        shutil.rmtree(temporary, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, temporary, copy_function=os.link)
        temporary.rename(target)


def starts(study: Study) -> list[Row]:
    """What is to be grown: the arms, those with memory tokens once for each of ``--ks``."""
    from llm2comp_train.stages import STAGES

    rows: list[Row] = []
    for arm in study.arms:
        swept = study.ks if arm in STAGES and STAGES[arm].readout == "memory" else ()
        rows += [Row(f"{arm} (k={k})", arm, k) for k in swept] or [Row(arm, arm)]
    return rows


def grow_all(study: Study, report: Callable[[list[Row]], bool]) -> bool:
    """All rows, breadth first.

    Args:
        study: the command line.
        report: told of all rows after each breadth; returns whether it could measure them all.

    Returns:
        Whether nothing is left for want of time.
    """
    found: list[Row] = []
    complete = True

    def grown(row: Row, stage: str, adapter: str) -> list[Row]:
        nonlocal complete
        try:
            return [grow(study, row, stage, adapter)]
        except OutOfTimeError:
            complete = False
            return []

    ends = []
    for row in starts(study):
        ends += [row] if row.stage == "none" else grown(row, row.stage, "continue")
    found += [row for row in ends if row.run]
    if found:
        complete &= report(found)
    tips = [(row, adapter) for row in ends for adapter in study.adapters if row.run or adapter == "continue"]
    for stage in study.chain:
        tips = [(end, adapter) for row, adapter in tips for end in grown(row, stage, adapter)]
        found += [row for row, _ in tips]
        if found:
            complete &= report(found)
    if complete and not found:
        raise UsageError("nothing to train: --arms none begins with the --chain, and with --adapters continue.")
    return complete


# Measuring


def measure(study: Study, label: str, spec: str) -> dict[str, Any]:
    """Test scores (times 100) and shape of the space of one encoder; kept, so that it is done once.

    Args:
        study: the command line.
        label: of the table's row.
        spec: what :func:`~llm2comp_apps.evaluation.adapters.load_system` loads.
    """
    from llm2comp_apps.encoder.model import LLM2Comp
    from llm2comp_apps.encoder.protocol import TextEncoder
    from llm2comp_apps.evaluation import load_suite
    from llm2comp_apps.evaluation.adapters import load_system
    from llm2comp_apps.evaluation.analysis import analyze
    from llm2comp_apps.evaluation.analysis.memory import MemoryBank, PooledMemory, pooled_as

    slug = file_name(label.replace(" ", ""))
    kept = study.out / "figures" / f"{slug}-{study.preset.suite}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text("utf-8"))
        if found["spec"] == spec:
            return found
    study.require_time()
    encoder = load_system(spec, backbone=study.backbone, device=study.device)
    readings: dict[str, Any] = {"mean": encoder}
    if isinstance(encoder, LLM2Comp) and encoder.k > 1:
        bank = MemoryBank(encoder)  # one pass over the texts serves both poolings
        readings = {pooling: PooledMemory(bank, pooling, pooled_as(pooling)) for pooling in ("mean", "merge")}
    scores = {name: score(study, f"{slug}@{name}", reading) for name, reading in readings.items()}
    found = {"spec": spec, "scores": scores["mean"], "merged_scores": scores.get("merge")}
    if isinstance(encoder, TextEncoder):
        (pairs,) = load_suite(study.preset.suite, study.data / "eval", [PAIRS_TASK])
        shape = analyze(label, encoder, pairs.load())
        found |= {
            "effective_dimension": shape.spectrum.effective_dimension,
            "memory_correlation": shape.mean_memory_correlation,
            "uniformity": shape.geometry.uniformity,
            "alignment": shape.geometry.alignment,
            "mean_cosine": shape.geometry.mean_cosine,
        }
    kept.parent.mkdir(parents=True, exist_ok=True)
    temporary = kept.with_suffix(".new")
    temporary.write_text(json.dumps(found, indent=1), "utf-8")
    temporary.replace(kept)
    note(f"{label}: {mean_score(found['scores']):.1f} on average")
    return found


def score(study: Study, label: str, encoder: Any) -> dict[str, float]:
    """Main score of each task that ``encoder`` can do; finished ones are kept by the table of ``llm2comp eval``."""
    from llm2comp_apps.evaluation import load_suite
    from llm2comp_apps.evaluation.suites import CORE

    tasks = [task for task in load_suite(study.preset.suite, study.data / "eval") if task.name in CORE]
    options = TableOptions(keep_embeddings=False)
    table = fill_table([System(label, label)], tasks, study.out / "table", lambda _spec: encoder, options)
    if table.failures:
        raise EvaluationError(table.failures[0])
    return {task: 100 * result.main_score for task, result in table.cells[label].items()}


# The report


def write_report(study: Study, rows: list[Row], measured: dict[str, dict[str, Any]]) -> None:
    """``study.json`` with everything, ``study.md`` with one table."""
    settings = {
        "preset": asdict(study.preset),
        "device": study.device,
        "backbone": study.backbone or "smollm2-135m",
        "changes": study.changes,
        "adapters": list(study.adapters),
    }
    described = [{**asdict(row), "run": str(row.run)} for row in rows]
    report = {"settings": settings, "rows": described, "measured": measured}
    (study.out / "study.json").write_text(json.dumps(report, indent=1), "utf-8")
    (study.out / "study.md").write_text(markdown(rows, measured, settings), "utf-8")


def learning_rates(text: str) -> tuple[float, ...]:
    """Numbers on the command line, comma-separated."""
    return tuple(map(float, text.split(",")))


def whole_numbers(text: str) -> tuple[int, ...]:
    """Whole numbers on the command line, comma-separated."""
    return tuple(map(int, text.split(",")))


def parse(arguments: Sequence[str] | None) -> Study:
    """The command line."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--data", type=Path, required=True, help="folder with train/paragraphs, train/pairs, eval")
    options.add_argument(
        "--out", type=Path, required=True, help="folder of all results and runs; run again to continue"
    )
    options.add_argument("--preset", choices=PRESETS, help="sizes [gpu where there is one]")
    options.add_argument("--steps", type=int, help="steps of each adaptation, instead of the preset's")
    options.add_argument("--ucl-steps", type=int)
    options.add_argument("--scl-steps", type=int)
    options.add_argument("--lrs", type=learning_rates, help="learning rates of the adaptations, comma-separated")
    options.add_argument("--ucl-lrs", type=learning_rates)
    options.add_argument("--scl-lrs", type=learning_rates)
    options.add_argument("--suite", choices=("core", "nano"), help="test data, instead of the preset's")
    options.add_argument("--arms", default=",".join(ARMS), help="comma-separated [%(default)s]; also: ebar")
    options.add_argument(
        "--ks", type=whole_numbers, default=(), help="numbers of memory tokens to sweep over in rc, nll, kl: 1,4,8,16"
    )
    options.add_argument("--chain", default="ucl,scl", help="stages after an adaptation [%(default)s]")
    options.add_argument("--adapters", default="continue", help="continue, fresh, or both [%(default)s]")
    options.add_argument(
        "--beside",
        action="append",
        metavar="LABEL=ENCODER",
        default=[],
        help="a row more of what is not trained here, as in llm2comp eval run; the training-free baselines are there",
    )
    options.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any setting of all runs")
    options.add_argument("--minutes", type=float, default=float("inf"), help="begin nothing new after so long")
    options.add_argument("--backbone")
    options.add_argument("--device")
    chosen = options.parse_args(arguments)

    from llm2comp_train.settings import Settings

    from llm2comp_apps.encoder.backbones import default_device

    device = chosen.device or default_device()
    preset = PRESETS[chosen.preset or ("gpu" if device.startswith("cuda") else "cpu")]
    steps = {"adapt": chosen.steps, "ucl": chosen.ucl_steps, "scl": chosen.scl_steps}
    rates = {"adapt": chosen.lrs, "ucl": chosen.ucl_lrs, "scl": chosen.scl_lrs}
    preset = Preset(
        {kind: steps[kind] or count for kind, count in preset.steps.items()},
        preset.batch,
        {kind: rates[kind] or given for kind, given in preset.rates.items()},
        chosen.suite or preset.suite,
    )
    defaults = asdict(Settings())
    changes: dict[str, Any] = {}
    for item in chosen.set:
        name, _, value = item.partition("=")
        if name not in defaults:
            options.error(f"--set {item}: no such setting")
        kind = type(defaults[name])
        try:
            changes[name] = {"true": True, "false": False}[value] if kind is bool else kind(value)
        except (KeyError, ValueError):
            options.error(f"--set {item}: {name} is {'true or false' if kind is bool else f'of type {kind.__name__}'}")
    adapters = chosen.adapters.split(",")
    if set(adapters) - {"continue", "fresh"}:
        options.error(f"--adapters {chosen.adapters}: must be continue, fresh, or both")
    try:
        beside = parse_systems([*_FREE, *chosen.beside])
    except UsageError as error:
        options.error(f"--beside: {error}")
    return Study(
        data=chosen.data,
        out=chosen.out,
        backbone=chosen.backbone,
        device=device,
        preset=preset,
        arms=chosen.arms.split(","),
        ks=chosen.ks,
        chain=[stage for stage in chosen.chain.split(",") if stage],
        adapters=adapters,
        changes=changes,
        beside=beside,
        deadline=time.monotonic() + 60 * chosen.minutes,
    )


def claim(study: Study) -> None:
    """Write to ``OUT/settings.json`` what all that is kept there depends on, or see that it is the same.

    Arms, learning rates, chains and rows beside may be added, since results are kept by their names.

    Raises:
        UsageError: ``OUT`` holds a study with other settings.
    """
    wanted: dict[str, Any] = {
        "data": str(study.data.resolve()),
        "backbone": study.backbone or "smollm2-135m",
        "device": study.device.partition(":")[0],
        "steps": study.preset.steps,
        "batch": study.preset.batch,
        "settings": study.changes,
    }
    path = study.out / "settings.json"
    if not any((study.out / kept).is_dir() for kept in ("runs", "figures")):
        study.out.mkdir(parents=True, exist_ok=True)
        write_text(path, json.dumps(wanted, indent=1))
    try:
        before = json.loads(path.read_text("utf-8")) if path.is_file() else wanted
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({error}); remove it if the study has the settings of before.") from error
    changed = [f"{name} (was {before[name]}, is {found})" for name, found in wanted.items() if before[name] != found]
    if changed:
        raise UsageError(f"--out {study.out}: holds a study with another {'; '.join(changed)}; name another folder.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the study, or continue it.

    Returns:
        The exit code: 3 where time ran out before the end, 130 where it was interrupted.
    """
    study = parse(arguments)

    def report(rows: list[Row]) -> bool:
        specs = {row.label: f"{row.run}/encoder" for row in rows}
        specs |= {system.label: system.spec for system in study.beside}
        measured: dict[str, dict[str, Any]] = {}
        try:
            for label, spec in specs.items():
                with contextlib.suppress(OutOfTimeError):  # what was measured before is still to be shown
                    measured[label] = measure(study, label, spec)
        finally:
            if measured:
                write_report(study, rows, measured)
        return len(measured) == len(specs)

    try:
        claim(study)
        complete = grow_all(study, report)
    except (TrainingStoppedError, KeyboardInterrupt):  # the second one while encoders are measured
        note("interrupted; run the same command again to continue")
        return TrainingStoppedError.exit_code
    except LLM2CompError as error:
        note(f"error: {error}")
        return error.exit_code
    except OSError as error:
        note(f"error: {error}")
        return 1
    if not complete:
        note("--minutes are over; run the same command again to continue")
        return 3
    sys.stdout.write((study.out / "study.md").read_text("utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
