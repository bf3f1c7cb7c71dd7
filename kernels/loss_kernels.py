"""A kernel for each loss, by name: its value, and its gradient with respect to the prediction.

Inside compiled code they run on the thread that calls them. From Python, large work is shared by threads; the value is
the sum of the same terms in the same order.
"""

import numpy as np
from numba import float64, intp

from .argument_checks import require_all, require_arrays
from .jit import glue, inner, kernel, read_only
from .launch import run
from .loss import (
    BINARY_CROSS_ENTROPY,
    BINARY_LOG_LOSS,
    HALF_POISSON_DEVIANCE,
    HALF_SQUARED_ERROR,
    HUBER,
    LOG_COSH,
    LOG_LOSS,
    MAE,
    MSE,
    POISSON,
    QUANTILE,
    SOFTMAX_CROSS_ENTROPY,
    Batch,
    loss_rows,
    loss_scale,
    parameter_array,
    terms_count,
    total_weight,
    value_scale,
)
from .reductions import lane_sum
from .sharing import are_plain, shares_large_work
from .simd import advance, flat_pointer, keep_alive, pointer
from .threads import threads_for
from .workers import finder, part, worker

# Picoseconds an element of float32 and of float64, on one Zen 5 core, and those from which another thread pays: more
# than for activations, since terms of which other cores have written half are summed by one.
COSTS = {
    MSE: (130, 310),
    MAE: (130, 310),
    HUBER: (140, 320),
    LOG_COSH: (630, 2400),
    POISSON: (220, 540),
    BINARY_CROSS_ENTROPY: (560, 2150),
    SOFTMAX_CROSS_ENTROPY: (1200, 1600),
    QUANTILE: (130, 310),
    HALF_SQUARED_ERROR: (130, 310),
    HALF_POISSON_DEVIANCE: (650, 1900),
    BINARY_LOG_LOSS: (730, 2000),
    LOG_LOSS: (1200, 1600),
}
PARALLEL_COST = 8_000_000
# The gradient's place among the arguments; fewer elements of the costliest loss pay for no second thread.
GRADIENT, LEAST = 3, 4096


@inner
def _batch(target, sample_weight, row):
    """The targets from a row on."""
    columns, weighted = target.shape[1], sample_weight.size > 0
    weights = advance(flat_pointer(sample_weight), row if weighted else 0)
    return Batch(advance(flat_pointer(target), row * columns), columns, weights, weighted)


@inner
def _scale(loss, target, sample_weight, rows, n):
    """(the total weight, the factor of every gradient)"""
    weight = total_weight(_batch(target, sample_weight, 0), rows)
    return weight, loss_scale(loss, weight, n)


@inner
def _value_of(loss, terms, weight, rows, n):
    return value_scale(loss, weight, n) * lane_sum(pointer(terms), terms_count(loss, rows, n))


@worker(
    lambda t: (
        intp,
        read_only(float64, 1),
        t[:, ::1],
        t[:, ::1],
        t[::1],
        t[:, ::1],
        t[::1],
        float64,
        intp,
        intp,
    )
)
def loss_worker(loss, parameter, prediction, target, sample_weight, gradient, terms, scale, index, parts):
    """One thread's rows of the gradient and the terms."""
    rows, n = prediction.shape
    first, last = part(rows, index, parts), part(rows, index + 1, parts)
    here = first * n
    loss_rows(
        loss,
        parameter,
        advance(flat_pointer(prediction), here),
        _batch(target, sample_weight, first),
        advance(flat_pointer(gradient), here),
        advance(flat_pointer(terms), terms_count(loss, first, n)),
        last - first,
        n,
        scale,
    )


find_loss = finder(loss_worker)


@glue
def _require_loss(loss, parameter, prediction, target, sample_weight, gradient):
    require_arrays("flat prediction 2, flat target 2, result gradient 2", (prediction, target, gradient))
    require_arrays("flat sample_weight 1", (sample_weight,))
    rows, n = prediction.shape
    labels = loss == LOG_LOSS or (loss == SOFTMAX_CROSS_ENTROPY and target.shape[1] == 1)
    require_all(
        (
            gradient.shape == prediction.shape,
            target.shape == (rows, 1 if labels else n),
            (sample_weight.shape == (rows,)) | (sample_weight.size == 0),
            (loss != QUANTILE) | (parameter.size == 1) | (parameter.size == n),
        ),
        (
            "gradient: expected the shape of prediction",
            "target: expected the shape of prediction, or labels (m, 1)",
            "sample_weight: expected one for each row",
            "q: expected a number, or one for each column of prediction",
        ),
    )


