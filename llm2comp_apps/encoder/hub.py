"""Models by their Hugging Face id: in the local cache, on the hub, or nowhere, and to know that at once.

Loaders of transformers and sentence-transformers ask for a dozen files one after another, and retry each request; for a
name that does not exist, on a machine without a network, that takes most of a minute. Here one question is asked first.
"""

from __future__ import annotations

from pathlib import Path

from llm2comp_apps.errors import EncoderError

__all__ = ["find_model", "is_missing_folder"]

_WEIGHTS = ("*.safetensors", "*.bin")


def is_missing_folder(name: str) -> bool:
    """Whether a name can only be that of a folder, and there is none; no library has to be asked what it means."""
    means_a_folder = name.startswith((".", "/", "~")) or name.endswith("/") or name.count("/") > 1
    return means_a_folder and not Path(name).expanduser().is_dir()


def find_model(name: str) -> str:
    """What to hand to a loader.

    Args:
        name: a directory or a Hugging Face id.

    Returns:
        A directory as it is; the directory of a cached snapshot with weights, which needs no network; or the id, if
        the hub answers for it.

    Raises:
        EncoderError: there is no such model, or the hub cannot be reached. The message is a reason, to go into another.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.utils import logging

    if Path(name).expanduser().is_dir():
        return str(Path(name).expanduser())
    if is_missing_folder(name):
        raise EncoderError("no such directory")
    logging.set_verbosity_error()  # its retries are told line by line, and we tell what came of them
    try:
        cached = Path(snapshot_download(name, local_files_only=True))
        if any(True for pattern in _WEIGHTS for _ in cached.glob(pattern)):
            return str(cached)
    except (LocalEntryNotFoundError, HFValidationError):
        pass
    try:
        snapshot_download(name, allow_patterns=["config.json"])
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise EncoderError(f"no directory of that name here, and Hugging Face: {reason}") from error
    return name
