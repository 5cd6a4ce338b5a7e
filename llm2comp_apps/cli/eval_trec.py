"""``llm2comp eval trec``: the scores of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import JsonOption, add_command
from llm2comp_apps.cli.ui.console import note, print_json

__all__ = ["EXAMPLE", "register"]

EXAMPLE = "llm2comp eval trec run.trec data/eval/retrieval/scifact/qrels.tsv"


def register(group: typer.Typer) -> None:
    """Add the command to the group."""
    add_command(group, trec, "llm2comp search --queries queries.jsonl -k 100 -o run.trec", EXAMPLE)


def trec(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Run in TREC form, or JSON lines, of any program.")],
    qrels: Annotated[Path, typer.Argument(metavar="QRELS", help="Judgements in TREC's or BEIR's form.")],
    as_json: JsonOption = False,
) -> None:
    """Score a run against judgements: nDCG@10, MAP, MRR@10, recall@100.

    A judged query that the run lacks counts 0, as with trec_eval -c.
    """
    from llm2comp_apps.evaluation.trec import read_judgements, read_run, score_run

    found = score_run(read_run(run), read_judgements(qrels))
    if as_json:
        print_json({"run": str(run), "qrels": str(qrels), "means": found.means, "queries": found.queries})
    for name, value in () if as_json else found.means.items():
        typer.echo(f"{name:<12}{100 * value:6.2f}")
    note(f"{len(found.queries)} judged queries, {found.missing} of them not in the run; {found.unjudged} not judged")
