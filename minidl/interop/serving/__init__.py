"""Answer requests over HTTP with a model: the Open Inference Protocol, version 2, on Starlette and uvicorn, the extra ``serve``."""

from minidl.interop.serving.app import make_app
from minidl.interop.serving.running import serve

__all__ = ["make_app", "serve"]
