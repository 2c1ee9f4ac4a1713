"""The packages Starlette and uvicorn, which are imported when they are used."""

from __future__ import annotations

from typing import Any

from minidl.errors import MissingDependencyError

__all__ = ["import_starlette", "import_uvicorn"]


def import_starlette() -> Any:
    """Return the package starlette with the modules that are used here.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import starlette.applications
        import starlette.concurrency
        import starlette.exceptions
        import starlette.requests
        import starlette.responses
        import starlette.routing
    except ImportError as error:
        raise MissingDependencyError.needs("minidl.interop.serving", "starlette", "serve") from error
    return starlette


def import_uvicorn() -> Any:
    """Return the package uvicorn.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingDependencyError.needs("minidl.interop.serving", "uvicorn", "serve") from error
    return uvicorn
