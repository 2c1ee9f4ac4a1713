"""Fold batch normalisation with constant statistics into the convolution before it.

In evaluation batch normalisation is one multiplication and one addition for each channel, and a convolution is linear in
its weights. So the two together are one convolution with other weights.
"""

from __future__ import annotations

from minidl.errors import ShapeError
from minidl.ops._checks import require_same_dtype, widen_float16
from minidl.ops._namespace import Array, require_float

__all__ = ["batch_norm_as_affine", "fold_batch_norm"]


def batch_norm_as_affine(
    running_mean: Array, running_var: Array, gamma: Array | None = None, beta: Array | None = None, eps: float = 1e-5
) -> tuple[Array, Array]:
    """Return s and t such that batch normalisation in evaluation is s x + t.

    With the parameters of :func:`fold_batch_norm`::

        s = gamma / sqrt(running_var + eps),   t = beta - s running_mean

    >>> import numpy
    >>> one = numpy.ones(1)
    >>> batch_norm_as_affine(5 * one, 4 * one, 6 * one, one, eps=0.0)  # 6 (x - 5) / 2 + 1
    (array([3.]), array([-14.]))
    """
    scale = (running_var + eps) ** -0.5
    if gamma is not None:
        scale = gamma * scale
    shift = -running_mean * scale
    return scale, shift if beta is None else beta + shift


def fold_batch_norm(
    weight: Array,
    bias: Array | None,
    running_mean: Array,
    running_var: Array,
    gamma: Array | None = None,
    beta: Array | None = None,
    eps: float = 1e-5,
) -> tuple[Array, Array]:
    """Fold batch normalisation in evaluation into the convolution before it.

    With s = gamma / sqrt(running_var + eps), for each output channel o::

        weight'_o = s_o weight_o
        bias'_o = s_o (bias_o - running_mean_o) + beta_o

    because s (sum(W x) + b - mean) + beta = sum((s W) x) + s (b - mean) + beta. This holds for every map whose output channel
    o is linear in ``weight[o]``: ``conv1d`` and ``conv2d`` with any settings, and ``linear``. A transposed convolution has its
    output channels on another axis.

    Parameters
    ----------
    weight : array, shape (O, ...)
    bias : array, shape (O,), or None
        Of the convolution.
    running_mean, running_var : array, shape (O,)
    gamma, beta : array, shape (O,), default 1 and 0
        The weight and the bias of the normalisation.
    eps : float, default 1e-5
        Added to the variance.

    Returns
    -------
    weight : array, shape (O, ...)
    bias : array, shape (O,)
        Both new, of weight's dtype; the products of float16 are rounded once.

    Raises
    ------
    ShapeError
        If an argument does not have one element for each output channel.
    DtypeError
        If an argument is not floating-point, or the dtypes differ.

    References
    ----------
    B. Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only inference", CVPR 2018,
    equation 14.

    Examples
    --------
    >>> import numpy
    >>> one = numpy.ones(1)
    >>> fold_batch_norm(numpy.array([[2.0]]), 3 * one, 5 * one, 4 * one, 6 * one, one, eps=0.0)  # 6 (2 x + 3 - 5) / 2 + 1
    (array([[6.]]), array([-5.]))
    """
    require_float(weight, "weight", "fold_batch_norm")
    given = {"bias": bias, "running_mean": running_mean, "running_var": running_var, "gamma": gamma, "beta": beta}
    for name, array in given.items():
        if array is None:
            continue
        require_float(array, name, "fold_batch_norm")
        require_same_dtype(array, weight, name, "weight", "fold_batch_norm")
        if array.shape != weight.shape[:1]:
            raise ShapeError(
                f"fold_batch_norm: {name} must have one element for each of the output channels on axis 0 of weight, "
                f"{weight.shape[:1]}, got {array.shape}"
            )
    wide = {name: None if array is None else widen_float16(array) for name, array in given.items()}
    own = wide.pop("bias")
    scale, shift = batch_norm_as_affine(**wide, eps=eps)
    folded = widen_float16(weight) * scale.reshape((-1,) + (1,) * (weight.ndim - 1))  # (O, ...)
    shift = shift if own is None else shift + scale * own
    return folded.astype(weight.dtype, copy=False), shift.astype(weight.dtype, copy=False)
