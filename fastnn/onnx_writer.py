"""A model as an ONNX graph: a chain of Gemm, normalization and activation nodes over the model's own tensors."""

from importlib.metadata import version

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from .kernels.codes import Normalization
from .onnx_forms import ADAPTED, DOMAIN, DOMAIN_VERSION, IR_VERSION, OPSET, Formula, add_activation, add_normalization
from .standardize import Standardize

# A protobuf message ends at 2 GiB; 16 MiB are for all but the tensors.
MOST_BYTES = 2**31 - 2**24


def content(network):
    """The bytes of the file."""
    size = network.parameters.nbytes + network.statistics.nbytes
    if size > MOST_BYTES:
        raise ValueError(f"network: expected at most {MOST_BYTES} bytes of parameters, as ONNX files hold, got {size}")
    return model(network).SerializeToString(deterministic=True)


def model(network):
    """The `onnx.ModelProto` of a `Sequential`."""
    writer = _Writer(network.dtype)
    value = "x"
    for i, layer in enumerate(network.layers):
        output = "y" if layer is network.layers[-1] else f"layers.{i}.output"
        value = writer.add(f"layers.{i}.", layer, value, output)
    graph = helper.make_graph(
        writer.nodes,
        "fastnn",
        [writer.described("x", network.in_features)],
        [writer.described("y", network.out_features)],
        writer.initializers,
    )
    domains = [helper.make_opsetid("", OPSET)]
    if writer.functions:
        domains.append(helper.make_opsetid(DOMAIN, DOMAIN_VERSION))
    made = helper.make_model(
        graph,
        opset_imports=domains,
        ir_version=IR_VERSION,
        producer_name="fastnn",
        producer_version=version("fastnn"),
        functions=list(writer.functions.values()),
    )
    if network.standardize is not None and network.adapted:
        # Mean 0 and scale 1 alone would not tell.
        helper.set_model_props(made, ADAPTED)
    return made


class _Writer:
    def __init__(self, dtype):
        self._dtype = dtype
        self.nodes, self.initializers, self.functions = [], [], {}

    def described(self, name, features):
        kind = TensorProto.FLOAT if self._dtype == np.float32 else TensorProto.DOUBLE
        return helper.make_tensor_value_info(name, kind, ["batch", features])

    def add(self, prefix, layer, value, output):
        """Nodes of a layer, from the value of this name to that of the name `output`, which it returns."""
        formula = Formula(prefix)
        if isinstance(layer, Standardize):
            mean, scale = self._tensors(prefix, layer, "mean", "scale")
            formula("Div", formula("Sub", value, mean, output=f"{prefix}centred"), scale, output=output)
        else:
            self._add_dense(formula, prefix, layer, value, output)
        self.nodes += formula.nodes
        return output

    def _add_dense(self, formula, prefix, layer, value, output):
        activated = layer.activation != layer.activation.IDENTITY
        z = output if layer.normalization is None and not activated else f"{prefix}linear"
        formula("Gemm", value, *self._tensors(prefix, layer, "weight", "bias"), output=z)
        if layer.normalization is not None:
            names = ["scale", "shift"]
            if layer.normalization == Normalization.BATCH:
                names += ["running_mean", "running_variance"]
            normalized = f"{prefix}normalized" if activated else output
            inputs = [z, *self._tensors(prefix, layer, *names)]
            self._use(add_normalization(formula, inputs, layer.normalization, self._dtype, normalized))
            z = normalized
        if activated:
            self._use(add_activation(formula, z, layer.activation, self._dtype, output))

    def _use(self, function):
        if function is not None:
            self.functions[function.name] = function

    def _tensors(self, prefix, layer, *names):
        """Initializers with a layer's arrays; returns their names."""
        self.initializers += [numpy_helper.from_array(getattr(layer, name), f"{prefix}{name}") for name in names]
        return [f"{prefix}{name}" for name in names]
