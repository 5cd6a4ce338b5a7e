"""The first layers of an exported graph, ending in the states of all tokens; cut out of the export when it is needed.

An export gives memory vectors alone. The states between its layers are in it all the same, so nothing has to be
exported again and no weights are kept twice.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
from onnx.utils import Extractor

from llm2comp_apps.encoder.backends.build import INPUT
from llm2comp_apps.encoder.backends.exported import TEXT_GAIN
from llm2comp_apps.encoder.token_states import token_depth
from llm2comp_apps.errors import EncoderError

__all__ = ["token_session"]


def token_session(path: Path, options: onnxruntime.SessionOptions) -> onnxruntime.InferenceSession:
    """A session from embeddings ``(B, T, d)`` to the states ``(B, T, d)`` behind :func:`.token_depth` layers.

    Where the graph lets the text stop, it says so by itself: the norm that reads it there has :data:`.TEXT_GAIN`.

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
    names = {held.name for held in graph.initializer}
    layers = {int(name.split(".")[1]) for name in names if name.startswith("layers.")}
    gain = TEXT_GAIN if TEXT_GAIN in names else f"layers.{token_depth(len(layers))}.before_attention.gain"
    entering = [node.input[0] for node in graph.node if gain in node.input]
    if not entering:
        raise EncoderError("the tokens of this encoder are read by `backend=torch` alone")
    states = onnx.helper.make_tensor_value_info(entering[0], onnx.TensorProto.FLOAT, ["batch", "tokens", None])
    graph.value_info.append(states)
    return Extractor(model).extract_model([INPUT], [states.name])
