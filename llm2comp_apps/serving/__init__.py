"""A server over collections and their encoders, for the clients that people have.

    from llm2comp_apps.serving import ServeSettings, serve

    serve(ServeSettings(indexes=["library.index"]), on_start=print)

From the thread that owns a model up to the process that listens:

    settings     what to serve, to whom, and how much
    errors       what a client is told when a request fails
    metrics      what is counted
    tokens       counting tokens beside the encoder
    batching     the engine: one thread, batches under a token budget
    lanes        the engine as an encoder, for collections
    following    indexes that follow folders
    generations  indexes that move on to new commits while requests run
    shards/      indexes whose parts other servers have
    state        all of that together
    schemas      bodies of requests, checked
    openapi      the description of the API
    call         one request from its body to its answer
    routes/      what each group of routes answers
    guard        who may ask, under which name, from which page
    http         the application
    run          the process
"""

from __future__ import annotations

from llm2comp_apps.serving.http import create_app
from llm2comp_apps.serving.run import serve
from llm2comp_apps.serving.settings import Limits, ServeSettings, asked_settings, key_hash, named_indexes, usual_indexes
from llm2comp_apps.serving.state import State

__all__ = [
    "Limits",
    "ServeSettings",
    "State",
    "asked_settings",
    "create_app",
    "key_hash",
    "named_indexes",
    "serve",
    "usual_indexes",
]
