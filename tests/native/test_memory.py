"""Where the native engine's arrays lie."""

import numpy
import pytest

from minidl import engines

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

LINE = 64
"""Bytes of a line of the cache, which the vectors of AVX-512 fill."""
KEPT = 32768
"""Bytes from which on blocks are kept for reuse; smaller ones come from malloc as it gives them."""


@pytest.mark.parametrize("size", [16, 1_000, 50_000, 300_000, 1 << 20, 3_000_001])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_results_begin_with_a_line_of_the_cache(size, dtype):
    """Of every size: below what is kept for reuse, new, used again, and large enough for large pages."""
    native = engines.get("native")
    x = numpy.ones(size, dtype)
    for _ in range(3):
        y, _ = native.relu(x)
        assert y.flags.aligned
        if y.nbytes >= KEPT:
            assert y.ctypes.data % LINE == 0
        del y
