"""Activation functions on arrays, the same kernels that layers use.

All take x of any shape (softmax and log_softmax: at least one axis) and out=None. float32 and float64 are kept,
float16 gives float32, whole numbers and bool give float64; other dtypes are a TypeError. The result is a new array, a
NumPy scalar for a scalar x, or `out`: C-contiguous, of the result's shape and dtype, and x itself or no part of it,
else a ValueError.
"""

from __future__ import annotations

import numpy as np
from numpy import empty, ndarray
from numpy.typing import ArrayLike

from .kernels import activation as kernel
from .kernels.activation import PARALLEL_COST, SOFTMAX, activate_usual, columns_of
from .kernels.threads import threads_allowed
from .validation import converted, real_array, result_array

__all__ = [
    "elu",
    "gelu",
    "gelu_tanh",
    "hardsigmoid",
    "hardswish",
    "identity",
    "leaky_relu",
    "log_softmax",
    "relu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def _result_dtype(dtype):
    if dtype.kind == "f" and dtype.itemsize <= 8:
        return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)
    if dtype.kind in "biu":
        return np.dtype(np.float64)
    raise TypeError(f"x: expected real numbers of at most 64 bits, got dtype {dtype}")


# What `activate_usual` has given, by dtype.
_usual: dict[np.dtype, tuple] = {}


def _apply(activation, x, out):
    # Small arrays are where checks, not the kernel, take the time: what loops pass goes first and fast. With a function
    # for this, and one that is asked for the kernel, 16 numbers took 0.37 us instead of 0.29.
    if type(x) is ndarray and (usual := _usual.get(dtype := x.dtype)) is not None:
        result = empty(x.shape, dtype) if out is None else out
        fits = type(result) is ndarray and result.dtype is dtype and result.flags.carray
        # Arrays of one axis are of one shape if they are as long, which `run` looks at.
        if fits and (axes := x.ndim) == result.ndim and (axes == 1 or (axes and x.shape == result.shape)):
            run, worker, costs = usual
            columns = 1 if activation < SOFTMAX else columns_of(activation, result)
            work = result.size * costs[activation]
            threads = 1 if work < 2 * PARALLEL_COST else threads_allowed(work, PARALLEL_COST)
            # False if x is not contiguous, or neither out nor apart from it.
            if run(worker, x, activation, result, columns, threads):
                return result
    array = real_array(x, "x")
    if activation >= SOFTMAX and array.ndim == 0:
        raise ValueError("x: expected at least one axis, got a scalar")
    dtype = _result_dtype(array.dtype)
    if dtype not in _usual:
        _usual[dtype] = activate_usual(dtype)
    # The kernel may work in place, but only element on element.
    result = result_array(out, array.shape, dtype, None if out is x else array)
    if array.size:
        kernel.activate(np.asarray(converted(array, dtype), order="C"), activation, result)
    return result if out is not None or array.ndim else result[()]


def identity(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """x

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> identity([1.0, -2.0])
    array([ 1., -2.])
    """
    return _apply(kernel.IDENTITY, x, out)


def relu(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """max(x, 0)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> relu([1.0, -2.0])
    array([1., 0.])
    """
    return _apply(kernel.RELU, x, out)


def leaky_relu(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """x where x > 0, 0.01 x elsewhere (Maas et al. 2013)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> leaky_relu([1.0, -2.0])
    array([ 1.  , -0.02])
    """
    return _apply(kernel.LEAKY_RELU, x, out)


def elu(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """x where x > 0, exp(x) - 1 elsewhere (Clevert et al. 2015)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> elu([1.0, -2.0]).round(4)
    array([ 1.    , -0.8647])
    """
    return _apply(kernel.ELU, x, out)


def selu(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """1.0507 (x where x > 0, 1.67326 (exp(x) - 1) elsewhere) (Klambauer et al. 2017)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> selu([1.0, -2.0]).round(4)
    array([ 1.0507, -1.5202])
    """
    return _apply(kernel.SELU, x, out)


def sigmoid(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x))

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> float(sigmoid(0.0))
    0.5
    """
    return _apply(kernel.SIGMOID, x, out)


def tanh(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """tanh(x)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> float(tanh(0.0))
    0.0
    """
    return _apply(kernel.TANH, x, out)


def softplus(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """log(1 + exp(x))

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> float(softplus(0.0).round(4))
    0.6931
    """
    return _apply(kernel.SOFTPLUS, x, out)


def gelu(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> gelu([1.0, -2.0]).round(4)
    array([ 0.8413, -0.0455])
    """
    return _apply(kernel.GELU, x, out)


def gelu_tanh(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))), near gelu (Hendrycks and Gimpel 2016)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> gelu_tanh([1.0, -2.0]).round(4)
    array([ 0.8412, -0.0454])
    """
    return _apply(kernel.GELU_TANH, x, out)


def silu(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """x sigmoid(x) (Elfwing et al. 2017)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> silu([1.0, -2.0]).round(4)
    array([ 0.7311, -0.2384])
    """
    return _apply(kernel.SILU, x, out)


def hardsigmoid(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """min(max(x / 6 + 1/2, 0), 1)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> hardsigmoid([0.0, -3.0])
    array([0.5, 0. ])
    """
    return _apply(kernel.HARDSIGMOID, x, out)


def hardswish(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """x hardsigmoid(x) (Howard et al. 2019)

    Args:
        x: numbers or an array, any shape; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> hardswish([3.0, -3.0])
    array([3., 0.])
    """
    return _apply(kernel.HARDSWISH, x, out)


def softmax(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """exp(x) / sum of exp(x), over the last axis

    Args:
        x: numbers or an array, at least one axis; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> softmax([[0.0, 0.0]])
    array([[0.5, 0.5]])
    """
    return _apply(kernel.SOFTMAX, x, out)


def log_softmax(x: ArrayLike, out: np.ndarray | None = None) -> np.ndarray:
    """log(softmax(x)), over the last axis

    Args:
        x: numbers or an array, at least one axis; float32 and float64 stay, whole numbers give float64.
        out: an array for the result, x itself or one apart from it; None makes one.

    Raises:
        ValueError: out has another shape or dtype than the result, is not C-contiguous, or overlaps x.
        TypeError: x is not real.

    >>> log_softmax([[0.0, 0.0]]).round(4)
    array([[-0.6931, -0.6931]])
    """
    return _apply(kernel.LOG_SOFTMAX, x, out)
