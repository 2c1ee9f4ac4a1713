"""Lengths of axes that are not known before a graph runs: arithmetic on them becomes nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Length"]

_COMPUTE: dict[str, Callable[[int, int], int]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a // b,
    "Mod": lambda a, b: a % b,
}


class Length:
    """The length of an axis of an input, or what was computed of such lengths.

    A comparison gives what is true of the example that the graph is drawn with. If it says that the length equals a number, or if
    a number is asked for, the axis has that length in every run of the graph: ``drawing.fixed`` notes it, and the graph is drawn
    again with the number.

    Attributes
    ----------
    drawing : Drawing
    example : int
        The length in the example.
    key : tuple
        How it is computed: ("input", name, axis), or (operator, left, right).
    text : str
        The same as text, by which two lengths are known to be one.
    """

    __slots__ = ("drawing", "example", "key", "text")
    text: str

    def __init__(self, drawing: Any, example: int, key: tuple[Any, ...]) -> None:
        self.drawing, self.example, self.key = drawing, example, key
        self.text = "({} {} {})".format(*(part.text if isinstance(part, Length) else part for part in key))

    def inputs(self) -> set[tuple[str, int]]:
        """Return the axes of inputs, (name, axis), that it depends on."""
        if self.key[0] == "input":
            return {self.key[1:]}
        return set().union(*(part.inputs() for part in self.key[1:] if isinstance(part, Length)))

    def fix(self) -> int:
        """Return the example's length, and note that the axes it depends on cannot vary."""
        self.drawing.fix(self.inputs())
        return self.example

    def _with(self, operator: str, left: Any, right: Any) -> Any:
        values = [part.example if isinstance(part, Length) else part for part in (left, right)]
        if not all(isinstance(value, int) or hasattr(value, "__index__") for value in values):
            return NotImplemented
        if isinstance(right, int) and (operator, right) in (("Add", 0), ("Sub", 0), ("Mul", 1), ("Div", 1)):
            return left
        if isinstance(left, int) and (operator, left) in (("Add", 0), ("Mul", 1)):
            return right
        if operator in ("Add", "Sub") and isinstance(right, int) and isinstance(left, Length):
            shift = right if operator == "Add" else -right  # (n + a) + b is n + (a + b)
            if left.key[0] == "Add" and isinstance(left.key[2], int):
                left, shift = left.key[1], left.key[2] + shift
            return left if shift == 0 else Length(self.drawing, left.example + shift, ("Add", left, shift))
        if operator == "Sub" and getattr(left, "text", left) == getattr(right, "text", right):
            return 0
        return Length(self.drawing, _COMPUTE[operator](*map(int, values)), (operator, left, right))

    def __add__(self, other: Any) -> Any:
        return self._with("Add", self, other)

    def __radd__(self, other: Any) -> Any:
        return self._with("Add", self, other)  # one order, so that constants are collected

    def __sub__(self, other: Any) -> Any:
        return self._with("Sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return self._with("Sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return self._with("Mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return self._with("Mul", other, self)

    def __floordiv__(self, other: Any) -> Any:
        return self._with("Div", self, other)

    def __mod__(self, other: Any) -> Any:
        return self._with("Mod", self, other)

    def __neg__(self) -> Any:
        return self._with("Sub", 0, self)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Length):
            return self.example == other.example
        if not hasattr(other, "__index__") or self.example != other:
            return False
        self.fix()
        return True

    def __hash__(self) -> int:
        return hash(self.example)

    def __lt__(self, other: Any) -> bool:
        return self.example < getattr(other, "example", other)

    def __le__(self, other: Any) -> bool:
        return self.example <= getattr(other, "example", other)

    def __gt__(self, other: Any) -> bool:
        return self.example > getattr(other, "example", other)

    def __ge__(self, other: Any) -> bool:
        return self.example >= getattr(other, "example", other)

    def __bool__(self) -> bool:
        return bool(self.example)

    def __index__(self) -> int:
        return self.fix()

    def __int__(self) -> int:
        return self.fix()

    def __float__(self) -> float:
        return float(self.fix())

    def __repr__(self) -> str:
        return f"{self.example}*"
