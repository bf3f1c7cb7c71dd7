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

from .activation import copy_elements
from .argument_checks import require_all, require_arrays
from .codes import Normalization
from .jit import glue, inner, kernel
from .reductions import lane_sum, lane_sum_of_products, lane_sum_of_squares
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
# Rows of which some columns are summed before the next columns are; sums are kept in memory meanwhile. A strip of all
# rows, one vector wide, is a piece of each of a thousand pages, where the hardware does not read ahead, and where rows
# are 4 KB long all pieces have the same place in L1: `batch_norm` of 1,024 x 1,024 numbers took 1.10 ms, its backward
# 1.85, and take 0.34 and 0.64 (float32, Zen 5). More than 12 rows of 4 KB do not stay in L1 to be read again.
SUMMED_ROWS, COPIED_ROWS = 32, 8
# Rows that are normalized at once.
AT_ONCE = 4


@inner
def normalize_rows(z, rows, n, factors):
    """z becomes x^, some rows at a time; each row's 1 / sqrt(variance + eps) goes to factors.

    A sum waits for its last addition at every step: rows whose sums follow each other are summed at once by the CPU.
    """
    for first in range(0, rows, AT_ONCE):
        last = min(rows, first + AT_ONCE)
        for i in range(first, last):
            # Means have the place of the factors.
            store(factors, i, constant(lane_sum(advance(z, i * n), n) / n, load(z, 0)))
        for i in range(first, last):
            row, mean = advance(z, i * n), load(factors, i)
            for j in range(0, n, lanes_of(row)):
                v = load_vector(row, j, n)
                store_vector(row, j, n, v - constant(mean, v))
        for i in range(first, last):
            spread = lane_sum_of_squares(advance(z, i * n), n) / n
            store(factors, i, constant(1.0 / math.sqrt(spread + EPS), load(z, 0)))
        for i in range(first, last):
            row, factor = advance(z, i * n), load(factors, i)
            for j in range(0, n, lanes_of(row)):
                v = load_vector(row, j, n)
                store_vector(row, j, n, v * constant(factor, v))


@inner
def normalize_rows_backward(du, normalized, factors, scale, dz, rows, n, stride):
    """dz of du, which it may overwrite; a stride of 0: one normalized row for all."""
    for i in range(rows):
        up, kept, down = advance(du, i * n), advance(normalized, i * stride), advance(dz, i * n)
        for j in range(0, n, lanes_of(up)):
            store_vector(down, j, n, load_vector(up, j, n) * load_vector(scale, j, n))
        mean = lane_sum(down, n) / n
        slope = lane_sum_of_products(down, kept, n) / n
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
def _clear(values, first, last):
    """values[first..last] = 0"""
    for j in range(first, last, lanes_of(values)):
        store_vector(values, j, last, constant(0.0, load_vector(values, 0, 0)))


@inner
def column_statistics(z, rows, n, first, last, mean, factor, variance):
    """Mean, 1 / sqrt(variance + eps) and biased variance of columns first..last, at these places of the results."""
    _clear(mean, first, last)
    _clear(factor, first, last)
    for row in range(0, rows, SUMMED_ROWS):
        for j in range(first, last, lanes_of(z)):
            total, lost = load_vector(mean, j, last), load_vector(factor, j, last)
            for i in range(row, min(rows, row + SUMMED_ROWS)):
                total, lost = added(total, lost, load_vector(advance(z, i * n), j, last))
            store_vector(mean, j, last, total)
            store_vector(factor, j, last, lost)
    for j in range(first, last, lanes_of(z)):
        total, lost = load_vector(mean, j, last), load_vector(factor, j, last)
        store_vector(mean, j, last, (total + lost) / constant(float(rows), total))
    _clear(variance, first, last)
    _clear(factor, first, last)
    for row in range(0, rows, SUMMED_ROWS):
        for j in range(first, last, lanes_of(z)):
            total, lost = load_vector(variance, j, last), load_vector(factor, j, last)
            centre = load_vector(mean, j, last)
            for i in range(row, min(rows, row + SUMMED_ROWS)):
                d = load_vector(advance(z, i * n), j, last) - centre
                total, lost = added(total, lost, d * d)
            store_vector(variance, j, last, total)
            store_vector(factor, j, last, lost)
    for j in range(first, last, lanes_of(z)):
        total, lost = load_vector(variance, j, last), load_vector(factor, j, last)
        # Of deviations whose squares overflow inf, and their factor 0, as in PyTorch.
        spread = whole(total, lost) / constant(float(rows), total)
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
    for i in range(rows):
        row = advance(z, i * n)
        for j in range(0, n, lanes_of(z)):
            d = load_vector(row, j, n) - load_vector(mean, j, n)
            store_vector(row, j, n, d * load_vector(factor, j, n))


