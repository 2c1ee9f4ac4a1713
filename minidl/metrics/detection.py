"""How well boxes were found: the mean average precision of the COCO data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy

from minidl.errors import DataError, DtypeError, ParameterError, ShapeError
from minidl.metrics.inputs import on_host
from minidl.ops._scalars import counts, shown
from minidl.ops.box_geometry import box_area, box_iou

__all__ = ["mean_average_precision"]

THRESHOLDS = tuple(numpy.linspace(0.5, 0.95, 10).tolist())
"""The overlaps from which a box counts as found."""

RECALLS = numpy.linspace(0.0, 1.0, 101)
"""The shares of found objects at which the precision is read."""

AREAS = {"": (0.0, 1e10), "_small": (0.0, 32.0**2), "_medium": (32.0**2, 96.0**2), "_large": (96.0**2, 1e10)}
"""The ranges of areas, in square pixels, by the ending of the result's name."""

_TINY = numpy.finfo(numpy.float64).eps


def mean_average_precision(
    y_true: Sequence[tuple[Any, Any]],
    y_pred: Sequence[tuple[Any, Any, Any]],
    *,
    thresholds: Sequence[float] = THRESHOLDS,
    max_detections: Sequence[int] = (1, 10, 100),
    iscrowd: Sequence[Any] | None = None,
    area: Sequence[Any] | None = None,
) -> dict[str, float]:
    """Return the mean average precision and recall of detections, as COCO defines them.

    For one class and one threshold of overlap, the detections of all images are taken from the most certain to the least. Each is
    a hit if it overlaps enough with an object of its class in its image that no earlier one has taken, the one with the largest
    overlap. Precision is the share of hits among those so far, recall the share of objects that were hit. The average precision
    is the mean over 101 recalls of the best precision at this recall or a larger one::

        ap = 1/101 sum_r max_{recall >= r} precision

    and the mean is over thresholds and over the classes that have objects.

    Parameters
    ----------
    y_true : sequence of tuples
        For each image the boxes, (M, 4), x1, y1, x2, y2 in pixels, and classes, (M,), of its objects.
    y_pred : sequence of tuples
        For each image the boxes, (D, 4), scores, (D,), and classes, (D,), of what was found.
    thresholds : sequence of float, default 0.5, 0.55 to 0.95
        The intersections over union from which a detection can be a hit.
    max_detections : sequence of int, default (1, 10, 100)
        The most detections of one class that count in an image, in rising order; precisions are with the last.
    iscrowd : sequence of boolean or integer arrays, optional
        For each image which of its objects are crowds, (M,): regions of many objects that nobody has told apart.
    area : sequence of arrays, optional
        For each image the areas of its objects, (M,), such as those of their masks, which COCO's files hold; by default those of the
        boxes.

    Returns
    -------
    dict of str to float
        ``map``; ``map_50`` and ``map_75``, at one threshold, if it is among the thresholds; ``map_small``, ``map_medium`` and
        ``map_large``, for objects below 32^2, up to 96^2, and above it; ``mar_1``, ``mar_10`` and ``mar_100``, the mean recall
        with so many detections; ``mar_small``, ``mar_medium`` and ``mar_large``. Where there are no such objects, nan.

    Raises
    ------
    ShapeError, DtypeError
        If the sequences or arrays do not fit together.
    DataError
        If there are no images, or a score is nan.
    ParameterError
        If a threshold is not from 0 to 1, or the numbers of detections are not positive and rising.

    Notes
    -----
    Objects outside a range of areas are left out, and so are detections that hit one of them, or that hit nothing and are
    themselves outside the range. A crowd need not be found either. Detections that hit one and nothing else are left out, however
    many they are; a detection overlaps with a crowd by the share of the detection that is inside it.

    References
    ----------
    T.-Y. Lin et al., "Microsoft COCO: common objects in context", ECCV 2014.

    Examples
    --------
    >>> boxes = numpy.array([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    >>> true = [(boxes, [0, 1])]
    >>> scores = mean_average_precision(true, [(boxes + [0, 0, 0, 4], [0.9, 0.8], [0, 1])])  # overlaps of 10 / 14
    >>> {name: round(scores[name], 3) for name in ("map", "map_50", "map_75")}
    {'map': 0.5, 'map_50': 1.0, 'map_75': 0.0}
    """
    levels, limits = _check_settings(thresholds, max_detections)
    true, found = _check_images(y_true, y_pred, iscrowd, area)
    classes = sorted({int(k) for _, kinds, _, _ in true for k in kinds})
    precision: dict[str, list[numpy.ndarray]] = {ending: [] for ending in AREAS}
    recall: dict[str, list[numpy.ndarray]] = {ending: [] for ending in AREAS}
    by_limit: dict[int, list[numpy.ndarray]] = {limit: [] for limit in limits}
    for kind in classes:
        images = [_of_class(kind, limits[-1], *one, *other) for one, other in zip(true, found, strict=True)]
        for ending, bounds in AREAS.items():
            matched = [_match(image, levels, bounds) for image in images]
            objects = sum(count for *_, count in matched)
            if objects == 0:
                continue
            for limit in limits if ending == "" else limits[-1:]:
                p, r = _curve(matched, objects, limit, len(levels))
                if ending == "":
                    by_limit[limit].append(r)
                if limit == limits[-1]:
                    precision[ending].append(p)
                    recall[ending].append(r)
    result = {"map": _mean(precision[""])}
    for name, level in (("map_50", 0.5), ("map_75", 0.75)):
        place = numpy.flatnonzero(numpy.isclose(levels, level))
        if len(place):
            result[name] = _mean([p[place[0]] for p in precision[""]])
    result |= {f"map{ending}": _mean(precision[ending]) for ending in AREAS if ending}
    result |= {f"mar_{limit}": _mean(by_limit[limit]) for limit in limits}
    return result | {f"mar{ending}": _mean(recall[ending]) for ending in AREAS if ending}


