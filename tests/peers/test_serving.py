"""minidl.interop.serving and `minidl serve`: NVIDIA's tritonclient asks, and so do clients that break the protocol."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time

import numpy
import pytest

import minidl as dl
from minidl.cli import main
from minidl.errors import DataError, ParameterError

pytest.importorskip("starlette")
uvicorn = pytest.importorskip("uvicorn")
pytestmark = pytest.mark.peers

from minidl.interop.serving import make_app  # noqa: E402
from minidl.interop.serving.signature import find_signature  # noqa: E402

G = numpy.random.default_rng(0)
X = G.normal(size=(40, 4)).astype("float32")
INFER = "/v2/models/m/infer"


def perceptron():
    dl.seed(0)
    return dl.Sequential([dl.Dense(5, activation="tanh", input_shape=(4,)), dl.Dropout(0.5), dl.Dense(3)])


class Watched(dl.Layer):
    """Remember the batches; wait for ``free`` in each of more than three examples or fewer than two; refuse negative numbers."""

    def __init__(self):
        super().__init__()
        self.batches = []
        self.free = threading.Event()
        self.free.set()
        self.entered = threading.Event()

    def forward(self, x):
        self.batches.append(x.shape)
        self.entered.set()
        assert self.free.wait(10)
        if (x < 0).any():
            raise DataError("negative numbers")
        if (x == 7).any():
            raise RuntimeError("seven")
        with numpy.errstate(divide="ignore"):
            return 1 / x


@contextlib.contextmanager
def served(model, shape=None, **limits):
    """Yield the port of a server in this process."""
    app = make_app(model, "m", shape, **limits)
    server = uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="warning", ws="none"))
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def ask(port, method="GET", path="/v2", body=None, headers=None):
    """Return the status and the content of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with contextlib.closing(connection):
        connection.request(method, path, json.dumps(body) if isinstance(body, dict) else body, headers or {})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def question(x, **changes):
    entry = {"name": "x", "datatype": "FP32", "shape": list(x.shape), "data": x.tolist(), **changes}
    return {"inputs": [{name: value for name, value in entry.items() if value is not None}]}


def values(answer):
    status, content = answer
    assert status == 200, content
    [y] = content["outputs"]
    return numpy.reshape(y["data"], y["shape"]).astype("float32")


def wait_until(condition):
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


@pytest.fixture(scope="module")
def model():
    return perceptron()


@pytest.fixture(scope="module")
def port(model):
    with served(model, max_wait=0.002) as port:
        yield port


