"""Fixtures of the index room."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexedDocument

HERE = Path(__file__).parent


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The torture form runs only when it is asked for (``-m torture``); GPU tests only where FAISS sees a GPU."""
    mine = [item for item in items if HERE in item.path.parents]
    if "torture" not in (config.option.markexpr or ""):
        torture = [item for item in mine if item.get_closest_marker("torture")]
        config.hook.pytest_deselected(items=torture)
        items[:] = [item for item in items if item not in torture]
    if any(item.get_closest_marker("gpu") for item in mine):
        import faiss

        if not faiss.get_num_gpus():
            for item in mine:
                if item.get_closest_marker("gpu"):
                    item.add_marker(pytest.mark.skip(reason="FAISS sees no GPU"))


@dataclass
class Faults:
    """One class of faults: how many were tried, and how many the index survived with nothing lost and nothing wrong."""

    tried: int = 0
    survived: int = 0
    note: str = ""


_FAULTS = pytest.StashKey[dict[str, Faults]]()


@pytest.fixture
def faults(request: pytest.FixtureRequest) -> Callable[[str], Faults]:
    """The count of a class of faults, by its name; all counts are printed after the tests."""
    counts = request.config.stash.setdefault(_FAULTS, {})
    return lambda name: counts.setdefault(name, Faults())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print what was tried and what was survived."""
    counts = config.stash.get(_FAULTS, {})
    if counts:
        terminalreporter.section("faults survived / tried")
    width = max(map(len, counts), default=0)
    for name, count in counts.items():
        terminalreporter.line(f"{name:<{width}}  {count.survived:>6} / {count.tried:<6}  {count.note}".rstrip())


@pytest.fixture
def fast_path() -> Iterator[Path]:
    """A directory in memory where there is one, so that thousands of fsyncs cost nothing."""
    memory = Path("/dev/shm")
    root = Path(tempfile.mkdtemp(prefix="llm2comp-", dir=memory if os.access(memory, os.W_OK) else None))
    yield root
    shutil.rmtree(root, ignore_errors=True)


def load_program(name: str) -> ModuleType:
    """A module of this folder that also runs as a program."""
    specification = importlib.util.spec_from_file_location(f"index_{name}", HERE / f"{name}.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[f"index_{name}"] = module
    specification.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def workload() -> ModuleType:
    """The life of an index, step by step."""
    return load_program("workload")


@pytest.fixture(scope="session")
def searched() -> ModuleType:
    """A small index and its answers."""
    return load_program("searched")


@pytest.fixture
def make_index(fast_path: Path) -> Iterator[Callable[..., Index]]:
    """Makes indexes, and closes them."""
    opened: list[Index] = []

    def make(name: str = "test.index", dimension: int = 8, **options: object) -> Index:
        index = Index.create(
            fast_path / name, dimension=dimension, encoder={"name": "test", "fingerprint": "0"}, **options
        )
        opened.append(index)
        return index

    yield make
    for index in opened:
        index.close()


@pytest.fixture
def fill() -> Callable[..., np.ndarray]:
    """Adds ``n`` documents d0, d1, ... with random vectors in one commit; returns the vectors as they are compared."""

    def filled(index: Index, n: int, *, seed: int = 0, chunks: int = 0, start: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        documents = []
        for i in range(start, start + n):
            spans = tuple((j, j + 1) for j in range(rng.integers(0, chunks + 1))) if chunks else ()
            metadata = {"n": i, "parity": i % 2, "bucket": i % 100}
            documents.append(IndexedDocument(f"d{i}", f"text number {i}", f"title {i}", metadata, spans))
        vectors = rng.standard_normal((sum(doc.rows for doc in documents), index.dimension)).astype(np.float32)
        with index.writer() as writer:
            writer.add(documents, vectors)
            writer.commit()
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        return unit.astype(np.float16).astype(np.float32)

    return filled


@pytest.fixture
def ids_where(make_index):
    """Makes an index of documents with these ids and metadata; returns what its conditions select."""

    def made(rows: dict[str, dict]) -> Callable[[str], list[str]]:
        index = make_index(dimension=2)
        with index.writer() as writer:
            documents = [IndexedDocument(name, "t", metadata=row) for name, row in rows.items()]
            writer.add(documents, np.ones((len(rows), 2)))
            writer.commit()
        return lambda where: list(index.ids(where=where))

    return made
