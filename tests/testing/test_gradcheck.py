"""gradcheck on things that are right, wrong, awkward, random and impossible."""

import numpy
import pytest

import minidl as dl
from minidl.errors import DtypeError, GradcheckError, ParameterError, ShapeError, UnknownNameError

RNG = numpy.random.default_rng(0)
X = RNG.standard_normal((3, 4))
W = RNG.standard_normal((4, 2))


def product(a, b):
    return a @ b, (a, b)


def product_backward(dy, cache):
    a, b = cache
    return dy @ b.T, a.T @ dy


def cube(x):
    return x**3, x


def cube_backward(dy, x):
    return 3 * x**2 * dy


class Scale:
    """A user's layer: no base class, plain arrays."""

    class Weight:
        def __init__(self, value):
            self.name, self.value, self.grad = "gain", value, numpy.zeros_like(value)

    def __init__(self, size=4, dtype="float64"):
        self.gain = self.Weight(numpy.linspace(0.5, 2, size, dtype=dtype))

    def parameters(self):
        return [self.gain]

    def forward(self, x):
        self.x = x
        return x * self.gain.value

    def backward(self, dy):
        self.gain.grad += (dy * self.x).sum(axis=0)
        return dy * self.gain.value


# what can be checked ------------------------------------------------------------------------------------------------


def test_a_pair_of_functions():
    report = dl.gradcheck((product, product_backward), X, W)
    assert report.ok
    assert [row.argument for row in report.table] == ["a", "b"]
    assert report.max_error < 1e-9
    assert all(row.method == "full, differences" for row in report.table)


def test_a_function_with_its_backward_beside_it():
    assert dl.gradcheck(cube, X).table[0].op == "cube"


@pytest.mark.parametrize("subject", ["softmax", dl.ops.softmax, dl.ops.FORMULAS["softmax"]])
def test_an_op_by_name_and_as_a_function(subject):
    assert dl.gradcheck(subject, X, options={"axis": 0}).ok


def test_arguments_without_a_gradient_are_known_for_our_ops():
    report = dl.gradcheck("mse_loss", X, X[::-1].copy())
    assert [row.argument for row in report.table] == ["prediction"]
    assert dl.gradcheck("dropout", X, 0.5, X > 0).ok


def test_arguments_without_a_gradient_can_be_named():
    pair = (lambda x, target: ((x - target) ** 2, (x, target)), lambda dy, cache: 2 * dy * (cache[0] - cache[1]))
    assert dl.gradcheck(pair, X, X[::-1].copy(), differentiable=["x"]).ok
    assert dl.gradcheck(pair, X, X[::-1].copy(), differentiable=[0]).ok
    with pytest.raises(ShapeError, match="returned 1 gradients, but there are 2 floating-point inputs"):
        dl.gradcheck(pair, X, X[::-1].copy())
    with pytest.raises(ParameterError, match="no floating-point input 'y'; it has x, target"):
        dl.gradcheck(pair, X, X, differentiable=["y"])


def test_integers_are_passed_on():
    pair = (lambda table, index: (table[index], (table.shape, index)), lambda dy, cache: scattered(dy, *cache))

    def scattered(dy, shape, index):
        dtable = numpy.zeros(shape)
        numpy.add.at(dtable, index, dy)
        return dtable

    assert dl.gradcheck(pair, X, numpy.array([2, 0, 2, 1])).ok


def test_several_outputs():
    def both(x):
        return (numpy.sin(x), x.sum(axis=0)), x

    def both_backward(dy, x):
        return dy[0] * numpy.cos(x) + dy[1]

    assert dl.gradcheck((both, both_backward), X).ok
    wrong = (both, lambda dy, x: dy[0] * numpy.cos(x) - dy[1])
    assert not dl.gradcheck(wrong, X, raise_exception=False).ok


def test_a_layer_and_its_parameters():
    report = dl.gradcheck(dl.Linear(4, 2), X.astype("float32"))
    assert [row.argument for row in report.table] == ["x", "weight", "bias"]
    assert {row.dtype for row in report.table} == {"float64"}
    assert report.max_error < 1e-9


