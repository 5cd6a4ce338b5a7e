"""An LM's body with only some of its layers.

The body is a transformers model without its head. What is made here is another body of the same class that runs the
chosen layers in their order and the same final norm. Its modules are either the LM's own, so that it costs no memory
and whatever changes a layer of the LM changes it here too, or copies that can be trained while the LM stays as it is.
The token embeddings are always the LM's.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from llm2comp_apps.errors import EncoderError, UsageError

__all__ = ["Around", "Noted", "check_layers", "layer_weights", "load_layer_weights", "shallow_body"]


class Around(nn.Module):
    """Stands around a layer in its body, and does something beside or about what the layer does.

    Attributes:
        layer: that layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        """What a body asks of its layers, such as their kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)


class Noted(Around):
    """Keeps what the layer makes in one body.

    Attributes:
        made: the states ``(B, T, d)`` of the last pass.
    """

    made: Tensor

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        """What the layer does."""
        self.made = self.layer(*args, **kwargs)
        return self.made


def check_layers(layers: Sequence[int], depth: int) -> list[int]:
    """The numbers as a list, if they can be layers of an LM that has ``depth`` of them.

    Raises:
        UsageError: none, too large, or not in ascending order.
    """
    chosen = list(layers)
    ascending = all(one < after for one, after in itertools.pairwise(chosen))
    if not chosen or not ascending or chosen[0] < 0 or chosen[-1] >= depth:
        shown = ", ".join(map(str, chosen)) or "none"
        raise UsageError(f"must be ascending numbers from 0 to {depth - 1}, not {shown}", field="layers")
    return chosen


def shallow_body(body: nn.Module, layers: Sequence[int] | None = None, *, copied: bool = False) -> nn.Module:
    """A body that runs only some layers of another one.

    Args:
        body: of the LM, without its head; stays as it is.
        layers: their numbers, ascending; ``None`` for all.
        copied: copy everything but the token embeddings, weights in float32, instead of sharing it. What was
            injected into the layers, such as an adapter, is copied with them.

    Raises:
        UsageError: a number that the LM does not have.
    """
    source: Any = body
    chosen = check_layers(range(len(source.layers)) if layers is None else layers, len(source.layers))
    made: Any = copy.copy(body)
    # A shallow copy shares the dictionaries of modules, parameters and hooks; each of the two needs its own.
    made.__dict__ = {name: copy.copy(held) if isinstance(held, dict) else held for name, held in vars(made).items()}
    made.config = _config_of(source.config, chosen)
    made.layers = nn.ModuleList(source.layers[number] for number in chosen)
    if copied:
        embeddings = source.get_input_embeddings()
        for name, child in list(made.named_children()):
            if child is not embeddings:
                setattr(made, name, copy.deepcopy(child).float())
    return made.train(body.training)


def layer_weights(body: nn.Module) -> dict[str, Tensor]:
    """The weights of a body without its token embeddings: ``layers.0.self_attn.q_proj.weight``, ``norm.weight``."""
    source: Any = body
    embeddings = source.get_input_embeddings()
    return {
        f"{name}.{inner}": tensor
        for name, child in body.named_children()
        if child is not embeddings
        for inner, tensor in child.state_dict().items()
    }


def load_layer_weights(body: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Overwrite what :func:`layer_weights` names, in place; each weight keeps its own dtype and device.

    Raises:
        EncoderError: a name or a shape differs.
    """
    own = layer_weights(body)
    wrong = sorted(own.keys() ^ weights.keys())
    wrong += sorted(name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape)
    if wrong:
        raise EncoderError(f"the weights of the layers do not fit the backbone: {wrong[0]} differs ({len(wrong)} do).")
    for name, tensor in own.items():
        tensor.detach().copy_(weights[name])


def _config_of(config: Any, layers: Sequence[int]) -> Any:
    """A copy of an LM's configuration for some of its layers; what it lists per layer follows them."""
    made = copy.deepcopy(config)
    depth = config.num_hidden_layers
    made.num_hidden_layers = len(layers)
    for name, value in vars(config).items():  # kinds of attention, which layers have rotary positions, ...
        if isinstance(value, list) and len(value) == depth:
            setattr(made, name, [value[number] for number in layers])
    return made
