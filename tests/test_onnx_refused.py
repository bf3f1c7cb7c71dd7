"""ONNX files that are no dense network, or not what they claim: an error that names the place, in bounded memory."""

import os
import sys

import numpy as np
import onnx
import pytest
from conftest import FULL
from onnx import TensorProto, numpy_helper
from onnx_graphs import CONSTANTS, GEMM, NORM, B, Graph, W

import fastnn
import fastnn.onnx
from fastnn import onnx_file, onnx_writer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "other.onnx"


REFUSED = {
    "another operator": (
        [("Conv", "x w", "y")],
        "node 'node 0', Conv: expected an operator of a dense network, .*'Conv'",
    ),
    "a domain": ([("Gemm", "x w b", "y", {"domain": "com.microsoft"})], r"node 0.*got 'com\.microsoft\.Gemm'"),
    "transA": ([("Gemm", "x w b", "y", {"transA": 1})], "Gemm: transA: expected 0, got 1"),
    "an unknown attribute": (
        [("Gemm", "x w b", "y", {"gamma": 1})],
        "Gemm: expected attributes alpha, .*, got 'gamma'",
    ),
    "an attribute's type": ([("Gemm", "x w b", "y", {"alpha": 1})], "Gemm: alpha: expected a value of type FLOAT"),
    "a matrix of biases": ([("Gemm", "x w w", "y")], r"Gemm: C: expected shape \(3,\), got \(4, 3\)"),
    "a weight that does not fit": ([("Gemm", "x v", "y")], r"expected a weight of 4 rows, got shape \(3, 2\)"),
    "a weight of one axis": (
        [("MatMul", "x b", "y")],
        r"MatMul: expected a constant weight of shape .*, got .* \(3,\)",
    ),
    "no constant weight": ([("MatMul", "x x", "y")], "MatMul: expected a constant weight .*, got the input"),
    "a constant first": (
        [("MatMul", "w x", "y")],
        "MatMul: expected a value that depends on the input, got a constant",
    ),
    "a vector over the result": ([GEMM, ("Div", "b z", "y")], r"Div: expected a single number, got shape \(3,\)"),
    "a vector in a formula": (
        [GEMM, ("Sigmoid", "z", "q"), ("Mul", "q b", "h"), ("Mul", "h z", "y")],
        "Mul: expected a value that a linear layer does not have to take first",
    ),
    "a slope": (
        [GEMM, ("LeakyRelu", "z", "y", {"alpha": 0.2})],
        r"output 'y': .*, got LeakyRelu\(x, 0.2\) with x a linear",
    ),
    "alpha of elu": ([GEMM, ("Elu", "z", "y", {"alpha": 2.0})], r"got Elu\(x, 2\)"),
    "ONNX's default hardsigmoid": ([GEMM, ("HardSigmoid", "z", "y")], r"got HardSigmoid\(x, 0.2, 0.5\)"),
    "an activation of the input": (
        [("Relu", "x", "a"), ("Gemm", "a w b", "y")],
        "Gemm: expected one of .* with x the input",
    ),
    "a skip connection": (
        [GEMM, ("Relu", "z", "r"), ("Add", "r z", "y")],
        r"got x \+ Clip\(x, 0, inf\)|got .*Clip.* \+ x",
    ),
    "two layers added": (
        [GEMM, ("Gemm", "x w b", "q"), ("Add", "q z", "y")],
        "Add: expected values made of the same linear",
    ),
    "activations of activations": ([GEMM, ("Tanh", "z", "r"), ("Tanh", "r", "y")], r"got Tanh\(Tanh\(x\)\)"),
    "softmax over the batch": ([GEMM, ("Softmax", "z", "y", {"axis": 0})], "Softmax: axis: expected the last, got 0"),
    "quick gelu": ([GEMM, ("Mul", "z k", "a"), ("Sigmoid", "a", "q"), ("Mul", "z q", "y")], "expected one of fastnn's"),
    "rounding by adding": (
        [GEMM, ("Add", "z big", "a"), ("Sub", "a big", "y")],
        "Sub: expected summands that do not cancel",
    ),
    "rounding by adding behind an activation": (
        [GEMM, ("Relu", "z", "r"), ("Add", "r big", "a"), ("Sub", "a big", "h"), ("Gemm", "h v c", "y")],
        "Add: expected 0 or a number of size 1e-06",
    ),
    "rounding by adding a vector": (
        [GEMM, ("Relu", "z", "r"), ("Add", "r bigs", "a"), ("Sub", "a bigs", "h"), ("Gemm", "h v c", "y")],
        "Sub: expected summands that do not cancel",
    ),
    "an infinite factor": ([GEMM, ("Mul", "z infs", "y")], "Mul: expected finite numbers"),
    "an infinite alpha": ([("Gemm", "x w b", "y", {"alpha": np.inf})], "Gemm: expected finite numbers that stay so"),
    "a divisor of next to nothing": ([GEMM, ("Div", "z tinies", "y")], "Div: expected finite numbers that stay so"),
    "an image that nothing flattens": (
        [("Shape", "x", "q"), ("Gather", "q q", "r"), ("Reshape", "x r", "a"), ("Gemm", "a w b", "y")],
        "Gather: expected indices of 2 numbers",
    ),
    "a shape as weight": (
        [("Shape", "x", "q"), ("Cast", "q", "r", {"to": 1}), ("Gemm", "x r b", "y")],
        "Cast: to: expected FLOAT",
    ),
    "a shape as a summand": (
        [("Shape", "x", "q"), ("Gemm", "x w b", "z"), ("Add", "z q", "y")],
        "Add: expected a constant beside the value, got the sizes of a shape",
    ),
    "features in the place of the batch": (
        [("Shape", "x", "q"), ("Gather", "q turned", "r"), ("Reshape", "x r", "a"), ("Gemm", "a w b", "y")],
        "Reshape: expected a shape that changes nothing",
    ),
    "cancelling": ([GEMM, ("Sub", "z z", "y")], "Sub: expected a formula whose terms do not cancel"),
    "a long formula": (
        [GEMM, ("Pow", "z four", "a"), *[("Mul", f"{p} {p}", q) for p, q in ("ad", "de", "ef", "fg", "gy")]],
        "Mul: expected a formula of at most 64 factors",
    ),
    "a division by 0": ([GEMM, ("Div", "z nil", "y")], "Div: expected a divisor other than 0"),
    "training": (
        [GEMM, ("BatchNormalization", "z s t m var", "y", {"training_mode": 1})],
        "training_mode: expected 0, got 1",
    ),
    "training, as until opset 13": (
        [GEMM, ("BatchNormalization", "z s t m var", "y mean2 var2 mean3 var3")],
        "BatchNormalization: expected one output, as of a network in use, got 5",
    ),
    "epsilon of layers": (
        [GEMM, ("LayerNormalization", "z s t", "y", {"epsilon": 0.0})],
        "epsilon: expected a finite number above 0, got 0",
    ),
    "a division of the input by 0": (
        [("Div", "x nil", "a"), ("Gemm", "a w b", "y")],
        "Div: expected a divisor other than 0",
    ),
    "a division by the input": (
        [("Div", "k x", "a"), ("Gemm", "a w b", "y")],
        r"Gemm: expected one of .* got 1.702 Reciprocal\(x\) with x the input",
    ),
    "a reshape": (
        [GEMM, ("Reshape", "z shape", "y")],
        r"Reshape: expected a shape that changes nothing, as \[-1, 3\], got",
    ),
    "a flattening": ([GEMM, ("Flatten", "z", "y", {"axis": 0})], "Flatten: expected .* at axis 1, got axis 0"),
    "a transposed value": ([GEMM, ("Transpose", "z", "y")], "Transpose: expected a constant of two axes"),
    "dropping": ([GEMM, ("Dropout", "z k on", "y")], "Dropout: training_mode: expected a constant, false"),
    "half precision": ([GEMM, ("Cast", "z", "y", {"to": 10})], "Cast: to: expected FLOAT or DOUBLE, got FLOAT16"),
    "more behind a cast": (
        [GEMM, ("Cast", "z", "a", {"to": 11}), ("Relu", "a", "y")],
        "Relu: expected nothing behind a Cast",
    ),
    "a cast condition": (
        [GEMM, ("Greater", "z k", "g"), ("Cast", "g", "y", {"to": 11})],
        "Cast: expected a Cast of the input",
    ),
    "a condition of no Greater": ([GEMM, ("Where", "z z z", "y")], "Where: expected a condition that Greater made"),
    "a condition of constants": (
        [GEMM, ("Greater", "z k", "g"), ("Where", "g k k", "y")],
        "Where: expected a value that depends on the input, got two constants",
    ),
    "a Constant of nothing": ([("Constant", "", "y")], "Constant: expected one attribute, got 0"),
    "a Constant of text": (
        [("Constant", "", "y", {"value_string": "a"})],
        "Constant: expected one of .*'value_string'",
    ),
    "a vector of one": (
        [GEMM, ("BatchNormalization", "z one t m var", "y")],
        r"BatchNormalization: expected vectors of 3 numbers, got \[1, 3, 3, 3\]",
    ),
    "a mean over the batch": (
        [GEMM, ("ReduceMean", "z", "y", {"axes": [0]})],
        r"ReduceMean: expected a mean over the last axis, which is kept, got axes \[0\]",
    ),
    "a mean that loses its axis": (
        [GEMM, ("ReduceMean", "z", "y", {"axes": [1], "keepdims": 0})],
        "ReduceMean: expected a mean over the last axis, which is kept",
    ),
    "a mean over what is not constant": (
        [GEMM, ("ReduceMean", "z z", "y")],
        "ReduceMean: expected a mean over the last",
    ),
    "a mean": (
        [GEMM, ("ReduceMean", "z", "y", {"axes": [1]})],
        r"output 'y': expected one of .* got ReduceMean\(x\) with x a linear layer's result",
    ),
    "the variance of something else": (
        [
            GEMM,
            ("ReduceMean", "z", "p", {"axes": [1]}),
            ("Sub", "z p", "d"),
            ("Tanh", "z", "e"),
            ("Mul", "e e", "f"),
            ("ReduceMean", "f", "g", {"axes": [1]}),
            ("Add", "g k", "q"),
            ("Sqrt", "q", "r"),
            ("Div", "d r", "y"),
        ],
        "output 'y': expected one of fastnn's activations",
    ),
    "a mean divided by nothing": (
        [
            GEMM,
            ("ReduceMean", "z", "p", {"axes": [1]}),
            ("Sub", "z p", "d"),
            ("Mul", "z nil", "q"),
            ("Reciprocal", "q", "r"),
            ("Mul", "d r", "y"),
        ],
        "output 'y': expected one of fastnn's activations",
    ),
    "a variance without an epsilon": (
        [
            GEMM,
            ("ReduceMean", "z", "p", {"axes": [1]}),
            ("Sub", "z p", "d"),
            ("Mul", "d d", "f"),
            ("ReduceMean", "f", "g", {"axes": [1]}),
            ("Sqrt", "g", "r"),
            ("Div", "d r", "y"),
        ],
        "output 'y': expected one of fastnn's activations",
    ),
    "an axis of layers": ([GEMM, ("LayerNormalization", "z s t", "y", {"axis": 0})], "axis: expected the last, got 0"),
    "another gelu": ([GEMM, ("Gelu", "z", "y", {"approximate": "erf"})], "approximate: expected 'none' or 'tanh', got"),
    "ends of a vector": ([GEMM, ("Clip", "z b", "y")], r"Clip: expected a single number, got shape \(3,\)"),
    "a bias that is no constant": ([("Gemm", "x w x", "y")], "Gemm: C: expected a constant of float32, got a value"),
    "a reshaped constant": ([("Reshape", "w shape", "y")], "Reshape: expected a value of known shape and a constant"),
    "a late Scaler": (
        [GEMM, ("Scaler", "z", "y", {"domain": "ai.onnx.ml"})],
        "Scaler: expected a FLOAT input of the graph, got a linear layer's result of float32",
    ),
    "a product of long sums": (
        [
            *(
                GEMM,
                ("Exp", "z", "d"),
                ("Tanh", "z", "q"),
                ("Add", "d q", "e"),
                ("Add", "e z", "f"),
                ("Add", "f k", "g"),
            ),
            ("Pow", "g four", "y"),
        ],
        "Pow: expected a formula of at most 64 factors",
    ),
    "a cycle": (
        [("Add", "q b", "z"), ("Gemm", "z v", "q"), GEMM],
        "Add: expected the input, .* or outputs of earlier .* 'q'",
    ),
    "no initializer": ([("Gemm", "x nothing b", "y")], "Gemm: expected the input, initializers or .*, got 'nothing'"),
    "too few inputs": ([("Gemm", "x", "y")], r"Gemm: expected 2 to 3 inputs, got 1: \['x'\]"),
    "too many inputs": ([GEMM, ("Relu", "z z", "y")], "Relu: expected 1 inputs, got 2"),
    "a second output": (
        [GEMM, ("Dropout", "z", "a mask"), ("Relu", "mask", "y")],
        "Relu: expected .* first outputs .* 'mask'",
    ),
    "a second output at the end": (
        [GEMM, ("Dropout", "z", "a mask"), ("Identity", "mask", "y")],
        "Identity: expected .* first outputs .* 'mask'",
    ),
    "a name twice": ([GEMM, ("Relu", "z", "z")], "Relu: expected an output with a name of its own, got 'z' once more"),
    "a constant's name": ([("Relu", "x", "w")], "Relu: expected an output with a name of its own, got 'w' once more"),
    "a float64 weight": ([("Gemm", "x w64", "y")], "Gemm: expected a weight of float32, got float64"),
    "a weight of whole numbers": ([("Gemm", "x whole", "y")], "Gemm: expected a weight of float32, got int64"),
    "no layer": ([("Identity", "x", "y")], "output 'y': expected the result of a linear layer, got the input"),
    "a constant result": ([("Identity", "w", "y")], "expected a value that depends on the input, got a constant"),
    "a function of one's own": (
        [("elu", "x", "y", {"domain": "fastnn"})],
        "elu: expected a function of fastnn.onnx.save's",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_name(name, path):
    nodes, message = REFUSED[name]
    more = {
        "k": 1.702, "one": [1.0], "big": 2.0**23, "four": 4.0, "nil": 0.0, "bigs": np.full(3, 2.0**23),
        "infs": [np.inf, 1.0, 1.0], "tinies": [1e-40, 1.0, 1.0], "turned": np.array([1, 0]),
        "on": np.array(True), "shape": np.array([3, -1]), "whole": np.ones((4, 3), np.int64),
    }  # fmt: skip
    graph = Graph(nodes, CONSTANTS | NORM | more)
    graph.model.graph.initializer.append(numpy_helper.from_array(W, "w64"))
    with pytest.raises(ValueError, match=message) as caught:
        graph.load(path)
    assert str(caught.value).startswith(f"{path}: ")


def set_shape(tensor, *dims):
    del tensor.dims[:]
    tensor.dims.extend(dims)


def external(model, location="/etc/hostname"):
    tensor = model.graph.initializer[0]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    tensor.ClearField("raw_data")


def shared(model):
    """A hundred thousand layers over one weight."""
    for i in range(100_000):
        model.graph.node.add(op_type="Gemm", input=[f"q{i}" if i else "x", "big"], output=[f"q{i + 1}"])
    model.graph.initializer.append(numpy_helper.from_array(np.ones((400, 400), np.float32), "big"))
    del model.graph.node[0]
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 400
    model.graph.output[0].name = "q100000"


WRONG_FILES = {
    "external data": (external, "Gemm: initializer 'w': expected a tensor in the file, got external data"),
    "a huge shape": (
        lambda m: set_shape(m.graph.initializer[0], 2**40, 2**40),
        "'w': expected 1208925819614629174706176 num",
    ),
    "an empty shape": (
        lambda m: set_shape(m.graph.initializer[0], 0, 2**62),
        "expected 0 numbers for shape .*, got 12",
    ),
    "a negative shape": (lambda m: set_shape(m.graph.initializer[0], -4, -3), r"axes of at least 0, got \(-4, -3\)"),
    "many axes": (lambda m: set_shape(m.graph.initializer[0], *[1] * 1000), "'w': expected at most 8 axes"),
    "half a number": (
        lambda m: setattr(m.graph.initializer[0], "raw_data", b"abc"),
        "expected 12 numbers .*, got 0.75",
    ),
    "a dtype": (
        lambda m: setattr(m.graph.initializer[0], "data_type", 16),
        "'w': expected a tensor of FLOAT, .* got BFLOAT16",
    ),
    "no dtype": (
        lambda m: setattr(m.graph.initializer[0], "data_type", 10**6),
        "'w': expected a tensor of .* got 1000000",
    ),
    "a segment": (lambda m: m.graph.initializer[0].segment.SetInParent(), "expected a whole tensor, got a segment"),
    "one weight for all": (shared, "Gemm: expected layers of at most 16 times the bytes of the file"),
    "no graph": (lambda m: m.ClearField("graph"), "not a whole ONNX file: it has no graph"),
    "no opset": (lambda m: m.ClearField("opset_import"), r"opset_import: expected one version .*, 7 to 28, got \[\]"),
    "an old opset": (lambda m: setattr(m.opset_import[0], "version", 6), r"7 to 28, got \[6\]"),
    "a new opset": (lambda m: setattr(m.opset_import[0], "version", 2**40), r"7 to 28, got \[1099511627776\]"),
    "an initializer twice": (
        lambda m: m.graph.initializer.append(m.graph.initializer[0]),
        "initializers: expected names of",
    ),
    "a sparse tensor": (lambda m: m.graph.sparse_initializer.add(), "initializers: expected dense tensors"),
    "no input": (lambda m: m.graph.ClearField("input"), r"inputs: expected one, got 0: \[\]"),
    "two outputs": (
        lambda m: m.graph.output.append(m.graph.output[0]),
        r"outputs: expected one, or output= with a name, got 2: \['z', 'z'\]",
    ),
    "an image": (
        lambda m: m.graph.input[0].type.tensor_type.shape.dim.add(dim_value=3),
        r"Gemm: expected \(batch, features\), got shape \('batch', 4, 3\) that nothing flattened",
    ),
    "a text": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", 8),
        "expected a tensor of numbers, got STRING",
    ),
    "a sequence": (lambda m: m.graph.input[0].type.sequence_type.SetInParent(), "tensor of numbers, got sequence_type"),
    "columns of the input": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_value", 5),
        "5 rows, got",
    ),
    "columns of the output": (
        lambda m: setattr(m.graph.output[0].type.tensor_type.shape.dim[1], "dim_value", 5),
        r"output 'z': expected shape \(batch, 3\) of float32, got \(batch, 5\) of FLOAT",
    ),
    "the output's type": (
        lambda m: setattr(m.graph.output[0].type.tensor_type, "elem_type", 11),
        "of float32, got .* DOUBLE",
    ),
    "an output of nothing": (lambda m: setattr(m.graph.output[0], "name", "?"), "expected the input, initializers or"),
}


