"""Groups of options: spelled once, taken as one value, with the defaults of the settings that they make."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from pathlib import Path
from typing import Annotated, Any, get_args

import pytest
import typer
from llm2comp_indexes.dense.kinds import KINDS
from typer.testing import CliRunner

from llm2comp_apps.cli import main
from llm2comp_apps.cli.options.common import EncoderOption
from llm2comp_apps.cli.options.expand import Group, option, with_groups
from llm2comp_apps.cli.options.index_settings import BUILD, IMPORT, POLICY
from llm2comp_apps.cli.options.reading import READING
from llm2comp_apps.cli.options.search import SEARCH
from llm2comp_apps.corpus import CorpusOptions
from llm2comp_apps.encoder.names import BASELINES
from llm2comp_apps.encoder.settings import POOLINGS
from llm2comp_apps.retrieval.fusion import Fusion
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.settings import IndexSettings

SIZE = Group(
    dict,
    (
        option("width", int, 3, "N", "How wide."),
        option("deep_end", bool, False, None, "Whether it is deep.", flag="--deep-end/--no-deep-end"),
    ),
)


def run(*arguments):
    taken = []
    app = typer.Typer()

    @app.command()
    @with_groups(size=SIZE)
    def pool(name: Annotated[str, typer.Argument()], *, size: dict[str, Any], loud: bool = False) -> None:
        """Build a pool."""
        taken.append((name, size, loud))

    return CliRunner().invoke(app, arguments), taken


def test_a_command_gets_the_group_as_one_value():
    result, taken = run("mine", "--width", "5", "--deep-end", "--loud")
    assert result.exit_code == 0, result.output
    assert taken == [("mine", {"width": 5, "deep_end": True}, True)]
    assert run("mine")[1] == [("mine", {"width": 3, "deep_end": False}, False)]


def test_help_shows_the_options_of_the_group_and_not_the_group():
    shown = run("--help")[0].output
    assert "--width" in shown
    assert "How wide." in shown
    assert "Build a pool." in shown
    assert "--size" not in shown


@pytest.mark.parametrize(("group", "settings"), [(READING, CorpusOptions), (SEARCH, SearchOptions)])
def test_options_have_the_defaults_of_their_settings(group, settings):
    defaults = {name: item.default for name, item in inspect.signature(settings).parameters.items()}
    for each in group.options:
        assert each.default == defaults[each.name], each.name
    assert group.make(**{each.name: each.default for each in group.options}) == settings()


def test_settings_of_an_index_that_are_not_given_are_left_out():
    fields = set(inspect.signature(IndexSettings).parameters)
    assert set(BUILD.names) == fields
    nothing = dict.fromkeys(BUILD.names)
    assert BUILD.make(**nothing) == {}
    assert BUILD.make(**{**nothing, "memory": False, "max_ram": 2}) == {"memory": False, "max_ram": 2 * 2**20}
    assert POLICY.make(kind="flat", target_recall=None, max_ram=None) == {"kind": "flat"}


def test_help_names_every_kind_baseline_pooling_and_fusion_that_there_is():
    """Help spells them itself, since the rooms that have the lists import NumPy and more."""

    def texts(group):
        return {each.name: each.annotation.__metadata__[0].help for each in group.options}

    for group in (BUILD, POLICY, IMPORT):
        assert f"among the vectors: {', '.join(KINDS)}, or a FAISS" in texts(group)["kind"]
    assert "weighted, minmax, rrf, or learned" in texts(SEARCH)["fusion"]
    assert get_args(Fusion) == ("weighted", "minmax", "rrf", "learned")
    encoder = EncoderOption.__metadata__[0].help
    assert f"baseline:{'|'.join(BASELINES)}," in encoder
    assert {pooling for pooling in POOLINGS if f"@{pooling}" in encoder} == {*POOLINGS} - {"mean"}


def test_a_command_spells_no_option_that_stands_elsewhere():
    """What two commands take is in ``options/``, where a helper takes the words that differ."""
    folder = Path(main.__file__).parent
    spelled = {
        path: re.findall(r'typer\.Option\(\s*((?:"-[\w/-]+",?\s*)+)', path.read_text("utf-8"))
        for path in folder.rglob("*.py")
    }
    places = Counter(flag for found in spelled.values() for flags in found for flag in re.findall(r"--?[\w-]+", flags))
    own = {flag for path in folder.glob("*.py") for flags in spelled[path] for flag in re.findall(r"--?[\w-]+", flags)}
    assert own
    assert {flag for flag in own if places[flag] > 1} == {"--json"}  # of train, where it goes with another option
