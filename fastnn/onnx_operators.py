"""ONNX's operators, as far as dense networks use them: functions of (graph, node) that give what the first output is.

The result is an array where a node depends on constants alone, and a `Value` where it depends on the input. What an
operator would make that no dense network has is a ValueError.
"""

import numpy as np
from onnx import TensorProto

from .kernels.codes import Activation, Normalization
from .kernels.normalization import EPS
from .onnx_expressions import (
    MOST_NUMBER,
    X,
    add,
    atom,
    chosen,
    clipped,
    constant,
    divided,
    is_usual,
    multiply,
    power,
    recognised,
    scaled,
    standard_score,
    subtracted,
    taken_apart,
    text,
)
from .onnx_file import FLOATS, attributes, constant_value, type_name
from .onnx_shapes import flatten, gather, joined, reshape, shape_of, unsqueeze
from .onnx_values import NO_FLOAT, Input, Linear, Sizes, Value, activation_of, fitting, still, told, usable
from .validation import shown

HIGHEST_POWER = 4


def linear(graph, value, weight):
    """The linear layer of a value, which must be an activation of the one before, or the input."""
    value = settled(graph, usable(value))
    if not isinstance(weight, np.ndarray) or weight.ndim != 2 or 0 in weight.shape:
        raise ValueError(f"expected a constant weight of shape (in_features, out_features), got {told(weight)}")
    if weight.dtype != value.dtype:
        raise ValueError(f"expected a weight of {value.dtype}, got {weight.dtype}")
    if value.base.features not in (None, weight.shape[0]):
        raise ValueError(f"expected a weight of {value.base.features} rows, got shape {weight.shape}")
    activation, base, offset = activation_of(value), value.base, None
    if value.moved is not None:
        factor, shift = (np.broadcast_to(numbers, weight.shape[0]) for numbers in value.moved)
        offset = graph.owned(shift @ weight.astype(np.float64))
        weight = graph.owned(_as_finite(weight, (factor[:, None] * weight).astype(weight.dtype)))
    if isinstance(base, Input):
        base = base._replace(features=weight.shape[0])
    return Value(Linear(base, activation, graph.owned(weight), offset), value.dtype)


def unchanged(graph, value, columns):
    """A value of so many columns as a linear layer's result, by a layer that takes it over as it is."""
    graph.make_room_for_unchanged(columns, value.dtype.itemsize)
    return linear(graph, value, np.eye(columns, dtype=value.dtype))


def gemm(graph, node):
    given = attributes(node, alpha=1.0, beta=1.0, transA=0, transB=0)
    value, weight, bias = graph.inputs(node, 2, 3)
    if given["transA"]:
        raise ValueError(f"transA: expected 0, got {given['transA']}")
    if isinstance(weight, np.ndarray) and given["transB"]:
        weight = weight.T
    result = linear(graph, value, _times(graph, weight, given["alpha"]))
    if bias is None:
        return result
    bias = np.broadcast_to(fitting(bias, result.dtype, result.base.features, "C"), result.base.features)
    if given["beta"] == 0:
        # Of infinite numbers too nothing is left then.
        return result
    return result._replace(base=result.base._replace(bias=_times(graph, bias, given["beta"])))


def _times(graph, array, factor):
    if factor == 1 or not isinstance(array, np.ndarray):
        return array
    return graph.owned(_as_finite(array, array * array.dtype.type(factor)))


def _as_finite(array, result):
    """What numbers were made of an array, if it has made none infinite or NaN: elsewhere a sum might hide that."""
    if not np.array_equal(np.isfinite(array), np.isfinite(result)):
        raise ValueError(f"expected finite numbers that stay so in the layer's {array.dtype}, got others")
    return result


def matmul(graph, node):
    attributes(node)
    value, weight = graph.inputs(node, 2, 2)
    return linear(graph, value, weight)


