"""References of the losses."""

import math

import numpy as np

from .codes import EstimatorLoss, Loss
from .reference_common import log_of_softmax, logistic, quiet, wide

# ---- Losses. prediction, target, gradient (m,n); sample_weight (m,) or empty. Fill `gradient`, return the value.


# value = sum_i w_i l_i / sum_i w_i ; d value / d p_ij = w_i (d l_i / d p_ij) / sum_i w_i ; both 0 if all weights are 0
# row_loss: l (m,) ; row_gradient: d l_i / d p_ij (m,n)
def _weighted_mean(row_loss, row_gradient, sample_weight, gradient):
    weights = wide(sample_weight) if sample_weight.size else np.ones(len(row_loss))
    total = weights.sum()
    if total == 0:
        gradient[...] = 0
        return 0.0
    gradient[...] = weights[:, np.newaxis] / total * row_gradient
    return float((weights * row_loss).sum() / total)


# l_i = mean over outputs of element_loss (m,n)
def _elementwise(element_loss, element_gradient, sample_weight, gradient):
    outputs = max(element_loss.shape[1], 1)
    return _weighted_mean(element_loss.sum(axis=1) / outputs, element_gradient / outputs, sample_weight, gradient)


# d^2, with d = p - t ; derivative 2 d
@quiet
def mse(prediction, target, sample_weight, gradient):
    """Mean squared error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.mse(p, t, np.empty(0), gradient)
    2.0
    >>> gradient.ravel()
    array([2., 0.])
    """
    d = wide(prediction) - wide(target)
    return _elementwise(d * d, 2.0 * d, sample_weight, gradient)


# |d| ; derivative sign(d), 0 at 0
@quiet
def mae(prediction, target, sample_weight, gradient):
    """Mean absolute error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.mae(p, t, np.empty(0), gradient)
    1.0
    >>> gradient.ravel()
    array([0.5, 0. ])
    """
    d = wide(prediction) - wide(target)
    return _elementwise(np.abs(d), np.sign(d), sample_weight, gradient)


# d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2) ; derivative clip(d, -delta, delta)
@quiet
def huber(prediction, target, sample_weight, gradient, delta=1.0):
    """Squared error with linear tails (Huber 1964).

    >>> p, t, gradient = np.array([[3.0], [1.5]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.huber(p, t, np.empty(0), gradient, 1.0)
    0.8125
    >>> gradient.ravel()
    array([0.5 , 0.25])
    """
    d = wide(prediction) - wide(target)
    element_loss = np.where(np.abs(d) <= delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta))
    return _elementwise(element_loss, np.clip(d, -delta, delta), sample_weight, gradient)


# max(-q d, (1 - q) d), with d = p - t ; derivative -q where d < 0, 1 - q where d > 0, 0 at 0 ; q a number or (n,)
@quiet
def quantile(prediction, target, sample_weight, gradient, q=0.5):
    """The pinball loss, least where the share q of the targets lies below (Koenker & Bassett 1978).

    >>> p, t, gradient = np.array([[3.0], [0.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.quantile(p, t, np.empty(0), gradient, 0.75)
    0.625
    >>> gradient.ravel()
    array([ 0.125, -0.375])
    """
    d = wide(prediction) - wide(target)
    slope = np.where(np.isnan(d), d, np.where(d > 0, 1.0 - q, np.where(d < 0, -q, 0.0)))
    return _elementwise(np.maximum(-q * d, (1.0 - q) * d), slope, sample_weight, gradient)


# log cosh d = |d| + log(1 + exp(-2|d|)) - log 2 ; derivative tanh(d)
@quiet
def log_cosh(prediction, target, sample_weight, gradient):
    """Logarithm of the hyperbolic cosine of the error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> round(reference.log_cosh(p, t, np.empty(0), gradient), 4)
    0.6625
    >>> gradient.ravel().round(4)
    array([0.482, 0.   ])
    """
    d = wide(prediction) - wide(target)
    element_loss = np.abs(d) + np.log1p(np.exp(-2.0 * np.abs(d))) - math.log(2.0)
    return _elementwise(element_loss, np.tanh(d), sample_weight, gradient)


