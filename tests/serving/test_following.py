"""A served index that follows a folder: what is written there is found, what is deleted is not, and nothing ends it."""

from __future__ import annotations

import threading
import time
from functools import partial

import pytest

from llm2comp_apps import Collection, Document, UsageError
from llm2comp_apps.serving.following import Follower
from llm2comp_apps.serving.generations import ServedIndex


@pytest.fixture
def notes(tmp_path, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.retrieval.watching._SETTLE", 0.0)
    quick = partial(Follower, interval=0.05, retry=0.2)
    monkeypatch.setattr("llm2comp_apps.serving.state.Follower", quick)
    folder = tmp_path / "notes"
    folder.mkdir()
    (folder / "tea.txt").write_text("Tea needs four minutes.")
    return folder


@pytest.fixture
def empty(loads_hash, tmp_path):
    Collection.create(tmp_path / "notes.index", encoder="default").close()
    return tmp_path / "notes.index"


def found(server, query: str) -> list[str]:
    body = {"q": query, "mode": "lexical"}
    return [hit["id"] for hit in server.ask("POST", "/indexes/notes/search", body)[1]["hits"]]


def soon(question, seconds: float = 20.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if question():
            return True
        time.sleep(0.05)
    return False


def test_what_is_written_is_found_and_what_is_deleted_is_not(running, empty, notes) -> None:
    with running(indexes=[empty], watch={"notes": notes}) as server:
        assert soon(lambda: found(server, "minutes") == ["notes/tea.txt"])
        (notes / "walrus.md").write_text("# Walrus\nIt sleeps on ice.")
        assert soon(lambda: found(server, "walrus") == ["notes/walrus.md"])
        (notes / "tea.txt").unlink()
        assert soon(lambda: found(server, "minutes") == [])
        assert server.state.unready() == []


class PanicError(BaseException):
    """What PyO3 raises where Rust panics: no ``Exception``."""


@pytest.mark.parametrize("error", [OSError, PanicError])
def test_a_failure_is_tried_again(running, empty, notes, monkeypatch, caplog, error) -> None:
    update, failures = Collection.update, iter([True])

    def failing(self, *given, **named):
        if next(failures, False):
            raise error("no space left on device")
        return update(self, *given, **named)

    monkeypatch.setattr(Collection, "update", failing)
    with running(indexes=[empty], watch={"notes": notes}) as server:
        assert soon(lambda: found(server, "minutes") == ["notes/tea.txt"])
    assert "no space left" in caplog.text


def test_wrong_settings_are_named(running, empty, notes, tmp_path) -> None:
    with pytest.raises(UsageError, match="watch names the index 'other'"):
        running(indexes=[empty], watch={"other": notes})
    with pytest.raises(UsageError, match="must be a folder"):
        running(indexes=[empty], watch={"notes": tmp_path / "none"})


def test_a_panic_does_not_end_the_watcher(running, empty, monkeypatch) -> None:
    refresh, panics = ServedIndex.refresh, []

    def failing(self):
        if threading.current_thread().name == "watcher" and len(panics) < 2:
            panics.append(self)
            raise PanicError("index out of bounds")
        return refresh(self)

    monkeypatch.setattr(ServedIndex, "refresh", failing)
    with running(indexes=[empty]) as server:
        assert soon(lambda: len(panics) == 2)
        with Collection.open(empty) as library:
            library.update([Document(id="late", title="", text="A quokka smiles.")])
        assert soon(lambda: found(server, "quokka") == ["late"])