def normalized(graph, value, normalization, vectors, eps):
    """Scale, shift and for "batch" mean and variance of a linear layer's result, which they join."""
    value = settled(graph, usable(value))
    names = ("scale", "shift", "mean", "variance")[: len(vectors)]
    columns = value.base.features
    vectors = [fitting(v, value.dtype, columns, name) for v, name in zip(vectors, names, strict=True)]
    columns = vectors[0].size if columns is None else columns
    if any(vector.size != columns for vector in vectors):
        raise ValueError(f"expected vectors of {columns} numbers, got {[vector.size for vector in vectors]}")
    joins = _is_result(value) and value.base.normalization is None
    if normalization == Normalization.LAYER and not joins:
        value, joins = unchanged(graph, value, columns), True
    own = vectors if normalization == Normalization.LAYER else _with_own_eps(graph, vectors, eps)
    if joins and own is not None:
        return value._replace(base=value.base._replace(normalization=normalization, vectors=tuple(own)))
    scale, shift, mean, variance = vectors
    deviation = np.sqrt(variance.astype(np.float64) + eps)
    if isinstance(value.base, Input):
        # By the input's own mean and deviation no digits are lost where the mean is the larger one by far.
        value = value._replace(base=value.base._replace(features=columns))
        standardized = _standardized(graph, value, mean, "Sub", True)
        standardized = standardized and _standardized(graph, standardized, deviation.astype(value.dtype), "Div", True)
        if standardized:
            return _moved(graph, standardized, scale, shift)
    factor = graph.owned(scale / deviation)
    return _affine(graph, value, factor, graph.owned(shift - mean * factor))


def _with_own_eps(graph, vectors, eps):
    """A batch normalisation's vectors, with the variance that gives the same by fastnn's eps; None if there is none."""
    *others, variance = vectors
    # An attribute has eps in float32.
    if variance.dtype.type(eps) == variance.dtype.type(EPS):
        return vectors
    variance = graph.owned((variance.astype(np.float64) + (eps - EPS)).astype(variance.dtype))
    return [*others, variance] if (variance >= 0).all() else None


def batch_normalization(graph, node):
    given = attributes(node, epsilon=1e-5, momentum=0.9, training_mode=0, spatial=1)
    value, *vectors = graph.inputs(node, 5, 5)
    if given["training_mode"]:
        raise ValueError("training_mode: expected 0, got 1")
    # Until opset 13 more outputs were what told that the batch's own statistics are meant.
    if sum(map(bool, node.output)) > 1:
        raise ValueError(f"expected one output, as of a network in use, got {len(node.output)}, as in training")
    return normalized(graph, value, Normalization.BATCH, vectors, given["epsilon"])


def layer_normalization(graph, node):
    given = attributes(node, axis=-1, epsilon=1e-5, stash_type=1)
    value, scale, shift = graph.inputs(node, 2, 3)
    if given["axis"] not in (-1, 1):
        raise ValueError(f"axis: expected the last, got {given['axis']}")
    if shift is None and isinstance(scale, np.ndarray):
        shift = graph.owned(np.zeros_like(scale))
    return _normalized_by_row(graph, value, scale, shift, given["epsilon"])


def _normalized_by_row(graph, value, scale, shift, eps):
    """Layer normalisation of a value, with an epsilon that need not be fastnn's."""
    value = settled(graph, usable(value))
    # Who wrote 1e-5 of a float64 network meant no float32, which ONNX makes of it.
    if np.float32(eps) != np.float32(EPS):
        if not 0 < eps < np.inf:
            raise ValueError(f"epsilon: expected a finite number above 0, got {eps:g}")
        if not _is_result(value) or value.base.normalization is not None:
            columns = fitting(scale, value.dtype, value.base.features, "scale").size
            value = unchanged(graph, value, value.base.features or columns)
        # A result times c has c^2 times the variance, and normalised with c^2 times the epsilon it is the same.
        value = _affine(graph, value, np.sqrt([EPS / eps]), None)
    return normalized(graph, value, Normalization.LAYER, [scale, shift], EPS)


