"""Every op, forward and backward, against torch.nn.functional and its autograd; the updates against torch.optim; float64."""

import itertools
import math
from pathlib import Path

import numpy
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from minidl import ops  # noqa: E402
from minidl.engines.compositions import FUSIBLE  # noqa: E402
from minidl.ops import special  # noqa: E402
from minidl.testing import SPECS  # noqa: E402

pytestmark = pytest.mark.peers


def compare(engine, name, peer, arrays, *, others=(), options=None, reduced=False, rtol=1e-13, atol=1e-15):
    """Compare y and the gradients of ``arrays`` under a random upstream gradient.

    ``peer`` takes the same arguments as tensors; ``others`` are arguments without a gradient.
    """
    options = options or {}
    y, cache = getattr(engine, name)(*arrays, *others, **options)
    tensors = [None if array is None else torch.tensor(array, requires_grad=True) for array in arrays]
    expected = peer(*tensors, *(torch.tensor(o) if isinstance(o, numpy.ndarray) else o for o in others), **options)
    numpy.testing.assert_allclose(y, expected.detach().numpy(), rtol=rtol, atol=atol)
    dy = numpy.random.default_rng(99).normal(size=expected.shape)
    gradients = getattr(engine, f"{name}_backward")(float(dy) if reduced and dy.ndim == 0 else dy, cache)
    expected.backward(torch.tensor(dy))
    for tensor, gradient in zip(tensors, gradients if isinstance(gradients, tuple) else (gradients,), strict=True):
        assert (tensor is None) == (gradient is None)
        if tensor is not None:
            numpy.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=rtol, atol=atol * max(1, numpy.size(dy)))


@pytest.fixture
def rng():
    return numpy.random.default_rng(0)


# activations --------------------------------------------------------------------------------------------------------

WIDE = numpy.concatenate([numpy.linspace(-60, 60, 241), [0.0, -0.0, 1e-300, -1e-300, 1e-20, -1e-20, 300.0, -300.0]])


ACTIVATIONS = [
    (name, options)
    for name in FUSIBLE
    for options in [{}, *(dict(case.options) for case in SPECS[name].cases if case.options)]
]


THEIRS = {"hardsigmoid": 3e-8}  # the relative error of PyTorch's own, whose slope is a 1/6 rounded to float32


WRITTEN_OUT = {"quick_gelu": lambda x: x * torch.sigmoid(1.702 * x)}  # PyTorch has no function for it


@pytest.mark.parametrize(("name", "options"), ACTIVATIONS, ids=str)
def test_activation(host_engine, name, options):
    """PyTorch has each under the same name, with the same options and defaults; theirs cancels in some tails."""
    compare(
        host_engine,
        name,
        WRITTEN_OUT.get(name) or getattr(F, name),
        [WIDE],
        options=options,
        rtol=THEIRS.get(name, 1e-13),
        atol=2e-15,
    )


@pytest.mark.parametrize(("shape", "slopes"), [((), 1), ((5,), 1), ((5, 3), 1), ((5, 3), 3), ((2, 3, 4, 5), 3)])
def test_prelu(host_engine, rng, shape, slopes):
    arrays = [numpy.asarray(rng.normal(size=shape)), rng.normal(size=slopes)]
    compare(host_engine, "prelu", F.prelu, arrays, atol=1e-14)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax(host_engine, rng, name, axis):
    x = 10 * rng.normal(size=(4, 5, 6))
    x[0, 0, 0] = -numpy.inf
    peer = getattr(F, name)
    compare(host_engine, name, lambda x, axis: peer(x, axis), [x], options={"axis": axis}, rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_glu(host_engine, rng, axis):
    compare(
        host_engine, "glu", lambda x, axis: F.glu(x, axis), [10 * rng.normal(size=(4, 2, 6))], options={"axis": axis}
    )


def test_erf():
    numpy.testing.assert_allclose(special.erf(WIDE), torch.erf(torch.tensor(WIDE)).numpy(), rtol=5e-16)


def test_normal():
    distribution, density = special.normal(WIDE)
    normal = torch.distributions.Normal(torch.tensor(0.0, dtype=torch.float64), 1.0)
    numpy.testing.assert_allclose(distribution, normal.cdf(torch.tensor(WIDE)).numpy(), atol=3e-16)
    numpy.testing.assert_allclose(density, normal.log_prob(torch.tensor(WIDE)).exp().numpy(), rtol=1e-12)


# products -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (7,), (2, 3)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear(host_engine, rng, leading, bias):
    arrays = [rng.normal(size=(*leading, 5)), rng.normal(size=(4, 5)), rng.normal(size=4) if bias else None]
    compare(host_engine, "linear", F.linear, arrays, atol=1e-14)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
@pytest.mark.parametrize("batches", [((), ()), ((3,), (3,)), ((2, 1), (3,)), ((), (2, 3))])
def test_matmul(host_engine, rng, transpose_a, transpose_b, batches):
    a = rng.normal(size=(*batches[0], *((4, 5) if not transpose_a else (5, 4))))
    b = rng.normal(size=(*batches[1], *((5, 6) if not transpose_b else (6, 5))))

    def peer(a, b, transpose_a, transpose_b):
        return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)

    options = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    compare(host_engine, "matmul", peer, [a, b], options=options, atol=1e-14)


