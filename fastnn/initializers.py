"""How weights start.

An initializer is any callable `f(rng, fan_in, fan_out, dtype)` that returns the (fan_in, fan_out) start of a weight.
Those here draw in float64 and round, so a seed gives the same start in float32 and float64. Wherever a layer takes an
initializer, the name of one of these functions will do.

    glorot   variance 2 / (fan_in + fan_out)    Glorot and Bengio 2010
    he       variance 2 / fan_in                He et al. 2015
    lecun    variance 1 / fan_in                LeCun et al. 1998

A uniform start of variance v is drawn from [-sqrt(3 v), sqrt(3 v)).
"""

import math

import numpy as np

from .kernels.codes import Activation
from .validation import as_parameters, choice

__all__ = [
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "lecun_normal",
    "lecun_uniform",
    "zeros",
]


def _uniform(rng, variance, fan_in, fan_out, dtype):
    limit = math.sqrt(3 * variance)
    return rng.uniform(-limit, limit, (fan_in, fan_out)).astype(dtype)


def _normal(rng, variance, fan_in, fan_out, dtype):
    return rng.normal(0.0, math.sqrt(variance), (fan_in, fan_out)).astype(dtype)


def glorot_uniform(rng, fan_in, fan_out, dtype):
    """Uniform of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010): the default of saturating activations.

    >>> import numpy as np
    >>> glorot_uniform(np.random.default_rng(0), 3, 2, "float32").shape
    (3, 2)
    """
    return _uniform(rng, 2 / (fan_in + fan_out), fan_in, fan_out, dtype)


def glorot_normal(rng, fan_in, fan_out, dtype):
    """Normal of variance 2 / (fan_in + fan_out) (Glorot and Bengio 2010).

    >>> import numpy as np
    >>> glorot_normal(np.random.default_rng(0), 3, 2, "float32").dtype
    dtype('float32')
    """
    return _normal(rng, 2 / (fan_in + fan_out), fan_in, fan_out, dtype)


def he_uniform(rng, fan_in, fan_out, dtype):
    """Uniform of variance 2 / fan_in (He et al. 2015): the default of relu and its relatives.

    >>> import numpy as np
    >>> bool(abs(he_uniform(np.random.default_rng(0), 6, 50, "float64")).max() < 1)
    True
    """
    return _uniform(rng, 2 / fan_in, fan_in, fan_out, dtype)


def he_normal(rng, fan_in, fan_out, dtype):
    """Normal of variance 2 / fan_in (He et al. 2015).

    >>> import numpy as np
    >>> he_normal(np.random.default_rng(0), 3, 2, "float64").shape
    (3, 2)
    """
    return _normal(rng, 2 / fan_in, fan_in, fan_out, dtype)


def lecun_uniform(rng, fan_in, fan_out, dtype):
    """Uniform of variance 1 / fan_in (LeCun et al. 1998).

    >>> import numpy as np
    >>> bool(abs(lecun_uniform(np.random.default_rng(0), 3, 50, "float64")).max() < 1)
    True
    """
    return _uniform(rng, 1 / fan_in, fan_in, fan_out, dtype)


def lecun_normal(rng, fan_in, fan_out, dtype):
    """Normal of variance 1 / fan_in (LeCun et al. 1998): the default of selu, which needs it to keep its variance.

    >>> import numpy as np
    >>> lecun_normal(np.random.default_rng(0), 3, 2, "float64").shape
    (3, 2)
    """
    return _normal(rng, 1 / fan_in, fan_in, fan_out, dtype)


def zeros(rng, fan_in, fan_out, dtype):
    """All zeros; draws nothing.

    >>> zeros(None, 1, 2, "float32")
    array([[0., 0.]], dtype=float32)
    """
    return np.zeros((fan_in, fan_out), dtype)


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
        raise TypeError(f"weight_initializer: expected a name or a callable, got {initializer!r}")
    return initializer


def generator(seed):
    """The random numbers of a model's start: Philox, the same on every machine."""
    return np.random.Generator(np.random.Philox(seed))


def draw(initializer, rng, fan_in, fan_out, dtype):
    """The start of one layer's weight, its shape checked: the initializer may be the user's."""
    weight = initializer(rng, fan_in, fan_out, dtype)
    return as_parameters(weight, (fan_in, fan_out), dtype, "result of weight_initializer")