class TestPublicClient:
    @pytest.fixture
    def client(self, port):
        triton = pytest.importorskip("tritonclient.http")
        with contextlib.closing(triton.InferenceServerClient(f"127.0.0.1:{port}")) as client:
            yield client

    def test_health_and_metadata(self, client):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert client.is_model_ready("m")
        assert client.is_model_ready("m", "1")
        assert not client.is_model_ready("other")
        assert client.get_server_metadata() == {
            "name": "minidl",
            "version": dl.__version__,
            "extensions": ["binary_tensor_data"],
        }
        assert client.get_model_metadata("m") == {
            "name": "m",
            "versions": ["1"],
            "platform": "minidl",
            "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}],
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 3]}],
        }

    @pytest.mark.parametrize("binary_in", [True, False])
    @pytest.mark.parametrize("binary_out", [True, False])
    def test_answers_are_those_of_predict(self, client, model, binary_in, binary_out):
        import tritonclient.http as triton

        x = triton.InferInput("x", [3, 4], "FP32")
        x.set_data_from_numpy(X[:3], binary_data=binary_in)
        wanted = [triton.InferRequestedOutput("y", binary_data=binary_out)]
        for outputs in (wanted, None):
            answer = client.infer("m", [x], outputs=outputs, request_id="seven")
            y = answer.as_numpy("y")
            assert y.dtype == "float32"
            numpy.testing.assert_allclose(y, model.predict(X[:3]), rtol=1e-6, atol=1e-7)
            assert answer.get_response()["id"] == "seven"

    def test_each_of_many_clients_gets_its_own_answer(self, port, model):
        wanted = model.predict(X)

        def work(which):
            n = 1 + which % 3
            rows = numpy.arange(which, which + n) % len(X)
            for _ in range(4):
                y = values(ask(port, "POST", INFER, question(X[rows])))
                numpy.testing.assert_allclose(y, wanted[rows], rtol=1e-5, atol=1e-6)
            return True

        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            assert all(pool.map(work, range(24)))

    @pytest.mark.parametrize(
        ("body", "sentence"),
        [
            ("{", "the body is not JSON"),
            ("[" * 100_000, "the body is not JSON"),
            (b"\xff\xfe", "the body is not JSON"),
            ("3", "the body must be a JSON object"),
            ("{}", "the model takes the inputs x; the request has none"),
            ({"inputs": [{"name": "z"}]}, "the model takes the inputs x; the request has z"),
            ({"inputs": 3}, "inputs must be a list of objects"),
            ({"inputs": [{"name": "x"}, {"name": "x"}]}, "a name twice"),
            (question(X[:1], datatype="FP64"), "datatype must be FP32, got FP64"),
            (question(X[:1], datatype=None), "datatype must be FP32"),
            (question(X[:1], shape=[4]), "shape must be [-1, 4]"),
            (question(X[:1], shape=[1, 5]), "shape must be [-1, 4]"),
            (question(X[:1], shape=[0, 4]), "shape must be [-1, 4]"),
            (question(X[:1], shape=[True, 4]), "shape must be [-1, 4]"),
            (question(X[:1], shape="x"), "shape must be [-1, 4]"),
            (question(X[:1], shape=[10**30, 4]), "numbers, got 4"),
            (question(X[:2], shape=[1, 4]), "needs 4 numbers, got 8"),
            (question(X[:1], shape=[2, 4]), "needs 8 numbers, got 4"),
            (question(X[:1], data=None), "there is no data"),
            (question(X[:1], data=[1, 2, 3, "4"]), "FP32 cannot be read from data such as"),
            (question(X[:1], data=[1, [2, 3], 4]), "data is no array of numbers"),
            (question(X[:1], data=[True, False, True, True]), "FP32 cannot be read from data such as"),
            (question(X[:1], data=[1, 2, 3, float("nan")]), "there is nan or inf"),
            (question(X[:1], data=[1, 2, 3, 1e300]), "a number too large for FP32"),
            (question(X[:1], parameters={"binary_data_size": 16}), "but 0 bytes are left behind the JSON"),
            (question(X[:1], parameters=3), "parameters must be an object"),
            (question(numpy.ones((65, 4))), "64 examples at most, this has 65"),
            ({**question(X[:1]), "outputs": [{"name": "z"}]}, "there is no output 'z'; the model gives y"),
            ({**question(X[:1]), "parameters": {"binary_data_output": 1}}, "must be true or false"),
            ({**question(X[:1]), "id": 1}, "id must be a string"),
        ],
    )
    def test_what_is_not_of_the_protocol_is_refused_with_a_sentence(self, port, body, sentence):
        status, content = ask(port, "POST", INFER, body)
        assert (status, sentence in content["error"]) == (400, True), content

    @pytest.mark.parametrize(
        ("size", "sent", "cut", "sentence"),
        [
            (12, 12, None, "shape [1, 4] needs 16 bytes, got 12"),
            (16, 12, None, "12 bytes are left behind the JSON"),
            (16, 20, None, "4 bytes behind the JSON belong to no input"),
            (-1, 16, None, "binary_data_size is -1"),
            (16, 16, "9999", "must be a number up to the body's"),
            (16, 16, "-1", "must be a number up to the body's"),
        ],
    )
    def test_too_few_or_too_many_bytes(self, port, size, sent, cut, sentence):
        head = json.dumps(question(X[:1], data=None, parameters={"binary_data_size": size})).encode()
        headers = {"Inference-Header-Content-Length": cut or str(len(head))}
        status, content = ask(port, "POST", INFER, head + bytes(sent), headers)
        assert (status, sentence in content["error"]) == (400, True), content

    def test_other_addresses_name_the_model(self, port):
        status, content = ask(port, "POST", "/v2/models/other/infer", question(X[:1]))
        assert (status, content["error"]) == (404, "Not Found: the model is 'm', at /v2/models/m")
        assert ask(port, "GET", INFER)[0] == 405
        assert ask(port, "POST", INFER, b"", {"Content-Encoding": "gzip"})[0] == 415


