"""What the README and the pages say exists: commands and options, targets, extras, imports, formats, links, rooms."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PATHS = [
    *sorted(ROOT.glob("*.md")),
    *sorted(DOCS.rglob("*.md")),
    ROOT / "indexes" / "README.md",
    ROOT / "llm2comp_apps" / "evaluation" / "README.md",
    ROOT / "llm2comp_apps" / "encoder" / "pretrained" / "smollm2-135m" / "README.md",
]
PAGES = {str(path.relative_to(ROOT)): path.read_text("utf-8") for path in PATHS}
WRITTEN = {name: text for name, text in PAGES.items() if name != "docs/reference/cli.md"}
"""The pages that people wrote."""


def code_blocks(language: str) -> list[tuple[str, str]]:
    """The page and the text of every block of code in a language."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.MULTILINE | re.DOTALL)
    return [(name, block) for name, text in PAGES.items() for block in pattern.findall(text)]


def shell_lines() -> list[tuple[str, str]]:
    """The page and each command of the shell blocks: continued lines joined, parts of a pipe alone."""
    return [
        (name, part.strip())
        for name, block in code_blocks("sh")
        for line in re.sub(r"\\\n", " ", block).splitlines()
        for part in re.split(r"(?<= )\|(?= )", line)
        if part.strip()
    ]


def words(line: str) -> list[str]:
    return shlex.split(line, comments=True)


LLM2COMP_LINES = [(name, line) for name, line in shell_lines() if line.startswith("llm2comp") and "$MORE" not in line]


@pytest.mark.parametrize(("page", "line"), LLM2COMP_LINES)
def test_commands_parse(page: str, line: str) -> None:
    """Every option and argument exists and has a value that it takes; nothing is run."""
    from llm2comp_apps.cli.main import app

    command = typer.main.get_command(app)
    context, arguments = None, words(line)
    while True:
        name, *arguments = arguments
        context = command.make_context(name, arguments, parent=context)
        if not hasattr(command, "commands"):
            break
        rest = [*context._protected_args, *context.args]
        if not rest:  # a group that does something by itself, as `llm2comp train` does
            assert command.invoke_without_command
            break
        name, command, arguments = command.resolve_command(context, rest)
        arguments = [name, *arguments]


@pytest.mark.parametrize("line", [line for _, line in LLM2COMP_LINES if line.startswith("llm2comp export-model")])
def test_encoders_that_come_along_have_the_form_that_pages_export(line: str) -> None:
    _, _, encoder, *options = words(line)
    if encoder in ("default", "quality") and "onnx" not in options:
        assert has_a_form_for_sentence_transformers(encoder)


def test_encoders_that_come_along_have_the_form_that_programs_export() -> None:
    help_page = PAGES["docs/reference/cli.md"]
    named = re.findall(r"^ *llm2comp (?:push|export-model) (default|quality) (?!.*onnx)", help_page, re.MULTILINE)
    named += [
        encoder
        for text in [*PAGES.values(), *(path.read_text("utf-8") for path in (ROOT / "examples").glob("*.py"))]
        if "export_model(" in text
        for encoder in re.findall(r'(?:export_model\(|\bencoder: str = )"(default|quality)"', text)
    ]
    assert len(named) >= 4
    assert all(map(has_a_form_for_sentence_transformers, named))


def has_a_form_for_sentence_transformers(encoder: str) -> bool:
    """Not where the text stops in front of the last layers."""
    from llm2comp_apps.encoder.locate import locate_checkpoint
    from llm2comp_apps.encoder.settings import read_settings

    return read_settings(locate_checkpoint(encoder)).text_layers is None


def test_pages_show_every_command() -> None:
    """The guides use each top-level command, so that a new one gets its guide."""
    from llm2comp_apps.cli.main import app

    shown = {words(line)[1] for _, line in LLM2COMP_LINES}
    assert shown >= set(typer.main.get_command(app).commands)


def test_options_in_running_text_exist() -> None:
    """``--where`` and its like: some command has each of them."""
    from llm2comp_apps.cli.main import app

    def options(command) -> set[str]:
        own = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        return own.union(*(options(inner) for inner in getattr(command, "commands", {}).values()))

    known = options(typer.main.get_command(app)) | {"--help"}
    for name, text in WRITTEN.items():
        text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
        for span in re.findall(r"`(--[a-z][\w-]*[^`]*)`", text):
            for option in re.findall(r"(?:^|\s)(--[a-z][\w-]*)", span):
                assert option in known | STUDY_OPTIONS, f"{name}: {option}"


def program_options(path: Path) -> set[str]:
    return set(re.findall(r"\"(--[a-z][\w-]*)\"", path.read_text("utf-8")))


STUDY_OPTIONS = set().union(*(program_options(path) for path in (ROOT / "train" / "studies").glob("*.py")))


def test_python_programs_exist_with_their_options() -> None:
    lines = [(name, words(line)) for name, line in shell_lines() if line.startswith("python ")]
    assert lines
    for name, (_, program, *arguments) in lines:
        if program == "-m":
            continue
        assert (ROOT / program).is_file(), f"{name}: {program}"
        options = {argument for argument in arguments if argument.startswith("--")}
        assert options <= program_options(ROOT / program), f"{name}: {program}"


