"""How weights start.

An initializer is any callable `f(rng, fan_in, fan_out, dtype)` that returns the (fan_in, fan_out) start of a weight.
Those here draw in float64 and round, so a seed gives the same start in float32 and float64. Wherever a layer takes an
initializer, the name of one of these functions will do.

    glorot   variance 2 / (fan_in + fan_out)    Glorot and Bengio 2010
    he       variance 2 / fan_in                He et al. 2015
    lecun    variance 1 / fan_in                LeCun et al. 1998

A uniform start of variance v is drawn from [-sqrt(3 v), sqrt(3 v)). rng is an `np.random.Generator`; fans are whole
numbers of at least 1, dtype float32 or float64, else a ValueError or TypeError names the argument.
"""

from __future__ import annotations

import math

import numpy as np

from .arguments import choice, float_dtype, shown, whole_number
from .kernels.codes import Activation
from .typing import DTypeLike
from .validation import as_parameters

__all__ = [
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "zeros",
]

# Of float64 in an address space; NumPy's error for more does not name what is too large.
MOST_ELEMENTS = 2**59


def _uniform(rng, numerator, fans, fan_in, fan_out, dtype):
    """Uniform of variance numerator / the sum of those fans that count."""
    shape, dtype = _checked(rng, fan_in, fan_out, dtype)
    limit = math.sqrt(3 * (numerator / sum(fans)))
    return rng.uniform(-limit, limit, shape).astype(dtype)


def _normal(rng, numerator, fans, fan_in, fan_out, dtype):
    """Normal of variance numerator / the sum of those fans that count."""
    shape, dtype = _checked(rng, fan_in, fan_out, dtype)
    return rng.normal(0.0, math.sqrt(numerator / sum(fans)), shape).astype(dtype)


def _checked(rng, fan_in, fan_out, dtype):
    """(shape, dtype) of a start that is to be drawn."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng: expected an np.random.Generator, got {shown(rng)}")
    return _shape(fan_in, fan_out), float_dtype(dtype)


def _shape(fan_in, fan_out):
    shape = whole_number(fan_in, "fan_in", 1), whole_number(fan_out, "fan_out", 1)
    if math.prod(shape) > MOST_ELEMENTS:
        raise MemoryError(f"fan_in and fan_out: no memory for {shown(shape)} numbers")
    return shape


def glorot_uniform(rng: np.random.Generator, fan_in: int, fan_out: int, dtype: DTypeLike) -> np.ndarray:
    """Uniform of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010): the default of saturating activations.

    rng, fan_in, fan_out, dtype, the (fan_in, fan_out) result and errors: as `fastnn.initializers` tells.

    >>> import numpy as np
    >>> glorot_uniform(np.random.default_rng(0), 3, 2, "float32").shape
    (3, 2)
    """
    return _uniform(rng, 2, (fan_in, fan_out), fan_in, fan_out, dtype)


def glorot_normal(rng: np.random.Generator, fan_in: int, fan_out: int, dtype: DTypeLike) -> np.ndarray:
    """Normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).

    rng, fan_in, fan_out, dtype, the (fan_in, fan_out) result and errors: as `fastnn.initializers` tells.

    >>> import numpy as np
    >>> glorot_normal(np.random.default_rng(0), 3, 2, "float32").dtype
    dtype('float32')
    """
    return _normal(rng, 2, (fan_in, fan_out), fan_in, fan_out, dtype)


def he_uniform(rng: np.random.Generator, fan_in: int, fan_out: int, dtype: DTypeLike) -> np.ndarray:
    """Uniform of variance 2 / fan_in (He et al. 2015): the default of relu and its relatives.

    rng, fan_in, fan_out, dtype, the (fan_in, fan_out) result and errors: as `fastnn.initializers` tells.

    >>> import numpy as np
    >>> bool(abs(he_uniform(np.random.default_rng(0), 6, 50, "float64")).max() < 1)
    True
    """
    return _uniform(rng, 2, (fan_in,), fan_in, fan_out, dtype)


def he_normal(rng: np.random.Generator, fan_in: int, fan_out: int, dtype: DTypeLike) -> np.ndarray:
    """Normal of variance 2 / fan_in (He et al. 2015).

    rng, fan_in, fan_out, dtype, the (fan_in, fan_out) result and errors: as `fastnn.initializers` tells.

    >>> import numpy as np
    >>> he_normal(np.random.default_rng(0), 3, 2, "float64").shape
    (3, 2)
    """
    return _normal(rng, 2, (fan_in,), fan_in, fan_out, dtype)


def lecun_uniform(rng: np.random.Generator, fan_in: int, fan_out: int, dtype: DTypeLike) -> np.ndarray:
    """Uniform of variance 1 / fan_in (LeCun et al. 1998).

    rng, fan_in, fan_out, dtype, the (fan_in, fan_out) result and errors: as `fastnn.initializers` tells.

    >>> import numpy as np
    >>> bool(abs(lecun_uniform(np.random.default_rng(0), 3, 50, "float64")).max() < 1)
    True
    """
    return _uniform(rng, 1, (fan_in,), fan_in, fan_out, dtype)


def lecun_normal(rng: np.random.Generator, fan_in: int, fan_out: int, dtype: DTypeLike) -> np.ndarray:
    """Normal of variance 1 / fan_in (LeCun et al. 1998): the default of selu, which needs it to keep its variance.

    rng, fan_in, fan_out, dtype, the (fan_in, fan_out) result and errors: as `fastnn.initializers` tells.

    >>> import numpy as np
    >>> lecun_normal(np.random.default_rng(0), 3, 2, "float64").shape
    (3, 2)
    """
    return _normal(rng, 1, (fan_in,), fan_in, fan_out, dtype)


def zeros(rng: np.random.Generator | None, fan_in: int, fan_out: int, dtype: DTypeLike) -> np.ndarray:
    """All zeros; draws nothing.

    rng, fan_in, fan_out, dtype, the (fan_in, fan_out) result and errors: as `fastnn.initializers` tells.

    >>> zeros(None, 1, 2, "float32")
    array([[0., 0.]], dtype=float32)
    """
    return np.zeros(_shape(fan_in, fan_out), float_dtype(dtype))


_BY_NAME = {name: globals()[name] for name in __all__}

_RELU_LIKE = {
    Activation.RELU,
    Activation.LEAKY_RELU,
    Activation.ELU,
    Activation.GELU,
    Activation.GELU_TANH,
    Activation.SILU,
    Activation.HARDSWISH,
    Activation.SOFTPLUS,
}


def get(initializer, activation):
    """The initializer that a name, a callable or None means; None is the default of the activation."""
    if initializer is None:
        if activation in _RELU_LIKE:
            return he_uniform
        return lecun_normal if activation == Activation.SELU else glorot_uniform
    if isinstance(initializer, str):
        return choice(initializer, _BY_NAME, "weight_initializer")
    if not callable(initializer):
        raise TypeError(f"weight_initializer: expected a name or a callable, got {shown(initializer)}")
    return initializer


def generator(seed):
    """The random numbers of a model's start: Philox, the same on every machine with the same version of NumPy."""
    return np.random.Generator(np.random.Philox(seed))


def draw(initializer, rng, fan_in, fan_out, dtype):
    """The start of one layer's weight, its shape checked: the initializer may be the user's."""
    try:
        weight = initializer(rng, fan_in, fan_out, dtype)
    except MemoryError as error:
        raise MemoryError(f"weight_initializer: no memory for a start of {fan_in} x {fan_out}: {error}") from error
    return as_parameters(weight, (fan_in, fan_out), dtype, "result of weight_initializer")