class TestLimits:
    def test_a_body_that_is_too_long_is_not_read(self):
        with served(perceptron(), max_body=1000) as port:
            with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
                raw.sendall(f"POST {INFER} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".encode())
                answer = b"".join(iter(lambda: raw.recv(4096), b""))  # to the end: the server closes
            assert answer.startswith(b"HTTP/1.1 413 ")
            assert b"a body may have 1000 bytes, this has 99999999999" in answer
            pieces = ask(port, "POST", INFER, iter([b" " * 600] * 2))  # chunked, without a length
            assert pieces == (413, {"error": "a body may have 1000 bytes, this has more"})
            assert ask(port, "POST", INFER, question(X[:1]))[0] == 200

    def test_a_full_queue_and_a_late_answer(self):
        model = Watched()
        with served(model, (2,), queue=1, timeout=0.3, max_wait=0) as port:
            model.free.clear()
            model.entered.clear()
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                first = pool.submit(ask, port, "POST", INFER, question(numpy.ones((1, 2))))
                assert model.entered.wait(10)
                assert ask(port, "POST", INFER, question(numpy.ones((1, 2)))) == (
                    503,
                    {"error": "1 requests are waiting; try again later"},
                )
                assert first.result() == (504, {"error": "there was no answer within 0.3 seconds"})
            model.free.set()
            assert values(ask(port, "POST", INFER, question(numpy.ones((1, 2))))).tolist() == [[1, 1]]

    def test_nan_in_an_answer_is_refused_and_a_failing_model_does_not_end_the_server(self, capsys):
        with served(Watched(), (2,)) as port:
            status, content = ask(port, "POST", INFER, question(numpy.zeros((1, 2))))
            assert (status, "the model computed nan or inf in the output y" in content["error"]) == (500, True)
            assert ask(port, "POST", INFER, question(numpy.full((1, 2), 7))) == (
                500,
                {"error": "the model failed: RuntimeError"},
            )
            assert values(ask(port, "POST", INFER, question(numpy.ones((1, 2))))).tolist() == [[1, 1]]
        assert "RuntimeError: seven" in capsys.readouterr().err


class TestBatches:
    def ask_while_busy(self, model, port, questions):
        """Send requests, each after the last has come in, while the model is busy with another; return the answers."""
        model.free.clear()
        model.entered.clear()
        with concurrent.futures.ThreadPoolExecutor(1 + len(questions)) as pool:
            pool.submit(ask, port, "POST", INFER, question(numpy.ones((1, 2))))
            assert model.entered.wait(10)
            model.batches.clear()
            asked = [pool.submit(ask, port, "POST", INFER, question(x)) for x in questions]
            time.sleep(0.3)  # they arrive
            model.free.set()
            return [answer.result() for answer in asked]

    def test_requests_that_wait_are_computed_together_and_each_error_is_its_own(self):
        model = Watched()
        with served(model, (-1,), max_wait=0, max_batch=8) as port:
            questions = [numpy.full((2, 2), i + 2.0) for i in range(3)]
            answers = self.ask_while_busy(model, port, questions)
            assert model.batches == [(6, 2)]
            for x, answer in zip(questions, answers, strict=True):
                numpy.testing.assert_allclose(values(answer), 1 / x, rtol=1e-6)
            answers = self.ask_while_busy(model, port, [numpy.ones((1, 2)), -numpy.ones((1, 2)), numpy.zeros((1, 2))])
            assert [status for status, _ in answers] == [200, 400, 500]
            assert "negative numbers" in answers[1][1]["error"]
            assert model.batches == [(3, 2), (1, 2), (1, 2), (1, 2)]

    def test_no_batch_is_larger_than_allowed_or_of_two_shapes(self):
        model = Watched()
        with served(model, (-1,), max_wait=0, max_batch=4) as port:
            questions = [numpy.ones((3, 2)), numpy.ones((1, 5)), numpy.ones((2, 2)), numpy.ones((2, 5))]
            for x, answer in zip(questions, self.ask_while_busy(model, port, questions), strict=True):
                assert values(answer).shape == x.shape
            assert sorted(model.batches) == [(2, 2), (3, 2), (3, 5)]

    def test_a_request_waits_for_company(self):
        model = Watched()
        with served(model, (2,), max_wait=5, max_batch=2) as port, concurrent.futures.ThreadPoolExecutor(2) as pool:
            model.batches.clear()
            started = time.monotonic()
            assert all(
                status == 200
                for status, _ in pool.map(lambda x: ask(port, "POST", INFER, question(x)), [numpy.ones((1, 2))] * 2)
            )
            assert model.batches == [(2, 2)]
            assert time.monotonic() - started < 5  # a full batch waits no longer