class _Image(NamedTuple):
    """The objects of a class in an image, and its detections from the most certain to the least."""

    crowds: numpy.ndarray  # (M,), which objects are crowds
    sizes: numpy.ndarray  # (M,)
    overlaps: numpy.ndarray  # (D, M)
    found_sizes: numpy.ndarray  # (D,)
    scores: numpy.ndarray  # (D,)


def _of_class(
    kind: int,
    most: int,
    true_boxes: numpy.ndarray,
    true_kinds: numpy.ndarray,
    crowds: numpy.ndarray,
    sizes: numpy.ndarray,
    boxes: numpy.ndarray,
    scores: numpy.ndarray,
    kinds: numpy.ndarray,
) -> _Image:
    """Return what there is of a class in an image."""
    own = numpy.flatnonzero(kinds == kind)
    order = own[numpy.argsort(-scores[own], kind="stable")][:most]
    here = true_kinds == kind
    crowds, boxes = crowds[here], boxes[order]
    overlaps = box_iou(boxes, true_boxes[here])  # (D, M)
    overlaps[:, crowds] = _share_inside(boxes, true_boxes[here][crowds])
    return _Image(crowds, sizes[here], overlaps, box_area(boxes), scores[order])


def _share_inside(boxes: numpy.ndarray, regions: numpy.ndarray) -> numpy.ndarray:
    """Return the share of each box that is inside each region, (D, M); nan for a box without area."""
    sides = numpy.minimum(boxes[:, None, 2:], regions[:, 2:]) - numpy.maximum(boxes[:, None, :2], regions[:, :2])
    with numpy.errstate(invalid="ignore"):
        return sides.clip(min=0).prod(axis=-1) / box_area(boxes)[:, None]


def _match(
    image: _Image, levels: numpy.ndarray, bounds: tuple[float, float]
) -> tuple[numpy.ndarray, numpy.ndarray, numpy.ndarray, int]:
    """Return the scores, which detections hit, (T, D), which count for nothing, (T, D), and how many objects there are to find."""
    crowds, sizes, overlaps, found_sizes, scores = image
    least, most = bounds
    outside = (sizes < least) | (sizes > most) | crowds
    hit, ignored = (numpy.zeros((len(levels), len(scores)), bool) for _ in range(2))
    for t, level in enumerate(levels):
        free = numpy.ones(len(sizes), bool)
        for d in range(len(scores)):
            taken = _best_object(overlaps[d], free, outside, level)
            if taken is None:
                ignored[t, d] = found_sizes[d] < least or found_sizes[d] > most
            else:
                free[taken], hit[t, d], ignored[t, d] = crowds[taken], True, outside[taken]
    return scores, hit, ignored, int((~outside).sum())


def _best_object(overlap: numpy.ndarray, free: numpy.ndarray, outside: numpy.ndarray, level: float) -> int | None:
    """Return which free object a detection hits: that of the largest overlap, the last of equal ones; one that counts, if any."""
    for candidates in (free & ~outside, free & outside):
        places = numpy.flatnonzero(candidates & (overlap >= min(level, 1 - 1e-10)))
        if len(places):
            return int(places[::-1][overlap[places][::-1].argmax()])
    return None


