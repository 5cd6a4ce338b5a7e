"""``rc``: reconstruction; the frozen LM g, reading memory, says the text itself again.

    L = 1/c * sum_{t=1..c} -log g(x_t | E(x), x_{<t})

Mean over positions, then over texts. The autoencoding objective of ICAE (arXiv 2307.06945), an ablation in LLM2Comp
(arXiv 2511.17129). On a batch whose target is its context this is :func:`~.nll.nll_loss`; :func:`rc_loss` is that.
"""

from __future__ import annotations

from llm2comp_train.losses.nll import nll_loss as rc_loss

__all__ = ["rc_loss"]