@pytest.mark.parametrize("name", WRONG_FILES)
def test_wrong_files(name, path):
    change, message = WRONG_FILES[name]
    graph = Graph([GEMM], {"w": W, "b": B})
    change(graph.model)
    with pytest.raises(ValueError, match=message):
        graph.load(path)


def test_no_other_file_is_opened(path):
    """Not the one that external data name, though it is there and has what they promise."""
    path.with_name("data").write_bytes(np.float32(W).tobytes())
    graph = Graph([GEMM], {"w": W, "b": B})
    external(graph.model, "data")
    path.write_bytes(graph.model.SerializeToString())
    onnx.load(path)
    opened, watching = [], True

    def watch(event, arguments):
        if watching and event == "open":
            opened.append(os.fspath(arguments[0]))

    sys.addaudithook(watch)
    with pytest.raises(ValueError, match="external data"):
        fastnn.onnx.load(path)
    watching = False
    assert opened == [str(path)]


def test_other_types_are_not_taken_for_floats(path, dtype):
    graph = Graph([GEMM], {"w": W, "b": B}, dtype=dtype)
    graph.load(path)
    graph.model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    with pytest.raises(ValueError, match=r"output 'z': expected .*, got .* of FLOAT16"):
        graph.load(path)
    graph = Graph([GEMM], {"w": W, "b": B}, dtype=dtype)
    for kind in (TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL):
        graph.model.graph.input[0].type.tensor_type.elem_type = kind
        with pytest.raises(ValueError, match="Gemm: expected FLOAT or DOUBLE, or a Cast of the input"):
            graph.load(path)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\xff" * 64, bytes(64)])
