"""The base of all optimisers: groups of parameters with their settings, the state, and the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy

from minidl import weights
from minidl.engines import current
from minidl.errors import DtypeError, OrderError, ParameterError, ShapeError
from minidl.layers.parameter import Parameter, ParameterBuffer, on_device_of, structure, to_namespace
from minidl.ops import Array
from minidl.ops._checks import widen_float16
from minidl.ops._scalars import check_constructor
from minidl.optim.clip import norm_and_factor, rescale
from minidl.optim.segments import Segment, put_together, segments, unique_parameters

__all__ = ["Group", "Optimizer"]

Settings = dict[str, Any]
Check = Callable[[Any], Any]


class Group:
    """Parameters that share their settings; ``group["lr"]`` reads a setting, ``group["lr"] = 0.1`` checks and sets it.

    Attributes
    ----------
    parameters : list of Parameter
    settings : dict
        Read-only; ``group[name] = value`` checks and sets.
    initial_lr : float or None
        The rate when the first schedule of the group was created.
    """

    def __init__(self, owner: Optimizer, parameters: list[Parameter], settings: Settings) -> None:
        self.parameters = parameters
        self.settings = settings
        self.segments: list[Segment] = []
        self.initial_lr: float | None = None
        self.parked: dict[Parameter, tuple[int, dict[str, Array]]] = {}
        """The updates and the state of parameters that were trained and are frozen now, for when they are trained again."""
        self._owner = owner

    def __getitem__(self, name: str) -> Any:
        return self.parameters if name == "params" else self.settings[name]

    def __setitem__(self, name: str, value: Any) -> None:
        self._owner._set(self, name, value)

    def __contains__(self, name: str) -> bool:
        return name in self.settings

    def keys(self) -> list[str]:
        """Return ``"params"`` and the names of the settings, so that ``dict(group)`` is a group as one gives it.

        Returns
        -------
        list of str
        """
        return ["params", *self.settings]

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.settings.items())
        return f"<{len(self.parameters)} parameters, {shown}>"


def _setting(name: str) -> property:
    """Return the attribute that reads a setting of the first group, and sets it for every group."""

    def get(self: Optimizer) -> Any:
        return self.param_groups[0][name]

    def set_everywhere(self: Optimizer, value: Any) -> None:
        for group in self.param_groups:
            group[name] = value

    return property(get, set_everywhere, doc=f"``{name}`` of the first group; setting it sets that of every group.")


class Optimizer:
    """Base of the optimisers: one pass over each flat buffer, by the engine's update op.

    A model's parameters are views of one flat buffer, so a step is one call of one op for the whole model, however many layers
    it has. With several groups it is one call for each; for this the parameters of a group are moved next to one another in
    their buffer. A gradient that no backward has computed since ``zero_grad`` counts as zero. Momentum therefore still moves its
    parameter, unlike in PyTorch, which skips it. A frozen parameter (``trainable = False``) is skipped, and has no state unless
    it was trained before. The state of float16 parameters is float32, because in float16 it would vanish or overflow; their
    values are still rounded at every step, so a step below 0.0005 of a value is lost.

    A subclass defines the checks of its settings (:attr:`checks`), the names of its state arrays (:meth:`state_names`), and the
    call of its op (:meth:`update`).

    Parameters
    ----------
    params : list of Parameter, or list of dict
        ``model.parameters()``, or groups ``{"params": [...], "lr": ...}`` with settings of their own, as in PyTorch. A parameter
        given twice counts once.
    **settings : Any
        The defaults of every group.

    Attributes
    ----------
    param_groups : list of Group
    lr, momentum, ...
        The settings of the first group by their names; assigning one sets it for every group.
    step_count : int
        Number of steps taken.
    updates : int
        While :meth:`update` runs, the number of updates of its values, including this one. Smaller than ``step_count`` for
        parameters that were frozen during some of the steps.
    grad_scale : float
        The factor of the gradients in the next step; reset to 1 by the step and by ``zero_grad``. After clipping on a GPU it
        is an array without axes, which stays there.

    Raises
    ------
    ParameterError
        If there are no parameters, all are frozen, an item is not a parameter, a parameter is in two groups, or a setting is
        unknown or outside its range.
    NotBuiltError
        From ``model.parameters()``, if the model has layers that have not seen their input shape.
    """

    checks: ClassVar[Mapping[str, Check]] = {}
    """For each setting a function that returns the checked value, or raises ParameterError."""

    lr: Any
    learning_rate = _setting("lr")

    scales_gradients: ClassVar[bool] = False
    """Whether :meth:`update` applies :attr:`grad_scale` itself; otherwise :meth:`step` does, in a separate pass."""

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        self.step_count = self.updates = 0
        self.grad_scale: Any = 1.0
        self._segments: list[Segment] = []
        self._known_at = -1
        self._whole_buffers: list[ParameterBuffer] = []
        self._others: list[Parameter] = []
        self.defaults = self._check(settings)
        self.param_groups = [
            self._create_group(self._where(index, given), given)
            for index, given in enumerate(self._list_groups(params))
        ]
        for index, group in enumerate(self.param_groups):
            self._check_new(index, group, self.param_groups[:index])
        if not any(parameter.trainable for parameter in self.parameters):
            raise ParameterError(
                f"{self._name}: every parameter is frozen; set trainable = True where something is to be trained"
            )
        self._arrange()

    def __init_subclass__(cls, **options: Any) -> None:
        """Make an attribute of each setting."""
        super().__init_subclass__(**options)
        check_constructor(cls)
        for name in cls.checks:
            setattr(cls, name, _setting(name))

    # for subclasses to define -----------------------------------------------------------------------------------------

    def state_names(self, settings: Settings) -> tuple[str, ...]:
        """Return the names of the state arrays under these settings, each as large as the values."""
        return ()

    def initial_state(self, name: str, settings: Settings) -> float:
        """Return the initial value of a state array."""
        return 0.0

    def check_together(self, settings: Settings) -> None:
        """Raise ParameterError if settings that are each valid do not fit together."""

    def moves_touched_rows_only(self, settings: Settings) -> bool:
        """Whether values and state stay the same where the gradient is zero.

        If so, a step reads and writes only the rows of a table that it used; see :class:`minidl.layers.TableParameter`.
        """
        return False

    def update(self, engine: Any, values: Array, gradients: Array, state: dict[str, Array], settings: Settings) -> None:
        """Update the values of one segment with the engine's update op."""
        raise NotImplementedError(f"{self._name} defines no update")

    # stepping --------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Update every value by one step."""
        if self._known_at != structure.changes:
            self._follow()
        self.step_count += 1
        engine = current()
        if not self.scales_gradients and (hasattr(self.grad_scale, "dtype") or self.grad_scale != 1.0):
            rescale(self._segments, self.grad_scale)
        for group in self.param_groups:
            for segment in group.segments:
                segment.updates += 1
                self.updates = segment.updates
                if segment.table is not None and self.moves_touched_rows_only(group.settings):
                    self._update_rows(engine, segment, group.settings)
                    continue
                values, gradients = segment.arrays()
                self.update(engine, values, gradients, segment.state, group.settings)
        self.grad_scale = 1.0

    def _update_rows(self, engine: Any, segment: Segment, settings: Settings) -> None:
        """Update the rows of a table that have a gradient."""
        table = segment.table
        assert table is not None
        rows = table.touched_rows()
        if rows is None:
            self.update(engine, *segment.arrays(), segment.state, settings)
        elif len(rows):
            whole = {name: segment.part(array, table) for name, array in segment.state.items()}  # (V, ...)
            values = table.value[rows].reshape(-1)
            gradients = segment.part(segment.gradients(), table)[rows].reshape(-1)
            state = {name: array[rows].reshape(-1) for name, array in whole.items()}
            self.update(engine, values, gradients, state, settings)
            shape = (len(rows), *table.shape[1:])
            table.value[rows] = values.reshape(shape)
            for name, array in whole.items():
                array[rows] = state[name].reshape(shape)

    def clip_grad_norm(self, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False) -> Any:
        """Clip the joint norm of the gradients to ``max_norm`` in the next step; return the norm before.

        As :func:`minidl.optim.clip_grad_norm` over all parameters of this optimiser, but the gradients do not change. The pass of
        the step multiplies by the factor (:attr:`grad_scale`), which saves reading and writing the gradients once more. On a GPU
        the norm is an array without axes; ``float(norm)`` waits for it.

        Raises
        ------
        ParameterError
            If ``max_norm`` or ``norm_type`` is not positive.
        NonFiniteError
            With ``error_if_nonfinite``, if the norm is nan or infinite.

        Examples
        --------
        >>> from minidl.layers import Parameter
        >>> from minidl.optim import SGD
        >>> p = Parameter(numpy.zeros(2))
        >>> optimizer = SGD([p], lr=1.0)
        >>> p.grad[...] = [3.0, 4.0]
        >>> optimizer.clip_grad_norm(max_norm=1.0)
        5.0
        >>> optimizer.step(); p.value.round(5), p.grad
        (array([-0.6, -0.8]), array([3., 4.]))
        """
        self._follow()
        norm, factor = norm_and_factor(self._segments, max_norm, norm_type, error_if_nonfinite, self.grad_scale)
        self.grad_scale *= factor
        return norm

    def zero_grad(self) -> None:
        """Set the gradients to zero, except those of parameters that this optimiser does not hold."""
        if self._known_at != structure.changes:
            self._follow()
        self.grad_scale = 1.0
        for buffer in self._whole_buffers:
            buffer.zero_grad()
        for parameter in self._others:
            parameter.zero_grad()

    @property
    def parameters(self) -> list[Parameter]:
        """All parameters, group by group."""
        return [parameter for group in self.param_groups for parameter in group.parameters]

    # groups and settings ---------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return type(self).__name__

    def add_param_group(self, param_group: Mapping[str, Any]) -> None:
        """Add a group of parameters, such as layers that are trained from now on.

        Make schedules after it: they know the groups that there were.

        Parameters
        ----------
        param_group : dict
            ``{"params": [...], "lr": ...}``, with settings of its own; others are the defaults of the optimiser.

        Raises
        ------
        ParameterError
            If it is no such dict, holds no parameters, or one that is in a group already.
        """
        if not isinstance(param_group, Mapping) or "params" not in param_group:
            raise ParameterError(
                f"{self._name}: expected a group to be a dict with the key 'params', got {param_group!r}"
            )
        index = len(self.param_groups)
        group = self._create_group(self._where(index, param_group), param_group)
        self._check_new(index, group, self.param_groups)
        self.param_groups.append(group)
        self._arrange()

    def _arrange(self) -> None:
        """Give each group as few segments as possible."""
        put_together(group.parameters for group in self.param_groups)
        self._regroup()

    def _check_new(self, index: int, group: Group, earlier: list[Group]) -> None:
        """Raise ParameterError if a parameter of a group is in an earlier one."""
        seen = {parameter for other in earlier for parameter in other.parameters}
        twice = next((p for p in group.parameters if p in seen), None)
        if twice is not None:
            raise ParameterError(f"{self._name}: {twice!r} of group {index} is already in an earlier group")

    def _where(self, index: int, given: Mapping[str, Any]) -> str:
        return self._name if set(given) == {"params"} else f"{self._name}: group {index}"

    def _list_groups(self, params: Iterable[Any]) -> list[Mapping[str, Any]]:
        """Return the groups as dicts, however they were given."""
        if not hasattr(params, "parameters") and isinstance(params, Iterable) and not isinstance(params, Mapping):
            params = list(params)
            if any(isinstance(group, Mapping) for group in params):
                for group in params:
                    if not isinstance(group, Mapping) or "params" not in group:
                        raise ParameterError(
                            f"{self._name}: expected groups to be dicts with the key 'params', got {group!r}"
                        )
                return params
        return [{"params": params}]

    def _create_group(self, where: str, given: Mapping[str, Any]) -> Group:
        own = {name: value for name, value in given.items() if name != "params"}
        parameters = unique_parameters(given["params"], where)
        if not parameters:
            raise ParameterError(
                f"{where}: got no parameters to optimise; pass model.parameters() of a model that has parameters"
            )
        return Group(self, parameters, self._check({**self.defaults, **own}))

    def _check(self, settings: Settings) -> Settings:
        """Return the settings, each checked and converted to its plain Python type."""
        checked = {name: self._check_one(name, value) for name, value in settings.items()}
        self.check_together(checked)
        return checked

    def _check_one(self, name: str, value: Any) -> Any:
        if name not in self.checks:
            raise ParameterError(f"{self._name}: unknown setting {name!r}; known: {', '.join(sorted(self.checks))}")
        try:
            return self.checks[name](value)
        except ParameterError as error:
            raise ParameterError(f"{self._name}: {name} {error}") from None

    def _set(self, group: Group, name: str, value: Any) -> None:
        """Set one setting of a group; add or remove the state arrays that depend on it."""
        settings = {**group.settings, name: self._check_one(name, value)}
        self.check_together(settings)
        other_state = self.state_names(settings) != self.state_names(group.settings)
        group.settings[name] = settings[name]
        if other_state:
            self._regroup()

    # state -----------------------------------------------------------------------------------------------------------

    def _follow(self) -> None:
        """Find the parameters again if they were frozen or moved: into a larger model, to a GPU, to another precision."""
        if self._known_at == structure.changes:
            return
        self._known_at = structure.changes
        trained = {parameter for segment in self._segments for parameter in segment.parameters}
        frozen_or_not = trained != {parameter for parameter in self.parameters if parameter.trainable}
        if frozen_or_not or any(segment.moved() for segment in self._segments):
            self._regroup()

    def _regroup(self) -> None:
        """Build the segments again and copy the state to them."""
        self._known_at = structure.changes
        for group in self.param_groups:
            old = self._kept(group)
            trained = [parameter for parameter in group.parameters if parameter.trainable]
            group.parked = {parameter: kept for parameter, kept in old.items() if not parameter.trainable}
            group.segments = segments(trained, {parameter: updates for parameter, (updates, _) in old.items()})
            for segment in group.segments:
                for name in self.state_names(group.settings):
                    segment.state[name] = self._state_array(name, segment, group.settings, old)
        self._segments = [segment for group in self.param_groups for segment in group.segments]
        self._find_whole_buffers()

    def _find_whole_buffers(self) -> None:
        """Find the buffers whose gradients are all ours to zero, and the parameters in others."""
        own = {parameter for segment in self._segments for parameter in segment.parameters}
        buffers = dict.fromkeys(segment.buffer for segment in self._segments)
        self._whole_buffers = [
            buffer for buffer in buffers if all(p in own or not p.trainable for p in buffer.parameters)
        ]
        self._others = [p for p in own if p.buffer not in self._whole_buffers]

    def _kept(self, group: Group) -> dict[Parameter, tuple[int, dict[str, Array]]]:
        """Return the updates and the state of every parameter that has had some."""
        kept = dict(group.parked)
        for segment in group.segments:
            if segment.own is not None:
                raise OrderError(
                    f"{self._name}: during fit(..., parallel=...) with sharded=True each rank holds a slice of the state only; "
                    "checkpoints of fit hold the whole"
                )
            for parameter in segment.parameters:
                state = {name: segment.part(array, parameter) for name, array in segment.state.items()}
                kept[parameter] = segment.updates, state
        return kept

    def _state_array(
        self, name: str, segment: Segment, settings: Settings, old: Mapping[Parameter, tuple[int, dict[str, Array]]]
    ) -> Array:
        with on_device_of(segment.values) as xp:
            array = widen_float16(xp.zeros_like(segment.values))  # (P,)
            start = self.initial_state(name, settings)
            if start:
                array[...] = start
            for parameter in segment.parameters:
                before = old.get(parameter, (0, {}))[1]
                if name in before:
                    segment.part(array, parameter)[...] = to_namespace(before[name], xp)
        return array

    def state_dict(self) -> dict[str, numpy.ndarray]:
        """Return everything that the next step depends on, as arrays on the host.

        ``step`` is the number of steps taken, ``groups.G.NAME`` a setting of group G, and ``state.G.I.NAME`` a state array of the
        I-th parameter of that group, in its shape. ``updates.G.I`` is the number of updates of that parameter if it is not
        ``step``. A parameter that was never trained has no state. All are arrays, 0-d for numbers, so a safetensors file can
        hold them.
        """
        self._follow()
        found: dict[str, numpy.ndarray] = {"step": numpy.asarray(self.step_count)}
        for g, group in enumerate(self.param_groups):
            for name, value in group.settings.items():
                found[f"groups.{g}.{name}"] = numpy.asarray(value)
            for key, view in self._state_views(g):
                found[key] = weights.to_host(view).copy()
            kept = self._kept(group)
            for i, parameter in enumerate(group.parameters):
                updates = kept.get(parameter, (0, {}))[0]
                if updates != self.step_count:
                    found[f"updates.{g}.{i}"] = numpy.asarray(updates)
        return found

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict` of an optimiser of this kind, for parameters of these shapes.

        Nothing changes unless everything fits.

        Raises
        ------
        ParameterError
            If it is no mapping of names, an entry is missing or unexpected, or a setting is outside its range.
        ShapeError
            If an array does not have the shape of its parameter.
        DtypeError
            If an entry cannot be an array, or an array does not hold floating-point numbers.
        """
        self._follow()
        found = weights.arrays_by_name(state_dict, f"{self._name}.load_state_dict")
        self._check_count(found)
        settings = [self._restore_settings(found, g) for g in range(len(self.param_groups))]
        expected: dict[str, tuple[int, ...] | None] = {"step": ()}
        expected |= {f"groups.{g}.{name}": None for g, own in enumerate(settings) for name in own}
        optional: dict[str, tuple[int, ...] | None] = {}
        for g, group in enumerate(self.param_groups):
            for i, parameter in enumerate(group.parameters):
                state = {f"state.{g}.{i}.{name}": parameter.shape for name in self.state_names(settings[g])}
                optional[f"updates.{g}.{i}"] = ()
                if parameter.trainable:
                    expected |= state
                else:
                    optional |= state
        self._compare(found, expected, optional)
        self.step_count = int(found["step"])
        for g, (group, own) in enumerate(zip(self.param_groups, settings, strict=True)):
            group.settings = own
            group.segments = []
            group.parked = {p: self._loaded(found, g, i, own) for i, p in enumerate(group.parameters)}
        self._regroup()

    def _loaded(self, found: Mapping[str, numpy.ndarray], g: int, i: int, settings: Settings) -> tuple[int, Any]:
        """Return the updates and the state of one parameter."""
        keys = {name: f"state.{g}.{i}.{name}" for name in self.state_names(settings)}
        state = {name: found[key].copy() for name, key in keys.items() if key in found}
        return int(found.get(f"updates.{g}.{i}", found["step"])), state

    def _state_views(self, g: int) -> Iterator[tuple[str, Array]]:
        """Yield the key and the view of every state array of group g."""
        group = self.param_groups[g]
        index = {parameter: i for i, parameter in enumerate(group.parameters)}
        for parameter, (_, state) in self._kept(group).items():
            for name, array in state.items():
                yield f"state.{g}.{index[parameter]}.{name}", array

    def _check_count(self, found: Mapping[str, numpy.ndarray]) -> None:
        """Raise unless a state is one of as many groups."""
        given = {key.split(".")[1] for key in found if key.startswith("groups.")}
        if given and len(given) != len(self.param_groups):
            raise ParameterError(
                f"{self._name}.load_state_dict: the number of groups differs: {len(given)} in the state, "
                f"{len(self.param_groups)} here; make the optimizer with the groups that it had, in the same order"
            )

    def _restore_settings(self, found: Mapping[str, numpy.ndarray], g: int) -> Settings:
        missing = [key for name in self.defaults if (key := f"groups.{g}.{name}") not in found]
        if missing:
            raise ParameterError(
                f"{self._name}.load_state_dict: the state is of another optimiser; missing: {', '.join(missing)}"
            )
        return self._check({name: found[f"groups.{g}.{name}"].tolist() for name in self.defaults})

    def _compare(
        self,
        found: Mapping[str, numpy.ndarray],
        expected: Mapping[str, tuple[int, ...] | None],
        optional: Mapping[str, tuple[int, ...] | None],
    ) -> None:
        """Raise unless a state fits this optimiser."""
        where = f"{self._name}.load_state_dict"
        missing, unexpected = sorted(set(expected) - set(found)), sorted(set(found) - set(expected) - set(optional))
        if missing or unexpected:
            raise ParameterError(
                f"{where}: the state is of another optimiser or model; missing: {', '.join(missing) or 'none'}; "
                f"unexpected: {', '.join(unexpected) or 'none'}"
            )
        for key, shape in {**expected, **{key: shape for key, shape in optional.items() if key in found}}.items():
            if shape is not None and found[key].shape != shape:
                raise ShapeError(f"{where}: {key} must have shape {shape}, got {found[key].shape}")
            if key.startswith("state.") and found[key].dtype.kind != "f":
                raise DtypeError(f"{where}: {key} must be floating-point, got dtype {found[key].dtype}")
        if found["step"].dtype.kind not in "iu" or found["step"] < 0:
            raise ParameterError(f"{where}: step must be a non-negative integer, got {found['step']!r}")

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.param_groups[0].settings.items()]
        groups = f"{len(self.param_groups)} groups, the first: " if len(self.param_groups) > 1 else ""
        return f"{self._name}({groups}{', '.join(shown)})"
