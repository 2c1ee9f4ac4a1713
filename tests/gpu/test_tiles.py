"""The products of tiles that attention is made of, by themselves, with float16 on the stand-in for tensor cores."""

import emulation
import numpy
import pytest
from emulation import EmulationError, Library
from entries_attention import ATTENTION
from family import disagreements

from minidl.engines.cuda import source

pytestmark = [pytest.mark.gpu_emulate, pytest.mark.usefixtures("cpp")]

# c = x y^T over all features, then d = c^T z, with c as the cells of the next product.
BODY = """
struct Room {
    __align__(16) cell panels[PANELS];
    __align__(16) cell weights[SIDE * PITCH];
};
extern "C" __global__ void products(const stored *x, const stored *y, const stored *z, real *c, real *d, int rows, int features) {
    __shared__ Room room;
    Tile tile, sums[1];
    multiply_rows(tile, room.panels, Rows{x, rows, features}, 0, Rows{y, rows, features}, 0);
    clear(sums[0]);
    for (int i = 0; i < EACH; i++) {
        c[at(i).row * SIDE + at(i).column] = tile.of[i];
        room.weights[at(i).row * PITCH + at(i).column] = to_cell(tile.of[i]);
    }
    multiply_panel(sums, room.weights, room.panels, Rows{z, rows, SIDE}, 0);
    for (int i = 0; i < EACH; i++) d[at(i).row * SIDE + at(i).column] = sums[0].of[i];
}
"""


@pytest.mark.parametrize("flavour", ["plain", "checked"])
@pytest.mark.parametrize(("rows", "features"), [(64, 64), (61, 40), (3, 5), (64, 1)])
@pytest.mark.parametrize("dtype", source.DTYPES)
def test_products(dtype, rows, features, flavour):
    side = 32 if dtype == "float64" else 64
    rows = min(rows, side)
    generator = numpy.random.default_rng(0)
    x, y = (generator.integers(-3, 4, (rows, features)).astype(dtype) for _ in range(2))  # so that all sums are exact
    z = generator.integers(-1, 2, (rows, side)).astype(dtype)
    real = "float64" if dtype == "float64" else "float32"
    c, d = numpy.full((side, side), numpy.nan, real), numpy.full((side, side), numpy.nan, real)
    library = Library(source.read("attention/tiles.cuh") + BODY, dtype, flavour)
    for schedule in emulation.SCHEDULES.values():
        arguments = [x, y, z, c, d, numpy.int32(rows), numpy.int32(features)]
        library.run("products", (1,), (256,), arguments, schedule=schedule)
        wide = numpy.zeros((3, side, max(side, features)))
        wide[0, :rows, :features], wide[1, :rows, :features], wide[2, :rows, :side] = x, y, z
        numpy.testing.assert_array_equal(c, wide[0] @ wide[1].T)
        numpy.testing.assert_array_equal(d, (wide[0] @ wide[1].T).T @ wide[2, :, :side])


PLANTED = {
    "rows of a panel that are not aligned": [("enum { PITCH = SIDE + 16 / sizeof(cell),", "enum { PITCH = SIDE + 4,")],
    "rows of features that are not aligned": [("ROW_PITCH = DEPTH + 16 / sizeof(cell)", "ROW_PITCH = DEPTH + 2")],
    "the halves of k exchanged": [
        (
            "const Four left = load(a + k);",
            "Four left = load(a + k); left = {left.of[2], left.of[3], left.of[0], left.of[1]};",
        )
    ],
    "a matrix that is not turned": [
        ("const Four left = load_turned(a + k * PITCH);", "const Four left = load(a + k * PITCH);")
    ],
    "a warp with the rows of another": [("Place{16 * (warp % 4) + lane / 4", "Place{16 * (warp / 2) + lane / 4")],
    "no barrier before features are read": [
        (
            "        stage(second, y, first_of_y, feature);\n        __syncthreads();",
            "        stage(second, y, first_of_y, feature);",
        )
    ],
}


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught_in_float16(bug):
    """tests/gpu/test_emulation.py plants its bugs in float32, which has no tensor cores."""
    caught = ""
    with emulation.emulating("checked", changes={ATTENTION.file: (*ATTENTION.kernels, *PLANTED[bug])}):
        try:
            caught = "".join(disagreements(ATTENTION, "float16", few=True))
        except EmulationError as error:
            caught = str(error)
    assert caught
