"""``llm2comp train``: make an LLM into an encoder, stage by stage."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from llm2comp_train.recipes import get_recipe, resolve
from llm2comp_train.settings import Settings
from llm2comp_train.stages import get_stage

from llm2comp_apps.cli import train_prune
from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, examples
from llm2comp_apps.cli.options.expand import with_groups
from llm2comp_apps.cli.options.training import (
    DEFAULT_RECIPE,
    DEFAULT_STAGE,
    SETTINGS,
    DataOption,
    EvalDataOption,
    InitOption,
    InstructionOption,
    OutOption,
    RecipeOption,
    StageOption,
    out_option,
    parse_instructions,
    shown_value,
)
from llm2comp_apps.cli.ui.console import note, print_json, stdout_console
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.errors import UsageError

__all__ = ["register"]


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
    )(with_groups(settings=SETTINGS)(train))
    example = "llm2comp train mine-negatives pairs.jsonl --encoder runs/scl/encoder --out mined.jsonl"
    group.command("mine-negatives", epilog=examples(example))(mine_negatives)
    train_prune.register(group)
    app.add_typer(group)


def train(
    ctx: typer.Context,
    out: OutOption = None,
    stage: StageOption = None,
    data: DataOption = None,
    recipe: RecipeOption = DEFAULT_RECIPE,
    init: InitOption = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in OUT.")] = False,
    instructions: InstructionOption = None,
    eval_data: EvalDataOption = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write OUT/tensorboard, too.")] = False,
    show_recipe: Annotated[
        bool,
        typer.Option("--show-recipe", help="Print the settings of the stage (or of the recipe's chain) and exit."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --show-recipe: print JSON.")] = False,
    device: DeviceOption = None,
    *,
    settings: dict[str, Any],
) -> None:
    """Train one stage of a recipe.

    Interrupt it whenever you like: --resume continues from the last checkpoint, through the same losses.
    The options from --backbone on replace values of the recipe. The values in brackets are those of smollm2-135m on a
    CPU; a GPU, and other recipes, have others: --show-recipe prints them.
    """
    if ctx.invoked_subcommand is not None:
        return
    if show_recipe:
        _show_recipe(recipe, stage or "all", settings, device, as_json=as_json)
        return
    if out is None:
        raise UsageError("is missing: the folder of the run", field="out")
    prompts = parse_instructions(instructions or [])
    check_device(device)
    from llm2comp_train.engine.run import RunOptions

    from llm2comp_apps.cli.ui.training import TrainingDisplay
    from llm2comp_apps.encoder.backbones import default_device
    from llm2comp_apps.evaluation.judge import dev_judge

    with TrainingDisplay() as display:
        options = RunOptions(
            data=data or [],
            out=out,
            init=init,
            resume=resume,
            device=device or default_device(),
            judge=dev_judge(eval_data) if eval_data else None,
            instructions=prompts,
            tensorboard=tensorboard,
            show=display,
            say=note,
        )
        encoder = _run(stage or DEFAULT_STAGE, recipe, settings, options)
    note(f"encoder: {encoder}")


def _run(stage: str, recipe: str, changes: dict[str, Any], options: Any) -> Path:
    """Run one stage, or the recipe's chain."""
    from llm2comp_train.engine.chain import run_chain
    from llm2comp_train.engine.run import run_stage

    gpu = options.device.startswith("cuda")
    if stage == "all":
        return run_chain(recipe, changes, options, gpu=gpu)
    settings = resolve(recipe, stage, changes, gpu=gpu)
    chosen = options.data or get_recipe(recipe).data_of(get_stage(stage))
    size = f"{settings.max_steps} steps of {settings.batch_size}"
    note(f"stage {stage}, recipe {recipe}: {size} into {options.out}")
    return run_stage(stage, settings, dataclasses.replace(options, data=chosen))


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
        table.add_row(setting.name, *(Text(shown_value(values[setting.name])) for values in resolved.values()))
    stdout_console().print(table)


def mine_negatives(
    pairs: Annotated[str, typer.Argument(help="Pairs file: rows with query and positive.")],
    out: Annotated[Path, out_option("New pairs file (JSON lines).")],
    encoder: EncoderOption = None,
    negatives: Annotated[int, typer.Option("--negatives", help="Most hard negatives per pair.")] = 1,
    margin: Annotated[
        float, typer.Option("--margin", help="Leave out documents closer than this share of the positive's cosine.")
    ] = 0.95,
    device: DeviceOption = None,
) -> None:
    """Mine hard negatives for a pairs file: near documents of the file that do not answer the query.

    Documents nearly as close as the query's own positive are left out, since they may well answer it, too.
    """
    check_device(device)
    from llm2comp_train.data.mining import check_mining, mine_file

    check_mining(out, negatives=negatives, margin=margin)
    from llm2comp_apps.encoder.names import load_encoder

    loaded = load_encoder(encoder or "default", device=device)
    report = mine_file(loaded, pairs, out, negatives=negatives, margin=margin)
    note(f"{report.pairs} pairs, {report.mined} with negatives; {report.too_close} documents left out as too close")
