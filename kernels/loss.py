"""Losses: value and gradient in one pass over the predictions.

With p the prediction, t the target, d = p - t, for each element; the mean is over rows and outputs:

    mse                    d^2                                       2 d
    mae                    |d|                                       sign(d)
    huber                  d^2 / 2 if |d| < c else c (|d| - c / 2)   min(max(d, -c), c), with the parameter c = delta
    log_cosh               log(cosh(d))                              tanh(d)
    poisson                exp(p) - t p                              exp(p) - t
    binary_cross_entropy   max(p, 0) - t p + log(1 + exp(-|p|))      sigmoid(p) - t
    quantile               (1 - q) d if d > 0 else -q d              1 - q if d > 0, -q if d < 0, with the parameter q,
                                                                     or a q for each output

and for each row, the mean being over rows:

    softmax_cross_entropy  sum of t (log(sum(exp(p))) - p)           softmax(p) sum(t) - t

Sample weights make the mean a weighted one: sum of w_i l_i / sum of w_i.

scikit-learn's estimators have losses of their own, sums over outputs and means over rows:

    half_squared_error     d^2 / 2                                   d
    half_poisson_deviance  t log(t / exp(p)) - t + exp(p)            exp(p) - t
    binary_log_loss        -t log(q) - (1 - t) log(1 - q)            q - t, with q = 1 / (1 + exp(-p)); t is 0 or 1
    log_loss               -log(q of the label)                      q - (1 at the label, else 0), with q = softmax(p)

In the logarithms q is kept within [eps, 1 - eps] of the dtype, which bounds the value and leaves the gradient alone.
The value of half_squared_error, though not its gradient, is the mean over outputs too.
"""

from collections import namedtuple

import numpy as np
from numba import carray, types
from numba.extending import overload

from . import elementary, sigmoids
from .codes import EstimatorLoss, Loss
from .jit import OPTIONS, inner, plain
from .reductions import lane_sum
from .simd import (
    advance,
    constant,
    flat_pointer,
    fma,
    lanes_of,
    load,
    load_vector,
    on_stack,
    select,
    store,
    store_vector,
)
from .softmax import cross_entropy_rows, kept_inside
from .symbols import shared

MSE = int(Loss.MSE)
MAE = int(Loss.MAE)
HUBER = int(Loss.HUBER)
LOG_COSH = int(Loss.LOG_COSH)
POISSON = int(Loss.POISSON)
BINARY_CROSS_ENTROPY = int(Loss.BINARY_CROSS_ENTROPY)
SOFTMAX_CROSS_ENTROPY = int(Loss.SOFTMAX_CROSS_ENTROPY)
QUANTILE = int(Loss.QUANTILE)
HALF_SQUARED_ERROR = int(EstimatorLoss.HALF_SQUARED_ERROR)
HALF_POISSON_DEVIANCE = int(EstimatorLoss.HALF_POISSON_DEVIANCE)
BINARY_LOG_LOSS = int(EstimatorLoss.BINARY_LOG_LOSS)
LOG_LOSS = int(EstimatorLoss.LOG_LOSS)

# Not a loss to train by: t p, summed, and its slope t. With the gradient of any number by the output for t, its
# gradient by the parameters is that of the number; see custom_training.py and `parameter_vjp`.
LINEAR = 200

# Targets of a batch: rows of `columns` values (labels have one) and a weight for each row if `weighted`.
Batch = namedtuple("Batch", "target columns weights weighted")


@plain
def default_parameter(loss):
    """The parameter of a loss that is given none: huber's delta, quantile's q; other losses take no notice of it."""
    return 0.5 if loss == QUANTILE else 1.0


_DEFAULTS = {code: np.array([default_parameter(code)]) for code in (*Loss, *EstimatorLoss, LINEAR)}
for _numbers in _DEFAULTS.values():
    _numbers.flags.writeable = False


def parameter_array(loss, given):
    """The parameter of a loss as workers take it: float64, of one number, or of a q for each output.

    given: a number, or numbers, of which a contiguous float64 array is returned itself; or None for the default, an
    array that lives on. In compiled code a number comes to lie on the stack of the caller.
    """
    return _DEFAULTS[loss] if given is None else np.ascontiguousarray(given, np.float64)


# Copied into its caller, for on_stack.
@overload(parameter_array, strict=False, inline="always", jit_options=OPTIONS)
def _choose_parameter_array(loss, given):
    if isinstance(given, types.Array):
        return lambda loss, given: given
    if given is None or isinstance(given, types.NoneType) or getattr(given, "value", 0) is None:
        return lambda loss, given: carray(on_stack(default_parameter(loss)), 1)
    # In compiled code float() leaves a float32 as it is.
    return lambda loss, given: carray(on_stack(np.float64(float(given))), 1)


@inner
def total_weight(batch, rows):
    """What the sum of the rows' losses is divided by."""
    if batch.weighted:
        return lane_sum(batch.weights, rows)
    return float(rows)


