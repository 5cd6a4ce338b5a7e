"""The light runtime's graph as a folder that needs onnxruntime and tokenizers, and nothing of ours.

    model.onnx            from token ids to an embedding and memory vectors
    layers.safetensors    the weights that the graph points into
    tokens.safetensors    token embeddings and memory tokens, to which it points, too
    tokenizer.json        the backbone's tokenizer
    config.json           maximum length, prompts, dimension
    example.py            encodes texts with these

The export of :mod:`..backends` begins with embeddings, so that a table of many megabytes is not read for one query.
Here the look-up is a part of the graph, so that any language with an ONNX Runtime can run it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from llm2comp_apps.encoder.arrays import open_arrays, places
from llm2comp_apps.encoder.backends.exported import GRAPH, LAYERS, TOKENIZER, TOKENS
from llm2comp_apps.encoder.portable import without_folders
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from llm2comp_apps.encoder.backends.onnx_encoder import OnnxEncoder

__all__ = ["write_onnx"]

MODEL = "model.onnx"
_EXAMPLE = Path(__file__).with_name("onnx_example.txt")
_ONNX_TYPES = {
    "int8": TensorProto.INT8,
    "uint8": TensorProto.UINT8,
    "float16": TensorProto.FLOAT16,
    "float32": TensorProto.FLOAT,
}


def write_onnx(encoder: OnnxEncoder, export: Path, folder: Path) -> None:
    """Write the folder.

    Args:
        encoder: loaded from ``export``.
        export: see :mod:`..backends.exported`.
        folder: there already.

    Raises:
        EncoderError: a pooling that is not part of a graph.
    """
    if encoder.pooling not in ("mean", "first"):
        raise EncoderError(f"{encoder.name}: pooling {encoder.pooling} has no graph; mean and first have")
    for name in (LAYERS, TOKENS, TOKENIZER):
        shutil.copyfile(export / name, folder / name)
    model = onnx.load(str(export / GRAPH), load_external_data=False)
    _look_up_first(model.graph, folder / TOKENS)
    _pool_last(model.graph, encoder.pooling, encoder.dimension)
    (folder / MODEL).write_bytes(model.SerializeToString())
    config = {
        "name": without_folders(encoder.name),
        "dimension": encoder.dimension,
        "memory_tokens": encoder.k,
        "max_length": encoder.max_length,
        "prompts": {"query": "", "document": "", **encoder.prompts},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")
    shutil.copyfile(_EXAMPLE, folder / "example.py")


def _look_up_first(graph: onnx.GraphProto, tokens: Path) -> None:
    """Begin with token ids: rows of the table, multiplied by their scales, and the memory tokens behind them."""
    arrays = open_arrays(tokens)
    for name, (_, _, start, length) in places(tokens).items():
        held = TensorProto(name=name, data_type=_ONNX_TYPES[str(arrays[name].dtype)], dims=arrays[name].shape)
        held.data_location = TensorProto.EXTERNAL
        where = {"location": tokens.name, "offset": str(start), "length": str(length)}
        held.external_data.extend(onnx.StringStringEntryProto(key=key, value=value) for key, value in where.items())
        graph.initializer.append(held)
    ids, embeddings = "input_ids", graph.input[0].name
    nodes = [helper.make_node("Gather", ["tokens", ids], ["rows"])]
    rows = _cast(nodes, "rows")
    if "token_scales" in arrays:
        rows = _multiplied_out(graph, nodes, arrays, rows, ids)
    _constant(graph, "memory_shape", list(arrays["memory_tokens"].shape))
    nodes += [
        helper.make_node("Shape", [ids], ["batch"], start=0, end=1),
        helper.make_node("Concat", ["batch", "memory_shape"], ["memory_rows"], axis=0),
        helper.make_node("Expand", ["memory_tokens", "memory_rows"], ["memory_behind"]),
        helper.make_node("Concat", [rows, "memory_behind"], [embeddings], axis=1),
    ]
    held_nodes = [*nodes, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(held_nodes)
    graph.input.append(helper.make_tensor_value_info(ids, TensorProto.INT64, ["batch", "tokens"]))


def _multiplied_out(
    graph: onnx.GraphProto, nodes: list[onnx.NodeProto], arrays: Mapping[str, Any], rows: str, ids: str
) -> str:
    """Rows of integers as embeddings ``(batch, tokens, d)``, what :meth:`..backends.tokens.TokenTable.look_up` does."""
    d, blocks = arrays["memory_tokens"].shape[1], arrays["token_scales"].shape[1]
    nodes.append(helper.make_node("Gather", ["token_scales", ids], ["row_scales"]))
    scales = _cast(nodes, "row_scales")
    _constant(graph, "blocked", [0, 0, blocks, arrays["tokens"].shape[1] // blocks])
    _constant(graph, "one_each", [0, 0, blocks, 1])
    _constant(graph, "flat", [0, 0, d])
    nodes += [
        helper.make_node("Reshape", [rows, "blocked"], ["row_blocks"]),
        helper.make_node("Reshape", [scales, "one_each"], ["block_scales"]),
    ]
    if "token_offsets" not in arrays:
        nodes += [
            helper.make_node("Mul", ["row_blocks", "block_scales"], ["scaled_blocks"]),
            helper.make_node("Reshape", ["scaled_blocks", "flat"], ["looked_up"]),
        ]
        return "looked_up"
    nodes.append(helper.make_node("Gather", ["token_offsets", ids], ["row_offsets"]))
    offsets = _cast(nodes, "row_offsets")
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(16, dtype=np.float32), "sixteen"))
    nodes += [  # two values of 4 bits from one of 8
        helper.make_node("Div", ["row_blocks", "sixteen"], ["sixteenths"]),
        helper.make_node("Floor", ["sixteenths"], ["upper_bits"]),
        helper.make_node("Mul", ["upper_bits", "sixteen"], ["without_lower"]),
        helper.make_node("Sub", ["row_blocks", "without_lower"], ["lower_bits"]),
        helper.make_node("Concat", ["lower_bits", "upper_bits"], ["both_bits"], axis=3),
        helper.make_node("Mul", ["both_bits", "block_scales"], ["scaled_blocks"]),
        helper.make_node("Reshape", [offsets, "one_each"], ["block_offsets"]),
        helper.make_node("Add", ["scaled_blocks", "block_offsets"], ["whole_blocks"]),
        helper.make_node("Reshape", ["whole_blocks", "flat"], ["looked_up"]),
    ]
    return "looked_up"


def _pool_last(graph: onnx.GraphProto, pooling: str, d: int) -> None:
    """End with the embedding, beside the memory vectors."""
    memory = graph.output[0].name
    _constant(graph, "memory_axis", [1])
    if pooling == "mean":
        graph.node.append(helper.make_node("ReduceMean", [memory, "memory_axis"], ["pooled"], keepdims=0))
    else:
        _constant(graph, "first_row", 0)
        graph.node.append(helper.make_node("Gather", [memory, "first_row"], ["pooled"], axis=1))
    graph.node.append(helper.make_node("LpNormalization", ["pooled"], ["embedding"], axis=1, p=2))
    graph.output.insert(0, helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", d]))


def _cast(nodes: list[onnx.NodeProto], value: str) -> str:
    nodes.append(helper.make_node("Cast", [value], [f"{value}_float"], to=TensorProto.FLOAT))
    return f"{value}_float"


def _constant(graph: onnx.GraphProto, name: str, value: int | list[int]) -> None:
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(value, dtype=np.int64), name))