def test_paths_of_the_repository_exist() -> None:
    """``llm2comp_apps/files.py`` and the like, in running text and tables."""
    pattern = re.compile(r"`((?:llm2comp_apps|train|indexes|tests|docs|examples|\.ci)/[\w./-]*[\w/])[^`]*`")
    found = [(name, path) for name, text in WRITTEN.items() for path in pattern.findall(text)]
    assert len(found) > 20
    for name, path in found:
        assert (ROOT / path).exists(), f"{name}: {path}"


def test_the_tree_of_rooms_is_the_tree_that_is_there() -> None:
    """Every line of the tree exists; every package and drawer is a line of it."""
    tree = re.search(r"```text\n(llm2comp_apps/.*?)```", PAGES["docs/architecture.md"], re.DOTALL)
    assert tree
    shown, above = set(), {}
    for line in tree[1].splitlines():
        path = line.split()[0]
        depth = len(line) - len(line.lstrip())
        parent = "".join(above[max(less for less in above if less < depth)]) if depth else ""
        if path.endswith("/"):
            above[depth] = parent + path
            above = {indent: folder for indent, folder in above.items() if indent <= depth}
        assert (ROOT / (parent + path)).exists(), parent + path
        assert (parent + path).rstrip("/") not in shown, f"twice: {path}"
        shown.add((parent + path).rstrip("/"))
        assert line.rstrip().endswith(("?", ")")), f"no question: {line}"
    for package in ("llm2comp_apps", "train/llm2comp_train", "indexes/llm2comp_indexes"):
        for folder in (ROOT / package).rglob("__init__.py"):
            room = folder.parent.relative_to(ROOT).as_posix()
            assert room in shown, f"docs/architecture.md has no line for {room}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {words(line)[1] for _, line in shell_lines() if line.startswith("make ")}
    wanted |= {target for text in WRITTEN.values() for target in re.findall(r"`make ([a-z-]+)`", text)}
    assert wanted >= {"demo", "test", "docs", "lint"}
    assert wanted <= targets


def test_extras_exist_and_are_listed() -> None:
    extras = set(tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"])
    text = "\n".join(WRITTEN.values())
    named = {extra for group in re.findall(r"\.\[([a-z,]+)\]", text) for extra in group.split(",")}
    named |= set(re.findall(r"extra `([a-z]+)`", text))
    assert named
    assert named <= extras
    assert set(re.findall(r"^\| `([a-z_-]+)` \|", PAGES["docs/quickstart.md"], re.MULTILINE)) == extras


@pytest.mark.parametrize(("page", "block"), code_blocks("python"))
def test_python_imports_exist(page: str, block: str) -> None:
    for node in ast.walk(ast.parse(block)):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_every_format_and_field_is_named() -> None:
    from llm2comp_apps.corpus.files import FORMAT_BY_SUFFIX
    from llm2comp_apps.corpus.options import ID_FIELDS, TEXT_FIELDS, TITLE_FIELDS

    page = PAGES["docs/reference/formats.md"]
    for word in (*ID_FIELDS, *TITLE_FIELDS, *TEXT_FIELDS):
        assert f"`{word}`" in page, word
    for suffix in FORMAT_BY_SUFFIX.keys() - {".text", ".markdown"}:
        assert f"`{suffix}`" in page, suffix


def test_every_environment_variable_is_listed() -> None:
    packages = ("llm2comp_apps", "train", "indexes")
    sources = [path for package in packages for path in (ROOT / package).rglob("*.py")]
    used = {name for path in sources for name in re.findall(r"\bLLM2COMP_[A-Z_]+\b", path.read_text("utf-8"))}
    assert set(re.findall(r"^\| `(LLM2COMP_[A-Z_]+)` \|", PAGES["docs/quickstart.md"], re.MULTILINE)) == used


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}


@pytest.mark.parametrize("name", list(PAGES))
def test_links_lead_somewhere(name: str) -> None:
    """Links between files of the repository; pages that show another file have its anchors, too."""
    for target in re.findall(r"\]\((?!https?:|mailto:)([^)\s]+)\)", PAGES[name]):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), target
        if anchor:
            text = file.read_text("utf-8")
            for shown in re.findall(r'^--8<-- "([^":]+)', text, re.MULTILINE):
                text += (ROOT / shown).read_text("utf-8")
            assert anchor in anchors(text), target


@pytest.mark.parametrize("name", list(WRITTEN))
def test_plain_words(name: str) -> None:
    """Words that the house does not use: see CONTRIBUTING, "English"."""
    text = re.sub(r"`[^`]*`", "", re.sub(r"^```.*?^```", "", WRITTEN[name], flags=re.MULTILINE | re.DOTALL))
    assert not re.search(r"\b(?:anew|goes on|go on|going on|went on|is told|are told)\b", text, re.IGNORECASE)
