"""Optimizers on flat spans of parameters, with PyTorch's formulas.

g: gradient, its elements first cut to [-clip value, clip value] if that is not 0
p: parameters, t: number of the update from 1
sgd       g += decay p;  v = momentum v + g;  p -= rate (g + momentum v if nesterov else v)
rmsprop   g += decay p;  s = alpha s + (1 - alpha) g^2;  d = g / (sqrt(s) + eps);  v = momentum v + d;  p -= rate v
adagrad   g += decay p;  s = s + g^2;  p -= rate g / (sqrt(s) + eps)                       (Duchi et al. 2011)
adam      g += decay p;  m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2
          p -= rate / (1 - beta1^t) * m / (sqrt(s) / sqrt(1 - beta2^t) + eps)                (Kingma and Ba 2014)
          or, with their "epsilon hat", / (sqrt(s) + eps) * sqrt(1 - beta2^t), as scikit-learn and TensorFlow have it
adamw     p *= 1 - rate decay, then adam without decay                             (Loshchilov and Hutter 2017)

v and m are 0 where they would be subnormal. Those of a unit that has died, whose gradients are 0, shrink to there, and
stay: 0.9 times the smallest number rounds to that number. On subnormal numbers the CPU takes 2.6 times as long.
"""

import functools
import math
from collections import namedtuple

import numpy as np
from numba import float64, intp, types
from numba.extending import overload

from .argument_checks import require_all, require_arrays
from .codes import Optimizer
from .jit import OPTIONS, glue, inner, kernel
from .launch import run
from .reductions import lane_sum_of_squares
from .sharing import are_plain, shares_large_work
from .simd import (
    advance,
    by_type,
    constant,
    flat_pointer,
    fma,
    lanes_of,
    load,
    load_vector,
    select,
    store,
    store_vector,
)
from .threads import threads_for
from .workers import finder, part, worker

SGD = int(Optimizer.SGD)
RMSPROP = int(Optimizer.RMSPROP)
ADAGRAD = int(Optimizer.ADAGRAD)
ADAM = int(Optimizer.ADAM)
ADAMW = int(Optimizer.ADAMW)

# The hyper-parameter array of every optimizer, float64.
# MOMENTUM: adam's beta1 too. BETA2: the share that rmsprop keeps of its squares too, PyTorch's alpha.
# L1, L2: g += L1 sign(p) + L2 p after clipping, for weights and not for biases, in `training.train_planned` alone.
# PENALTY_IN_LOSS: if it is not 0, L1 and L2 are those of a batch's loss as scikit-learn has it, (L1 |p| + L2 / 2 p^2)
# / total sample weight, which is then a part of the loss that is reported.
# EPS_HAT: adam's other place for eps, if it is not 0.
(
    LEARNING_RATE,
    MOMENTUM,
    BETA2,
    EPS,
    WEIGHT_DECAY,
    NESTEROV,
    CLIP_VALUE,
    CLIP_NORM,
    L2,
    EPS_HAT,
    L1,
    PENALTY_IN_LOSS,
) = range(12)
HYPER_SIZE = 12

# Bytes of parameters from which another thread pays. On one Zen 5 core and on two 65,536 of float32 took 5.4 and 5.1 us
# by sgd, 9.2 and 6.6 by adam, 32,768 of float64 5.6 and 4.5, 13.2 and 7.8.
SPAN_BYTES = 1 << 17

# The smallest normal numbers.
TINY32, TINY64 = 2.0**-126, 2.0**-1022
# A sum of squares as large as this has lost nothing to squares that are subnormal.
LEAST_SQUARES = 2.0**-960

# One update's constants, worked out once a step in float64. `decay` p + `l1` sign(p) is added to the gradient; `keep`
# multiplies p.
Rule = namedtuple("Rule", "optimizer rate momentum beta2 eps decay l1 keep nesterov correction limit")


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
        unbiased = math.sqrt(1.0 - _power(hyper[BETA2], step))
        if hyper[EPS_HAT] != 0.0:
            rate *= unbiased
        else:
            correction = 1.0 / unbiased
    decay, keep = hyper[WEIGHT_DECAY], 1.0
    if optimizer == ADAMW:
        decay, keep = 0.0, 1.0 - hyper[LEARNING_RATE] * decay
    limit = hyper[CLIP_VALUE] if hyper[CLIP_VALUE] > 0.0 else np.inf
    return Rule(
        optimizer=optimizer,
        rate=rate,
        momentum=hyper[MOMENTUM],
        beta2=hyper[BETA2],
        eps=hyper[EPS],
        decay=decay,
        l1=0.0,
        keep=keep,
        nesterov=hyper[NESTEROV] != 0.0,
        correction=correction,
        limit=limit,
    )


