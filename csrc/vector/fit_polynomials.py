"""Where the coefficients of formulas.h come from: minimax fits by Remez's exchange, in 50-digit arithmetic.

    python csrc/vector/fit_polynomials.py        # needs mpmath; prints every polynomial and quotient and its largest error

Each fit minimises the largest of |w(x) (p(x) - f(x))|, where w makes the error relative to the function that p is part of.
E. Remez, "Sur la détermination des polynômes d'approximation de degré donnée" (1934).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp

mp.mp.dps = 50

Function = Callable[[mp.mpf], mp.mpf]


def remez(f: Function, weight: Function, low: mp.mpf, high: mp.mpf, degree: int) -> tuple[list[mp.mpf], mp.mpf]:
    """Return the coefficients (constant first) of the minimax polynomial and its largest weighted error."""
    points = _start(low, high, degree + 2)
    grid = [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / 1500) for k in range(1501)]
    coefficients, worst = [], mp.mpf(0)
    for _ in range(15):
        weights = [max(weight(x), mp.mpf(10) ** -25) for x in points]
        rows = [[x**j for j in range(degree + 1)] + [(-1) ** k / weights[k]] for k, x in enumerate(points)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points]))
        coefficients = [solution[j] for j in range(degree + 1)]
        errors = [weight(x) * (mp.polyval(coefficients[::-1], x) - f(x)) for x in grid]
        points, worst, least = _extremes(grid, errors, degree + 2)
        if worst < least * mp.mpf("1.001"):
            break
    return coefficients, worst


def rational_remez(f: Function, high: mp.mpf, above: int, below: int) -> tuple[list[mp.mpf], list[mp.mpf], mp.mpf]:
    """Return numerator and denominator of the quotient of least relative error on [0, high], and that error.

    The denominator's leading coefficient is 1. The equations are linear in everything but the product of the error and the
    denominator; there the denominator of the round before stands in.
    """
    count = above + below + 2
    grid = [
        high * (1 + t) / (1 + t + 8 * (1 - t)) for t in (-mp.cos(mp.pi * k / 1500) for k in range(1501))
    ]  # dense near 0
    values = [f(x) for x in grid]
    at = [round(1500 * k / (count - 1)) for k in range(count)]
    numerator, denominator, worst = [], [mp.mpf(1)], mp.mpf(0)
    for _ in range(40):
        for _ in range(5):
            rows = [
                [grid[i] ** j for j in range(above + 1)]
                + [-values[i] * grid[i] ** j for j in range(below)]
                + [(-1) ** k * values[i] * mp.polyval(denominator[::-1], grid[i])]
                for k, i in enumerate(at)
            ]
            solution = mp.lu_solve(mp.matrix(rows), mp.matrix([values[i] * grid[i] ** below for i in at]))
            numerator, denominator = list(solution[: above + 1]), [*solution[above + 1 : count - 1], mp.mpf(1)]
        errors = [
            mp.polyval(numerator[::-1], x) / mp.polyval(denominator[::-1], x) / value - 1
            for x, value in zip(grid, values, strict=True)
        ]
        points, worst, least = _extremes(grid, errors, count)
        at = [grid.index(x) for x in points]
        if worst < least * mp.mpf("1.001"):
            break
    return numerator, denominator, worst


def _extremes(grid: list[mp.mpf], errors: list[mp.mpf], count: int) -> tuple[list[mp.mpf], mp.mpf, mp.mpf]:
    """Return the points where the error is largest between its sign changes, and the largest and least of them."""
    runs: list[tuple[mp.mpf, mp.mpf]] = []
    for x, e in zip(grid, errors, strict=True):
        if abs(e) < mp.mpf(10) ** -35:  # where the weight is zero there is no sign
            continue
        if runs and (e > 0) == (runs[-1][1] > 0):
            if abs(e) > abs(runs[-1][1]):
                runs[-1] = (x, e)
        else:
            runs.append((x, e))
    while len(runs) > count:  # drop the smaller end
        runs.pop(0 if abs(runs[0][1]) < abs(runs[-1][1]) else -1)
    sizes = [abs(e) for _, e in runs]
    if len(runs) < count:  # as good as it gets on this grid
        return [grid[round((len(grid) - 1) * k / (count - 1))] for k in range(count)], max(sizes), max(sizes)
    return [x for x, _ in runs], max(sizes), min(sizes)


def _start(low: mp.mpf, high: mp.mpf, count: int) -> list[mp.mpf]:
    """Return Chebyshev's points, the extremes to begin with."""
    return [(low + high) / 2 - (high - low) / 2 * mp.cos(mp.pi * k / (count - 1)) for k in range(count)]


def limit(f: Function, at_zero: mp.mpf) -> Function:
    """Return f with its limit at 0 filled in."""
    return lambda x: mp.mpf(at_zero) if abs(x) < mp.mpf(10) ** -15 else f(x)


