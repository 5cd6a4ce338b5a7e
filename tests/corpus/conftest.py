"""Files of every format, written by other people's code: json, csv, pandas' rules, pyarrow, gzip, zstandard."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from llm2comp_apps.corpus import CorpusOptions, Document, ReadReport, read_corpus

Row = Mapping[str, Any]


def _jsonl(rows: Sequence[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def _table(rows: Sequence[Row], delimiter: str) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(dict.fromkeys(key for row in rows for key in row)), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue().encode()


def _parquet(rows: Sequence[Row]) -> bytes:
    out = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), out, row_group_size=3)
    return out.getvalue()


ENCODERS: dict[str, Callable[[Sequence[Row]], bytes]] = {
    "jsonl": _jsonl,
    "json": lambda rows: json.dumps(list(rows)).encode(),
    "json-pretty": lambda rows: json.dumps(list(rows), indent=2, ensure_ascii=False).encode(),
    "json-mapping": lambda rows: json.dumps({row["_id"]: row for row in rows}, indent=1).encode(),
    "csv": lambda rows: _table(rows, ","),
    "csv-semicolon": lambda rows: _table(rows, ";"),
    "tsv": lambda rows: _table(rows, "\t"),
    "parquet": _parquet,
}
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": gzip.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


@pytest.fixture(scope="session")
def encoders() -> dict[str, Callable[[Sequence[Row]], bytes]]:
    """Form name (the part before ``-`` is the extension) -> rows to bytes."""
    return ENCODERS


@pytest.fixture(scope="session")
def packers() -> dict[str, Callable[[bytes], bytes]]:
    """Extension -> compression."""
    return PACKERS


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes | str], str]:
    """Write a file under the test's folder and return its path."""

    def write_file(name: str, content: bytes | str) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    return write_file


@pytest.fixture
def read() -> Callable[..., tuple[list[Document], ReadReport]]:
    """Read sources to the end: documents and report; options by keyword."""

    def read_all(*sources: str, **options: Any) -> tuple[list[Document], ReadReport]:
        report = ReadReport()
        return list(read_corpus(sources, CorpusOptions(**options), report)), report

    return read_all


@pytest.fixture(scope="session", params=["bytes", "words"])
def tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """The two kinds of tokenizers: byte-level BPE (GPT-2, Llama 3) and words behind a metaspace (Llama 2, T5)."""
    text = [
        "the of and to in that is was for it with as his on be at by had not",
        "Der schnelle Fuchs: été naïve, 漢字 ü",
    ]
    if request.param == "bytes":
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        core.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        core.train_from_iterator(text, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet))
    else:
        core = Tokenizer(models.Unigram([("<unk>", 0.0)], unk_id=0))
        core.pre_tokenizer = pre_tokenizers.Metaspace()
        core.train_from_iterator(text, trainers.UnigramTrainer(vocab_size=80, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=core)
