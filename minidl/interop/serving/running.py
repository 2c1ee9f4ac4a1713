"""Run the application with uvicorn until a signal ends it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from minidl.errors import ParameterError
from minidl.interop.serving.app import make_app
from minidl.interop.serving.extra import import_uvicorn

__all__ = ["serve"]


def serve(
    model: Any,
    name: str = "model",
    shape: Sequence[int] | None = None,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    started: Callable[[str, Any], None] | None = None,
    timeout: float = 30.0,
    **limits: Any,
) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then finish those that were accepted, and return.

    Parameters
    ----------
    model : layer
    name : str, default "model"
    shape : sequence of int, optional
        As in :func:`make_app`.
    host : str, default "127.0.0.1"
        The address to listen at. By default only this machine can reach the server: there is neither encryption nor a password.
    port : int, default 8000
        0 lets the system choose one.
    started : callable, optional
        Called with the server's address, such as ``"http://127.0.0.1:8000"``, and the model's signature when it listens.
    timeout : float, default 30.0
    **limits
        As in :func:`make_app`.

    Raises
    ------
    MissingDependencyError
        If starlette or uvicorn is not installed.
    ParameterError
        As :func:`make_app`, or if the port is out of range.
    OSError
        If the address cannot be listened at.
    """
    uvicorn = import_uvicorn()
    app = make_app(model, name, shape, timeout=timeout, **limits)
    if not 0 <= port < 65536:
        raise ParameterError(f"serve: port must be from 0 to 65535, got {port}")
    with _listen(host, port) as listener:
        config = uvicorn.Config(
            app,
            lifespan="on",
            log_level="warning",
            access_log=False,
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=int(timeout) + 5,
        )
        server = uvicorn.Server(config)
        with _Signals(server):
            if started is not None:
                address = f"[{host}]" if ":" in host else host
                started(f"http://{address}:{listener.getsockname()[1]}", app.state.signature)
            server.run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    It names its protocol, unlike that of ``socket.create_server``: asyncio sends small answers at once (TCP_NODELAY) only then, and
    otherwise each takes 40 ms.
    """
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if os.name == "posix":  # elsewhere two servers could share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        raise OSError(f"serve: cannot listen at {host}, port {port}: {error.strerror or error}") from error
    return listener


class _Signals:
    """Let SIGTERM and Ctrl-C end the server, also before it runs; uvicorn raises each anew when it has stopped, here in vain."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self._before: dict[int, Any] = {}

    def __enter__(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}

    def _stop(self, number: int, frame: Any) -> None:
        self._server.should_exit = True

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
