"""Fits the tables of `kernels/tables.py`, with mpmath, and prints that file.

    python tools/fit_tables.py > kernels/tables.py

A function of a >= 0 is a polynomial of a - centre in each of 16 or 32 intervals. Centres are chosen so that the
function's value and first two derivatives there happen to lie next to float32 numbers (Gal 1986): the leading
coefficients then are as good as exact. The others are fitted for the least largest relative error, each rounded before
the next.
"""

import math
from itertools import pairwise

import mpmath as mp
import numpy as np

ENTRIES = 16
# Numbers of an interval that may become its centre, and the part of it over which they spread to either side.
CANDIDATES, SPREAD = 4000, 0.02
# Leading coefficients for which a centre is good, and nodes of the fit.
EXACT, NODES = 3, 60

mp.mp.dps = 40


def even(width, entries=ENTRIES):
    """Intervals about the multiples of `width`."""
    return [0.0] + [width * (i + 0.5) for i in range(entries)]


def coarser(width):
    """Intervals of `width`, from the eighth on twice as wide: what rounding does where the unit doubles."""
    half = ENTRIES // 2
    return [0.0] + [width * (i + 0.5) for i in range(half)] + [width * (half + 1 + 2 * i) for i in range(half)]


def finer(step, slope, entries=ENTRIES):
    """Intervals in which a (a + slope) grows by `step`, the first one half as long."""
    return [0.0] + [(math.sqrt(slope**2 + 4 * step * (i + 0.5)) - slope) / 2 for i in range(entries)]


def centre_of(f, low, high, place):
    """The float32 number near `place` in [low, high] for which f and its derivatives are nearest to float32 numbers."""
    middle = np.float32(low + place * (high - low))
    unit = np.spacing(middle)
    step = max(1, int(2 * SPREAD * (high - low) / unit / CANDIDATES))
    candidates = middle + unit * np.arange(-CANDIDATES // 2, CANDIDATES // 2, dtype=np.float32) * np.float32(step)
    away = (candidates.astype(np.float64) - float(middle)).astype(np.longdouble)
    taylor = [np.longdouble(mp.nstr(term, 25)) for term in mp.taylor(f, mp.mpf(float(middle)), 12)]
    worst = np.zeros(len(candidates))
    for k in range(EXACT):
        value = sum(term * math.comb(j, k) * away ** (j - k) for j, term in enumerate(taylor) if j >= k)
        error = np.abs(value - value.astype(np.float32)).astype(float)
        worst = np.maximum(worst, error * ((high - low) / 2) ** k)
    return candidates[np.argmin(worst)]


def fit(f, low, high, centre, degree, given):
    """Float32 coefficients of f(centre + r), the constant one first, and the largest relative error.

    given: the coefficients after the constant one that are not fitted.
    """
    nodes = [(low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * k + 1) / (2 * NODES)) for k in range(NODES)]
    rest = [node - mp.mpf(float(centre)) for node in nodes]
    weights = [1 / f(node) for node in nodes]
    left = [f(node) for node in nodes]
    coefficients = [np.float32(float(f(mp.mpf(float(centre)))))]
    for k in range(1, degree + 2):
        # f minus the terms so far, over all nodes
        left = [value - mp.mpf(float(coefficients[-1])) * r ** (k - 1) for value, r in zip(left, rest, strict=True)]
        target = np.array([float(value * weight) for value, weight in zip(left, weights, strict=True)])
        if k > degree:
            return coefficients, np.abs(target).max()
        if k <= len(given):
            coefficients.append(np.float32(given[k - 1]))
            continue
        terms = range(k, degree + 1)
        matrix = np.array([[float(r**j * w) for j in terms] for r, w in zip(rest, weights, strict=True)])
        scale = np.abs(matrix).max(0)
        # Lawson's algorithm: least squares whose weights grow where the error is large.
        emphasis = np.ones(NODES)
        for _ in range(30):
            root = np.sqrt(emphasis)
            solution = np.linalg.lstsq(matrix / scale * root[:, None], target * root, rcond=None)[0] / scale
            error = np.abs(matrix @ solution - target)
            emphasis *= error / error.max() + 1e-3
            emphasis /= emphasis.sum()
        coefficients.append(np.float32(solution[0]))


def table(f, edges, degree, place, given=()):
    """(rows of numbers, one for each interval: centres, coefficients of r^0, r^1, ...; largest relative error).

    place: of the centres, 0 at the lower end of an interval, 1 at the upper. given: in the first interval, see `fit`.
    """
    columns, worst = [], 0.0
    for low, high in pairwise(edges):
        # Odd functions and results at 0 are exact by a centre of 0.
        centre = np.float32(0) if low == 0 else centre_of(f, low, high, place)
        coefficients, error = fit(f, mp.mpf(low), mp.mpf(high), centre, degree, () if low else given)
        columns.append([centre, *coefficients])
        worst = max(worst, error)
    return list(zip(*columns, strict=True)), worst


def inner_of_gelu_tanh(a):
    return mp.sqrt(8 / mp.pi) * (a + mp.mpf("0.044715") * a**3)


# Name, what the comment says, the function of a, its intervals, the polynomials' degree, the place of the centres, the
# coefficients that are given. Where a function falls steeply an interval's upper end has the smallest values and the
# largest roundings, so centres lie nearer to it: gelu has 1.9 ULP so, with centres in the middle 2.1.
# The numbers of the intervals stand in sigmoids.py and normal.py too, where an index is made of a.
# tanh in the first interval is a product of a, which cannot hide the roundings of its factor: with the coefficient of
# a^2 that the fit would find (-3.5e-7) it is not monotone at three numbers, with this one, the best of 40, it is.
TABLES = (
    ("SIGMOID", "sigmoid(-a)", lambda a: 1 / (1 + mp.exp(a)), even(0.5625, 2 * ENTRIES), 6, 0.5),
    ("TANH", "tanh(a)", mp.tanh, coarser(0.392), 6, 0.5, (1.0, -4.644e-07)),
    ("NORMAL_CDF", "normal_cdf(-a)", lambda a: mp.erfc(a / mp.sqrt(2)) / 2, finer(2.5, 1.0, 2 * ENTRIES), 7, 0.6),
    (
        "GELU_TANH",
        "sigmoid(-sqrt(8 / pi) (a + 0.044715 a^3))",
        lambda a: 1 / (1 + mp.exp(inner_of_gelu_tanh(a))),
        finer(2.1, 0.5),
        7,
        0.6,
    ),
)


def number(value):
    """The shortest digits that mean this float32 number."""
    return str(value) if np.float32(str(value)) == value else repr(float(value))


def wrapped(row):
    lines = [""]
    for text in map(number, row):
        if len(lines[-1]) + len(text) + 2 > 110:
            lines.append("")
        lines[-1] += text + ", "
    return "\n        ".join(line.rstrip() for line in lines)


def main():
    print(
        '"""Polynomials of 16 or 32 intervals for float32, made by tools/fit_tables.py; how they are used: sigmoids.py.'
    )
    print("\nEach table: centres, then the coefficients of (a - centre)^0, ^1, ..., a number for each interval.")
    print('"""\n\n# fmt: off')
    for name, what, f, edges, degree, place, *given in TABLES:
        rows, worst = table(f, edges, degree, place, *given)
        print(f"\n# {what} for 0 <= a < {edges[-1]:.4f}: relative error 2^{math.log2(worst):.1f}\n{name} = (")
        for row in rows:
            print(f"    (\n        {wrapped(row)}\n    ),")
        print(")")
    print("\n# fmt: on")


if __name__ == "__main__":
    main()