def test_not_an_onnx_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path}: not a whole ONNX file"):
        fastnn.onnx.load(path)


def test_every_truncation_is_refused_or_harmless(path):
    """A file cut between two fields of its model, behind the graph and what it needs, is whole."""
    net = fastnn.MLP([2, 1], output_activation="gelu", dtype="float64", seed=0)
    content = onnx_writer.content(net)
    loaded = 0
    for end in range(0, len(content), 1 if FULL else 7):
        path.write_bytes(content[:end])
        try:
            loaded += fastnn.onnx.load(path).parameters.tobytes() == net.parameters.tobytes()
        except ValueError:
            continue
    assert loaded <= 1


@pytest.mark.parametrize("special", ["/", "/dev/null", "/dev/zero", "/proc/self/mem", "/proc/self/cmdline"])
def test_files_that_hold_no_bytes_of_their_own(special):
    with pytest.raises((OSError, ValueError), match=special):
        fastnn.onnx.load(special)


def test_no_file_and_no_path(path):
    with pytest.raises(FileNotFoundError):
        fastnn.onnx.load(path)
    for bad in (0, True, None):
        with pytest.raises(TypeError, match=r"path: expected a str, bytes or os\.PathLike"):
            fastnn.onnx.load(bad)


def test_a_file_of_more_bytes_than_protobuf_has(path):
    with open(path, "wb") as file:
        file.truncate(onnx_file.MOST_BYTES + 1)
    with pytest.raises(ValueError, match="expected at most 2147483647 bytes, as ONNX files have, got 2147483648"):
        fastnn.onnx.load(path)