def test_dropout_is_a_product_with_the_scaled_mask(host_engine, rng):
    mask = rng.random((3, 4)) >= 0.3
    compare(
        host_engine, "dropout", lambda x, p, mask: x * mask / (1 - p), [rng.normal(size=(3, 4))], others=[0.3, mask]
    )


# losses -------------------------------------------------------------------------------------------------------------

REDUCTIONS = ["mean", "sum", "none"]


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "peer", "options"),
    [
        ("mse_loss", F.mse_loss, {}),
        ("l1_loss", F.l1_loss, {}),
        ("huber_loss", F.huber_loss, {}),
        ("huber_loss", F.huber_loss, {"delta": 0.4}),
    ],
)
def test_regression_loss(host_engine, rng, name, peer, options, reduction):
    prediction, target = rng.normal(size=(2, 5, 6))
    target[0, 0] = prediction[0, 0]  # the kink of the absolute value
    options = {**options, "reduction": reduction}
    compare(host_engine, name, peer, [prediction], others=[target], options=options, reduced=True)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(("weight", "pos_weight"), [*itertools.product([None, (5, 1), (6,)], [None, (6,), (1,)])])
def test_binary_cross_entropy(host_engine, rng, weight, pos_weight, reduction):
    logits, target = 10 * rng.normal(size=(5, 6)), rng.uniform(-0.5, 1.5, (5, 6))
    weights = [None if shape is None else rng.uniform(0.1, 3, shape) for shape in (weight, pos_weight)]

    def peer(x, target, weight, pos_weight, reduction):
        return F.binary_cross_entropy_with_logits(x, target, weight, pos_weight=pos_weight, reduction=reduction)

    compare(
        host_engine,
        "binary_cross_entropy_with_logits",
        peer,
        [logits],
        others=[target, *weights],
        options={"reduction": reduction},
        reduced=True,
        atol=1e-14,
    )


def cross_entropy(logits, target, weight, ignore_index=-100, label_smoothing=0.0, reduction="mean"):
    return F.cross_entropy(
        logits, target, weight, ignore_index=ignore_index, label_smoothing=label_smoothing, reduction=reduction
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignore_index", [-100, 2])
@pytest.mark.parametrize("shape", [(8, 5), (3, 5, 2), (2, 5, 2, 3), (5,)])
def test_cross_entropy_of_class_indices(host_engine, rng, shape, ignore_index, weighted, smoothing, reduction):
    axis = min(len(shape) - 1, 1)
    target = numpy.asarray(rng.integers(0, 5, shape[:axis] + shape[axis + 1 :]))
    target.flat[0] = 1  # one at least that counts
    if target.size > 1:
        target.flat[1] = ignore_index
    options = {"ignore_index": ignore_index, "label_smoothing": smoothing, "reduction": reduction}
    compare(
        host_engine,
        "cross_entropy",
        cross_entropy,
        [3 * rng.normal(size=shape)],
        others=[target, rng.uniform(0.1, 3, 5) if weighted else None],
        options=options,
        reduced=True,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(8, 5), (3, 5, 2), (5,)])