@inner
def _value(loss, parameter, prediction, target, sample_weight, gradient):
    """The loss, on this thread; fills gradient."""
    given = parameter_array(loss, parameter)
    _require_loss(loss, given, prediction, target, sample_weight, gradient)
    rows, n = prediction.shape
    weight, scale = _scale(loss, target, sample_weight, rows, n)
    terms = np.empty(rows * n, prediction.dtype)
    loss_rows(
        loss,
        given,
        flat_pointer(prediction),
        _batch(target, sample_weight, 0),
        flat_pointer(gradient),
        pointer(terms),
        rows,
        n,
        scale,
    )
    value = _value_of(loss, terms, weight, rows, n)
    keep_alive(terms)
    return value


@kernel
def loss_parallel(loss, parameter, prediction, target, sample_weight, gradient, threads):
    """The loss of this code, with rows shared by threads; parameter: from `parameter_array`."""
    _require_loss(loss, parameter, prediction, target, sample_weight, gradient)
    rows, n = prediction.shape
    weight, scale = _scale(loss, target, sample_weight, rows, n)
    terms = np.empty(rows * n, prediction.dtype)
    arrays = prediction, target, sample_weight, gradient, terms
    run(find_loss(gradient), (loss, parameter, *arrays, scale), threads)
    value = _value_of(loss, terms, weight, rows, n)
    keep_alive(terms)
    return value


def _share_loss(code, prediction, target, sample_weight, gradient, parameter):
    """The loss on threads, for `shares_large_work`; parameter: huber's or quantile's."""
    size = gradient.size if type(gradient) is np.ndarray else 0
    threads = threads_for(size * COSTS[code][gradient.itemsize > 4] if size > 0 else 0, PARALLEL_COST)
    if threads == 1:
        return NotImplemented
    dtype, shape, rows = gradient.dtype, gradient.shape, len(gradient)
    if np.size(sample_weight) == 0:
        # np.empty(0), for which its dtype says nothing.
        sample_weight = np.empty(0, dtype)
    labels = code == LOG_LOSS or (code == SOFTMAX_CROSS_ENTROPY and np.shape(target)[1:] == (1,))
    arrays = prediction, target, sample_weight, gradient
    shapes = shape, (rows, 1) if labels else shape, (rows if np.size(sample_weight) > 0 else 0,), shape
    if (
        gradient.ndim != 2
        or not are_plain(dtype, arrays, shapes, 1)
        or not (
            parameter is None
            or type(parameter) in (int, float)
            or are_plain(np.dtype(np.float64), (parameter,), [shape[1:]], 0)
        )
    ):
        return NotImplemented
    # Compiled from here, Ctrl-C does not have to wait for the compiler.
    loss_worker.address(dtype)
    return loss_parallel(code, parameter_array(code, parameter), *arrays, min(threads, rows))


def _loss(code):
    """Make a function (prediction, target, sample_weight, gradient) the kernel of the loss with this code."""

    def share(prediction, target, sample_weight, gradient):
        return _share_loss(code, prediction, target, sample_weight, gradient, None)

    return shares_large_work(share, GRADIENT, LEAST)


def _share_huber(prediction, target, sample_weight, gradient, delta=1.0):
    return _share_loss(HUBER, prediction, target, sample_weight, gradient, delta)


def _share_quantile(prediction, target, sample_weight, gradient, q=0.5):
    return _share_loss(QUANTILE, prediction, target, sample_weight, gradient, q)


@_loss(MSE)
def mse(prediction, target, sample_weight, gradient):
    """Mean of (p - t)^2 over rows and outputs, as torch.nn.MSELoss; gradient receives d loss / d p.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.

    >>> p, t, gradient = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 5.0]]), np.empty((2, 2))
    >>> kernels.mse(p, t, np.empty(0), gradient)
    1.25
    >>> gradient
    array([[ 0. ,  1. ],
           [ 0. , -0.5]])

    With weights the mean over rows is a weighted one:

    >>> kernels.mse(p, t, np.array([3.0, 1.0]), gradient)
    1.625
    """
    return _value(MSE, 0.0, prediction, target, sample_weight, gradient)


