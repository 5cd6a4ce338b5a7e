"""The description of the API in OpenAPI 3.1, written by hand and held to the routes by a test."""

from __future__ import annotations

from typing import Any

from llm2comp_apps import __version__

__all__ = ["known_fields", "openapi"]

_TEXTS = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
_STRINGS = {"type": "array", "items": {"type": "string"}}
_FIELDS: dict[str, dict[str, Any]] = {
    "input": {**_TEXTS, "description": "A text or texts."},
    "inputs": {**_TEXTS, "description": "A text or texts."},
    "model": {"type": "string", "description": "One of /v1/models; the first where none is named."},
    "encoding_format": {"enum": ["float", "base64"], "description": "Base64 holds little-endian float32."},
    "dimensions": {"type": "integer", "description": "The first so many, again of length 1."},
    "prompt_name": {"type": "string", "description": "Role of the texts: query or document; no prompt where missing."},
    "input_type": {"type": "string", "description": "Another name of prompt_name."},
    "query": {"type": "string", "description": "What is asked."},
    "documents": {"type": "array", "description": "Texts, or objects with a text and a title."},
    "texts": {**_STRINGS, "description": "Texts; makes the answer that of Text Embeddings Inference."},
    "top_n": {"type": "integer", "description": "Results wanted; 0 for all."},
    "return_documents": {"type": "boolean", "description": "Repeat the documents in the answer."},
    "max_tokens_per_doc": {"type": "integer", "description": "Not taken; a warning in the answer says so."},
    "raw_scores": {"type": "boolean", "description": "Scores from -1 to 1 and not from 0 to 1."},
    "return_text": {"type": "boolean", "description": "Repeat the texts in the answer."},
    "fingerprint": {"type": "string", "description": "Of the encoder whose vectors the front compares."},
    "normalize": {"type": "boolean", "description": "Must be true: embeddings have length 1."},
    "truncate": {"type": "boolean", "description": "False refuses texts that are too long."},
    "truncation_direction": {"enum": ["right", "Right"], "description": "Which end of a long text is cut off."},
    "add_special_tokens": {"type": "boolean", "description": "Count those that the tokenizer adds."},
    "q": {"type": "string", "description": "Query."},
    "vector": {"type": "array", "items": {"type": "number"}, "description": "The query, encoded already."},
    "mode": {"enum": ["dense", "lexical", "hybrid"], "description": "By meaning, by words, or by both."},
    "fusion": {"type": "string", "description": "How hybrid search joins both."},
    "where": {"type": "string", "description": "Condition on the fields of documents."},
    "topic": {"type": "integer", "description": "Only documents of this topic."},
    "lasso": {"type": "array", "description": "Only documents inside this polygon on the map: points [x, y]."},
    "facets": {**_STRINGS, "description": "Fields whose values among the hits are counted."},
    "limit": {"type": "integer", "description": "Hits of a page."},
    "offset": {"type": "integer", "description": "Hits before the page."},
    "rerank": {
        "enum": ["memory", "tokens", "ltr", "words"],
        "description": "Score the best hits again.",
    },
    "rerank_ms": {"type": "integer", "description": "Milliseconds for that; 500 unless their memory is stored."},
    "text": {"type": "boolean", "description": "Send whole texts with the hits, and not only snippets."},
    "passages": {"type": "boolean", "description": "Chunks of documents are hits of their own, with span and text."},
    "id": {"type": "string", "description": "Id of a document."},
    "ids": {**_STRINGS, "description": "Ids of documents."},
    "allow_most": {"type": "boolean", "description": "Delete even if the condition meets most documents."},
}
_OTHERWISE: dict[str, dict[str, dict[str, Any]]] = {
    "/similarity": {
        "inputs": {
            "type": "object",
            "properties": {"source_sentence": {"type": "string"}, "sentences": _STRINGS},
            "description": "A sentence, and those that it is compared with.",
        }
    },
    "/indexes/{name}/search": {"ids": {"type": "boolean", "description": "Send the ids of all hits that were found."}},
    "/indexes/{name}/documents": {
        "documents": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["id"],
                "properties": {
                    **{name: {"type": "string"} for name in ("id", "text", "title")},
                    "metadata": {"type": "object"},
                },
            },
            "description": "Each with an id, a text or a title, and maybe metadata.",
        }
    },
}
"""Fields that mean something else at these paths."""
_EMBED = ("inputs", "prompt_name", "input_type", "normalize", "truncate", "truncation_direction", "encoding_format")
_RERANK = (
    *("query", "documents", "texts", "model", "top_n", "return_documents", "max_tokens_per_doc"),
    *("raw_scores", "return_text"),
)
_NARROW = ("where", "topic", "lasso")
_SEARCH = (
    *("q", "vector", "mode", "fusion", *_NARROW, "facets", "limit", "offset"),
    *("rerank", "rerank_ms", "text", "ids", "passages"),
)
_SIMILAR = ("id", *_NARROW, "limit", "text")
_OPENAI = ("input", "model", "encoding_format", "dimensions", "prompt_name", "input_type")