def unary(form, **defaults):
    """An operator on elements or rows: `form` makes its expression of another and of the attributes' values."""

    def operator(graph, node):
        given = attributes(node, **defaults)
        (value,) = graph.inputs(node, 1, 1)
        value = still(usable(value))
        return value._replace(expression=form(value.expression, *given.values()))

    return operator


def softmax(name):
    def form(expression, axis):
        if axis not in (-1, 1):
            raise ValueError(f"axis: expected the last, got {axis}")
        return atom(name, expression)

    # 1 and -1 are the same axis, and the two defaults, of a value with two.
    return unary(form, axis=-1)


def concat(graph, node):
    """Sizes of a shape, or the probabilities of two classes: 1 - p and p, which is the sigmoid of one result."""
    if not any(isinstance(value, Value) for value in graph.inputs(node, 1, len(node.input))):
        return joined(graph, node)
    axis = attributes(node, axis=int)["axis"]
    without, with_it = (still(usable(value)) for value in graph.inputs(node, 2, 2))
    _same_base(without, with_it)
    base, p = with_it.base, with_it.expression
    one_result = isinstance(base, Linear) and base.features == 1 and base.normalization is None and axis in (1, -1)
    is_sigmoid = one_result and recognised(p, with_it.dtype) == Activation.SIGMOID
    if not is_sigmoid or without.expression != add(constant(1.0), p, -1.0):
        raise ValueError(f"expected 1 - p and p, the sigmoid of one result, side by side, got axis {axis}")
    # They are the softmax of 0 and that result.
    pad = lambda array: graph.owned(np.pad(array, [(0, 0)] * (array.ndim - 1) + [(1, 0)]))
    present = {
        name: pad(getattr(base, name)) for name in ("weight", "bias", "offset") if getattr(base, name) is not None
    }
    return with_it._replace(base=base._replace(**present), expression=atom("Softmax", X))


def _gelu(expression, approximate):
    if approximate not in ("none", "tanh"):
        raise ValueError(f"approximate: expected 'none' or 'tanh', got {shown(approximate)}")
    return atom("Gelu" if approximate == "none" else "Gelu tanh", expression)


def clip(graph, node):
    # Attributes until opset 10, then inputs.
    given = attributes(node, min=-np.inf, max=np.inf)
    value, *ends = graph.inputs(node, 1, 3)
    value = still(usable(value))
    low, high = (
        end if array is None else _scalar(array, value) for end, array in zip(given.values(), ends, strict=True)
    )
    return value._replace(expression=clipped(value.expression, low, high))


def _scalar(array, value):
    numbers = fitting(array, value.dtype, value.base.features, "constant")
    if numbers.size != 1:
        raise ValueError(f"expected a single number, got shape {array.shape}")
    return float(numbers[0])


def binary(combine):
    """An operator on two expressions; a constant among them is a vector only where a layer has a place for it."""

    def operator(graph, node):
        attributes(node)
        left, right = graph.inputs(node, 2, 2)
        if isinstance(left, Value) and isinstance(right, Value):
            _same_base(still(usable(left)), still(usable(right)))
            return _combined(graph, left._replace(expression=combine(left.expression, right.expression)))
        first = isinstance(left, Value)
        value, array = (left, right) if first else (right, left)
        # Pixels may be scaled before they are flattened, by one number for all.
        value = usable(value, flattened=not isinstance(array, np.ndarray) or array.size != 1)
        if not isinstance(array, np.ndarray):
            raise ValueError(f"expected a constant beside the value, got {told(array)}")
        if array.size == 1 and not is_usual(float(array.reshape(()))):
            # No formula has such a number: it is one of the layer before, if that may have it.
            value = settled(graph, value)
        if _takes_vector(value, array, node.op_type, first):
            numbers = fitting(array, value.dtype, value.base.features, "constant")
            return _by_vector(graph, value, numbers, node.op_type, first)
        number = constant(_scalar(array, still(value)))
        pair = (value.expression, number) if first else (number, value.expression)
        return value._replace(expression=combine(*pair))

    return operator


