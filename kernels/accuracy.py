"""How far float32 results lie from float64 ones, in units in the last place (ULP): for tests of every float32 number.

ulp(e) = 2^(floor(log2 |e|) - 23), at least 2^-149;   distance = |actual - exact| / ulp(exact)
"""

from numba import float64

from .jit import inner, kernel
from .simd import bits, from_bits

# What is found: two worst distances, each with the index where, and the number of misplaced NaN.
WORST, WHERE, WORST_FLOORED, WHERE_FLOORED, MISPLACED = range(5)
FINDINGS = 5
# One ULP above the largest float32: what infinity, the result of an overflow, counts as.
BEYOND = 2.0**128


@inner
def _ulp(size):
    """The unit in the last place of float32 numbers of that size, a float64 of at least 0."""
    exponent = max(bits(size) >> 52, 1023 - 126)
    return from_bits((exponent - 23) << 52)


@kernel
def distances(actual, exact, floor, found):
    """The worst distances of float32 results from float64 ones.

    Args:
        actual: float32, exact: float64, flat and of one size.
        floor: for the second distance, results count as at least so large.
        found: float64 (FINDINGS,), filled.
    """
    found[:] = 0.0
    for i in range(actual.size):
        a, e = float64(actual[i]), exact[i]
        if a != a or e != e:
            if a == a or e == e:
                found[MISPLACED] += 1
            continue
        a, e = min(max(a, -BEYOND), BEYOND), min(max(e, -BEYOND), BEYOND)
        error, size = abs(a - e), min(abs(e), BEYOND / 2)
        distance = error / _ulp(size)
        if distance > found[WORST]:
            found[WORST], found[WHERE] = distance, i
        distance = error / _ulp(max(size, floor))
        if distance > found[WORST_FLOORED]:
            found[WORST_FLOORED], found[WHERE_FLOORED] = distance, i
