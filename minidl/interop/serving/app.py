"""The Open Inference Protocol over HTTP, as a Starlette application."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import minidl
from minidl.errors import ParameterError
from minidl.interop.serving.batching import Batcher
from minidl.interop.serving.extra import import_starlette
from minidl.interop.serving.signature import Signature, find_signature, run_model
from minidl.interop.serving.tensors import HEADER_LENGTH, Refusal, read_request, write_answer

__all__ = ["make_app"]

VERSION = "1"
"""The only version of the model."""

SMALL = 1 << 16
"""Bodies up to so many bytes are read and written in the loop's own thread; larger ones would hold up the other clients."""


def make_app(
    model: Any,
    name: str = "model",
    shape: Sequence[int] | None = None,
    *,
    max_batch: int = 64,
    max_wait: float = 0.001,
    max_body: int = 16 << 20,
    queue: int = 256,
    timeout: float = 30.0,
) -> Any:
    """Return an application that answers requests with a model; any server of ASGI applications can run it.

    One thread owns the model and computes in batches. Requests beyond the limits are refused with a sentence: 400 for what is
    not of the protocol or does not fit the model, 413 for a body that is too long, 503 for a full queue, 504 for a late answer.
    An answer with nan or inf is refused, too (500).

    Parameters
    ----------
    model : layer
        It must not be used elsewhere while it is served.
    name : str, default "model"
        In the addresses: letters, digits, ``_``, ``-`` and ``.``.
    shape : sequence of int, optional
        Of one example, for a model of one input that takes inputs of many shapes; -1 is an axis of any length.
    max_batch : int, default 64
        The most examples of a batch, and of a request.
    max_wait : float, default 0.001
        How many seconds a request waits for others to share its batch.
    max_body : int, default 16 MiB
        The most bytes of a request; a longer one is refused before it is read.
    queue : int, default 256
        The most requests that are read, wait or are computed at a time.
    timeout : float, default 30.0
        How many seconds the reading of a request may take, and how many its answer.

    Returns
    -------
    starlette.applications.Starlette
        Its ``state.signature`` says what the model takes and gives.

    Raises
    ------
    MissingDependencyError
        If the package starlette is not installed.
    ParameterError
        If a setting is out of range, the shape is needed, or an output does not have one row for each example.
    """
    starlette = import_starlette()
    limits = {"max_batch": max_batch, "max_body": max_body, "queue": queue}
    for setting, value in limits.items():
        if not isinstance(value, int) or value < 1:
            raise ParameterError(f"serve: {setting} must be an integer of at least 1, got {value!r}")
    if not (0 <= max_wait < timeout < float("inf")):
        raise ParameterError(f"serve: expected 0 <= max_wait < timeout, got {max_wait!r} and {timeout!r} seconds")
    if not re.fullmatch(r"[\w.-]+", name, re.ASCII):
        raise ParameterError(f"serve: name may have letters, digits, _, - and ., got {name!r}")
    signature = find_signature(model, shape)
    batcher = Batcher(functools.partial(run_model, model), max_batch, max_wait)
    service = _Service(starlette, name, signature, batcher, max_batch, max_body, queue, timeout)

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        batcher.start()
        try:
            yield
        finally:
            await asyncio.to_thread(batcher.close)

    handlers = {Refusal: service.refuse, starlette.exceptions.HTTPException: service.say}
    app = starlette.applications.Starlette(routes=service.routes(), lifespan=lifespan, exception_handlers=handlers)
    app.state.signature = signature
    return app


