"""Cells of tables that other programs wrote, as documents and vectors have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from llm2comp_indexes.errors import InputError
from llm2comp_indexes.types import Float32Array

__all__ = ["cells", "in_microseconds", "place", "plain", "text", "vectors"]


def cells(column: Any) -> list[Any]:
    """The cells of an array; equal ones of a dictionary are one object."""
    from pyarrow import types

    if not types.is_dictionary(column.type):
        try:
            return list(column.to_pylist())
        except OverflowError:
            return [_cell(cell) for cell in column]
    values = column.dictionary.to_pylist()
    return [None if index is None else values[index] for index in column.indices.to_pylist()]


def _cell(cell: Any) -> Any:
    """A value; a time beyond the year 9999, which Python does not have, as text, and as None if Arrow has none."""
    try:
        return cell.as_py()
    except OverflowError:
        text = str(cell.cast("string").as_py())
        return None if text.startswith("<") else text


def in_microseconds(batch: Any) -> Any:
    """Times and durations without their nanoseconds, which Python's do not have."""
    import pyarrow as pa
    from pyarrow import compute, types

    coarser = {pa.duration("ns"): pa.duration("us"), pa.time64("ns"): pa.time64("us")}
    for number, column in enumerate(batch.columns):
        kind = column.type
        to = pa.timestamp("us", kind.tz) if types.is_timestamp(kind) and kind.unit == "ns" else coarser.get(kind)
        if to is not None:
            batch = batch.set_column(number, batch.schema.names[number], compute.cast(column, to, safe=False))
    return batch


def plain(value: Any) -> Any:
    """A value of a cell as JSON has it."""
    if value is None or isinstance(value, str | int | bytes):  # bool is an int; bytes are refused by their name later
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.isoformat() if hasattr(value, "isoformat") else str(value)  # dates and times; Decimal, UUID


def place(value: Any) -> int | None:
    """A place in a text; where other cells are empty, pandas makes a float of it."""
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return int(value) if whole and not isinstance(value, bool) else None


def text(value: Any) -> str:
    """A value of a column of texts; some programs write texts as bytes that are not said to be any.

    Raises:
        ValueError: bytes that are no UTF-8.
    """
    if value is None:
        return ""
    return value.decode() if isinstance(value, bytes) else str(value)


def vectors(rows: Sequence[dict[str, Any]], name: str, path: str | Path) -> Float32Array:
    """The vectors of rows, ``(n, d)``.

    Args:
        rows: at least one.
        name: of the column.
        path: of the file, for messages.

    Raises:
        InputError: they are no lists of numbers, or of different lengths; says of which row.
    """
    made: list[Float32Array] = []
    for row in rows:
        try:
            vector: Float32Array = np.array(row[name], dtype=np.float32)
        except (TypeError, ValueError):
            vector = np.empty((), dtype=np.float32)
        if vector.ndim == 0 or row[name] is None or (made and vector.shape != made[0].shape):
            wanted = f"list of {len(made[0])} numbers" if made else "list of numbers"
            raise InputError(f"{path}: the {name} of the id {text(row['id'])!r} is no {wanted}")
        made.append(vector)
    return np.stack(made)
