"""The command line itself: help, speed, exit codes, where errors and warnings go."""

from __future__ import annotations

import logging
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from llm2comp_train.stages import STAGES
from typer.testing import CliRunner

from llm2comp_apps.cli.main import app
from llm2comp_apps.cli.ui.errors import CommandGroup
from llm2comp_apps.errors import CorpusError, UsageError

HEAVY = {"torch", "transformers", "numpy", "faiss", "sklearn", "tantivy", "apsw", "rich", "umap", "pyarrow", "hdbscan"}


def commands(command=None, path=()):
    """Every command with its path, groups too."""
    command = command or typer.main.get_command(app)
    yield path, command
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, (*path, name))


@pytest.mark.parametrize("path", [path for path, _ in commands()], ids=" ".join)
def test_every_command_explains_itself_with_an_example(cli, path):
    result = cli(*path, "--help")
    assert result.exit_code == 0
    assert f"llm2comp {' '.join(path)}".strip() in result.stdout.partition("Example")[2]


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_option_is_explained(path, command):
    unexplained = [parameter.name for parameter in command.params if not getattr(parameter, "help", None)]
    assert unexplained == []


_STAGE = rf"(?:{'|'.join(STAGES)})"
FOR_STAGES = re.compile(rf"(?:All but )?{_STAGE}(?:, {_STAGE})*: ")
"""``ucl, scl: divisor of the cosines.``: the stages of training that a setting is for."""
NO_BEGINNING = ("How", "What", "Where", "Of", "A", "An", "The")
FORBIDDEN = re.compile(r"\b(goes on|go on|tells? on|anew|that there (?:is|are) not|of everything that|leave)\b(?! out)")


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_help_is_plain_english(path, command):
    """An option's help begins with a verb or a noun and is a sentence, or ends with its default in brackets."""
    for parameter in command.params:
        text = " ".join((parameter.help or "").split())
        first, rest = text.split()[0], text[FOR_STAGES.match(text).end() :] if FOR_STAGES.match(text) else ""
        assert rest or (first[0].isupper() and first not in NO_BEGINNING), f"{parameter.name}: {text}"
        assert text.endswith((".", "]")), f"{parameter.name}: {text}"
    texts = [command.help or "", *(parameter.help or "" for parameter in command.params)]
    for text in texts:
        assert not FORBIDDEN.search(text), text


def test_all_commands_are_there():
    names = {path[0] for path, _ in commands() if path}
    assert names == {
        "index",
        "mcp",
        "search",
        "rerank",
        "cluster",
        "encode",
        "serve",
        "train",
        "eval",
        "export-model",
        "push",
        "doctor",
        "explain",
        "shard",
    }


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv = ['llm2comp', '--help']; from llm2comp_apps.cli.main import main\ntry: main()\n" + (
        "except SystemExit: print(sorted(name for name in sys.modules if '.' not in name))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    imported = set(eval(output.splitlines()[-1]))
    assert "typer" in imported
    assert imported & HEAVY == set()


def test_help_takes_a_quarter_of_a_second_of_cpu_time():
    """CPU time, so that a busy machine does not decide; ``tests/benchmarks/bench_search.py`` takes the wall clock.

    A machine that is slow by itself may take longer, in proportion to what bare typer takes there.
    """
    ours = _median_cpu_seconds("from llm2comp_apps.cli.main import main; main()", "--help")
    assert ours < max(0.25, 2.5 * _median_cpu_seconds("import typer, typer.core, typer.rich_utils"))


def _median_cpu_seconds(code: str, *arguments: str) -> float:
    import resource

    spent = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return statistics.median(spent)


def test_version(cli):
    from llm2comp_apps import __version__

    assert cli("--version").stdout == f"llm2comp {__version__}\n"


def test_no_command_shows_help_with_the_first_steps_first(cli):
    listed = cli().output.partition("Commands:")[2].split()
    assert listed[0] == "index"
    assert "search" in listed


