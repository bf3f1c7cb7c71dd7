"""Normalization of pre-activations: over the units of a row (layer), or over the rows of a batch (batch).

    x^ = (z - mean) / sqrt(variance + eps),   u = scale x^ + shift

layer   mean and variance of each row                               (Ba, Kiros and Hinton 2016)
batch   of each column of the batch, in use the running averages    (Ioffe and Szegedy 2015)

With d = scale du, and means over the row or the column, both go back by

    dz = (d - mean(d) - x^ mean(d x^)) / sqrt(variance + eps),   dscale = sum of du x^ over rows,   dshift = sum of du

A row is summed in 16 lanes of float64, as softmax's are. A column is summed in the order of its rows, and what rounding
takes from the sum is carried along (Knuth 1969), so that the result is off by about one rounding, however many rows.
Variances are means of squared deviations from the mean, in a second pass.
"""

import math

import numpy as np

from .codes import Normalization
from .jit import glue, inner, kernel
from .reductions import lane_sum, lane_sum_of_squares
from .simd import (
    advance,
    constant,
    flat_pointer,
    fma,
    keep_alive,
    lanes_of,
    load,
    load_vector,
    pointer,
    select,
    store,
    store_vector,
)

LAYER = int(Normalization.LAYER)
BATCH = int(Normalization.BATCH)
# Both as PyTorch's defaults: running = (1 - MOMENTUM) running + MOMENTUM batch.
EPS = 1e-5
MOMENTUM = 0.1


@inner
def normalize_rows(z, rows, n, factors):
    """z becomes x^, row by row; each row's 1 / sqrt(variance + eps) goes to factors."""
    for i in range(rows):
        row = advance(z, i * n)
        mean = lane_sum(row, n) / n
        for j in range(0, n, lanes_of(row)):
            v = load_vector(row, j, n)
            store_vector(row, j, n, v - constant(mean, v))
        factor = 1.0 / math.sqrt(lane_sum_of_squares(row, n) / n + EPS)
        store(factors, i, constant(factor, load(z, 0)))
        for j in range(0, n, lanes_of(row)):
            v = load_vector(row, j, n)
            store_vector(row, j, n, v * constant(factor, v))


@inner
def normalize_rows_backward(du, normalized, factors, scale, dz, rows, n, stride, buffer):
    """dz of du, which it may overwrite; a stride of 0: one normalized row for all. buffer holds a row."""
    for i in range(rows):
        up, kept, down = advance(du, i * n), advance(normalized, i * stride), advance(dz, i * n)
        for j in range(0, n, lanes_of(up)):
            store_vector(down, j, n, load_vector(up, j, n) * load_vector(scale, j, n))
        mean = lane_sum(down, n) / n
        for j in range(0, n, lanes_of(up)):
            store_vector(buffer, j, n, load_vector(down, j, n) * load_vector(kept, j, n))
        slope = lane_sum(buffer, n) / n
        factor = load(factors, i if stride > 0 else 0)
        for j in range(0, n, lanes_of(up)):
            v = load_vector(down, j, n)
            rest = fma(load_vector(kept, j, n), constant(-slope, v), v - constant(mean, v))
            store_vector(down, j, n, rest * constant(factor, v))


@inner
def scale_and_shift(normalized, scale, shift, out, rows, n):
    """out = scale x^ + shift; out may be x^ itself."""
    for i in range(rows):
        row, target = advance(normalized, i * n), advance(out, i * n)
        for j in range(0, n, lanes_of(row)):
            u = fma(load_vector(row, j, n), load_vector(scale, j, n), load_vector(shift, j, n))
            store_vector(target, j, n, u)


@glue
def added(total, lost, value):
    """(total + value, lost + what rounding took from it)."""
    grown = total + value
    share = grown - total
    return grown, lost + ((total - (grown - share)) + (value - share))


@glue
def whole(total, lost):
    """The sum of both; where the numbers' sum is too large for their type, inf: what rounding took is NaN there."""
    return select(abs(total) < constant(np.inf, total), total + lost, total)


