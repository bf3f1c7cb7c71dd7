"""What activations and normalizations are in ONNX: standard operators, or functions that travel in the file.

ONNX Runtime has no float64 kernel of LeakyRelu, Elu, Selu, Softplus, Erf (which Gelu is made of), HardSigmoid and
HardSwish, and ONNX keeps attributes, epsilon among them, as float32. In float64 such a layer calls a function of the
domain "fastnn", whose body, of operators that have kernels, is in the model: runtimes put it in the place of the call.
`onnx_graph` reads back a call of a function that is, to the bit, the one made here.

A Formula's result is the name of what it works out, as x is.
"""

import math

import numpy as np
from onnx import helper, numpy_helper

from .kernels.activation import LEAKY_SLOPE, SELU_ALPHA, SELU_SCALE, SELU_SLOPE
from .kernels.codes import Activation, Normalization
from .kernels.normal import TAIL, TAIL_CENTRE, TAIL_END64, TAIL_SHIFT
from .kernels.normalization import EPS

# Gelu came with opset 20, of onnx 1.15, whose models have IR version 9. onnxruntime 1.17 was the first to read them;
# Gelu has a kernel of its own there since 1.18.
OPSET, IR_VERSION = 20, 9
DOMAIN, DOMAIN_VERSION = "fastnn", 1
# The metadata of a model whose `Standardize` has learned.
ADAPTED = {"fastnn.standardize": "adapted"}
# The limit of x s(x), s a sigmoid, at minus infinity comes out if x stops here, where s is 0.
FAR = 1000.0

OPERATORS = {
    Activation.RELU: ("Relu", {}),
    Activation.SIGMOID: ("Sigmoid", {}),
    Activation.TANH: ("Tanh", {}),
    Activation.SOFTMAX: ("Softmax", {"axis": -1}),
    Activation.LOG_SOFTMAX: ("LogSoftmax", {"axis": -1}),
}
FLOAT32_OPERATORS = {
    Activation.LEAKY_RELU: ("LeakyRelu", {"alpha": LEAKY_SLOPE}),
    Activation.ELU: ("Elu", {"alpha": 1.0}),
    Activation.SELU: ("Selu", {"alpha": SELU_ALPHA, "gamma": SELU_SCALE}),
    Activation.SOFTPLUS: ("Softplus", {}),
    Activation.GELU: ("Gelu", {"approximate": "none"}),
    Activation.GELU_TANH: ("Gelu", {"approximate": "tanh"}),
    Activation.HARDSIGMOID: ("HardSigmoid", {"alpha": 1 / 6, "beta": 0.5}),
    Activation.HARDSWISH: ("HardSwish", {}),
}


class Formula:
    """Nodes that work out something, one after the other; called with an operator it adds one and gives its output.

    A float among the inputs becomes a float64 constant.
    """

    def __init__(self, prefix=""):
        self.nodes, self._prefix = [], prefix

    def __call__(self, operator, *inputs, output=None, **attributes):
        names = [name if isinstance(name, str) else self.constant(np.float64(name)) for name in inputs]
        output = f"{self._prefix}{operator}_{len(self.nodes)}" if output is None else output
        self.nodes.append(helper.make_node(operator, names, [output], name=output, **attributes))
        return output

    def constant(self, value):
        return self("Constant", value=numpy_helper.from_array(np.asarray(value)))


# ---- Functions for float64


# max(x, 0.01 x)
def _leaky_relu(f, x):
    return f("Max", x, f("Mul", x, LEAKY_SLOPE))


# exp(x) - 1 = tanh(x / 2) (exp(x) + 1), which loses no digits near 0
def _expm1(f, x):
    return f("Mul", f("Tanh", f("Mul", x, 0.5)), f("Add", f("Exp", x), 1.0))


# max(x, 0) + expm1(min(x, 0))
def _elu(f, x):
    return f("Add", f("Max", x, 0.0), _expm1(f, f("Min", x, 0.0)))


# scale max(x, 0) + scale alpha expm1(min(x, 0))
def _selu(f, x):
    below = f("Mul", _expm1(f, f("Min", x, 0.0)), SELU_SLOPE)
    return f("Add", f("Mul", f("Max", x, 0.0), SELU_SCALE), below)


# max(x, 0) + log1p(e), e = exp(-|x|) ; log1p(e) = log(u) + (e - (u - 1)) / u, u = 1 + e as it is rounded
def _softplus(f, x):
    e = f("Exp", f("Neg", f("Abs", x)))
    u = f("Add", e, 1.0)
    rest = f("Div", f("Sub", e, f("Sub", u, 1.0)), u)
    return f("Add", f("Max", x, 0.0), f("Add", f("Log", u), rest))


