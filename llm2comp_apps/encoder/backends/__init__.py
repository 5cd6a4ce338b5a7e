"""What runs an encoder's network: torch for training and GPUs, ONNX Runtime for CPUs, without an import of torch.

| backend | runs on | loads | precision of the products with weights |
|---|---|---|---|
| ``torch`` | CPU, CUDA, MPS | the backbone and the checkpoint | bfloat16 where the hardware has it, else float32 |
| ``onnx`` | CPU | an export (:mod:`.exported`), made at first use | int8, or float32 where int8 moves vectors too far |
| ``auto`` | | ``$LLM2COMP_BACKEND``, else ``onnx`` on a CPU, ``torch`` on a GPU and for what has no graph | |

All of them give a text the same vector up to rounding: the fingerprint of an encoder is that of its weights, and an
index built by one backend is searched, and added to, by the other. What rounding may cost is measured when an export is
made, and an export below the limit (:data:`.export.LIMITS`) is refused.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.encoder.settings import ENCODE
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.files import first_line

if TYPE_CHECKING:
    from llm2comp_apps.encoder.backends.onnx_encoder import OnnxEncoder
    from llm2comp_apps.encoder.settings import EncoderSettings

__all__ = ["BACKENDS", "ENVIRONMENT", "load_light", "resolve_backend", "wants_light"]

BACKENDS = ("auto", "torch", "onnx")
ENVIRONMENT = "LLM2COMP_BACKEND"
NO_RUNTIME = "onnxruntime or tokenizers cannot be imported"

_log = logging.getLogger(__name__)


def resolve_backend(backend: str, device: str | None) -> str:
    """What ``auto`` stands for where the environment names a backend; any other backend is that one.

    Raises:
        UsageError: an unknown backend, or one that does not run on the device.
    """
    asked = backend
    if backend == "auto":
        backend = os.environ.get(ENVIRONMENT) or backend
    if backend not in BACKENDS:
        source = "" if asked == backend else f" (${ENVIRONMENT})"
        raise UsageError(f"must be one of {', '.join(BACKENDS)}, not {backend!r}{source}", field="backend")
    if backend == "onnx" and device not in (None, "cpu"):
        if asked == "auto":
            return "torch"
        raise UsageError(f"onnx runs on the cpu, not on {device}; leave out `device` or `backend`")
    return backend


def wants_light(backend: str, device: str | None) -> bool:
    """Whether a checkpoint is to run without torch. Imports torch only where this machine may have a GPU for it."""
    if backend != "auto":
        return backend == "onnx"
    if device is not None:
        return device == "cpu"
    if not _gpu_in_sight():
        return True
    try:
        import torch
    except (ImportError, OSError):  # not installed, or damaged: then it runs nothing
        return True
    return not torch.cuda.is_available()


def load_light(
    name: str,
    *,
    backend: str = "onnx",
    backbone: str | None = None,
    pooling: str | None = None,
    max_length: int | None = None,
    precision: str | None = None,
    task: str = ENCODE,
) -> OnnxEncoder | None:
    """Load a checkpoint into ONNX Runtime, exporting it first where that has not been done (imports torch then).

    Args:
        name: of a checkpoint.
        backend: ``onnx``, or ``auto`` to get ``None`` where no graph can be made.
        backbone: where its backbone lies now, for an export.
        pooling: instead of the checkpoint's own.
        max_length: instead of the checkpoint's own.
        precision: ``int8`` or ``float32``; by default int8 where it is close enough.
        task: what the checkpoint must have been made for.

    Raises:
        EncoderError: the checkpoint is missing or damaged, or no graph can be made of it or written to the cache.
        UsageError: an unknown pooling or precision.
    """
    from llm2comp_apps.encoder.backends.exported import check_carried, find_export
    from llm2comp_apps.encoder.checkpoint import read_settings, works_alone
    from llm2comp_apps.encoder.fingerprints import checkpoint_digests
    from llm2comp_apps.encoder.locate import locate_checkpoint

    folder = locate_checkpoint(name)
    settings = read_settings(folder, task=task).changed(pooling=pooling, max_length=max_length)
    if settings.readout != "memory":
        return _without_graph(backend, f"readout {settings.readout!r} has no graph")
    try:
        from llm2comp_apps.encoder.backends.onnx_encoder import OnnxEncoder
    except (ImportError, OSError) as error:  # a damaged installation fails to load its libraries with either
        return _by_torch(backend, f"{NO_RUNTIME} ({error})")
    fingerprint, network = checkpoint_digests(folder, settings)
    if works_alone(folder, settings):
        check_carried(folder, network)
    positions = settings.max_length + settings.k
    found = find_export(folder, network, precision, positions)
    if found is None:
        _check_torch(name)
        try:
            _export(name, folder, network, precision, backbone, settings, task)
        except EncoderError as error:
            return _without_graph(backend, str(error))
        except OSError as error:  # a cache that is full or cannot be written takes no encoder away from anyone
            place = "its export cannot be written to the cache; name another folder by $LLM2COMP_CACHE"
            return _by_torch(backend, f"encoder {name}: {place} ({error})")
        found = find_export(folder, network, precision, positions)
    if found is None:
        raise EncoderError(f"encoder {name}: its export does not stay as it was written; is the disk in order?")
    return OnnxEncoder(*found, settings, fingerprint)


def _check_torch(name: str) -> None:
    """Refuse to prepare an encoder where torch, which does it, is not installed or does not load."""
    try:
        import torch  # noqa: F401 - for what it raises
    except (ImportError, OSError) as error:
        raise EncoderError(
            f"encoder {name}: torch prepares it for the CPU once, and cannot be imported ({first_line(error)}); "
            "install torch, or take the encoder `default`, which needs none"
        ) from error


def _export(
    name: str,
    folder: Path,
    network: str,
    precision: str | None,
    backbone: str | None,
    settings: EncoderSettings,
    task: str,
) -> None:
    """Make the export of a checkpoint in the cache; one process does it, others wait for it."""
    import torch
    from filelock import FileLock

    from llm2comp_apps.encoder.backends.export import export_encoder
    from llm2comp_apps.encoder.backends.exported import find_export, in_cache
    from llm2comp_apps.encoder.loading import load_network
    from llm2comp_apps.encoder.model import LLM2Comp

    target = in_cache(network, precision or "int8")
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(str(target) + ".lock"):
        # Another process may have been faster, also in finding out that int8 is not close enough.
        if find_export(folder, network, precision, settings.max_length + settings.k) is not None:
            return
        _log.info("preparing %s for the CPU (once; half a minute for 135M parameters)", name)
        loaded = load_network(
            name, backbone=backbone, device="cpu", dtype=torch.float32, max_length=settings.max_length, task=task
        )
        encoder = LLM2Comp(loaded.network, loaded.tokenizer, loaded.settings, weights_sha256=loaded.weights_sha256)
        if precision is not None:
            export_encoder(encoder, target, precision)
            return
        try:
            export_encoder(encoder, target, "int8")
        except EncoderError:  # too far from float32, or no graph at all: then the next line says so
            export_encoder(encoder, in_cache(network, "float32"), "float32")


def _by_torch(backend: str, reason: str) -> OnnxEncoder | None:
    """Like :func:`_without_graph`, where something can be done about it."""
    if backend == "auto":
        warnings.warn(f"{reason}; torch runs the encoder, which takes longer", stacklevel=3)
    return _without_graph(backend, reason)


def _without_graph(backend: str, reason: str) -> OnnxEncoder | None:
    if backend == "onnx":
        raise EncoderError(f"{reason}; `backend=torch` runs it")
    return None


def _gpu_in_sight() -> bool:
    """Whether a driver of NVIDIA or AMD is there, for torch to look closer."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return False
    if sys.platform == "win32":
        return shutil.which("nvidia-smi") is not None
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd"))
