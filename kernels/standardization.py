"""Standardized inputs: what a network that begins with `fastnn.Standardize` reads in the place of x.

    y = (x - mean) / scale,   dx = dy / scale

mean and scale, one of each for a feature, are learned from data once and are no parameters: no gradient goes to them.
They are divided by, not multiplied with a reciprocal: 1 / scale overflows where scale is as small as numbers get, and
the result is the one correctly rounded quotient of a correctly rounded difference, on every machine.

    mean   of the finite numbers x_ij of column j, weighted by w_i
    scale  their standard deviation, sqrt(sum w (x - mean)^2 / sum w); 1 where it is no more than rounding

in float64, by sums in the order of the rows that carry along what rounding takes from them.
"""

import math

import numpy as np
from numba import intp

from .argument_checks import require_all, require_arrays
from .jit import glue, inner, kernel
from .normalization import added
from .operand import Operand, operand
from .simd import advance, flat_pointer, lanes_of, load, load_vector, pointer_to, store, store_vector
from .table import IN, mean_and_scale
from .workers import finder, worker

EPS = float(np.finfo(np.float64).eps)
# Powers of two within float64, with room for sums.
MOST_EXPONENT = 1000


@inner
def standardize_rows(x, mean, scale, out, rows, n):
    """Rows of the Operand x to contiguous ones at `out`, which may be where x lies."""
    for i in range(rows):
        source, target = advance(x.pointer, i * x.row_stride), advance(out, i * n)
        if x.column_stride != 1:
            for j in range(n):
                store(target, j, load(source, j * x.column_stride))
            source = target
        for j in range(0, n, lanes_of(target)):
            v = load_vector(source, j, n) - load_vector(mean, j, n)
            store_vector(target, j, n, v / load_vector(scale, j, n))


@inner
def unstandardize_rows(dy, scale, dx, rows, n):
    """dx = dy / scale for contiguous rows; dx may be dy."""
    for i in range(rows):
        up, down = advance(dy, i * n), advance(dx, i * n)
        for j in range(0, n, lanes_of(up)):
            store_vector(down, j, n, load_vector(up, j, n) / load_vector(scale, j, n))


@glue
def standardized_rows(table, statistics, x, m, out):
    """An Operand of m rows of the Operand x, standardized to contiguous rows at `out`."""
    mean, scale = mean_and_scale(table, statistics)
    standardize_rows(x, mean, scale, out, m, table[0, IN])
    return Operand(out, table[0, IN], 1)


@worker(lambda t: (t[::1], intp, intp, intp, intp, intp, intp, intp, intp))
def standardize_worker(like, mean, scale, x, x_row, x_column, out, rows, n):
    """`standardize_rows` from and to addresses of the dtype of `like`."""
    source = Operand(pointer_to(x, like), x_row, x_column)
    standardize_rows(source, pointer_to(mean, like), pointer_to(scale, like), pointer_to(out, like), rows, n)


find_standardize = finder(standardize_worker)


@kernel
def standardize(x, mean, scale, out):
    """out = (x - mean) / scale

    Args:
        x: (m, n) float32 or float64, any strides.
        mean, scale: (n,).
        out: (m, n) C-contiguous; overlaps x only if it is x. All of one dtype.

    >>> x, out = np.array([[1.0, 300.0], [3.0, 100.0]]), np.empty((2, 2))
    >>> kernels.standardize(x, np.array([2.0, 200.0]), np.array([1.0, 100.0]), out)
    >>> out
    array([[-1.,  1.],
           [ 1., -1.]])
    """
    require_arrays("strided x 2, flat mean 1, flat scale 1, result out 2", (x, mean, scale, out))
    require_all(
        (out.shape == x.shape, mean.shape == x.shape[1:], scale.shape == x.shape[1:]),
        (
            "out: expected the shape of x",
            "mean: expected a number for each column of x",
            "scale: expected a number for each column of x",
        ),
    )
    rows, n = x.shape
    standardize_rows(operand(x), flat_pointer(mean), flat_pointer(scale), flat_pointer(out), rows, n)


