"""The encoder's directory on disk.

    encoder.json               format version, backbone reference and digest, k, pooling, prompts, maximum length
    adapter_config.json        plain PEFT, loadable with PeftModel.from_pretrained
    adapter_model.safetensors
    layers.safetensors         instead of an adapter, where all weights were trained: layers.0..., norm.weight
    graph/                     instead of both, where the checkpoint works by itself, see backends/packing.py
    head.safetensors           of a reranker: weight (d,), whose product with the mean memory vector is the score
    memory_tokens.safetensors  memory_tokens (k, d); shift, center (k, d) and spread () of the decoder's input
    tokenizer.json and others  the backbone's own tokenizer, for other programs
    README.md                  model card

The last two are not needed to load an encoder: its tokenizer is the backbone's, whose digest covers it. Nothing here is
a pickle and no code is ever taken from a checkpoint.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from llm2comp_apps.encoder.arrays import places
from llm2comp_apps.encoder.backends.exported import CARRIED, check_carried
from llm2comp_apps.encoder.backends.packed import BODY, read_packed_layers
from llm2comp_apps.encoder.cache import file_sha256
from llm2comp_apps.encoder.card import CARD, card_pictures, write_card
from llm2comp_apps.encoder.portable import settings_for_others, without_folders
from llm2comp_apps.encoder.settings import FORMAT, SETTINGS, EncoderSettings, read_settings
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.files import replaced_folder

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = [
    "ADAPTER_CONFIG",
    "ADAPTER_WEIGHTS",
    "FORMAT",
    "HEAD",
    "LAYERS",
    "SETTINGS",
    "EncoderSettings",
    "Memory",
    "change_pooling",
    "check_whole",
    "checkpoint_files",
    "copy_packed",
    "first_memory",
    "make_portable",
    "read_head",
    "read_layers",
    "read_memory",
    "read_settings",
    "replaced",
    "weights_file",
    "works_alone",
    "write",
]

ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
LAYERS = "layers.safetensors"
MEMORY = "memory_tokens.safetensors"
HEAD = "head.safetensors"
_METADATA = {"format": "pt"}
_OWN = frozenset({SETTINGS, ADAPTER_CONFIG, ADAPTER_WEIGHTS, LAYERS, MEMORY, HEAD, CARRIED, BODY})

Adapter = tuple[dict[str, Any], "dict[str, Tensor]"]
"""PEFT's configuration and weights."""


class Memory(TypedDict):
    """Of :class:`.network.CompressionNetwork`, in float32: three of ``(k, d)`` and ``spread ()``."""

    memory_tokens: Tensor
    shift: Tensor
    center: Tensor
    spread: Tensor


def first_memory(memory: Memory, k: int) -> Memory:
    """Of memory tokens and what belongs to each of them, the first k."""
    return Memory(
        memory_tokens=memory["memory_tokens"][:k].clone(),
        shift=memory["shift"][:k].clone(),
        center=memory["center"][:k].clone(),
        spread=memory["spread"],
    )


