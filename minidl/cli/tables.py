"""Tables for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy

from minidl import metrics

__all__ = ["confusion"]


def confusion(target: numpy.ndarray, prediction: numpy.ndarray, names: Sequence[str]) -> str:
    r"""Return the confusion matrix as text: a row for each true class, a column for each predicted one; a dot is 0.

    >>> print(confusion(numpy.array([0, 1, 1]), numpy.array([0, 0, 1]), ["cat", "dog"]))
    true \ predicted  cat  dog
    cat                 1    .
    dog                 1    1
    """
    matrix = metrics.confusion_matrix(target, prediction, labels=range(len(names)))
    head = "true \\ predicted"
    left = max(len(head), *map(len, names))
    width = max(3, len(str(matrix.max())), *map(len, names)) + 2
    lines = [head.ljust(left) + "".join(name.rjust(width) for name in names)]
    for name, row in zip(names, matrix, strict=True):
        lines.append(name.ljust(left) + "".join((str(count) if count else ".").rjust(width) for count in row))
    return "\n".join(lines)