def mills(a: mp.mpf) -> mp.mpf:
    """Return h with Q(a) = exp(-a^2 / 2) h(a), where Q is the normal distribution's upper tail."""
    z = a / mp.sqrt(2)
    if z < 30:
        return mp.exp(z * z) * mp.erfc(z) / 2
    fraction = mp.mpf(0)  # Laplace's continued fraction
    for n in range(80, 0, -1):
        fraction = (mp.mpf(n) / 2) / (z + fraction)
    return 1 / (2 * mp.sqrt(mp.pi) * (z + fraction))


def root(f: Function) -> Function:
    """Return s -> f(sqrt(s)): an even function of x as a function of x^2."""
    return lambda s: f(mp.sqrt(s))


@dataclass(frozen=True)
class Fit:
    """One polynomial: its name in formulas.h, what it approximates, the weight, the interval."""

    name: str
    meaning: str
    f: Function
    weight: Function
    low: mp.mpf
    high: mp.mpf
    degree: int


def fits(degrees: tuple[int, ...]) -> list[Fit]:
    """Describe the polynomials of one precision."""
    half_ln2, one = mp.log(2) / 2, mp.mpf(1)
    exp_degree, exp2_degree, log_degree, atanh_degree, erf_degree = degrees
    return [
        Fit("EXP", "exp(r) - 1 = r + r^2 p(r)", limit(lambda r: (mp.expm1(r) - r) / r**2, one / 2),
            limit(lambda r: abs(r**2 / mp.expm1(r)), 0), -half_ln2, half_ln2, exp_degree),
        Fit("EXP2", "2^r = 1 + r p(r)", limit(lambda r: (mp.mpf(2) ** r - 1) / r, mp.log(2)),
            limit(lambda r: abs(r) / mp.mpf(2) ** r, 0), -one / 2, one / 2, exp2_degree),
        Fit("LOG", "log(1 + f) = f - f^2/2 + f^3 p(f)", limit(lambda f: (mp.log1p(f) - f + f * f / 2) / f**3, one / 3),
            limit(lambda f: abs(f**3 / mp.log1p(f)), 0), mp.sqrt(one / 2) - 1, mp.sqrt(mp.mpf(2)) - 1, log_degree),
        Fit("ATANH", "atanh(s) = s + s^3 p(s^2)", limit(root(lambda s: (mp.atanh(s) / s - 1) / s**2), one / 3),
            limit(root(lambda s: s**3 / mp.atanh(s)), 0), mp.mpf("1e-12"), one / 9, atanh_degree),
        Fit("ERF", "erf(x) = x + x p(x^2)", limit(root(lambda x: mp.erf(x) / x - 1), 2 / mp.sqrt(mp.pi) - 1),
            limit(root(lambda x: x / mp.erf(x)), mp.sqrt(mp.pi) / 2), mp.mpf("1e-12"), one, erf_degree),
    ]  # fmt: skip


def tail(bits: int, high: mp.mpf, above: int, below: int) -> tuple[str, list[mp.mpf], list[mp.mpf]]:
    """Return h with Q(a) = 2^(-k a^2) h(a), k = log2(e) / 2 rounded to so many bits, as a quotient."""
    k = mp.ldexp(mp.nint(mp.ldexp(mp.log(mp.e, 2) / 2, bits)), -bits)

    def h(a: mp.mpf) -> mp.mpf:
        return mills(a) * mp.exp((k * mp.log(2) - mp.mpf(1) / 2) * a * a)

    numerator, denominator, worst = rational_remez(h, high, above, below)
    meaning = f"Q(a) = 2^(-k a^2) p(a) / q(a), |error| <= {float(worst):.1e} of it on [0, {float(high):.4g}]"
    return meaning, numerator, denominator


def single(x: mp.mpf) -> mp.mpf:
    """Return the nearest number with 24 bits."""
    fraction, exponent = mp.frexp(x)
    return mp.ldexp(mp.nint(mp.ldexp(fraction, 24)), exponent - 24)


def nearly_single(f: Function, middle: mp.mpf) -> mp.mpf:
    """Return a number of 24 bits close to the middle where f is as close as can be to such a number too.

    So a polynomial around it begins with f itself and not with its rounding: S. Gal, "Computing elementary functions: a new
    approach for achieving high accuracy and good performance" (1986).
    """
    step = mp.ldexp(1, mp.frexp(middle)[1] - 24)
    return min((single(middle) + k * step for k in range(-600, 601)), key=lambda x: abs(f(x) - single(f(x))) / f(x))


Piece = tuple[int, mp.mpf, mp.mpf]
"""Its place in the table, and from where to where it reaches."""


