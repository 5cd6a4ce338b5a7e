"""Where a checkpoint of ours lies: shipped with the package, in a directory, or on the hub. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from llm2comp_apps.encoder.settings import SETTINGS, read_settings
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.files import first_line

__all__ = [
    "IN_A_REPOSITORY",
    "IN_A_RUN",
    "PRETRAINED",
    "READABLE",
    "SHIPPED",
    "is_local",
    "locate_checkpoint",
    "shipped_named",
    "shipped_names",
]

PRETRAINED = Path(__file__).parent / "pretrained"
"""Checkpoints that ship with the package."""
SHIPPED = {"default": "smollm2-135m-light", "quality": "smollm2-135m"}
"""What the short names stand for: twelve layers that need nothing else, and all thirty of the backbone."""
READABLE = "quality"
"""The shipped one whose memory vectors the language model reads back: what reads them takes it by default."""
IN_A_REPOSITORY = "llm2comp"
"""Where a checkpoint lies in a folder that sentence-transformers loads, such as a repository that was pushed."""
IN_A_RUN = "encoder"
"""Where a run of training leaves its encoder."""


def locate_checkpoint(name: str = "default") -> Path:
    """The directory of a checkpoint: one of :data:`SHIPPED` or its folder's name, a directory, or a Hugging Face id.

    A directory is a checkpoint, or a run of training that ended with one.

    Raises:
        EncoderError: there is none of that name.
    """
    if shipped := _shipped(name):
        return shipped
    directory = Path(name).expanduser()
    if found := _inside(directory):
        return found
    if directory.is_dir():
        raise EncoderError(
            f"encoder {name}: the directory has no {SETTINGS}. If it is a plain LLM, train it with llm2comp train, or "
            f"use it without training: baseline:prompteol@{name}"
        )
    if name.count("/") == 1 and not name.startswith((".", "~", "/")):
        return _from_hub(name)
    ours = " and ".join(f"`{short}`" for short in SHIPPED)
    raise EncoderError(f"encoder {name}: not a directory and not one of ours; {ours} name those that are shipped.")


def is_local(name: str) -> bool:
    """Whether a checkpoint's name can be looked up without the hub: that of a shipped one, or a directory."""
    return _shipped(name) is not None or Path(name).expanduser().is_dir()


def shipped_names() -> list[str]:
    """The folders' names of the checkpoints that ship."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{SETTINGS}"))


def shipped_named(name: str) -> str | None:
    """The shipped checkpoint whose encoder has this name, as indexes remember it; ``None`` if none has."""
    made = (folder for folder in shipped_names() if read_settings(PRETRAINED / folder, task=None).name == name)
    return next(made, None)


def _shipped(name: str) -> Path | None:
    directory = PRETRAINED / SHIPPED.get(name, name)
    return directory if directory.parent == PRETRAINED and (directory / SETTINGS).is_file() else None


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:  # first what tells a checkpoint from an LLM of many gigabytes
        directory = Path(snapshot_download(name, allow_patterns=[SETTINGS, f"{IN_A_REPOSITORY}/{SETTINGS}"]))
        if found := _inside(directory):
            place = "" if found == directory else f"{IN_A_REPOSITORY}/"
            wanted = [f"{place}*.{suffix}" for suffix in ("json", "safetensors", "md", "onnx")]
            directory = Path(snapshot_download(name, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error)
        raise EncoderError(f"encoder {name}: no such directory, and it cannot be downloaded: {reason}") from error
    if not (found := _inside(directory)):
        raise EncoderError(
            f"encoder {name}: on the hub, but not an LLM2Comp checkpoint (no {SETTINGS}); "
            f"a plain LLM can be used without training, as baseline:prompteol@{name}"
        )
    return found


def _inside(directory: Path) -> Path | None:
    """The checkpoint in a folder, if there is one: the folder itself, of a pushed repository, or of a finished run."""
    places = (directory, directory / IN_A_REPOSITORY, directory / IN_A_RUN)
    return next((place for place in places if (place / SETTINGS).is_file()), None)