@glue
def _factor(variance):
    return constant(1.0, variance) / math.sqrt(variance + constant(EPS, variance))


@inner
def column_statistics(z, rows, n, first, last, mean, factor, variance):
    """Mean, 1 / sqrt(variance + eps) and biased variance of columns first..last, at these places of the results."""
    for j in range(first, last, lanes_of(z)):
        zero = constant(0.0, load_vector(z, 0, 0))
        total, lost = zero, zero
        for i in range(rows):
            total, lost = added(total, lost, load_vector(advance(z, i * n), j, last))
        centre = (total + lost) / constant(float(rows), zero)
        total, lost = zero, zero
        for i in range(rows):
            d = load_vector(advance(z, i * n), j, last) - centre
            total, lost = added(total, lost, d * d)
        # Of deviations whose squares overflow inf, and their factor 0, as in PyTorch.
        spread = whole(total, lost) / constant(float(rows), zero)
        store_vector(mean, j, last, centre)
        store_vector(variance, j, last, spread)
        store_vector(factor, j, last, _factor(spread))


@inner
def running_factors(variance, factor, n):
    """factor = 1 / sqrt(variance + eps)"""
    for j in range(0, n, lanes_of(variance)):
        store_vector(factor, j, n, _factor(load_vector(variance, j, n)))


@inner
def update_running(running, batch, first, last, correction):
    """running = (1 - MOMENTUM) running + MOMENTUM correction batch, for columns first..last."""
    for j in range(first, last, lanes_of(running)):
        old = load_vector(running, j, last)
        new = load_vector(batch, j, last) * constant(correction, old)
        store_vector(running, j, last, fma(constant(MOMENTUM, old), new, constant(1.0 - MOMENTUM, old) * old))


@glue
def unbiased(rows):
    """The factor from the variance of so many rows to the one that they are an estimate of."""
    return rows / (rows - 1.0)


@inner
def normalize_columns(z, rows, n, mean, factor):
    """z becomes x^ by a mean and a factor for each column."""
    for j in range(0, n, lanes_of(z)):
        centre, slope = load_vector(mean, j, n), load_vector(factor, j, n)
        for i in range(rows):
            row = advance(z, i * n)
            store_vector(row, j, n, (load_vector(row, j, n) - centre) * slope)


@inner
def apply_running(z, rows, n, mean, variance, scale, shift):
    """z becomes scale (z - mean) / sqrt(variance + eps) + shift."""
    for j in range(0, n, lanes_of(z)):
        centre, factor = load_vector(mean, j, n), _factor(load_vector(variance, j, n))
        slope, start = load_vector(scale, j, n), load_vector(shift, j, n)
        for i in range(rows):
            row = advance(z, i * n)
            store_vector(row, j, n, fma((load_vector(row, j, n) - centre) * factor, slope, start))


@inner
def parameter_sums(du, normalized, rows, n, first, last, dscale, dshift):
    """Sums over rows of du x^ and of du for columns first..last, to dscale[0 ...] and dshift[0 ...]."""
    for j in range(first, last, lanes_of(du)):
        zero = constant(0.0, load_vector(du, 0, 0))
        slope, slope_lost, total, lost = zero, zero, zero, zero
        for i in range(rows):
            up = load_vector(advance(du, i * n), j, last)
            total, lost = added(total, lost, up)
            slope, slope_lost = added(slope, slope_lost, up * load_vector(advance(normalized, i * n), j, last))
        store_vector(dscale, j - first, last - first, slope + slope_lost)
        store_vector(dshift, j - first, last - first, total + lost)


@inner
def divide(values, count, by):
    """values /= by"""
    for j in range(0, count, lanes_of(values)):
        v = load_vector(values, j, count)
        store_vector(values, j, count, v / constant(by, v))