class _Service:
    """The addresses of the protocol."""

    def __init__(
        self,
        starlette: Any,
        name: str,
        signature: Signature,
        batcher: Batcher,
        max_batch: int,
        max_body: int,
        queue: int,
        timeout: float,
    ) -> None:
        self.starlette, self.name, self.signature, self.batcher = starlette, name, signature, batcher
        self.max_batch, self.max_body, self.queue, self.timeout = max_batch, max_body, queue, timeout
        self.active = 0

    def routes(self) -> list[Any]:
        """Return what answers which address."""
        route = self.starlette.routing.Route
        found = [
            route("/v2", self.describe_server),
            route("/v2/health/live", self.say_live),
            route("/v2/health/ready", self.say_ready),
        ]
        for base in (f"/v2/models/{self.name}", f"/v2/models/{self.name}/versions/{VERSION}"):
            found += [
                route(base, self.describe_model),
                route(f"{base}/ready", self.say_ready),
                route(f"{base}/infer", self.infer, methods=["POST"]),
            ]
        return found

    def _json(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> Any:
        return self.starlette.responses.Response(
            json.dumps(content).encode(), status, headers, media_type="application/json"
        )

    async def describe_server(self, request: Any) -> Any:
        return self._json({"name": "minidl", "version": minidl.__version__, "extensions": ["binary_tensor_data"]})

    async def describe_model(self, request: Any) -> Any:
        signature = self.signature
        return self._json(
            {
                "name": self.name,
                "versions": [VERSION],
                "platform": "minidl",
                "inputs": [spec.describe() for spec in signature.inputs],
                "outputs": [spec.describe() for spec in signature.outputs],
            }
        )

    async def say_live(self, request: Any) -> Any:
        return self._json({"live": True})

    async def say_ready(self, request: Any) -> Any:
        ready = self.batcher.ready
        return self._json({"name": self.name, "ready": ready}, 200 if ready else 503)

    async def refuse(self, request: Any, refusal: Any) -> Any:
        """Answer with the sentence. Where the body may be unread, the connection ends with the answer."""
        headers = {"connection": "close"} if refusal.status in (408, 413, 415, 503) else {}
        if refusal.status == 503:
            headers["retry-after"] = "1"
        return self._json({"error": refusal.message}, refusal.status, headers)

    async def say(self, request: Any, error: Any) -> Any:
        """Answer what no address takes."""
        sentence = f"{error.detail}: the model is {self.name!r}, at /v2/models/{self.name}"
        return self._json({"error": sentence}, error.status_code, error.headers)

    async def infer(self, request: Any) -> Any:
        if self.active >= self.queue:
            raise Refusal(503, f"{self.queue} requests are waiting; try again later")
        self.active += 1
        try:
            body = await self._read(request)
            run = _call if len(body) <= SMALL else self.starlette.concurrency.run_in_threadpool
            asked = await run(
                read_request,
                body,
                request.headers.get(HEADER_LENGTH),
                self.signature.inputs,
                self.signature.outputs,
                self.max_batch,
            )
            try:
                async with asyncio.timeout(self.timeout):
                    results = await self.batcher.compute(asked.inputs)
            except TimeoutError:
                raise Refusal(504, f"there was no answer within {self.timeout:g} seconds") from None
            run = (
                _call
                if sum(y.nbytes for y in results.values()) <= SMALL
                else self.starlette.concurrency.run_in_threadpool
            )
            content, headers = await run(write_answer, asked, results, self.name, VERSION)
            return self.starlette.responses.Response(content, 200, headers)
        finally:
            self.active -= 1

    async def _read(self, request: Any) -> bytes:
        """Return the body, unless it is too long or too slow."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "compressed bodies are not read")
        length = request.headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 19 or int(length) > self.max_body:
            raise Refusal(413, f"a body may have {self.max_body} bytes, this has {length[:40]}")
        parts, size = [], 0
        try:
            async with asyncio.timeout(self.timeout):
                async for part in request.stream():
                    size += len(part)
                    if size > self.max_body:
                        raise Refusal(413, f"a body may have {self.max_body} bytes, this has more")
                    parts.append(part)
        except self.starlette.requests.ClientDisconnect:
            raise Refusal(400, "the connection ended within the body") from None  # nobody reads it
        except TimeoutError:
            raise Refusal(408, f"the body did not come within {self.timeout:g} seconds") from None
        return b"".join(parts)


async def _call(function: Any, *arguments: Any) -> Any:
    return function(*arguments)