@inner
def penalty_scale(hyper, weight):
    """What L1 and L2 are multiplied by in a batch of this total sample weight."""
    if hyper[PENALTY_IN_LOSS] == 0.0:
        return 1.0
    return 1.0 / weight if weight != 0.0 else 0.0


@inner
def plain_rule(rate):
    """Gradient descent at a rate, and nothing else."""
    return Rule(
        optimizer=SGD,
        rate=rate,
        momentum=0.0,
        beta2=0.0,
        eps=0.0,
        decay=0.0,
        l1=0.0,
        keep=1.0,
        nesterov=False,
        correction=1.0,
        limit=np.inf,
    )


@inner
def with_penalties(rule, l1, l2):
    """The rule with l1 sign(p) + l2 p added to the gradient."""
    return Rule(
        optimizer=rule.optimizer,
        rate=rule.rate,
        momentum=rule.momentum,
        beta2=rule.beta2,
        eps=rule.eps,
        decay=rule.decay + l2,
        l1=rule.l1 + l1,
        keep=rule.keep,
        nesterov=rule.nesterov,
        correction=rule.correction,
        limit=rule.limit,
    )


@inner
def _clipped(g, limit):
    g = select(g > limit, limit, g)
    return select(g < -limit, -limit, g)


@inner
def _moment(v):
    """v, 0 if it is subnormal."""
    return select(abs(v) < by_type(v, TINY32, TINY64), constant(0.0, v), v)


@inner
def update_rows(rule, parameters, gradient, state1, state2, rows, columns, stride, gradient_stride):
    """One update of rows x columns parameters, rows `stride` apart, those of the gradient `gradient_stride`.

    The four spans do not overlap; a state that is not used is not touched.
    """
    like = load_vector(gradient, 0, 0)
    rate = constant(-rule.rate, like)
    beta1 = constant(rule.momentum, like)
    beta2 = constant(rule.beta2, like)
    rest1 = constant(1.0 - rule.momentum, like)
    rest2 = constant(1.0 - rule.beta2, like)
    eps = constant(rule.eps, like)
    limit = constant(rule.limit, like)
    correction = constant(rule.correction, like)
    decay = constant(rule.decay, like)
    keep = constant(rule.keep, like)
    l1, zero = constant(rule.l1, like), constant(0.0, like)
    for row in range(rows):
        p_row, g_row = advance(parameters, row * stride), advance(gradient, row * gradient_stride)
        row1, row2 = advance(state1, row * stride), advance(state2, row * stride)
        # The switch stands inside the loop: it costs a predicted jump for each of the loop's vectors, and outside the
        # loop would stand eight times.
        for i in range(0, columns, lanes_of(gradient)):
            p = load_vector(p_row, i, columns)
            g = fma(decay, p, _clipped(load_vector(g_row, i, columns), limit))
            if rule.l1 != 0.0:
                g = g + select(p > zero, l1, select(p < zero, -l1, zero))
            if rule.optimizer == SGD:
                if rule.momentum != 0.0:
                    v = _moment(fma(beta1, load_vector(row1, i, columns), g))
                    store_vector(row1, i, columns, v)
                    g = fma(beta1, v, g) if rule.nesterov else v
                p = fma(rate, g, p)
            elif rule.optimizer == RMSPROP:
                s = fma(beta2, load_vector(row1, i, columns), rest2 * g * g)
                store_vector(row1, i, columns, s)
                g = g / (math.sqrt(s) + eps)
                if rule.momentum != 0.0:
                    g = _moment(fma(beta1, load_vector(row2, i, columns), g))
                    store_vector(row2, i, columns, g)
                p = fma(rate, g, p)
            elif rule.optimizer == ADAGRAD:
                s = fma(g, g, load_vector(row1, i, columns))
                store_vector(row1, i, columns, s)
                p = fma(rate, g / (math.sqrt(s) + eps), p)
            else:
                m = _moment(fma(beta1, load_vector(row1, i, columns), rest1 * g))
                s = fma(beta2, load_vector(row2, i, columns), rest2 * g * g)
                store_vector(row1, i, columns, m)
                store_vector(row2, i, columns, s)
                p = fma(rate, m / fma(math.sqrt(s), correction, eps), keep * p)
            store_vector(p_row, i, columns, p)