def test_a_layer_of_ones_own():
    report = dl.gradcheck(Scale(), X)
    assert report.ok
    assert [row.argument for row in report.table] == ["x", "gain"]


def test_a_whole_model_with_lazy_and_random_layers():
    model = dl.Sequential([dl.Dense(6, activation="tanh"), Scale(6), dl.Dropout(0.4), dl.Dense(2)])
    x = X.astype("float32")
    with pytest.raises(ParameterError):  # the container wants minidl's own Parameters
        dl.gradcheck(model, x)
    model = dl.Sequential([dl.Dense(6, activation="tanh"), dl.Dropout(0.4), dl.Dense(2)])
    report = dl.gradcheck(model, x)
    assert [row.argument for row in report.table] == ["x", "0.weight", "0.bias", "2.weight", "2.bias"]
    assert not model.built, "the check works on a copy"


def test_shared_parameters_are_one_argument():
    first, second = dl.Linear(4, 4), dl.Linear(4, 4)
    second.weight, second.bias = first.weight, first.bias
    report = dl.gradcheck(dl.Sequential([first, dl.Tanh(), second]), X)
    assert [row.argument for row in report.table] == ["x", "0.weight", "0.bias"]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss(reduction):
    report = dl.gradcheck(dl.CrossEntropyLoss(reduction=reduction), X, numpy.array([0, 3, 1]))
    assert [row.argument for row in report.table] == ["prediction"]


def test_a_loss_of_ones_own():
    class Squares:
        def forward(self, prediction, target):
            self.difference = prediction - target
            return float((self.difference**2).sum())

        def backward(self):
            return 2 * self.difference

    assert dl.gradcheck(Squares(), X, X[::-1].copy()).ok
    Squares.backward = lambda self: self.difference
    with pytest.raises(GradcheckError, match=r"0\.5 times what it should be"):
        dl.gradcheck(Squares(), X, X[::-1].copy())


def test_large_inputs_are_checked_along_directions():
    a, b = RNG.standard_normal((30, 40)), RNG.standard_normal((40, 50))
    report = dl.gradcheck((product, product_backward), a, b)
    assert {row.method for row in report.table} == {"directional, differences"}


def test_float32_inputs_are_checked_in_float64():
    assert dl.gradcheck((product, product_backward), X.astype("float32"), W.astype("float32")).max_error < 1e-9


def test_empty_and_scalar_inputs():
    assert dl.gradcheck((cube, cube_backward), numpy.zeros((0, 3))).ok
    assert dl.gradcheck((cube, cube_backward), numpy.array(2.0)).ok


def test_complex_step():
    report = dl.gradcheck("gelu", X, method="complex")
    assert report.max_error < 1e-14
    assert report.table[0].method == "full, complex step"


def test_the_step_can_be_given():
    coarse = dl.gradcheck("tanh", X, eps=0.1, raise_exception=False)
    assert not coarse.ok, "a step of a tenth is too long for the usual tolerance"
    assert dl.gradcheck("tanh", X, eps=0.1, tolerance=1e-2).ok or "kink" in coarse.problems[0]
    assert dl.gradcheck("tanh", X, eps=1e-3).ok


# what is wrong ------------------------------------------------------------------------------------------------------


def test_the_error_names_argument_index_values_and_error():
    def off(dy, cache):
        da, db = product_backward(dy, cache)
        db[2, 1] *= 1.01
        return da, db

    with pytest.raises(GradcheckError) as caught:
        dl.gradcheck((product, off), X, W)
    message, report = str(caught.value), caught.value.report
    wrong = report.table[1]
    assert (wrong.argument, wrong.index) == ("b", (2, 1))
    assert wrong.analytic / wrong.numeric == pytest.approx(1.01)
    assert wrong.error == pytest.approx(0.01 / 1.01)
    for part in ("product", "'b'", "(2, 1)", f"analytic {wrong.analytic:.10g}", "numeric", "relative error 9.90e-03"):
        assert part in message
    assert report.table[0].ok, "the other argument is right, and the report says so"


