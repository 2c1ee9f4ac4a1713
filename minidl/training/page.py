"""One HTML page about a training: curves, table of the model, confusion matrix, worst mistakes. It needs nothing from outside."""

from __future__ import annotations

import base64
import html
import math
import os
import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy

import minidl
from minidl import metrics
from minidl.errors import OrderError, ParameterError, ShapeError
from minidl.training.losses import absorbed_activation, takes_logits
from minidl.weights.files import write_atomically

__all__ = ["write_page"]

CELLS = 30
"""The largest number of classes whose confusion matrix is drawn; of more, the pairs most often confused are listed."""
TICKS = 5
WIDTH, HEIGHT, LEFT, BOTTOM = 420, 240, 56, 30
"""The size of a picture of curves, and the room for the numbers beside and below it."""

STYLE = """
:root { --ink: #1b1f24; --soft: #5b6570; --line: #d5dae0; --paper: #fff; --one: #1f6fb2; --two: #d1622b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e9ec; --soft: #9aa4ae; --line: #3a424b; --paper: #15181c; --one: #62aae8; --two: #f0905c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 1000px; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
.row { display: flex; flex-wrap: wrap; gap: 1rem; } figure { margin: 0; } figcaption { color: var(--soft); }
table { border-collapse: collapse; } th, td { padding: .15rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th { font-weight: 600; } td:first-child, th:first-child { text-align: left; } .wide { overflow-x: auto; }
.matrix td, .matrix th { text-align: center; padding: .2rem .45rem; border: 1px solid var(--line); min-width: 1.2rem; }
svg text { fill: var(--soft); font-size: 11px; } .axis { stroke: var(--line); } .one { stroke: var(--one); } .two { stroke: var(--two); }
polyline { fill: none; stroke-width: 2; } circle.one { fill: var(--one); } circle.two { fill: var(--two); }
.key { display: inline-block; width: 1.2em; height: .2em; vertical-align: middle; margin: 0 .4em 0 1em; }
.key:first-child { margin-left: 0; } .texts td:nth-child(2) { text-align: left; } .matrix td.dark { color: #fff; }
.mistake { width: 7.5rem; } .mistake img { width: 100%; image-rendering: pixelated; border: 1px solid var(--line); }
"""


def write_page(
    path: str | os.PathLike[str],
    history: Any,
    model: Any,
    x: Any,
    y: Any,
    classes: Sequence[str] | None,
    title: str,
    mistakes: int,
) -> None:
    """Write the page; see :meth:`History.report`."""
    where = "History.report"
    if not history.epoch and model is None:
        raise OrderError(f"{where}: there are no epochs yet; call fit first")
    if (x is None) != (y is None) or (x is not None and model is None):
        raise ParameterError(f"{where}: mistakes need the model, x and y together")
    parts = [f"<h1>{html.escape(title)}</h1>", _lead(history, model)]
    if history.epoch:
        parts += ["<h2>Curves</h2>", _curves(history), _numbers(history)]
    if x is not None:
        parts += _results(model, x, y, classes, mistakes)
    if model is not None:
        parts += ["<h2>Model</h2>", _model(model, x)]
    parts.append(f"<p><small>Written by minidl {html.escape(minidl.__version__)}.</small></p>")
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{html.escape(title)}</title>'
    )
    page = f'<!doctype html>\n<html lang="en"><head>{head}<style>{STYLE}</style></head>\n<body>\n' + "\n".join(parts)
    write_atomically(path, (page + "\n</body></html>\n").encode())


def _lead(history: Any, model: Any) -> str:
    last = ", ".join(f"{name} {_short(values[-1])}" for name, values in history.history.items())
    told = [f"{len(history.epoch)} epochs. At the end: {last}."] if history.epoch else []
    if model is not None and getattr(model, "optimizer", None) is not None:
        told.append(f"Optimizer {model.optimizer!r}, loss {model.loss!r}.")
    return f"<p>{html.escape(' '.join(told))}</p>"


def _short(value: float) -> str:
    return f"{value:.4g}"


# curves ---------------------------------------------------------------------------------------------------------------


def _curves(history: Any) -> str:
    names = [name for name in history.history if not name.startswith("val_")]
    key = '<p><span class="key" style="background:var(--one)"></span>training'
    if any(f"val_{name}" in history.history for name in names):
        key += '<span class="key" style="background:var(--two)"></span>validation'
    return f'{key}</p><div class="row">{"".join(_curve(history, name) for name in names)}</div>'