@pytest.mark.parametrize(
    "arguments", [["no-such-command"], ["search", "--no-such-option"], ["search", "q", "-k", "many"]]
)
def test_a_wrong_call_exits_with_2(cli, arguments):
    result = cli(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error" in result.stderr


def test_shell_completion_lists_commands():
    environment = {"_LLM2COMP_COMPLETE": "complete_bash", "COMP_WORDS": "llm2comp sea", "COMP_CWORD": "1"}
    code = "import sys; sys.argv[0] = 'llm2comp'; from llm2comp_apps.cli.main import main; main()"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert output.stdout.split() == ["search"]


def app_that_raises(error):
    failing = typer.Typer(cls=CommandGroup, rich_markup_mode=None)

    @failing.callback()
    def group() -> None:
        pass

    @failing.command()
    def fail() -> None:
        raise error

    return failing


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (CorpusError("a.jsonl:3: broken"), 1, "Error: a.jsonl:3: broken\n"),
        (
            CorpusError("a\nError: b\x1b[2J\x9b\u2028.csv:\tbroken"),
            1,
            "Error: a\\nError: b\\x1b[2J\\x9b\\u2028.csv:\tbroken\n",
        ),
        (UsageError("no such thing"), 2, "Error: no such thing\n"),
        (PermissionError(13, "Permission denied", "x.trec"), 1, "Error: x.trec: Permission denied\n"),
        (KeyboardInterrupt(), 130, "Error: interrupted\n"),
        (
            ModuleNotFoundError("No module named 'torch'", name="torch"),
            1,
            "Error: this needs the package torch, which is not installed (llm2comp doctor says more)\n",
        ),
        (
            ImportError("libcudart.so.12: cannot open\nmore", name="torch._C"),
            1,
            "Error: the package torch cannot be imported: libcudart.so.12: cannot open (llm2comp doctor says more)\n",
        ),
    ],
)
def test_errors_that_people_can_act_on_are_one_line(error, code, line):
    result = CliRunner().invoke(app_that_raises(error), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", line)


def test_a_file_whose_name_has_line_breaks_stays_on_its_line(cli, encoders, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a\nb.csv").write_bytes(b"\x00\xff\xfe")
    (tmp_path / "notes" / "good.txt").write_text("a text")
    result = cli("encode", tmp_path / "notes", "-o", tmp_path / "x\x1b.npy")
    assert result.exit_code == 0
    assert "a\\nb.csv" in result.stderr
    assert "x\\x1b.npy: " in result.stderr
    assert not {"b.csv", "\x1b"} & {line[:5] for line in result.stderr.splitlines()}
    assert cli("encode", "no\nfile.txt", "-o", "x.npy").stderr.startswith("Error: no\\nfile.txt: ")


def test_errors_of_the_index_are_one_line_with_their_own_code():
    from llm2comp_indexes.errors import FilterError, IndexStoreError

    for error in (FilterError("where?"), IndexStoreError("damaged")):
        result = CliRunner().invoke(app_that_raises(error), ["fail"])
        assert (result.exit_code, result.stderr) == (error.exit_code, f"Error: {error}\n")


@pytest.mark.parametrize(
    "bug", [ZeroDivisionError("bug"), ImportError("no such name", name="llm2comp_apps.files"), ImportError("bug")]
)
def test_a_bug_of_ours_is_a_traceback(bug):
    result = CliRunner().invoke(app_that_raises(bug), ["fail"])
    assert result.exception is bug


def test_debugging_shows_the_traceback_of_any_error(monkeypatch):
    monkeypatch.setenv("LLM2COMP_DEBUG", "1")
    result = CliRunner().invoke(app_that_raises(CorpusError("broken")), ["fail"])
    assert isinstance(result.exception, CorpusError)


def test_warnings_are_one_line_on_stderr(recwarn):
    import warnings

    warning_app = typer.Typer(cls=CommandGroup, rich_markup_mode=None)

    @warning_app.callback()
    def group() -> None:
        pass

    @warning_app.command()
    def warn() -> None:
        warnings.warn("the file\n    is doubtful", UserWarning, stacklevel=1)

    result = CliRunner().invoke(warning_app, ["warn"])
    assert result.stderr == "Warning: the file is doubtful\n"


@pytest.mark.parametrize(
    ("error", "why"), [(UsageError("take `mode`"), "take mode"), (KeyError("x"), "KeyError: 'x'"), (None, None)]
)
def test_a_line_of_a_log_says_why(error, why):
    """A server tells a client to look there."""
    logging_app = typer.Typer(cls=CommandGroup, rich_markup_mode=None)

    @logging_app.callback()
    def group() -> None:
        pass

    @logging_app.command()
    def log() -> None:
        logging.getLogger("llm2comp_apps.any").error("it failed", exc_info=error)

    result = CliRunner().invoke(logging_app, ["log"])
    assert result.stderr == ("it failed\n" if why is None else f"it failed: {why}\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--no-encoder", "--encoder", "default"), "--encoder has no effect: --no-encoder loads none"),
        (("--no-encoder", "--watch", "notes"), "--watch has no effect: --no-encoder loads none"),
        (("--no-encoder", "--device", "cpu"), "--device has no effect: --no-encoder loads none"),
        (("--deadline", "3"), "--deadline has no effect: there is nothing to wait for without --shards"),
    ],
)
def test_serve_refuses_what_would_do_nothing(tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").mkdir()
    result = CliRunner().invoke(app, ["serve", "--port", "99999", *arguments])
    assert (result.exit_code, result.stderr) == (2, f"Error: {said}\n")
    assert [each.name for each in tmp_path.iterdir()] == ["notes"]


def test_a_reader_that_goes_away_is_no_error(process, write_corpus):
    """``llm2comp ... | head -1``."""
    running = process("index", "--help")
    running.popen.stdout.close()
    assert running.popen.wait(timeout=300) in (0, 1)
    assert "Traceback" not in running.popen.stderr.read()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full here")
@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("index", "--help")], ids=" ".join)
def test_help_on_a_full_disk_is_one_line(arguments):
    program = "from llm2comp_apps.cli.main import main; main()"
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", program, *arguments], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert (ended.returncode, ended.stderr) == (1, "Error: No space left on device\n")


def test_importing_the_package_is_quick_too():
    start = time.process_time()
    subprocess.run([sys.executable, "-c", "import llm2comp_apps, sys; sys.exit('torch' in sys.modules)"], check=True)
    assert time.process_time() - start < 1


def test_a_command_leaves_the_loggers_as_they_were(cli):
    import logging

    logger = logging.getLogger("llm2comp_apps")
    before = (list(logger.handlers), logger.level)
    assert cli("doctor", "--json").exit_code in (0, 1)
    assert (logger.handlers, logger.level) == before
