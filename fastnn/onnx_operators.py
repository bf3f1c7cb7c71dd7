"""ONNX's operators, as far as dense networks use them: functions of (graph, node) that give what the first output is.

The result is an array where a node depends on constants alone, and a `Value` where it depends on the input. What an
operator would make that no dense network has is a ValueError.
"""

import numpy as np
from onnx import TensorProto

from .arguments import shown
from .kernels.codes import Activation
from .onnx_expressions import (
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
    recognized,
    scaled,
    standard_score,
    subtracted,
    text,
)
from .onnx_file import FLOATS, attributes, constant_value, type_name
from .onnx_layers import batch_normalization, gemm, layer_normalization, matmul, normalized_by_row
from .onnx_numbers import by_vector, settled, takes_vector
from .onnx_shapes import flatten, gather, joined, reshape, shape_of, unsqueeze
from .onnx_values import NO_FLOAT, Input, Linear, Sizes, Value, fitting, still, told, usable

HIGHEST_POWER = 4


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
    is_sigmoid = one_result and recognized(p, with_it.dtype) == Activation.SIGMOID
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
        if takes_vector(value, array, node.op_type, first):
            numbers = fitting(array, value.dtype, value.base.features, "constant")
            return by_vector(graph, value, numbers, node.op_type, first)
        number = constant(_scalar(array, still(value)))
        pair = (value.expression, number) if first else (number, value.expression)
        return value._replace(expression=combine(*pair))

    return operator


def _combined(graph, value):
    """A value made of two; where its expression spells out layer normalization, that of what was normalized."""
    normalized_value, eps = standard_score(value.expression)
    if normalized_value is None:
        return value
    columns = value.base.features
    if columns is None:
        raise ValueError("expected an input of known features where layer normalization is spelled out")
    # Without memory until they are counted: a file may tell of any number of columns.
    scale, shift = (graph.owned(np.broadcast_to(value.dtype.type(number), columns)) for number in (1, 0))
    return normalized_by_row(graph, value._replace(expression=normalized_value), scale, shift, eps)


def reduce_mean(graph, node):
    """The mean of each row, beside it: what layer normalization is spelled out with."""
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


def scaler(graph, node):
    """(x - offset) scale, scikit-learn's StandardScaler."""
    given = attributes(node, offset=tuple, scale=tuple)
    (value,) = graph.inputs(node, 1, 1)
    if not isinstance(usable(value).base, Input) or value.dtype != np.float32:
        raise ValueError(f"expected a FLOAT input of the graph, got {told(value)} of {value.dtype}")
    for operator, numbers in zip(("Sub", "Mul"), given.values(), strict=True):
        if numbers is not None:
            numbers = fitting(np.array(numbers, np.float32), value.dtype, value.base.features, operator)
            value = by_vector(graph, value, numbers, operator, True)
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