@inner
def apply_running(z, rows, n, mean, variance, scale, shift):
    """z becomes scale (z - mean) / sqrt(variance + eps) + shift."""
    for first in range(0, rows, COPIED_ROWS):
        for j in range(0, n, lanes_of(z)):
            centre, factor = load_vector(mean, j, n), _factor(load_vector(variance, j, n))
            slope, start = load_vector(scale, j, n), load_vector(shift, j, n)
            for i in range(first, min(rows, first + COPIED_ROWS)):
                row = advance(z, i * n)
                store_vector(row, j, n, fma((load_vector(row, j, n) - centre) * factor, slope, start))


@glue
def _begin_sums(sums, count):
    """Zeros: sums of du x^, what rounding took from them, sums of du, what rounding took from those."""
    _clear(sums, 0, 4 * count)


@inner
def _add_rows(du, normalized, rows, n, sums, count):
    """Add rows of `count` columns, n elements apart, to the sums."""
    slopes, lost_slopes = sums, advance(sums, count)
    totals, lost_totals = advance(sums, 2 * count), advance(sums, 3 * count)
    for row in range(0, rows, SUMMED_ROWS):
        for j in range(0, count, lanes_of(du)):
            slope, lost_slope = load_vector(slopes, j, count), load_vector(lost_slopes, j, count)
            total, lost = load_vector(totals, j, count), load_vector(lost_totals, j, count)
            for i in range(row, min(rows, row + SUMMED_ROWS)):
                d = load_vector(advance(du, i * n), j, count)
                total, lost = added(total, lost, d)
                slope, lost_slope = added(slope, lost_slope, d * load_vector(advance(normalized, i * n), j, count))
            store_vector(slopes, j, count, slope)
            store_vector(lost_slopes, j, count, lost_slope)
            store_vector(totals, j, count, total)
            store_vector(lost_totals, j, count, lost)


@inner
def _end_sums(sums, count, dscale, dshift):
    """The sums to where they belong."""
    for j in range(0, count, lanes_of(sums)):
        slope, lost_slope = load_vector(sums, j, count), load_vector(advance(sums, count), j, count)
        total, lost = load_vector(advance(sums, 2 * count), j, count), load_vector(advance(sums, 3 * count), j, count)
        store_vector(dscale, j, count, slope + lost_slope)
        store_vector(dshift, j, count, total + lost)


@inner
def parameter_sums(du, normalized, rows, n, first, last, dscale, dshift, scratch):
    """Sums over rows of du x^ and of du for columns first..last, to dscale[0 ...] and dshift[0 ...].

    scratch: 4 (last - first) elements.
    """
    _begin_sums(scratch, last - first)
    _add_rows(advance(du, first), advance(normalized, first), rows, n, scratch, last - first)
    _end_sums(scratch, last - first, dscale, dshift)


@inner
def divide(values, count, by):
    """values /= by"""
    for j in range(0, count, lanes_of(values)):
        v = load_vector(values, j, count)
        store_vector(values, j, count, v / constant(by, v))


@inner
def normalize_columns_backward(du, normalized, factor, scale, slopes, means, dz, rows, n, stride):
    """dz of du, with the means over the batch of du x^ and of du; a stride of 0: one normalized row for all."""
    for i in range(rows):
        up, kept, target = advance(du, i * n), advance(normalized, i * stride), advance(dz, i * n)
        for j in range(0, n, lanes_of(du)):
            d = load_vector(up, j, n) - load_vector(means, j, n)
            down = load_vector(factor, j, n) * load_vector(scale, j, n)
            store_vector(target, j, n, fma(-load_vector(kept, j, n), load_vector(slopes, j, n), d) * down)


@glue
def _require_forward(x, scale, shift, out):
    require_arrays("flat x 2, flat scale 1, flat shift 1, result out 2", (x, scale, shift, out))
    require_all(
        (out.shape == x.shape, scale.shape == x.shape[1:], shift.shape == x.shape[1:]),
        (
            "out: expected the shape of x",
            "scale: expected a number for each column of x",
            "shift: expected a number for each column of x",
        ),
    )


@glue
def _require_running(x, running_mean, running_variance):
    require_arrays("flat x 2, flat running_mean 1, flat running_variance 1", (x, running_mean, running_variance))
    require_all(
        (running_mean.shape == x.shape[1:], running_variance.shape == x.shape[1:]),
        (
            "running_mean: expected a number for each column of x",
            "running_variance: expected a number for each column of x",
        ),
    )


@glue
def _require_backward(dy, x, scale, dx, dscale, dshift):
    kinds = "flat dy 2, flat x 2, flat scale 1, result dx 2, result dscale 1, result dshift 1"
    require_arrays(kinds, (dy, x, scale, dx, dscale, dshift))
    require_all(
        (
            dy.shape == x.shape,
            dx.shape == x.shape,
            scale.shape == x.shape[1:],
            dscale.shape == x.shape[1:],
            dshift.shape == x.shape[1:],
        ),
        (
            "dy: expected the shape of x",
            "dx: expected the shape of x",
            "scale: expected a number for each column of x",
            "dscale: expected a number for each column of x",
            "dshift: expected a number for each column of x",
        ),
    )


