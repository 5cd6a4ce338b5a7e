"""Clients that people have, of the versions in the registry, against a server on a socket."""

from __future__ import annotations

import numpy as np
import pytest

TEXTS = ["how do cells divide", "stars burn hydrogen", "bread rises"]


def test_openai(server, loads_hash) -> None:
    from openai import BadRequestError, NotFoundError, OpenAI

    with OpenAI(base_url=f"{server.ask.url}/v1", api_key="unused") as client:
        assert [model.id for model in client.models.list()] == ["hash"]
        answer = client.embeddings.create(model="hash", input=TEXTS)  # asks for base64
        np.testing.assert_allclose([each.embedding for each in answer.data], loads_hash.encode(TEXTS), atol=1e-6)
        assert answer.usage.prompt_tokens == 9
        plain = client.embeddings.create(model="hash", input=TEXTS[0], encoding_format="float", dimensions=8)
        assert np.linalg.norm(plain.data[0].embedding) == pytest.approx(1, abs=1e-5)
        query = client.embeddings.create(model="hash", input=TEXTS[0], extra_body={"prompt_name": "query"})
        assert len(query.data[0].embedding) == 32
        with pytest.raises(BadRequestError) as caught:
            client.embeddings.create(model="hash", input=[[1, 2, 3]])
        assert (caught.value.code, caught.value.param) == ("tokens_not_supported", "input")
        with pytest.raises(NotFoundError) as missing:
            client.embeddings.create(model="text-embedding-3-small", input="x")
        assert missing.value.code == "model_not_found"


def test_openai_with_a_key(running, library) -> None:
    from openai import AuthenticationError, OpenAI

    from llm2comp_apps.serving import key_hash

    with running(indexes=[library], key_hash=key_hash("a-long-secret")) as server:
        with OpenAI(base_url=f"{server.ask.url}/v1", api_key="a-long-secret") as client:
            assert len(client.embeddings.create(model="hash", input="x").data) == 1
        with OpenAI(base_url=f"{server.ask.url}/v1", api_key="another") as client, pytest.raises(AuthenticationError):
            client.embeddings.create(model="hash", input="x")


def test_cohere(server) -> None:
    import cohere

    for client in (
        cohere.ClientV2(api_key="unused", base_url=server.ask.url),
        cohere.Client(api_key="unused", base_url=server.ask.url),
    ):
        answer = client.rerank(model="hash", query="cells divide", documents=TEXTS, top_n=2)
        assert next(result.index for result in answer.results) == 0
        assert len(answer.results) == 2
        assert all(0 <= result.relevance_score <= 1 for result in answer.results)


def test_langchain(server, loads_hash) -> None:
    from langchain_openai import OpenAIEmbeddings

    settings = {"model": "hash", "base_url": f"{server.ask.url}/v1", "api_key": "unused"}
    embeddings = OpenAIEmbeddings(**settings, check_embedding_ctx_length=False)
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), loads_hash.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), loads_hash.encode(TEXTS[:1])[0], atol=1e-6)


def test_hugging_face(server, loads_hash) -> None:
    from huggingface_hub import InferenceClient

    for path in ("/embed", ""):
        client = InferenceClient(f"{server.ask.url}{path}")
        np.testing.assert_allclose(client.feature_extraction(TEXTS[0]), loads_hash.encode(TEXTS[:1]), atol=1e-6)
    cut = client.feature_extraction(TEXTS[0], normalize=True, truncate=True, dimensions=8)
    assert cut.shape == (1, 8)
    similarities = InferenceClient(f"{server.ask.url}/similarity").sentence_similarity(
        "cells", other_sentences=["cells"]
    )
    assert similarities == pytest.approx([1], abs=1e-5)
