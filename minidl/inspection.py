"""Look inside a model: feature maps, filters, and the pixels that decide.

Nothing here needs more than the explicit backward. The gradient of a class's score with respect to the image is the result of
``backward``; the gradient with respect to the output of a layer passes through on the way. All functions work on a copy of
the model in evaluation mode, so the model, its gradients and its caches do not change.

Pictures are written by matplotlib (``pip install 'minidl[plot]'``).
"""

from __future__ import annotations

import copy
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy

from minidl import engines
from minidl.errors import MissingDependencyError, ParameterError, ShapeError, TargetError
from minidl.layers import Chain, Layer, Sigmoid, Softmax
from minidl.layers.base import Shape
from minidl.ops import Array
from minidl.weights import to_host, write_atomically

__all__ = ["feature_maps", "filters", "grad_cam", "saliency", "save_attention", "save_images"]


class _Tap(Layer):
    """A wrapped layer that works as before and keeps its last output and upstream gradient."""

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
    """Return the output of an inner layer for a batch.

    Parameters
    ----------
    model : Sequential
    x : array, shape (N, ...)
        A batch of inputs of the model.
    layer : str
        The path of the layer, as in ``state_dict``: ``"conv1"``, ``"layer2.0"``, ``"features.3"``.

    Returns
    -------
    y : numpy.ndarray, shape (N, ...)
        Of shape (N, C, H, W) for a convolution.

    Raises
    ------
    UnknownNameError
        If there is no such layer; lists the known names.

    Examples
    --------
    >>> import minidl as dl
    >>> model = dl.Sequential({"act": dl.ReLU(), "flatten": dl.Flatten()})
    >>> feature_maps(model, numpy.array([[[-1.0, 2.0]]]), "act")
    array([[[0., 2.]]])
    """
    copied, tap = _watch(model, layer)
    copied.forward(_batch(x))
    return to_host(tap.y)


def filters(model: Chain, layer: str) -> numpy.ndarray:
    """Return the kernels of a convolution as images: its weight, of shape (out_channels, in_channels / groups, H, W)."""
    found = model.find(layer)
    weight = getattr(getattr(found, "weight", None), "value", None)
    if weight is None or weight.ndim != 4:
        raise ParameterError(f"filters: {layer} is {found!r}, which has no kernels; name a Conv2d")
    return to_host(weight).copy()


def saliency(model: Chain, x: Any, target: Any = None) -> numpy.ndarray:
    """Return how strongly each pixel affects the score of a class: the absolute value of d score / d x.

    The score is the logit of the class; a Softmax or Sigmoid at the end of the model is skipped. K. Simonyan, A. Vedaldi,
    A. Zisserman, "Deep inside convolutional networks" (2014), section 3.1.

    Parameters
    ----------
    model : Sequential
        Maps (N, ...) to scores of shape (N, K).
    x : array, shape (N, ...)
    target : int or int array, shape (N,), optional
        The class; by default the one with the highest score.

    Returns
    -------
    map : numpy.ndarray, shape (N, H, W)
        The maximum over the channels for images; otherwise of x's shape.

    Raises
    ------
    ShapeError
        If the scores of the model do not have shape (N, K).
    TargetError
        If a class is not from 0 to K - 1.

    Examples
    --------
    >>> import minidl as dl
    >>> model = dl.Sequential(dl.Linear(2, 2))
    >>> model[0].weight.value[...] = [[1, -3], [2, 0]]
    >>> saliency(model, numpy.ones((1, 2), dtype=numpy.float32), target=0)
    array([[1., 3.]], dtype=float32)
    """
    copied = _copy_to_scores(model)
    dx = _backward_from_score(copied, _batch(x), target)
    size = numpy.abs(to_host(dx))
    return size.max(axis=1) if size.ndim == 4 else size


def grad_cam(model: Chain, x: Any, layer: str, target: Any = None) -> numpy.ndarray:
    """Return where the feature maps of a layer support a class, in the size of the image.

    With the maps A_k of the layer and the score s of the class, the weight of a map is the mean of its gradient. The result is
    the positive part of the weighted sum of the maps::

        alpha_k = mean over h, w of ds / dA_khw
        map = max(0, sum_k alpha_k A_k)

    R. Selvaraju et al., "Grad-CAM: Visual explanations from deep networks via gradient-based localization", ICCV 2017, equations
    1 and 2.

    Parameters
    ----------
    model : Sequential
        Maps (N, C, H, W) to scores of shape (N, K).
    x : array, shape (N, C, H, W)
    layer : str
        The path of a layer that outputs images, usually the last of them.
    target : int or int array, shape (N,), optional
        The class; by default the one with the highest score.

    Returns
    -------
    map : numpy.ndarray, shape (N, H, W)
        Interpolated to the size of the images; not scaled.

    Raises
    ------
    ShapeError
        If the layer does not output images, or the scores of the model do not have shape (N, K).
    TargetError
        If a class is not from 0 to K - 1.
    UnknownNameError
        If there is no such layer.
    """
    copied, tap = _watch(_copy_to_scores(model), layer)
    images = _batch(x)
    _backward_from_score(copied, images, target)
    maps, gradient = tap.y, tap.dy
    if maps.ndim != 4 or images.ndim != 4:
        raise ShapeError(
            f"grad_cam: needs images (N, C, H, W) and a layer that outputs images, got x of shape {images.shape} and "
            f"{maps.shape} from {layer}"
        )
    alpha = gradient.mean(axis=(2, 3), keepdims=True)  # (N, K, 1, 1)
    engine = engines.current()
    cam, _ = engine.relu((alpha * maps).sum(axis=1, keepdims=True))  # (N, 1, h, w)
    cam, _ = engine.upsample_bilinear(cam, size=images.shape[2:])  # (N, 1, H, W)
    return to_host(cam)[:, 0]


