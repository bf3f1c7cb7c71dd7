"""Activations and their backward, over contiguous elements; softmax and log_softmax over rows (see softmax.py).

The backward takes what the forward leaves: the output y where f'(z) is a function of it, the pre-activation z
for gelu, gelu_tanh, silu and hardswish (`codes.NEEDS_PRE_ACTIVATION`).

Loops go through vectors (`simd.load_vector`, `stream_vector`), branch-free; one switch stands outside each.
"""

import numpy as np
from numba import intp

from . import elementary, normal, sigmoids
from .argument_checks import require_arrays
from .borrowed import flat, layout_is_known
from .codes import NEEDS_PRE_ACTIVATION, Activation
from .jit import driver, glue, inner, kernel, plain, read_only, serial_in_njit
from .launch import run
from .lock import let_lock_go, take_lock
from .sharing import are_plain
from .simd import (
    address_of,
    advance,
    constant,
    flat_pointer,
    fma,
    keep_alive,
    lanes_of,
    load_vector,
    pointer,
    select,
    store_vector,
    stream_vector,
)
from .softmax import softmax_rows, softmax_rows_backward
from .symbols import shared
from .threads import threads_for
from .workers import FLOATS, finder, part, worker

IDENTITY = int(Activation.IDENTITY)
RELU = int(Activation.RELU)
LEAKY_RELU = int(Activation.LEAKY_RELU)
ELU = int(Activation.ELU)
SELU = int(Activation.SELU)
SIGMOID = int(Activation.SIGMOID)
TANH = int(Activation.TANH)
SOFTPLUS = int(Activation.SOFTPLUS)
GELU = int(Activation.GELU)
GELU_TANH = int(Activation.GELU_TANH)
SILU = int(Activation.SILU)
HARDSIGMOID = int(Activation.HARDSIGMOID)
HARDSWISH = int(Activation.HARDSWISH)
SOFTMAX = int(Activation.SOFTMAX)
LOG_SOFTMAX = int(Activation.LOG_SOFTMAX)
ACTIVATIONS = len(Activation)

LEAKY_SLOPE = 0.01
SELU_SCALE = 1.0507009873554804934193349852946  # Klambauer et al. 2017
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SLOPE = 1.75809934084737685994021752081  # their product; that of the rounded numbers is off by 1.1 ULP
SQRT_2_OVER_PI = 0.79788456080286535588
GELU_CUBIC = sigmoids.GELU_CUBIC
SIXTH = 1.0 / 6.0

# Picoseconds an element by its bytes, on one Zen 4 core (on Zen 5 0.6 of that), in the order of the codes; and those
# from which another thread pays. On one Zen 5 core and on two 8,192 tanh take 1.02 and 1.14 us, 16,384 1.87 and 1.62;
# 8,192 gelu 1.60 and 1.42; 32,768 relu 1.45 and 1.44, in float32.
COSTS = {
    4: (100, 100, 100, 280, 280, 255, 245, 530, 330, 330, 255, 100, 100, 700, 700),
    8: (150, 150, 150, 730, 730, 870, 930, 2170, 2190, 1410, 1050, 150, 150, 1400, 1400),
}
PARALLEL_COST = 1_700_000


@plain
def is_row_wise(activation):
    """Whether an activation works on whole rows, not on elements; `codes.ROW_WISE` for compiled code."""
    return activation >= SOFTMAX


@inner
def _leaky(z, slope):
    return select(z > constant(0.0, z), z, z * slope)


@inner
def _hardsigmoid(z):
    zero, one = constant(0.0, z), constant(1.0, z)
    # (z + 3) / 6, not z / 6 + 1/2, which cancels near -3.
    y = (z + constant(3.0, z)) * constant(SIXTH, z)
    y = select(y < zero, zero, y)
    return select(y > one, one, y)


@inner
def _hardswish(z):
    """z (z + 3) / 6, 0 below -3 and z above 3.

    What rounding takes from (z + 3) / 6 is added again: else 2.5 ULP. z comes last, since z / 6 may be denormal.
    """
    zero, three, sixth = constant(0.0, z), constant(3.0, z), constant(SIXTH, z)
    up = z + three
    low = z - (up - three)
    factor = up * sixth
    factor_low = fma(low, sixth, fma(up, sixth, -factor))
    y = fma(z, factor, z * factor_low)
    return select(z >= three, z, select(z <= -three, zero, y))