def test_cross_entropy_of_probabilities(host_engine, rng, shape, weighted, smoothing, reduction):
    target = rng.random(shape)  # not even summing to one
    compare(
        host_engine,
        "cross_entropy",
        cross_entropy,
        [3 * rng.normal(size=shape)],
        others=[target, rng.uniform(0.1, 3, 5) if weighted else None],
        options={"label_smoothing": smoothing, "reduction": reduction},
        reduced=True,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_all_targets_ignored(host_engine, weighted, smoothing):
    logits, target = numpy.ones((3, 2)), numpy.full(3, -100)
    weight = numpy.array([1.0, 2.0]) if weighted else None
    tensor = torch.tensor(logits, requires_grad=True)
    expected = cross_entropy(
        tensor, torch.tensor(target), torch.tensor(weight) if weighted else None, label_smoothing=smoothing
    )
    expected.backward()
    loss, cache = host_engine.cross_entropy(logits, target, weight, label_smoothing=smoothing)
    assert math.isnan(loss)
    assert math.isnan(expected.item())
    numpy.testing.assert_array_equal(host_engine.cross_entropy_backward(1.0, cache), tensor.grad.numpy())


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(8, 5), (3, 5, 2), (2, 5, 2, 3), (5,)])
def test_nll_loss(host_engine, rng, shape, weighted, reduction):
    axis = min(len(shape) - 1, 1)
    target = numpy.asarray(rng.integers(0, 5, shape[:axis] + shape[axis + 1 :]))
    if target.size > 1:
        target.flat[1] = 7
    compare(
        host_engine,
        "nll_loss",
        lambda x, target, weight, **options: F.nll_loss(x, target, weight, **options),
        [rng.normal(size=shape)],
        others=[target, rng.uniform(0.1, 3, 5) if weighted else None],
        options={"ignore_index": 7, "reduction": reduction},
        reduced=True,
    )


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weight", [None, (5, 1), (6,)])
def test_binary_cross_entropy_of_probabilities(host_engine, rng, weight, reduction):
    p, target = rng.random((5, 6)), rng.random((5, 6))
    p[0], target[0] = [0, 1, 0, 1, 1e-15, 1 - 1e-15], [1, 0, 0, 1, 1, 0]  # where the bounds are
    compare(
        host_engine,
        "binary_cross_entropy",
        lambda p, target, weight, **options: F.binary_cross_entropy(p, target, weight, **options),
        [p],
        others=[target, None if weight is None else rng.uniform(0.1, 3, weight)],
        options={"reduction": reduction},
        reduced=True,
        rtol=1e-8,  # their bound of 1e-12 is a float32
    )


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("reduction", [*REDUCTIONS, "batchmean"])
@pytest.mark.parametrize("log_target", [False, True])
def test_kl_div(host_engine, rng, log_target, reduction):
    target = rng.dirichlet(numpy.ones(6), 5)
    target[0, 0] = 0.0
    with numpy.errstate(divide="ignore"):
        target = numpy.log(target) if log_target else target
    if log_target:
        target[0, 0] = -800  # theirs is nan at minus infinity
    compare(
        host_engine,
        "kl_div",
        lambda x, target, **options: F.kl_div(x, target, **options),
        [numpy.log(rng.dirichlet(numpy.ones(6), 5))],
        others=[target],
        options={"log_target": log_target, "reduction": reduction},
        reduced=True,
    )


# updates ------------------------------------------------------------------------------------------------------------

STEPS, SIZE = 100, 37