@inner
def normalize_columns_backward(du, normalized, factor, scale, slopes, means, dz, rows, n, stride):
    """dz of du, with the means over the batch of du x^ and of du; a stride of 0: one normalized row for all."""
    for j in range(0, n, lanes_of(du)):
        slope, mean = load_vector(slopes, j, n), load_vector(means, j, n)
        down = load_vector(factor, j, n) * load_vector(scale, j, n)
        for i in range(rows):
            kept = load_vector(advance(normalized, i * stride), j, n)
            d = load_vector(advance(du, i * n), j, n) - mean
            store_vector(advance(dz, i * n), j, n, fma(-kept, slope, d) * down)


@kernel
def layer_norm(x, scale, shift, out):
    """out = scale (x - mean) / sqrt(variance + eps) + shift, mean and variance those of each row, eps = 1e-5.

    Ba, Kiros and Hinton 2016; torch.nn.LayerNorm.

    Args:
        x: (m, n) C-contiguous float32 or float64.
        scale, shift: (n,).
        out: like x, not overlapping it.

    >>> x, out = np.array([[1.0, 3.0], [2.0, 8.0]]), np.empty((2, 2))
    >>> kernels.layer_norm(x, np.ones(2), np.array([0.0, 10.0]), out)
    >>> out.round(4)
    array([[-1., 11.],
           [-1., 11.]])
    """
    rows, n = x.shape
    out[...] = x
    factors = np.empty(rows, x.dtype)
    y = flat_pointer(out)
    normalize_rows(y, rows, n, pointer(factors))
    scale_and_shift(y, flat_pointer(scale), flat_pointer(shift), y, rows, n)
    keep_alive(factors)


@kernel
def layer_norm_backward(dy, x, scale, dx, dscale, dshift):
    """The gradients of `layer_norm` by x, scale and shift.

    d = scale dy; dx = (d - mean(d) - x^ mean(d x^)) / sqrt(variance + eps), means over each row, x^ the normalized x;
    dscale = sum of dy x^ and dshift = sum of dy over rows.

    Args:
        dy, x: (m, n) C-contiguous float32 or float64.
        scale: (n,).
        dx: (m, n), overlaps no input. dscale, dshift: (n,).

    >>> dy, x = np.array([[1.0, 0.0, 0.0]]), np.array([[1.0, 2.0, 6.0]])
    >>> dx, dscale, dshift = np.empty((1, 3)), np.empty(3), np.empty(3)
    >>> kernels.layer_norm_backward(dy, x, np.ones(3), dx, dscale, dshift)
    >>> dx.round(4), dscale.round(4), dshift
    (array([[ 0.1763, -0.2204,  0.0441]]), array([-0.9258,  0.    ,  0.    ]), array([1., 0., 0.]))
    """
    rows, n = x.shape
    normalized, factors, buffer = x.copy(), np.empty(rows, x.dtype), np.empty(n, x.dtype)
    up, kept, down = flat_pointer(dy), pointer(normalized), flat_pointer(dx)
    normalize_rows(kept, rows, n, pointer(factors))
    parameter_sums(up, kept, rows, n, 0, n, flat_pointer(dscale), flat_pointer(dshift))
    normalize_rows_backward(up, kept, pointer(factors), flat_pointer(scale), down, rows, n, n, pointer(buffer))
    keep_alive(normalized)
    keep_alive(factors)
    keep_alive(buffer)


@glue
def _normalize_batch(z, rows, n, mean):
    """z becomes x^; mean, factor and variance of the columns go to three rows from `mean` on."""
    column_statistics(z, rows, n, 0, n, mean, advance(mean, n), advance(mean, 2 * n))
    normalize_columns(z, rows, n, mean, advance(mean, n))


