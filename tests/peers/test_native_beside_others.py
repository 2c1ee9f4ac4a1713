"""The native engine in one process with libraries that have threads of their own, at the same time and after a fork."""

import os
import threading

import numpy
import pytest

from minidl import engines

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
linear_model = pytest.importorskip("sklearn.linear_model")

if not engines.engines()["native"]:
    pytest.skip(str(engines.engines()["native"]), allow_module_level=True)

native = engines.get("native")


@pytest.fixture(autouse=True)
def _two_threads():
    before = engines.get_num_threads(), torch.get_num_threads()
    engines.set_num_threads(2)
    torch.set_num_threads(2)
    yield
    engines.set_num_threads(before[0])
    torch.set_num_threads(before[1])


def arrays():
    random = numpy.random.default_rng(0)
    return random.normal(size=(256, 300)).astype("float32"), random.normal(size=(200, 300)).astype("float32")


def right(x, weight):
    """Whether a product and an activation, both large enough for threads, come out right."""
    y = native.linear_activation(x, weight, None, "tanh")[0]
    return numpy.allclose(y, numpy.tanh(x @ weight.T), atol=1e-4)


def test_taking_turns_with_pytorch_and_scikit_learn():
    x, weight = arrays()
    expected = torch.tanh(torch.tensor(x) @ torch.tensor(weight).T).numpy()
    for _ in range(5):
        assert right(x, weight)
        numpy.testing.assert_allclose(torch.tanh(torch.tensor(x) @ torch.tensor(weight).T).numpy(), expected, atol=1e-4)
        linear_model.LinearRegression(n_jobs=2).fit(x, x[:, :2])
    assert right(x, weight)


def test_at_the_same_time_as_pytorch():
    x, weight = arrays()
    stop, wrong = threading.Event(), []

    def other():
        a, b = torch.tensor(x), torch.tensor(weight)
        while not stop.is_set():
            torch.tanh(a @ b.T)

    worker = threading.Thread(target=other)
    worker.start()
    for _ in range(20):
        if not right(x, weight):
            wrong.append(True)
    stop.set()
    worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_in_a_child_after_both_have_run():
    x, weight = arrays()
    assert right(x, weight)
    torch.tensor(x) @ torch.tensor(weight).T
    child = os.fork()
    if child == 0:
        os._exit(0 if right(x, weight) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
