"""Attention: a weighted mean of values, with weights from the products of queries and keys.

N is the batch, H the heads, T the queries, S the keys, D the size of a head, and E that of a value.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy

from minidl.ops._attention import check_attention, check_mask, check_positions
from minidl.ops._checks import ieee, require_like, sum_widened, widen_float16
from minidl.ops._namespace import Array, namespace
from minidl.ops.dropout import _draw_scale
from minidl.ops.precision import product

__all__ = ["scaled_dot_product_attention", "scaled_dot_product_attention_backward"]


@ieee
def scaled_dot_product_attention(
    query: Array,
    key: Array,
    value: Array,
    attn_mask: Array | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    window: int | None = None,
    offset: int = 0,
    random: Any = None,
) -> tuple[Array, tuple[Any, ...]]:
    r"""Return, for each query, the mean of the values, weighted by how well their keys match.

    With sums over the keys s that query t may see, and the factors m of dropout, which are 1 without it::

        y_te = sum_s m_ts p_ts v_se,   p_ts = exp(z_ts - l_t),   z_ts = scale sum_d q_td k_sd + mask_ts

    Here l_t = log(sum_s exp(z_ts)), so each row of p is a softmax. It is computed with the largest score taken out. A query
    that may see no key gets y = 0, l = minus infinity, and gradients of 0.

    Parameters
    ----------
    query : array, shape (N, H, T, D)
    key : array, shape (N, H, S, D)
    value : array, shape (N, H, S, E)
    attn_mask : array, optional
        Broadcast to (N, H, T, S). Booleans say which keys take part, numbers are added to the scores. Data, without gradient.
    dropout_p : float, default 0.0
        The probability of dropping a weight.
    is_causal : bool, default False
        Whether query t only sees keys up to its own position, t + ``offset``. It may be combined with a mask.
    scale : float, default 1 / sqrt(D)
    enable_gqa : bool, default False
        Whether key and value may have fewer heads than the query. Then each of them serves H / (their heads) query heads in
        a row.
    window : int, optional
        See only keys that are less than this many positions away: with ``is_causal`` the last ``window`` keys, the query's own
        among them, else as many on both sides.
    offset : int, default 0
        The position of the first query among the keys. 0 aligns both at their beginnings, as PyTorch does. With a key-value
        cache the queries are the last positions, and the offset is S - T.
    random : numpy.random.Generator or boolean array, shape (N, H, T, S)
        Draws what dropout keeps, or says it (True keeps). Required with dropout: there is no global state. One float32 number is
        drawn for each weight, in the order of (N, H, T, S), also for those that are masked; it is kept if the number is at least
        ``dropout_p``. So an engine that can advance the generator has the numbers of any tile.

    Returns
    -------
    y : array, shape (N, H, T, E)
    cache : (query, key, value, attn_mask, settings, dropout, y, l)
        Each l_t is a number: shape (N, H, T), float32 if y is float16. ``dropout`` is None, or ``dropout_p`` with a copy of the
        generator as it was before, or with the mask: backward draws the m again. No array of the size T S is kept.

    Raises
    ------
    ShapeError
        If shapes do not fit together, or there are no keys.
    DtypeError
        If dtypes differ or are not floating-point, or the mask is neither boolean nor of the dtype of the query.
    ParameterError
        If another argument is out of its range, or ``random`` is missing.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, equation 1.
    Shared heads: J. Ainslie et al., "GQA: training generalized multi-query Transformer models", EMNLP 2023.
    The logarithm of the sum as all that backward needs: T. Dao et al., "FlashAttention", NeurIPS 2022.

    Examples
    --------
    >>> import numpy
    >>> query, key = numpy.zeros((1, 1, 2, 4)), numpy.ones((1, 1, 2, 4))
    >>> value = numpy.array([[[[1.0], [5.0]]]])
    >>> y, cache = scaled_dot_product_attention(query, key, value, is_causal=True)
    >>> y.ravel()
    array([1., 3.])
    >>> scaled_dot_product_attention_backward(numpy.ones((1, 1, 2, 1)), cache)[2].ravel()
    array([1.5, 0.5])
    """
    check_attention(query, key, value, enable_gqa)
    check_positions(scale, window, offset)
    shape = (*query.shape[:3], key.shape[2])
    if attn_mask is not None:
        check_mask(attn_mask, query, shape)
    factor = 1 / math.sqrt(max(query.shape[3], 1)) if scale is None else float(scale)
    settings = factor, bool(is_causal), window, offset
    xp = namespace(query)
    z = _scores(query, key, attn_mask, settings)  # (N, H, T, S)
    largest = z.max(axis=-1, keepdims=True)  # (N, H, T, 1)
    largest = xp.where(largest == -math.inf, 0, largest)
    e = xp.exp(z - largest)  # (N, H, T, S), 0 where the query may not look
    total = sum_widened(e, -1, keepdims=True)  # (N, H, T, 1)
    p = e / xp.where(total == 0, 1, total)  # (N, H, T, S)
    dropout = (dropout_p, copy.deepcopy(random) if _draws(random) else random) if dropout_p else None
    m = _draw_scale("scaled_dot_product_attention", z, shape, dropout_p, random) if dropout_p else None
    groups = key.shape[1]
    y = product(_join(p if m is None else m * p, groups), widen_float16(value), query.dtype)  # (N, H', H / H' T, E)
    y = y.reshape((*shape[:3], value.shape[3])).astype(query.dtype, copy=False)  # (N, H, T, E)
    log_sum = (largest + xp.log(total)).reshape(shape[:3])
    return y, (query, key, value, attn_mask, settings, dropout, y, log_sum)


@ieee
def scaled_dot_product_attention_backward(dy: Array, cache: tuple[Any, ...]) -> tuple[Array, Array, Array]:
    r"""Return the gradients of query, key and value.

    With sums over the keys s and the queries t, and p computed anew from the scores z and the l_t of the forward::

        dquery_td = scale sum_s dz_ts k_sd,   dz_ts = p_ts (dp_ts - sum_e dy_te y_te),   dp_ts = m_ts sum_e dy_te v_se
        dkey_sd = scale sum_t dz_ts q_td
        dvalue_se = sum_t m_ts p_ts dy_te

    Notes
    -----
    * y is linear in v with the factors m p, hence dvalue, and dp, the gradient of p.
    * p is the softmax of z, so :math:`\partial p_{tj} / \partial z_{ts} = p_{tj} (\delta_{js} - p_{ts})`. The sum over j gives
      :math:`dz_{ts} = p_{ts} (dp_{ts} - \sum_j p_{tj}\, dp_{tj})`. In the last sum, put in what dp is:
      :math:`\sum_j p_{tj} m_{tj} \sum_e dy_{te} v_{je} = \sum_e dy_{te} y_{te}`. So one product for each row replaces a sum
      over all keys.
    * z is bilinear in q and k with the factor scale, hence the other two. A mask is a constant.
    * Where query t may not see key s, p is 0, and with it every term. A key that serves several query heads gets the sum of
      their gradients, because they are further queries to it.
    """
    query, key, value, attn_mask, settings, dropout, y, log_sum = cache
    require_like(dy, y, "dy", "y", "scaled_dot_product_attention_backward")
    xp, groups, shape = namespace(dy), key.shape[1], (*query.shape[:3], key.shape[2])
    factor, dtype = settings[0], query.dtype
    z = _scores(query, key, attn_mask, settings)  # (N, H, T, S)
    seen = xp.where(log_sum == -math.inf, 0, log_sum)[..., None]  # a row that sees nothing has z - seen = -inf
    p = xp.exp(z - seen)  # (N, H, T, S)
    q, k, v, g = (widen_float16(array) for array in (query, key, value, dy))
    dp = product(_join(g, groups), v.swapaxes(-1, -2), dtype).reshape(shape)  # (N, H, T, S)
    m = None
    if dropout is not None:
        dropout_p, source = dropout
        source = copy.deepcopy(source) if _draws(source) else source
        m = _draw_scale("scaled_dot_product_attention_backward", z, shape, dropout_p, source)
        dp = m * dp
    dz = p * (dp - sum_widened(g * y, -1, keepdims=True))  # (N, H, T, S)
    rows = _join(dz, groups)  # (N, H', H / H' T, S)
    dquery = factor * product(rows, k, dtype).reshape(query.shape)  # (N, H, T, D)
    dkey = factor * product(rows.swapaxes(-1, -2), _join(q, groups), dtype)  # (N, H', S, D)
    weights = _join(p if m is None else m * p, groups)  # (N, H', H / H' T, S)
    dvalue = product(weights.swapaxes(-1, -2), _join(g, groups), dtype)  # (N, H', S, E)
    return dquery.astype(dtype, copy=False), dkey.astype(dtype, copy=False), dvalue.astype(dtype, copy=False)


@ieee
def attention_weights(cache: tuple[Any, ...]) -> Array:
    """Return the weights p of an attention, (N, H, T, S), before dropout, from its cache.

    >>> import numpy
    >>> _, cache = scaled_dot_product_attention(*numpy.zeros((3, 1, 1, 2, 4)), is_causal=True)
    >>> attention_weights(cache)[0, 0]
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    query, key, _, attn_mask, settings, _, _, log_sum = cache
    xp = namespace(query)
    z = _scores(query, key, attn_mask, settings)  # (N, H, T, S)
    return xp.exp(z - xp.where(log_sum == -math.inf, 0, log_sum)[..., None]).astype(query.dtype, copy=False)


