"""The first layers of an exported graph, ending in the states of all tokens; cut out of the export when it is needed.

An export gives memory vectors alone. The states between its layers are in it all the same, so nothing has to be
exported again and no weights are kept twice.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime

from llm2comp_apps.encoder.backends.build import INPUT
from llm2comp_apps.encoder.token_states import token_depth
from llm2comp_apps.errors import EncoderError

__all__ = ["token_session"]

_STATES = "states"


def token_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session from embeddings ``(B, T, d)`` to the states ``(B, T, d)`` behind :func:`.token_depth` layers.

    Args:
        path: the export's graph.
        options: of the session.

    Raises:
        EncoderError: the layers of this graph begin without a norm, by which they are told apart.
    """
    graph = _cut(onnx.load(path, load_external_data=False))
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
    return onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _cut(model: onnx.ModelProto) -> onnx.ModelProto:
    graph = model.graph
    layers = {int(held.name.split(".")[1]) for held in graph.initializer if held.name.startswith("layers.")}
    gain = f"layers.{token_depth(len(layers))}.before_attention.gain"
    entering = [node.input[0] for node in graph.node if gain in node.input]
    if not entering:
        raise EncoderError("the tokens of this encoder are read by `backend=torch` alone")
    needed, kept = {entering[0]}, []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    kept = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    constants = [held for held in graph.initializer if held.name in needed]
    end = onnx.helper.make_node("Identity", [entering[0]], [_STATES])
    output = onnx.helper.make_tensor_value_info(_STATES, onnx.TensorProto.FLOAT, ["batch", "tokens", None])
    inputs = [held for held in graph.input if held.name == INPUT]
    cut = onnx.helper.make_graph([*kept, end], "tokens", inputs, [output], constants)
    return onnx.helper.make_model(cut, opset_imports=list(model.opset_import), ir_version=model.ir_version)