def _curve(history: Any, name: str) -> str:
    """Return the picture of one number over the epochs, training and validation together."""
    lines = [("one", history.history[name]), ("two", history.history.get(f"val_{name}", []))]
    finite = [value for _, values in lines for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    if low == high:
        low, high = low - 0.5 * (abs(low) or 1.0), high + 0.5 * (abs(high) or 1.0)
    epochs = [epoch + 1 for epoch in history.epoch]
    first, span = epochs[0], max(epochs[-1] - epochs[0], 1)

    def place(epoch: int, value: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - 10) * (epoch - first) / span
        return across, (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - 10) * (value - low) / (high - low)

    drawn = []
    for value in _ticks(low, high):
        _, height = place(first, value)
        drawn.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - 10}" y1="{height:.1f}" y2="{height:.1f}"/>')
        drawn.append(f'<text x="{LEFT - 6}" y="{height + 4:.1f}" text-anchor="end">{value:.4g}</text>')
    for epoch in sorted({round(first + span * i / 4) for i in range(5)} & set(epochs) | {first, epochs[-1]}):
        drawn.append(f'<text x="{place(epoch, low)[0]:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{epoch}</text>')
    for kind, values in lines:
        drawn += _line(
            kind, [(epoch, value, *place(epoch, value)) for epoch, value in zip(epochs, values, strict=False)]
        )
    label = f"{name} over the epochs"
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="{html.escape(label)}">'
    return f"<figure>{svg}{''.join(drawn)}</svg><figcaption>{html.escape(name)}, by epoch</figcaption></figure>"


def _line(kind: str, points: list[tuple[int, float, float, float]]) -> list[str]:
    """Return a line through the points, with a gap where a number is not finite, and their numbers to hover over."""
    drawn, run = [], []
    for epoch, value, across, height in [*points, (0, math.nan, 0.0, 0.0)]:
        if math.isfinite(value):
            run.append(f"{across:.1f},{height:.1f}")
            told = f"epoch {epoch}: {_short(value)}"
            drawn.append(
                f'<circle class="{kind}" cx="{across:.1f}" cy="{height:.1f}" r="2.5"><title>{told}</title></circle>'
            )
        elif run:
            drawn.append(f'<polyline class="{kind}" points="{" ".join(run)}"/>')
            run = []
    return drawn