# exp(p) - t p ; derivative exp(p) - t
@quiet
def poisson(prediction, target, sample_weight, gradient):
    """Negative Poisson log-likelihood without its constant log t!; the prediction is the logarithm of the rate.

    >>> p, t, gradient = np.array([[0.0], [0.0]]), np.array([[1.0], [4.0]]), np.empty((2, 1))
    >>> reference.poisson(p, t, np.empty(0), gradient)
    1.0
    >>> gradient.ravel()
    array([ 0. , -1.5])
    """
    p, t = wide(prediction), wide(target)
    return _elementwise(np.exp(p) - t * p, np.exp(p) - t, sample_weight, gradient)


# -t log s - (1 - t) log(1 - s), s = sigmoid(z), = max(z, 0) - z t + log(1 + exp(-|z|)) ; derivative s - t
@quiet
def binary_cross_entropy(prediction, target, sample_weight, gradient):
    """On logits; the target is a probability.

    >>> p, t, gradient = np.array([[0.0], [2.0]]), np.array([[1.0], [0.5]]), np.empty((2, 1))
    >>> round(reference.binary_cross_entropy(p, t, np.empty(0), gradient), 4)
    0.91
    >>> gradient.ravel().round(4)
    array([-0.25  ,  0.1904])
    """
    z, t = wide(prediction), wide(target)
    element_loss = np.maximum(z, 0.0) - z * t + np.log1p(np.exp(-np.abs(z)))
    return _elementwise(element_loss, logistic(z) - t, sample_weight, gradient)


# l_i = -sum_j t_ij log s_ij, s = softmax(z) (m,n) ; d l_i / d z_ij = s_ij sum_j t_ij - t_ij
# A target of z's own shape is the probabilities t; a target (m,1) holds the label c_i: t is the indicator of c_i.
@quiet
def softmax_cross_entropy(prediction, target, sample_weight, gradient):
    """On logits; mean over the batch. The gradient is the exact one even for target rows that do not sum to 1.

    A label and its indicator are the same target:

    >>> logits, gradient = np.array([[0.0, np.log(3)]]), np.empty((1, 2))
    >>> round(reference.softmax_cross_entropy(logits, np.array([[1.0]]), np.empty(0), gradient), 4)
    0.2877
    >>> gradient
    array([[ 0.25, -0.25]])
    >>> round(reference.softmax_cross_entropy(logits, np.array([[0.0, 1.0]]), np.empty(0), gradient), 4)
    0.2877
    """
    log_s, t = log_of_softmax(wide(prediction)), wide(target)
    if t.shape == log_s.shape:
        # A target of 0 counts nothing even where the logit is -inf; NaN and inf elsewhere make the whole row NaN.
        nothing = (t == 0) & ~np.isnan(log_s).any(axis=1, keepdims=True)
        row_loss = -np.where(nothing, 0, t * log_s).sum(axis=1)
        row_gradient = np.exp(log_s) * t.sum(axis=1, keepdims=True) - t
    else:
        rows, labels = np.arange(len(t)), t[:, 0].astype(np.int64)
        # Picked, not multiplied by an indicator: a logit of -inf elsewhere in the row would give 0 * -inf = NaN.
        row_loss = -log_s[rows, labels]
        row_gradient = np.exp(log_s)
        row_gradient[rows, labels] -= 1.0
    return _weighted_mean(row_loss, row_gradient, sample_weight, gradient)


# ---- scikit-learn's losses: means over rows, sums over outputs. Probabilities q of a value lie in [eps, 1 - eps].


def _inside(q, dtype):
    eps = np.finfo(dtype).eps
    return np.clip(q, eps, 1.0 - eps)