@pytest.mark.parametrize(
    ("name", "peer", "states", "settings"),
    [
        ("sgd_update", "SGD", (), {"lr": 0.1}),
        ("sgd_update", "SGD", (), {"lr": 0.1, "weight_decay": 0.05}),
        ("sgd_update", "SGD", ("momentum_buffer",), {"lr": 0.1, "momentum": 0.9, "dampening": 0.4}),
        (
            "sgd_update",
            "SGD",
            ("momentum_buffer",),
            {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        ),
        ("adagrad_update", "Adagrad", ("sum",), {"lr": 0.1}),
        ("adagrad_update", "Adagrad", ("sum",), {"lr": 0.1, "lr_decay": 0.01, "eps": 1e-3, "weight_decay": 0.1}),
        ("rmsprop_update", "RMSprop", ("square_avg", None, None), {"lr": 0.01}),
        ("rmsprop_update", "RMSprop", ("square_avg", "grad_avg", None), {"lr": 0.01, "alpha": 0.9, "eps": 1e-3}),
        ("rmsprop_update", "RMSprop", ("square_avg", None, "momentum_buffer"), {"lr": 0.01, "momentum": 0.9}),
        (
            "rmsprop_update",
            "RMSprop",
            ("square_avg", "grad_avg", "momentum_buffer"),
            {"lr": 0.01, "momentum": 0.5, "weight_decay": 0.1},
        ),
        ("adam_update", "Adam", ("exp_avg", "exp_avg_sq", None), {"lr": 0.01}),
        ("adam_update", "Adam", ("exp_avg", "exp_avg_sq", None), {"lr": 0.01, "beta1": 0.5, "beta2": 0.7, "eps": 0.1}),
        ("adam_update", "Adam", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), {"lr": 0.01, "weight_decay": 0.1}),
        ("adam_update", "AdamW", ("exp_avg", "exp_avg_sq", None), {"lr": 0.01, "weight_decay": 0.3}),
        ("adam_update", "AdamW", ("exp_avg", "exp_avg_sq", "max_exp_avg_sq"), {"lr": 0.01, "weight_decay": 0.3}),
    ],
)
def test_update(host_engine, rng, name, peer, states, settings):
    value, grads = rng.normal(size=SIZE), rng.normal(size=(STEPS, SIZE)) * 10.0 ** rng.integers(-3, 2, (STEPS, SIZE))
    parameter = torch.nn.Parameter(torch.tensor(value))
    theirs = dict(settings)
    if name == "adam_update":
        theirs["betas"] = theirs.pop("beta1", 0.9), theirs.pop("beta2", 0.999)
        theirs["amsgrad"] = "max_exp_avg_sq" in states
    theirs |= {"centered": "grad_avg" in states} if name == "rmsprop_update" else {}
    optimizer = getattr(torch.optim, peer)([parameter], **theirs)
    ours = {**settings, **({"decoupled": peer == "AdamW"} if name == "adam_update" else {})}
    state = [numpy.zeros(SIZE) if key else None for key in (states or (None,))]
    for step, grad in enumerate(grads, start=1):
        parameter.grad = torch.tensor(grad)
        optimizer.step()
        counter = {"first_step": step == 1} if name == "sgd_update" else {"step": step}
        getattr(host_engine, name)(value, grad, *state, **ours, **({} if name == "rmsprop_update" else counter))
    numpy.testing.assert_allclose(value, parameter.detach().numpy(), rtol=1e-12, atol=1e-13)
    for key, array in zip(states, state, strict=False):
        if key:
            numpy.testing.assert_allclose(array, optimizer.state[parameter][key].numpy(), rtol=1e-12, atol=1e-14)


def test_nothing_is_left_out():
    """Each op is named or called in a file of this folder, or the layer named after it, unless the catalogue leads to it here."""
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("*.py")).replace("_", "").lower()
    names = [name for name in ops.FORMULAS if not name.endswith("_backward") and name not in FUSIBLE]
    plain = {name: name.replace("_", "") for name in names}
    assert [name for name in names if f'"{plain[name]}"' not in text and f".{plain[name]}(" not in text] == []


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"reduction": "sum"}])
def test_confident_answers_in_float32_against_float64(host_engine, options):
    """PyTorch's own float32 gives a loss of 0, and a gradient of 0 to the right class."""
    rng = numpy.random.default_rng(0)
    logits = rng.normal(size=(20, 7)).astype("float32")
    target = rng.integers(0, 7, 20)
    logits[numpy.arange(20), target] += numpy.linspace(5, 15, 20, dtype="float32")
    theirs = torch.tensor(logits.astype("float64"), requires_grad=True)
    expected = torch.nn.functional.cross_entropy(theirs, torch.tensor(target), **options)
    expected.backward()
    loss, cache = host_engine.cross_entropy(logits, target, **options)
    numpy.testing.assert_allclose(loss, expected.item(), rtol=2e-6)
    gradient = host_engine.cross_entropy_backward(1.0, cache)
    numpy.testing.assert_allclose(gradient, theirs.grad.numpy(), rtol=1e-5, atol=1e-12)