class TestSignature:
    def test_of_named_models(self):
        gpt = dl.models.GPT2(dl.models.GPT2Config(vocab_size=11, context=8, width=8, layers=1, heads=2))
        found = find_signature(gpt)
        assert (*map(str, found.inputs), *map(str, found.outputs)) == ("x INT64 [-1, -1]", "y FP32 [-1, -1, 11]")

    def test_of_several_inputs(self):
        dl.seed(0)
        sizes = {"vocab_size": 11, "context": 8, "width": 8, "layers": 1, "heads": 2, "hidden": 8}
        model = dl.models.BERT(dl.models.BERTConfig(**sizes))
        ids, mask = numpy.array([[3, 4, 5], [6, 7, 0]]), numpy.array([[1, 1, 1], [1, 1, 0]])
        with served(model) as port:
            entries = [
                {"name": name, "datatype": "INT64", "shape": [2, 3], "data": x.tolist()}
                for name, x in (("attention_mask", mask), ("input_ids", ids))  # in any order
            ]
            y = values(ask(port, "POST", INFER, {"inputs": entries}))
            numpy.testing.assert_allclose(y, model.predict((ids, mask)), rtol=1e-5, atol=1e-6)
            entries[0].update(shape=[1, 3], data=[1, 1, 1])
            status, content = ask(port, "POST", INFER, {"inputs": entries})
            assert (status, "different numbers of examples: 1, 2" in content["error"]) == (400, True)

    def test_of_a_model_that_does_not_know_its_shape(self):
        model = dl.Sequential([dl.Embedding(9, 3), dl.GRU(3, 2)])
        with pytest.raises(ParameterError, match=r"give the shape of one example \(--shape\)"):
            find_signature(model)
        assert str(find_signature(model, (-1,)).inputs[0]) == "x INT64 [-1, -1]"

    def test_where_requests_cannot_share_a_batch(self):
        for layer in (Mean(), Products()):
            with pytest.raises(ParameterError, match="not one row for each"):
                make_app(dl.Sequential([dl.Linear(4, 4), layer]))

    def test_settings_are_checked(self):
        for settings in (
            {"max_batch": 0},
            {"max_wait": -1},
            {"max_wait": 2, "timeout": 1},
            {"name": "a/b"},
            {"queue": 0},
        ):
            with pytest.raises(ParameterError):
                make_app(perceptron(), **settings)


class Mean(dl.Layer):
    def forward(self, x):
        return x.mean(axis=0)


class Products(dl.Layer):
    def forward(self, x):
        return x @ x.T


class TestCommand:
    def start(self, path, *more):
        command = [sys.executable, "-m", "minidl.cli", "serve", str(path), "--port", "0", "--name", "m", *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_it_finishes_what_it_accepted(self, tmp_path):
        model = perceptron()
        model.save(tmp_path / "model.safetensors")
        with self.start(tmp_path / "model.safetensors", "--max-wait-ms", "700") as process:
            try:
                port = int(process.stdout.readline().split(";")[0].rsplit(":", 1)[1])
                assert process.stdout.readline() == "inputs: x FP32 [-1, 4]\n"
                with concurrent.futures.ThreadPoolExecutor(1) as pool:
                    waiting = pool.submit(ask, port, "POST", INFER, question(X[:2]))
                    time.sleep(0.3)  # it waits for company
                    process.send_signal(signal.SIGTERM)
                    wait_until(lambda: not listens(port))
                    numpy.testing.assert_allclose(values(waiting.result()), model.predict(X[:2]), rtol=1e-5, atol=1e-6)
                assert process.wait(20) == 0
                assert process.stdout.read().endswith("stopped\n")
                assert process.stderr.read() == ""
            finally:
                process.kill()

    def test_what_cannot_be_served_is_said_in_a_line(self, tmp_path, capsys):
        perceptron().save(tmp_path / "model.safetensors")
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            assert main(["serve", str(tmp_path / "model.safetensors"), "--port", port]) == 2
            assert f"cannot listen at 127.0.0.1, port {port}" in capsys.readouterr().err
        for arguments, sentence in (
            (["--shape", "3,0"], "expected integers of at least 1, or -1"),
            (["--shape", "5"], "Dense"),
            (["--port", "70000"], "port must be from 0 to 65535"),
        ):
            assert main(["serve", str(tmp_path / "model.safetensors"), *arguments]) == 2
            assert sentence in capsys.readouterr().err
        assert main(["serve", str(tmp_path / "other")]) == 2


def listens(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
