"""``llm2comp explain``: what the memory vectors of a text hold."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llm2comp_apps.cli.options.common import DeviceOption, JsonOption, add_command
from llm2comp_apps.cli.options.expand import option, with_groups
from llm2comp_apps.cli.options.unused import refuse_needless
from llm2comp_apps.cli.ui.console import note, print_json, warn
from llm2comp_apps.cli.ui.explanation import show_explanations
from llm2comp_apps.errors import UsageError
from llm2comp_apps.files import check_writable, write_text

__all__ = ["register"]

_DOCUMENT = "Id of a document of an index, in place of TEXT."
_INDEX = "Index of the document. [default: $LLM2COMP_INDEX, else the one *.index here]"
_ENCODER = (
    "Encoder: quality, or a checkpoint whose adapter alone was trained, best by compression. "
    "[default: that of the index, else quality]"
)
_OTHER = "Another text: show what the memories of the two share."
_QUERY = "Query: show which memory vectors match it, and by which words."
_DRIFTED = "this encoder's last stage was not compression, so its memory reads badly; a kl checkpoint reads better"
_OTHERS_MEMORY = "the index holds memory vectors of another encoder, so the text is encoded again"


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    add_command(
        app,
        explain,
        'llm2comp explain "Cells divide by mitosis." --encoder runs/kl/encoder',
        "llm2comp explain --id doc-17 --index papers.index --html doc-17.html",
        'llm2comp explain "Cells divide by mitosis." --query "how do cells multiply" --other "Rivers carry stones."',
    )


@with_groups(
    option("encoder", str | None, None, "NAME", _ENCODER),
    option("document", str | None, None, "ID", _DOCUMENT, flag="--id"),
    option("index", Path | None, None, "DIR", _INDEX),
    option("other", str | None, None, "TEXT", _OTHER),
    option("query", str | None, None, "TEXT", _QUERY),
    option("tokens", int, 48, "N", "Most tokens to write from memory."),
    option("beams", int, 4, "N", "Width of the beam search."),
    option("html", Path | None, None, "FILE", "Write a page, too."),
)
def explain(
    ctx: typer.Context,
    text: Annotated[str | None, typer.Argument(help="Text to explain.")] = None,
    device: DeviceOption = None,
    as_json: JsonOption = False,
    *,
    encoder: str | None,
    document: str | None,
    index: Path | None,
    other: str | None,
    query: str | None,
    tokens: int,
    beams: int,
    html: Path | None,
) -> None:
    """Read the memory vectors of a text back: the language model under the encoder writes what they hold.

    Each word is shown with what memory adds to its likelihood. Whoever has memory vectors can do this.
    """
    from llm2comp_apps.retrieval.discovery import find_index
    from llm2comp_apps.retrieval.explaining import stored_text

    if text is None and document is None:
        raise UsageError("is missing: a text, or `document` for one of an index", field="text")
    if text is not None and document is not None:
        raise UsageError("has no effect with `document`, whose own text is read; give one of the two", field="text")
    refuse_needless(ctx, (text, ["index"], "a text is no document of an index"))
    if html is not None:
        check_writable(html)
    stored = None if document is None else stored_text(find_index(index), document)
    from llm2comp_apps.encoder import decoding
    from llm2comp_apps.encoder.locate import READABLE

    decoding.check_explained(tokens=tokens, beams=beams, text=text, other=other, query=query)
    reader = decoding.load_reader(encoder or (stored.encoder if stored else READABLE), device=device)
    if reader.drifted:
        warn(_DRIFTED)
    texts = [stored.text if stored else text or "", *([other] if other is not None else [])]
    memory = stored.memory if stored else None
    if stored and memory is not None and stored.fingerprint != reader.fingerprint:
        warn(_OTHERS_MEMORY)
        memory = None
    found = decoding.explain_all(reader, texts, memory=memory, query=query, tokens=tokens, beams=beams)
    if html is not None:
        write_text(html, decoding.explanation_page(found, encoder=reader.name, query=query))
        note(f"page: {html}")
    if as_json:
        print_json({"encoder": reader.name, "query": query, "texts": [each.to_dict() for each in found]})
    else:
        show_explanations(found)