@inner
def _gelu_tanh_argument(z):
    """sqrt(2/pi) (z + 0.044715 z^3), the argument of tanh; sigmoids.py has twice that, in two parts."""
    scaled = constant(SQRT_2_OVER_PI, z) * z
    return scaled * fma(constant(GELU_CUBIC, z) * z, z, constant(1.0, z))


@inner
def _product(z, factor):
    """z * factor, 0 where the factor is 0: the limit of z f(z) at z = -inf, where IEEE has -inf * 0 = NaN."""
    return select(factor == constant(0.0, z), constant(0.0, z), z * factor)


@inner
def copy_elements(source, out, count):
    """out = source; the two spans do not overlap, but may be the same."""
    for i in range(0, count, lanes_of(source)):
        store_vector(out, i, count, load_vector(source, i, count))


@shared
def activate_elements(activation, z, y, count):
    """y = f(z), element by element; the two spans do not overlap, but may be the same."""
    if activation == IDENTITY:
        copy_elements(z, y, count)
    elif activation == RELU:
        for i in range(0, count, lanes_of(z)):
            v = stream_vector(z, i, count)
            store_vector(y, i, count, select(v <= constant(0.0, v), constant(0.0, v), v))
    elif activation == LEAKY_RELU:
        for i in range(0, count, lanes_of(z)):
            v = stream_vector(z, i, count)
            store_vector(y, i, count, _leaky(v, constant(LEAKY_SLOPE, v)))
    elif activation in (ELU, SELU):
        scale = SELU_SCALE if activation == SELU else 1.0
        slope = SELU_SLOPE if activation == SELU else 1.0
        for i in range(0, count, lanes_of(z)):
            v = stream_vector(z, i, count)
            negative = constant(slope, v) * elementary.expm1(v)
            store_vector(y, i, count, select(v > constant(0.0, v), constant(scale, v) * v, negative))
    elif activation == SIGMOID:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, sigmoids.sigmoid(stream_vector(z, i, count)))
    elif activation == TANH:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, sigmoids.tanh(stream_vector(z, i, count)))
    elif activation == SOFTPLUS:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, elementary.softplus(stream_vector(z, i, count)))
    elif activation == GELU:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, normal.gelu(stream_vector(z, i, count)))
    elif activation == GELU_TANH:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, sigmoids.gelu_tanh(stream_vector(z, i, count)))
    elif activation == SILU:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, sigmoids.silu(stream_vector(z, i, count)))
    elif activation == HARDSIGMOID:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, _hardsigmoid(stream_vector(z, i, count)))
    elif activation == HARDSWISH:
        for i in range(0, count, lanes_of(z)):
            store_vector(y, i, count, _hardswish(stream_vector(z, i, count)))


