"""ONNX Runtime: inference alone."""

import os

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from work import activations_of, data

from . import Case

OPERATORS = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "gelu": "Gelu"}


def versions():
    return f"onnxruntime {onnxruntime.__version__}"


def session(work, x, weights, biases):
    nodes, constants, name = [], [], "x"
    if work.kind == "activation":
        nodes.append(helper.make_node(OPERATORS[work.activation], ["x"], ["y"]))
        result = list(x.shape)
    else:
        for i, (w, b, activation) in enumerate(zip(weights, biases, activations_of(work), strict=True)):
            constants += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
            nodes.append(helper.make_node("Gemm", [name, f"w{i}", f"b{i}"], [f"z{i}"]))
            name = f"z{i}"
            if activation in OPERATORS:
                nodes.append(helper.make_node(OPERATORS[activation], [name], [f"a{i}"]))
                name = f"a{i}"
        nodes[-1].output[0] = "y"
        result = [work.rows, work.sizes[-1]]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(x.shape))]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, result)]
    graph = helper.make_graph(nodes, "work", inputs, outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def cases(work):
    if work.kind == "train":
        return {}
    x, _, weights, biases = data(work)
    run = session(work, x, weights, biases)
    out = np.empty(x.shape if work.kind == "activation" else (work.rows, work.sizes[-1]), np.float32)
    binding = run.io_binding()
    binding.bind_cpu_input("x", x)
    value = onnxruntime.OrtValue.ortvalue_from_numpy(out)
    binding.bind_ortvalue_output("y", value)
    return {
        "run": Case(lambda: run.run(None, {"x": x}), lambda: run.run(None, {"x": x})[0]),
        "bound": Case(lambda: run.run_with_iobinding(binding), lambda: value.numpy()),
    }
