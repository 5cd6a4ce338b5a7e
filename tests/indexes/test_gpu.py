"""GPU paths: their logic with CPU stand-ins for FAISS's GPU types, and the real thing where there is a GPU."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from llm2comp_indexes import DependencyError, Index, IndexedDocument, InputError, Policy
from llm2comp_indexes.dense import gpu
from llm2comp_indexes.dense.faiss_module import import_faiss

ROWS, WIDTH = 3000, 16


class StandIn:
    """FAISS with two GPUs that are the CPU: what `llm2comp_indexes.dense.gpu` asks of faiss-gpu, call by call."""

    def __init__(self, *, memory: int = 10**9, cuvs: bool = False) -> None:
        self._faiss = import_faiss()
        self._left = [memory, memory]
        self._cuvs = cuvs
        self.calls: list[str] = []

    def __getattr__(self, name: str):
        return getattr(self._faiss, name)

    def get_num_gpus(self) -> int:
        return 2

    def get_compile_options(self) -> str:
        return "OPTIMIZE GPU CUVS" if self._cuvs else "OPTIMIZE GPU"

    def StandardGpuResources(self) -> SimpleNamespace:
        return SimpleNamespace()

    def GpuIndexFlatConfig(self) -> SimpleNamespace:
        return SimpleNamespace(device=0, useFloat16=False)

    def GpuIndexFlat(self, resources, dimension, metric, config):
        assert config.useFloat16
        self.calls.append(f"flat on {config.device}")
        outer = self

        class Flat:
            def __init__(self) -> None:
                self._index = outer._faiss.index_factory(dimension, "SQfp16", metric)
                self.ntotal = 0

            def add(self, block: np.ndarray) -> None:
                outer._left[config.device] -= 2 * block.size
                if outer._left[config.device] < 0:
                    raise RuntimeError("StandardGpuResources: alloc fail: out of memory")
                self._index.add(block)
                self.ntotal += len(block)

            def search(self, queries: np.ndarray, count: int):
                return self._index.search(queries, count)

        return Flat()

    def index_cpu_to_all_gpus(self, index):
        self.calls.append(f"clone {type(self._faiss.downcast_index(index)).__name__}")
        return self._faiss.clone_index(index)

    def GpuIndexCagraConfig(self) -> SimpleNamespace:
        return SimpleNamespace(graph_degree=0, intermediate_graph_degree=0)

    def GpuIndexCagra(self, resources, dimension, metric, config):
        self.calls.append(f"cagra {config.graph_degree}")
        index = self._faiss.index_factory(dimension, "HNSW16,Flat", metric)

        def train(block: np.ndarray, numeric_type: object) -> None:
            assert block.dtype == np.float16
            index.add(block.astype(np.float32))

        return SimpleNamespace(train=train, cpu=index)

    def index_gpu_to_cpu(self, graph: SimpleNamespace):
        return graph.cpu


@pytest.fixture
def stand_in(monkeypatch):
    def install(**options) -> StandIn:
        faiss = StandIn(**options)
        monkeypatch.setattr(gpu, "import_faiss", lambda: faiss)
        return faiss

    return install


@pytest.fixture
def index(make_index):
    made = make_index(dimension=WIDTH, settings={"kind": "flat"})
    rng = np.random.default_rng(0)
    for start in range(0, ROWS, 1500):
        spans = ((0, 2), (2, 4))
        documents = [
            IndexedDocument(f"d{i}", "text", metadata={"n": i}, spans=spans if i % 10 == 0 else ())
            for i in range(start, start + 1500)
        ]
        with made.writer() as writer:
            writer.add(documents, rng.standard_normal((sum(doc.rows for doc in documents), WIDTH)))
            writer.commit()
    with made.writer() as writer:
        writer.delete(["d5", "d1600"])
        writer.commit()
    return made


def queries(count: int = 20) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((count, WIDTH)).astype(np.float32)


def same(found, expected) -> bool:
    return [[(hit.id, hit.span) for hit in hits] for hits in found] == [
        [(hit.id, hit.span) for hit in hits] for hits in expected
    ]


def test_devices_that_are_not_there_are_refused(index):
    with pytest.raises(InputError, match="must be cpu or cuda"):
        Index.open(index.path, device="tpu")
    if not import_faiss().get_num_gpus():
        with pytest.raises(DependencyError, match="FAISS sees no GPU"):
            Index.open(index.path, device="cuda")
        with pytest.raises(DependencyError, match="FAISS sees no GPU"):
            index.compact(device="cuda")


def test_search_over_two_gpus_equals_the_cpu(index, stand_in):
    faiss = stand_in()
    with Index.open(index.path, device="cuda") as on_gpu:
        assert same(on_gpu.search(queries(), 10), index.search(queries(), 10))
        assert same(on_gpu.search(queries(), 5, where="n < 100"), index.search(queries(), 5, where="n < 100"))
        assert [len(hits) for hits in on_gpu.search(queries(2), 10**6)] == [len(index)] * 2
    assert faiss.calls == ["flat on 0", "flat on 1"]


def test_what_does_not_fit_runs_on_the_cpu_and_says_so(index, stand_in, caplog):
    stand_in(memory=1000)
    with Index.open(index.path, device="cuda") as on_gpu, caplog.at_level("INFO", "llm2comp_indexes"):
        assert same(on_gpu.search(queries(), 10), index.search(queries(), 10))
    assert "search runs on the CPU" in caplog.text


@pytest.mark.parametrize(("kind", "calls"), [("ivf", 3), ("rabitq", 3), ("sq8", 0), ("PCA8,IVF32,SQ8", 3)])
def test_training_and_adding_use_the_gpus_where_they_can(index, stand_in, kind, calls):
    faiss = stand_in()
    index.compact(Policy(kind=kind, target_recall=0.8), device="cuda")
    assert len(faiss.calls) == calls
    assert index.info().recall >= 0.8
    with Index.open(index.path) as on_cpu:
        assert on_cpu.verify() == []
        assert np.mean([hits[0].id == exact[0].id for hits, exact in both(on_cpu)]) > 0.7


def test_hnsw_is_built_by_cagra_where_there_is_cuvs(index, stand_in):
    faiss = stand_in(cuvs=True)
    index.compact(Policy(kind="hnsw", target_recall=0.8), device="cuda")
    assert faiss.calls == ["cagra 32", "cagra 32"]
    assert np.mean([hits[0].id == exact[0].id for hits, exact in both(index)]) > 0.8


def both(index: Index) -> list:
    return list(zip(index.search(queries(), 5), index.search(queries(), 5, exact=True), strict=True))


@pytest.mark.gpu
@pytest.mark.parametrize("kind", ["ivf", "rabitq", "hnsw"])
def test_a_real_gpu_builds(index, kind):
    index.compact(Policy(kind=kind, target_recall=0.8), device="cuda")
    assert index.info().recall >= 0.8
    assert index.verify() == []


@pytest.mark.gpu
def test_a_real_gpu_searches(index):
    with Index.open(index.path, device="cuda") as on_gpu:
        assert same(on_gpu.search(queries(), 10), index.search(queries(), 10))
