"""``llm2comp encode``: the vectors of documents in a file, for other programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, EncoderOption, JsonOption, add_command, output_option
from llm2comp_apps.cli.options.expand import option, with_groups
from llm2comp_apps.cli.options.reading import READING, CorpusArgument
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.progress import ProgressDisplay, format_duration
from llm2comp_apps.cli.ui.reading import describe_reading
from llm2comp_apps.corpus.options import CorpusOptions

__all__ = ["register"]


def register(app: typer.Typer) -> None:
    """Add the command."""
    add_command(
        app,
        encode,
        "llm2comp encode corpus.jsonl -o corpus.npy",
        "llm2comp encode sentences.txt --format lines -o sentences.parquet",
        "llm2comp encode queries.jsonl --role query -o queries.npy",
    )


@with_groups(option("role", str, "document", "ROLE", "Role of the texts: document or query."), reading=READING)
def encode(
    corpus: CorpusArgument,
    output: Annotated[Path, output_option("FILE", "Output file: .npy (ids beside it, .ids.txt) or .parquet.")],
    role: str,
    encoder: EncoderOption = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    reading: CorpusOptions,
) -> None:
    """Write the vector of each document, in the order of the corpus.

    Vectors are float32 of unit length. An .npy file opens with numpy.load(FILE, mmap_mode="r"); line i of the
    .ids.txt file beside it has the id of row i. A .parquet file has the columns id and embedding.
    """
    from llm2comp_apps.corpus import ReadReport, read_corpus
    from llm2comp_apps.encoder import load_encoder
    from llm2comp_apps.retrieval.vector_files import check_output, write_vectors

    check_output(output, corpus)
    read = ReadReport()
    documents = read_corpus(corpus, reading, read)  # complains of missing files before a model is loaded
    model = load_encoder(encoder or "default", device=device)
    with ProgressDisplay("encoding", "documents") as progress:
        report = write_vectors(output, documents, model, role=role, on_progress=progress.encoded, read=read)
    describe_reading(read)
    warn(*report.warnings)
    if as_json:
        print_json(asdict(report) | {"output": str(output), "seconds": round(report.seconds, 3)})
    made = f"{report.vectors} vectors of {report.dimension} dimensions by {report.encoder}"
    note(f"{output}: {made}, in {format_duration(report.seconds)}")