def _draws(random: Any) -> bool:
    """Whether it is a generator, which numbers drawn from it change, and not a mask."""
    return isinstance(random, numpy.random.Generator)


def _scores(query: Array, key: Array, attn_mask: Array | None, settings: tuple[Any, ...]) -> Array:
    """Return z, (N, H, T, S), minus infinity where a query may not look; float16 as float32."""
    factor, is_causal, window, offset = settings
    xp, shape = namespace(query), (*query.shape[:3], key.shape[2])
    q, k = widen_float16(query), widen_float16(key)
    z = factor * product(_join(q, key.shape[1]), k.swapaxes(-1, -2), query.dtype).reshape(shape)
    if attn_mask is not None:
        z = xp.where(attn_mask, z, -math.inf) if attn_mask.dtype.kind == "b" else z + attn_mask
    if is_causal or window is not None:
        ahead = xp.arange(shape[3]) - offset - xp.arange(shape[2])[:, None]  # (T, S), how far a key is ahead
        z = xp.where(_near(ahead, is_causal, window), z, -math.inf)
    return z


def _near(ahead: Array, is_causal: bool, window: int | None) -> Array:
    """Whether a query may see keys that are so many positions ahead of it."""
    if window is None:
        return ahead <= 0
    return (ahead > -window) & (ahead < (1 if is_causal else window))


def _join(x: Array, groups: int) -> Array:
    """Put the rows of the query heads that share a key one after another: (N, H, T, ...) to (N, H', H / H' T, ...)."""
    batch, heads, rows, size = x.shape
    return x if groups == heads else x.reshape((batch, groups, heads // groups * rows, size))