@_loss(MAE)
def mae(prediction, target, sample_weight, gradient):
    """Mean of |p - t| over rows and outputs, as torch.nn.L1Loss; gradient receives d loss / d p, 0 where p = t.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.

    >>> p, t, gradient = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 5.0]]), np.empty((2, 2))
    >>> kernels.mae(p, t, np.empty(0), gradient)
    0.75
    >>> gradient
    array([[ 0.  ,  0.25],
           [ 0.  , -0.25]])
    """
    return _value(MAE, 0.0, prediction, target, sample_weight, gradient)


@shares_large_work(_share_huber, GRADIENT, LEAST)
def huber(prediction, target, sample_weight, gradient, delta=1.0):
    """Mean of d^2 / 2 inside |d| < delta, delta (|d| - delta / 2) outside (Huber 1964), with d = p - t.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.
    gradient receives d loss / d p. delta: more than 0; as torch.nn.HuberLoss.

    >>> p, t, gradient = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 5.0]]), np.empty((2, 2))
    >>> kernels.huber(p, t, np.empty(0), gradient, 1.0)
    0.5
    >>> gradient
    array([[ 0.  ,  0.25],
           [ 0.  , -0.25]])
    """
    return _value(HUBER, parameter_array(HUBER, delta), prediction, target, sample_weight, gradient)


@_loss(LOG_COSH)
def log_cosh(prediction, target, sample_weight, gradient):
    """Mean of log(cosh(p - t)) over rows and outputs, as in Keras; gradient receives d loss / d p.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.

    >>> p, t, gradient = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 5.0]]), np.empty((2, 2))
    >>> round(kernels.log_cosh(p, t, np.empty(0), gradient), 4)
    0.4397
    >>> gradient.round(4)
    array([[ 0.    ,  0.241 ],
           [ 0.    , -0.1904]])
    """
    return _value(LOG_COSH, 0.0, prediction, target, sample_weight, gradient)


@_loss(POISSON)
def poisson(prediction, target, sample_weight, gradient):
    """Mean of exp(p) - t p, p the logarithm of the rate, as torch.nn.PoissonNLLLoss; gradient receives d loss / d p.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.

    >>> p, t, gradient = np.array([[0.0], [0.0]]), np.array([[1.0], [3.0]]), np.empty((2, 1))
    >>> kernels.poisson(p, t, np.empty(0), gradient)
    1.0
    >>> gradient.ravel()
    array([ 0., -1.])
    """
    return _value(POISSON, 0.0, prediction, target, sample_weight, gradient)


@_loss(BINARY_CROSS_ENTROPY)
def binary_cross_entropy(prediction, target, sample_weight, gradient):
    """Mean of -t log(s) - (1 - t) log(1 - s), s = sigmoid(p): logits p against probabilities t.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.
    gradient receives d loss / d p. As torch.nn.BCEWithLogitsLoss.

    >>> p, t, gradient = np.array([[0.0], [2.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> round(kernels.binary_cross_entropy(p, t, np.empty(0), gradient), 4)
    0.41
    >>> gradient.ravel().round(4)
    array([-0.25  , -0.0596])
    """
    return _value(BINARY_CROSS_ENTROPY, 0.0, prediction, target, sample_weight, gradient)


@_loss(SOFTMAX_CROSS_ENTROPY)
def softmax_cross_entropy(prediction, target, sample_weight, gradient):
    """Mean over rows of -sum(t log(softmax(p))), p the logits, as torch.nn.CrossEntropyLoss.

    Args:
        prediction: (m, n) C-contiguous float32 or float64.
        target: (m, n) probabilities, or (m, 1) class labels 0 .. n - 1, of the same dtype.
        sample_weight: (m,) or empty.
        gradient: (m, n), receives d loss / d p.

    >>> p, gradient = np.array([[0.0, 0.0], [0.0, 2.0]]), np.empty((2, 2))
    >>> round(kernels.softmax_cross_entropy(p, np.array([[0.0], [1.0]]), np.empty(0), gradient), 4)
    0.41
    >>> gradient.round(4)
    array([[-0.25  ,  0.25  ],
           [ 0.0596, -0.0596]])
    """
    return _value(SOFTMAX_CROSS_ENTROPY, 0.0, prediction, target, sample_weight, gradient)


