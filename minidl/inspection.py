"""Seeing inside a model: feature maps, filters, and which pixels decide.

Nothing here needs more than the explicit backward. The gradient of a class's score with respect to the image is what
``backward`` returns; with respect to what a layer inside gave it is what comes by on the way there. All functions work on a copy
of the model in evaluation mode, so the model, its gradients and what it remembers stay as they are.

Pictures are written by matplotlib (``pip install 'minidl[plot]'``).
"""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from typing import Any

import numpy

from minidl import engines
from minidl.errors import MissingDependencyError, ParameterError, ShapeError, TargetError
from minidl.layers import Chain, Layer, Sigmoid, Softmax
from minidl.layers.base import Shape
from minidl.ops import Array
from minidl.weights import to_host

__all__ = ["feature_maps", "filters", "grad_cam", "saliency", "save_images"]


class _Tap(Layer):
    """A layer that is watched: it works as before, and what it gave and the gradient that came are kept."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer
        self.y: Any = None
        self.dy: Any = None

    def children(self) -> dict[str, Any]:
        return {"layer": self.layer}

    @property
    def input_shape(self) -> Shape | None:
        return getattr(self.layer, "input_shape", None)

    def output_shape(self, input_shape: Shape) -> Shape:
        return self.layer.output_shape(input_shape)

    def forward(self, x: Array) -> Array:
        self.y = self.layer.forward(x)
        return self.y

    def backward(self, dy: Array) -> Array:
        self.dy = dy
        return self.layer.backward(dy)


def feature_maps(model: Chain, x: Any, layer: str) -> numpy.ndarray:
    """Return what a layer inside gives for a batch.

    Parameters
    ----------
    model : Sequential
    x : array, shape (N, ...)
        A batch of what the model takes.
    layer : str
        Its path, as in ``state_dict``: ``"conv1"``, ``"layer2.0"``, ``"features.3"``.

    Returns
    -------
    y : numpy.ndarray, shape (N, ...)
        (N, C, H, W) for a convolution.

    Raises
    ------
    UnknownNameError
        If there is no such layer; the message lists those that there are.

    Examples
    --------
    >>> import minidl as dl
    >>> model = dl.Sequential({"act": dl.ReLU(), "flatten": dl.Flatten()})
    >>> feature_maps(model, numpy.array([[[-1.0, 2.0]]]), "act")
    array([[[0., 2.]]])
    """
    copied, tap = _watched(model, layer)
    copied.forward(_batch(x))
    return to_host(tap.y)


def filters(model: Chain, layer: str) -> numpy.ndarray:
    """Return the kernels of a convolution as images: its weight, of shape (out_channels, in_channels / groups, H, W)."""
    found = model.find(layer)
    weight = getattr(getattr(found, "weight", None), "value", None)
    if weight is None or weight.ndim != 4:
        raise ParameterError(f"filters: {layer} is {found!r}, which has no kernels to look at; name a Conv2d")
    return to_host(weight).copy()


def saliency(model: Chain, x: Any, target: Any = None) -> numpy.ndarray:
    """Return how strongly each pixel moves the score of a class: the absolute value of d score / d x.

    K. Simonyan, A. Vedaldi, A. Zisserman, "Deep inside convolutional networks" (2014), section 3.1. The score is the class's
    logit; a Softmax or Sigmoid at the end of the model is left out.

    Parameters
    ----------
    model : Sequential
        From (N, ...) to scores of shape (N, K).
    x : array, shape (N, ...)
    target : int or int array, shape (N,), optional
        The class; the one with the highest score unless given.

    Returns
    -------
    map : numpy.ndarray, shape (N, H, W)
        For images, the largest value among the channels; otherwise of x's shape.

    Raises
    ------
    ShapeError
        If the model gives no scores of shape (N, K).
    TargetError
        If a class is none of 0 to K - 1.

    Examples
    --------
    >>> import minidl as dl
    >>> model = dl.Sequential(dl.Linear(2, 2))
    >>> model[0].weight.value[...] = [[1, -3], [2, 0]]
    >>> saliency(model, numpy.ones((1, 2), dtype=numpy.float32), target=0)
    array([[1., 3.]], dtype=float32)
    """
    copied = _for_scores(model)
    dx = _back_from_score(copied, _batch(x), target)
    size = numpy.abs(to_host(dx))
    return size.max(axis=1) if size.ndim == 4 else size


def grad_cam(model: Chain, x: Any, layer: str, target: Any = None) -> numpy.ndarray:
    r"""Return where a layer's maps speak for a class, in the size of the image.

    R. Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017. With
    :math:`A^k` the layer's maps and s the class's score, the weight of a map is the mean of its gradient (equation 1), and the
    picture is the weighted sum of the maps, of which only what speaks for the class is kept (equation 2):

    .. math:: \alpha_k = \frac{1}{HW} \sum_{hw} \frac{\partial s}{\partial A^k_{hw}}, \qquad
              L = \max\Big(0, \sum_k \alpha_k A^k\Big).

    Parameters
    ----------
    model, x, target
        As for :func:`saliency`; x holds images.
    layer : str
        The path of a layer that gives images, usually the last of them.

    Returns
    -------
    map : numpy.ndarray, shape (N, H, W)
        Interpolated to the size of the images; not scaled.

    Raises
    ------
    ShapeError
        If the layer gives no images, or the model no scores of shape (N, K).
    TargetError
        If a class is none of 0 to K - 1.
    UnknownNameError
        If there is no such layer.
    """
    copied, tap = _watched(_for_scores(model), layer)
    images = _batch(x)
    _back_from_score(copied, images, target)
    maps, gradient = tap.y, tap.dy
    if maps.ndim != 4 or images.ndim != 4:
        raise ShapeError(
            f"grad_cam: needs images (N, C, H, W) and a layer that gives such, got x of shape {images.shape} and "
            f"{maps.shape} from {layer}"
        )
    alpha = gradient.mean(axis=(2, 3), keepdims=True)  # (N, K, 1, 1)
    engine = engines.current()
    cam, _ = engine.relu((alpha * maps).sum(axis=1, keepdims=True))  # (N, 1, h, w)
    cam, _ = engine.upsample_bilinear(cam, size=images.shape[2:])  # (N, 1, H, W)
    return to_host(cam)[:, 0]


def _watched(model: Chain, layer: str) -> tuple[Chain, _Tap]:
    """Return a copy of the model in which a layer is watched."""
    model.find(layer)  # raises if there is none
    copied: Any = copy.deepcopy(model).eval()
    copied.fuse = False  # each layer by itself: what is fused into one step shows nothing in between
    path, _, name = layer.rpartition(".")
    parent = copied.find(path) if path else copied
    if not hasattr(parent, "replace"):
        raise ParameterError(f"{layer} is inside {parent!r}, which cannot be watched; name that layer itself")
    tap = _Tap(parent.find(name) if isinstance(parent, Chain) else parent.children()[name])
    parent.replace(name, tap)
    return copied, tap


def _for_scores(model: Chain) -> Chain:
    """Return a copy of the model up to its logits, in evaluation mode."""
    trunk, activation = model.without_last_activation()
    copied: Any = copy.deepcopy(trunk if isinstance(activation, (Softmax, Sigmoid)) else model).eval()
    copied.fuse = False
    return copied


def _batch(x: Any) -> Array:
    return engines.current().asarray(x)


def _back_from_score(model: Chain, x: Array, target: Any) -> Array:
    """Run forward, and backward from one class's score of each example; return dx."""
    scores = model.forward(x)
    if scores.ndim != 2:
        raise ShapeError(f"expected scores of shape (N, K) from the model, got {scores.shape}")
    n, k = scores.shape
    chosen = to_host(scores).argmax(axis=1) if target is None else numpy.asarray(target)
    if chosen.dtype.kind not in "iu" or chosen.shape not in ((), (n,)) or ((chosen < 0) | (chosen >= k)).any():
        raise TargetError(
            f"target must be a class from 0 to {k - 1}, or one for each of the {n} examples, got {target!r}"
        )
    one_hot = numpy.zeros((n, k), dtype=scores.dtype)
    one_hot[numpy.arange(n), chosen] = 1  # d score / d scores
    return model.backward(engines.current().asarray(one_hot))  # type: ignore[return-value]


