"""ONNX's operators that are layers: matrix products, and normalizations of what they give."""

import numpy as np

from .kernels.codes import Normalization
from .kernels.normalization import EPS
from .onnx_file import attributes
from .onnx_numbers import affine, array_times, as_finite, into_input, into_next, is_result, settled
from .onnx_values import Input, Linear, Value, activation_of, fitting, told, usable


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
        weight = graph.owned(as_finite(weight, (factor[:, None] * weight).astype(weight.dtype)))
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
    result = linear(graph, value, array_times(graph, weight, given["alpha"]))
    if bias is None:
        return result
    bias = np.broadcast_to(fitting(bias, result.dtype, result.base.features, "C"), result.base.features)
    if given["beta"] == 0:
        # Of infinite numbers too nothing is left then.
        return result
    return result._replace(base=result.base._replace(bias=array_times(graph, bias, given["beta"])))


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
    joins = is_result(value) and value.base.normalization is None
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
        standardized = into_input(graph, value, mean, "Sub", True)
        standardized = standardized and into_input(graph, standardized, deviation.astype(value.dtype), "Div", True)
        if standardized:
            return into_next(graph, standardized, scale, shift)
    factor = graph.owned(scale / deviation)
    return affine(graph, value, factor, graph.owned(shift - mean * factor))


def _with_own_eps(graph, vectors, eps):
    """A batch normalization's vectors, with the variance that gives the same by fastnn's eps; None if there is none."""
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
    return normalized_by_row(graph, value, scale, shift, given["epsilon"])


def normalized_by_row(graph, value, scale, shift, eps):
    """Layer normalization of a value, with an epsilon that need not be fastnn's."""
    value = settled(graph, usable(value))
    # Who wrote 1e-5 of a float64 network meant no float32, which ONNX makes of it.
    if np.float32(eps) != np.float32(EPS):
        if not 0 < eps < np.inf:
            raise ValueError(f"epsilon: expected a finite number above 0, got {eps:g}")
        if not is_result(value) or value.base.normalization is not None:
            columns = fitting(scale, value.dtype, value.base.features, "scale").size
            value = unchanged(graph, value, value.base.features or columns)
        # A result times c has c^2 times the variance, and normalized with c^2 times the epsilon it is the same.
        value = affine(graph, value, np.sqrt([EPS / eps]), None)
    return normalized(graph, value, Normalization.LAYER, [scale, shift], EPS)