@shared
def activate_elements_backward(activation, dy, saved, dz, count):
    """dz = dy * f'(.), element by element; dz overlaps neither input, but may be dy itself."""
    if activation == IDENTITY:
        copy_elements(dy, dz, count)
    elif activation == RELU:
        for i in range(0, count, lanes_of(saved)):
            y = load_vector(saved, i, count)
            store_vector(dz, i, count, select(y > constant(0.0, y), load_vector(dy, i, count), constant(0.0, y)))
    elif activation == LEAKY_RELU:
        for i in range(0, count, lanes_of(saved)):
            y = load_vector(saved, i, count)
            store_vector(
                dz,
                i,
                count,
                load_vector(dy, i, count) * select(y > constant(0.0, y), constant(1.0, y), constant(LEAKY_SLOPE, y)),
            )
    elif activation in (ELU, SELU):
        scale = SELU_SCALE if activation == SELU else 1.0
        at_zero = SELU_SLOPE if activation == SELU else 1.0
        for i in range(0, count, lanes_of(saved)):
            y = load_vector(saved, i, count)
            slope = select(y > constant(0.0, y), constant(scale, y), y + constant(at_zero, y))
            store_vector(dz, i, count, load_vector(dy, i, count) * slope)
    elif activation == SIGMOID:
        for i in range(0, count, lanes_of(saved)):
            y = load_vector(saved, i, count)
            store_vector(dz, i, count, load_vector(dy, i, count) * (y * (constant(1.0, y) - y)))
    elif activation == TANH:
        for i in range(0, count, lanes_of(saved)):
            y = load_vector(saved, i, count)
            store_vector(dz, i, count, load_vector(dy, i, count) * fma(-y, y, constant(1.0, y)))
    elif activation == SOFTPLUS:
        for i in range(0, count, lanes_of(saved)):
            store_vector(dz, i, count, load_vector(dy, i, count) * -elementary.expm1(-load_vector(saved, i, count)))
    elif activation == GELU:
        # Phi(z) + z phi(z)
        for i in range(0, count, lanes_of(saved)):
            z = load_vector(saved, i, count)
            slope = normal.normal_cdf(z) + _product(z, normal.normal_pdf(z))
            store_vector(dz, i, count, load_vector(dy, i, count) * slope)
    elif activation == GELU_TANH:
        # s + 2 z s (1 - s) u'(z) with s = sigmoid(2 u), u' = sqrt(2/pi) (1 + 3 * 0.044715 z^2)
        for i in range(0, count, lanes_of(saved)):
            z = load_vector(saved, i, count)
            one = constant(1.0, z)
            s, rest = sigmoids.sigmoid_pair(constant(2.0, z) * _gelu_tanh_argument(z))
            du = constant(SQRT_2_OVER_PI, z) * fma(constant(3 * GELU_CUBIC, z) * z, z, one)
            slope = s + _product(constant(2.0, z) * z * du, s * rest)
            store_vector(dz, i, count, load_vector(dy, i, count) * slope)
    elif activation == SILU:
        # s (1 + z (1 - s))
        for i in range(0, count, lanes_of(saved)):
            z = load_vector(saved, i, count)
            s, rest = sigmoids.sigmoid_pair(z)
            store_vector(dz, i, count, load_vector(dy, i, count) * (s + _product(z, s * rest)))
    elif activation == HARDSIGMOID:
        for i in range(0, count, lanes_of(saved)):
            y = load_vector(saved, i, count)
            inside = (y > constant(0.0, y)) & (y < constant(1.0, y))
            store_vector(dz, i, count, select(inside, load_vector(dy, i, count) * constant(SIXTH, y), constant(0.0, y)))
    elif activation == HARDSWISH:
        # 0 below -3, 1 above 3, z/3 + 1/2 between
        for i in range(0, count, lanes_of(saved)):
            z = load_vector(saved, i, count)
            up = load_vector(dy, i, count)
            down = up * fma(z, constant(2 * SIXTH, z), constant(0.5, z))
            down = select(z >= constant(3.0, z), up, down)
            store_vector(dz, i, count, select(z <= constant(-3.0, z), constant(0.0, z), down))


