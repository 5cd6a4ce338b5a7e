"""Train an LLM2Comp encoder: compression stages, contrastive stages, one loop.

:func:`~llm2comp_train.engine.run.run_stage` runs a stage; ``llm2comp train --help`` lists every setting. Nothing is
imported here, since the command line needs :mod:`.recipes` and :mod:`.stages` alone to print its help.
"""
