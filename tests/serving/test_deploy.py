"""The guide's client runs, and what the deployment files name is there."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import typer

ROOT = Path(__file__).parents[2]


def test_the_clients_of_the_guide(server, capsys) -> None:
    page = (ROOT / "docs" / "guides" / "serve.md").read_text("utf-8")
    (script,) = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    exec(compile(script.replace("http://127.0.0.1:8000", server.ask.url), "serve.md", "exec"), {})
    near, far = (float(line.split()[0]) for line in capsys.readouterr().out.splitlines())
    assert near > far
    (body,) = re.findall(r"^  -d '(\{.*\})'$", page, re.MULTILINE)
    status, _, answer = server.ask.raw("POST", "/indexes/library/search", body.encode())
    assert status == 200
    assert b"cells" in answer


def serve_options() -> set[str]:
    from llm2comp_apps.cli.main import app

    command = typer.main.get_command(app).commands["serve"]
    return {name for parameter in command.params for name in parameter.opts}


def test_the_container_is_built_from_files_that_are_there() -> None:
    lines = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").replace("\\\n", " ").splitlines()
    for line in lines:
        if line.startswith("COPY"):
            assert all((ROOT / name).exists() for name in line.split()[1:-1]), line
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    (named,) = re.findall(r"'\.\[([a-z,]+)\]'", "\n".join(lines))
    assert {"cpu", "serve"} <= set(named.split(",")) <= set(extras)
    (arguments,) = [line for line in lines if line.startswith("CMD")]
    assert set(re.findall(r'"(--[a-z-]+)"', arguments)) <= serve_options()


def test_the_unit_calls_serve_with_its_options() -> None:
    unit = (ROOT / "deploy" / "llm2comp.service").read_text("utf-8")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    program, command, *arguments = shlex.split(start)
    assert (Path(program).name, command) == ("llm2comp", "serve")
    assert {each for each in arguments if each.startswith("-")} <= serve_options()
    (stop,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(stop) > 30, "longer than the server takes to answer what it has begun"
