"""Writing an ONNX graph down, operation by operation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save_file

from llm2comp_apps.encoder.arrays import places

__all__ = ["MICROSOFT", "UNNAMED", "Graph"]

MICROSOFT = "com.microsoft"
"""The domain of ONNX Runtime's own operations."""

UNNAMED = "constant."
"""What the names of constants begin with that were given none; a number follows."""

_OPSET = 23  # the first with attention; ONNX Runtime has all that we take of it since 1.25
_IR_VERSION = 11
_EXTERNAL_FROM = 1024  # bytes; smaller constants stay in the graph's own file

Shape = Sequence[int | str]


class Graph:
    """A graph under construction; values are known by their names."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []
        self._known: dict[str | tuple[str, tuple[int, ...], bytes], str] = {}
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, shape: Shape, dtype: npt.DTypeLike = np.float32) -> str:
        """An input; axes with a name may have any length."""
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self._inputs.append(helper.make_tensor_value_info(name, kind, list(shape)))
        return name

    def output(self, name: str, value: str, shape: Shape) -> None:
        """Name a value as a float32 output."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def constant(self, array: npt.ArrayLike, dtype: npt.DTypeLike = np.float32, *, name: str = "") -> str:
        """A constant; equal ones are kept once, and so is what has a name, by which the weights' file lists it."""
        held = np.asarray(array, dtype=dtype, order="C")
        key = name or (held.dtype.str, held.shape, hashlib.sha256(held.tobytes()).digest())
        if key not in self._known:
            self._known[key] = name or f"{UNNAMED}{len(self._constants)}"
            self._constants.append(numpy_helper.from_array(held, self._known[key]))
        return self._known[key]

    def add(self, operation: str, *inputs: str, domain: str = "", outputs: int = 1, **attributes: Any) -> Any:
        """Append an operation; returns the name of its output, or a list of names where it has several."""
        names = [f"v{len(self._nodes)}_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(operation, list(inputs), names, domain=domain, **attributes))
        return names if outputs > 1 else names[0]

    def save(self, path: Path, weights: Path) -> None:
        """Write the graph to ``path``, and what is large or has a name to a safetensors file that it points into."""
        large = {
            held.name: held
            for held in self._constants
            if len(held.raw_data) > _EXTERNAL_FROM or not held.name.startswith(UNNAMED)
        }
        save_file({name: numpy_helper.to_array(held) for name, held in large.items()}, weights)
        for name, (_, _, start, length) in places(weights).items():
            held = large[name]
            held.ClearField("raw_data")
            held.data_location = TensorProto.EXTERNAL
            where = {"location": weights.name, "offset": str(start), "length": str(length)}
            held.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in where.items())
        path.write_bytes(self.model().SerializeToString())

    def model(self) -> onnx.ModelProto:
        """What was added so far, as a model."""
        graph = helper.make_graph(self._nodes, "encoder", self._inputs, self._outputs, self._constants)
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=_IR_VERSION, producer_name="llm2comp")
