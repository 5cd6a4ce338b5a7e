"""What is said about the project to package registries and to people who cite it."""

from __future__ import annotations

import re
import shutil
import tomllib
import zipfile
from datetime import date
from importlib import metadata
from pathlib import Path

import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]

TOP = {
    *(".ci", ".gitignore", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "PKG-INFO"),
    *("README.md", "SECURITY.md", "constraints.txt", "mkdocs.yml", "pyproject.toml"),
    *("deploy", "docs", "examples", "indexes", "llm2comp_apps", "tests", "train"),
}
"""What the source archive holds at its top: anything else is something that a tool left behind."""


def wheel_names(source: Path, folder: Path) -> tuple[list[str], str]:
    """The files of the wheel that is made of a source tree, and its metadata."""
    from hatchling.builders.wheel import WheelBuilder

    (wheel,) = WheelBuilder(str(source)).build(directory=str(folder), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        return sorted(names), archive.read(metadata).decode()


def test_the_source_archive_makes_the_same_wheel(tmp_path: Path) -> None:
    """It holds what a person needs to test, document and build the project, and nothing that tools left behind."""
    from hatchling.builders.sdist import SdistBuilder

    (archive,) = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    shutil.unpack_archive(archive, tmp_path)
    (unpacked,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert {path.name for path in unpacked.iterdir()} == TOP
    left = {"__pycache__", ".venv", "build", "dist", "demo", ".mypy_cache", ".ruff_cache", ".pytest_cache"}
    assert not [path for path in unpacked.rglob("*") if path.name in left and path.is_dir() and path.name != "build"]
    assert not (unpacked / "build").exists()
    assert wheel_names(unpacked, tmp_path / "one")[0] == wheel_names(ROOT, tmp_path / "two")[0]


def test_registries_learn_where_to_read_more(tmp_path: Path) -> None:
    metadata = wheel_names(ROOT, tmp_path)[1]
    assert PROJECT["urls"]
    for name, address in PROJECT["urls"].items():
        assert address.startswith("https://")
        assert f"Project-URL: {name}, {address}" in metadata
    assert "Description-Content-Type: text/markdown" in metadata


def test_what_is_pinned_runs_on_the_first_release_of_each_python() -> None:
    """Systems keep the patch release that they came with: a pin must not ask for a later one."""
    names = re.findall(r"^([\w.-]+)==", (ROOT / "constraints.txt").read_text("utf-8"), re.MULTILINE)
    assert len(names) > 100
    classified = re.findall(r":: (3\.\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE)
    assert len(classified) > 1
    found = {each.metadata["Name"].lower(): each.metadata["Requires-Python"] for each in metadata.distributions()}
    checked = {name: SpecifierSet(found[name.lower()] or "") for name in names if name.lower() in found}
    assert len(checked) > 100
    refused = {name: str(wanted) for name, wanted in checked.items() for one in classified if f"{one}.0" not in wanted}
    assert refused == {}


def test_citation() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["preferred-citation"]["url"] == PROJECT["urls"]["Paper"]


def test_changelog_has_the_newest_version_first() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    first, *released = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert first == "Unreleased"
    versions = [heading.split(" - ") for heading in released]
    assert versions[0][0] == PROJECT["version"]
    days = [date.fromisoformat(day) for _, day in versions]
    assert days == sorted(days, reverse=True)


def test_pinned_versions_are_sorted_and_cover_what_is_declared() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    names = [line.partition("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]]
    assert names == sorted(names, key=str.lower)
    pinned = {canonicalize_name(name) for name in names}
    extras = PROJECT["optional-dependencies"]
    declared = [
        *PROJECT["dependencies"],
        *(line for extra, lines in extras.items() if extra != "gpu" for line in lines),
    ]
    assert {canonicalize_name(Requirement(line).name) for line in declared} <= pinned
