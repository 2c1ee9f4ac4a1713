"""A function that builds a model, with settings that a search can reach."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from minidl.errors import ParameterError, UnknownNameError

__all__ = ["Recipe"]


class Recipe:
    """How to build a model, with settings that scikit-learn and its searches can read and set.

    scikit-learn asks every parameter that has ``get_params`` for parameters of its own. So with
    ``NeuralClassifier(model=Recipe(build, hidden=32))`` a search over ``model__hidden`` works like any other.

    Parameters
    ----------
    build : callable
        ``build(n_features, n_outputs, ...)`` returns a model. Define it in a module, or the estimator cannot be pickled.
    **params : Any
        Further arguments of ``build``; its own defaults hold for the rest.

    Raises
    ------
    ParameterError
        If ``build`` is not callable or takes fewer than two arguments, or an argument without default is missing.
    UnknownNameError
        If ``build`` has no argument of that name; the message lists those it has.

    Examples
    --------
    >>> import minidl as dl
    >>> def build(n_features, n_outputs, hidden=32, dropout=0.0):
    ...     return dl.models.mlp([n_features, hidden, n_outputs], dropout=dropout)
    >>> recipe = Recipe(build, hidden=8)
    >>> recipe
    Recipe(build, hidden=8)
    >>> recipe.get_params()
    {'hidden': 8, 'dropout': 0.0}
    >>> recipe(4, 3)
    Sequential(Linear(4, 8), ReLU(), Linear(8, 3))
    """

    def __init__(self, build: Callable[..., Any], /, **params: Any) -> None:
        if not callable(build):
            raise ParameterError(f"Recipe: build must be a function (n_features, n_outputs, ...), got {build!r}")
        self.build, self.params = build, params
        first, self._defaults, any_name = _read_signature(build)
        if first < 2:
            raise ParameterError(f"Recipe: {_name(build)} must take n_features and n_outputs first")
        for name in params:
            if name not in self._defaults and not any_name:
                raise UnknownNameError.among(f"argument of {_name(build)}", name, self._defaults)
        missing = [name for name, value in self.get_params(deep=False).items() if value is inspect.Parameter.empty]
        if missing:
            example = f"Recipe({_name(build)}, {missing[0]}=...)"
            raise ParameterError(f"Recipe: {_name(build)} needs {', '.join(missing)}; give {example}")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name, also those of settings that have some themselves.

        Returns
        -------
        dict
        """
        found = {**self._defaults, **self.params}
        if deep:
            for name, value in list(found.items()):
                if hasattr(value, "get_params") and not isinstance(value, type):
                    found |= {f"{name}__{inner}": setting for inner, setting in value.get_params().items()}
        return found

    def set_params(self, **params: Any) -> Recipe:
        """Change settings; ``a__b`` is setting ``b`` of setting ``a``. Return the recipe itself.

        Returns
        -------
        Recipe

        Raises
        ------
        UnknownNameError
            If there is no setting of that name.
        """
        own = {name: value for name, value in params.items() if "__" not in name}
        changed = Recipe(self.build, **{**self.params, **own})  # checks before anything changes
        for name in params.keys() - own.keys():
            outer, _, inner = name.partition("__")
            part = changed.get_params(deep=False).get(outer)
            if part is None or not hasattr(part, "set_params"):
                raise UnknownNameError.among(f"argument of {_name(self.build)}", name, self.get_params())
            part.set_params(**{inner: params[name]})
        self.params = changed.params
        return self

    def __sklearn_clone__(self) -> Recipe:
        return Recipe(self.build, **{name: _copied(value) for name, value in self.params.items()})

    def __call__(self, n_features: int, n_outputs: int) -> Any:
        """Build the model."""
        return self.build(n_features, n_outputs, **self.params)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.build == other.build and self.get_params() == other.get_params()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"Recipe({', '.join([_name(self.build), *(f'{name}={value!r}' for name, value in self.params.items())])})"
        )


def _read_signature(build: Callable[..., Any]) -> tuple[int, dict[str, Any], bool]:
    """Return how many of the first two arguments there are, the defaults of the others, and whether it takes any name."""
    kinds = inspect.Parameter
    parameters = list(inspect.signature(build).parameters.values())
    first = [p for p in parameters[:2] if p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)]
    named = [p for p in parameters[2:] if p.kind in (kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)]
    any_name = any(p.kind is kinds.VAR_KEYWORD for p in parameters)
    return len(first), {p.name: p.default for p in named}, any_name


def _copied(value: Any) -> Any:
    return value.__sklearn_clone__() if hasattr(value, "__sklearn_clone__") else value


def _name(build: Callable[..., Any]) -> str:
    return getattr(build, "__name__", repr(build))
