"""What no other test of layers noticed when tests/mutation.py left it out."""

import numpy
import pytest

import minidl as dl


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan")])
def test_label_smoothing_out_of_range_is_refused_when_the_loss_is_made(wrong):
    with pytest.raises(dl.errors.ParameterError, match="CrossEntropyLoss: label_smoothing must be from 0 to 1, got"):
        dl.CrossEntropyLoss(label_smoothing=wrong)
    assert dl.CrossEntropyLoss(label_smoothing=1.0).forward(numpy.zeros((1, 2)), numpy.array([0])) > 0


def test_a_layer_may_have_a_base_that_takes_settings_of_the_class():
    class Tagged:
        def __init_subclass__(cls, tag=None, **options):
            super().__init_subclass__(**options)
            cls.tag = tag

    class Own(dl.Layer, Tagged, tag="own"):
        def forward(self, x):
            return x

        def backward(self, dy):
            return dy

    assert Own.tag == "own"
    assert dl.Sequential(Own()).forward(numpy.ones(2)).tolist() == [1, 1]


def test_flops_of_a_dense_layer():
    assert dl.Dense(4).flops((7, 3)) == 7 * 4 * (2 * 3 + 1)
    assert dl.Dense(4, use_bias=False).flops((7, 3)) == 7 * 4 * 2 * 3
    assert dl.Dense(4, activation="relu").flops((3,)) == 4 * (2 * 3 + 1) + dl.ReLU().flops((4,))


def test_a_layer_that_is_not_built_says_whether_it_will_train():
    layer = dl.Dense(2)
    assert layer.trainable
    layer.trainable = False
    assert not layer.trainable
    layer.trainable = True
    assert layer.trainable


def test_sample_weights_of_1_change_nothing_where_no_target_counts():
    """The class that is right weighs nothing, but label smoothing spreads some of it to one that does: nan, and no gradient."""
    logits, target = numpy.array([[1.0, 2.0], [0.0, 3.0]]), numpy.array([0, 0])
    for weights in ((), (numpy.ones(2),)):
        loss = dl.CrossEntropyLoss(weight=numpy.array([0.0, 1.0]), label_smoothing=0.2)
        assert numpy.isnan(loss.forward(logits, target, *weights))
        numpy.testing.assert_array_equal(loss.backward(), 0)


def test_a_shape_with_an_axis_of_0_leaves_nothing_to_fill():
    layer = dl.Reshape(0, -1)
    assert layer.forward(numpy.ones((2, 0), "float32")).shape == (2, 0, 0)
    with pytest.raises(dl.errors.ShapeError, match=r"3 elements cannot be arranged as \(0, -1\)"):
        layer.forward(numpy.ones((2, 3), "float32"))
