"""Constants beside a value of ONNX's graph: which numbers of a layer they join.

A summand is one of the bias in front, a factor one of the weight in front, or both of the weight behind; beside the
input they are its mean and scale. Where a layer has no place for them a ValueError says so.
"""

import numpy as np

from .onnx_expressions import MOST_NUMBER, X, is_usual, taken_apart
from .onnx_values import Input, Linear, activation_of


def as_finite(array, result):
    """What numbers were made of an array, if it has made none infinite or NaN: elsewhere a sum might hide that."""
    if not np.array_equal(np.isfinite(array), np.isfinite(result)):
        raise ValueError(f"expected finite numbers that stay so in the layer's {array.dtype}, got others")
    return result


def array_times(graph, array, factor):
    if factor == 1 or not isinstance(array, np.ndarray):
        return array
    return graph.owned(as_finite(array, array * array.dtype.type(factor)))


def is_result(value):
    """Whether a value is a linear layer's result itself."""
    return isinstance(value.base, Linear) and value.expression == X and value.moved is None


def takes_vector(value, array, operator, first):
    """Whether a constant is one number for each column, not a part of a formula; first: it stands behind the value."""
    if operator not in ("Add", "Sub", "Mul", "Div") or (operator == "Div" and not first):
        return False
    if array.size > 1 or value.moved is not None or (isinstance(value.base, Input) and value.expression == X):
        return True
    # A number that no formula has, beside a result alone.
    if is_result(value) and array.size == 1 and not is_usual(float(array.reshape(()))):
        return True
    # (1,) of one column, where the layer has no bias yet.
    lacks_bias = is_result(value) and value.base.normalization is None and value.base.bias is None
    return operator in ("Add", "Sub") and lacks_bias and array.ndim > 0 and value.base.features == 1


def by_vector(graph, value, numbers, operator, first):
    """A value and one number for each column, or one for all."""
    if not np.isfinite(numbers).all():
        raise ValueError("expected finite numbers")
    if isinstance(value.base, Input):
        if value.base.features is None and numbers.size > 1:
            value = value._replace(base=value.base._replace(features=numbers.size))
        standardized = into_input(graph, value, numbers, operator, first)
        if standardized:
            return standardized
    if operator in ("Add", "Sub"):
        minus = operator == "Sub"
        shift = graph.owned(-numbers) if minus and first else numbers
        return affine(graph, value, np.array([-1.0]) if minus and not first else None, shift)
    if operator == "Div" and not numbers.all():
        raise ValueError("expected a divisor other than 0")
    return affine(graph, value, numbers if operator == "Mul" else graph.owned(1 / numbers.astype(np.float64)), None)


def affine(graph, value, factor, shift):
    """factor y + shift of a value y, in numbers of the layer that it is the result of, or of the one behind.

    factor and shift: arrays of a number for each column, or of one; None is 1, and 0.
    """
    value = settled(graph, value)
    return (_into_linear if is_result(value) else into_next)(graph, value, factor, shift)


def _summed(left, right):
    """left + right, summands of a layer, unless they are large and leave nothing: they round what is between them."""
    result = left + right
    largest = np.maximum(np.abs(left), np.abs(right))
    if ((largest > MOST_NUMBER) & (MOST_NUMBER * np.abs(result) < largest)).any():
        raise ValueError("expected summands that do not cancel")
    return result


def _into_linear(graph, value, factor, shift):
    """factor z + shift of a linear layer's result z, in its own numbers."""
    base = value.base
    owned = lambda array, result: graph.owned(as_finite(array, result.astype(array.dtype)))
    if factor is not None:
        times = lambda array: None if array is None else owned(array, array * factor)
    plus = lambda array: owned(array, _summed(array, shift))
    if base.normalization is not None:
        scale, offset, *others = base.vectors
        if factor is not None:
            scale, offset = times(scale), times(offset)
        vectors = scale, offset if shift is None else plus(offset), *others
        return value._replace(base=base._replace(vectors=vectors))
    if factor is not None:
        base = base._replace(weight=times(base.weight), bias=times(base.bias), offset=times(base.offset))
    if shift is not None:
        base = base._replace(bias=plus(np.zeros(base.features, value.dtype) if base.bias is None else base.bias))
    return value._replace(base=base)


def into_next(graph, value, factor, shift):
    """factor y + shift of what no linear layer made: the one behind will take it into its weight."""
    activation_of(value)
    before, plus = value.moved or (np.ones(1), np.zeros(1))
    if factor is not None:
        before, plus = before * factor, plus * factor
    return value._replace(moved=(graph.owned(before), graph.owned(plus if shift is None else _summed(plus, shift))))


def settled(graph, value):
    """A value whose expression is one of fastnn's activations, if numbers can be taken out of it.

    What f(2 x + 1) has inside goes into the layer whose result x is, what 2 f(x) + 1 has outside into the one behind.
    """
    parts = taken_apart(value.expression, value.dtype)
    if parts is None or parts.expression == value.expression:
        return value
    inside, outside = parts.inside, parts.outside
    bare = value._replace(expression=X, moved=None)
    if parts.expression == X and not is_result(bare):
        inside, outside = None, inside
    if inside is not None:
        if not is_result(bare):
            return value
        value = value._replace(base=_into_linear(graph, bare, *map(np.atleast_1d, inside)).base)
    value = value._replace(expression=parts.expression)
    return value if outside is None else _scaled(graph, value, *outside)


def _scaled(graph, value, factor, shift):
    """A value whose factor and summand come before those that it has already."""
    before, plus = value.moved or (np.ones(1), np.zeros(1))
    return value._replace(moved=(graph.owned(before * factor), graph.owned(before * shift + plus)))


def into_input(graph, value, numbers, operator, first):
    """(x - mean) / scale of the input in one of its spellings; None if this is no part of one."""
    base = value.base
    if value.expression != X or value.moved is not None:
        return None
    if operator in ("Add", "Sub"):
        if base.mean is not None or (operator == "Sub" and not first):
            return None
        mean = graph.owned(-numbers) if operator == "Add" else numbers
        if base.scale is not None:
            # x / scale + number, a MinMaxScaler's: in the first weight, large numbers would take digits of the result.
            mean = graph.owned(mean * base.scale)
        return value._replace(base=base._replace(mean=mean)) if np.isfinite(mean).all() else None
    if base.scale is not None:
        return None
    scale = graph.owned(1 / numbers) if operator == "Mul" else numbers
    if not ((scale > 0) & np.isfinite(scale)).all():
        return None
    return value._replace(base=base._replace(scale=scale))