def _curve(matched: list[Any], objects: int, limit: int, levels: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Return the best precision at each recall, (T, 101), and the largest recall, (T,)."""
    scores = numpy.concatenate([score[:limit] for score, *_ in matched])
    order = numpy.argsort(-scores, kind="stable")
    hit = numpy.concatenate([h[:, :limit] for _, h, _, _ in matched], axis=1)[:, order]
    ignored = numpy.concatenate([i[:, :limit] for _, _, i, _ in matched], axis=1)[:, order]
    right, wrong = (numpy.cumsum(kind & ~ignored, axis=1, dtype="float64") for kind in (hit, ~hit))
    precision, largest = numpy.zeros((levels, len(RECALLS))), numpy.zeros(levels)
    if len(scores) == 0:
        return precision, largest
    for t in range(levels):
        recall = right[t] / objects
        best = numpy.maximum.accumulate((right[t] / (right[t] + wrong[t] + _TINY))[::-1])[::-1]
        places = numpy.searchsorted(recall, RECALLS, side="left")
        inside = places < len(best)
        precision[t, inside] = best[places[inside]]
        largest[t] = recall[-1]
    return precision, largest


def _mean(values: list[numpy.ndarray]) -> float:
    return float(numpy.mean(values)) if values else math.nan


def _check_settings(thresholds: Any, max_detections: Any) -> tuple[numpy.ndarray, tuple[int, ...]]:
    """Return the thresholds as an array, and the numbers of detections; raise unless they can be."""
    where = "mean_average_precision"
    limits = counts(max_detections, where, "max_detections", 1)
    if not limits or sorted(set(limits)) != list(limits):
        raise ParameterError(f"{where}: max_detections must be rising, got {shown(max_detections)}")
    plain = isinstance(thresholds, (list, tuple, numpy.ndarray))
    levels = numpy.array(
        [level if isinstance(level, (int, float)) else math.nan for level in thresholds] if plain else []
    )
    if not len(levels) or not ((levels >= 0) & (levels <= 1)).all():
        raise ParameterError(f"{where}: thresholds must be a sequence of numbers from 0 to 1, got {shown(thresholds)}")
    return levels.astype(numpy.float64), limits


def _check_images(y_true: Any, y_pred: Any, iscrowd: Any, area: Any) -> tuple[list[Any], list[Any]]:
    """Return the arrays of all images on the host, with crowds and areas of their objects; raise unless they fit together."""
    where = "mean_average_precision"
    if len(y_true) != len(y_pred):
        raise ShapeError(f"{where}: there must be one tuple for each image, got {len(y_true)} and {len(y_pred)}")
    if not len(y_true):
        raise DataError(f"{where}: there are no images")
    true: list[Any] = []
    found: list[Any] = []
    for index, (objects, detections) in enumerate(zip(y_true, y_pred, strict=True)):
        for name, given, wanted, kept in (("y_true", objects, 2, true), ("y_pred", detections, 3, found)):
            if not hasattr(given, "__len__") or len(given) != wanted:
                raise ShapeError(f"{where}: {name}[{index}] must be a tuple of {wanted} arrays, got {shown(given)}")
            boxes, *others = (numpy.asarray(on_host(part)) for part in given)
            boxes = boxes.reshape((-1, 4)) if boxes.size == 0 else boxes
            if boxes.shape != (len(boxes), 4) or any(part.shape != (len(boxes),) for part in others):
                shapes = ", ".join(str(part.shape) for part in (boxes, *others))
                raise ShapeError(f"{where}: {name}[{index}] must hold boxes (M, 4) and arrays (M,), got {shapes}")
            kept.append((boxes.astype(numpy.float64), *others))
        if numpy.isnan(found[-1][1].astype(numpy.float64)).any():
            raise DataError(f"{where}: a score of image {index} is nan")
    crowds = _of_objects("iscrowd", iscrowd, [numpy.zeros(len(boxes), bool) for boxes, *_ in true])
    sizes = _of_objects("area", area, [box_area(boxes) for boxes, *_ in true])
    true = [(*one, crowd.astype(bool), size) for one, crowd, size in zip(true, crowds, sizes, strict=True)]
    return true, found


def _of_objects(name: str, given: Any, default: list[numpy.ndarray]) -> list[numpy.ndarray]:
    """Return an array of one number for each object of each image; raise ShapeError unless they are so many."""
    if given is None:
        return default
    where = f"mean_average_precision: {name}"
    if not hasattr(given, "__len__") or len(given) != len(default):
        raise ShapeError(f"{where} must hold an array for each of {len(default)} images, got {shown(given)}")
    arrays = [numpy.asarray(on_host(array)) for array in given]
    for index, (array, own) in enumerate(zip(arrays, default, strict=True)):
        if array.shape != own.shape:
            raise ShapeError(f"{where}[{index}] must have shape {own.shape}, one for each object, got {array.shape}")
        if array.size and array.dtype.kind not in ("biu" if own.dtype == bool else "iuf"):
            raise DtypeError(f"{where}[{index}] cannot be of dtype {array.dtype}")
    return arrays
