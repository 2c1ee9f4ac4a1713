"""Look inside a small convolutional network that has learned to read digits.

    python examples/see_inside.py                 # in text
    python examples/see_inside.py --pictures DIR  # and as PNG files; needs matplotlib

Trains for a few seconds, then takes one test digit and shows which parts of it support the network's answer
(Grad-CAM) and which pixels would change it most (saliency).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy

import minidl as dl
from minidl import inspection

SHADES = " .:-=+*#%@"


def shaded(image: numpy.ndarray) -> list[str]:
    """Return an image as lines of text, dark to bright."""
    levels = (image / max(image.max(), 1e-12) * (len(SHADES) - 1)).round().astype(int)
    return ["".join(SHADES[level] * 2 for level in row) for row in levels]


parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
parser.add_argument("--pictures", type=Path, metavar="DIR")
folder = parser.parse_args().pictures

dl.seed(0)
x, y = dl.data.digits()
x = x.reshape(-1, 1, 8, 8).astype("float32")  # (N, 1, 8, 8)
x_train, x_test, y_train, y_test = dl.data.train_test_split(x, y, test_size=0.2, random_state=0, stratify=y)

model = dl.Sequential(
    {
        "conv1": dl.Conv2d(1, 16, 3, padding=1), "relu1": dl.ReLU(),
        "conv2": dl.Conv2d(16, 32, 3, padding=1), "relu2": dl.ReLU(),
        "conv3": dl.Conv2d(32, 64, 3, padding=1), "relu3": dl.ReLU(),
        "pool": dl.GlobalAvgPool2d(), "fc": dl.Linear(64, 10),
    }
)  # fmt: skip
model.compile(dl.Adam(model.parameters(), lr=4e-3), "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, epochs=15, verbose=0, seed=0)
right = model.evaluate(x_test, y_test, verbose=0, return_dict=True)["accuracy"]
print(f"test accuracy on {len(y_test)} digits: {right:.1%}")

shown = x_test[:8]
answers = model.predict(shown).argmax(axis=1)
cam = inspection.grad_cam(model, shown, "relu3")  # (8, 8, 8): one 8x8 map a digit
slope = inspection.saliency(model, shown)
heads = [f"a {y_test[0]}, read as a {answers[0]}", "supports it", "matters most"]
print("\n" + "  ".join(f" {head:<17}" for head in heads).rstrip())
for row in zip(shaded(shown[0, 0]), shaded(cam[0]), shaded(slope[0]), strict=True):
    print("  ".join(f"|{line}|" for line in row))
maps = inspection.feature_maps(model, shown[:1], "relu1")
print(f"\nits {maps.shape[1]} feature maps after relu1 have means {maps.mean(axis=(0, 2, 3)).min():.2f} "
      f"to {maps.mean(axis=(0, 2, 3)).max():.2f}")  # fmt: skip

if folder is not None:
    folder.mkdir(parents=True, exist_ok=True)
    titles = [f"{digit} ({answer})" for digit, answer in zip(y_test[:8], answers, strict=True)]
    inspection.save_images(folder / "grad_cam.png", shown, over=cam, titles=titles)
    inspection.save_images(folder / "saliency.png", slope, titles=titles)
    inspection.save_images(folder / "feature_maps.png", maps)
    inspection.save_images(folder / "filters.png", inspection.filters(model, "conv1"))
    print(f"pictures are in {folder}")
