"""How far results lie from exact ones, in units in the last place (ULP): float32 from float64, that from pairs.

ulp(e) = 2^(floor(log2 |e|) - 23), at least 2^-149; for float64 - 52 and 2^-1074;
distance = |actual - exact| / ulp(exact)
"""

from numba import float64

from .double_double import SCALE, SMALL, UP
from .float_bits import bits, from_bits
from .jit import inner, kernel

# What is found: two worst distances, each with the index where, and the number of misplaced NaN.
WORST, WHERE, WORST_FLOORED, WHERE_FLOORED, MISPLACED = range(5)
FINDINGS = 5
# The exponent bits of the smallest normal number times SCALE, and of the smallest with a normal unit.
LEAST_SCALED, LEAST = 1 + int(UP), 53
FRACTION = (1 << 52) - 1
LARGEST = 1.7976931348623157e308
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


@inner
def _ulp64(high, low, least):
    """The unit in the last place of a pair, by its exponent bits, which count as at least `least`."""
    size = bits(abs(high))
    # Just below a power of two the unit is that of the numbers below.
    below = size & FRACTION == 0 and low != 0 and (low < 0) == (high > 0)
    return from_bits((max((size >> 52) - below, least) - 52) << 52)


@kernel
def distances64(actual, high, low, floor, found):
    """The worst distances of float64 results from high + low, as `double_double` gives them; otherwise as `distances`.

    An infinity counts as misplaced where the pair is finite, and no pair is where the exact value is not.
    """
    found[:] = 0.0
    for i in range(actual.size):
        a, h, l = actual[i], high[i], low[i]
        finite = abs(h) <= LARGEST
        if a != a or (abs(a) <= LARGEST) != finite:
            found[MISPLACED] += 1
            continue
        if not finite:
            continue
        small = abs(a) < SMALL
        scale, least = (SCALE, LEAST_SCALED) if small else (1.0, LEAST)
        error = abs((a * scale - h) - l)
        distance = error / _ulp64(h, l, least)
        if not distance <= found[WORST]:
            found[WORST], found[WHERE] = distance, i
        if abs(h) <= floor * scale:
            distance = error / _ulp64(floor * scale, 0.0, least)
        if not distance <= found[WORST_FLOORED]:
            found[WORST_FLOORED], found[WHERE_FLOORED] = distance, i
