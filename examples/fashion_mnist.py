"""Learn to tell clothes apart: a perceptron, LeNet-5 or a small residual network on Fashion-MNIST.

    python examples/fashion_mnist.py mlp
    python examples/fashion_mnist.py lenet
    python examples/fashion_mnist.py resnet

Prints the accuracy on the 10,000 test images after every epoch; docs/images.md has the results of whole runs. The
seed is fixed: the same machine and number of threads give the same results. With ``--pictures FOLDER`` (and the extra
``plot``) it also draws the confusion matrix and the most confident mistakes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy

import minidl as dl
from minidl import models
from minidl.data.augment import Compose, RandomCrop, RandomHorizontalFlip


def perceptron() -> dl.Sequential:
    """784-512-256-10."""
    return dl.Sequential(
        dl.Flatten(),
        dl.Linear(784, 512),
        dl.ReLU(),
        dl.Dropout(0.2),
        dl.Linear(512, 256),
        dl.ReLU(),
        dl.Dropout(0.2),
        dl.Linear(256, 10),
    )


def lenet() -> dl.Sequential:
    """LeNet-5 with ReLU and max pooling."""
    return models.lenet(variant="modern")


def unit(i: int, o: int) -> list[Any]:
    """Convolve and normalise."""
    return [dl.Conv2d(i, o, 3, padding=1, bias=False), dl.BatchNorm2d(o)]


def resnet() -> dl.Sequential:
    """Two stages, 48 and 96 channels on 14 and 7 pixels a side: convolution, max pooling and a residual block."""
    block = [dl.Residual(*unit(c, c), dl.ReLU(), *unit(c, c), dl.ReLU()) for c in (48, 96)]
    return dl.Sequential(
        *unit(1, 32), dl.ReLU(),
        *unit(32, 48), dl.ReLU(), dl.MaxPool2d(2), block[0],
        *unit(48, 96), dl.ReLU(), dl.MaxPool2d(2), block[1],
        dl.GlobalAvgPool2d(), dl.Linear(96, 10),
    )  # fmt: skip


RECIPES = {
    "mlp": (perceptron, {"epochs": 12, "batch_size": 128, "max_lr": 2e-3, "weight_decay": 1e-2}),
    "lenet": (lenet, {"epochs": 15, "batch_size": 128, "max_lr": 4e-3, "weight_decay": 1e-2}),
    "resnet": (resnet, {"epochs": 8, "batch_size": 128, "max_lr": 6e-3, "weight_decay": 5e-2, "augment": True}),
}
CHANGES = Compose(RandomHorizontalFlip(), RandomCrop(28, padding=2))


def train(
    model: Any,
    data: dl.data.ImageData,
    epochs: int,
    batch_size: int,
    max_lr: float,
    weight_decay: float,
    augment: bool = False,
) -> float:
    """Train in one cycle of the learning rate; return the test accuracy."""
    train_x, test_x = data.as_floats()
    random = numpy.random.default_rng(0)
    steps = len(train_x) // batch_size
    loss, optimizer = dl.CrossEntropyLoss(), dl.AdamW(model.parameters(), lr=max_lr, weight_decay=weight_decay)
    schedule = dl.optim.OneCycleLR(optimizer, max_lr, epochs=epochs, steps_per_epoch=steps)
    started, accuracy = time.perf_counter(), 0.0
    for epoch in range(epochs):
        model.train()
        order, total = random.permutation(len(train_x)), 0.0
        for step in range(steps):
            rows = order[step * batch_size : (step + 1) * batch_size]
            x = CHANGES(train_x[rows], random) if augment else train_x[rows]
            total += loss.forward(model.forward(x), data.train_labels[rows])
            model.backward(loss.backward(), input_gradient=False)
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
        accuracy = float(numpy.mean(predict(model, test_x).argmax(axis=1) == data.test_labels))
        print(
            f"epoch {epoch + 1:2}: loss {total / steps:.4f}, test {accuracy:.2%}, {time.perf_counter() - started:.0f} s",
            flush=True,
        )
    return accuracy


def predict(model: Any, x: numpy.ndarray) -> numpy.ndarray:
    """Return each image's logits, a row of ten."""
    model.eval()
    return numpy.concatenate([model.forward(x[i : i + 500]) for i in range(0, len(x), 500)])


def draw(model: Any, data: dl.data.ImageData, folder: Path) -> None:
    """Write pictures of how the model does on the test images."""
    folder.mkdir(parents=True, exist_ok=True)
    probabilities = dl.Softmax().forward(predict(model, data.as_floats()[1]))
    dl.metrics.draw_confusion_matrix(folder / "confusion.png", data.test_labels, probabilities, data.classes)
    dl.metrics.draw_worst_mistakes(
        folder / "mistakes.png", data.test_images, data.test_labels, probabilities, data.classes
    )
    print(f"pictures: {folder / 'confusion.png'}, {folder / 'mistakes.png'}")


def main() -> None:
    """Train the chosen model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=RECIPES)
    parser.add_argument("--data", help="the folder with the four IDX files")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of the result")
    arguments = parser.parse_args()
    dl.seed(0)
    make, recipe = RECIPES[arguments.model]
    model = make()
    print(f"{arguments.model}: {sum(p.size for p in model.parameters()):,} parameters")
    data = dl.data.fashion_mnist(arguments.data)
    accuracy = train(model, data, **{**recipe, "epochs": arguments.epochs or recipe["epochs"]})
    print(f"test accuracy {accuracy:.2%}")
    if arguments.pictures:
        draw(model, data, arguments.pictures)


if __name__ == "__main__":
    main()