def _combined(graph, value):
    """A value made of two; where its expression spells out layer normalisation, that of what was normalised."""
    normalized_value, eps = standard_score(value.expression)
    if normalized_value is None:
        return value
    columns = value.base.features
    if columns is None:
        raise ValueError("expected an input of known features where layer normalisation is spelled out")
    # Without memory until they are counted: a file may tell of any number of columns.
    scale, shift = (graph.owned(np.broadcast_to(value.dtype.type(number), columns)) for number in (1, 0))
    return _normalized_by_row(graph, value._replace(expression=normalized_value), scale, shift, eps)


def reduce_mean(graph, node):
    """The mean of each row, beside it: what layer normalisation is spelled out with."""
    # Axes are an attribute until opset 17, then an input.
    given = attributes(node, axes=list, keepdims=1, noop_with_empty_axes=0)
    value, axes = graph.inputs(node, 1, 2)
    if axes is None:
        axes = np.array(given["axes"] or [])
    if not isinstance(axes, np.ndarray) or axes.tolist() not in ([-1], [1]) or not given["keepdims"]:
        axes = shown(axes.tolist()) if isinstance(axes, np.ndarray) else told(axes)
        raise ValueError(f"expected a mean over the last axis, which is kept, got axes {axes}")
    value = still(usable(value))
    return value._replace(expression=atom("ReduceMean", value.expression))


def _same_base(*values):
    if any(value.base is not values[0].base for value in values):
        raise ValueError("expected values made of the same linear layer's result")


def _is_result(value):
    """Whether a value is a linear layer's result itself."""
    return isinstance(value.base, Linear) and value.expression == X and value.moved is None


def _takes_vector(value, array, operator, first):
    """Whether a constant is one number for each column, not a part of a formula; first: it stands behind the value."""
    if operator not in ("Add", "Sub", "Mul", "Div") or (operator == "Div" and not first):
        return False
    if array.size > 1 or value.moved is not None or (isinstance(value.base, Input) and value.expression == X):
        return True
    # A number that no formula has, beside a result alone.
    if _is_result(value) and array.size == 1 and not is_usual(float(array.reshape(()))):
        return True
    # (1,) of one column, where the layer has no bias yet.
    lacks_bias = _is_result(value) and value.base.normalization is None and value.base.bias is None
    return operator in ("Add", "Sub") and lacks_bias and array.ndim > 0 and value.base.features == 1


def _by_vector(graph, value, numbers, operator, first):
    """A value and one number for each column, or one for all."""
    if not np.isfinite(numbers).all():
        raise ValueError("expected finite numbers")
    if isinstance(value.base, Input):
        if value.base.features is None and numbers.size > 1:
            value = value._replace(base=value.base._replace(features=numbers.size))
        standardized = _standardized(graph, value, numbers, operator, first)
        if standardized:
            return standardized
    if operator in ("Add", "Sub"):
        minus = operator == "Sub"
        shift = graph.owned(-numbers) if minus and first else numbers
        return _affine(graph, value, np.array([-1.0]) if minus and not first else None, shift)
    if operator == "Div" and not numbers.all():
        raise ValueError("expected a divisor other than 0")
    return _affine(graph, value, numbers if operator == "Mul" else graph.owned(1 / numbers.astype(np.float64)), None)


def _affine(graph, value, factor, shift):
    """factor y + shift of a value y, in numbers of the layer that it is the result of, or of the one behind.

    factor and shift: arrays of a number for each column, or of one; None is 1, and 0.
    """
    value = settled(graph, value)
    return (_into_linear if _is_result(value) else _moved)(graph, value, factor, shift)


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
    owned = lambda array, result: graph.owned(_as_finite(array, result.astype(array.dtype)))
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