def read_memory(directory: Path, k: int) -> Memory:
    """Memory tokens and what brings memory into the decoder's input.

    Raises:
        EncoderError: missing, damaged, or of another k than ``encoder.json`` says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / MEMORY
    try:
        found = load_file(path)
        tensors = Memory(
            memory_tokens=found["memory_tokens"].float(),
            shift=found["shift"].float(),
            center=found["center"].float(),
            spread=found["spread"].float(),
        )
    except (OSError, SafetensorError, KeyError) as error:
        raise EncoderError(f"{path}: missing or damaged ({error}).") from error
    shape = tuple(tensors["memory_tokens"].shape)
    if len(shape) != 2 or shape[0] != k:
        raise EncoderError(f"{path}: memory tokens of shape {shape}, but encoder.json says k = {k}.")
    return tensors


def works_alone(directory: Path, settings: EncoderSettings) -> bool:
    """Whether a checkpoint has no weights but those of the export that it carries."""
    return settings.own_layers and not (directory / LAYERS).is_file() and (directory / CARRIED).is_dir()


def weights_file(directory: Path, settings: EncoderSettings) -> Path | None:
    """The file with the weights of a checkpoint's layers or adapter; ``None`` where it runs the backbone as it comes.

    Raises:
        EncoderError: it is missing, as after a copy that broke off; the backbone alone would be an encoder that nobody
            trained.
    """
    if settings.own_layers:
        own = directory / LAYERS
        if own.is_file() or not (directory / CARRIED).is_dir():
            return _there(own)
        return _there(directory / CARRIED / LAYERS)
    adapter = directory / ADAPTER_WEIGHTS
    return _there(adapter) if adapter.is_file() or (directory / ADAPTER_CONFIG).is_file() else None


def _there(path: Path) -> Path:
    if not path.is_file():
        raise EncoderError(f"{path}: No such file or directory; copy or install this encoder again")
    return path


def check_whole(weights: Path) -> None:
    """Refuse a file of weights that is cut short, without reading it.

    Raises:
        EncoderError: it is, or it is no safetensors file.
    """
    try:
        places(weights)
    except (OSError, ValueError, KeyError) as error:
        raise EncoderError(f"{weights}: damaged ({error}); copy or install this encoder again") from error


def read_layers(directory: Path) -> tuple[dict[str, Tensor], str]:
    """The encoder's own layers in the dtype of the file, and the digest of the file.

    Raises:
        EncoderError: missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / LAYERS
    if not path.is_file() and (directory / CARRIED).is_dir():
        return read_packed_layers(directory)
    try:
        return load_file(path), file_sha256(path)
    except (OSError, SafetensorError) as error:
        raise EncoderError(f"{path}: missing or damaged ({error}).") from error