# d^2 / 2, with d = p - t, as a value the mean over outputs too ; derivative d, that of the sum
@quiet
def half_squared_error(prediction, target, sample_weight, gradient):
    """Half the squared error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.half_squared_error(p, t, np.empty(0), gradient)
    1.0
    >>> gradient.ravel()
    array([1., 0.])
    """
    d = wide(prediction) - wide(target)
    return _weighted_mean((0.5 * d * d).mean(axis=1), d, sample_weight, gradient)


# t log(t / r) - t + r, with r = exp(p), the first term 0 where t = 0 ; derivative r - t
@quiet
def half_poisson_deviance(prediction, target, sample_weight, gradient):
    """Half the deviance of Poisson counts; the prediction is the logarithm of the rate.

    >>> p, t, gradient = np.array([[0.0], [0.0]]), np.array([[1.0], [4.0]]), np.empty((2, 1))
    >>> round(reference.half_poisson_deviance(p, t, np.empty(0), gradient), 4)
    1.2726
    >>> gradient.ravel().round(4)
    array([ 0. , -1.5])
    """
    r, t = np.exp(wide(prediction)), wide(target)
    share = np.where(t == 0, 0.0, t * np.log(np.where(t == 0, 1.0, t) / r))
    return _weighted_mean((share - t + r).sum(axis=1), r - t, sample_weight, gradient)


# -log q where t = 1, -log(1 - q) where t = 0, with q = sigmoid(z) ; derivative q - t
@quiet
def binary_log_loss(prediction, target, sample_weight, gradient):
    """On logits; targets are 0 or 1.

    >>> p, t, gradient = np.array([[0.0], [2.0]]), np.array([[1.0], [0.0]]), np.empty((2, 1))
    >>> round(reference.binary_log_loss(p, t, np.empty(0), gradient), 4)
    1.41
    >>> gradient.ravel().round(4)
    array([-0.25  ,  0.4404])
    """
    q, t = logistic(wide(prediction)), wide(target)
    kept = _inside(q, prediction.dtype)
    element_loss = -np.log(np.where(t == 1, kept, 1.0 - kept))
    return _weighted_mean(element_loss.sum(axis=1), q - t, sample_weight, gradient)


# l_i = -log q_ic, with q = softmax(z) (m,n) and c the row's label, target (m,1) ; d l_i / d z_ij = q_ij - (j = c)
@quiet
def log_loss(prediction, target, sample_weight, gradient):
    """On logits.

    >>> p, t, gradient = np.array([[0.0, np.log(3)]]), np.array([[0.0]]), np.empty((1, 2))
    >>> round(reference.log_loss(p, t, np.empty(0), gradient), 4)
    1.3863
    >>> gradient.round(4)
    array([[-0.75,  0.75]])
    """
    q = np.exp(log_of_softmax(wide(prediction)))
    hit = np.arange(q.shape[1]) == wide(target)
    row_loss = -np.log(_inside(q[hit], prediction.dtype))
    return _weighted_mean(row_loss, q - hit, sample_weight, gradient)


LOSSES = {
    Loss.MSE: mse,
    Loss.MAE: mae,
    Loss.HUBER: huber,
    Loss.LOG_COSH: log_cosh,
    Loss.POISSON: poisson,
    Loss.BINARY_CROSS_ENTROPY: binary_cross_entropy,
    Loss.SOFTMAX_CROSS_ENTROPY: softmax_cross_entropy,
    Loss.QUANTILE: quantile,
    EstimatorLoss.HALF_SQUARED_ERROR: half_squared_error,
    EstimatorLoss.HALF_POISSON_DEVIANCE: half_poisson_deviance,
    EstimatorLoss.BINARY_LOG_LOSS: binary_log_loss,
    EstimatorLoss.LOG_LOSS: log_loss,
}


def loss_of(loss, parameter, prediction, target, sample_weight, gradient):
    given = loss in (Loss.HUBER, Loss.QUANTILE) and parameter is not None
    return LOSSES[loss](prediction, target, sample_weight, gradient, *([parameter] if given else []))
