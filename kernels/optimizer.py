"""Optimisers on flat spans of parameters, with PyTorch's formulas.

g: gradient, p: parameters, t: number of the update from 1
sgd       g += decay p;  v = momentum v + g;  p -= rate (g + momentum v if nesterov else v)
rmsprop   g += decay p;  s = alpha s + (1 - alpha) g^2;  d = g / (sqrt(s) + eps);  v = momentum v + d;  p -= rate v
adagrad   g += decay p;  s = s + g^2;  p -= rate g / (sqrt(s) + eps)                       (Duchi et al. 2011)
adam      g += decay p;  m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2
          p -= rate / (1 - beta1^t) * m / (sqrt(s) / sqrt(1 - beta2^t) + eps)                (Kingma and Ba 2014)
adamw     p *= 1 - rate decay, then adam without decay                             (Loshchilov and Hutter 2017)
"""

import math
from collections import namedtuple

import numpy as np

from .codes import Optimizer
from .jit import inner, kernel
from .simd import constant, flat_pointer, fma, lane_sum_of_squares, lanes_of, load_vector, select, store_vector

SGD = int(Optimizer.SGD)
RMSPROP = int(Optimizer.RMSPROP)
ADAGRAD = int(Optimizer.ADAGRAD)
ADAM = int(Optimizer.ADAM)
ADAMW = int(Optimizer.ADAMW)

# The hyper-parameter array of every optimiser, float64.
LEARNING_RATE, MOMENTUM, BETA2, EPS, WEIGHT_DECAY, NESTEROV, CLIP_VALUE, CLIP_NORM = range(8)
HYPER_SIZE = 8

# One update's constants, worked out once a step in float64.
Rule = namedtuple("Rule", "optimizer rate momentum beta2 eps decay nesterov correction limit")


@inner
def _power(base, exponent):
    """base ** exponent by squaring: the same bits everywhere, which the C library's pow does not promise."""
    result = 1.0
    while exponent > 0:
        if exponent & 1:
            result *= base
        base *= base
        exponent >>= 1
    return result


@inner
def make_rule(optimizer, hyper, step):
    """The constants of update number `step`, from 1."""
    rate = hyper[LEARNING_RATE]
    correction = 1.0
    if optimizer >= ADAM:
        rate /= 1.0 - _power(hyper[MOMENTUM], step)
        correction = 1.0 / math.sqrt(1.0 - _power(hyper[BETA2], step))
    decay = hyper[WEIGHT_DECAY]
    if optimizer == ADAMW:
        decay = 1.0 - hyper[LEARNING_RATE] * decay
    limit = hyper[CLIP_VALUE]
    return Rule(
        optimizer,
        rate,
        hyper[MOMENTUM],
        hyper[BETA2],
        hyper[EPS],
        decay,
        hyper[NESTEROV] != 0.0,
        correction,
        limit if limit > 0.0 else np.inf,
    )


@inner
def _clipped(g, limit):
    g = select(g > limit, limit, g)
    return select(g < -limit, -limit, g)


