"""What a row of the catalog is, the shapes that rows try, and the bounds on rounding errors that they share.

A row holds the kernel's name (that of its reference twin), a maker of inputs for a shape and dtype, the shapes to try,
the shape to time, a tolerance and its floating-point operations or bytes.

Tolerances are bounds on the rounding error, worked out from the inputs themselves:

    a sum of k products     (k + 2) eps sum of |a_i b_i|, the worst case of a chain of fused multiply-adds, then
                            through f by its largest slope, plus its own error
    an elementary function  a number of ULP of the result
"""

from collections import namedtuple

import numpy as np

# inputs(shape, dtype, rng) -> dict of arguments in order; outputs: names of those that the kernel fills or changes;
# bound(inputs, expected) -> dict of absolute error bounds of outputs (and "return");
# work(shape) -> (floating-point operations, elements moved), one of them None
Row = namedtuple("Row", "name inputs outputs bound shapes timed work unit")

# Around the register tile (6 rows; 64, 32 or 16 columns) and the vector widths; products also go beyond a block (192
# rows, 256 inner).
EDGES = (1, 2, 5, 6, 7, 15, 16, 17, 31, 33, 64, 65, 97)
PRODUCT_SHAPES = (
    *((m, k, n) for m in (1, 5, 6, 7, 13, 97) for k in (1, 2, 17) for n in (1, 7, 16, 17, 33, 65)),
    (3, 257, 129),
    (25, 300, 130),
    (200, 513, 70),
    (1, 784, 10),
    # One row wider than a tile, one column of many rows, and more rows of a than a block.
    (1, 77, 131),
    (1, 1, 300),
    (300, 300, 1),
    (30, 700, 513),
)
SPANS = tuple((n,) for n in (0, *EDGES, 1023, 1024, 1025, 5000))
ROWS = (*((m, n) for m in (1, 2, 7) for n in (1, 2, 10, 15, 16, 17, 33, 100)), (20_000, 3))

# How many ULP of the result an activation may be off.
ULP = 4


def eps(dtype):
    """The distance from 1 to the next number of the dtype."""
    return float(np.finfo(dtype).eps)


def ulp_bound(expected, dtype, ulp):
    """ulp units in the last place of the result, and as many of the smallest normal number's."""
    least = float(np.finfo(dtype).smallest_subnormal)
    with np.errstate(invalid="ignore"):
        return ulp * (eps(dtype) * np.abs(expected) + least)


def sample(rng, shape, dtype, scale=1.0):
    """Normal numbers of this standard deviation."""
    return (rng.standard_normal(shape) * scale).astype(dtype)


def sum_bound(a, b, k, dtype):
    """Bound on the error of sums of k products."""
    return (k + 2) * eps(dtype) * (np.abs(a).astype(float) @ np.abs(b).astype(float))
