"""The files of the encoders that come with the package, by digest: flipped bits are as readable as right ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from llm2comp_apps.encoder.settings import EncoderSettings
from llm2comp_apps.errors import EncoderError

__all__ = ["FILES", "check_shipped"]

FILES = {
    "llm2comp-smollm2-135m": {
        "adapter_config.json": "e49aee79ecd13fb4edd0ea7899a15210fac28bb358b98b0feb01a30e46a198eb",
        "adapter_model.safetensors": "3f33f86e030389507e6ed7c15381eb8dffcd9a88cd99d1e08bc11422aaa302ad",
        "encoder.json": "f0a9a170669cd6b9bd3c2c6c6874993b2e6252df9c97c7be57d6601036fcd45d",
        "memory_tokens.safetensors": "e702ffa1261c71702c38ce37bd807ade5819e789f5358c1c1aa5e1377cfde750",
    },
    "llm2comp-smollm2-135m-light": {
        "backbone.json": "9f8b59e42c3e36b69c5214b0d4420da3cf93b3bab416ef9df2931f5d4ba69630",
        "encoder.json": "0ce4175c0c360085b3062d3b7f647784bf0460e5de6a3aaf1749fca3b1007a05",
        "graph/export.json": "4eb6f33f9484a109758fba919f53272686a4cb3b9d73b8d63c3ace3f984a1c06",
        "memory_tokens.safetensors": "7d467b9c36d2ce0dc0d087ad7ccc06017dc40b5d1dda82e725b0fbc2ce5cc6ce",
    },
}
"""SHA-256 of what vectors are made from, by the encoder's name; ``export.json`` has those of the files beside it."""


def check_shipped(folder: Path, settings: EncoderSettings, sha256: Callable[[Path], str]) -> None:
    """See that the files of an encoder are those that came with the package; nothing is asked of any other encoder.

    Args:
        folder: of the encoder.
        settings: its ``encoder.json``.
        sha256: digest of a file.

    Raises:
        EncoderError: one is missing or another file.
    """
    for name, digest in FILES.get(settings.name, {}).items():
        path = folder / name
        if not path.is_file():
            raise EncoderError(f"{path}: No such file or directory; copy or install this encoder again")
        if sha256(path) != digest:
            raise EncoderError(f"{path}: damaged: not the file that came with the package; install it again")
