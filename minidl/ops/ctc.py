"""Connectionist temporal classification: the loss of a sequence of labels whose places in the input are not known."""

from __future__ import annotations

import math
from typing import Any

from minidl.ops._checks import ieee
from minidl.ops._ctc_targets import check_targets
from minidl.ops._losses import Cache, check_upstream, reduce
from minidl.ops._namespace import Array, namespace

__all__ = ["ctc_loss", "ctc_loss_backward"]

NEVER = -1e30
"""The logarithm of a probability of zero: finite, so that differences of two of them are no nan."""
HOPELESS = NEVER / 2
"""A logarithm below this is that of a zero, times other probabilities."""


@ieee
def ctc_loss(
    log_probs: Array,
    targets: Array,
    input_lengths: Array,
    target_lengths: Array,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> tuple[Array, Cache]:
    r"""Return the negative logarithm of the probability of each target, summed over all its alignments.

    An alignment names a class for each step of the input: the labels in order, each for one step or several, with blanks
    before, between and after them, and at least one blank between equal labels. With p_tk = exp(``log_probs``) and the
    alignments A of example n::

        l = -log sum_A prod_t p_t,A(t)

    With the reduction ``"mean"`` each loss is divided by the number of its labels, or by 1 if there are none, as in PyTorch.

    Parameters
    ----------
    log_probs : array, shape (N, T, K)
        Floating-point logarithms of probabilities, such as log_softmax gives them. PyTorch's have the shape (T, N, K).
    targets : integer array, shape (N, S) or (sum of the target lengths,)
        The labels, padded with anything or one sequence after another.
    input_lengths : integer array, shape (N,)
        The number of steps of each example, up to T. Later ones count for nothing.
    target_lengths : integer array, shape (N,)
        The number of labels of each example, up to S.
    blank : int, default 0
        The class of the blank.
    reduction : {"mean", "sum", "none"}, default "mean"
    zero_infinity : bool, default False
        Whether an infinite loss, and its gradient, are replaced by 0. A target is then allowed to be too long.

    Returns
    -------
    loss : scalar of the dtype of ``log_probs``, or an array of shape (N,) for ``"none"``
    cache : (slope, s)

    Raises
    ------
    TargetError
        If a label is no class or is the blank, or a target is too long: it needs as many steps as it has labels, and one more
        for each label that equals the one before it.
    ShapeError
        If the shapes do not fit, a length is negative or too large, or the mean of an empty batch is asked for.
    DtypeError
        If the log-probabilities are not floating-point, or one of the others is not an array of integers.
    ParameterError
        If ``blank`` is no class, or the reduction is unknown.

    Notes
    -----
    Let :math:`z` be the labels with a blank before, between and after them, 2S + 1 in all, and let :math:`\alpha_t(s)` be the
    probability of the first t steps of all alignments that are at :math:`z_s` at step t. An alignment stays where it is, goes
    to the next element, or jumps over a blank between two different labels:

    .. math:: \alpha_t(s) = p_{t z_s} (\alpha_{t-1}(s) + \alpha_{t-1}(s - 1) + j_s \alpha_{t-1}(s - 2)),

    with :math:`j_s = 1` if :math:`z_s` is a label other than :math:`z_{s-2}`, else 0. It begins with all its probability at the
    first blank, before the first step. In the same way :math:`\beta_t(s)`, the probability of all steps after t, follows from
    the end, where it is 1 at the last blank:

    .. math:: \beta_t(s) = b_{t+1}(s) + b_{t+1}(s + 1) + j_{s+2} b_{t+1}(s + 2), \quad b_t(s) = p_{t z_s} \beta_t(s).

    The probability of the target is :math:`P = \beta_0(1)`, before the first step at the first blank. All of it is computed in
    logarithms, and in float64, because they grow with T.

    Every alignment is somewhere at step t, so :math:`P = \sum_s \alpha_t(s) \beta_t(s)` for each t. Only :math:`\alpha_t(s)`
    contains :math:`p_{t z_s}`, once and as a factor, so its derivative by :math:`\log p_{t z_s}` is itself. With
    :math:`l = -\log P` the slope is

    .. math:: \frac{\partial l}{\partial \log p_{tk}} = -\frac{1}{P} \sum_{s : z_s = k} \alpha_t(s) \beta_t(s),

    minus the probability, given the target, that step t is of class k. PyTorch returns this plus p, which is the gradient of
    the logits before a log_softmax. Behind a log_softmax both give the same.

    References
    ----------
    A. Graves et al., "Connectionist temporal classification", ICML 2006, equations 5 to 15.

    Examples
    --------
    Three of the four alignments of two steps spell "a": a-, -a and aa.

    >>> import numpy
    >>> log_p = numpy.log(numpy.array([[[0.5, 0.5], [0.5, 0.5]]]))
    >>> loss, cache = ctc_loss(log_p, numpy.array([[1]]), numpy.array([2]), numpy.array([1]))
    >>> round(float(numpy.exp(-loss)), 6)
    0.75
    >>> ctc_loss_backward(1.0, cache).round(4)
    array([[[-0.3333, -0.6667],
            [-0.3333, -0.6667]]])
    """
    labels, steps, counts = check_targets(log_probs, targets, input_lengths, target_lengths, blank, zero_infinity)
    xp = namespace(log_probs)
    wide = log_probs.astype("float64", copy=False)
    z, jump, end = _extend(labels, counts, blank, wide)  # (N, 2S + 1) each
    rows = xp.arange(len(z))[:, None]  # (N, 1)
    log_p = xp.moveaxis(xp.maximum(wide, NEVER)[rows, :, z], 2, 0)  # (T, N, 2S + 1); p_t(z_s)
    after, total = _backward_in_time(log_p, jump, end, steps)  # T times (N, 2S + 1); (N,)
    share = _occupy(log_p, jump, after, total, steps)  # (T, N, 2S + 1); alpha beta / P
    slope = _scatter(share, z, wide)  # (N, T, K)
    lost = total < HOPELESS
    each = xp.where(lost, 0.0 if zero_infinity else math.inf, -total)  # (N,)
    slope = xp.where(lost[:, None, None], 0.0 if zero_infinity else math.nan, slope)
    if reduction == "mean":
        length = xp.maximum(counts, 1)
        each, slope = each / length, slope / length[:, None, None]
    return reduce(each, slope, reduction, "ctc_loss", log_probs.dtype)


@ieee
def ctc_loss_backward(dloss: Any, cache: Cache) -> Array:
    """Return the gradient of the log-probabilities.

    With the constant s of the reduction, which for ``"mean"`` includes the number of labels; see :func:`ctc_loss` for the sum::

        dlog_probs = -dloss s sum_{s: z_s = k} alpha_t(s) beta_t(s) / P
    """
    slope, s = cache
    dloss = check_upstream(dloss, slope, slope.shape[:1], "ctc_loss_backward")
    if getattr(dloss, "ndim", 0):
        dloss = dloss[:, None, None]  # (N, 1, 1)
    return (dloss * s) * slope


def _extend(labels: Array, counts: Array, blank: int, like: Array) -> tuple[Array, Array, Array]:
    """Return the labels among blanks, and in logarithms where a jump may arrive and where an alignment ends."""
    xp = namespace(like)
    n, s = labels.shape
    z = xp.full((n, 2 * s + 1), blank, dtype="int64")
    z[:, 1::2] = labels
    before = xp.concatenate([xp.full((n, 2), blank, dtype="int64"), z], axis=1)[:, :-2]  # z_{s-2}
    jump = xp.where((z != blank) & (z != before), 0.0, NEVER)
    end = xp.where(xp.arange(2 * s + 1) == 2 * counts[:, None], 0.0, NEVER)
    return z, jump, end


def _arrive(a: Array, jump: Array) -> Array:
    """Return log(a(s) + a(s - 1) + j_s a(s - 2)) of logarithms a."""
    xp = namespace(a)
    padded = xp.concatenate([xp.full((len(a), 2), NEVER), a], axis=1)
    return _log_sum(a, padded[:, 1:-1], padded[:, :-2] + jump)


def _leave(b: Array, jump: Array) -> Array:
    """Return log(b(s) + b(s + 1) + j_{s+2} b(s + 2)) of logarithms b."""
    xp = namespace(b)
    never = xp.full((len(b), 2), NEVER)
    padded, jumping = xp.concatenate([b, never], axis=1), xp.concatenate([b + jump, never], axis=1)
    return _log_sum(b, padded[:, 1:-1], jumping[:, 2:])


def _log_sum(a: Array, b: Array, c: Array) -> Array:
    """Return log(exp(a) + exp(b) + exp(c)), the largest taken out."""
    xp = namespace(a)
    m = xp.maximum(xp.maximum(a, b), c)
    return m + xp.log(xp.exp(a - m) + xp.exp(b - m) + xp.exp(c - m))


def _backward_in_time(log_p: Array, jump: Array, end: Array, steps: Array) -> tuple[list[Array], Array]:
    """Return log beta for each step, T times (N, 2S + 1), and log P, (N,)."""
    xp = namespace(log_p)
    b, after = end, []  # from the end of each example on, b is 1 at its last blank
    for t in reversed(range(len(log_p))):
        beta = _leave(b, jump)  # (N, 2S + 1)
        after.append(beta)
        b = xp.where((t < steps)[:, None], log_p[t] + beta, end)
    total = _leave(b, jump)[:, 0]
    return after[::-1], total


def _occupy(log_p: Array, jump: Array, after: list[Array], total: Array, steps: Array) -> Array:
    """Return the share of the alignments, by probability, that are at z_s at step t: alpha beta / P."""
    xp = namespace(log_p)
    start = xp.where(xp.arange(jump.shape[1]) == 0, 0.0, NEVER)
    a = xp.broadcast_to(start, jump.shape)  # (N, 2S + 1)
    shares = []
    for t in range(len(log_p)):
        a = _arrive(a, jump) + log_p[t]
        shares.append(xp.where((t < steps)[:, None], xp.exp(a + after[t] - total[:, None]), 0.0))
    return xp.stack(shares) if shares else log_p


def _scatter(share: Array, z: Array, like: Array) -> Array:
    """Return minus the sum of the shares of each class, (N, T, K); one element of z after another, since classes repeat."""
    xp = namespace(like)
    slope = xp.zeros(like.shape, dtype=like.dtype)
    rows = xp.arange(len(z))
    for s in range(z.shape[1]):
        slope[rows, :, z[:, s]] -= share[:, :, s].T  # (N, T)
    return slope