def test_a_wrong_element_of_a_large_array_is_found():
    def off(dy, cache):
        da, db = product_backward(dy, cache)
        db[17, 33] *= 1.0001
        return da, db

    a, b = RNG.standard_normal((30, 40)), RNG.standard_normal((40, 50))
    report = dl.gradcheck((product, off), a, b, raise_exception=False)
    assert report.table[1].index == (17, 33)
    assert report.table[1].error == pytest.approx(1e-4, rel=0.01)


@pytest.mark.parametrize(
    ("backward", "hint"),
    [
        (lambda dy, x: -3 * x**2 * dy, "sign is wrong"),
        (lambda dy, x: 3 * x**2 * dy / 12, r"0\.0833333 times what it should be"),
        (lambda dy, x: 3 * x**2, "upstream gradient is not used"),
        (lambda dy, x: 3 * x**2 * abs(dy), "not linear in dy"),
        (lambda dy, x: 0 * x, "zero everywhere"),
        (lambda dy, x: 3 * x**2 * dy * numpy.nan, "not finite"),
        (lambda dy, x: (3 * x**2 + x) * dy, "a term is missing or wrong"),
    ],
)
def test_the_usual_suspects_are_named(backward, hint):
    with pytest.raises(GradcheckError, match=hint):
        dl.gradcheck((cube, backward), X)


def test_a_transposed_gradient_is_named():
    w = RNG.standard_normal((4, 4))
    pair = (product, lambda dy, cache: (dy @ cache[1].T, (cache[0].T @ dy).T))
    with pytest.raises(GradcheckError, match="transpose of what it should be"):
        dl.gradcheck(pair, X, w)


def test_an_argument_that_has_no_influence():
    pair = (lambda x, w: (x * 2.0, None), lambda dy, cache: (2 * dy, numpy.ones((4, 2))))
    with pytest.raises(GradcheckError, match="does not depend on this argument, but its gradient is not zero"):
        dl.gradcheck(pair, X, W)


def changes(name):
    def forward(x):
        if name == "x":
            x *= 2
        return x**3, (x,)

    def backward(dy, cache):
        (x,) = cache
        gradient = 3 * x**2 * dy
        if name == "dy":
            dy += 1
        if name == "cache":
            x += 1
        return gradient

    return forward, backward


@pytest.mark.parametrize(
    ("name", "message"), [("x", "forward changes it"), ("dy", "backward changes it"), ("cache", "")]
)
def test_mutation_is_seen(name, message):
    report = dl.gradcheck(changes(name), X, raise_exception=False)
    assert not report.ok
    assert any(name in row.argument and message in row.problem for row in report.table)


def test_shape_and_dtype_of_the_gradient():
    with pytest.raises(GradcheckError, match=r"gradient has shape \(4,\), the argument \(3, 4\)"):
        dl.gradcheck((cube, lambda dy, x: cube_backward(dy, x).sum(axis=0)), X)
    with pytest.raises(GradcheckError, match="gradient has dtype float32, the argument float64"):
        dl.gradcheck((cube, lambda dy, x: cube_backward(dy, x).astype("float32")), X)


def test_a_backward_that_forgets():
    class Once:
        def forward(self, x):
            self.slope = 2 * x
            return x * x

        def backward(self, dy):
            slope, self.slope = self.slope, 0 * self.slope
            return slope * dy

    with pytest.raises(GradcheckError, match="second call of backward"):
        dl.gradcheck(Once(), X)


def test_overwriting_a_parameters_gradient_is_an_error_or_a_note():
    class Overwriting(dl.Linear):
        def backward(self, dy, input_gradient=True):
            self.zero_grad()
            return super().backward(dy, input_gradient)

    with pytest.raises(GradcheckError, match="does not add the same gradient again"):
        dl.gradcheck(Overwriting(4, 2), X)

    class OwnOverwriting(Scale):
        def backward(self, dy):
            self.gain.grad = (dy * self.x).sum(axis=0)
            return dy * self.gain.value

    report = dl.gradcheck(OwnOverwriting(), X)
    assert "overwrites the gradient of gain" in report.notes[0]


# awkward ------------------------------------------------------------------------------------------------------------


def test_kinks_are_moved_off():
    report = dl.gradcheck("relu", numpy.zeros((3, 4)))
    assert report.ok


