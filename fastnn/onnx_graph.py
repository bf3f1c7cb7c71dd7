"""Dense networks out of ONNX graphs.

Node after node, each name gets what it stands for: an array, if it depends on constants alone, or a `Value`, which is
an expression (see `onnx_expressions`) in the result of the newest linear layer before it, or in the input. Where the
next linear layer takes it, or the graph ends, the expression must be one of fastnn's activations. What fits nowhere is
an error that names the node.
"""

import math

import numpy as np
from onnx import ValueInfoProto

from .arguments import shown
from .kernels.codes import Normalization
from .kernels.normalization import EPS
from .layer import Dense
from .onnx_expressions import FORMS, X
from .onnx_file import FLOATS, attributes, described, tensor_array, type_name
from .onnx_forms import ADAPTED, DOMAIN, FUNCTIONS
from .onnx_layers import normalized, unchanged
from .onnx_numbers import settled
from .onnx_operators import OPERATORS
from .onnx_values import NO_FLOAT, Input, Linear, Value, activation_of, still, told, unknown, usable
from .sequential import Sequential
from .standardize import Standardize

# Several nodes may share a tensor; so many times the bytes of the file may the arrays of all layers have.
MOST_SHARING = 16
# Elements of all weights that change nothing, behind whose results a file has what only a layer may have: 64 MB.
MOST_UNCHANGED = 1 << 24
_KINDS = {dtype: kind for kind, dtype in FLOATS.items()}


def network(model, size, output=None):
    """The `Sequential` that an `onnx.ModelProto`, which came in so many bytes, describes.

    output: the name of what it gives; None is the graph's one output.
    """
    # Numbers of a file may be of any size: what comes of them, comes of them elsewhere too.
    with np.errstate(all="ignore"):
        return _Graph(model, size, output).network()