def read_head(directory: Path) -> Tensor:
    """The head of a reranker, ``(d,)`` float32.

    Raises:
        EncoderError: missing or damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / HEAD
    try:
        return load_file(path)["weight"].float()
    except (OSError, SafetensorError, KeyError) as error:
        raise EncoderError(f"{path}: missing or damaged ({error}).") from error


@contextmanager
def replaced(directory: Path) -> Iterator[Path]:
    """Write an encoder that takes the place of the one in ``directory`` when the block ends without an error.

    Yields:
        A folder beside ``directory`` with what stays: a copy of all that is there and is no part of an encoder.

    Raises:
        EncoderError: a file is there.
    """
    target = directory.resolve()  # the folder that a link leads to is replaced, and not the link
    if target.exists() and not target.is_dir():
        raise EncoderError(f"{directory} is a file; an encoder is a folder.")
    with replaced_folder(target) as fresh:
        if target.is_dir():
            shutil.copytree(target, fresh, symlinks=True, dirs_exist_ok=True, ignore=_encoder_in(target))
        yield fresh


def write(
    directory: Path,
    settings: EncoderSettings,
    memory: Memory,
    adapter: Adapter | None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    *,
    layers_state: Mapping[str, Tensor] | None = None,
    head: Tensor | None = None,
) -> None:
    """Write a checkpoint; ``encoder.json`` comes last, so that a directory without it is known to be unfinished.

    Args:
        directory: made if missing.
        settings: ``encoder.json``; its ``own_layers`` and format follow from the rest.
        memory: :meth:`.network.CompressionNetwork.memory_state`.
        adapter: PEFT's configuration and weights; ``None`` for an encoder without one.
        tokenizer: the backbone's.
        layers_state: the encoder's own layers, :meth:`.network.CompressionNetwork.layer_weights`, in the dtype that
            they shall be stored in; ``None`` where they are the backbone's.
        head: of a reranker, ``(d,)``.

    Raises:
        EncoderError: an adapter and own layers; merge the one into the other.
    """
    if adapter is not None and layers_state is not None:
        raise EncoderError("a checkpoint holds an adapter or layers of its own, not both.")
    from safetensors.torch import save_file

    settings = replace(settings, own_layers=layers_state is not None).in_its_format()
    directory.mkdir(parents=True, exist_ok=True)
    for name in (
        SETTINGS,
        ADAPTER_CONFIG,
        ADAPTER_WEIGHTS,
        LAYERS,
        HEAD,
    ):  # what was here may be of the other kind
        (directory / name).unlink(missing_ok=True)
    save_file(_stored(cast("Mapping[str, Tensor]", memory)), directory / MEMORY)
    if adapter is not None:
        config, weights = adapter
        (directory / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        save_file(_stored(weights), directory / ADAPTER_WEIGHTS, metadata=_METADATA)
    if layers_state is not None:
        save_file(_stored(layers_state), directory / LAYERS, metadata=_METADATA)
    if head is not None:
        save_file(_stored({"weight": head}), directory / HEAD, metadata=_METADATA)
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    write_card(directory, settings, memory["memory_tokens"].shape[1])
    _write_settings(directory, settings)


def change_pooling(directory: Path, pooling: str) -> None:
    """Give a checkpoint another pooling.

    Raises:
        UsageError: an unknown pooling.
    """
    before = read_settings(directory, task=None)
    settings = before.changed(pooling=pooling)
    if settings == before:
        return
    dimension = read_memory(directory, settings.k)["memory_tokens"].shape[1]
    write_card(directory, settings, dimension, packed=works_alone(directory, settings))
    _write_settings(directory, settings)


def make_portable(directory: Path, backbone: str) -> None:
    """Take the paths of this machine out of a checkpoint's settings.

    Args:
        directory: of the checkpoint.
        backbone: what to call its backbone.
    """
    _write_settings(directory, settings_for_others(read_settings(directory, task=None), backbone))
    path = directory / ADAPTER_CONFIG
    if path.is_file():
        config = without_folders(json.loads(path.read_text("utf-8"))) | {"base_model_name_or_path": backbone}
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")


def _write_settings(directory: Path, settings: EncoderSettings) -> None:
    text = json.dumps(asdict(settings), indent=2, ensure_ascii=False) + "\n"
    (directory / SETTINGS).write_text(text, "utf-8")


def copy_packed(source: Path, directory: Path, settings: EncoderSettings) -> None:
    """Write a checkpoint that works by itself, from one that does: another pooling or maximum length needs no backbone.

    Args:
        source: its folder.
        directory: made if missing.
        settings: ``encoder.json``.

    Raises:
        EncoderError: the export is missing or damaged.
    """
    check_carried(source)
    shutil.copytree(source / CARRIED, directory / CARRIED)
    for name in (MEMORY, BODY):
        shutil.copyfile(source / name, directory / name)
    memory = read_memory(directory, settings.k)
    write_card(directory, settings, memory["memory_tokens"].shape[1], packed=True)
    _write_settings(directory, settings)


def _encoder_in(target: Path) -> Callable[[str, list[str]], frozenset[str]]:
    """What :func:`shutil.copytree` leaves out: the encoder itself, which lies at the top of its folder."""
    return lambda folder, _names: _OWN if folder == str(target) else frozenset()


def checkpoint_files(directory: Path) -> list[Path]:
    """The files of an encoder in its folder: what it needs, card and pictures, its tokenizer for other programs."""
    named = [path for path in sorted(directory.iterdir()) if path.name in _OWN or path.name == CARD]
    tokenizer = [path for path in sorted(directory.glob("*token*.json")) if path not in named]
    parts = (*named, *tokenizer, *card_pictures(directory))
    inside = [sorted(path.rglob("*")) if path.is_dir() else [path] for path in parts]
    return [path for found in inside for path in found if path.is_file()]


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Digest of the file that :func:`write` makes of an adapter's or the layers' weights."""
    from safetensors.torch import save

    return hashlib.sha256(save(_stored(weights), metadata=_METADATA)).hexdigest()


def _stored(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
