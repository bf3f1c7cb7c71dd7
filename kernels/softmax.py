"""Softmax over rows: its forward and backward, its logarithm's, and the two losses that contain it.

    softmax(z) = exp(z - max z) / sum(exp(z - max z))

The sum is that of `lane_sum`, in float64. A row of at most LANES elements, as of a network with so many classes, stays
in registers from its load to its store. Through memory each step waits until a masked store of the one before has left
the core: a float64 row of 10 on a Zen 4 core took 58 ns, so it takes 21. Longer rows go through memory in whole vectors
therefore, of which the last one begins LANES before the row's end: it computes some elements once more.
"""

import numpy as np

from . import elementary
from .jit import glue, inner
from .reductions import (
    lane_max,
    lane_numbers,
    lane_sum,
    lane_sum_of_products,
    lane_sum_of_shares,
    load_row,
    row_max,
    row_sum,
    row_sum_of_shares,
    store_row,
)
from .simd import LANES, advance, by_type, constant, fma, lanes_of, load, load_vector, select, store, store_vector
from .symbols import shared


@glue
def _load(p, i):
    return load_row(advance(p, i), LANES)


@glue
def _store(p, i, value):
    store_row(advance(p, i), LANES, value)


@glue
def _window(i, count):
    """Where the vector of element i begins, that and LANES - 1 more of a row of more than so many."""
    return min(i, count - LANES)


@inner
def exp_elements(z, largest, y, count):
    """y = exp(z - largest), element by element, of more than LANES; y is apart from z."""
    for i in range(0, count, LANES):
        j = _window(i, count)
        v = _load(z, j)
        _store(y, j, elementary.exp(v - constant(largest, v)))


@elementary.scalar
def _exp_row(z, count):
    """(max z, z - max z, its exponential with 0 behind the row's end, the sum of that) of the row z."""
    inside = lane_numbers(z) < constant(float(count), z)
    largest = row_max(select(inside, z, constant(-np.inf, z)))
    below = z - constant(largest, z)
    e = select(inside, elementary.exp(below), constant(0.0, z))
    return largest, below, e, row_sum(e)


# ---- The activations


@inner
def _short_rows(y, rows, columns, log, buffer):
    if log:
        _short_rows_log(y, rows, columns, buffer)
        return
    for i in range(rows):
        row = advance(y, i * columns)
        _, _, e, total = _exp_row(load_row(row, columns), columns)
        store_row(row, columns, e * constant(1.0 / total, e))


@inner
def _short_rows_log(y, rows, columns, buffer):
    """As many rows at a time as the buffer has room for sums, whose logarithms are then a vector too.

    100,000 rows of 10 took 1.95 ms with a logarithm for each, 2.85 in float64, and take 1.2 and 2.2 (Zen 5).
    """
    for first in range(0, rows, max(columns, 1)):
        count = min(columns, rows - first)
        for i in range(count):
            largest, _, _, total = _exp_row(load_row(advance(y, (first + i) * columns), columns), columns)
            store(buffer, i, constant(total, largest))
        store_row(buffer, count, elementary.log(load_row(buffer, count)))
        for i in range(count):
            row = advance(y, (first + i) * columns)
            z = load_row(row, columns)
            store_row(row, columns, _log_softmax(z, _row_max(row, columns), load(buffer, i)))


@shared
def _long_rows(y, rows, columns, log, buffer):
    for i in range(rows):
        row = advance(y, i * columns)
        largest = lane_max(row, columns)
        exp_elements(row, largest, buffer, columns)
        total = lane_sum(buffer, columns)
        if log:
            logarithm = elementary.log(constant(total, largest))
            # Read before the vector in front of it, which it overlaps, is written.
            last = _log_softmax(_load(row, columns - LANES), largest, logarithm)
            for j in range(0, columns - LANES, LANES):
                _store(row, j, _log_softmax(_load(row, j), largest, logarithm))
            _store(row, columns - LANES, last)
        else:
            for j in range(0, columns, LANES):
                v = _load(buffer, _window(j, columns))
                _store(row, _window(j, columns), v * constant(1.0 / total, v))


@elementary.scalar
def _log_softmax(v, largest, logarithm):
    return (v - constant(largest, v)) - constant(logarithm, v)


@glue
def softmax_rows(y, rows, columns, log, buffer):
    """In place: y = softmax(z), or its logarithm, for each row; buffer holds one row."""
    if columns <= LANES:
        _short_rows(y, rows, columns, log, buffer)
    else:
        _long_rows(y, rows, columns, log, buffer)


@shared
def softmax_rows_backward(dy, y, dz, rows, columns, log):
    """softmax: dz = y * (dy - sum(dy * y)); log_softmax: dz = dy - exp(y) * sum(dy). dz overlaps neither input."""
    for i in range(rows):
        up, saved, down = advance(dy, i * columns), advance(y, i * columns), advance(dz, i * columns)
        if columns <= LANES:
            u, v = load_row(up, columns), load_row(saved, columns)
            if log:
                result = fma(-elementary.exp(v), constant(row_sum(u), v), u)
            else:
                result = v * (u - constant(row_sum(u * v), v))
            store_row(down, columns, result)
        elif log:
            total = lane_sum(up, columns)
            for i in range(0, columns, LANES):
                j = _window(i, columns)
                v = _load(saved, j)
                _store(down, j, fma(-elementary.exp(v), constant(total, v), _load(up, j)))
        else:
            total = lane_sum_of_products(up, saved, columns)
            for i in range(0, columns, LANES):
                j = _window(i, columns)
                v = _load(up, j)
                _store(down, j, _load(saved, j) * (v - constant(total, v)))