@inner
def activate_array(activation, x, out, columns):
    """out = f(x) for contiguous arrays, which may be one; row-wise activations take rows of `columns` elements."""
    z, y, count = flat_pointer(x), flat_pointer(out), out.size
    if is_row_wise(activation):
        copy_elements(z, y, count)
        buffer = np.empty(columns, out.dtype)
        softmax_rows(y, count // max(columns, 1), columns, activation == LOG_SOFTMAX, pointer(buffer))
        keep_alive(buffer)
    else:
        activate_elements(activation, z, y, count)


@inner
def activate_array_backward(activation, dy, saved, out, columns):
    """out = dy * f'(.) for contiguous arrays, of which dy and out may be one."""
    up, kept, down, count = flat_pointer(dy), flat_pointer(saved), flat_pointer(out), out.size
    if is_row_wise(activation) and address_of(up) != address_of(down):
        softmax_rows_backward(up, kept, down, count // max(columns, 1), columns, activation == LOG_SOFTMAX)
    elif is_row_wise(activation):
        # Row by row through a buffer.
        buffer = np.empty(columns, out.dtype)
        for first in range(0, count, max(columns, 1)):
            copy_elements(advance(up, first), pointer(buffer), columns)
            log = activation == LOG_SOFTMAX
            softmax_rows_backward(pointer(buffer), advance(kept, first), advance(down, first), 1, columns, log)
        keep_alive(buffer)
    else:
        activate_elements_backward(activation, up, kept, down, count)


@worker(lambda t: (t[::1], intp, t[::1], intp, intp, intp))
def activate_worker(x, activation, out, columns, index, parts):
    """One thread's rows of `columns` elements."""
    rows = x.size // columns
    first, last = part(rows, index, parts) * columns, part(rows, index + 1, parts) * columns
    activate_array(activation, x[first:last], out[first:last], columns)


@glue
def activate_checked(activation, x, out):
    """`activate_array` for arrays that may not fit; their last axis is a row."""
    require_arrays("flat x, result out", (x, out))
    if x.shape != out.shape:
        raise ValueError("x: expected the shape of out")
    activate_array(activation, x, out, out.shape[-1])


@glue
def activate_backward_checked(activation, dy, saved, out):
    """`activate_array_backward` for arrays that may not fit; their last axis is a row."""
    require_arrays("flat dy, flat saved, result out", (dy, saved, out))
    if (dy.shape != out.shape) | (saved.shape != out.shape):
        raise ValueError("dy and saved: expected the shape of out")
    activate_array_backward(activation, dy, saved, out, out.shape[-1])


@kernel
def activate_serial(x, activation, out):
    """out = f(x) on this thread; arrays as `activate` takes them."""
    if not 0 <= activation < ACTIVATIONS:
        raise ValueError("activation: expected an Activation")
    activate_checked(activation, x, out)


@driver(lambda t: (intp, flat(read_only(t, 1, "A")), intp, flat(t[::1]), intp, intp), nogil=False)
def activate_flat(worker, x, activation, out, columns, threads):
    """`activate_serial` over flat arrays, rows of `columns` elements shared by threads, if the arrays fit.

    False, and nothing done, unless x is contiguous, aligned, as long as out, and either out itself or apart from it.
    """
    size = out.itemsize
    p, q, length = address_of(pointer(x)), address_of(flat_pointer(out)), out.size * size
    contiguous = x.size == out.size and (x.strides[0] == size or length == 0) and p % size == 0
    fit = contiguous and (p == q or p + length <= q or q + length <= p)
    if fit and length > 0:
        state = let_lock_go(out.size)
        run(worker, (x, activation, out, columns), threads)
        take_lock(state)
    return fit


def activate_usual(dtype):
    """For arrays of this very dtype, float32 or float64: what `activations` calls, by its entry point.

    Returns:
        (`activate_flat`, its first argument, by activation what an element costs, as `threads_for` wants it), or None
        where it takes arrays of one axis alone
    """
    if not layout_is_known():
        return None
    return activate_flat.entry_point(dtype), activate_worker.address(dtype), COSTS[dtype.itemsize]


@worker(lambda t: (t[::1], t[::1], intp, t[::1], intp, intp, intp))
def activate_backward_worker(dy, saved, activation, out, columns, index, parts):
    """One thread's rows of `columns` elements."""
    rows = dy.size // columns
    first, last = part(rows, index, parts) * columns, part(rows, index + 1, parts) * columns
    activate_array_backward(activation, dy[first:last], saved[first:last], out[first:last], columns)


@kernel
def activate_backward_serial(dy, saved, activation, out):
    """out = dy * f'(.) on this thread; arrays as `activate_backward` takes them."""
    if not 0 <= activation < ACTIVATIONS:
        raise ValueError("activation: expected an Activation")
    activate_backward_checked(activation, dy, saved, out)


find_activate, find_activate_backward = finder(activate_worker), finder(activate_backward_worker)


@kernel
def activate_parallel(x, activation, out, columns, threads):
    """`activate_serial` with rows of `columns` elements shared by threads."""
    require_arrays("flat x, result out", (x, out))
    run(find_activate(out), (x.reshape(-1), activation, out.reshape(-1), columns), threads)


@kernel
def activate_backward_parallel(dy, saved, activation, out, columns, threads):
    """`activate_backward_serial` with rows of `columns` elements shared by threads."""
    require_arrays("flat dy, flat saved, result out", (dy, saved, out))
    flat = dy.reshape(-1), saved.reshape(-1), activation, out.reshape(-1)
    run(find_activate_backward(out), (*flat, columns), threads)


def columns_of(activation, out):
    """Elements that stay together: a row for the softmax family, one element for the others."""
    return max(1, out.shape[-1]) if is_row_wise(activation) else 1


def forward_threads(activation, out):
    """Threads that pay for an activation of so many elements as out has."""
    return threads_for(out.size * COSTS[out.itemsize][activation], PARALLEL_COST)


def _threads_of(activation, out):
    """`forward_threads` of what may be no array of floats: then one."""
    return forward_threads(activation, out) if type(out) is np.ndarray and out.dtype in FLOATS else 1


def share_activation(activation, x, out):
    """out = f(x) on threads, for `shares_large_work`."""
    threads = _threads_of(activation, out)
    if threads == 1 or not are_plain(out.dtype, (x, out), [out.shape] * 2, 1):
        return NotImplemented
    # Compiled from here, Ctrl-C does not have to wait for the compiler.
    activate_worker.address(out.dtype)
    return activate_parallel(x, activation, out, columns_of(activation, out), threads)


def share_activation_backward(activation, dy, saved, out):
    """out = dy f'(.) on threads, for `shares_large_work`."""
    # Those that need no pre-activation take a product of what they read, but for these two.
    cheap = activation not in NEEDS_PRE_ACTIVATION and activation not in (SOFTPLUS, LOG_SOFTMAX)
    threads = _threads_of(IDENTITY if cheap else activation, out)
    if threads == 1 or not are_plain(out.dtype, (dy, saved, out), [out.shape] * 3, 1):
        return NotImplemented
    activate_backward_worker.address(out.dtype)
    return activate_backward_parallel(dy, saved, activation, out, columns_of(activation, out), threads)


@serial_in_njit(activate_serial)
def activate(x, activation, out):
    """out = f(x), with f named by a code, large work shared by threads.

    Args:
        x: C-contiguous float32 or float64 array; for the softmax family its last axis is the row.
        activation: an `Activation`.
        out: C-contiguous array of x's shape and dtype; may be x itself, must not overlap it otherwise.

    Raises:
        ValueError: x does not fit out; from Python also if it overlaps it.

    >>> x, out = np.array([[-1.0, 0.0], [0.5, 2.0]]), np.empty((2, 2))
    >>> kernels.activate(x, kernels.Activation.RELU, out)
    >>> out
    array([[0. , 0. ],
           [0.5, 2. ]])
    """
    activation = int(activation)
    if not 0 <= activation < ACTIVATIONS:
        raise ValueError(f"activation: expected an Activation, got {activation}")
    if x.shape != out.shape or not out.flags.c_contiguous:
        raise ValueError(f"out: expected the shape of x, {x.shape}, and C-contiguous, got {out.shape}, {out.strides}")
    address = activate_worker.address(out.dtype)
    columns, threads = columns_of(activation, out), forward_threads(activation, out)
    activate_flat.ready(out.dtype)
    if not activate_flat(address, x.reshape(-1), activation, out.reshape(-1), columns, threads):
        raise ValueError("x: expected memory apart from out, or out itself")


@serial_in_njit(activate_backward_serial)
def activate_backward(dy, saved, activation, out):
    """out = dy f'(.), with f named by a code, large work shared by threads.

    Args:
        dy: gradient of the loss with respect to f's output.
        saved: the output of f, or its input for the activations in `codes.NEEDS_PRE_ACTIVATION`: gelu, gelu_tanh, silu,
            hardswish.
        activation: an `Activation`.
        out: receives the gradient with respect to f's input; may be dy. All are C-contiguous, of one shape and dtype,
            float32 or float64.

    >>> y, dy, dx = np.array([0.0, 0.5, 2.0]), np.array([10.0, 20.0, 30.0]), np.empty(3)
    >>> kernels.activate_backward(dy, y, kernels.Activation.RELU, dx)
    >>> dx
    array([ 0., 20., 30.])
    """
    activation = int(activation)
    if not 0 <= activation < ACTIVATIONS or share_activation_backward(activation, dy, saved, out) is NotImplemented:
        activate_backward_serial(dy, saved, activation, out)
