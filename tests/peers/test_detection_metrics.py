"""Mean average precision against COCO's own tools."""

import contextlib
import io

import numpy
import pytest

from minidl.metrics import mean_average_precision

coco = pytest.importorskip("pycocotools.coco")
evaluation = pytest.importorskip("pycocotools.cocoeval")
pytestmark = pytest.mark.peers

NAMES = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large",
         "mar_1", "mar_10", "mar_100", "mar_small", "mar_medium", "mar_large")  # fmt: skip


def theirs(true, found, crowds=None, areas=None):
    """Return the twelve numbers of COCOeval; boxes there are x, y, w, h."""

    def flat(boxes):
        return numpy.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()

    objects = [
        {"image_id": image + 1, "category_id": int(kind), "bbox": box,
         "area": box[2] * box[3] if areas is None else areas[image][number],
         "iscrowd": 0 if crowds is None else int(crowds[image][number])}
        for image, (boxes, kinds) in enumerate(true)
        for number, (box, kind) in enumerate(zip(flat(boxes), kinds, strict=True))
    ]  # fmt: skip
    objects = [{"id": number, **one} for number, one in enumerate(objects, start=1)]
    detections = [
        {"image_id": image, "category_id": int(kind), "bbox": box, "score": float(score)}
        for image, (boxes, scores, kinds) in enumerate(found, start=1)
        for box, score, kind in zip(flat(boxes), scores, kinds, strict=True)
    ]
    kinds = sorted({one["category_id"] for one in objects})
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(1, len(true) + 1)],
            "annotations": objects,
            "categories": [{"id": kind} for kind in kinds],
        }
        truth.createIndex()
        result = evaluation.COCOeval(truth, truth.loadRes(detections), "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    return [numpy.nan if value == -1 else value for value in result.stats]


def draw(seed, images, most, sizes, ties=False):
    """Draw objects and detections: some near an object with its class, some with another, some anywhere, some twice."""
    random = numpy.random.default_rng(seed)
    true, found = [], []
    for _ in range(images):
        count = int(random.integers(0, most + 1))
        first = random.uniform(0, 300, (count, 2))
        boxes = numpy.concatenate([first, first + random.uniform(*sizes, (count, 2))], axis=1)
        kinds = random.integers(0, 3, count)
        near = boxes.repeat(2, axis=0)
        near = near + random.normal(scale=0.08, size=near.shape) * (near[:, 2:] - near[:, :2]).repeat(2, axis=1)
        guessed = numpy.where(random.random(2 * count) < 0.8, kinds.repeat(2), random.integers(0, 4, 2 * count))
        first = random.uniform(0, 300, (3, 2))
        extra = numpy.concatenate([first, first + random.uniform(*sizes, (3, 2))], axis=1)
        kept = random.random(2 * count) < 0.7
        boxes_found = numpy.concatenate([near[kept], extra])
        scores = random.random(len(boxes_found))
        true.append((boxes, kinds))
        found.append(
            (
                boxes_found,
                scores.round(1) if ties else scores,
                numpy.concatenate([guessed[kept], random.integers(0, 3, 3)]),
            )
        )
    return true, found


@pytest.mark.parametrize(
    ("seed", "images", "most", "sizes", "ties"),
    [(0, 12, 6, (5, 150), False), (1, 12, 6, (5, 150), True), (2, 3, 60, (5, 60), False), (3, 8, 5, (110, 150), False), (4, 5, 3, (4, 20), True)],
)  # fmt: skip
def test_all_twelve_numbers(seed, images, most, sizes, ties):
    true, found = draw(seed, images, most, sizes, ties)
    own = mean_average_precision(true, found)
    numpy.testing.assert_allclose([own[name] for name in NAMES], theirs(true, found), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("seed", "images", "most", "sizes", "ties", "share"),
    [(0, 12, 6, (5, 150), False, 0.2), (1, 12, 6, (5, 150), True, 0.5), (2, 4, 40, (20, 120), False, 0.1), (3, 6, 4, (60, 200), True, 1.0)],
)  # fmt: skip
def test_crowds_and_areas_of_masks(seed, images, most, sizes, ties, share):
    """Some objects are crowds, which many detections lie in, and areas are smaller than the boxes."""
    true, found = draw(seed, images, most, sizes, ties)
    random = numpy.random.default_rng(seed + 100)
    crowds = [random.random(len(boxes)) < share for boxes, _ in true]
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * random.uniform(0.3, 1, len(boxes)) for boxes, _ in true]
    for image, (boxes, kinds) in enumerate(true):
        inside = [(box, kind) for box, kind, crowd in zip(boxes, kinds, crowds[image], strict=True) if crowd]
        for box, kind in inside:
            corners = box[:2] + random.uniform(-0.2, 0.9, (4, 2)) * (box[2:] - box[:2])
            some = numpy.concatenate([corners, corners + random.uniform(4, 60, (4, 2))], axis=1)
            old = found[image]
            found[image] = tuple(
                numpy.concatenate(pair) for pair in zip(old, (some, random.random(4), numpy.full(4, kind)), strict=True)
            )
    own = mean_average_precision(true, found, iscrowd=crowds, area=areas)
    numpy.testing.assert_allclose(
        [own[name] for name in NAMES], theirs(true, found, crowds, areas), rtol=1e-12, atol=1e-14
    )
    assert own["map"] != mean_average_precision(true, found, area=areas)["map"]


def test_objects_that_are_all_found():
    true, _ = draw(5, 6, 4, (20, 200))
    own = mean_average_precision(true, [(boxes, numpy.ones(len(boxes)), kinds) for boxes, kinds in true])
    assert own["map"] == pytest.approx(1.0)
    numpy.testing.assert_allclose(
        [own[name] for name in NAMES], theirs(true, [(b, numpy.ones(len(b)), k) for b, k in true]), rtol=1e-12
    )