@kernel
def standardize_backward(dy, scale, out):
    """out = dy / scale, the gradient with respect to x.

    Args:
        dy: (m, n) C-contiguous float32 or float64.
        scale: (n,).
        out: like dy; may be dy itself.

    >>> dy, dx = np.array([[1.0, 1.0]]), np.empty((1, 2))
    >>> kernels.standardize_backward(dy, np.array([1.0, 100.0]), dx)
    >>> dx
    array([[1.  , 0.01]])
    """
    require_arrays("flat dy 2, flat scale 1, result out 2", (dy, scale, out))
    require_all(
        (out.shape == dy.shape, scale.shape == dy.shape[1:]),
        ("out: expected the shape of dy", "scale: expected a number for each column of dy"),
    )
    rows, n = dy.shape
    unstandardize_rows(flat_pointer(dy), flat_pointer(scale), flat_pointer(out), rows, n)


@inner
def _unit(largest):
    """A power of two that brings numbers of up to this size to where neither sums nor squares leave float64."""
    _, exponent = math.frexp(largest)
    return math.ldexp(1.0, -max(min(exponent, MOST_EXPONENT), -MOST_EXPONENT))


@kernel
def standardization(x, sample_weight, mean, scale):
    """The mean and scale of each column of x by which `standardize` brings it to mean 0 and standard deviation 1.

    The deviation is that of the population (divided by the sum of the weights). Numbers that are not finite are left
    out, and so are rows of weight 0; a column without any others has mean 0. Where the variance is at most
    m eps variance + (m eps mean)^2 with float64's eps, it may be rounding alone, and scale is 1: scikit-learn's rule.

    Args:
        x: (m, n) float32 or float64, any strides.
        sample_weight: (m,) of at least 0, or empty.
        mean, scale: (n,), filled.

    >>> x, mean, scale = np.array([[1.0, 300.0, 7.0], [3.0, 100.0, np.nan]]), np.empty(3), np.empty(3)
    >>> kernels.standardization(x, np.empty(0), mean, scale)
    >>> mean, scale
    (array([  2., 200.,   7.]), array([  1., 100.,   1.]))
    """
    require_arrays("strided x 2", (x,))
    require_arrays("result mean 1, result scale 1", (mean, scale))
    require_arrays("strided sample_weight 1", (sample_weight,))
    require_all(
        (
            sample_weight.shape == x.shape[:1] or sample_weight.size == 0,
            mean.shape == x.shape[1:],
            scale.shape == x.shape[1:],
        ),
        (
            "sample_weight: expected one for each row",
            "mean: expected a number for each column of x",
            "scale: expected a number for each column of x",
        ),
    )
    rows, n = x.shape
    heaviest = 0.0
    for i in range(sample_weight.size):
        heaviest = max(heaviest, float(sample_weight[i]))
    # By column: a unit; the least and the largest number; a sum and what it lost, later of squares; weight and count.
    units, least, largest = np.zeros(n), np.full(n, np.inf), np.full(n, -np.inf)
    total, lost, weight, count = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    centre, squares, squares_lost = np.zeros(n), np.zeros(n), np.zeros(n)
    for sweep in range(3):
        for i in range(rows):
            # As shares of the heaviest: sums of weights stay small too.
            w = 1.0 if sample_weight.size == 0 else sample_weight[i] / heaviest if heaviest > 0.0 else 0.0
            if w == 0.0:
                continue
            for j in range(n):
                value = float(x[i, j])
                if not math.isfinite(value):
                    continue
                if sweep == 0:
                    least[j], largest[j] = min(least[j], value), max(largest[j], value)
                elif sweep == 1:
                    total[j], lost[j] = added(total[j], lost[j], w * (value * units[j]))
                    weight[j] += w
                    count[j] += 1.0
                else:
                    d = value * units[j] - centre[j]
                    squares[j], squares_lost[j] = added(squares[j], squares_lost[j], w * (d * d))
        for j in range(n):
            if sweep == 0 and least[j] <= largest[j]:
                units[j] = _unit(max(abs(least[j]), abs(largest[j])))
            elif sweep == 1 and weight[j] > 0.0:
                centre[j] = (total[j] + lost[j]) / weight[j]
    for j in range(n):
        mean[j], scale[j] = 0.0, 1.0
        if weight[j] > 0.0:
            mean[j] = least[j] if least[j] == largest[j] else centre[j] / units[j]
            variance = (squares[j] + squares_lost[j]) / weight[j]
            rounding = count[j] * EPS * variance + (count[j] * EPS * centre[j]) ** 2
            if least[j] < largest[j] and variance > rounding:
                scale[j] = math.sqrt(variance) / units[j]
                if scale[j] == 0.0:
                    # The smallest numbers of the dtype differ by less than any of it.
                    scale[j] = 1.0
