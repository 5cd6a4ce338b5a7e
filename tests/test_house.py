"""The house rules: every import is declared, and the rooms keep to their arrows. What pages say: ``tests/docs``."""

from __future__ import annotations

import ast
import importlib
import re
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import llm2comp_apps

ROOT = Path(__file__).parent.parent
ROOMS = {
    "llm2comp_apps": ROOT / "llm2comp_apps",
    "llm2comp_train": ROOT / "train" / "llm2comp_train",
    "llm2comp_indexes": ROOT / "indexes" / "llm2comp_indexes",
}
SOURCES = sorted(path for folder in ROOMS.values() for path in folder.rglob("*.py"))
BELOW_CLI = [path for path in SOURCES if not path.is_relative_to(ROOT / "llm2comp_apps" / "cli")]
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def imports(path: Path, *, names: bool = False) -> set[str]:
    """The modules that a file imports when it runs, wherever in it; not those for type checkers only.

    Args:
        path: the file.
        names: ``from package import name`` counts as ``package.name``, which may be a module, instead of ``package``.
    """
    found = set()

    class Visitor(ast.NodeVisitor):
        def visit_If(self, node: ast.If) -> None:
            if ast.unparse(node.test) == "TYPE_CHECKING":
                for other in node.orelse:
                    self.visit(other)
            else:
                self.generic_visit(node)

        def visit_Import(self, node: ast.Import) -> None:
            found.update(alias.name for alias in node.names)

        def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
            assert node.level == 0, f"{path}: relative import"
            found.update([f"{node.module}.{alias.name}" for alias in node.names] if names else [node.module])

    Visitor().visit(ast.parse(path.read_text("utf-8")))
    return found


ABOVE = {"llm2comp_apps.cli", "llm2comp_train", "typer"}
"""What no room of ``llm2comp_apps`` but the command line knows."""
APART = {"llm2comp_apps.retrieval", "llm2comp_apps.clustering", "llm2comp_apps.evaluation"}
"""Rooms that do not know each other."""


