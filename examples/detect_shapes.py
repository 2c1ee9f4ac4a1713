"""Train a small DETR from scratch to find shapes in pictures that are drawn here: circles, squares and triangles.

Run:  python examples/detect_shapes.py [--minutes 20] [--seed 0] [--save detr.safetensors]

Prints the loss and the mean average precision on pictures that were not trained on, and ends by itself at the time that is given.
Needs SciPy, for the matching of predictions with objects: pip install minidl[detection]
"""

import argparse
import time

import numpy

import minidl as dl
from minidl.data import make_shapes
from minidl.layers import SetLoss
from minidl.metrics import mean_average_precision
from minidl.models import DETR
from minidl.ops.box_geometry import cxcywh_to_xyxy
from minidl.optim import AdamW

SIZE = 64  # of the pictures, in pixels
BATCH = 32


def make_model(generator):
    """Return a DETR for three classes, whose places are squares of 8 pixels."""
    backbone = {"depths": (1, 2), "channels": (32, 64), "stem": 32, "block": "basic", "norm": "batch"}
    return DETR(
        num_classes=3, num_queries=8, width=64, heads=4, encoder_layers=2, decoder_layers=2, feed_forward=128, dropout=0.0,
        generator=generator, **backbone,
    )  # fmt: skip


def evaluate(model, pictures):
    """Return the mean average precision at an overlap of 0.5, and the mean over 0.5 to 0.95."""
    model.eval()
    found = [
        one
        for start in range(0, len(pictures.images), 100)
        for one in model.detect(pictures.images[start : start + 100])
    ]
    model.train()
    true = [
        (cxcywh_to_xyxy(boxes) * SIZE, classes) for boxes, classes in zip(pictures.boxes, pictures.classes, strict=True)
    ]
    scores = mean_average_precision(true, [(one.boxes * SIZE, one.scores, one.classes) for one in found])
    return scores["map_50"], scores["map"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="how long to train")
    parser.add_argument("--steps", type=int, default=6000, help="the most steps, over which the learning rate falls")
    parser.add_argument("--pictures", type=int, default=8000, help="how many pictures to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--save", help="a safetensors file for the weights")
    options = parser.parse_args()
    train = make_shapes(options.pictures, SIZE, random_state=options.seed)
    test = make_shapes(min(500, options.pictures), SIZE, random_state=options.seed + 10_000)
    generator = numpy.random.default_rng(options.seed)
    model, loss = make_model(generator), SetLoss()
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    begin, total = time.perf_counter(), 0.0
    for step in range(1, options.steps + 1):
        optimizer.lr = 1e-3 * min(step / 200, 1.0) * 0.5 * (1 + numpy.cos(numpy.pi * step / options.steps))
        rows = generator.integers(len(train.images), size=BATCH)
        targets = [(train.classes[row], train.boxes[row]) for row in rows]
        total += float(loss.forward(model.forward(train.images[rows] - 0.5, each_layer=True), targets))
        optimizer.zero_grad()
        model.backward(loss.backward(), input_gradient=False)
        optimizer.clip_grad_norm(0.1)
        optimizer.step()
        seconds = time.perf_counter() - begin
        over = seconds > 60 * options.minutes
        if step % 250 == 0 or over or step == options.steps:
            half, whole = evaluate(model, test._replace(images=test.images - 0.5))
            print(
                f"step {step:5d}  {seconds:5.0f} s  loss {total / (step % 250 or 250):.3f}  mAP 0.5: {half:.3f}  mAP 0.5-0.95: {whole:.3f}",
                flush=True,
            )
            total = 0.0
        if over:
            break
    if options.save:
        model.save(options.save)


if __name__ == "__main__":
    dl.seed(0)
    main()
