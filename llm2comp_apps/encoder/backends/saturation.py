"""Sums of 8-bit products where a processor has no instruction for them.

Processors with VNNI (Intel since Ice Lake, AMD since Zen 4) and ARM add the products of integers in 32 bits. With AVX2
alone ONNX Runtime's kernel adds two products in 16 bits first, and what does not fit is cut to the nearest number that
does. On trained weights few pairs are that large: the vectors of ``default`` keep a mean cosine of .9991 to float32,
and with exact sums one of .9996. ``quality`` falls below the limit of .97, and a random network down to .17.

ONNX Runtime has another kernel, whose sums are exact and which takes a fifth to a third longer on such a processor. So
an export is measured with the fast kernel where that is possible, and remembers whether it needs the other one.
"""

from __future__ import annotations

import base64
import functools

import numpy as np
import onnxruntime

__all__ = ["add_exactly", "products_saturate"]


def add_exactly(options: onnxruntime.SessionOptions) -> None:
    """Let a session add all products exactly, on a processor whose fast kernel does not.

    Elsewhere it only costs: with it a processor with AMX computes ``quality`` in 3.4 times the time, to the same sums.
    In ONNX Runtime it is ``kOrtSessionOptionsAvx2PrecisionMode``, one of the extended optimisations of a graph. The
    others of these change neither vectors (cosine .9999999) nor speed.
    """
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED


_COUNT = 32
# A graph of one product, a row with weights that are 127 all; a search has no time to import what writes such graphs.
_BEFORE_WEIGHTS = base64.b64decode(
    b"CAsSCGxsbTJjb21wOtQJClQKA3JvdwoKY29uc3RhbnQuMAoKY29uc3RhbnQuMQoKY29uc3RhbnQuMRIEdjBfMCIUTWF0TXVsSW50"
    b"ZWdlclRvRmxvYXQ6DWNvbS5taWNyb3NvZnQKFgoEdjBfMBIEc3VtcyIISWRlbnRpdHkSB2VuY29kZXIqlQgIIAggEANCCmNvbnN0"
    b"YW50LjBKgAg="
)
_BEHIND_WEIGHTS = base64.b64decode(
    b"KhQQAUIKY29uc3RhbnQuMUoEAACAP1oVCgNyb3cSDgoMCAISCAoCCAEKAgggYhYKBHN1bXMSDgoMCAESCAoCCAEKAgggQgQKABAX"
    b"QhEKDWNvbS5taWNyb3NvZnQQAQ=="
)


@functools.cache
def products_saturate() -> bool:
    """Whether the fast kernel of this processor cuts a sum of two products that does not fit into 16 bits."""
    model = _BEFORE_WEIGHTS + bytes([127]) * _COUNT**2 + _BEHIND_WEIGHTS
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"row": np.full((1, _COUNT), 255, np.uint8)})
    return bool((np.asarray(sums) != 255 * 127 * _COUNT).any())
