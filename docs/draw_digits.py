"""Draw the picture at the top of the README: what a small network learns about handwritten digits.

    python docs/draw_digits.py                    # writes docs/pictures/digits.png; needs matplotlib
    python docs/draw_digits.py --output FILE

The network passes each image through two numbers before it names the digit, so what it has learnt can be drawn on a
plane. All images shown were held out of training.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path
from typing import Any

import numpy
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure, SubFigure
from PIL import Image

import minidl as dl

PICTURE = Path(__file__).parent / "pictures" / "digits.png"
COLORS = ["#4e79a7", "#f28e2b", "#59a14f", "#d1494c", "#3d9d9a", "#a8891f", "#a05195", "#e5738a", "#8c5a3c", "#666666"]
HEAT = LinearSegmentedColormap.from_list("heat", ["#ff7f0e00", "#ff7f0ed8"])
EPOCHS = 60


def make_model() -> dl.Sequential:
    """Return two convolutions, the plane, and a head that draws curved borders on it."""
    return dl.Sequential(
        {
            "conv1": dl.Conv2d(1, 16, 3, padding=1), "relu1": dl.ReLU(),
            "conv2": dl.Conv2d(16, 32, 3, padding=1), "relu2": dl.ReLU(),
            "pool": dl.MaxPool2d(2), "flatten": dl.Flatten(),
            "fc1": dl.Linear(32 * 4 * 4, 64), "relu3": dl.ReLU(),
            "fc2": dl.Linear(64, 2), "plane": dl.BatchNorm1d(2),
            "fc3": dl.Linear(2, 32), "tanh": dl.Tanh(), "fc4": dl.Linear(32, 10),
        }
    )  # fmt: skip


def train() -> tuple[dl.Sequential, dict[str, list[float]], numpy.ndarray, numpy.ndarray]:
    """Return the trained network, its history, and the test images and labels."""
    dl.seed(0)
    x, y = dl.data.digits()
    x = x.reshape(-1, 1, 8, 8).astype("float32")  # (N, 1, 8, 8)
    x_train, x_test, y_train, y_test = dl.data.train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)
    model = make_model()
    optimizer = dl.AdamW(model.parameters(), lr=1e-3)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    schedule = dl.training.LearningRateScheduler(dl.optim.CosineAnnealingLR(optimizer, EPOCHS))
    data = {"validation_data": (x_test, y_test), "callbacks": [schedule]}
    history = model.fit(x_train, y_train, 32, EPOCHS, verbose=0, seed=0, **data)
    return model, history.history, x_test, y_test


def draw_training(figure: SubFigure, history: dict[str, list[float]]) -> None:
    """Plot loss and accuracy, of training and test images."""
    panels = figure.subplots(2, sharex=True)
    epochs = numpy.arange(1, EPOCHS + 1)
    for panel, name, color in zip(panels, ("loss", "accuracy"), ("#d1494c", "#4e79a7"), strict=True):
        panel.plot(epochs, history[name], color=color, linewidth=1, linestyle="--", label="training")
        panel.plot(epochs, history[f"val_{name}"], color=color, linewidth=2, label="test")
        panel.set(ylabel=name, xlim=(1, EPOCHS), ylim=(0, None))
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False)
    panels[1].yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    panels[1].set(xlabel="epoch", ylim=(0, 1.05))
    panels[0].set_title(f"it learns: {history['val_accuracy'][-1]:.1%} test accuracy", fontsize=11)


def draw_plane(figure: SubFigure, model: Any, x_test: numpy.ndarray, y_test: numpy.ndarray) -> None:
    """Draw the plane: the answer that each point gets as its colour, and on it the test images by their true digit."""
    places = dl.inspection.feature_maps(model, x_test, "plane")  # (N, 2)
    edge, size = 1.08 * float(numpy.abs(places).max()), 480
    steps = numpy.linspace(-edge, edge, size, dtype="float32")
    points = numpy.stack(numpy.meshgrid(steps, steps), axis=-1).reshape(-1, 2)  # (size * size, 2)
    for name in ("fc3", "tanh", "fc4"):
        points = model[name].forward(points)
    pale = numpy.array([to_rgb(color) for color in COLORS]) * 0.4 + 0.6
    panel = figure.subplots()
    answers = pale[points.argmax(axis=1).reshape(size, size)]
    panel.imshow(answers, extent=(-edge, edge, -edge, edge), origin="lower", interpolation="nearest")
    for (across, up), digit in zip(places, y_test, strict=True):
        dark = 0.75 * numpy.array(to_rgb(COLORS[digit]))
        panel.text(across, up, str(digit), color=dark, ha="center", va="center", fontsize=7.5, weight="bold")
    panel.set(xticks=[], yticks=[])
    panel.set_title("two numbers per image tell ten digits apart", fontsize=11)


def draw_evidence(figure: SubFigure, model: Any, x_test: numpy.ndarray, y_test: numpy.ndarray) -> None:
    """Show a right answer for each digit and two mistakes; orange marks the pixels that the answer depends on most."""
    answers = model.predict(x_test).argmax(axis=1)
    wrong = numpy.flatnonzero(answers != y_test)[1:3]
    right = [numpy.flatnonzero((answers == y_test) & (y_test == digit))[1] for digit in range(10)]
    shown = numpy.array([*right, *wrong])
    slopes = dl.inspection.saliency(model, x_test[shown])  # (N, H, W)
    panels = figure.subplots(3, 4)
    for panel, index, slope in zip(panels.flat, shown, slopes, strict=True):
        panel.imshow(x_test[index, 0], cmap="Greys", interpolation="bicubic", vmax=1.3)
        panel.imshow(slope, cmap=HEAT, interpolation="bicubic")
        panel.set_axis_off()
        mistaken = answers[index] != y_test[index]
        title = f"{answers[index]}, truth {y_test[index]}" if mistaken else str(answers[index])
        panel.set_title(title, fontsize=10, color="#d1494c" if mistaken else "#333333", pad=3)
    figure.suptitle("its answers, and the pixels behind them", fontsize=11)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG with a palette, a third of the size of one without."""
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=130)
    picture = Image.open(buffer).convert("RGB")
    picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(path, optimize=True)


def main() -> None:
    """Train, draw and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=PICTURE)
    path = parser.parse_args().output
    model, history, x_test, y_test = train()
    figure = Figure(figsize=(12, 4), layout="constrained")
    left, middle, right = figure.subfigures(1, 3, width_ratios=[1, 1.05, 1])
    draw_training(left, history)
    draw_plane(middle, model, x_test, y_test)
    draw_evidence(right, model, x_test, y_test)
    save(figure, path)
    print(f"{history['val_accuracy'][-1]:.1%} of {len(y_test)} test images; {path}, {path.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main()