@kernel
def batch_norm(x, scale, shift, running_mean, running_variance, out):
    """out = scale (x - mean) / sqrt(variance + eps) + shift, mean and variance those of each column, eps = 1e-5.

    Ioffe and Szegedy 2015; torch.nn.BatchNorm1d in training. The running averages move a tenth of the way to the
    batch's mean and unbiased variance.

    Args:
        x: (m, n) C-contiguous float32 or float64, m at least 2.
        scale, shift, running_mean, running_variance: (n,); the last two are updated.
        out: like x, not overlapping it.

    >>> x, out = np.array([[1.0, 3.0], [2.0, 8.0]]), np.empty((2, 2))
    >>> mean, variance = np.zeros(2), np.ones(2)
    >>> kernels.batch_norm(x, np.ones(2), np.zeros(2), mean, variance, out)
    >>> out.round(4)
    array([[-1., -1.],
           [ 1.,  1.]])
    >>> mean, variance
    (array([0.15, 0.55]), array([0.95, 2.15]))
    """
    rows, n = x.shape
    out[...] = x
    statistics = np.empty(3 * n, x.dtype)
    y, mean = flat_pointer(out), pointer(statistics)
    _normalize_batch(y, rows, n, mean)
    scale_and_shift(y, flat_pointer(scale), flat_pointer(shift), y, rows, n)
    update_running(flat_pointer(running_mean), mean, 0, n, 1.0)
    update_running(flat_pointer(running_variance), advance(mean, 2 * n), 0, n, unbiased(rows))
    keep_alive(statistics)


@kernel
def batch_norm_backward(dy, x, scale, dx, dscale, dshift):
    """The gradients of `batch_norm` by x, scale and shift.

    d = scale dy; dx = (d - mean(d) - x^ mean(d x^)) / sqrt(variance + eps), means over each column, x^ the normalized
    x; dscale = sum of dy x^ and dshift = sum of dy over rows.

    Args:
        dy, x: (m, n) C-contiguous float32 or float64, m at least 2.
        scale: (n,).
        dx: (m, n), overlaps no input. dscale, dshift: (n,).

    >>> dy, x = np.array([[1.0], [0.0], [0.0]]), np.array([[1.0], [2.0], [6.0]])
    >>> dx, dscale, dshift = np.empty((3, 1)), np.empty(1), np.empty(1)
    >>> kernels.batch_norm_backward(dy, x, np.ones(1), dx, dscale, dshift)
    >>> dx.ravel().round(4), dscale.round(4), dshift
    (array([ 0.1763, -0.2204,  0.0441]), array([-0.9258]), array([1.]))
    """
    rows, n = x.shape
    normalized, statistics = x.copy(), np.empty(5 * n, x.dtype)
    up, kept, down, mean = flat_pointer(dy), pointer(normalized), flat_pointer(dx), pointer(statistics)
    _normalize_batch(kept, rows, n, mean)
    slopes, means = advance(mean, 3 * n), advance(mean, 4 * n)
    parameter_sums(up, kept, rows, n, 0, n, flat_pointer(dscale), flat_pointer(dshift))
    parameter_sums(up, kept, rows, n, 0, n, slopes, means)
    divide(slopes, 2 * n, float(rows))
    normalize_columns_backward(up, kept, advance(mean, n), flat_pointer(scale), slopes, means, down, rows, n, n)
    keep_alive(normalized)
    keep_alive(statistics)


@kernel
def batch_norm_running(x, scale, shift, running_mean, running_variance, out):
    """out = scale (x - running_mean) / sqrt(running_variance + eps) + shift: `batch_norm` in use.

    Args:
        x: (m, n) C-contiguous float32 or float64.
        scale, shift, running_mean, running_variance: (n,).
        out: like x, not overlapping it.

    >>> x, out = np.array([[1.0, 3.0], [2.0, 8.0]]), np.empty((2, 2))
    >>> kernels.batch_norm_running(x, np.ones(2), np.zeros(2), np.array([1.0, 3.0]), np.array([1.0, 4.0]), out)
    >>> out.round(4)
    array([[0. , 0. ],
           [1. , 2.5]])
    """
    rows, n = x.shape
    out[...] = x
    mean, variance = flat_pointer(running_mean), flat_pointer(running_variance)
    apply_running(flat_pointer(out), rows, n, mean, variance, flat_pointer(scale), flat_pointer(shift))