def test_a_kink_that_is_everywhere_is_reported():
    pair = (lambda x: (numpy.floor(1000.3 * x) / 1000, None), lambda dy, cache: dy)
    with pytest.raises(GradcheckError, match="kink or a jump"):
        dl.gradcheck(pair, X)


def test_precision_lost_inside_is_reported():
    pair = (lambda x: ((x.astype("float32") ** 3).astype("float64"), x), cube_backward)
    with pytest.raises(GradcheckError, match="lower precision"):
        dl.gradcheck(pair, X)


def test_float32_whatever_is_given_falls_back_and_says_so():
    pair = (lambda x: (x.astype("float32") ** 3, x), lambda dy, x: (3 * x**2 * dy).astype(x.dtype))
    report = dl.gradcheck(pair, X)
    assert {row.dtype for row in report.table} == {"float32"}
    assert report.table[0].tolerance > 1e-4
    assert "computes in float32 even when given float64" in report.notes[0]
    wrong = (pair[0], lambda dy, x: (3.02 * x**2 * dy).astype(x.dtype))
    assert not dl.gradcheck(wrong, X, raise_exception=False).ok


def test_parameters_that_are_made_on_demand_fall_back():
    class OnDemand:
        def __init__(self):
            self.gain, self.dgain = numpy.ones(4, "float32"), numpy.zeros(4, "float32")

        def parameters(self):
            weight = Scale.Weight(self.gain)
            weight.grad = self.dgain
            return [weight]

        forward = lambda self, x: setattr(self, "x", x) or x * self.gain  # noqa: E731

        def backward(self, dy):
            self.dgain += (dy * self.x).sum(axis=0)
            return dy * self.gain

    report = dl.gradcheck(OnDemand(), X.astype("float32"))
    assert {row.dtype for row in report.table} == {"float32"}
    assert report.notes


def test_a_layer_that_does_not_list_its_parameters_is_told():
    class Unlisted:
        def __init__(self):
            self.gain = numpy.ones(4)

        def forward(self, x):
            return x * self.gain

        def backward(self, dy):
            return dy * self.gain

    assert r"has arrays (gain) but no parameters()" in dl.gradcheck(Unlisted(), X).notes[0]
    assert not dl.gradcheck(dl.GELU(), X).notes


def test_float32_parameters_of_ones_own_are_checked_in_float64():
    layer = Scale(dtype="float32")
    report = dl.gradcheck(layer, X.astype("float32"))
    assert report.max_error < 1e-9
    assert layer.gain.value.dtype == numpy.float32


def test_steep_and_flat_functions():
    """The step follows the scale of the input, not the other way round."""
    for scale in (1e-8, 1e-3, 1.0, 1e6):
        assert dl.gradcheck((cube, cube_backward), X * scale).ok
    steep = (lambda x: (numpy.sin(300 * x), x), lambda dy, x: 300 * numpy.cos(300 * x) * dy)
    assert dl.gradcheck(steep, X).ok
    offset = (lambda x: (1e3 + x**3, x), cube_backward)
    assert dl.gradcheck(offset, X).ok


def test_a_large_relu_network_whose_kinks_are_everywhere():
    model = dl.Sequential([dl.Linear(100, 200), dl.ReLU(), dl.Linear(200, 100), dl.ReLU(), dl.Linear(100, 5)])
    assert dl.gradcheck(model, RNG.standard_normal((32, 100)).astype("float32")).ok


# chance -------------------------------------------------------------------------------------------------------------


def test_dropout_is_made_to_repeat_itself():
    for layer in (dl.Dropout(0.5), dl.Dropout(0.5, generator=numpy.random.default_rng(3))):
        assert dl.gradcheck(layer, X).ok


def test_chance_is_left_as_it_was():
    generator = numpy.random.default_rng(3)
    layer = dl.Dropout(0.5, generator=generator)
    dl.seed(5)
    before = generator.bit_generator.state, dl.random.generator().bit_generator.state
    dl.gradcheck(layer, X)
    assert (generator.bit_generator.state, dl.random.generator().bit_generator.state) == before


def test_chance_from_nowhere_is_reported():
    class Noise:
        def forward(self, x):
            return x + numpy.random.default_rng().standard_normal(x.shape)

        def backward(self, dy):
            return dy

    with pytest.raises(GradcheckError, match="two calls of forward with the same inputs differ"):
        dl.gradcheck(Noise(), X)


