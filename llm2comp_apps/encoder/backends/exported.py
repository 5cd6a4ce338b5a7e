"""An exported encoder on disk: everything that encoding needs, so that neither torch nor the backbone is loaded.

    export.json           what it is, and size and digest of every file; written last
    graph.onnx            the operations
    layers.safetensors    the weights that the graph points into
    tokens.safetensors    token embeddings and memory tokens
    tokenizer.json        the backbone's tokenizer

A checkpoint may carry one in its folder ``graph``: then it works by itself, as the shipped default does. For any other
checkpoint it is made once and kept in the cache, by the digest of the network, so that another pooling, prompt or
maximum length of the same network needs no other one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from llm2comp_apps.encoder.cache import cache_dir, remembered_sha256
from llm2comp_apps.errors import EncoderError

__all__ = [
    "CARRIED",
    "GRAPH",
    "LAYERS",
    "TEXT_GAIN",
    "TEXT_MAPS",
    "TOKENIZER",
    "TOKENS",
    "Manifest",
    "check_carried",
    "find_export",
    "in_cache",
    "read_manifest",
]

FORMAT = 1
CARRIED = "graph"
MANIFEST = "export.json"
GRAPH = "graph.onnx"
LAYERS = "layers.safetensors"
TOKENS = "tokens.safetensors"
TEXT_GAIN = "text.gain"
"""A weight that a graph has where the text stops in between: its norm reads the states of all tokens there."""
TEXT_MAPS = ("text_key", "text_value")
"""What a layer has besides its own parts that only the memory tokens go through."""
TOKENIZER = "tokenizer.json"
FILES = (GRAPH, LAYERS, TOKENS, TOKENIZER)
_KINDS = {"network": str, "precision": str, "positions": int, "exact": bool}
"""Of the entries of a manifest that something is decided by."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """``export.json``.

    Attributes:
        network: digest of the network, :func:`~llm2comp_apps.encoder.fingerprints.network_digest`.
        precision: of the products with weights, ``int8`` or ``float32``.
        positions: longest row that the graph takes, memory tokens included.
        smallest_cosine: over the texts it was checked with, to the network in float32.
        mean_cosine: see ``smallest_cosine``.
        files: size and SHA-256 of every file.
        exact: whether sums of integer products must be exact, see :mod:`.saturation`. A slower kernel sees to it where
            the processor's own adds two of them in 16 bits.
        format: version of this layout.
    """

    network: str
    precision: str
    positions: int
    smallest_cosine: float
    mean_cosine: float
    files: dict[str, tuple[int, str]]
    exact: bool = True
    format: int = FORMAT

    def write(self, folder: Path) -> None:
        """Write it; the folder is complete then."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n", "utf-8")


def in_cache(network: str, precision: str) -> Path:
    """Where the export of a network lies, or will lie."""
    return cache_dir() / "graphs" / f"{network}-{precision}"


def find_export(checkpoint: Path, network: str, precision: str | None, positions: int) -> tuple[Path, Manifest] | None:
    """An export that is whole: the checkpoint's own, else one in the cache.

    Args:
        checkpoint: its folder.
        network: digest of its network.
        precision: wanted; ``None`` for the smallest that is there.
        positions: of the longest row that will be encoded.
    """
    for folder in _places(checkpoint, network, precision):
        try:
            manifest = read_manifest(folder)
        except EncoderError:
            continue
        wanted = precision in (None, manifest.precision)
        if wanted and manifest.network == network and manifest.positions >= positions:
            return folder, manifest
    return None


def read_manifest(folder: Path, sha256: Callable[[Path], str] = remembered_sha256) -> Manifest:
    """Read and check an export: all its files are there and have the content that was written.

    Args:
        folder: of the export.
        sha256: digest of a file.

    Raises:
        EncoderError: none there, written by another version, or damaged.
    """
    try:
        raw = json.loads((folder / MANIFEST).read_text("utf-8"))
        if raw["format"] != FORMAT:
            raise EncoderError(f"{folder}: export format {raw['format']!r}, this version reads {FORMAT}")
        manifest = Manifest(**raw)
        for name, kind in _KINDS.items():
            if type(found := getattr(manifest, name)) is not kind:
                raise TypeError(f"{name} is {found!r}")
        for name in FILES:
            size, digest = manifest.files[name]
            if (folder / name).stat().st_size != size or sha256(folder / name) != digest:
                raise EncoderError(f"{folder / name}: damaged")
    except OSError as error:
        raise EncoderError(f"{error.filename or folder}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderError(f"{folder / MANIFEST}: damaged ({error})") from error
    return manifest


def check_carried(
    checkpoint: Path, network: str | None = None, sha256: Callable[[Path], str] = remembered_sha256
) -> Manifest:
    """Refuse the export of a checkpoint that has no other weights, if it is not as it was written.

    Nothing could be made again from what is left of it, and a stray bit in its memory tokens would give an encoder that
    nobody trained.

    Args:
        checkpoint: its folder.
        network: digest of its network as its files have it now; ``None`` to look at the export alone.
        sha256: digest of a file.

    Raises:
        EncoderError: says which file is damaged or missing.
    """
    try:
        manifest = read_manifest(checkpoint / CARRIED, sha256)
    except EncoderError as error:
        raise EncoderError(f"{error}; copy or install this encoder again") from error
    if network not in (None, manifest.network):
        raise EncoderError(
            f"{checkpoint}: its memory tokens or encoder.json are not those that {CARRIED} was made with; copy or "
            "install this encoder again"
        )
    return manifest


def _places(checkpoint: Path, network: str, precision: str | None) -> Iterator[Path]:
    yield checkpoint / CARRIED
    for offered in ("int8", "float32") if precision is None else (precision,):
        yield in_cache(network, offered)