@inner
def loss_scale(loss, weight, n):
    """Factor of every gradient: 1 / (total weight * outputs averaged over), 0 where all weights are zero."""
    if loss == LINEAR:
        return 1.0
    outputs = 1 if loss == SOFTMAX_CROSS_ENTROPY or loss >= HALF_SQUARED_ERROR else n
    return 1.0 / (weight * outputs) if weight != 0.0 else 0.0


@inner
def value_scale(loss, weight, n):
    """Factor of every term of the loss's value."""
    scale = loss_scale(loss, weight, n)
    return scale / n if loss == HALF_SQUARED_ERROR else scale


@inner
def _elements(loss, parameter, prediction, target, gradient, terms, count, weight, scale):
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
        delta = constant(parameter, like)
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            size = abs(d)
            clipped = select(d > delta, delta, select(d < -delta, -delta, d))
            store_vector(gradient, i, count, slope * clipped)
            store_vector(terms, i, count, w * select(size < delta, half * d * d, delta * (size - half * delta)))
    elif loss == QUANTILE:
        over, under = constant(1.0 - parameter, like), constant(-parameter, like)
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            # d itself where it is 0 or NaN.
            side = select(d > zero, over, select(d < zero, under, d))
            store_vector(gradient, i, count, slope * side)
            store_vector(terms, i, count, w * (side * d))
    elif loss == LOG_COSH:
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            store_vector(gradient, i, count, slope * sigmoids.tanh(d))
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
            store_vector(gradient, i, count, slope * (sigmoids.sigmoid(p) - t))
            positive = select(p < zero, zero, p)
            store_vector(terms, i, count, w * (fma(-t, p, positive) + elementary.softplus(-abs(p))))
    elif loss == LINEAR:
        for i in range(0, count, lanes_of(prediction)):
            t = load_vector(target, i, count)
            store_vector(gradient, i, count, slope * t)
            store_vector(terms, i, count, w * (t * load_vector(prediction, i, count)))
    elif loss == HALF_SQUARED_ERROR:
        for i in range(0, count, lanes_of(prediction)):
            d = load_vector(prediction, i, count) - load_vector(target, i, count)
            store_vector(gradient, i, count, slope * d)
            store_vector(terms, i, count, w * (half * d * d))
    elif loss == HALF_POISSON_DEVIANCE:
        for i in range(0, count, lanes_of(prediction)):
            t = load_vector(target, i, count)
            rate = elementary.exp(load_vector(prediction, i, count))
            store_vector(gradient, i, count, slope * (rate - t))
            share = select(t == zero, zero, t * elementary.log(t / rate))
            store_vector(terms, i, count, w * (share - t + rate))
    elif loss == BINARY_LOG_LOSS:
        for i in range(0, count, lanes_of(prediction)):
            p, t = load_vector(prediction, i, count), load_vector(target, i, count)
            # Not sigmoids.sigmoid: 1 - q has to lose the digits that scikit-learn's loses.
            q = one / (one + elementary.exp(-p))
            store_vector(gradient, i, count, slope * (q - t))
            q = kept_inside(q)
            store_vector(terms, i, count, w * -elementary.log(select(t > half, q, one - q)))


@inner
def _quantile_row(levels, prediction, target, gradient, terms, n, weight, scale):
    """One row of `_elements` for quantile, with a q for each output."""
    for j in range(n):
        d = load(prediction, j) - load(target, j)
        zero, q = constant(0.0, d), load(levels, j)
        side = select(d > zero, constant(1.0 - q, d), select(d < zero, constant(-q, d), d))
        store(gradient, j, constant(weight * scale, d) * side)
        store(terms, j, constant(weight, d) * (side * d))


@shared
def loss_rows(loss, parameter, prediction, batch, gradient, terms, rows, n, scale):
    """Gradient and unscaled terms of some rows: n terms a row, one a row for softmax_cross_entropy and log_loss."""
    if loss in (LOG_LOSS, SOFTMAX_CROSS_ENTROPY):
        cross_entropy_rows(loss == LOG_LOSS, prediction, batch, gradient, terms, rows, n, scale)
    elif loss == QUANTILE and parameter.size > 1:
        for i in range(rows):
            here = i * n
            _quantile_row(
                flat_pointer(parameter),
                advance(prediction, here),
                advance(batch.target, here),
                advance(gradient, here),
                advance(terms, here),
                n,
                np.float64(load(batch.weights, i)) if batch.weighted else 1.0,
                scale,
            )
    elif batch.weighted:
        for i in range(rows):
            here = i * n
            _elements(
                loss,
                parameter[0],
                advance(prediction, here),
                advance(batch.target, here),
                advance(gradient, here),
                advance(terms, here),
                n,
                np.float64(load(batch.weights, i)),
                scale,
            )
    else:
        _elements(loss, parameter[0], prediction, batch.target, gradient, terms, rows * n, 1.0, scale)


@inner
def terms_count(loss, rows, n):
    return rows if loss in (SOFTMAX_CROSS_ENTROPY, LOG_LOSS) else rows * n
