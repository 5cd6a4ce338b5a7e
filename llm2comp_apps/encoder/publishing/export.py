"""From an encoder to a folder that others load without this package.

A folder appears when it has been compared with the encoder in a process of its own, and not before: what is there was
measured (``llm2comp.json`` says how). One that an export wrote is replaced; any other is left alone.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder.card import CARD, card_for_others, card_pictures
from llm2comp_apps.encoder.locate import locate_checkpoint
from llm2comp_apps.encoder.portable import backbone_for_others, without_folders
from llm2comp_apps.encoder.publishing.card import ENCODER_CARD, export_card
from llm2comp_apps.encoder.publishing.comparison import Comparison, compare, comparison_texts
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.files import check_writable, replaced_folder

if TYPE_CHECKING:
    from llm2comp_apps.encoder.model import LLM2Comp

__all__ = [
    "DTYPES",
    "FORMATS",
    "RECORD",
    "ModelExport",
    "check_format",
    "checkpoint_of",
    "export_model",
    "fingerprint_of_checkpoint",
]

FORMATS = ("sentence-transformers", "onnx")
DTYPES = {"sentence-transformers": ("float32", "float16"), "onnx": ("int8", "float32")}
"""Of the weights in a folder; the first is the default, but for ``onnx`` where int8 is too far from the encoder."""
RECORD = "llm2comp.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelExport:
    """What was written.

    Attributes:
        folder: where it is.
        format: ``sentence-transformers`` or ``onnx``.
        dtype: of its weights.
        multi_vector: whether it gives memory vectors.
        encoder: name of the encoder.
        fingerprint: of the encoder.
        dimension: of a vector.
        size: of the folder in bytes.
        comparison: with the encoder.
    """

    folder: str
    format: str
    dtype: str
    multi_vector: bool
    encoder: str
    fingerprint: str
    dimension: int
    size: int
    comparison: Comparison


def check_format(format: str, dtype: str | None, *, multi_vector: bool = False) -> None:  # noqa: A002 - the word
    """Refuse what no export can be.

    Raises:
        UsageError: an unknown format or dtype, or several vectors from a graph.
    """
    if format not in FORMATS:
        raise UsageError(f"must be {' or '.join(FORMATS)}, not {format!r}", field="format")
    if dtype is not None and dtype not in DTYPES[format]:
        raise UsageError(f"must be {' or '.join(DTYPES[format])} for {format}, not {dtype!r}", field="dtype")
    if multi_vector and format == "onnx":
        raise UsageError("is for sentence-transformers; a graph gives memory vectors in any case", field="multi_vector")


def export_model(
    encoder: str,
    folder: str | Path,
    *,
    format: str = "sentence-transformers",  # noqa: A002 - the word
    dtype: str | None = None,
    multi_vector: bool = False,
    texts: int = 24,
) -> ModelExport:
    """Write an encoder as a folder for sentence-transformers or ONNX Runtime.

    Args:
        encoder: name of a checkpoint of ours, perhaps with ``@first``; see :mod:`..names`.
        folder: made, or replaced where it is an earlier export.
        format: one of :data:`FORMATS`.
        dtype: of the weights, one of :data:`DTYPES`.
        multi_vector: write the memory vectors of a text instead of its embedding, for late interaction.
        texts: how many to compare it with.

    Raises:
        UsageError: a setting makes no sense, the encoder is no checkpoint of ours, or the folder holds something else.
        EncoderError: the encoder cannot be loaded or has no such form, or the folder's vectors are not the encoder's.
    """
    check_format(format, dtype, multi_vector=multi_vector)
    target = Path(folder)
    _check_target(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    if format == "onnx":
        return _onnx(encoder, target, dtype, comparison_texts(texts))
    return _native(encoder, target, dtype or "float32", comparison_texts(texts), multi_vector=multi_vector)


def _native(name: str, target: Path, dtype: str, texts: list[str], *, multi_vector: bool) -> ModelExport:
    import torch

    from llm2comp_apps.encoder.publishing.body import write_body
    from llm2comp_apps.encoder.publishing.modules import write_modules, write_tokenizer

    _check_installed(multi_vector=multi_vector)
    encoder = _load(name)
    _check_native(encoder, multi_vector=multi_vector)
    kind = "multi-vector" if multi_vector else "sentence-transformers"
    with replaced_folder(target.resolve()) as fresh:
        ids = write_tokenizer(encoder, fresh)
        write_body(encoder.network, ids, fresh, getattr(torch, dtype))
        write_modules(encoder, fresh, _vocabulary(fresh), multi_vector=multi_vector)
        if encoder.network.readout.of_text:  # sentence-transformers has no vector of nothing
            texts = [text for text in texts if text]
        expected = encoder.encode(texts, pooling="all" if multi_vector else None)
        try:
            compared = compare(fresh, kind, texts, expected)
        except EncoderError as error:
            if dtype == "float32":
                raise
            raise EncoderError(f"{error}; `dtype=float32` keeps the weights as they are") from error
        return _finish(fresh, target, name, encoder, kind, dtype, compared)


def _onnx(name: str, target: Path, dtype: str | None, texts: list[str]) -> ModelExport:
    from llm2comp_apps.encoder.backends import load_light
    from llm2comp_apps.encoder.publishing.onnx_folder import write_onnx

    target_name, pooling = checkpoint_of(name)
    encoder = load_light(target_name, pooling=pooling, precision=dtype)
    if encoder is None:
        raise EncoderError(f"encoder {name}: no graph can be made of it")
    with replaced_folder(target.resolve()) as fresh:
        write_onnx(encoder, encoder._folder, fresh)
        expected = encoder.encode(texts)
        compared = compare(fresh, "onnx", texts, expected)
        return _finish(fresh, target, name, encoder, "onnx", encoder.precision, compared)


def _finish(
    fresh: Path, target: Path, name: str, encoder: Any, kind: str, dtype: str, comparison: Comparison
) -> ModelExport:
    """Put card and record into a folder that has been compared."""
    own_card = locate_checkpoint(checkpoint_of(name)[0])
    card = export_card(encoder.settings, kind, encoder.dimension, where=target.name, own_card=own_card)
    (fresh / CARD).write_text(card, "utf-8")
    text = card_for_others(own_card, encoder.settings, backbone_for_others(encoder.settings.backbone))
    if text is not None:
        (fresh / ENCODER_CARD).write_text(text, "utf-8")
        for picture in card_pictures(own_card):
            shutil.copy(picture, fresh)
    report = ModelExport(
        folder=str(target),
        format="onnx" if kind == "onnx" else "sentence-transformers",
        dtype=dtype,
        multi_vector=kind == "multi-vector",
        encoder=without_folders(encoder.name),
        fingerprint=encoder.fingerprint,
        dimension=encoder.dimension,
        size=sum(path.stat().st_size for path in fresh.rglob("*") if path.is_file()),
        comparison=comparison,
    )
    record = {key: value for key, value in asdict(report).items() if key != "folder"}
    (fresh / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return report


def checkpoint_of(name: str) -> tuple[str, str | None]:
    """Checkpoint and pooling of a name.

    Raises:
        UsageError: the name of another kind of encoder.
    """
    from llm2comp_apps.encoder.names import parse_name

    parsed = parse_name(name)
    if parsed.kind != "checkpoint":
        raise UsageError(f"must be a checkpoint of ours, not {name}", field="encoder")
    return parsed.target, parsed.pooling


def fingerprint_of_checkpoint(name: str) -> str:
    """The fingerprint that an export of this encoder will have."""
    return _load(name).fingerprint


def _load(name: str) -> LLM2Comp:
    import torch

    from llm2comp_apps.encoder.model import LLM2Comp

    checkpoint, pooling = checkpoint_of(name)
    return LLM2Comp.from_pretrained(checkpoint, device="cpu", dtype=torch.float32, pooling=pooling)


def _check_native(encoder: LLM2Comp, *, multi_vector: bool) -> None:
    """Refuse what modules of sentence-transformers cannot say."""
    readout = encoder.network.readout
    if encoder.network.text_layers is not None:
        raise EncoderError(
            f"{encoder.name}: its memory tokens alone go through its last layers, which no model of transformers does; "
            "it can be exported in the format onnx alone"
        )
    if len(readout.prompts) > 1:
        raise EncoderError(f"{encoder.name}: readout {readout.name} reads a text in two passes, which no module does")
    if multi_vector and readout.of_text:
        raise EncoderError(f"{encoder.name}: readout {readout.name} has no memory vectors")
    if not multi_vector and encoder.pooling != "mean" and not readout.of_text:
        raise EncoderError(
            f"{encoder.name}: pooling {encoder.pooling} has no module in sentence-transformers; take mean, or "
            "`multi_vector`"
        )


def _check_installed(*, multi_vector: bool) -> None:
    from importlib import metadata

    try:
        version = metadata.version("sentence-transformers")
    except metadata.PackageNotFoundError as error:
        raise EncoderError(
            "an export is compared in sentence-transformers; pip install 'llm2comp-apps[eval]'"
        ) from error
    if multi_vector and int(version.partition(".")[0]) < 6:
        raise EncoderError(f"multi-vector models came with sentence-transformers 6; this is {version}")


def _check_target(target: Path) -> None:
    if target.is_dir() and any(target.iterdir()) and not (target / RECORD).is_file():
        raise UsageError(f"{target} holds something that is no export; name a new folder", field=None)
    if target.exists() and not target.is_dir():
        raise UsageError(f"{target} is a file; an export is a folder")
    check_writable(target, folder=True)


def _vocabulary(folder: Path) -> list[str | None]:
    """The token of every row of the table, as the folder's own tokenizer calls it; ``None`` where a row has none."""
    from tokenizers import Tokenizer

    rows = json.loads((folder / "config.json").read_text("utf-8"))["vocab_size"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.id_to_token(number) for number in range(rows)]
