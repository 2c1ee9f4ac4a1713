"""Ask a server of `minidl serve` from many clients at once, check every answer, and print requests a second and latencies.

    python benchmarks/serving.py                          # LeNet, 1, 8 and 32 clients; the extras 'serve' and 'weights'
    python benchmarks/serving.py --clients 32 --seconds 10 --threads 1 --max-wait-ms 0

The server is a process of its own; the clients are threads of another one, and share the machine with it. Each keeps its
connection and sends its next request when it has the answer to the last, so that there are never more requests than clients. An
answer must be that of `predict` to rounding.
"""

from __future__ import annotations

import argparse
import http.client
import json
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy
from board import processor

import minidl as dl

IMAGES = 64


class Client(threading.Thread):
    """Ask about one image after the other until the time is up."""

    def __init__(self, port: int, which: int, binary: bool, x: numpy.ndarray, y: numpy.ndarray, until: float) -> None:
        super().__init__()
        self.port, self.which, self.binary, self.x, self.y, self.until = port, which, binary, x, y, until
        self.times: list[float] = []
        self.wrong = self.failed = 0

    def run(self) -> None:
        bodies = [self.make(image) for image in self.x]
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        at = self.which
        while (start := time.perf_counter()) < self.until:
            at = (at + 1) % len(bodies)
            connection.request("POST", "/v2/models/lenet/infer", *bodies[at])
            answer = connection.getresponse()
            content = answer.read()
            self.times.append(time.perf_counter() - start)
            if answer.status != 200:
                self.failed += 1
            elif not numpy.allclose(self.read(answer, content), self.y[at], rtol=1e-4, atol=1e-5):
                self.wrong += 1
        connection.close()

    def make(self, image: numpy.ndarray) -> tuple[bytes, dict[str, str]]:
        """Return body and headers of a request."""
        entry = {"name": "x", "datatype": "FP32", "shape": [1, *image.shape]}
        if not self.binary:
            return json.dumps({"inputs": [{**entry, "data": image.ravel().tolist()}]}).encode(), {}
        entry["parameters"] = {"binary_data_size": image.nbytes}
        head = json.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}}).encode()
        return head + image.tobytes(), {"Inference-Header-Content-Length": str(len(head))}

    def read(self, answer: http.client.HTTPResponse, content: bytes) -> numpy.ndarray:
        """Return the numbers of an answer."""
        if not self.binary:
            return numpy.array(json.loads(content)["outputs"][0]["data"], "float32")
        return numpy.frombuffer(content, "<f4", offset=int(answer.getheader("Inference-Header-Content-Length") or 0))


def measure(port: int, clients: int, binary: bool, seconds: float, x: numpy.ndarray, y: numpy.ndarray) -> bool:
    """Print a line of figures; return whether all answers were right."""
    until = time.perf_counter() + seconds
    threads = [Client(port, which, binary, x, y, until) for which in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    times = numpy.concatenate([thread.times for thread in threads]) * 1000
    wrong, failed = (sum(getattr(thread, what) for thread in threads) for what in ("wrong", "failed"))
    p50, p99 = numpy.percentile(times, [50, 99])
    form = "binary" if binary else "JSON"
    print(
        f"{clients:7} {form:>7} {len(times) / seconds:11.0f} {p50:8.2f} {p99:8.2f} {len(times):9} {wrong:6} {failed:7}",
        flush=True,
    )
    return wrong == failed == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--threads", default="1", help="of the server's engine")
    parser.add_argument("--max-wait-ms", default="1")
    args = parser.parse_args()
    dl.seed(0)
    model = dl.models.lenet()
    x = numpy.random.default_rng(0).normal(size=(IMAGES, 1, 28, 28)).astype("float32")
    y = model.predict(x)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "lenet.safetensors"
        model.save(path)
        command = [sys.executable, "-m", "minidl.cli", "serve", str(path), "--port", "0", "--shape", "1,28,28"]
        command += ["--threads", args.threads, "--max-wait-ms", args.max_wait_ms]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            try:
                port = int(server.stdout.readline().partition(";")[0].rpartition(":")[2])
                print(f"LeNet, one image a request, a wait of {args.max_wait_ms} ms at most; {processor()}")
                print("clients    form  requests/s   p50 ms   p99 ms   answers  wrong refused")
                right = [
                    measure(port, clients, binary, args.seconds, x, y)
                    for binary in (True, False)
                    for clients in args.clients
                ]
            finally:
                server.send_signal(signal.SIGTERM)
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
