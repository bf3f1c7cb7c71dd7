"""Losses: value and gradient in one pass over the predictions.

With p the prediction, t the target, d = p - t, for each element; the mean is over rows and outputs:

    mse                    d^2                                       2 d
    mae                    |d|                                       sign(d)
    huber                  d^2 / 2 if |d| < 1 else |d| - 1/2         min(max(d, -1), 1)
    log_cosh               log(cosh(d))                              tanh(d)
    poisson                exp(p) - t p                              exp(p) - t
    binary_cross_entropy   max(p, 0) - t p + log(1 + exp(-|p|))      sigmoid(p) - t

and for each row, the mean being over rows:

    softmax_cross_entropy  sum of t (log(sum(exp(p))) - p)           softmax(p) sum(t) - t

Sample weights make the mean a weighted one: sum of w_i l_i / sum of w_i.
"""

from collections import namedtuple

import numpy as np

from . import elementary
from .activation import exp_elements
from .codes import Loss
from .jit import inner, kernel
from .simd import (
    advance,
    constant,
    flat_pointer,
    fma,
    keep_alive,
    lane_max,
    lane_sum,
    lanes_of,
    load,
    load_vector,
    pointer,
    select,
    store,
    store_vector,
)

MSE = int(Loss.MSE)
MAE = int(Loss.MAE)
HUBER = int(Loss.HUBER)
LOG_COSH = int(Loss.LOG_COSH)
POISSON = int(Loss.POISSON)
BINARY_CROSS_ENTROPY = int(Loss.BINARY_CROSS_ENTROPY)
SOFTMAX_CROSS_ENTROPY = int(Loss.SOFTMAX_CROSS_ENTROPY)

# Targets of a batch: rows of `columns` values (labels have one) and a weight for each row if `weighted`.
Batch = namedtuple("Batch", "target columns weights weighted")


@inner
def total_weight(batch, rows):
    """What the sum of the rows' losses is divided by."""
    if batch.weighted:
        return lane_sum(batch.weights, rows)
    return float(rows)


@inner
def loss_scale(loss, weight, n):
    """Factor of every term: 1 / (total weight * outputs), 0 where all weights are zero."""
    outputs = 1 if loss == SOFTMAX_CROSS_ENTROPY else n
    return 1.0 / (weight * outputs) if weight != 0.0 else 0.0


@inner
def _elements(loss, prediction, target, gradient, terms, count, weight, scale):
    """terms = weight * loss, gradient = weight * scale * d loss / d prediction."""
    if count == 0:
        return
    like = load_vector(prediction, 0, count)
    slope = constant(weight * scale, like)
    w = constant(weight, like)
    zero, half, one = constant(0.0, like), constant(0.5, like), constant(1.0, like)
    if loss == MSE:
        slope = slope + slope
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            store_vector(gradient, i, count, slope * d)
            store_vector(terms, i, count, w * (d * d))
    elif loss == MAE:
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            sign = select(d > zero, one, select(d < zero, -one, d))
            store_vector(gradient, i, count, slope * sign)
            store_vector(terms, i, count, w * abs(d))
    elif loss == HUBER:
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            size = abs(d)
            clipped = select(d > one, one, select(d < -one, -one, d))
            store_vector(gradient, i, count, slope * clipped)
            store_vector(terms, i, count, w * select(size < one, half * d * d, size - half))
    elif loss == LOG_COSH:
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            store_vector(gradient, i, count, slope * elementary.tanh(d))
            store_vector(terms, i, count, w * elementary.log_cosh(d))
    elif loss == POISSON:
        for i in range(0, count, lanes_of(prediction)):
            p, t = load_vector(prediction, i, count), load_vector(target, i, count)
            rate = elementary.exp(p)
            store_vector(gradient, i, count, slope * (rate - t))
            store_vector(terms, i, count, w * fma(-t, p, rate))
    elif loss == BINARY_CROSS_ENTROPY:
        for i in range(0, count, lanes_of(prediction)):
            p, t = load_vector(prediction, i, count), load_vector(target, i, count)
            store_vector(gradient, i, count, slope * (elementary.sigmoid(p) - t))
            positive = select(p < zero, zero, p)
            store_vector(terms, i, count, w * (fma(-t, p, positive) + elementary.softplus(-abs(p))))


