"""Where the coefficients in formulas.h come from: minimax polynomials by Remez's exchange, in 50-digit arithmetic.

    python csrc/fit_polynomials.py        # needs mpmath; prints every polynomial and its largest relative error

Each fit minimises the largest of |w(x) (p(x) - f(x))|, where w makes the error relative to the function that p is part of.
E. Remez, "Sur la détermination des polynômes d'approximation de degré donnée" (1934).
"""

from __future__ import annotations

from collections.abc import Callable

import mpmath as mp

mp.mp.dps = 50

Function = Callable[[mp.mpf], mp.mpf]


def remez(f: Function, weight: Function, low: float, high: float, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """Return the coefficients (constant first) of the minimax polynomial and its largest weighted error."""
    count = degree + 2
    low, high = mp.mpf(low), mp.mpf(high)
    points = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]
    coefficients, worst = [], mp.mpf(0)
    for _ in range(12):
        rows = [[x**j for j in range(degree + 1)] + [(-1) ** k / weight(x)] for k, x in enumerate(points)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points]))
        coefficients = [solution[j] for j in range(degree + 1)]
        points, worst, least = _extremes(f, weight, coefficients, low, high, count)
        if worst < least * mp.mpf("1.001"):
            break
    return coefficients, worst


def _extremes(
    f: Function, weight: Function, coefficients: list[mp.mpf], low: mp.mpf, high: mp.mpf, count: int
) -> tuple[list[mp.mpf], mp.mpf, mp.mpf]:
    """Return the points where the error is largest between its sign changes, and the largest and least of them."""
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / 1500) for k in range(1501)]
    errors = [weight(x) * (mp.polyval(coefficients[::-1], x) - f(x)) for x in grid]
    runs: list[tuple[mp.mpf, mp.mpf]] = []
    for x, e in zip(grid, errors, strict=True):
        if runs and (e > 0) == (runs[-1][1] > 0):
            if abs(e) > abs(runs[-1][1]):
                runs[-1] = (x, e)
        else:
            runs.append((x, e))
    while len(runs) > count:  # drop the smaller end
        runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
    if len(runs) < count:  # as good as it gets in this arithmetic
        return [x for x, _ in runs], max(abs(e) for _, e in runs), max(abs(e) for _, e in runs)
    return [x for x, _ in runs], max(abs(e) for _, e in runs), min(abs(e) for _, e in runs)


def show(name: str, f: Function, weight: Function, low: float, high: float, degree: int, digits: int) -> None:
    """Print one polynomial, highest power first, as formulas.h has it."""
    coefficients, worst = remez(f, weight, low, high, degree)
    print(f"{name}, on [{float(low):.6g}, {float(high):.6g}], relative error {float(worst):.1e}")
    for c in coefficients[::-1]:
        print(f"    {mp.nstr(c, digits, min_fixed=0, max_fixed=0)}")


def limit(f: Function, at_zero: mp.mpf) -> Function:
    """Return f with its limit at 0 filled in."""
    return lambda x: at_zero if abs(x) < mp.mpf(10) ** -15 else f(x)


def scaled_tail(t: mp.mpf) -> mp.mpf:
    """Return g with erfc(z) = exp(-z^2) g(t) / (1 + z), t = (z - 2) / (z + 2)."""
    if t >= 1:
        return 1 / mp.sqrt(mp.pi)
    z = 2 * (1 + t) / (1 - t)
    if z > 100:  # Laplace's continued fraction
        fraction = mp.mpf(0)
        for n in range(60, 0, -1):
            fraction = (mp.mpf(n) / 2) / (z + fraction)
        return (1 + z) / (mp.sqrt(mp.pi) * (z + fraction))
    return mp.exp(z * z) * mp.erfc(z) * (1 + z)


def main() -> None:
    """Print all."""
    half_ln2 = mp.log(2) / 2
    exp_part = limit(lambda r: (mp.exp(r) - 1 - r) / r**2, mp.mpf(1) / 2)  # exp(r) = 1 + r + r^2 p(r)
    tanh_part = limit(lambda s: (mp.tanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s, mp.mpf(-1) / 3)  # tanh x = x + x^3 p(x^2)
    expm1_part = limit(lambda x: (mp.expm1(x) - x) / x**2, mp.mpf(1) / 2)  # expm1(x) = x + x^2 p(x)
    atanh_part = limit(lambda s: (mp.atanh(mp.sqrt(s)) / mp.sqrt(s) - 1) / s, mp.mpf(1) / 3)
    for precision, digits, degrees in (("float32", 10, (4, 5, 5, 4, 12)), ("float64", 20, (10, 12, 13, 12, 26))):
        print(f"--- {precision}")
        show("exp", exp_part, lambda r: r**2 / mp.exp(r), -half_ln2, half_ln2, degrees[0], digits)
        show(
            "tanh",
            tanh_part,
            limit(lambda s: s**1.5 / mp.tanh(mp.sqrt(s)), mp.mpf(0)),
            1e-9,
            0.625**2,
            degrees[1],
            digits,
        )
        show("expm1", expm1_part, limit(lambda x: abs(x**2 / mp.expm1(x)), mp.mpf(0)), -0.55, 1e-6, degrees[2], digits)
        show(
            "atanh",
            atanh_part,
            limit(lambda s: s**1.5 / mp.atanh(mp.sqrt(s)), mp.mpf(0)),
            1e-9,
            mp.mpf(1) / 9,
            degrees[3],
            digits,
        )
        show("erfc", scaled_tail, lambda t: 1 / scaled_tail(t), -1, 1, degrees[4], digits)


if __name__ == "__main__":
    main()