# max(x, 0) - w normal_cdf(-w), w = |x|
# normal_cdf(-w) = exp(-w^2 / 2) P(v - centre) v, v = 1 / (w + shift), as in kernels/normal.py
def _gelu(f, x):
    w = f("Min", f("Abs", x), TAIL_END64)
    v = f("Reciprocal", f("Add", w, TAIL_SHIFT))
    centred = f("Sub", v, TAIL_CENTRE)
    p = f.constant(np.float64(TAIL[-1]))
    for coefficient in reversed(TAIL[:-1]):
        p = f("Add", f("Mul", p, centred), coefficient)
    tail = f("Mul", f("Exp", f("Mul", f("Mul", w, w), -0.5)), f("Mul", p, v))
    return f("Sub", f("Max", x, 0.0), f("Mul", w, tail))


# exp(min(x, 0)) / (1 + exp(-|x|)) ; ONNX Runtime's Sigmoid loses the digits of small results.
def _sigmoid(f, x):
    return f("Div", f("Exp", f("Min", x, 0.0)), f("Add", f("Exp", f("Neg", f("Abs", x))), 1.0))


# x sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
def _gelu_tanh(f, x):
    square = f("Mul", x, x)
    inner = f("Mul", x, f("Add", f("Mul", square, 0.044715), 1.0))
    return f("Mul", f("Max", x, -FAR), _sigmoid(f, f("Mul", inner, 2 * math.sqrt(2 / math.pi))))


# x sigmoid(x). Of Mul(x, Sigmoid(x)) onnxruntime 1.18 makes a QuickGelu, for which it has no float64 kernel.
def _silu(f, x):
    return f("Mul", f("Max", x, -FAR), _sigmoid(f, x))


# clip(x / 6 + 1/2, 0, 1)
def _hardsigmoid(f, x):
    return f("Clip", f("Add", f("Div", x, 6.0), 0.5), 0.0, 1.0)


# x hardsigmoid(x)
def _hardswish(f, x):
    return f("Mul", f("Max", x, -3.0), _hardsigmoid(f, x))


# scale (z - mean) / sqrt(variance + eps) + shift
def _batch(f, z, scale, shift, mean, variance):
    return _moved(f, f("Sub", z, mean), variance, scale, shift)


def _layer(f, z, scale, shift):
    last = f.constant(np.array([-1]))
    centred = f("Sub", z, f("ReduceMean", z, last))
    return _moved(f, centred, f("ReduceMean", f("Mul", centred, centred), last), scale, shift)


def _moved(f, centred, variance, scale, shift):
    normalized = f("Div", centred, f("Sqrt", f("Add", variance, EPS)))
    return f("Add", f("Mul", normalized, scale), shift)


def _function(name, inputs, body):
    formula = Formula()
    result = body(formula, *inputs)
    return helper.make_function(DOMAIN, name, inputs, [result], formula.nodes, [helper.make_opsetid("", OPSET)])


_BODIES = {
    Activation.LEAKY_RELU: _leaky_relu,
    Activation.ELU: _elu,
    Activation.SELU: _selu,
    Activation.SOFTPLUS: _softplus,
    Activation.GELU: _gelu,
    Activation.GELU_TANH: _gelu_tanh,
    Activation.SILU: _silu,
    Activation.HARDSIGMOID: _hardsigmoid,
    Activation.HARDSWISH: _hardswish,
}
# (what it computes, FunctionProto) by name. To change one, keep the old one for the reader, by a name of its own.
FUNCTIONS = {
    activation.name.lower(): (activation, _function(activation.name.lower(), ["x"], body))
    for activation, body in _BODIES.items()
} | {
    "batch_norm": (
        Normalization.BATCH,
        _function("batch_norm", ["z", "scale", "shift", "mean", "variance"], _batch),
    ),
    "layer_norm": (Normalization.LAYER, _function("layer_norm", ["z", "scale", "shift"], _layer)),
}


# ---- Nodes for a layer


def add_activation(formula, z, activation, dtype, output):
    """Nodes for y = f(z), the last with this output. Returns the function that they call, or None."""
    operators = OPERATORS if dtype == np.float64 else OPERATORS | FLOAT32_OPERATORS
    if activation == Activation.SILU and dtype == np.float32:
        formula("Mul", z, formula("Sigmoid", z), output=output)
    elif activation in operators:
        operator, attributes = operators[activation]
        formula(operator, z, output=output, **attributes)
    else:
        return _call(formula, activation.name.lower(), [z], output)
    return None


def add_normalization(formula, inputs, normalization, dtype, output):
    """Nodes that normalize inputs[0], with scale, shift and for "batch" mean and variance behind it; as above."""
    if dtype == np.float64:
        return _call(formula, f"{normalization.name.lower()}_norm", inputs, output)
    if normalization == Normalization.BATCH:
        formula("BatchNormalization", *inputs, output=output, epsilon=EPS)
    else:
        formula("LayerNormalization", *inputs, output=output, axis=-1, epsilon=EPS)
    return None


def _call(formula, name, inputs, output):
    formula(name, *inputs, output=output, domain=DOMAIN)
    return FUNCTIONS[name][1]
