"""What the tests of ONNX share: graphs as other writers make them, and what ONNX Runtime makes of them."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

import fastnn.onnx

TYPES = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}


def run(content, x, output=None):
    """What ONNX Runtime makes of x: the output of this name, or its one output."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    (result,) = session.run(output and [output], {given.name: x})
    return result


def tolerance(dtype, y, layers=2, terms=9):
    """Roundings of sums of so many terms in so many layers, twice, of numbers that are of the size of y or 1."""
    return 2 * layers * (terms + 1) * np.finfo(dtype).eps * max(1.0, np.abs(y).max())


class Graph:
    """A model of nodes ("Operator", inputs, output, attributes) from "x" to the last output, and constants by name."""

    def __init__(self, nodes, constants=None, *, dtype=np.float32, columns=(4, None), opset=17, **given):
        x, y = given.get("types", (TYPES[dtype], TYPES[dtype]))
        self.nodes = [
            helper.make_node(operator, inputs.split(), output.split(), name=f"node {i}", **(more[0] if more else {}))
            for i, (operator, inputs, output, *more) in enumerate(nodes)
        ]
        constants = {name: np.asarray(value) for name, value in (constants or {}).items()}
        for name, value in constants.items():
            constants[name] = value.astype(dtype) if value.dtype.kind == "f" else value
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", x, ["n", columns[0]])],
            [helper.make_tensor_value_info(nodes[-1][2].split()[0], y, ["n", columns[1]])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        domains = [helper.make_opsetid("", opset), helper.make_opsetid("ai.onnx.ml", 1)]
        self.model = helper.make_model(graph, opset_imports=domains, ir_version=8)

    def load(self, path):
        # A new file: some file systems wait for the disk where an old one is written anew.
        path.unlink(missing_ok=True)
        path.write_bytes(self.model.SerializeToString())
        return fastnn.onnx.load(path)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed + sum(shape)).normal(size=shape)


W, W2, B, B2 = numbers(4, 3), numbers(3, 2), numbers(3), numbers(2)
CONSTANTS = {
    "w": W,
    "b": B,
    "v": W2,
    "c": B2,
    "wt": W.T,
    "vt": W2.T,
    "b1": B[None],
    "mean": numbers(4),
    "dev": [1, 2, 3, 4.0],
}
NORM = {"s": numbers(3, seed=5), "t": numbers(3, seed=6), "m": numbers(3, seed=7), "var": [0.5, 1.0, 2.0]}
GEMM = ("Gemm", "x w b", "z")
END = ("Gemm", "h v c", "y")