@inner
def update_elements(rule, parameters, gradient, state1, state2, count):
    """One update of `count` parameters that lie end to end."""
    update_rows(rule, parameters, gradient, state1, state2, 1, count, count, count)


def _state_of(state, parameters):
    """A state; or an empty one of the dtype of parameters in the place of one of another dtype, as np.empty(0) is."""
    raise NotImplementedError("called from compiled code only")


@overload(_state_of, strict=False, inline="always", jit_options=OPTIONS)
def _choose_state(state, parameters):
    if getattr(state, "dtype", None) in (types.float32, types.float64) and state.dtype != parameters.dtype:
        return lambda state, parameters: parameters[:0]
    return lambda state, parameters: state


@glue
def _require_update(optimizer, parameters, gradient, state1, state2, hyper):
    kinds = "result parameters 1, flat gradient 1, result state1 1, result state2 1"
    require_arrays(kinds, (parameters, gradient, state1, state2))
    n = parameters.size
    whole = len(hyper) == HYPER_SIZE
    keeps_velocity = (optimizer <= RMSPROP) & ((hyper[MOMENTUM] if whole else 0.0) != 0.0)
    keeps_first = (optimizer != SGD) | keeps_velocity
    keeps_second = (optimizer >= ADAM) | ((optimizer == RMSPROP) & keeps_velocity)
    require_all(
        (whole, gradient.size == n, (state1.size == n) | (not keeps_first), (state2.size == n) | (not keeps_second)),
        (
            "hyper: expected twelve numbers",
            "gradient: expected the size of parameters",
            "state1: expected the size and the dtype of parameters",
            "state2: expected the size and the dtype of parameters",
        ),
    )


@glue
def _update(optimizer, parameters, gradient, state1, state2, step, hyper):
    first, second = _state_of(state1, parameters), _state_of(state2, parameters)
    _require_update(optimizer, parameters, gradient, first, second, hyper)
    update_elements(
        make_rule(optimizer, hyper, step),
        flat_pointer(parameters),
        flat_pointer(gradient),
        flat_pointer(first),
        flat_pointer(second),
        parameters.size,
    )


@worker(lambda t: (intp, t[::1], t[::1], t[::1], t[::1], intp, float64[::1], intp, intp))
def span_worker(optimizer, parameters, gradient, state1, state2, step, hyper, index, parts):
    """One thread's part of an update of parameters that lie end to end."""
    first, last = part(parameters.size, index, parts), part(parameters.size, index + 1, parts)
    # A state that is not used may be empty; its pointer is moved along but never followed.
    update_elements(
        make_rule(optimizer, hyper, step),
        advance(flat_pointer(parameters), first),
        advance(flat_pointer(gradient), first),
        advance(flat_pointer(state1), first),
        advance(flat_pointer(state2), first),
        last - first,
    )


find_span = finder(span_worker)


@kernel
def update_parallel(optimizer, parameters, gradient, state1, state2, step, hyper, threads):
    """An update by the optimizer of this code, shared by threads."""
    _require_update(optimizer, parameters, gradient, state1, state2, hyper)
    arguments = optimizer, parameters, gradient, state1, state2, step, hyper
    run(find_span(parameters), arguments, threads)


def _share_update(code, parameters, gradient, state1, state2, step, hyper):
    """An update on threads, for `shares_large_work`."""
    size = parameters.nbytes if type(parameters) is np.ndarray else 0
    threads = threads_for(size, SPAN_BYTES)
    if threads == 1:
        return NotImplemented
    # A state that is not used may be empty, and then of any dtype.
    arrays = gradient, parameters, *(parameters[:0] if np.shape(state) == (0,) else state for state in (state1, state2))
    if (
        parameters.ndim != 1
        or not are_plain(parameters.dtype, arrays, [parameters.shape] * 2 + [(np.size(a),) for a in arrays[2:]], 3)
        or not are_plain(np.dtype(np.float64), (hyper,), [(HYPER_SIZE,)], 0)
        or not isinstance(step, (int, np.integer))
    ):
        return NotImplemented
    # Compiled from here, Ctrl-C does not have to wait for the compiler.
    span_worker.address(parameters.dtype)
    return update_parallel(code, parameters, gradient, *arrays[2:], int(step), hyper, threads)