def _ticks(low: float, high: float) -> list[float]:
    """Return round numbers between two others, about five.

    >>> _ticks(0.03, 1.9)
    [0.5, 1.0, 1.5]
    """
    rough = (high - low) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough * (1 - 1e-9))
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _numbers(history: Any) -> str:
    """Return the numbers of the first, the best and the last epochs in a table that can be opened."""
    names = list(history.history)
    rows = [
        [str(epoch + 1), *(_short(history.history[name][i]) for name in names)] for i, epoch in enumerate(history.epoch)
    ]
    return f"<details><summary>All numbers</summary>{_table(['epoch', *names], rows)}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    titles = "".join(f"<th>{html.escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><tr>{titles}</tr>{body}</table></div>'


def _model(model: Any, x: Any) -> str:
    if not hasattr(model, "summary"):
        return f"<pre>{html.escape(repr(model))}</pre>"
    table = model.summary(x.shape[1:] if hasattr(x, "shape") else None)
    head = ["layer", "", "output", "parameters", "FLOPs"]
    rows = [
        [
            row.name,
            row.layer,
            "?" if row.output_shape is None else "×".join(map(str, ("N", *row.output_shape))),
            *("?" if count is None else f"{count:,}" for count in (row.parameters, row.flops)),
        ]
        for row in table.rows
    ]
    rest = f"{table.parameters:,} parameters; {table.flops:,} operations for one example."
    return f'<div class="texts">{_table(head, rows)}</div><p>{rest}</p>'


# results --------------------------------------------------------------------------------------------------------------


def _results(model: Any, x: Any, y: Any, classes: Sequence[str] | None, count: int) -> list[str]:
    """Return what the model makes of examples: a confusion matrix and mistakes, or of numbers the largest errors."""
    output, true = numpy.asarray(model.predict(x)), numpy.asarray(y)
    if true.ndim == 2 and true.shape[1] == 1:
        true = true[:, 0]
    if true.dtype.kind in "iub" and true.ndim == 1 and output.ndim == 2:
        return _classified(_scores(model, output), true.astype(int), x, classes, count)
    if output.size == true.size:
        return _regressed(output.reshape(true.shape), true, x, count)
    raise ShapeError(
        f"History.report: expected one class or the outputs' shape for each example, got targets {true.shape} and outputs {output.shape}"
    )


def _scores(model: Any, output: numpy.ndarray) -> numpy.ndarray:
    """Return a score for each class, also where the model has one output for two classes."""
    if output.shape[1] > 1:
        return output
    logits = takes_logits(model.loss) and absorbed_activation(model, model.loss, model._loss_by_name) is None
    middle = 0.0 if logits else 0.5
    return numpy.concatenate([2 * middle - output, output], axis=1)  # (N, 2)


def _classified(
    scores: numpy.ndarray, true: numpy.ndarray, x: Any, classes: Sequence[str] | None, count: int
) -> list[str]:
    names = [str(i) for i in range(scores.shape[1])] if classes is None else list(map(str, classes))
    if len(names) != scores.shape[1]:
        raise ParameterError(
            f"History.report: the model has {scores.shape[1]} classes, but {len(names)} names are given"
        )
    guess = scores.argmax(axis=1)
    counts = metrics.confusion_matrix(true, guess, labels=range(len(names)))  # (K, K)
    right = numpy.trace(counts) / len(true)
    parts = ["<h2>Confusion matrix</h2>", f"<p>Accuracy {right:.2%} on {len(true):,} examples.</p>"]
    parts.append(_matrix(counts, names) if len(names) <= CELLS else _confused(counts, names))
    worst = metrics.worst_mistakes(true, scores, count)
    if len(worst):
        parts.append("<h2>Worst mistakes</h2><p>Those of which the model was most certain, the worst first.</p>")
        parts.append(_shown(x, worst, [f"{names[guess[i]]}, but is {names[true[i]]}" for i in worst]))
    return parts


def _matrix(counts: numpy.ndarray, names: Sequence[str]) -> str:
    shares = counts / numpy.maximum(counts.sum(axis=1, keepdims=True), 1)
    rows = []
    for i, name in enumerate(names):
        cells = "".join(
            f'<td{" class=dark" if share > 0.55 else ""} style="background:rgb(31 111 178 / {share:.2f})" title="{html.escape(name)} as {html.escape(other)}">{n or ""}</td>'
            for n, share, other in zip(counts[i].tolist(), shares[i], names, strict=True)
        )
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    head = "".join(f"<th>{html.escape(name)}</th>" for name in names)
    return f'<div class="wide"><table class="matrix"><tr><th>true \\ predicted</th>{head}</tr>{"".join(rows)}</table></div>'


def _confused(counts: numpy.ndarray, names: Sequence[str]) -> str:
    wrong = counts - numpy.diag(numpy.diag(counts))
    order = numpy.argsort(-wrong, axis=None, kind="stable")[:CELLS]
    pairs = [numpy.unravel_index(i, counts.shape) for i in order]
    rows = [[names[a], names[b], f"{wrong[a, b]:,}"] for a, b in pairs if wrong[a, b]]
    return _table(["true", "predicted", "examples"], rows)


def _regressed(output: numpy.ndarray, true: numpy.ndarray, x: Any, count: int) -> list[str]:
    error = numpy.abs(output - true).reshape(len(true), -1).max(axis=1)  # (N,)
    worst = numpy.argsort(-error, kind="stable")[:count]
    mean = float(numpy.abs(output - true).mean())
    told = [f"{numpy.ravel(output[i])[0]:.4g}, but is {numpy.ravel(true[i])[0]:.4g}" for i in worst]
    lead = f"<p>Mean absolute error {mean:.4g} on {len(true):,} examples.</p>"
    return ["<h2>Largest errors</h2>", lead, _shown(x, worst, told)]


def _shown(x: Any, rows: numpy.ndarray, told: Sequence[str]) -> str:
    """Return examples as pictures if they are images, else as rows of their first numbers."""
    array = numpy.asarray(x) if hasattr(x, "shape") else None
    if array is not None and array.ndim == 4 and array.shape[1] in (1, 3):
        array = array.transpose(0, 2, 3, 1)  # (N, H, W, C)
    elif array is not None and array.ndim == 3:
        array = array[..., None]  # (N, H, W, 1)
    if array is not None and array.ndim == 4 and array.shape[3] in (1, 3):
        figures = [
            f'<figure class="mistake"><img alt="example {i}" src="{_png(array[i])}"><figcaption>{i}: {html.escape(text)}</figcaption></figure>'
            for i, text in zip(rows.tolist(), told, strict=True)
        ]
        return f'<div class="row">{"".join(figures)}</div>'
    if array is None or array.ndim != 2:
        return _table(["example", "predicted"], [[str(i), text] for i, text in zip(rows, told, strict=True)])
    shown = min(array.shape[1], 8)
    head = ["example", "predicted", *(f"x[{i}]" for i in range(shown))]
    body = [[str(i), text, *(_short(float(v)) for v in array[i, :shown])] for i, text in zip(rows, told, strict=True)]
    return _table(head, body)


def _png(image: numpy.ndarray) -> str:
    """Return an image, (H, W, 1) or (H, W, 3), as the address of a PNG picture, scaled from its smallest to its largest number.

    The format: https://www.w3.org/TR/png-3/.
    """
    values = numpy.nan_to_num(numpy.asarray(image, dtype=numpy.float64))
    low, high = values.min(), values.max()
    pixels = ((values - low) * (255 / (high - low) if high > low else 0)).round().astype(numpy.uint8)  # (H, W, C)
    height, width, channels = pixels.shape
    rows = numpy.concatenate([numpy.zeros((height, 1), numpy.uint8), pixels.reshape(height, -1)], axis=1)  # filter 0

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0 if channels == 1 else 2, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows.tobytes(), 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n" + content).decode()
