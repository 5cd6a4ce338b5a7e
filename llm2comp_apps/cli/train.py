"""``llm2comp train``: make an LLM into an encoder, stage by stage."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from llm2comp_train.recipes import RECIPES, STAGES, Settings, get_recipe, resolve

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, examples
from llm2comp_apps.cli.ui.console import note, print_json, stdout_console
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.errors import UsageError

__all__ = ["register"]

_RECIPE = "smollm2-135m"
_STAGE = "kl"
_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        name="train", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
    )
    group.callback(
        epilog=examples(
            "llm2comp train --stage kl --data paragraphs/ --out runs/kl",
            "llm2comp train --stage scl --data pairs/ --init runs/kl --out runs/scl --eval-data data/eval",
            "llm2comp train --stage scl --data pairs/ --init runs/kl --out runs/scl --eval-data data/eval --resume",
            "llm2comp train --show-recipe --recipe llama-2-7b",
            "llm2comp train mine-negatives pairs.jsonl --out mined.jsonl",
        )
    )(_with_settings(train))
    example = "llm2comp train mine-negatives pairs.jsonl --encoder runs/scl/encoder --out mined.jsonl"
    group.command("mine-negatives", epilog=examples(example))(mine_negatives)
    app.add_typer(group)


def train(
    ctx: typer.Context,
    out: Annotated[
        Path | None, typer.Option("--out", help="Directory of the run; the encoder comes to OUT/encoder.")
    ] = None,
    stage: Annotated[
        str | None, typer.Option("--stage", help=f"{', '.join(STAGES)}; all: the recipe's chain. [{_STAGE}]")
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            "--data",
            help="File, folder, glob, hub dataset: rows with text, or query and positive. [the paper's, from the hub]",
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="; ".join(f"{name}: {kind.about}" for name, kind in RECIPES.items()) + ".")
    ] = _RECIPE,
    init: Annotated[
        Path | None, typer.Option("--init", help="Run or checkpoint of an earlier stage to go on from.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in OUT.")] = False,
    instruction: Annotated[
        list[str] | None,
        typer.Option("--instruction", metavar="FILE=TEXT", help="scl: prompt of the queries of a file (pattern)."),
    ] = None,
    eval_data: Annotated[
        Path | None, typer.Option("--eval-data", help="Evaluation data: score every evaluated step on its dev suite.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write OUT/tensorboard, too.")] = False,
    show_recipe: Annotated[
        bool,
        typer.Option("--show-recipe", help="Print what --stage (without it: each of the chain) runs with, and leave."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show-recipe: as JSON.")] = False,
    device: DeviceOption = None,
    **settings: Any,
) -> None:
    """Train one stage of a recipe.

    Interrupt it whenever you like: with --resume it goes on from its last checkpoint, through the same losses.
    The options from --backbone on replace values of the recipe. Shown are those of smollm2-135m on a CPU; a GPU, and
    other recipes, have others: --show-recipe prints them.
    """
    if ctx.invoked_subcommand is not None:
        return
    if show_recipe:
        _show_recipe(recipe, stage or "all", settings, device, as_json=as_json)
        return
    if out is None:
        raise UsageError("--out is missing: the directory of the run.")
    stage = stage or _STAGE
    instructions = _instructions(instruction or [])
    if instructions and stage not in ("scl", "all"):
        raise UsageError(f"--instruction: stage {stage} has no queries; only scl has.")
    check_device(device)
    from llm2comp_train.engine.chain import run_chain
    from llm2comp_train.engine.run import RunOptions, run_stage

    from llm2comp_apps.cli.ui.training import TrainingDisplay
    from llm2comp_apps.encoder.backbones import default_device

    device = device or default_device()
    gpu = device.startswith("cuda")
    with TrainingDisplay() as display:
        options = RunOptions(
            data=data or [],
            out=out,
            init=init,
            resume=resume,
            device=device,
            eval_data=eval_data,
            instructions=instructions,
            tensorboard=tensorboard,
            show=display,
            say=note,
        )
        if stage == "all":
            encoder = run_chain(recipe, settings, options, gpu=gpu)
        else:
            resolved = resolve(recipe, stage, settings, gpu=gpu)
            chosen = data or get_recipe(recipe).data_of(stage)
            note(f"stage {stage}, recipe {recipe}: {resolved.max_steps} steps of {resolved.batch_size} into {out}")
            encoder = run_stage(stage, resolved, dataclasses.replace(options, data=chosen))
    note(f"encoder: {encoder}")


def _show_recipe(recipe: str, stage: str, changes: dict[str, Any], device: str | None, *, as_json: bool) -> None:
    """Print the settings that a call would train with; ``device`` need not be there."""
    if device is None:
        from llm2comp_apps.encoder.backbones import default_device

        device = default_device()
    gpu = device.startswith("cuda")
    stages = get_recipe(recipe).chain if stage == "all" else (stage,)
    resolved = {name: dataclasses.asdict(resolve(recipe, name, changes, gpu=gpu)) for name in stages}
    form = "GPU" if gpu else "CPU"
    if as_json:
        print_json({"recipe": recipe, "form": form, "stages": resolved})
        return
    from rich.table import Table
    from rich.text import Text

    table = Table("setting", title=f"{recipe}, {form} form")
    for name in stages:
        table.add_column(name, overflow="fold")
    for setting in dataclasses.fields(Settings):
        table.add_row(setting.name, *(Text(_shown(values[setting.name])) for values in resolved.values()))
    stdout_console().print(table)


def mine_negatives(
    pairs: Annotated[str, typer.Argument(help="Pairs file: rows with query and positive.")],
    out: Annotated[Path, typer.Option("--out", help="New pairs file (JSON lines).")],
    encoder: EncoderOption = None,
    negatives: Annotated[int, typer.Option("--negatives", help="Hard negatives per pair, at most.")] = 1,
    margin: Annotated[
        float, typer.Option("--margin", help="Documents closer than this share of the positive's cosine are left out.")
    ] = 0.95,
    device: DeviceOption = None,
) -> None:
    """Mine hard negatives for a pairs file: near documents of the file that do not answer the query.

    Documents nearly as close as the query's own positive are left out, since they may well answer it, too.
    """
    check_device(device)
    from llm2comp_train.data.mining import check_mining, mine_file

    check_mining(out, negatives=negatives, margin=margin)
    from llm2comp_apps.encoder import load_encoder

    loaded = load_encoder(encoder or "default", device=device)
    report = mine_file(loaded, pairs, out, negatives=negatives, margin=margin)
    note(f"{report.pairs} pairs, {report.mined} with negatives; {report.too_close} documents left out as too close")


def _with_settings(command: Any) -> Any:
    """Give ``command`` an option for every field of :class:`Settings`, in place of its ``**settings``."""
    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [item for item in own if item.kind != item.VAR_KEYWORD]
    parameters += [_option(setting) for setting in dataclasses.fields(Settings)]

    def wrapped(**values: Any) -> None:
        command(**values)

    wrapped.__doc__ = command.__doc__
    wrapped.__annotations__ = {item.name: item.annotation for item in parameters}
    vars(wrapped)["__signature__"] = inspect.Signature(parameters)
    return wrapped


def _option(setting: dataclasses.Field[Any]) -> inspect.Parameter:
    kind: Any = _TYPES[str(setting.type)]
    flag = setting.name.replace("_", "-")
    names = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
    option = typer.Option(names, help=f"{setting.metadata['help']} [{_defaults(setting.name)}]", show_default=False)
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )


def _defaults(name: str) -> str:
    """What the default recipe's stages have: the most common value, then the stages that have another one."""
    stages: dict[str, list[str]] = {}
    for stage in STAGES:
        stages.setdefault(_shown(getattr(resolve(_RECIPE, stage), name)), []).append(stage)
    common = max(stages, key=lambda value: len(stages[value]))
    others = [f"{', '.join(names)}: {value}" for value, names in stages.items() if value != common]
    return "; ".join([common, *others])


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _instructions(given: list[str]) -> dict[str, str]:
    for item in given:
        if "=" not in item:
            raise UsageError(f"--instruction {item!r}: write FILE=TEXT, such as 'medquad*=question: '.")
    return dict(item.partition("=")[::2] for item in given)