def _optimizer(code):
    """Make a function a kernel, the update of the optimizer with this code."""
    return shares_large_work(functools.partial(_share_update, code), 0, 2 * SPAN_BYTES // 8)


@_optimizer(SGD)
def sgd(parameters, gradient, state1, state2, step, hyper):
    """g += decay p; v = momentum v + g; p -= rate v, or rate (g + momentum v) with nesterov: torch.optim.SGD's.

    Args:
        parameters, gradient: (n,) float32 or float64; parameters are moved in place.
        state1: v, (n,), 0 at first; empty without momentum.
        state2: not used; may be empty.
        step: number of the update, from 1.
        hyper: float64 (12,), as `fastnn.SGD(...).hyper()` gives it, but for clip_norm, l1 and l2:
            [0] rate, [1] momentum, [4] decay, [5] nesterov (0 or 1), [6] clip value (0: none).

    >>> p, g, v, hyper = np.array([1.0, 2.0]), np.array([0.5, -0.5]), np.zeros(2), np.zeros(12)
    >>> hyper[:2] = 0.1, 0.9  # rate, momentum
    >>> for step in (1, 2):
    ...     kernels.sgd(p, g, v, np.empty(0), step, hyper)
    >>> p, v
    (array([0.855, 2.145]), array([ 0.95, -0.95]))
    """
    _update(SGD, parameters, gradient, state1, state2, step, hyper)


@_optimizer(RMSPROP)
def rmsprop(parameters, gradient, state1, state2, step, hyper):
    """g += decay p; s = alpha s + (1 - alpha) g^2; d = g / (sqrt(s) + eps); p -= rate d (Tieleman and Hinton 2012).

    With momentum v = momentum v + d and p -= rate v, as in torch.optim.RMSprop.

    Args:
        parameters, gradient: (n,) float32 or float64; parameters are moved in place.
        state1: s, (n,), 0 at first.
        state2: v, (n,), 0 at first; empty without momentum.
        step: number of the update, from 1.
        hyper: float64 (12,), as `fastnn.RMSprop(...).hyper()` gives it, but for clip_norm, l1 and l2:
            [0] rate, [1] momentum, [2] alpha, [3] eps, [4] decay, [6] clip value (0: none).

    >>> p, g, s, hyper = np.array([1.0, 2.0]), np.array([0.5, -5.0]), np.zeros(2), np.zeros(12)
    >>> hyper[:4] = 0.01, 0.0, 0.99, 1e-8  # rate, momentum, alpha, eps
    >>> kernels.rmsprop(p, g, s, np.empty(0), 1, hyper)
    >>> p.round(4), s.round(4)
    (array([0.9, 2.1]), array([0.0025, 0.25  ]))
    """
    _update(RMSPROP, parameters, gradient, state1, state2, step, hyper)


@_optimizer(ADAGRAD)
def adagrad(parameters, gradient, state1, state2, step, hyper):
    """g += decay p; s += g^2; p -= rate g / (sqrt(s) + eps) (Duchi et al. 2011).

    Args:
        parameters, gradient: (n,) float32 or float64; parameters are moved in place.
        state1: s, (n,), 0 at first.
        state2: not used; may be empty.
        step: number of the update, from 1.
        hyper: float64 (12,), as `fastnn.Adagrad(...).hyper()` gives it, but for clip_norm, l1 and l2:
            [0] rate, [3] eps, [4] decay, [6] clip value (0: none).

    >>> p, g, s, hyper = np.array([1.0, 2.0]), np.array([3.0, -4.0]), np.zeros(2), np.zeros(12)
    >>> hyper[[0, 3]] = 0.5, 1e-10  # rate, eps
    >>> for step in (1, 2):
    ...     kernels.adagrad(p, g, s, np.empty(0), step, hyper)
    >>> p.round(4), s
    (array([0.1464, 2.8536]), array([18., 32.]))
    """
    _update(ADAGRAD, parameters, gradient, state1, state2, step, hyper)


@_optimizer(ADAM)
def adam(parameters, gradient, state1, state2, step, hyper):
    """p -= rate m^ / (sqrt(s^) + eps) with bias-corrected moments (Kingma and Ba 2014), as torch.optim.Adam.

    g += decay p; m = beta1 m + (1 - beta1) g; s = beta2 s + (1 - beta2) g^2; m^ = m / (1 - beta1^step), s^ likewise.

    Args:
        parameters, gradient: (n,) float32 or float64; parameters are moved in place.
        state1: m, (n,), 0 at first.
        state2: s, (n,), 0 at first.
        step: number of the update, from 1.
        hyper: float64 (12,), as `fastnn.Adam(...).hyper()` gives it, but for clip_norm, l1 and l2:
            [0] rate, [1] beta1, [2] beta2, [3] eps, [4] decay, [6] clip value (0: none), [9] 'epsilon hat' (0 or 1).

    The first update is of the size of the rate, whatever that of the gradient:

    >>> p, g, m, s, hyper = np.array([1.0, 2.0]), np.array([0.5, -500.0]), np.zeros(2), np.zeros(2), np.zeros(12)
    >>> hyper[:4] = 0.001, 0.9, 0.999, 1e-8  # rate, betas, eps
    >>> kernels.adam(p, g, m, s, 1, hyper)
    >>> p.round(6), m
    (array([0.999, 2.001]), array([  0.05, -50.  ]))
    """
    _update(ADAM, parameters, gradient, state1, state2, step, hyper)


@_optimizer(ADAMW)
def adamw(parameters, gradient, state1, state2, step, hyper):
    """p *= 1 - rate decay, then `adam` without decay (Loshchilov and Hutter 2017).

    Args:
        parameters, gradient: (n,) float32 or float64; parameters are moved in place.
        state1: m, (n,), 0 at first.
        state2: s, (n,), 0 at first.
        step: number of the update, from 1.
        hyper: float64 (12,), as `fastnn.AdamW(...).hyper()` gives it, but for clip_norm, l1 and l2:
            [0] rate, [1] beta1, [2] beta2, [3] eps, [4] decay, [6] clip value (0: none), [9] 'epsilon hat' (0 or 1).

    >>> p, g, m, s, hyper = np.array([1.0, 2.0]), np.array([0.5, 0.0]), np.zeros(2), np.zeros(2), np.zeros(12)
    >>> hyper[:5] = 0.1, 0.9, 0.999, 1e-8, 0.01  # rate, betas, eps, decay
    >>> kernels.adamw(p, g, m, s, 1, hyper)
    >>> p.round(6)
    array([0.899, 1.998])
    """
    _update(ADAMW, parameters, gradient, state1, state2, step, hyper)


@inner
def _norm(gradient, count):
    """The 2-norm."""
    squares = lane_sum_of_squares(gradient, count)
    if (squares >= LEAST_SQUARES and squares < np.inf) or squares != squares:
        return math.sqrt(squares)
    # Again with numbers divided by the largest: no square overflows or underflows.
    largest, total = 0.0, 0.0
    for i in range(count):
        largest = max(largest, abs(np.float64(load(gradient, i))))
    if largest == 0.0 or largest == np.inf:
        return largest
    for i in range(count):
        share = np.float64(load(gradient, i)) / largest
        total += share * share
    return largest * math.sqrt(total)


@inner
def clip_elements_by_norm(gradient, limit, count):
    """Scale to the norm `limit` if the norm is larger; returns the norm before."""
    norm = _norm(gradient, count)
    if norm > limit and limit / norm < by_type(load(gradient, 0), TINY32, TINY64):
        # A factor that is subnormal has lost digits: norms of 1e38 with limits of 1e-6 and the like.
        for i in range(count):
            store(gradient, i, constant(np.float64(load(gradient, i)) / norm * limit, load(gradient, i)))
    elif norm > limit:
        for i in range(0, count, lanes_of(gradient)):
            g = load_vector(gradient, i, count)
            store_vector(gradient, i, count, g * constant(limit / norm, g))
    return norm


@kernel
def clip_by_norm(gradient, limit):
    """gradient *= limit / norm if its 2-norm is larger than limit (Pascanu et al. 2013); returns the norm before.

    gradient: (n,) float32 or float64, changed in place. limit: a float.

    >>> g = np.array([3.0, 4.0])
    >>> kernels.clip_by_norm(g, 1.0)
    5.0
    >>> g
    array([0.6, 0.8])
    """
    require_arrays("result gradient 1", (gradient,))
    return clip_elements_by_norm(flat_pointer(gradient), limit, gradient.size)


@kernel
def clip_by_value(gradient, limit):
    """gradient = min(max(gradient, -limit), limit), in place; NaN stays.

    gradient: (n,) float32 or float64. limit: a float.

    >>> g = np.array([3.0, -4.0, 0.5])
    >>> kernels.clip_by_value(g, 1.0)
    >>> g
    array([ 1. , -1. ,  0.5])
    """
    require_arrays("result gradient 1", (gradient,))
    p = flat_pointer(gradient)
    for i in range(0, gradient.size, lanes_of(p)):
        g = load_vector(p, i, gradient.size)
        store_vector(p, i, gradient.size, _clipped(g, constant(limit, g)))
