"""References of the optimizers and of clipping."""

import math

import numpy as np

from .reference_common import quiet, wide

# ---- Optimizers. parameters p, gradient g, state1, state2: flat; p and the states change in place. step t = 1, 2, ...
# hyper: [0] learning rate lr, [1] momentum mu or beta1, [2] beta2 or alpha, [3] eps, [4] weight decay wd, [5] nesterov,
# [6] clip value, 0: none, [9] adam's "epsilon hat".
# The gradient is clipped first. Weight decay means g + wd p for g, except in adamw. What is stored is rounded; p is
# moved by the unrounded state.


def _moment(v, dtype):
    """0 where v would be subnormal in the dtype in which it is kept."""
    return np.where(np.abs(v) < np.finfo(dtype).tiny, 0.0, v)


def _clipped(gradient, hyper):
    g = wide(gradient)
    return np.clip(g, -hyper[6], hyper[6]) if hyper[6] > 0 else g


# v = mu v + g ; p -= lr v, or with nesterov lr (g + mu v) ; mu = 0: p -= lr g and state1 is not touched
@quiet
def sgd(parameters, gradient, state1, state2, step, hyper):
    """Gradient descent with momentum as in PyTorch (Sutskever et al. 2013 with the rate outside the velocity).

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.empty(0), np.zeros(12)
    >>> hyper[:2] = 0.5, 0.9
    >>> reference.sgd(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p, state1
    (array([0.75, 2.  ]), array([ 0.5, -2. ]))
    """
    learning_rate, momentum, _, _, weight_decay, nesterov = hyper[:6]
    p = wide(parameters)
    g = _clipped(gradient, hyper) + weight_decay * p
    if momentum != 0:
        velocity = _moment(momentum * wide(state1) + g, state1.dtype)
        state1[...] = velocity
        g = g + momentum * velocity if nesterov else velocity
    parameters[...] = p - learning_rate * g


# s = alpha s + (1 - alpha) g^2 ; d = g / (sqrt(s) + eps) ; p -= lr d, or with momentum b = mu b + d ; p -= lr b
@quiet
def rmsprop(parameters, gradient, state1, state2, step, hyper):
    """RMSprop (Tieleman & Hinton 2012), not centred.

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.empty(0), np.zeros(12)
    >>> hyper[:4] = 0.01, 0.0, 0.99, 1e-8
    >>> reference.rmsprop(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1.round(4)
    (array([0.9, 1.1]), array([0.0025, 0.04  ]))
    """
    learning_rate, momentum, alpha, eps, weight_decay = hyper[:5]
    p = wide(parameters)
    g = _clipped(gradient, hyper) + weight_decay * p
    square_average = alpha * wide(state1) + (1.0 - alpha) * g * g
    state1[...] = square_average
    direction = g / (np.sqrt(square_average) + eps)
    if momentum != 0:
        direction = _moment(momentum * wide(state2) + direction, state2.dtype)
        state2[...] = direction
    parameters[...] = p - learning_rate * direction


# s = s + g^2 ; p -= lr g / (sqrt(s) + eps)
@quiet
def adagrad(parameters, gradient, state1, state2, step, hyper):
    """Adagrad (Duchi et al. 2011).

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.empty(0), np.zeros(12)
    >>> hyper[[0, 3]] = 0.5, 1e-10
    >>> reference.adagrad(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1
    (array([0.5, 1.5]), array([0.25, 4.  ]))
    """
    learning_rate, _, _, eps, weight_decay = hyper[:5]
    p = wide(parameters)
    g = _clipped(gradient, hyper) + weight_decay * p
    square_sum = wide(state1) + g * g
    state1[...] = square_sum
    parameters[...] = p - learning_rate * g / (np.sqrt(square_sum) + eps)


# m = b1 m + (1 - b1) g ; v = b2 v + (1 - b2) g^2 ; p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
# epsilon hat: p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
def _adam(p, g, state1, state2, step, hyper):
    learning_rate, beta1, beta2, eps = hyper[:4]
    m = _moment(beta1 * wide(state1) + (1.0 - beta1) * g, state1.dtype)
    v = beta2 * wide(state2) + (1.0 - beta2) * g * g
    state1[...] = m
    state2[...] = v
    m_unbiased = m / (1.0 - beta1**step)
    if hyper[9]:
        return p - learning_rate * math.sqrt(1.0 - beta2**step) * m_unbiased / (np.sqrt(v) + eps)
    v_unbiased = v / (1.0 - beta2**step)
    return p - learning_rate * m_unbiased / (np.sqrt(v_unbiased) + eps)


@quiet
def adam(parameters, gradient, state1, state2, step, hyper):
    """Adam (Kingma & Ba 2014); weight decay is L2, through the gradient.

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2), np.zeros(12)
    >>> hyper[:4] = 0.001, 0.9, 0.999, 1e-8
    >>> reference.adam(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1
    (array([0.999, 1.001]), array([ 0.05, -0.2 ]))
    """
    p = wide(parameters)
    parameters[...] = _adam(p, _clipped(gradient, hyper) + hyper[4] * p, state1, state2, step, hyper)


# p = (1 - lr wd) p ; then adam without weight decay
@quiet
def adamw(parameters, gradient, state1, state2, step, hyper):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017).

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2), np.zeros(12)
    >>> hyper[:5] = 0.1, 0.9, 0.999, 1e-8, 0.5
    >>> reference.adamw(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1
    (array([0.85, 1.05]), array([ 0.05, -0.2 ]))
    """
    p = (1.0 - hyper[0] * hyper[4]) * wide(parameters)
    parameters[...] = _adam(p, _clipped(gradient, hyper), state1, state2, step, hyper)


# g = clip(g, -limit, limit) ; NaN stays
@quiet
def clip_by_value(gradient, limit):
    """In place.

    >>> gradient = np.array([3.0, -4.0, 0.5])
    >>> reference.clip_by_value(gradient, 1.0)
    >>> gradient
    array([ 1. , -1. ,  0.5])
    """
    gradient[...] = np.clip(wide(gradient), -limit, limit)


# norm = sqrt(sum g^2) ; g = g limit / norm if norm > limit
@quiet
def clip_by_norm(gradient, limit):
    """In place; returns the norm before. A NaN in the gradient makes the norm NaN and leaves the gradient as it is.

    >>> gradient = np.array([3.0, 4.0])
    >>> reference.clip_by_norm(gradient, 1.0)
    5.0
    >>> gradient
    array([0.6, 0.8])
    """
    g = wide(gradient)
    largest = np.abs(g).max(initial=0.0)
    # Divided by the largest, so that no square overflows or underflows.
    norm = largest * np.sqrt(((g / largest) ** 2).sum()) if 0 < largest < np.inf else largest
    if norm > limit:
        gradient[...] = g * (limit / norm)
    return float(norm)