class _Graph:
    def __init__(self, model, size, output):
        self._graph = model.graph
        self._functions = _own_functions(model)
        self._adapted = {entry.key: entry.value for entry in model.metadata_props}.items() >= ADAPTED.items()
        self._room, self._unchanged = MOST_SHARING * size, MOST_UNCHANGED
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        if len(self._tensors) != len(self._graph.initializer):
            raise ValueError("initializers: expected names of their own, got one twice")
        if self._graph.sparse_initializer:
            raise ValueError("initializers: expected dense tensors, got sparse ones")
        inputs = [info for info in self._graph.input if info.name not in self._tensors]
        if len(inputs) != 1:
            raise ValueError(f"inputs: expected one, got {len(inputs)}: {shown([info.name for info in inputs])}")
        self._output = self._output_named(output)
        try:
            kind, columns, self.batch = described(inputs[0], flattened=True)
        except ValueError as error:
            raise ValueError(f"input {shown(inputs[0].name)}: {error}") from error
        several = len(columns) > 1
        source = Input(math.prod(columns), axes=columns) if several else Input(columns[0])
        self._values = {inputs[0].name: Value(source, FLOATS.get(kind, NO_FLOAT))}

    def _output_named(self, name):
        """What the graph tells of the output with this name, or of its one output."""
        infos = list(self._graph.output)
        names = [info.name for info in infos]
        if name is None:
            if len(infos) != 1:
                raise ValueError(f"outputs: expected one, or output= with a name, got {len(infos)}: {shown(names)}")
            return infos[0]
        if name in names:
            return infos[names.index(name)]
        if not any(name in node.output[:1] for node in self._graph.node):
            expected = f"one of {shown(names)} or the name of a node's result"
            raise ValueError(f"output: expected {expected}, got {shown(name)}")
        return ValueInfoProto(name=name)

    def network(self):
        for node in self._needed():
            try:
                result = self._evaluate(node)
                for i, name in enumerate(node.output):
                    self._define(name, result if i == 0 else None)
            except ValueError as error:
                name = node.name or next(iter(node.output), "")
                raise ValueError(f"node {shown(name)}, {shown(node.op_type)[1:-1]}: {error}") from error
        try:
            return self._assembled(self._output)
        except ValueError as error:
            raise ValueError(f"output {shown(self._output.name)}: {error}") from error

    def _needed(self):
        """The nodes that lead to the output: exporters leave others behind."""
        names, nodes = {self._output.name}, []
        for node in reversed(self._graph.node):
            if not names.isdisjoint(filter(None, node.output)):
                names.update(node.input)
                nodes.append(node)
        return nodes[::-1]

    def _evaluate(self, node):
        if node.domain == DOMAIN:
            return self._called(node)
        operator = OPERATORS.get(node.domain, {}).get(node.op_type)
        if operator is None:
            what = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise ValueError(f"expected an operator of a dense network, see fastnn.onnx.load, got {shown(what)}")
        return operator(self, node)

    def _define(self, name, result):
        if not name:
            return
        if name in self._values or name in self._tensors:
            raise ValueError(f"expected an output with a name of its own, got {shown(name)} once more")
        self._values[name] = result

    def _named(self, name):
        """What a name stands for; None for an output that no operator of a dense network takes."""
        if name not in self._values:
            if name not in self._tensors:
                raise ValueError(f"expected the input, initializers or outputs of earlier nodes, got {shown(name)}")
            try:
                self._values[name] = tensor_array(self._tensors.pop(name))
            except ValueError as error:
                raise ValueError(f"initializer {shown(name)}: {error}") from error
        return self._values[name]

    def inputs(self, node, least, most):
        """The values and arrays of a node's inputs, None where one is left out, `most` in all."""
        names = list(node.input)
        if not least <= len(names) <= most or "" in names[:least]:
            count = f"{least}" if least == most else f"{least} to {most}"
            raise ValueError(f"expected {count} inputs, got {len(names)}: {shown(names)}")
        found = [self._named(name) if name else None for name in names]
        for name, value in zip(names, found, strict=True):
            if name and value is None:
                raise ValueError(f"expected inputs that are first outputs of a node, got {shown(name)}")
        return found + [None] * (most - len(names))

    def owned(self, array):
        """An array that a layer will have, counted."""
        self._room -= array.nbytes
        if self._room < 0:
            raise ValueError(f"expected layers of at most {MOST_SHARING} times the bytes of the file")
        return array

    def make_room_for_unchanged(self, columns, itemsize):
        """Allow for a layer that a file does not have, by which what no layer takes is taken over as it is."""
        self._unchanged -= columns**2
        if self._unchanged < 0:
            raise ValueError(
                f"expected {math.isqrt(MOST_UNCHANGED):,} columns at most without a layer, got {columns:,}"
            )
        # It may be scaled once.
        self._room += 3 * itemsize * columns**2

    def _called(self, node):
        """A function of fastnn's own, if the file has the body of it that is known."""
        attributes(node)
        if node.op_type not in self._functions:
            raise ValueError("expected a function of fastnn.onnx.save's, with the body that it has there")
        what, expected = FUNCTIONS[node.op_type]
        value, *vectors = self.inputs(node, len(expected.input), len(expected.input))
        value = usable(value)
        if value.dtype != np.float64:
            raise ValueError(f"expected a DOUBLE input, got {value.dtype}")
        if isinstance(what, Normalization):
            return normalized(self, value, what, vectors, EPS)
        return still(value)._replace(expression=FORMS[what][0]) if value.expression == X else unknown(value)

    def _assembled(self, info):
        """The layers that lead to the graph's output."""
        value = self._named(info.name)
        if value is None:
            raise ValueError("expected the first output of a node")
        value = settled(self, usable(value, widened=True))
        base = value.base
        if not isinstance(base, Linear):
            raise ValueError(f"expected the result of a linear layer, got {told(value)}")
        if value.moved is not None:
            base = unchanged(self, value._replace(dtype=base.weight.dtype, widened=False), base.features).base
            value = value._replace(base=base, expression=X, moved=None)
        # Some writers leave the type of an output to who reads it.
        untold = info.type.WhichOneof("value") is None
        kind, columns, _ = (_KINDS[value.dtype], (None,), None) if untold else described(info)
        if FLOATS.get(kind, NO_FLOAT) != value.dtype or columns[0] not in (None, base.features):
            expected = f"shape (batch, {base.features}) of {value.dtype}"
            raise ValueError(f"expected {expected}, got (batch, {columns[0]}) of {type_name(kind)}")
        activation, linears = activation_of(value), []
        while isinstance(base, Linear):
            linears.append((base, activation))
            base, activation = base.source, base.activation
        return _sequential(base, linears[::-1], self._adapted)


def _own_functions(model):
    """Names of the functions of `FUNCTIONS` that a file has, once and with the same body."""
    found = {}
    for function in model.functions:
        if function.domain == DOMAIN and function.name in FUNCTIONS:
            found.setdefault(function.name, []).append(function)
    return {name for name, bodies in found.items() if bodies == [FUNCTIONS[name][1]]}


def _sequential(source, linears, adapted):
    """adapted: what the file says of a `Standardize` that would be a new one by its numbers."""
    dtype = linears[0][0].weight.dtype
    layers = [
        Dense(*linear.weight.shape, activation, normalization=linear.normalization, weight_initializer="zeros")
        for linear, activation in linears
    ]
    if source.mean is not None or source.scale is not None:
        layers.insert(0, Standardize(source.features))
    result = Sequential(layers, dtype=dtype)
    if result.standardize is not None:
        # Whether 0 and 1 are learned other writers do not tell; whatever else is there, was.
        start = np.zeros(1, dtype), np.ones(1, dtype)
        given = (value if found is None else found for value, found in zip(start, source[1:3], strict=True))
        result.standardize._assign(*(np.broadcast_to(array, source.features) for array in given), adapted=adapted)
    for layer, (linear, _) in zip(result.layers[-len(linears) :], linears, strict=True):
        layer.weight = linear.weight
        terms = [term for term in (linear.bias, linear.offset) if term is not None]
        layer.bias = sum(terms) if terms else np.zeros(linear.features)
        for name, vector in zip(("scale", "shift", "running_mean", "running_variance"), linear.vectors, strict=False):
            setattr(layer, name, vector)
    return result
