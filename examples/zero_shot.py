"""Train a small CLIP on pictures of two shapes in two places, and ask it for classes that it was only given as texts.

    python examples/zero_shot.py

The texts are ids of words. The four captions name a shape and a place. Afterwards, "a cross" and "a bar" are classes of which
each is described by two captions, whose features are averaged.
"""

import numpy

import minidl as dl
from minidl.models import CLIP, ContrastiveLoss, classify_zero_shot
from minidl.models.clip import Tower

END = 7
CAPTIONS = {
    ("bar", "left"): [1, 3, END],
    ("bar", "right"): [1, 4, END],
    ("cross", "left"): [2, 3, END],
    ("cross", "right"): [2, 4, END],
}


def draw(shape: str, place: str, random: numpy.random.Generator) -> numpy.ndarray:
    """Return a picture, (1, 8, 8)."""
    picture = 0.2 * random.standard_normal((1, 8, 8))
    part = picture[0, 2:5, :4] if place == "left" else picture[0, 2:5, 4:]
    part[1, :3] += 1.5
    if shape == "cross":
        part[:, 1] += 1.5
    return picture


dl.seed(0)
random = numpy.random.default_rng(0)
tower = Tower(layers=1, heads=2, width=16, hidden=32)
model = CLIP(vision=tower, text=tower, image_size=8, patch_size=4, channels=1, vocab_size=8, context=4, end=END, projection=8,
             logit_scale=1.5)  # fmt: skip
for parameter in model.parameters():
    if len(parameter.shape) > 1:
        parameter.value *= 10  # for so small a model the usual initial weights are too small
loss, optimizer = ContrastiveLoss(), dl.Adam(model.parameters(), lr=0.005)
texts = numpy.array(list(CAPTIONS.values()))
for step in range(300):
    images = numpy.stack([draw(*kind, random) for kind in CAPTIONS]).astype("float32")
    value = loss.forward(model.forward(images, texts))
    model.backward(loss.backward(), input_gradient=False)
    optimizer.step()
    optimizer.zero_grad()
    if step % 100 == 0:
        print(f"step {step:3}: loss {value:.3f}")
print(f"step 299: loss {value:.3f}")

kinds = [list(CAPTIONS)[i] for i in random.integers(0, 4, 100)]
images = numpy.stack([draw(*kind, random) for kind in kinds]).astype("float32")
prompts = numpy.array(
    [[CAPTIONS[shape, place] for place in ("left", "right")] for shape in ("bar", "cross")]
)  # (K, P, T)
found = classify_zero_shot(model, images, prompts).argmax(axis=1)
right = numpy.mean(found == [["bar", "cross"].index(shape) for shape, _ in kinds])
print(f"bars and crosses told apart: {right:.0%}")
