"""Groups of parameters that a model is usually trained with."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from minidl.errors import ParameterError
from minidl.layers import BatchNorm1d, BatchNorm2d, GroupNorm, Layer, LayerNorm, RMSNorm
from minidl.optim.checks import setting
from minidl.weights.matching import match_names

__all__ = ["param_groups_weight_decay"]

_NORMS = (BatchNorm1d, BatchNorm2d, GroupNorm, LayerNorm, RMSNorm)


def param_groups_weight_decay(
    model: Any, weight_decay: float, no_weight_decay: str | Iterable[str] = ()
) -> list[dict[str, Any]]:
    """Return two groups for an optimiser: the weights, which decay, and the biases and norms, which do not.

    Decay keeps the products of weights and inputs small. A bias multiplies nothing, and the gain of a norm sets the scale that
    the norm has just removed, so decay would only pull them away from where the data want them. Spared are parameters

    - of fewer than two axes,
    - whose names end in ``bias``,
    - of norms, of any shape,
    - that ``no_weight_decay`` names.

    Tables of embeddings decay, as in GPT-2. Frozen parameters are in their group too, and are trained once they are unfrozen.

    Parameters
    ----------
    model : layer
    weight_decay : float
        Of the first group; that of the second is 0.
    no_weight_decay : str or list of str, optional
        Names of more parameters to spare, as in ``state_dict``, such as ``"*.wpe.weight"``; ``*`` is any text.

    Returns
    -------
    list of dict
        The groups that are not empty, each in the order of ``model.parameters()``.

    Raises
    ------
    ParameterError
        If ``weight_decay`` is negative, a name fits no parameter, or the model is no layer.

    References
    ----------
    The name and the rule are those of timm, and the rule is that of GPT-2's and BERT's training. I. Loshchilov, F. Hutter,
    "Decoupled weight decay regularization", ICLR 2019, for the decay itself.

    Examples
    --------
    >>> from minidl.layers import Chain, LayerNorm, Linear
    >>> from minidl.optim import AdamW
    >>> model = Chain(Linear(4, 8), LayerNorm(8), Linear(8, 2))
    >>> optimizer = AdamW(param_groups_weight_decay(model, 0.1), lr=1e-3)
    >>> [(len(group["params"]), group["weight_decay"]) for group in optimizer.param_groups]
    [(2, 0.1), (4, 0.0)]
    """
    if not isinstance(model, Layer):
        raise ParameterError(f"param_groups_weight_decay: expected a model, got {type(model).__name__}")
    decay = setting("param_groups_weight_decay", "weight_decay", weight_decay)
    named = list(model.named_parameters())
    chosen = set(match_names(no_weight_decay, [name for name, _ in named], "param_groups_weight_decay"))
    norms = [layer for _, layer in model.named_layers() if isinstance(layer, _NORMS)]
    spared = {parameter for norm in norms for parameter in norm.parameters()}
    spared |= {p for name, p in named if len(p.shape) < 2 or name.endswith("bias") or name in chosen}
    every = list(dict.fromkeys(parameter for _, parameter in named))  # a tied one is spared under any of its names
    groups = [
        {"params": [p for p in every if p not in spared], "weight_decay": decay},
        {"params": [p for p in every if p in spared], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
