"""The callbacks' hooks, found and called as each takes its arguments."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from minidl.errors import ParameterError, UnknownNameError
from minidl.training.callbacks import ALIASES, HOOKS, Callback

__all__ = ["Hooks"]

Hook = Callable[..., None]


class Hooks:
    """The callbacks' hooks, without those that nobody has overridden.

    Each is called with its place, such as the number of the epoch, and with the logs if it takes them.

    Parameters
    ----------
    callbacks : sequence of Callback
    model : layer
    numbers : sequence of str
        The keys of an epoch's logs.
    params : mapping of str, optional
        What the callbacks may want to know of the call, as Keras has it: ``epochs``, ``steps``, ``verbose``.
    where : str, default "fit"
        For messages.
    parallel : DataParallel, optional
        With it, callbacks run on rank 0 only, unless their ``every_rank`` is true.

    Attributes
    ----------
    on_root : set of str
        The hooks that run on rank 0 only.

    Raises
    ------
    ParameterError
        If something is no callback, or a hook takes other arguments.
    UnknownNameError
        If a callback has a method that is named like a hook, ``on_...``, but is none.
    """

    def __init__(
        self,
        callbacks: Sequence[Callback],
        model: Any,
        numbers: Sequence[str],
        params: Mapping[str, Any] | None = None,
        where: str = "fit",
        parallel: Any = None,
    ) -> None:
        self.on_root: set[str] = set()
        self._hooks: dict[str, list[Hook]] = {}
        for callback in callbacks:
            if not isinstance(callback, Callback):
                raise ParameterError(f"{where}: callbacks must be minidl.training.Callback objects, got {callback!r}")
            _check_names(callback)
            callback.model, callback.numbers, callback.params = model, tuple(numbers), dict(params or {})
            for name in HOOKS:
                hook = _overridden(callback, name)
                if hook is not None and parallel is not None and not callback.every_rank:
                    self.on_root.add(name)
                if hook is not None and (parallel is None or parallel.is_root or callback.every_rank):
                    self._hooks.setdefault(name, []).append(_adapted(hook, name, callback))

    def of(self, name: str) -> list[Hook]:
        """Return the hooks of that name, in the callbacks' order."""
        return self._hooks.get(name, [])

    def call(self, name: str, *args: Any) -> None:
        """Call the hook of all callbacks."""
        for hook in self.of(name):
            hook(*args)


def _check_names(callback: Callback) -> None:
    known = (*HOOKS, *ALIASES.values())
    for name in {*dir(type(callback)), *vars(callback)}:
        if name.startswith("on_") and name not in known and callable(getattr(callback, name, None)):
            raise UnknownNameError.among(f"hook of {type(callback).__name__}", name, known)


def _overridden(callback: Callback, name: str) -> Hook | None:
    """Return a callback's hook by this name, or else by its shorter one, or None if it is the one of the base."""
    for each in (name, ALIASES.get(name)):
        if each is not None:
            hook = getattr(callback, each)
            if getattr(hook, "__func__", hook) is not vars(Callback)[each]:
                return hook
    return None


def _adapted(hook: Hook, name: str, callback: Callback) -> Hook:
    """Return a function of all arguments that hands a hook those that it takes: with the logs, or without them."""
    places = ("",) * HOOKS[name]
    try:
        signature = inspect.signature(hook)
    except (TypeError, ValueError):  # its arguments cannot be inspected
        return hook
    for given, named, call in (
        ((*places, {}), {}, hook),
        (places, {"logs": {}}, functools.partial(_with_logs_by_name, hook)),
        (places, {}, functools.partial(_without_logs, hook)),
    ):
        try:
            bound = signature.bind(*given, **named)
        except TypeError:
            continue
        if call is hook and not _takes_logs(bound, name):
            continue
        return call
    arguments = ", ".join(("epoch" if "epoch" in name else "batch",) * HOOKS[name] + ("logs",))
    raise ParameterError(f"{type(callback).__name__}.{hook.__name__} must take ({arguments}), got {signature}")


def _takes_logs(bound: inspect.BoundArguments, name: str) -> bool:
    """Whether the argument that would be the logs is meant to be: a default may belong to something else."""
    last = list(bound.signature.parameters.values())[: HOOKS[name] + 1][-1]
    other = last.default is not inspect.Parameter.empty and last.name != "logs"
    return not other or name in ("on_train_batch_end", "on_epoch_end")


def _with_logs_by_name(hook: Hook, *args: Any) -> None:
    hook(*args[:-1], logs=args[-1])


def _without_logs(hook: Hook, *args: Any) -> None:
    hook(*args[:-1])