def _watch(model: Chain, layer: str) -> tuple[Chain, _Tap]:
    """Return a copy of the model in which a layer is wrapped in a tap, and the tap."""
    model.find(layer)  # raises if there is none
    copied: Any = copy.deepcopy(model).eval()
    copied.fuse = False  # a fused step has no output of its inner layers
    path, _, name = layer.rpartition(".")
    parent = copied.find(path) if path else copied
    if not hasattr(parent, "replace"):
        raise ParameterError(f"{layer} is inside {parent!r}, whose layers cannot be watched; name that layer instead")
    tap = _Tap(parent.find(name) if isinstance(parent, Chain) else parent.children()[name])
    parent.replace(name, tap)
    return copied, tap


def _copy_to_scores(model: Chain) -> Chain:
    """Return a copy of the model up to its logits, in evaluation mode."""
    trunk, activation = model.without_last_activation()
    copied: Any = copy.deepcopy(trunk if isinstance(activation, (Softmax, Sigmoid)) else model).eval()
    copied.fuse = False
    return copied


def _batch(x: Any) -> Array:
    return engines.current().asarray(x)


def _backward_from_score(model: Chain, x: Array, target: Any) -> Array:
    """Run forward, then backward from the score of one class for each example; return dx."""
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
    """Draw images in a grid and write them to a file, in the format of its suffix (``.png`` if it has none).

    Parameters
    ----------
    path : path
    images : array, shape (N, H, W) or (N, C, H, W)
        3 channels are a colour image; 1 channel, or shape (N, H, W), is a grey one. Otherwise each channel is a picture of its
        own, as for feature maps. Each picture is scaled from its minimum to its maximum.
    over : array, shape (N, H, W), optional
        Maps to draw over the images in colour, such as those of :func:`grad_cam`.
    titles : sequence of str, optional
        One for each picture.
    columns : int, default 8
        Pictures in a row.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    ShapeError
        If the arrays are not images, or are empty.
    ParameterError
        If matplotlib writes no files with that suffix.
    """
    pictures = _pictures(numpy.asarray(images))
    if over is not None and numpy.shape(over)[:1] != (len(pictures),):
        raise ShapeError(
            f"save_images: {len(pictures)} pictures, but maps of shape {numpy.shape(over)} to draw over them"
        )
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    figure = _figure("save_images", 1.4 * columns, (1.4 if titles is None else 1.7) * rows)
    for i, picture in enumerate(pictures):
        panel = figure.add_subplot(rows, columns, i + 1)
        panel.set_axis_off()
        panel.imshow(picture, cmap="gray", interpolation="nearest")
        if over is not None:
            panel.imshow(over[i], cmap="inferno", alpha=0.6, extent=panel.images[0].get_extent())
        if titles is not None:
            panel.set_title(titles[i], fontsize=8)
    _write("save_images", figure, path)


def save_attention(
    path: str | os.PathLike[str], weights: Any, queries: Sequence[str], keys: Sequence[str], columns: int = 4
) -> None:
    """Draw what each head of attention looks at, and write it to a file, in the format of its suffix (``.png`` if it has none).

    A row of a map is a query, a column a key; the darker, the more weight.

    Parameters
    ----------
    path : path
    weights : array, shape (T, S) or (H, T, S)
        Of one head or of several, from 0 to 1: one example of what ``MultiheadAttention.weights`` or
        ``Transformer.attention_maps`` gives.
    queries, keys : str or sequence of str
        The names of the T queries and of the S keys, such as tokens; of a string, its characters.
    columns : int, default 4
        Maps in a row.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    ShapeError
        If the weights are not maps of that shape, or the names are not as many.
    ParameterError
        If matplotlib writes no files with that suffix, or there is no column.
    """
    where, maps = "save_attention", to_host(weights)
    maps = maps[None] if maps.ndim == 2 else maps  # (H, T, S)
    if maps.shape[1:] != (len(queries), len(keys)) or not maps.size:
        raise ShapeError(
            f"{where}: weights must have shape (T, S) or (H, T, S); there are T = {len(queries)} queries and S = {len(keys)} "
            f"keys, but the shape is {numpy.shape(weights)}"
        )
    if columns < 1:
        raise ParameterError(f"{where}: columns must be at least 1, got {columns}")
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    figure = _figure(where, columns * (0.13 * len(keys) + 0.6), rows * (0.13 * len(queries) + 0.6))
    for i, head in enumerate(maps):
        panel = figure.add_subplot(rows, columns, i + 1)
        panel.imshow(head, cmap="Greys", vmin=0, vmax=1, interpolation="nearest")
        for axis, names in ((panel.xaxis, keys), (panel.yaxis, queries)):
            axis.set_ticks(range(len(names)), [str(name).replace("$", r"\$") for name in names], fontsize=6)
            axis.set_tick_params(length=0)
        if len(maps) > 1:
            panel.set_title(f"head {i + 1}", fontsize=8)
    _write(where, figure, path)


def _figure(where: str, width: float, height: float) -> Any:
    """Return an empty figure without a window."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependencyError.needs(where, "matplotlib", "plot") from error
    return Figure(figsize=(width, height), layout="constrained")


def _write(where: str, figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the path's suffix."""
    path = Path(path)
    if not path.suffix:
        path = path.with_name(path.name + ".png")
    content = io.BytesIO()
    try:
        figure.savefig(content, format=path.suffix[1:].lower(), dpi=100)
    except ValueError as error:
        raise ParameterError(f"{where}: {path}: {error}") from error
    write_atomically(path, content.getvalue())


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
