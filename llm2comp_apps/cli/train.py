"""``llm2comp train``: make an LLM into an encoder, stage by stage."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from llm2comp_train.recipes import DEFAULT_RECIPE, recipe_record, recipe_table

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command, examples
from llm2comp_apps.cli.options.expand import REQUIRED, option, with_groups
from llm2comp_apps.cli.options.training import RECIPE, RUN, SETTINGS, STAGE, out_folder
from llm2comp_apps.cli.ui.console import note, print_json
from llm2comp_apps.cli.ui.tables import print_tables
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.errors import UsageError

__all__ = ["register"]

_MARGIN = "Leave out documents closer than this share of the positive's cosine."
_LAYERS = "Number of layers to keep, or a list of them: 0,1,11,29."
_METHOD = "Way to choose: greedy (drop what costs least, layer by layer) or influence (one pass, faster)."
_TEXT_LAYERS = "Layers that the text goes through; memory tokens go through all. Needs --fit. [default: all]"
_LAYERS_OF = "Packed encoder with the same layers, kept as they are rounded: where only memory tokens were trained."
_FIT = "Texts to fit the kept layers with to what the missing ones did, by least squares; their weights change."


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(
        name="train", invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
    )
    group.callback(
        epilog=examples(
            "llm2comp train --stage kl --data paragraphs/ --out runs/kl",
            "llm2comp train --stage scl --data pairs/ --init runs/kl --out runs/scl --eval-data data/eval",
            "llm2comp train --out runs/scl --resume",
            "llm2comp train --show-recipe --recipe llama-2-7b",
            "llm2comp train mine-negatives pairs.jsonl --out mined.jsonl",
        )
    )(train)
    mining = "llm2comp train mine-negatives pairs.jsonl --encoder runs/scl/encoder --out mined.jsonl"
    add_command(group, mine_negatives, mining, name="mine-negatives")
    add_command(
        group,
        prune,
        "llm2comp train prune quality --layers 24 --fit 1000 --data pairs/ --out runs/24",
        "llm2comp train prune runs/scl/encoder --layers 0,1,2,10,11,23,24,29 --data pairs/ --out runs/8",
    )
    add_command(group, pack, "llm2comp train pack runs/12-aligned --out light")
    app.add_typer(group)


@with_groups(STAGE, RECIPE, run=RUN, settings=SETTINGS)
def train(
    ctx: typer.Context,
    stage: str | None,
    recipe: str | None,
    run: dict[str, Any],
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
        _show_recipe(recipe or DEFAULT_RECIPE, stage or "all", settings, device, as_json=as_json)
        return
    if run["out"] is None:
        raise UsageError("is missing: the folder of the run", field="out")
    check_device(device)
    from llm2comp_train.engine.chain import run_recipe
    from llm2comp_train.engine.run import RunOptions

    from llm2comp_apps.cli.ui.training import show_training
    from llm2comp_apps.evaluation.judge import dev_judge

    with show_training() as show:
        options = RunOptions(**run, device=device, judge_of=dev_judge, show=show, say=note)
        encoder = run_recipe(recipe, stage, settings, options)
    note(f"encoder: {encoder}")


def _show_recipe(recipe: str, stage: str, changes: dict[str, Any], device: str | None, *, as_json: bool) -> None:
    """Print the settings that a call would train with; ``device`` need not be there."""
    from llm2comp_apps.encoder.backbones import default_device

    record = recipe_record(recipe, stage, changes, gpu=(device or default_device()).startswith("cuda"))
    if as_json:
        print_json(record)
    else:
        print_tables([recipe_table(record)])


@with_groups(
    out_folder("New pairs file (JSON lines)."),
    option("negatives", int, 1, None, "Most hard negatives per pair."),
    option("margin", float, 0.95, None, _MARGIN),
)
def mine_negatives(
    pairs: Annotated[str, typer.Argument(help="Pairs file: rows with query and positive.")],
    out: Path,
    encoder: EncoderOption = None,
    *,
    negatives: int,
    margin: float,
    device: DeviceOption = None,
) -> None:
    """Mine hard negatives for a pairs file: near documents of the file that do not answer the query.

    Documents nearly as close as the query's own positive are left out, since they may well answer it, too.
    """
    check_device(device)
    from llm2comp_train.data.mining import check_mining, mine_file

    check_mining(out, negatives=negatives, margin=margin)
    from llm2comp_apps.cli.ui.progress import ProgressDisplay
    from llm2comp_apps.encoder.names import load_encoder

    loaded = load_encoder(encoder or "default", device=device)
    with ProgressDisplay("encoding", "texts") as display:
        report = mine_file(loaded, pairs, out, negatives=negatives, margin=margin, on_progress=display.encoded)
    note(f"{report.pairs} pairs, {report.mined} with negatives; {report.too_close} documents left out as too close")


@with_groups(
    option("layers", str | None, None, "N|LIST", _LAYERS),
    option("k", int | None, None, None, "Number of memory tokens to keep, the first ones. [default: all]"),
    option("data", list[str], REQUIRED, None, "Files or folders whose texts decide."),
    out_folder("Folder of the new encoder."),
    option("method", str, "greedy", None, _METHOD),
    option("fit", int, 0, "TEXTS", _FIT, min=0),
    option("text_layers", int | None, None, "N", _TEXT_LAYERS),
    option("seed", int, 0, None, "Random seed of the texts."),
)
def prune(
    encoder: Annotated[str, typer.Argument(help="Encoder to cut: quality, or a checkpoint directory.")],
    layers: str | None,
    k: int | None,
    data: list[str],
    out: Path,
    method: str,
    fit: int,
    text_layers: int | None,
    seed: int,
    device: DeviceOption = None,
    as_json: JsonOption = False,
) -> None:
    """Cut an encoder down to some of its layers or memory tokens, and report what that costs before more training."""
    check_device(device)
    from llm2comp_train.pruning import parse_layers, prune_encoder

    from llm2comp_apps.cli.ui.progress import ProgressDisplay

    kept = None if layers is None else parse_layers(layers)
    with ProgressDisplay("cutting", "layers taken out or fitted") as display:
        how: dict[str, Any] = {"k": k, "method": method, "fit": fit, "text_layers": text_layers, "seed": seed}
        report = prune_encoder(
            encoder,
            data,
            kept,
            out,
            **how,
            device=device,
            on_progress=lambda done, total: display.update(done, done / total),
        )
    if as_json:
        print_json(asdict(report) | {"out": str(out)})
        return
    note(*(f"{out}: {line}" for line in report.lines()))


@with_groups(
    out_folder("Folder of the packed encoder."),
    option("name", str | None, None, None, "Name of the packed encoder. [default: the same]"),
    option("token_bits", int, 8, "8|4", "Bits of the token embeddings; 4 halve what a large vocabulary takes."),
    option("layers_of", str | None, None, "ENCODER", _LAYERS_OF),
)
def pack(
    encoder: Annotated[str, typer.Argument(help="Encoder to pack: a run or a checkpoint directory.")],
    out: Path,
    name: str | None,
    token_bits: int,
    layers_of: str | None,
    as_json: JsonOption = False,
) -> None:
    """Round an encoder to 8 bits, and store it with all that encoding on a CPU needs.

    The folder works without the language model, without PyTorch and without a download. Its rounded weights are those
    of a new encoder, so an index has to be built with it.
    """
    from llm2comp_apps.encoder.backends import packing

    report = packing.pack(encoder, out, name, token_bits=token_bits, layers_of=layers_of)
    if as_json:
        print_json(asdict(report) | {"out": str(out)})
        return
    note(f"{out}: {report.line()}")
