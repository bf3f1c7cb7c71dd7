"""ONNX's operators on shapes, as far as they lead to a Flatten or Reshape that leaves (batch, features) as it is.

Exporters write x.view(x.size(0), -1) as Shape, Gather, Unsqueeze and Concat before a Reshape.
"""

import numpy as np

from .arguments import shown
from .onnx_file import attributes
from .onnx_values import BATCH, Input, Sizes, Value, told


def _axes_of(value):
    """The sizes of a value's axes behind the batch."""
    several = value.base.axes if isinstance(value.base, Input) else None
    return several or (value.base.features,)


def _with_one_axis(value):
    several = isinstance(value.base, Input) and value.base.axes is not None
    return value._replace(base=value.base._replace(axes=None)) if several else value


def flatten(graph, node):
    axis = attributes(node, axis=1)["axis"]
    (value,) = graph.inputs(node, 1, 1)
    if not isinstance(value, Value) or axis not in (1, -len(_axes_of(value))):
        raise ValueError(f"expected (batch, ...) flattened at axis 1, got axis {axis}")
    return _with_one_axis(value)


def shape_of(graph, node):
    """What reshape takes alone, through what picks and joins its numbers."""
    given = attributes(node, start=0, end=int)
    (value,) = graph.inputs(node, 1, 1)
    if not isinstance(value, Value) or None in _axes_of(value):
        raise ValueError("expected a value of known shape")
    return Sizes(np.array([BATCH, *_axes_of(value)])[given["start"] : given["end"]])


def _sizes(*arrays):
    """Arrays of at most one axis of whole numbers, some of them of a shape."""
    found = [array.numbers if isinstance(array, Sizes) else array for array in arrays]
    for array, numbers in zip(arrays, found, strict=True):
        if not isinstance(numbers, np.ndarray) or numbers.dtype.kind != "i" or numbers.ndim > 1:
            raise ValueError(f"expected sizes of a shape and whole numbers, got {told(array)}")
    return found


def gather(graph, node):
    axis = attributes(node, axis=0)["axis"]
    array, indices = _sizes(*graph.inputs(node, 2, 2))
    inside = (indices >= -array.size) & (indices < array.size)
    if axis not in (0, -1) or array.ndim != 1 or not inside.all():
        got = f"{shown(indices.tolist())}, axis {axis}"
        raise ValueError(f"expected indices of {array.size} numbers, axis 0, got {got}")
    return Sizes(np.asarray(array[indices]))


def unsqueeze(graph, node):
    # An attribute until opset 12, then an input.
    axes = attributes(node, axes=list)["axes"]
    array, *given = _sizes(*filter(lambda found: found is not None, graph.inputs(node, 1, 2)))
    axes = given[0].tolist() if given else axes
    if array.ndim or axes not in ([0], [-1], 0, -1):
        raise ValueError(f"expected one number to become (1,), got {array.ndim} axes and axes={shown(axes)}")
    return Sizes(array.reshape(1))


def joined(graph, node):
    axis = attributes(node, axis=int)["axis"]
    arrays = _sizes(*graph.inputs(node, 1, len(node.input)))
    if axis not in (0, -1) or any(array.ndim != 1 for array in arrays):
        raise ValueError(f"expected lists of numbers joined at axis 0, got axis {axis}")
    return Sizes(np.concatenate(arrays))


def reshape(graph, node):
    given = attributes(node, allowzero=0)
    value, shape = graph.inputs(node, 2, 2)
    if not isinstance(value, Value) or not isinstance(shape, np.ndarray | Sizes) or value.base.features is None:
        raise ValueError("expected a value of known shape and a constant shape")
    shape = shape.numbers if isinstance(shape, Sizes) else shape
    n = value.base.features
    same = [[-1, n], [BATCH, n], [BATCH, -1], *([] if given["allowzero"] else [[0, n], [0, -1]])]
    if not given["allowzero"] and len(_axes_of(value)) == 1:
        same += [[0, 0], [-1, 0]]
    if graph.batch is not None:
        # Exporters write the batch that they have seen.
        same += [[graph.batch, n], [graph.batch, -1]]
    if shape.ndim != 1 or shape.size != 2 or shape.tolist() not in same:
        raise ValueError(f"expected a shape that changes nothing, as {same[0]}, got {shown(shape.tolist())}")
    return _with_one_axis(value)