# ---- The losses


@inner
def kept_inside(q):
    """A probability within [eps, 1 - eps]; NaN stays NaN."""
    eps = by_type(q, 2.0**-23, 2.0**-52)
    most = constant(1.0, q) - eps
    q = select(q < eps, eps, q)
    return select(q > most, most, q)


@elementary.scalar
def _is_class(label, n):
    """Whether a label is one of 0, 1, .. n - 1; one that is not touches no memory, its loss is NaN."""
    return label >= constant(0.0, label) and label < constant(float(n), label) and label == np.floor(label)


@elementary.scalar
def _hits(numbers, label):
    """1 where a class's number is the label, else 0."""
    return select(numbers == constant(label, numbers), constant(1.0, numbers), constant(0.0, numbers))


@elementary.scalar
def _slopes(e, probability, target, factor):
    """factor (e probability - target)"""
    return constant(factor, e) * fma(e, constant(probability, e), -target)


@elementary.scalar
def _row_slopes(prediction, target, labelled, n, gradient, slope):
    """gradient = slope (softmax(p) sum(target) - target) of a row; returns sum(exp(p - max p)), and that at the label.

    target: n numbers, or one label.
    """
    label = load(target, 0)
    if n <= LANES:
        z = load_row(prediction, n)
        _, _, e, total = _exp_row(z, n)
        wanted = _hits(lane_numbers(z), label) if labelled else load_row(target, n)
        mass = 1.0 if labelled else row_sum(wanted)
        store_row(gradient, n, _slopes(e, mass / total, wanted, slope))
        # One element and zeros.
        return total, row_sum(e * wanted)
    mass = 1.0 if labelled else lane_sum(target, n)
    exp_elements(prediction, lane_max(prediction, n), gradient, n)
    total = lane_sum(gradient, n)
    at_label = np.float64(load(gradient, int(label) if labelled and _is_class(label, n) else 0))
    # Read before the vector in front of it, which it overlaps, is written.
    last = _wanted_slopes(gradient, n - LANES, target, labelled, mass / total, slope)
    for j in range(0, n - LANES, LANES):
        _store(gradient, j, _wanted_slopes(gradient, j, target, labelled, mass / total, slope))
    _store(gradient, n - LANES, last)
    return total, at_label


@elementary.scalar
def _wanted_slopes(e, j, target, labelled, probability, factor):
    """`_slopes` of the LANES elements from j on."""
    v = _load(e, j)
    if labelled:
        numbers = lane_numbers(v) + constant(float(j), v)
        return _slopes(v, probability, _hits(numbers, load(target, 0)), factor)
    return _slopes(v, probability, _load(target, j), factor)


@elementary.scalar
def _row_max(row, n):
    if n <= LANES:
        z = load_row(row, n)
        return row_max(select(lane_numbers(z) < constant(float(n), z), z, constant(-np.inf, z)))
    return lane_max(row, n)


@elementary.scalar
def _label_loss(prediction, target, n, log_total):
    """Loss of a row with a label, from log(sum(exp(p - max p)))."""
    label = load(target, 0)
    if not _is_class(label, n):
        return np.nan
    return log_total - np.float64(load(prediction, int(label)) - _row_max(prediction, n))


@elementary.scalar
def _target_loss(prediction, target, n, log_total):
    """Loss of a row with n targets, from log(sum(exp(p - max p))): a target of 0 counts nothing even at a p of -inf.

    sum of t (log - (p - max p)), taken apart so that it is two sums of vectors: 1,000 rows of 1,024 took 1.13 ms with
    one term at a time, and take 0.47, 100,000 of 10 2.1 and 1.7 (Zen 5). Where no target is negative, nothing cancels.
    """
    largest = _row_max(prediction, n)
    if n <= LANES:
        t, z = load_row(target, n), load_row(prediction, n)
        return row_sum(t) * log_total - row_sum_of_shares(t, z - constant(largest, z))
    return lane_sum(target, n) * log_total - lane_sum_of_shares(target, prediction, largest, n)


@shared
def cross_entropy_rows(clips, prediction, batch, gradient, terms, rows, n, scale):
    """Gradient and unscaled terms, one a row, of softmax_cross_entropy; of log_loss if it clips probabilities.

    The terms hold first what logarithms are to be taken of, so that those are vectors too: one at a time they were a
    third of the work.
    """
    labelled = clips or batch.columns != n
    for i in range(rows):
        weight = np.float64(load(batch.weights, i)) if batch.weighted else 1.0
        p, t = advance(prediction, i * n), advance(batch.target, i * batch.columns)
        total, at_label = _row_slopes(p, t, labelled, n, advance(gradient, i * n), weight * scale)
        store(terms, i, kept_inside(constant(at_label / total, load(p, 0))) if clips else constant(total, load(p, 0)))
    for i in range(0, rows, lanes_of(terms)):
        store_vector(terms, i, rows, elementary.log(load_vector(terms, i, rows)))
    for i in range(rows):
        weight = np.float64(load(batch.weights, i)) if batch.weighted else 1.0
        p, t = advance(prediction, i * n), advance(batch.target, i * batch.columns)
        logarithm = np.float64(load(terms, i))
        if clips:
            loss = -logarithm if _is_class(load(t, 0), n) else np.nan
        elif labelled:
            loss = _label_loss(p, t, n, logarithm)
        else:
            loss = _target_loss(p, t, n, logarithm)
        store(terms, i, constant(weight * loss, load(p, 0)))