def _moved(graph, value, factor, shift):
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
    if parts.expression == X and not _is_result(bare):
        inside, outside = None, inside
    if inside is not None:
        if not _is_result(bare):
            return value
        value = value._replace(base=_into_linear(graph, bare, *map(np.atleast_1d, inside)).base)
    value = value._replace(expression=parts.expression)
    return value if outside is None else _scaled(graph, value, *outside)


def _scaled(graph, value, factor, shift):
    """A value whose factor and summand come before those that it has already."""
    before, plus = value.moved or (np.ones(1), np.zeros(1))
    return value._replace(moved=(graph.owned(before * factor), graph.owned(before * shift + plus)))


def _standardized(graph, value, numbers, operator, first):
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


def scaler(graph, node):
    """(x - offset) scale, scikit-learn's StandardScaler."""
    given = attributes(node, offset=tuple, scale=tuple)
    (value,) = graph.inputs(node, 1, 1)
    if not isinstance(usable(value).base, Input) or value.dtype != np.float32:
        raise ValueError(f"expected a FLOAT input of the graph, got {told(value)} of {value.dtype}")
    for operator, numbers in zip(("Sub", "Mul"), given.values(), strict=True):
        if numbers is not None:
            numbers = fitting(np.array(numbers, np.float32), value.dtype, value.base.features, operator)
            value = _by_vector(graph, value, numbers, operator, True)
    return value


def _clip_at(low):
    """Max or Min of an expression and a constant."""

    def combine(left, right):
        for expression, other in ((left, right), (right, left)):
            if all(monomial == () for monomial, _ in other):
                end = sum(number for _, number in other)
                return clipped(expression, *((end, np.inf) if low else (-np.inf, end)))
        raise ValueError("expected a constant beside the value")

    return combine


def _power(base, exponent):
    number = exponent[0][1] if len(exponent) == 1 and exponent[0][0] == () else 0
    if number not in range(1, HIGHEST_POWER + 1):
        raise ValueError(f"expected a constant exponent, 1 to {HIGHEST_POWER}, got {text(exponent)}")
    return power(base, int(number))


def pow_(graph, node):
    # The exponent may be of another type than the value.
    value, exponent = graph.inputs(node, 2, 2)
    attributes(node)
    if not isinstance(exponent, np.ndarray) or exponent.size != 1 or exponent.ndim > 1:
        raise ValueError(f"expected a constant exponent, one number, got {told(exponent)}")
    value = still(usable(value))
    return value._replace(expression=_power(value.expression, constant(float(exponent.reshape(())))))


def greater(graph, node):
    """What `where` takes as condition alone: its type is none of a network's."""
    attributes(node)
    value, number = graph.inputs(node, 2, 2)
    value = still(usable(value))
    return value._replace(expression=atom("Greater", value.expression, _scalar(number, value)), dtype=NO_FLOAT)


def where(graph, node):
    attributes(node)
    condition, *sides = graph.inputs(node, 3, 3)
    if not isinstance(condition, Value) or condition.dtype != NO_FLOAT or condition.expression == X:
        raise ValueError(f"expected a condition that Greater made, got {told(condition)}")
    values = [still(usable(side)) for side in sides if isinstance(side, Value)]
    if not values:
        raise ValueError("expected a value that depends on the input, got two constants")
    _same_base(condition, *values)
    left, right = (side.expression if isinstance(side, Value) else constant(_scalar(side, values[0])) for side in sides)
    return values[0]._replace(expression=chosen(condition.expression, left, right))


def identity(graph, node):
    attributes(node)
    return graph.inputs(node, 1, 1)[0]


