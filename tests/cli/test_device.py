"""``--device`` is checked before anything is loaded, by every command that takes it."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "command",
    [
        ["train", "--out", "run"],
        ["train", "--out", "run", "--stage", "all"],
        ["train", "mine-negatives", "pairs.jsonl", "--out", "mined.jsonl"],
        ["eval", "run", "--data", "data", "--encoder", "default"],
        ["eval", "analyze", "--data", "data", "--encoder", "default"],
        ["eval", "curve", "run", "--data", "data"],
    ],
)
def test_every_command_refuses_in_one_line_and_writes_nothing(cli, tmp_path, command):
    found = cli(*command, "--device", "foo")
    assert found.exit_code == 2
    assert found.stderr == "Error: --device must be cpu, cuda, cuda:1 or mps, not 'foo'\n"
    assert list(tmp_path.iterdir()) == []
