"""Softmax over rows: its forward and backward, its logarithm's, and the two losses that contain it.

    softmax(z) = exp(z - max z) / sum(exp(z - max z))

The sum is that of `lane_sum`, in float64. A row of at most LANES elements, as of a network with so many classes, stays
in registers from its load to its store. Through memory, as longer rows go, each step waits until the masked store of
the one before has left the core: a float64 row of 10 on a Zen 4 core took 58 ns, so it takes 21.
"""

import numpy as np

from . import elementary
from .jit import glue, inner
from .reductions import lane_max, lane_numbers, lane_sum, load_row, row_max, row_sum, store_row
from .simd import LANES, advance, by_type, constant, fma, lanes_of, load, load_vector, select, store, store_vector
from .symbols import shared


@inner
def exp_elements(z, largest, y, count):
    """y = exp(z - largest), element by element; y may be z."""
    for i in range(0, count, lanes_of(z)):
        v = load_vector(z, i, count)
        store_vector(y, i, count, elementary.exp(v - constant(largest, v)))


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
def _short_rows(y, rows, columns, log):
    for i in range(rows):
        row = advance(y, i * columns)
        largest, below, e, total = _exp_row(load_row(row, columns), columns)
        if log:
            store_row(row, columns, below - constant(elementary.log(constant(total, largest)), below))
        else:
            store_row(row, columns, e * constant(1.0 / total, e))


@shared
def _long_rows(y, rows, columns, log, buffer):
    for i in range(rows):
        row = advance(y, i * columns)
        largest = lane_max(row, columns)
        if log:
            exp_elements(row, largest, buffer, columns)
            logarithm = elementary.log(constant(lane_sum(buffer, columns), largest))
            for j in range(0, columns, lanes_of(row)):
                v = load_vector(row, j, columns)
                store_vector(row, j, columns, (v - constant(largest, v)) - constant(logarithm, v))
        else:
            exp_elements(row, largest, row, columns)
            scale = 1.0 / lane_sum(row, columns)
            for j in range(0, columns, lanes_of(row)):
                v = load_vector(row, j, columns)
                store_vector(row, j, columns, v * constant(scale, v))


@glue
def softmax_rows(y, rows, columns, log, buffer):
    """In place: y = softmax(z), or its logarithm, for each row; buffer holds one row."""
    if columns <= LANES:
        _short_rows(y, rows, columns, log)
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
            for j in range(0, columns, lanes_of(up)):
                v = load_vector(saved, j, columns)
                store_vector(down, j, columns, fma(-elementary.exp(v), constant(total, v), load_vector(up, j, columns)))
        else:
            for j in range(0, columns, lanes_of(up)):
                product = load_vector(up, j, columns) * load_vector(saved, j, columns)
                store_vector(down, j, columns, product)
            total = lane_sum(down, columns)
            for j in range(0, columns, lanes_of(up)):
                v = load_vector(up, j, columns)
                store_vector(down, j, columns, load_vector(saved, j, columns) * (v - constant(total, v)))


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
    """Whether a label is one of 0 .. n - 1; one that is not touches no memory, its loss is NaN."""
    return (label >= constant(0.0, label)) and (label < constant(float(n), label))


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
    mass = 1.0 if labelled else lane_sum(target, n)
    if n <= LANES:
        z = load_row(prediction, n)
        _, _, e, total = _exp_row(z, n)
        wanted = _hits(lane_numbers(z), label) if labelled else load_row(target, n)
        store_row(gradient, n, _slopes(e, mass / total, wanted, slope))
        # One element and zeros.
        return total, row_sum(e * wanted)
    exp_elements(prediction, lane_max(prediction, n), gradient, n)
    total = lane_sum(gradient, n)
    at_label = np.float64(load(gradient, int(label) if labelled and _is_class(label, n) else 0))
    for j in range(n):
        wanted = _hits(constant(float(j), label), label) if labelled else load(target, j)
        store(gradient, j, _slopes(load(gradient, j), mass / total, wanted, slope))
    return total, at_label


@elementary.scalar
def _row_max(row, n):
    if n <= LANES:
        z = load_row(row, n)
        return row_max(select(lane_numbers(z) < constant(float(n), z), z, constant(-np.inf, z)))
    return lane_max(row, n)


@elementary.scalar
def _row_loss(prediction, target, labelled, n, log_total):
    """Loss of a row from log(sum(exp(p - max p)))."""
    largest = _row_max(prediction, n)
    if labelled:
        label = load(target, 0)
        return log_total - np.float64(load(prediction, int(label)) - largest) if _is_class(label, n) else np.nan
    loss = 0.0
    for j in range(n):
        t = load(target, j)
        # A target of 0 counts nothing even where the logit is -inf.
        if t != constant(0.0, t):
            loss += np.float64(t) * (log_total - np.float64(load(prediction, j) - largest))
    return loss


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
        else:
            loss = _row_loss(p, t, labelled, n, logarithm)
        store(terms, i, constant(weight * loss, load(p, 0)))
