"""Names in place of paths: what leaves this machine with an encoder says nothing of its folders."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any

from llm2comp_apps.encoder.settings import EncoderSettings
from llm2comp_apps.encoder.wheel_backbone import WHEEL_BACKBONES

__all__ = ["backbone_for_others", "is_folder_here", "settings_for_others", "without_folders"]

_PATH = re.compile(r"(?<![^,:@(=])(?:~[^/,@()=]*|\.{0,2})/(?!/)[^,@()=]*")
"""A path from a root, from home or from beside, also in names such as ``baseline:wmp@/models/a`` and ``/runs/a=2``."""


def without_folders(value: Any) -> Any:
    """The same value, in whose texts each path is the last part of itself; what it holds is looked through, too."""
    if isinstance(value, dict):
        return {key: without_folders(held) for key, held in value.items()}
    if isinstance(value, list):
        return [without_folders(held) for held in value]
    return _PATH.sub(lambda found: Path(found[0]).name, value) if isinstance(value, str) else value


def is_folder_here(backbone: str) -> bool:
    """Whether a backbone is a folder of this machine, by whose name nobody else finds it."""
    return backbone not in WHEEL_BACKBONES and (Path(backbone).expanduser().is_dir() or bool(_PATH.match(backbone)))


def backbone_for_others(backbone: str) -> str:
    """The backbone's name, without the folder that it lies in here."""
    return Path(backbone).expanduser().resolve().name if is_folder_here(backbone) else backbone


def settings_for_others(settings: EncoderSettings, backbone: str | None = None) -> EncoderSettings:
    """``encoder.json`` as it may go anywhere.

    Args:
        settings: of the encoder.
        backbone: by what name others find its backbone; ``None`` for the one it has here.
    """
    kept = {"prompts": settings.prompts, "backbone": backbone or backbone_for_others(settings.backbone)}
    return EncoderSettings(**{**without_folders(asdict(settings)), **kept})