def pieces(f: Function, where: list[Piece], degree: int, floor: mp.mpf) -> tuple[list[list[mp.mpf]], mp.mpf]:
    """Return f in 16 pieces, and the largest error relative to f, or to ``floor`` where f is smaller.

    First of each is the number around which it is a polynomial, then come the coefficients. A function that begins with
    f(x) = x at 0 becomes x (1 + ...) there, which keeps every digit of small x.
    """
    table, largest = [[mp.mpf(0)] * (degree + 2) for _ in range(16)], mp.mpf(0)
    for place, low, high in where:
        middle, slope = mp.mpf(0), mp.mpf(1)
        if low > 0 or f(low) != 0:
            middle = nearly_single(f, (low + high) / 2)
            slope = mp.mpf(0)
        constant = f(middle)

        def rest(t: mp.mpf, m: mp.mpf = middle, c: mp.mpf = constant, s: mp.mpf = slope) -> mp.mpf:
            t = t if abs(t) > mp.mpf(10) ** -15 else mp.mpf(10) ** -15
            return ((f(m + t) - c) / t - s) / (t if s else 1)

        def weight(t: mp.mpf, m: mp.mpf = middle, s: mp.mpf = slope) -> mp.mpf:
            return abs(t * t if s else t) / max(abs(f(m + t)), floor if not s else mp.mpf(10) ** -30)

        first = [constant, slope] if slope else [constant]
        found, worst = remez(rest, weight, low - middle, high - middle, degree - len(first))
        table[place] = [middle, *first, *found]
        largest = max(largest, worst)
    return table, largest


def pieces_of_one_more(high: mp.mpf) -> list[Piece]:
    """Return the pieces told by four bits of 1 + x, two of the exponent and two of the mantissa, up to ``high``."""
    found = []
    for exponent in range(4):
        for quarter in range(4):
            low, stop = (mp.ldexp(4 + q, exponent - 2) - 1 for q in (quarter, quarter + 1))
            if low < high:
                found.append(((127 + exponent) % 4 * 4 + quarter, low, min(stop, high)))
    return found


def quarters() -> list[Piece]:
    """Return the pieces told by the first four bits of the mantissa of 4 + x, for x from 0 to 4."""
    return [(place, mp.mpf(place) / 4, mp.mpf(place + 1) / 4) for place in range(16)]


def upper_tail(a: mp.mpf) -> mp.mpf:
    """Return Q(a), the part of the normal distribution above a."""
    return mp.erfc(a / mp.sqrt(2)) / 2


def gelu_slope_below(a: mp.mpf) -> mp.mpf:
    """Return the derivative of x Phi(x) at x = -a, which is Q(a) - a phi(a)."""
    return upper_tail(a) - a * mp.npdf(a)


def show_pieces(name: str, comment: str, table: list[list[mp.mpf]]) -> None:
    """Print the definition of a table: the middles, then the coefficients, the constant first."""
    rows = ["{" + ", ".join(mp.nstr(single(c), 10, min_fixed=0, max_fixed=0) + "f" for c in row) + "}"
            for row in zip(*table, strict=True)]  # fmt: skip
    print(f"/* {comment} */")
    print(f"#define MINIDL_{name}_PIECES_F32 {{{', '.join(rows)}}}")


def show(comment: str, precision: str, digits: int, **polynomials: list[mp.mpf]) -> None:
    """Print the definition of one or more polynomials."""
    print(f"/* {comment} */")
    suffix = "f" if precision == "F32" else ""
    for name, coefficients in polynomials.items():
        numbers = [mp.nstr(c, digits, min_fixed=0, max_fixed=0) + suffix for c in coefficients]
        print(f"#define MINIDL_{name}_{precision} {{{', '.join(numbers)}}}")


def main() -> None:
    """Print all."""
    for precision, digits, polynomials, quotient in (
        ("F32", 10, fits((4, 5, 7, 3, 5)), (24, mp.mpf("14.5"), 4, 5)),
        ("F64", 20, fits((10, 10, 19, 9, 11)), (53, mp.mpf(39), 9, 10)),
    ):
        for fit in polynomials:
            coefficients, worst = remez(fit.f, fit.weight, mp.mpf(fit.low), mp.mpf(fit.high), fit.degree)
            comment = (
                f"{fit.meaning}, |error| <= {float(worst):.1e} of it on [{float(fit.low):.4g}, {float(fit.high):.4g}]"
            )
            show(comment, precision, digits, **{fit.name: coefficients})
        meaning, numerator, denominator = tail(*quotient)
        show(meaning, precision, digits, TAIL_ABOVE=numerator, TAIL_BELOW=denominator)
    for name, meaning, f, where, floor in (
        ("TANH", "tanh x", mp.tanh, pieces_of_one_more(mp.mpf(10)), mp.mpf(0)),
        ("TAIL", "Q(a)", upper_tail, quarters(), mp.mpf(0)),
        ("SLOPE", "Q(a) - a phi(a)", gelu_slope_below, quarters(), mp.mpf(2) ** -8),
    ):
        table, worst = pieces(f, where, 6, floor)
        high = max(stop for _, _, stop in where)
        relative = "it" if floor == 0 else f"it, or of {float(floor):.4g} where it is smaller,"
        show_pieces(name, f"{meaning}, |error| <= {float(worst):.1e} of {relative} on [0, {float(high):.4g}]", table)


if __name__ == "__main__":
    main()