@glue
def _copied(x, first, out, row):
    """(where, how many) up to COPIED_ROWS rows of x from `first` on are, copied to `row` and behind of out."""
    count, n = min(COPIED_ROWS, x.shape[0] - first), x.shape[1]
    target = advance(out, row * n)
    copy_elements(advance(flat_pointer(x), first * n), target, count * n)
    return target, count


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
    _require_forward(x, scale, shift, out)
    rows, n = x.shape
    factors = np.empty(COPIED_ROWS, x.dtype)
    for first in range(0, rows, COPIED_ROWS):
        y, m = _copied(x, first, flat_pointer(out), first)
        normalize_rows(y, m, n, pointer(factors))
        scale_and_shift(y, flat_pointer(scale), flat_pointer(shift), y, m, n)
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
    _require_backward(dy, x, scale, dx, dscale, dshift)
    rows, n = x.shape
    # Some rows at a time: memory for all x^ takes the system longer to give than x^ takes to be worked out.
    scratch = np.empty((COPIED_ROWS + 4) * n + COPIED_ROWS, x.dtype)
    normalized = pointer(scratch)
    sums = advance(normalized, COPIED_ROWS * n)
    factors = advance(sums, 4 * n)
    _begin_sums(sums, n)
    for first in range(0, rows, COPIED_ROWS):
        up, down = advance(flat_pointer(dy), first * n), advance(flat_pointer(dx), first * n)
        kept, m = _copied(x, first, normalized, 0)
        normalize_rows(kept, m, n, factors)
        _add_rows(up, kept, m, n, sums, n)
        normalize_rows_backward(up, kept, factors, flat_pointer(scale), down, m, n, n)
    _end_sums(sums, n, flat_pointer(dscale), flat_pointer(dshift))
    keep_alive(scratch)


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
    _require_forward(x, scale, shift, out)
    _require_running(x, running_mean, running_variance)
    require_arrays("result running_mean, result running_variance", (running_mean, running_variance))
    rows, n = x.shape
    statistics = np.empty(3 * n, x.dtype)
    mean = pointer(statistics)
    factor, variance = advance(mean, n), advance(mean, 2 * n)
    column_statistics(flat_pointer(x), rows, n, 0, n, mean, factor, variance)
    for first in range(0, rows, COPIED_ROWS):
        y, m = _copied(x, first, flat_pointer(out), first)
        normalize_columns(y, m, n, mean, factor)
        scale_and_shift(y, flat_pointer(scale), flat_pointer(shift), y, m, n)
    update_running(flat_pointer(running_mean), mean, 0, n, 1.0)
    update_running(flat_pointer(running_variance), variance, 0, n, unbiased(rows))
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
    _require_backward(dy, x, scale, dx, dscale, dshift)
    rows, n = x.shape
    scratch = np.empty((COPIED_ROWS + 9) * n, x.dtype)
    normalized = pointer(scratch)
    mean = advance(normalized, COPIED_ROWS * n)
    factor, variance = advance(mean, n), advance(mean, 2 * n)
    slopes, means, sums = advance(mean, 3 * n), advance(mean, 4 * n), advance(mean, 5 * n)
    column_statistics(flat_pointer(x), rows, n, 0, n, mean, factor, variance)
    _begin_sums(sums, n)
    for first in range(0, rows, COPIED_ROWS):
        kept, m = _copied(x, first, normalized, 0)
        normalize_columns(kept, m, n, mean, factor)
        _add_rows(advance(flat_pointer(dy), first * n), kept, m, n, sums, n)
    _end_sums(sums, n, flat_pointer(dscale), flat_pointer(dshift))
    copy_elements(flat_pointer(dscale), slopes, n)
    copy_elements(flat_pointer(dshift), means, n)
    divide(slopes, 2 * n, float(rows))
    for first in range(0, rows, COPIED_ROWS):
        up, down = advance(flat_pointer(dy), first * n), advance(flat_pointer(dx), first * n)
        kept, m = _copied(x, first, normalized, 0)
        normalize_columns(kept, m, n, mean, factor)
        normalize_columns_backward(up, kept, factor, flat_pointer(scale), slopes, means, down, m, n, n)
    keep_alive(scratch)


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
    _require_forward(x, scale, shift, out)
    _require_running(x, running_mean, running_variance)
    mean, variance = flat_pointer(running_mean), flat_pointer(running_variance)
    for first in range(0, x.shape[0], COPIED_ROWS):
        y, m = _copied(x, first, flat_pointer(out), first)
        apply_running(y, m, x.shape[1], mean, variance, flat_pointer(scale), flat_pointer(shift))