def dropout(graph, node):
    attributes(node, ratio=0.5, seed=int)
    value, _, training = graph.inputs(node, 1, 3)
    if training is not None and not (isinstance(training, np.ndarray) and training.size == 1 and not training.any()):
        raise ValueError("training_mode: expected a constant, false")
    return value


def transpose(graph, node):
    axes = attributes(node, perm=list)["perm"]
    (array,) = graph.inputs(node, 1, 1)
    if not isinstance(array, np.ndarray) or array.ndim != 2 or axes not in (None, [1, 0]):
        raise ValueError("expected a constant of two axes to be transposed")
    return array.T


def cast(graph, node):
    to = attributes(node, to=int, saturate=1, round_mode="up")["to"]
    (value,) = graph.inputs(node, 1, 1)
    if isinstance(value, Sizes) and to == TensorProto.INT64:
        return value
    if isinstance(value, Sizes) or to not in FLOATS:
        raise ValueError(f"to: expected FLOAT or DOUBLE, got {type_name(to)}")
    dtype = FLOATS[to]
    if isinstance(value, np.ndarray):
        return value if value.dtype == dtype else graph.owned(value.astype(dtype))
    if value.dtype == dtype:
        return value
    base = value.base
    if isinstance(base, Input) and base.untouched and value.expression == X and value.moved is None:
        # fastnn too takes any numbers and makes them what the network has.
        return value._replace(base=base._replace(cast=True), dtype=dtype)
    if isinstance(base, Linear) and (value.dtype, dtype) == (np.float32, np.float64):
        return value._replace(dtype=dtype, widened=True)
    raise ValueError(f"expected a Cast of the input, or of a result to DOUBLE, got one from {value.dtype} to {dtype}")


_STANDARD = {
    "Add": binary(add),
    "BatchNormalization": batch_normalization,
    "Cast": cast,
    "Celu": unary(lambda e, alpha: atom("Celu", e, alpha), alpha=1.0),
    "Clip": clip,
    "Concat": concat,
    "Constant": lambda graph, node: constant_value(node),
    "Div": binary(divided),
    "Dropout": dropout,
    "Elu": unary(lambda e, alpha: atom("Elu", e, alpha), alpha=1.0),
    "Flatten": flatten,
    "Gather": gather,
    "Gelu": unary(_gelu, approximate="none"),
    "Gemm": gemm,
    "Greater": greater,
    "HardSigmoid": unary(lambda e, alpha, beta: atom("HardSigmoid", e, alpha, beta), alpha=0.2, beta=0.5),
    "Identity": identity,
    "LayerNormalization": layer_normalization,
    "LeakyRelu": unary(lambda e, alpha: atom("LeakyRelu", e, alpha), alpha=0.01),
    "LogSoftmax": softmax("LogSoftmax"),
    "MatMul": matmul,
    "Max": binary(_clip_at(True)),
    "Min": binary(_clip_at(False)),
    "Mul": binary(multiply),
    "Neg": unary(lambda e: scaled(e, -1.0)),
    "Pow": pow_,
    "ReduceMean": reduce_mean,
    "Relu": unary(lambda e: clipped(e, 0.0, np.inf)),
    "Reshape": reshape,
    "Selu": unary(lambda e, alpha, gamma: atom("Selu", e, alpha, gamma), alpha=1.6732632, gamma=1.050701),
    "Shape": shape_of,
    "Softmax": softmax("Softmax"),
    "Sub": binary(subtracted),
    "Swish": unary(lambda e, alpha: atom("Swish", e, alpha), alpha=1.0),
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Where": where,
} | {
    name: unary(lambda e, name=name: atom(name, e))
    for name in ("Erf", "Exp", "HardSwish", "Log", "Reciprocal", "Sigmoid", "Softplus", "Sqrt", "Tanh")
}

# By domain.
OPERATORS = {"": _STANDARD, "ai.onnx": _STANDARD, "ai.onnx.ml": {"Scaler": scaler}}
