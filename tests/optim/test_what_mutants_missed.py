"""What no other test of optimisers and schedules noticed when tests/mutation.py changed it."""

import numpy
import pytest

from minidl.errors import ParameterError
from minidl.layers import Parameter
from minidl.optim import SGD, OneCycleLR


@pytest.mark.parametrize("name", ["div_factor", "final_div_factor"])
def test_one_cycle_divides_by_no_zero(name):
    optimizer = SGD([Parameter(numpy.zeros(1))], lr=0.1)
    with pytest.raises(ParameterError, match="div_factor and final_div_factor must be positive"):
        OneCycleLR(optimizer, 0.1, total_steps=5, **{name: 0.0})
