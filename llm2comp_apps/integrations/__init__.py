"""Encoders and collections where other programs look for them: one file and one extra for each of them.

    langchain     embeddings, vector store, retriever, document compressor
    llama_index   embedding, vector store, node postprocessor
    haystack      embedders, document store, retriever
    sklearn       a transformer for pipelines
    mteb          an encoder of any name as a model of MTEB
    llm_plugin    an embedding model of the ``llm`` command

Each imports its framework, and of this project public names only. ``where`` writes conditions for all of them,
and ``writing`` lets their threads write one after another.
"""