def save_images(
    path: str | os.PathLike[str],
    images: Any,
    over: Any = None,
    titles: Sequence[str] | None = None,
    columns: int = 8,
) -> None:
    """Draw images in a grid and write them to a file, whose ending says how (.png).

    Parameters
    ----------
    path : str
    images : array, shape (N, H, W) or (N, C, H, W)
        With 3 channels in colour; with 1 or as (N, H, W) in grey; with others each channel is a picture of its own, as of
        feature maps. Each picture is scaled from its smallest to its largest number.
    over : array, shape (N, H, W), optional
        Maps to lay over them in colours, such as those of :func:`grad_cam`.
    titles : sequence of str, optional
        One a picture.
    columns : int
        Pictures in a row.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    ShapeError
        If the arrays are no images, or there are none.
    """
    pictures = _pictures(numpy.asarray(images))
    if over is not None and numpy.shape(over)[:1] != (len(pictures),):
        raise ShapeError(f"save_images: {len(pictures)} pictures, but {numpy.shape(over)} for the maps over them")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError.needs("save_images", "matplotlib", "plot") from error
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = Figure(figsize=(1.4 * columns, (1.4 if titles is None else 1.7) * rows), layout="constrained")
    for i, picture in enumerate(pictures):
        panel = figure.add_subplot(rows, columns, i + 1)
        panel.set_axis_off()
        panel.imshow(picture, cmap="gray", interpolation="nearest")
        if over is not None:
            panel.imshow(over[i], cmap="inferno", alpha=0.6, extent=panel.images[0].get_extent())
        if titles is not None:
            panel.set_title(titles[i], fontsize=8)
    figure.savefig(path, dpi=100)


def _pictures(images: numpy.ndarray) -> list[numpy.ndarray]:
    """Return (H, W) or (H, W, 3) arrays from 0 to 1."""
    if images.ndim == 4 and images.shape[1] == 3:
        images = images.transpose(0, 2, 3, 1)  # (N, H, W, 3)
    elif images.ndim == 4:
        images = images.reshape(-1, *images.shape[2:])  # (N C, H, W)
    elif images.ndim != 3:
        raise ShapeError(f"save_images: expected images of shape (N, H, W) or (N, C, H, W), got {images.shape}")
    if not images.size:
        raise ShapeError(f"save_images: there are no images in an array of shape {images.shape}")
    scaled = []
    for image in images.astype("float64"):
        low, high = image.min(), image.max()
        scaled.append((image - low) / (high - low) if high > low else image * 0)
    return scaled