def test_every_import_is_declared() -> None:
    """What is imported directly must not be there only because somebody else needs it."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    optional = [line for extra, lines in PROJECT["optional-dependencies"].items() if extra != "dev" for line in lines]
    declared = {canonicalize_name(Requirement(line).name) for line in [*PROJECT["dependencies"], *optional]}
    owners = metadata.packages_distributions()
    for path in SOURCES:
        for module in {name.partition(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - set(ROOMS):
            # A module that is not installed here (mteb) goes by its own name.
            names = {canonicalize_name(name) for name in owners.get(module, [module])}
            assert names & declared, f"{path.relative_to(ROOT)} imports {module} of {names}"


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("llm2comp_indexes", {"torch", "transformers", "llm2comp_apps", "llm2comp_train", "typer"}),
        ("llm2comp_train", {"faiss", "llm2comp_indexes", "tantivy", "typer", *APART, "llm2comp_apps.cli"}),
        ("llm2comp_apps/encoder", {"faiss", "llm2comp_indexes", "llm2comp_apps.corpus", *ABOVE, *APART}),
        ("llm2comp_apps/corpus", {"torch", "faiss", "llm2comp_indexes", "llm2comp_apps.encoder", *ABOVE, *APART}),
        ("llm2comp_apps/retrieval", {*ABOVE, *APART} - {"llm2comp_apps.retrieval"}),
        ("llm2comp_apps/clustering", {*ABOVE, *APART} - {"llm2comp_apps.clustering"}),
        ("llm2comp_apps/evaluation", {*ABOVE, *APART} - {"llm2comp_apps.evaluation"}),
        ("llm2comp_apps/diagnosis.py", {*ABOVE, *APART}),
        ("llm2comp_apps/tuning.py", {*ABOVE, "llm2comp_apps.clustering"}),
        ("llm2comp_apps/errors.py", {"llm2comp_apps", "llm2comp_indexes", "llm2comp_train"}),
        ("llm2comp_apps/files.py", {"llm2comp_apps", "llm2comp_indexes", "llm2comp_train"}),
        ("llm2comp_apps/pictures.py", {"llm2comp_apps", "llm2comp_indexes", "llm2comp_train"}),
        ("llm2comp_apps/stopping.py", {"llm2comp_apps", "llm2comp_indexes", "llm2comp_train"}),
        ("llm2comp_apps/text_table.py", {"llm2comp_apps", "llm2comp_indexes", "llm2comp_train"}),
    ],
)
def test_arrows_between_rooms(room: str, forbidden: set[str]) -> None:
    top, _, rest = room.partition("/")
    place = ROOMS[top] / rest
    files = [place] if place.is_file() else sorted(place.rglob("*.py"))
    assert files
    for path in files:
        for module in imports(path, names=True):
            packages = {".".join(module.split(".")[:depth]) for depth in (1, 2)}
            assert not packages & forbidden, f"{path.relative_to(ROOT)} imports {module}"


OUTER = ("serving", "scale", "integrations")
"""Rooms of ``llm2comp_apps`` that stand on what every program can use; a room is held to it as soon as it is there."""


BELOW_ALL_ROOMS = ("llm2comp_apps.files.",)
"""What no room is too far out for: the one place for "write beside, sync, rename"."""


def not_public(path: Path) -> set[str]:
    """What a file of an outer room imports from other rooms, and is not exported by a package for everybody."""
    own = f"llm2comp_apps.{path.relative_to(ROOMS['llm2comp_apps']).parts[0]}."
    ours = {name for name in imports(path, names=True) if name.partition(".")[0] in ROOMS}
    public = {f"{package}.{name}" for package in ROOMS for name in importlib.import_module(package).__all__}
    return {name for name in ours - public if not f"{name}.".startswith((own, *BELOW_ALL_ROOMS))}


@pytest.mark.parametrize("room", OUTER)
def test_outer_rooms_stand_on_public_names(room: str) -> None:
    for path in sorted((ROOMS["llm2comp_apps"] / room).rglob("*.py")):
        assert not_public(path) == set(), path.relative_to(ROOT)


def test_the_rule_of_the_outer_rooms_holds_back_what_is_not_public(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(ROOMS, "llm2comp_apps", tmp_path)
    (tmp_path / "serving").mkdir()
    (tmp_path / "serving" / "http.py").write_text(
        "import json\nfrom llm2comp_apps import Collection, UsageError\nfrom llm2comp_indexes import Index\n"
        "from llm2comp_apps.serving.schemas import Query\nfrom llm2comp_apps.retrieval.search import Searcher\n"
    )
    assert not_public(tmp_path / "serving" / "http.py") == {"llm2comp_apps.retrieval.search.Searcher"}


SPEAKS = {
    "llm2comp_apps/encoder/batching.py": {"rich.console", "rich.progress"},
    "llm2comp_apps/corpus/pydocs.py": {"sys.stderr.write"},
}
"""What may print below the command line: the bar of ``encode(show_progress=True)``, which people know from
sentence-transformers and ask for by that argument; and the report of a program of its own (``python -m``)."""


def speech(path: Path) -> set[str]:
    """How a file prints, asks, draws or exits."""
    found = {name for name in imports(path) if name.partition(".")[0] in ("rich", "typer", "click", "getpass")}
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and re.fullmatch(
            r"print|input|exit|quit|breakpoint|os\._exit|sys\.exit|sys\.(stdout|stderr)(\.buffer)?\.write(lines)?",
            ast.unparse(node.func),
        ):
            found.add(ast.unparse(node.func))
        if isinstance(node, ast.Raise) and node.exc is not None and re.match(r"SystemExit\b", ast.unparse(node.exc)):
            found.add("SystemExit")
    return found


def test_nothing_below_the_command_line_prints_asks_draws_or_exits() -> None:
    """Progress is a callback, news is a log line (``llm2comp_apps...``), and the command line shows both."""
    found = {str(path.relative_to(ROOT)): speech(path) for path in BELOW_CLI}
    assert {path: how for path, how in found.items() if how} == SPEAKS


def module_name(path: Path) -> str:
    """How a source file is imported."""
    folder = next(folder for folder in ROOMS.values() if path.is_relative_to(folder))
    return ".".join(path.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__")


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not in functions either, where a circle only hides; imports for type checkers do not run."""
    modules = {module_name(path): path for path in SOURCES}

    def home(imported: str) -> str:
        """The module that is imported, or the one that a name is imported from."""
        return imported if imported in modules else imported.rpartition(".")[0]

    needs = {
        name: {home(each) for each in imports(path, names=True)} & modules.keys() - {name}
        for name, path in modules.items()
    }
    assert any(needs.values())
    while free := [name for name, needed in needs.items() if not needed]:
        for name in free:
            del needs[name]
        for needed in needs.values():
            needed.difference_update(free)
    # What only needs the circle goes too, so that nothing but the circle is shown.
    while outside := needs.keys() - set().union(*needs.values()):
        for name in outside:
            del needs[name]
    assert not needs


FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
OTHER_PROGRAMS = {"--quiet", "--no-deps", "--disable-pip-version-check", "--force-reinstall", "--upgrade"}
"""Flags of pip, which is called and advised."""


@pytest.mark.parametrize("path", BELOW_CLI, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_flag_is_spelled_below_the_command_line(path: Path) -> None:
    """Not in messages, docstrings or comments: a caller may be a program (``llm2comp_apps.errors`` says how)."""
    assert sorted(set(FLAG.findall(path.read_text("utf-8"))) - OTHER_PROGRAMS) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_settings_are_filled_by_keyword(path: Path) -> None:
    """``Options(True, 5, "skip")`` says nothing to a reader, and breaks when a field is added."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef) and re.search(r"(Options|Settings|Request|Policy)$", node.name):
            made = [ast.unparse(each) for each in node.decorator_list if "dataclass" in ast.unparse(each)]
            if made:
                assert all("kw_only=True" in each for each in made), f"{node.name} can be filled by position"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_error_of_a_setting_is_a_sentence_about_it(path: Path) -> None:
    """The setting is its subject: ``UsageError("the id comes twice", field="source")`` is "source the id comes ..."."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call) and node.args and any(each.arg == "field" for each in node.keywords):
            reason = ast.unparse(node.args[0])
            assert not re.match(r"""f?['"](a|an|the|no|there|[A-Z]\w*) """, reason), f"line {node.lineno}: {reason}"


def test_tests_are_of_readable_size() -> None:
    assert {path.name for path in TESTS if len(path.read_text("utf-8").splitlines()) > 500} == set()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_source_is_finished_and_of_readable_size(path: Path) -> None:
    text = path.read_text("utf-8")
    assert len(text.splitlines()) <= 500
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError", text)
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "no module docstring"
    assert len(tree.body) == 1 or "from __future__ import annotations" in text


CLI = sorted((ROOT / "llm2comp_apps" / "cli").rglob("*.py"))


@pytest.mark.parametrize("path", CLI, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_parse_call_and_print(path: Path) -> None:
    """At most 40 lines besides the signature: what is longer does something that programs want, too."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.body[0].lineno < 40, f"{node.name} is too long"


def test_the_command_line_stays_thin() -> None:
    """Work, records and tables have their place in the rooms below, where a program finds them, too.

    2,600 lines for ten files of commands with their options and printing; a further file brings its share.
    """
    commands = [path for path in CLI if path.parent.name not in ("options", "ui") and path.name != "__init__.py"]
    assert commands
    assert sum(len(path.read_text("utf-8").splitlines()) for path in CLI) < 2600 + 110 * (len(commands) - 10)


def test_the_front_door_composes_and_adds_no_rule_of_its_own() -> None:
    collection = ROOT / "llm2comp_apps" / "retrieval" / "collection.py"
    assert len(collection.read_text("utf-8").splitlines()) < 250


def test_no_paths_of_somebodys_machine() -> None:
    pages = [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "docs").glob("*.py"),
        *ROOT.glob("examples/*.py"),
    ]
    named = [ROOT / name for name in ("Makefile", "mkdocs.yml", "constraints.txt", "CITATION.cff", ".ci/run")]
    files = [*SOURCES, *TESTS, *pages, *named]
    forbidden = re.compile(r"(?<![\w.])/(?:work|root|home/\w+|Users/\w+)/")
    for path in files:
        if path != Path(__file__):
            assert not forbidden.search(path.read_text("utf-8")), path


def test_version_is_the_same_everywhere() -> None:
    assert PROJECT["version"] == llm2comp_apps.__version__


def test_wheel_holds_the_packages_and_nothing_else(tmp_path: Path) -> None:
    """What pip installs, built without a network: sources, data files and type markers of all three packages."""
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        licences = [name for name in archive.namelist() if name.endswith("licenses/LICENSE")]
    expected = {
        f"{package}/{path.relative_to(folder).as_posix()}"
        for package, folder in ROOMS.items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert names == expected
    assert {f"{package}/py.typed" for package in ROOMS} <= names
    assert licences
