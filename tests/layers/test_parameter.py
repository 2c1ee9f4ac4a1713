"""Parameters and the flat buffer they are views of."""

import copy

import numpy
import pytest

from minidl.errors import DtypeError, ParameterError, ShapeError
from minidl.layers import Parameter, ParameterBuffer, flatten


def two_parameters():
    return Parameter(numpy.arange(6.0).reshape(2, 3), name="weight"), Parameter(numpy.ones(3), name="bias")


def test_flatten_moves_values_in_order_into_one_array():
    weight, bias = two_parameters()
    [buffer] = flatten([weight, bias])
    numpy.testing.assert_array_equal(buffer.values, [0, 1, 2, 3, 4, 5, 1, 1, 1])
    assert numpy.shares_memory(weight.value, buffer.values)
    buffer.values[0] = 7
    assert weight.value[0, 0] == 7


def test_flatten_again_changes_nothing():
    parameters = two_parameters()
    [first] = flatten(parameters)
    [second] = flatten(parameters)
    assert second is first
    assert not first.retired


def test_a_larger_buffer_keeps_values_and_gradients_and_retires_the_old():
    weight, bias = two_parameters()
    [small] = flatten([weight])
    weight.grad += 2.0
    [large] = flatten([bias, weight])
    assert small.retired
    assert not large.retired
    numpy.testing.assert_array_equal(large.gradients(), [0, 0, 0, 2, 2, 2, 2, 2, 2])


def test_each_dtype_gets_its_buffer():
    a, b = Parameter(numpy.ones(2, dtype=numpy.float32)), Parameter(numpy.ones(3))
    assert [buffer.values.dtype for buffer in flatten([a, b])] == [numpy.float32, numpy.float64]


def test_a_shared_parameter_is_stored_once():
    weight, _ = two_parameters()
    [buffer] = flatten([weight, weight])
    assert buffer.values.size == 6


def test_the_initial_value_is_copied():
    start = numpy.ones(3)
    parameter = Parameter(start)
    parameter.value[0] = 5
    assert start[0] == 1


def test_gradient_reads_zero_after_zero_grad_even_if_never_written():
    weight, bias = two_parameters()
    [buffer] = flatten([weight, bias])
    weight.grad[...] = numpy.nan
    buffer.zero_grad()
    numpy.testing.assert_array_equal(weight.grad, numpy.zeros((2, 3)))
    numpy.testing.assert_array_equal(buffer.gradients(), numpy.zeros(9))


def test_accumulate_overwrites_once_then_adds():
    weight, _ = two_parameters()
    weight.grad[...] = numpy.nan
    weight.buffer.zero_grad()
    weight.accumulate(numpy.ones((2, 3)))
    weight.accumulate(numpy.ones((2, 3)))
    numpy.testing.assert_array_equal(weight.grad, numpy.full((2, 3), 2.0))


def test_assigning_copies_into_the_view():
    weight, bias = two_parameters()
    [buffer] = flatten([weight, bias])
    bias.value = [4, 5, 6]
    weight.grad = numpy.full((2, 3), 3.0)
    weight.grad += 1
    numpy.testing.assert_array_equal(buffer.values[6:], [4, 5, 6])
    numpy.testing.assert_array_equal(buffer.gradients()[:6], numpy.full(6, 4.0))


def test_assigning_a_wrong_shape_is_refused():
    _, bias = two_parameters()
    with pytest.raises(ShapeError, match=r"shape \(3,\), got \(2,\)"):
        bias.value = numpy.zeros(2)
    with pytest.raises(ShapeError, match=r"shape \(3,\), got \(2,\)"):
        bias.grad = numpy.zeros(2)


def test_integers_are_no_parameter():
    with pytest.raises(DtypeError, match="int"):
        Parameter(numpy.arange(3), name="weight")


def test_flatten_refuses_what_is_no_parameter():
    with pytest.raises(ParameterError, match="ndarray"):
        flatten([numpy.zeros(3)])


def test_a_buffer_can_change_precision():
    weight, _ = two_parameters()
    ParameterBuffer([weight], dtype="float32")
    assert weight.value.dtype == numpy.float32
    numpy.testing.assert_array_equal(weight.value, numpy.arange(6).reshape(2, 3))


def test_a_deep_copy_is_a_whole_of_its_own():
    model = [*two_parameters()]
    [buffer] = flatten(model)
    model[0].grad[...] = 3
    twin = copy.deepcopy(model)
    twin[0].value[...] = 9
    assert twin[0].buffer is twin[1].buffer is not buffer
    assert numpy.shares_memory(twin[1].value, twin[0].buffer.values)
    assert model[0].value[0, 0] == 0
    numpy.testing.assert_array_equal(twin[0].grad, model[0].grad)


def test_all_gradients_are_promised_at_once_only_while_nobody_has_touched_one():
    weight, bias = two_parameters()
    [buffer] = flatten([weight, bias])
    buffer.zero_grad()
    assert buffer.claim_untouched()
    buffer.gradients()[...] = 7  # the promise kept
    numpy.testing.assert_array_equal(weight.grad, numpy.full((2, 3), 7.0))
    assert bias.grad_storage()[1]  # to be added to
    assert not buffer.claim_untouched()
    for touch in (lambda: weight.grad, lambda: weight.accumulate(1.0), lambda: bias.grad_storage(), buffer.gradients):
        buffer.zero_grad()
        touch()
        assert not buffer.claim_untouched()
    weight.grad = 1.0
    [larger] = flatten([Parameter(numpy.ones(1)), weight, bias])
    assert not larger.claim_untouched()  # it took over gradients that were written
    numpy.testing.assert_array_equal(weight.grad, numpy.ones((2, 3)))


def test_a_copied_buffer_keeps_what_was_promised():
    weight, bias = two_parameters()
    [buffer] = flatten([weight, bias])
    buffer.zero_grad()
    buffer.claim_untouched()
    buffer.gradients()[...] = 7
    twin = copy.deepcopy(buffer)
    numpy.testing.assert_array_equal(twin.gradients(), buffer.gradients())
    assert not twin.claim_untouched()