@inner
def _cross_entropy_row(prediction, target, columns, n, gradient, weight, scale):
    """Returns weight * loss of one row; gradient = weight * scale * its derivative."""
    largest = lane_max(prediction, n)
    exp_elements(prediction, largest, gradient, n)
    total = lane_sum(gradient, n)
    log_total = elementary.log(constant(total, largest))
    slope = weight * scale
    one, zero = constant(1.0, largest), constant(0.0, largest)
    if columns != n:
        label = load(target, 0)
        probability = constant(1.0 / total, largest)
        factor = constant(slope, largest)
        for j in range(n):
            hit = select(constant(float(j), label) == label, one, zero)
            store(gradient, j, factor * fma(load(gradient, j), probability, -hit))
        # A label outside 0 .. n - 1 touches no memory; its loss is NaN.
        inside = (label >= zero) and (label < constant(float(n), label))
        return (
            weight * (np.float64(log_total) - np.float64(load(prediction, int(label)) - largest)) if inside else np.nan
        )
    mass = lane_sum(target, n)
    probability = constant(mass / total, largest)
    factor = constant(slope, largest)
    loss = 0.0
    for j in range(n):
        t = load(target, j)
        # A target of 0 counts nothing even where the logit is -inf.
        if t != zero:
            loss += np.float64(t) * (np.float64(log_total) - np.float64(load(prediction, j) - largest))
        store(gradient, j, factor * fma(load(gradient, j), probability, -t))
    return weight * loss


@inner
def loss_rows(loss, prediction, batch, gradient, terms, rows, n, scale):
    """Gradient and unscaled terms of some rows: n terms a row, one a row for softmax_cross_entropy."""
    if loss == SOFTMAX_CROSS_ENTROPY:
        for i in range(rows):
            weight = np.float64(load(batch.weights, i)) if batch.weighted else 1.0
            term = _cross_entropy_row(
                advance(prediction, i * n),
                advance(batch.target, i * batch.columns),
                batch.columns,
                n,
                advance(gradient, i * n),
                weight,
                scale,
            )
            store(terms, i, constant(term, load(prediction, 0)))
    elif batch.weighted:
        for i in range(rows):
            here = i * n
            _elements(
                loss,
                advance(prediction, here),
                advance(batch.target, here),
                advance(gradient, here),
                advance(terms, here),
                n,
                np.float64(load(batch.weights, i)),
                scale,
            )
    else:
        _elements(loss, prediction, batch.target, gradient, terms, rows * n, 1.0, scale)


@inner
def terms_count(loss, rows, n):
    return rows if loss == SOFTMAX_CROSS_ENTROPY else rows * n


@inner
def _loss(loss, prediction, target, sample_weight, gradient):
    rows, n = prediction.shape
    batch = Batch(flat_pointer(target), target.shape[1], flat_pointer(sample_weight), sample_weight.size > 0)
    scale = loss_scale(loss, total_weight(batch, rows), n)
    scratch = np.empty(rows * n, prediction.dtype)
    terms = pointer(scratch)
    loss_rows(loss, flat_pointer(prediction), batch, flat_pointer(gradient), terms, rows, n, scale)
    total = lane_sum(terms, terms_count(loss, rows, n))
    keep_alive(scratch)
    return scale * total


@kernel
def mse(prediction, target, sample_weight, gradient):
    """Mean of (p - t)^2; gradient receives d loss / d p."""
    return _loss(MSE, prediction, target, sample_weight, gradient)


@kernel
def mae(prediction, target, sample_weight, gradient):
    """Mean of |p - t|; gradient receives d loss / d p, 0 where p = t."""
    return _loss(MAE, prediction, target, sample_weight, gradient)


@kernel
def huber(prediction, target, sample_weight, gradient):
    """Mean of (p - t)^2 / 2 inside |p - t| < 1, |p - t| - 1/2 outside (Huber 1964); gradient receives d loss / d p."""
    return _loss(HUBER, prediction, target, sample_weight, gradient)


@kernel
def log_cosh(prediction, target, sample_weight, gradient):
    """Mean of log(cosh(p - t)); gradient receives d loss / d p."""
    return _loss(LOG_COSH, prediction, target, sample_weight, gradient)


@kernel
def poisson(prediction, target, sample_weight, gradient):
    """Mean of exp(p) - t p, p being the logarithm of the rate; gradient receives d loss / d p."""
    return _loss(POISSON, prediction, target, sample_weight, gradient)


@kernel
def binary_cross_entropy(prediction, target, sample_weight, gradient):
    """Mean binary cross-entropy of logits p against probabilities t; gradient receives d loss / d p."""
    return _loss(BINARY_CROSS_ENTROPY, prediction, target, sample_weight, gradient)


@kernel
def softmax_cross_entropy(prediction, target, sample_weight, gradient):
    """Mean cross-entropy of rows of logits p; target has rows of probabilities, or one column of class labels."""
    return _loss(SOFTMAX_CROSS_ENTROPY, prediction, target, sample_weight, gradient)