@shares_large_work(_share_quantile, GRADIENT, LEAST)
def quantile(prediction, target, sample_weight, gradient, q=0.5):
    """Mean of (1 - q) d where d = p - t > 0, else -q d, least at the quantile q (Koenker and Bassett 1978).

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.
    gradient receives d loss / d p, 0 where p = t. q: a number, or a contiguous float64 array of one for each output.

    >>> p, t, gradient = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 5.0]]), np.empty((2, 2))
    >>> kernels.quantile(p, t, np.empty(0), gradient, 0.75)
    0.3125
    >>> gradient
    array([[ 0.    ,  0.0625],
           [ 0.    , -0.1875]])
    """
    return _value(QUANTILE, parameter_array(QUANTILE, q), prediction, target, sample_weight, gradient)


@_loss(HALF_SQUARED_ERROR)
def half_squared_error(prediction, target, sample_weight, gradient):
    """Mean of (p - t)^2 / 2 over rows and outputs, scikit-learn's; gradient receives that of its sum over outputs.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.

    >>> p, t, gradient = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 0.0], [3.0, 5.0]]), np.empty((2, 2))
    >>> kernels.half_squared_error(p, t, np.empty(0), gradient)
    0.625
    >>> gradient
    array([[ 0. ,  1. ],
           [ 0. , -0.5]])
    """
    return _value(HALF_SQUARED_ERROR, 0.0, prediction, target, sample_weight, gradient)


@_loss(HALF_POISSON_DEVIANCE)
def half_poisson_deviance(prediction, target, sample_weight, gradient):
    """Mean over rows, summed over outputs, of t log(t / exp(p)) - t + exp(p): scikit-learn's half Poisson deviance.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.
    gradient receives d loss / d p.

    >>> p, t, gradient = np.array([[0.0], [0.0]]), np.array([[1.0], [3.0]]), np.empty((2, 1))
    >>> round(kernels.half_poisson_deviance(p, t, np.empty(0), gradient), 4)
    0.6479
    >>> gradient.ravel()
    array([ 0., -1.])
    """
    return _value(HALF_POISSON_DEVIANCE, 0.0, prediction, target, sample_weight, gradient)


@_loss(BINARY_LOG_LOSS)
def binary_log_loss(prediction, target, sample_weight, gradient):
    """Mean over rows, summed over outputs, of scikit-learn's log loss of sigmoid(p) against targets 0 or 1.

    prediction, target, gradient: (m, n) C-contiguous float32 or float64; sample_weight: (m,) or empty; of one dtype.
    gradient receives d loss / d p.

    >>> p, t, gradient = np.array([[0.0], [2.0]]), np.array([[1.0], [0.0]]), np.empty((2, 1))
    >>> round(kernels.binary_log_loss(p, t, np.empty(0), gradient), 4)
    1.41
    >>> gradient.ravel().round(4)
    array([-0.25  ,  0.4404])
    """
    return _value(BINARY_LOG_LOSS, 0.0, prediction, target, sample_weight, gradient)


@_loss(LOG_LOSS)
def log_loss(prediction, target, sample_weight, gradient):
    """Mean log loss of softmax(p) against one column of class labels, as scikit-learn has it.

    Args:
        prediction: (m, n) C-contiguous float32 or float64.
        target: (m, 1), class labels 0 .. n - 1 in the same dtype.
        sample_weight: (m,) or empty.
        gradient: (m, n), receives d loss / d p.

    >>> p, gradient = np.array([[0.0, 0.0], [0.0, 2.0]]), np.empty((2, 2))
    >>> round(kernels.log_loss(p, np.array([[0.0], [0.0]]), np.empty(0), gradient), 4)
    1.41
    >>> gradient.round(4)
    array([[-0.25  ,  0.25  ],
           [-0.4404,  0.4404]])
    """
    return _value(LOG_LOSS, 0.0, prediction, target, sample_weight, gradient)
