"""What the rungs of the GPU proof that need no GPU share."""

import building
import pytest


@pytest.fixture(scope="session")
def cpp():
    """Skip, with the reason, where CUDA C cannot be emulated."""
    if building.compiler() is None:
        pytest.skip("CUDA C is emulated with GCC on Linux, on x86-64 or 64-bit ARM")