# the layer stays as it is -------------------------------------------------------------------------------------------


def test_the_layer_is_left_as_it_was():
    layer = dl.Linear(4, 2)
    optimizer = dl.SGD(layer.parameters(), lr=0.1)
    layer.forward(X.astype("float32"))
    layer.backward(numpy.ones((3, 2), "float32"))
    weight, grad, cache = layer.weight.value.copy(), layer.weight.grad.copy(), layer._cache
    dl.gradcheck(layer, X.astype("float32"))
    assert layer.weight.value.dtype == numpy.float32
    assert numpy.array_equal(layer.weight.value, weight)
    assert numpy.array_equal(layer.weight.grad, grad)
    assert layer._cache is cache
    optimizer.step()  # still the same buffer
    assert not numpy.array_equal(layer.weight.value, weight)


def test_inputs_are_left_as_they_were():
    x = X.copy()
    dl.gradcheck(changes("x"), x, raise_exception=False)
    assert numpy.array_equal(x, X)


def test_same_seed_same_report():
    assert dl.gradcheck("tanh", X, seed=3) == dl.gradcheck("tanh", X, seed=3)
    assert dl.gradcheck("tanh", X, seed=3) != dl.gradcheck("tanh", X, seed=4)


# bad calls ----------------------------------------------------------------------------------------------------------


def unpaired(x):
    return x, ()


@pytest.mark.parametrize(
    ("subject", "arrays", "error", "message"),
    [
        ("rellu", (X,), UnknownNameError, "unknown op 'rellu'; known: .*relu"),
        ("sgd_update", (X,), UnknownNameError, "unknown op"),
        (unpaired, (X,), ParameterError, "there is no unpaired_backward beside unpaired"),
        (dl.Linear, (X,), ParameterError, r"create it first: Linear\(\.\.\.\)"),
        (3, (X,), ParameterError, "got int"),
        ((lambda x: x, cube_backward), (X,), ParameterError, r"must return the pair \(y, cache\)"),
        ("relu", (X.astype(object),), DtypeError, "real numbers, got dtype object"),
        ("relu", (X.astype(complex),), DtypeError, "real numbers, got dtype complex128"),
        (dl.MSELoss(), (X,), ParameterError, "needs a floating-point prediction and a target"),
        ((cube, lambda dy, x: 1.0), (X,), DtypeError, "returned a float for x, not an array"),
    ],
)
def test_bad_calls(subject, arrays, error, message):
    with pytest.raises(error, match=message):
        dl.gradcheck(subject, *arrays)


def test_more_bad_calls():
    with pytest.raises(UnknownNameError, match="unknown method 'forward'; known: central, complex"):
        dl.gradcheck("relu", X, method="forward")
    with pytest.raises(ParameterError, match="complex step works only on a function pair"):
        dl.gradcheck(dl.ReLU(), X, method="complex")
    with pytest.raises(GradcheckError, match="no floating-point argument"):
        dl.gradcheck((lambda i: (i * 1.0, None), lambda dy, cache: None), numpy.array([1, 2]))


def test_parameters_that_are_none():
    class Bare(Scale):
        def parameters(self):
            return [self.gain.value]

    with pytest.raises(ParameterError, match="objects with value and grad"):
        dl.gradcheck(Bare(), X)


def test_a_layer_that_cannot_be_copied():
    class Locked(Scale):
        def __deepcopy__(self, memo):
            raise RuntimeError("has a handle")

    with pytest.raises(ParameterError, match=r"cannot be copied \(has a handle\)"):
        dl.gradcheck(Locked(), X)


@pytest.mark.parametrize(
    ("layer", "reads"), [(dl.ReLU(), True), (dl.Sigmoid(), True), (dl.GELU(), False), (dl.Linear(3, 2), False)]
)
def test_a_note_names_layers_whose_backward_reads_what_forward_returned(layer, reads):
    report = dl.gradcheck(layer, numpy.random.default_rng(0).normal(size=(4, 3)))
    assert report.ok
    assert any("do not change it in place" in note for note in report.notes) == reads
