"""What the names in an ONNX graph stand for while it is read: inputs, linear layers, and expressions in these."""

from typing import NamedTuple

import numpy as np

from .arguments import shortened
from .kernels.codes import Activation, Normalization
from .onnx_expressions import X, recognized, text

# The dtype of a value of another element type than the two of networks. None would not do: NumPy takes it for float64.
NO_FLOAT = np.dtype(np.bool_)


class Input(NamedTuple):
    """The graph's input, or (input - mean) / scale; mean and scale are arrays of one or `features` numbers, or None."""

    features: int | None
    mean: np.ndarray | None = None
    scale: np.ndarray | None = None
    cast: bool = False
    # The sizes of its axes behind the batch, until they are flattened to one.
    axes: tuple | None = None

    @property
    def untouched(self):
        return self.mean is None and self.scale is None and not self.cast


class Linear(NamedTuple):
    """activation(source) @ weight + bias + offset, normalized if `normalization` says so."""

    source: "Linear | Input"
    activation: Activation
    weight: np.ndarray
    # float64, from a batch normalization of the source
    offset: np.ndarray | None = None
    bias: np.ndarray | None = None
    normalization: Normalization | None = None
    # scale and shift, and for "batch" running mean and variance
    vectors: tuple = ()

    @property
    def features(self):
        return self.weight.shape[1]


class Value(NamedTuple):
    """What a name stands for: `expression` in the result of `base`, times and plus vectors if `moved` has such."""

    base: Linear | Input
    dtype: np.dtype
    expression: tuple = X
    moved: tuple | None = None
    # made float64 behind a network of float32
    widened: bool = False


# What stands for the batch's size in `Sizes`.
BATCH = int(np.iinfo(np.int64).min)


class Sizes(NamedTuple):
    """Whole numbers out of a value's shape, an array of at most one axis."""

    numbers: np.ndarray


def told(value):
    """What a name stands for, for a message."""
    if isinstance(value, np.ndarray):
        return f"a constant of shape {value.shape}"
    if isinstance(value, Sizes):
        return "the sizes of a shape"
    of = "the input" if isinstance(value.base, Input) else "a linear layer's result"
    if value.expression != X:
        of = f"{shortened(text(value.expression))} with x {of}"
    return of if value.moved is None else f"{of}, times and plus numbers for a layer behind it"


def usable(value, widened=False, flattened=True):
    """A value that a network's operators may work on; with `flattened` not an input of several axes."""
    if not isinstance(value, Value):
        raise ValueError(f"expected a value that depends on the input, got {told(value)}")
    if value.dtype == NO_FLOAT:
        raise ValueError("expected FLOAT or DOUBLE, or a Cast of the input to one of them")
    if flattened and isinstance(value.base, Input) and value.base.axes is not None:
        raise ValueError(f"expected (batch, features), got shape {('batch', *value.base.axes)} that nothing flattened")
    if value.widened and not widened:
        raise ValueError("expected nothing behind a Cast to DOUBLE of a FLOAT network's result")
    return value


def still(value):
    """A value whose elements an operator may work on."""
    if value.moved is not None:
        raise ValueError(f"expected a value that a linear layer does not have to take first, got {told(value)}")
    return value


def unknown(value):
    """Raise for an expression that is no activation."""
    raise ValueError(f"expected one of fastnn's activations of a linear layer's result, got {told(value)}")


def activation_of(value):
    """The `Activation` that made a value of its base."""
    activation = recognized(value.expression, value.dtype)
    if activation is None or (isinstance(value.base, Input) and activation != Activation.IDENTITY):
        unknown(value)
    return activation


def fitting(array, dtype, features, what):
    """(features,) numbers of a constant that stands beside a value of so many columns; None is not known."""
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        got = array.dtype if isinstance(array, np.ndarray) else "a value that depends on the input"
        raise ValueError(f"{what}: expected a constant of {dtype}, got {got}")
    size = array.size
    # (1, features) broadcasts as (features,) does.
    if array.ndim > 2 or size == 0 or size != (*array.shape, 1)[array.ndim - 1] or size not in (1, features or size):
        raise ValueError(f"{what}: expected shape ({'features' if features is None else features},), got {array.shape}")
    return array.reshape(-1)