@inner
def update_elements(rule, parameters, gradient, state1, state2, count):
    """One update of `count` parameters; the four spans do not overlap, a state that is not used is not touched."""
    if count == 0:
        return
    like = load_vector(gradient, 0, count)
    rate = constant(-rule.rate, like)
    beta1 = constant(rule.momentum, like)
    beta2 = constant(rule.beta2, like)
    rest1 = constant(1.0 - rule.momentum, like)
    rest2 = constant(1.0 - rule.beta2, like)
    eps = constant(rule.eps, like)
    decay = constant(rule.decay, like)
    correction = constant(rule.correction, like)
    limit = constant(rule.limit, like)
    if rule.optimizer == SGD:
        if rule.momentum == 0.0:
            for i in range(0, count, lanes_of(gradient)):
                p = load_vector(parameters, i, count)
                g = fma(decay, p, _clipped(load_vector(gradient, i, count), limit))
                store_vector(parameters, i, count, fma(rate, g, p))
        elif rule.nesterov:
            for i in range(0, count, lanes_of(gradient)):
                p = load_vector(parameters, i, count)
                g = fma(decay, p, _clipped(load_vector(gradient, i, count), limit))
                v = fma(beta1, load_vector(state1, i, count), g)
                store_vector(state1, i, count, v)
                store_vector(parameters, i, count, fma(rate, fma(beta1, v, g), p))
        else:
            for i in range(0, count, lanes_of(gradient)):
                p = load_vector(parameters, i, count)
                v = fma(
                    beta1,
                    load_vector(state1, i, count),
                    fma(decay, p, _clipped(load_vector(gradient, i, count), limit)),
                )
                store_vector(state1, i, count, v)
                store_vector(parameters, i, count, fma(rate, v, p))
    elif rule.optimizer == RMSPROP:
        if rule.momentum == 0.0:
            for i in range(0, count, lanes_of(gradient)):
                p = load_vector(parameters, i, count)
                g = fma(decay, p, _clipped(load_vector(gradient, i, count), limit))
                s = fma(beta2, load_vector(state1, i, count), rest2 * g * g)
                store_vector(state1, i, count, s)
                store_vector(parameters, i, count, fma(rate, g / (math.sqrt(s) + eps), p))
        else:
            for i in range(0, count, lanes_of(gradient)):
                p = load_vector(parameters, i, count)
                g = fma(decay, p, _clipped(load_vector(gradient, i, count), limit))
                s = fma(beta2, load_vector(state1, i, count), rest2 * g * g)
                store_vector(state1, i, count, s)
                v = fma(beta1, load_vector(state2, i, count), g / (math.sqrt(s) + eps))
                store_vector(state2, i, count, v)
                store_vector(parameters, i, count, fma(rate, v, p))
    elif rule.optimizer == ADAGRAD:
        for i in range(0, count, lanes_of(gradient)):
            p = load_vector(parameters, i, count)
            g = fma(decay, p, _clipped(load_vector(gradient, i, count), limit))
            s = fma(g, g, load_vector(state1, i, count))
            store_vector(state1, i, count, s)
            store_vector(parameters, i, count, fma(rate, g / (math.sqrt(s) + eps), p))
    else:
        adamw = rule.optimizer == ADAMW
        inside = constant(0.0, like) if adamw else decay
        outside = decay if adamw else constant(1.0, like)
        for i in range(0, count, lanes_of(gradient)):
            p = load_vector(parameters, i, count)
            g = fma(inside, p, _clipped(load_vector(gradient, i, count), limit))
            m = fma(beta1, load_vector(state1, i, count), rest1 * g)
            s = fma(beta2, load_vector(state2, i, count), rest2 * g * g)
            store_vector(state1, i, count, m)
            store_vector(state2, i, count, s)
            store_vector(parameters, i, count, fma(rate, m / fma(math.sqrt(s), correction, eps), outside * p))


@inner
def _update(optimizer, parameters, gradient, state1, state2, step, hyper):
    update_elements(
        make_rule(optimizer, hyper, step),
        flat_pointer(parameters),
        flat_pointer(gradient),
        flat_pointer(state1),
        flat_pointer(state2),
        parameters.size,
    )


@kernel
def sgd(parameters, gradient, state1, state2, step, hyper):
    """v = momentum v + g; p -= rate v (or g + momentum v with nesterov). state1 is v, empty without momentum."""
    _update(SGD, parameters, gradient, state1, state2, step, hyper)


@kernel
def rmsprop(parameters, gradient, state1, state2, step, hyper):
    """s = alpha s + (1 - alpha) g^2; p -= rate g / (sqrt(s) + eps). state1 is s, state2 the velocity with momentum."""
    _update(RMSPROP, parameters, gradient, state1, state2, step, hyper)


@kernel
def adagrad(parameters, gradient, state1, state2, step, hyper):
    """s += g^2; p -= rate g / (sqrt(s) + eps). state1 is s."""
    _update(ADAGRAD, parameters, gradient, state1, state2, step, hyper)


@kernel
def adam(parameters, gradient, state1, state2, step, hyper):
    """p -= rate m^ / (sqrt(s^) + eps) with bias-corrected moments. state1 is m, state2 is s."""
    _update(ADAM, parameters, gradient, state1, state2, step, hyper)


@kernel
def adamw(parameters, gradient, state1, state2, step, hyper):
    """adam with the decay taken off the parameters instead of added to the gradient."""
    _update(ADAMW, parameters, gradient, state1, state2, step, hyper)


@inner
def clip_elements_by_norm(gradient, limit, count):
    """Scale to the norm `limit` if the norm is larger; returns the norm before."""
    norm = math.sqrt(lane_sum_of_squares(gradient, count))
    if norm > limit:
        for i in range(0, count, lanes_of(gradient)):
            g = load_vector(gradient, i, count)
            store_vector(gradient, i, count, g * constant(limit / norm, g))
    return norm


@kernel
def clip_by_norm(gradient, limit):
    """gradient *= limit / norm if its 2-norm is larger than limit; returns the norm before."""
    return clip_elements_by_norm(flat_pointer(gradient), limit, gradient.size)


@kernel
def clip_by_value(gradient, limit):
    """gradient = min(max(gradient, -limit), limit), in place."""
    p = flat_pointer(gradient)
    for i in range(0, gradient.size, lanes_of(p)):
        g = load_vector(p, i, gradient.size)
        store_vector(p, i, gradient.size, _clipped(g, constant(limit, g)))