_OPERATIONS: tuple[tuple[str, str, str, tuple[str, ...]], ...] = (
    ("get", "/livez", "Whether the process answers.", ()),
    *(
        ("get", path, "Whether the server should get requests.", ())
        for path in ("/readyz", "/health", "/healthz", "/ping")
    ),
    ("get", "/metrics", "Figures for Prometheus.", ()),
    ("get", "/openapi.json", "This description.", ()),
    *(("get", f"{prefix}/models", "Encoders that are served.", ()) for prefix in ("/v1", "")),
    *(("get", f"{prefix}/models/{{id}}", "An encoder that is served.", ()) for prefix in ("/v1", "")),
    *(("post", f"{prefix}/embeddings", "Embeddings, as OpenAI has them.", _OPENAI) for prefix in ("/v1", "")),
    *(("post", f"{prefix}/rerank", "Order documents by a query.", _RERANK) for prefix in ("/v1", "/v2", "")),
    *(("post", path, "Embeddings (TEI).", (*_EMBED, "dimensions")) for path in ("/embed", "/")),
    ("post", "/embed_all", "Memory vectors of each text (TEI).", _EMBED),
    ("post", "/similarity", "Cosines of a source_sentence with sentences (TEI).", ("inputs",)),
    ("post", "/tokenize", "Tokens of texts (TEI).", ("inputs", "add_special_tokens")),
    ("get", "/info", "What is served (TEI).", ()),
    ("get", "/indexes", "Indexes that are served.", ()),
    *((method, "/indexes/{name}/search", "Search.", _SEARCH) for method in ("get", "post")),
    *(
        (method, "/indexes/{name}/similar", "The nearest documents of a document.", _SIMILAR)
        for method in ("get", "post")
    ),
    ("get", "/indexes/{name}/topics", "Topics that were found in the index.", ()),
    ("get", "/indexes/{name}/topics/{topic}", "A topic and its documents.", ("limit", "offset")),
    ("get", "/indexes/{name}/map", "The map of the topics.", ()),
    ("get", "/indexes/{name}/fields", "Fields of the documents and their values.", ()),
    ("post", "/indexes/{name}/browse", "Documents without a query.", (*_NARROW, "facets", "limit", "offset")),
    ("post", "/indexes/{name}/shard/{question}", "What a front asks of a shard.", ("fingerprint",)),
    ("post", "/indexes/{name}/documents", "Add or replace documents.", ("documents",)),
    ("post", "/indexes/{name}/documents/delete", "Delete documents.", ("ids", "where", "allow_most")),
    ("get", "/indexes/{name}/documents", "A document, of any id: `.` and `..` are none in a path.", ("id",)),
    ("get", "/indexes/{name}/documents/{id}", "A document.", ()),
    ("delete", "/indexes/{name}/documents/{id}", "Delete a document.", ()),
)


def known_fields(method: str, path: str) -> frozenset[str] | None:
    """The fields that a request to an index may have, by its route; ``None`` where others are passed over.

    Clients of other programs' APIs send more than is understood here, and probes add what they like. Who asks an index
    wants each field to count: a condition whose name is misspelled would silently find everything.
    """
    bare = path.replace("{id:path}", "{id}")
    if not bare.startswith("/indexes/") or "/shard/" in bare:
        return None
    ((*_, fields),) = [each for each in _OPERATIONS if each[:2] == (method.lower(), bare)]
    return frozenset(fields)


def openapi() -> dict[str, Any]:
    """The description."""
    paths: dict[str, dict[str, Any]] = {}
    for method, path, summary, fields in _OPERATIONS:
        paths.setdefault(path, {})[method] = _operation(method, path, summary, fields)
    return {
        "openapi": "3.1.0",
        "info": {"title": "llm2comp", "version": __version__, "description": "Embeddings, reranking, search, topics."},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"key": []}, {}],
    }


_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {name: {"type": ["string", "null"]} for name in ("message", "type", "param", "code")},
        }
    },
}


def _operation(method: str, path: str, summary: str, fields: tuple[str, ...]) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in ("name", "id", "question", "topic")
        if f"{{{name}}}" in path
    ]
    operation: dict[str, Any] = {"summary": summary}
    described = _FIELDS | _OTHERWISE.get(path, {})
    if method == "get":
        parameters += [
            {"name": name, "in": "query", "schema": described[name], "description": described[name]["description"]}
            for name in fields
        ]
    elif fields:
        schema = {"type": "object", "properties": {name: described[name] for name in fields}}
        operation["requestBody"] = {"content": {"application/json": {"schema": schema}}}
    if parameters:
        operation["parameters"] = parameters
    error = {
        "description": "What is wrong.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    operation["responses"] = {"200": {"description": "The answer."}, "default": error}
    return operation
