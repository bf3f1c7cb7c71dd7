"""ONNX graphs as other writers make them: ONNX Runtime and the network that `load` makes of them agree."""

import json
import math
import random
import re
import warnings

import numpy as np
import onnx
import pytest
from conftest import FULL
from onnx import TensorProto, helper, numpy_helper
from onnx_graphs import CONSTANTS, END, GEMM, NORM, B, Graph, W, numbers, run, tolerance

import fastnn
import fastnn.onnx
from fastnn import onnx_expressions, onnx_graph
from fastnn.kernels import reference
from fastnn.onnx_forms import FUNCTIONS


@pytest.fixture
def path(tmp_path):
    return tmp_path / "other.onnx"


FOREIGN = {
    "transB": [("Gemm", "x wt b", "z", {"transB": 1}), ("Relu", "z", "h"), ("Gemm", "h vt c", "y", {"transB": 1})],
    "alpha and beta": [("Gemm", "x w b", "z", {"alpha": 0.5, "beta": -2.0}), ("Tanh", "z", "y")],
    "no bias": [("Gemm", "x w", "y")],
    "a bias of one number": [("Gemm", "x w one", "y")],
    "a bias of a row": [("Gemm", "x w b1", "y")],
    "MatMul and Add": [
        ("MatMul", "x w", "a"), ("Add", "a b", "z"), ("Relu", "z", "h"), ("MatMul", "h v", "d"), ("Add", "c d", "y"),
    ],
    "Add first": [("MatMul", "x w", "a"), ("Add", "b1 a", "y")],
    "Sub": [("MatMul", "x w", "a"), ("Sub", "a b", "y")],
    "edges": [
        ("Identity", "x", "a"), ("Flatten", "a", "f"), ("Cast", "f", "g", {"to": 1}), ("Dropout", "g", "d"),
        ("Gemm", "d w b", "z"), ("Dropout", "z ratio", "e"), ("Reshape", "e shape", "y"),
    ],
    "a transposed constant": [("Transpose", "wt", "u"), ("MatMul", "x u", "y")],
    "a Constant node": [
        ("Constant", "", "u", {"value": numpy_helper.from_array(np.float32(W))}), ("MatMul", "x u", "y"),
    ],
    "a cast constant": [
        ("Constant", "", "u", {"value": numpy_helper.from_array(W)}), ("Cast", "u", "d", {"to": 1}),
        ("MatMul", "x d", "y"),
    ],
    "batch": [GEMM, ("BatchNormalization", "z s t m var", "n"), ("Relu", "n", "h"), END],
    "batch with another epsilon": [GEMM, ("BatchNormalization", "z s t m var", "h", {"epsilon": 1e-3}), END],
    "batch of little variance": [GEMM, ("BatchNormalization", "z s t m little", "h", {"epsilon": 1e-7}), END],
    "batch behind the activation": [
        GEMM, ("Relu", "z", "r"), ("BatchNormalization", "r s t m var", "h", {"epsilon": 1e-3}), END,
    ],
    "batch behind the activation, MatMul": [
        GEMM, ("Relu", "z", "r"), ("BatchNormalization", "r s t m var", "h"), ("MatMul", "h v", "d"),
        ("Add", "d c", "y"),
    ],
    "batch on the input": [("BatchNormalization", "x dev mean mean dev", "n"), ("Gemm", "n w b", "y")],
    "batch twice": [
        GEMM, ("BatchNormalization", "z s t m var", "n"), ("BatchNormalization", "n t s m var", "h"),
        ("Tanh", "h", "y"),
    ],
    "batch of a scaled result": [
        ("MatMul", "x w", "a"), ("Mul", "a two", "z"), ("BatchNormalization", "z s t m var", "n"), ("Relu", "n", "y"),
    ],
    "batch of a scaled activation": [
        GEMM, ("Sigmoid", "z", "r"), ("Mul", "r two", "e"), ("BatchNormalization", "e s t m var", "n"),
        ("Mul", "one n", "h"), END,
    ],
    "layer": [GEMM, ("LayerNormalization", "z s t", "n"), ("Relu", "n", "h"), END],
    "layer without shift": [GEMM, ("LayerNormalization", "z s", "n", {"axis": 1}), ("Relu", "n", "h"), END],
    "layer with another epsilon": [
        GEMM, ("LayerNormalization", "z s t", "n", {"epsilon": 0.1}), ("Mul", "n var", "e"), ("Add", "e m", "d"),
        ("Relu", "d", "h"), END,
    ],
    "layer behind an activation": [GEMM, ("Relu", "z", "r"), ("LayerNormalization", "r s t", "h"), END],
    "layer behind an activation, another epsilon": [
        GEMM, ("Tanh", "z", "r"), ("LayerNormalization", "r s t", "h", {"epsilon": 0.1}), ("Relu", "h", "q"),
        ("Gemm", "q v c", "y"),
    ],
    "layer twice": [GEMM, ("LayerNormalization", "z s t", "r"), ("LayerNormalization", "r t s", "y")],
    "layer on the input": [("LayerNormalization", "x dev mean", "n"), ("Gemm", "n w b", "y")],
    "a vector at the end": [GEMM, ("Relu", "z", "h"), ("Mul", "h b", "y")],
    "bounded and scaled": [GEMM, ("Tanh", "z", "h"), ("Mul", "h two", "a"), ("Add", "a one", "y")],
    "layers of activations": [GEMM, ("Relu", "z", "a"), ("LayerNormalization", "a s t", "y")],
    "normalized at the end": [GEMM, ("Relu", "z", "a"), ("BatchNormalization", "a s t m var", "y")],
    "large numbers behind a layer": [GEMM, ("Mul", "z large", "a"), ("Add", "a larger", "y")],
    "nothing of a bias": [("Gemm", "x w infs", "y", {"beta": 0.0})],
    "a number at the end of those that formulas have": [GEMM, ("Softplus", "z", "h"), ("Add", "h least", "y")],
    "standardized": [("Sub", "x mean", "a"), ("Div", "a dev", "n"), ("Gemm", "n w b", "y")],
    "standardized by factors": [("Add", "mean x", "a"), ("Mul", "dev a", "n"), ("Gemm", "n w b", "y")],
    "standardized backwards": [("Sub", "mean x", "a"), ("Div", "a minus", "n"), ("Gemm", "n w b", "y")],
    "scaled, then shifted": [("Mul", "x dev", "a"), ("Add", "a mean", "n"), ("Gemm", "n w b", "y")],
    "scaled and shifted by numbers": [("Mul", "x two", "a"), ("Sub", "a one", "n"), ("MatMul", "n w", "y")],
    "standardized as Keras writes it": [
        ("Sub", "x mean", "a"), ("Mul", "a dev", "d"), ("Add", "d mean", "n"), ("Gemm", "n w b", "y"),
    ],
    "negative twice": [("Neg", "x", "a"), ("Sub", "a mean", "n"), ("Gemm", "n w b", "y")],
    "the input and itself": [("Add", "x x", "a"), ("Add", "a mean", "n"), ("Gemm", "n w b", "y")],
    "batch on a shifted input": [
        ("Sub", "x mean", "a"), ("BatchNormalization", "a dev mean mean dev", "n"), ("Gemm", "n w b", "y"),
    ],
    "divided by 255": [("Div", "x tff", "n"), ("Gemm", "n w b", "y")],
    "batch as Keras writes it": [
        ("MatMul", "x w", "a"), ("Mul", "a s", "d"), ("Add", "d t", "z"), ("Relu", "z", "r"), ("Mul", "r s", "e"),
        ("Add", "e m", "h"), END,
    ],
    "two biases": [GEMM, ("Add", "z t", "y")],
    "vectors behind an activation": [
        GEMM, ("Tanh", "z", "r"), ("Sub", "r m", "d"), ("Div", "d var", "e"), ("Sub", "t e", "h"), END,
    ],
    "a result that is scaled back": [GEMM, ("Mul", "z var", "a"), ("Div", "a two", "d"), ("Add", "d one", "y")],
    "numbers between layers": [
        GEMM, ("Relu", "z", "r"), ("Mul", "r two", "e"), ("Sub", "one e", "d"), ("Mul", "d s", "h"), END,
    ],
    "a spelled activation times a number": [
        GEMM, ("Sigmoid", "z", "q"), ("Mul", "q z", "r"), ("Mul", "two r", "e"), ("Add", "e one", "h"), END,
    ],
    "softmax of a temperature": [GEMM, ("Div", "z two", "a"), ("Softmax", "a", "y")],
    "softmin": [GEMM, ("Neg", "z", "a"), ("Softmax", "a", "y")],
    "a bias of one number for all": [("MatMul", "x w", "a"), ("Add", "a one", "z"), ("Relu", "z", "y")],
    "a factor, then a bias": [("MatMul", "x w", "a"), ("Mul", "a two", "d"), ("Add", "d b", "z"), ("Relu", "z", "y")],
    "nodes that lead nowhere": [
        GEMM, ("Shape", "x", "n"), ("Abs", "z", "q"), ("Relu", "z", "y"),
    ],
    "softmax by its old default": [GEMM, ("Softmax", "z", "y")],
    "log of softmax": [GEMM, ("Softmax", "z", "p", {"axis": 1}), ("Log", "p", "y")],
    "inputs unused": [("Gemm", "x w b", "z"), ("Clip", "z low", "y")],
}  # fmt: skip


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign_graphs(name, path, rng):
    constants = CONSTANTS | NORM | {
        "one": 0.5, "two": 2.0, "little": [1.0, 1e-6, 2.0],
        "minus": [1.0, -2.0, 1.0, 0.5], "low": 0.0, "tff": 255.0, "ratio": 0.25, "shape": np.array([-1, 3]),
        "infs": np.full(3, np.inf), "large": 3.5e5, "larger": 2.5e6, "least": 1e-6,
    }  # fmt: skip
    used = {part for _, inputs, *_ in FOREIGN[name] for part in inputs.split()}
    graph = Graph(FOREIGN[name], {key: value for key, value in constants.items() if key in used})
    onnx.checker.check_model(graph.model)
    net = graph.load(path)
    x = rng.normal(2, 3, (7, 4)).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    y = net.predict(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(np.float32, 4 * expected))


POW, DIV = ("Pow", "d two", "q"), [("Div", "d r", "n")]


def spelled_layer_norm(value, eps="eps", square=POW, quotient=DIV, axes=None):
    """Nodes from `value` to "n": layer normalization as PyTorch writes it until opset 16, or with other operators."""
    mean = lambda of, to: ("ReduceMean", f"{of} axes", to) if axes else ("ReduceMean", of, to, {"axes": [-1]})
    return [
        mean(value, "mean_of"), ("Sub", f"{value} mean_of", "d"), square, mean("q", "var_of"),
        ("Add", f"var_of {eps}", "e"), ("Sqrt", "e", "r"), *quotient,
    ]  # fmt: skip


LAYER_NORMS = {
    "of a result": [GEMM, *spelled_layer_norm("z"), ("Mul", "n s", "a"), ("Add", "a t", "h"), END],
    "of an activation": [GEMM, ("Relu", "z", "a"), *spelled_layer_norm("a"), ("Mul", "n s", "f"), ("Add", "f t", "y")],
    "of a spelled activation": [
        GEMM, ("Sigmoid", "z", "p"), ("Mul", "p z", "a"), *spelled_layer_norm("a"), ("Mul", "s n", "h"), END,
    ],
    "of the input": [*spelled_layer_norm("x"), ("Mul", "n dev", "a"), ("Gemm", "a w b", "y")],
    "without scale and shift": [GEMM, *spelled_layer_norm("z"), ("Tanh", "n", "h"), END],
    "with another epsilon": [GEMM, *spelled_layer_norm("z", "large"), ("Mul", "n s", "a"), ("Add", "a t", "y")],
    "by other operators": [
        GEMM,
        *spelled_layer_norm("z", square=("Mul", "d d", "q"), quotient=[("Reciprocal", "r", "i"), ("Mul", "i d", "n")]),
        ("Mul", "n s", "y"),
    ],
    "axes that are an input": [GEMM, *spelled_layer_norm("z", axes="axes"), ("Mul", "n s", "y")],
}  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYER_NORMS)
def test_layer_normalisation_spelled_out(name, dtype, path, rng):
    constants = CONSTANTS | NORM | {"eps": 1e-5, "large": 0.1, "two": 2.0, "axes": np.array([1])}
    used = {part for _, inputs, *_ in LAYER_NORMS[name] for part in inputs.split()}
    nodes, kept = LAYER_NORMS[name], {key: value for key, value in constants.items() if key in used}
    graph = Graph(nodes, kept, dtype=dtype, opset=18 if "axes" in used else 13)
    onnx.checker.check_model(graph.model)
    x = rng.normal(2, 3, (7, 4)).astype(dtype)
    net, expected = graph.load(path), run(graph.model.SerializeToString(), x)
    assert sum(layer.normalization == fastnn.Normalization.LAYER for layer in net.layers) == 1
    np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=tolerance(dtype, 4 * expected))


def test_layer_normalisation_spelled_out_is_one(path):
    net = Graph(LAYER_NORMS["of a result"], CONSTANTS | NORM | {"eps": 1e-5, "two": 2.0}).load(path)
    assert [layer.normalization for layer in net.layers] == [fastnn.Normalization.LAYER, None]
    np.testing.assert_array_equal(net.layers[0].scale, np.float32(NORM["s"]))
    np.testing.assert_array_equal(net.layers[0].shift, np.float32(NORM["t"]))
    np.testing.assert_array_equal(net.layers[0].weight, np.float32(W))


def test_layer_normalisation_spelled_out_takes_no_memory_for_columns_that_are_only_told(path):
    nodes = [*spelled_layer_norm("x"), ("Gemm", "n w b", "y")]
    graph = Graph(nodes, {"w": W, "b": B, "eps": 1e-5, "two": 2.0}, columns=(2**40, None))
    with pytest.raises(ValueError, match="expected layers of at most 16 times the bytes of the file"):
        graph.load(path)


def test_what_foreign_graphs_become(path):
    load = lambda name, **constants: Graph(FOREIGN[name], CONSTANTS | NORM | constants).load(path)
    transposed = load("transB")
    np.testing.assert_array_equal(transposed.layers[0].weight, np.float32(W))
    assert repr(transposed.layers) == "(Dense(4, 3, activation='relu'), Dense(3, 2, activation='identity'))"
    assert load("batch").layers[0].normalization == fastnn.Normalization.BATCH
    np.testing.assert_array_equal(load("batch").layers[0].running_variance, NORM["var"])
    assert load("batch behind the activation").layers[0].normalization is None
    for name in ("layer with another epsilon", "a factor, then a bias"):
        assert load(name, two=2.0).layers[0].activation == fastnn.Activation.RELU
    assert load("batch on the input").adapted
    standardized = load("standardized")
    np.testing.assert_array_equal(standardized.standardize.mean, np.float32(CONSTANTS["mean"]))
    assert standardized.adapted
    assert load("divided by 255", tff=255.0).standardize.scale.tolist() == [255.0] * 4


def test_scaler_of_scikit_learn(path):
    nodes = [("Scaler", "x", "n"), ("Cast", "n", "a", {"to": 1}), ("MatMul", "a w", "d"), ("Add", "d b1", "y")]
    graph = Graph(nodes, {"w": W, "b1": B[None]})
    graph.model.graph.node[0].domain = "ai.onnx.ml"
    offset, scale = numbers(4, seed=9), [0.5, 1.0, 2.0, 4.0]
    for name, value in (("offset", offset), ("scale", scale)):
        graph.model.graph.node[0].attribute.append(helper.make_attribute(name, [float(number) for number in value]))
    x = numbers(5, 4).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    np.testing.assert_allclose(graph.load(path).predict(x), expected, rtol=0, atol=tolerance(np.float32, expected))


def test_casts_at_the_edges(path):
    """Whole numbers or float64 into a float32 network, whose result is made float64."""
    for kind, numpy_type in ((TensorProto.INT64, np.int64), (TensorProto.DOUBLE, np.float64)):
        nodes = [("Cast", "x", "a", {"to": 1}), ("Gemm", "a w b", "z"), ("Cast", "z", "y", {"to": 11})]
        graph = Graph(nodes, {"w": W, "b": B}, types=(kind, TensorProto.DOUBLE))
        x = np.arange(12).reshape(3, 4).astype(numpy_type)
        net = graph.load(path)
        assert net.dtype == np.float32
        expected = run(graph.model.SerializeToString(), x)
        np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=tolerance(np.float32, expected))


def test_sizes_that_the_graph_does_not_tell(path):
    graph = Graph(FOREIGN["standardized"], CONSTANTS, columns=(None, None))
    assert graph.load(path).in_features == 4
    graph.model.graph.input[0].type.tensor_type.ClearField("shape")
    graph.model.graph.output[0].type.tensor_type.ClearField("shape")
    assert graph.load(path).in_features == 4


def test_initializers_that_are_inputs_too(path):
    """As IR version 3 had it."""
    graph = Graph([GEMM], {"w": W, "b": B})
    graph.model.graph.input.extend(
        helper.make_tensor_value_info(name, 1, value.shape) for name, value in (("w", W), ("b", B))
    )
    np.testing.assert_array_equal(graph.load(path).layers[0].bias, np.float32(B))


def test_tensors_that_are_lists_of_numbers(path):
    graph = Graph([GEMM], {"w": W, "b": B})
    del graph.model.graph.initializer[:]
    for name, value in (("w", W), ("b", B)):
        graph.model.graph.initializer.append(helper.make_tensor(name, TensorProto.FLOAT, value.shape, value.ravel()))
    assert not graph.model.graph.initializer[0].HasField("raw_data")
    np.testing.assert_array_equal(graph.load(path).layers[0].weight, np.float32(W))


# x is the linear layer's result z: "Operator", inputs, output. Two orders of the same formula are two lines.
SPELLED = {
    "gelu": [
        "Div z sqrt2 a; Erf a e; Add e one s; Mul z s p; Mul p half y",
        "Mul half z p; Mul z isqrt2 a; Erf a e; Add one e s; Mul s p y",
        "Div z sqrt2 a; Erf a e; Mul e half h; Add h half s; Mul s z y",
    ],
    "gelu_tanh": [
        "Pow z three c; Mul c cubic d; Add z d e; Mul e root u; Tanh u t; Add t one s; Mul half z p; Mul p s y",
        "Mul z z q; Mul q z c; Mul cubic c d; Add d z e; Mul root e u; Tanh u t; Add one t s; Mul z s p; Mul p half y",
        "Mul z z q; Mul q cubic d; Add d one e; Mul z e f; Mul f root2 u; Sigmoid u s; Mul z s y",
    ],
    "silu": [
        "Sigmoid z s; Mul z s y",
        "Sigmoid z s; Mul s z y",
        "Neg z n; Exp n e; Add e one s; Div z s y",
    ],
    "sigmoid": ["Neg z n; Exp n e; Add one e s; Div one s y", "Neg z n; Exp n e; Add one e s; Reciprocal s y"],
    "hardswish": [
        "Add z three a; Clip a zero six c; Mul z c p; Div p six y",
        "HardSigmoid{'alpha':0.16666667} z h; Mul z h y",
        "Add three z a; Relu a r; Min r six c; Div c six h; Mul h z y",
        "HardSwish z y",
    ],
    "hardsigmoid": [
        "Add z three a; Clip a zero six c; Div c six y",
        "Div z six a; Add a half b_; Max b_ zero m; Min one m y",
        "HardSigmoid{'alpha':0.16666667} z y",
    ],
    "softplus": [
        "Exp z e; Add e one s; Log s y",
        "Softplus z p; Greater z twenty g; Where g z p y",
    ],
    "relu": ["Max z zero y", "Max zero z y", "Clip z zero y", "Greater z zero g; Where g z zero y"],
    "leaky_relu": ["LeakyRelu z y", "Mul z slope l; Greater z zero g; Where g z l y"],
    "elu": ["Elu z y", "Celu z y", "Exp z e; Sub e one m; Greater z zero g; Where g z m y"],
    "selu": ["Selu z y"],
    "tanh": ["Tanh z y"],
}
SPELLING_CONSTANTS = {
    "sqrt2": 2**0.5, "isqrt2": 0.5**0.5, "one": 1.0, "half": 0.5, "three": 3.0, "six": 6.0, "zero": 0.0, "twenty": 20.0,
    "cubic": 0.044715, "root": 0.7978845608028654, "root2": 1.5957691216057308, "slope": 0.01,
}  # fmt: skip


def spelled(formula):
    """Nodes of "Operator{attributes} inputs output; ..." """
    nodes = []
    for part in formula.split("; "):
        head, *names, output = part.split()
        operator, _, attributes = head.partition("{")
        more = [json.loads("{" + attributes.replace("'", '"'))] if attributes else []
        nodes.append((operator, " ".join(names), output, *more))
    return nodes


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize(("name", "formula"), [(name, formula) for name in SPELLED for formula in SPELLED[name]])
def test_activations_spelled_out(name, formula, columns, path):
    nodes = [("Gemm", "x w b", "z"), *spelled(formula)]
    used = {part for _, inputs, *_ in nodes for part in inputs.split()}
    constants = {"w": W[:, :columns], "b": B[:columns]} | SPELLING_CONSTANTS
    graph = Graph(nodes, {key: value for key, value in constants.items() if key in used})
    net = graph.load(path)
    assert net.layers[-1].activation.name.lower() == name
    x = numbers(9, 4).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=tolerance(np.float32, 4 * expected))


def loaded(graph, path):
    """(network, None), or (None, why it was refused)."""
    try:
        return graph.load(path), None
    except ValueError as error:
        return None, str(error)


def test_formulas_of_the_wrong_numbers_are_not_that_activation(path):
    """Every constant that a formula has, two thousandths off; a factor in front is a factor of the result."""
    checked, factors = 0, 0
    x = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
    expected = "expected one of fastnn's activations|expected a constant exponent"
    for formulas in SPELLED.values():
        for formula in formulas:
            nodes = [("Gemm", "x w b", "z"), *spelled(formula)]
            for name in {part for _, inputs, *_ in nodes for part in inputs.split()} & set(SPELLING_CONSTANTS):
                wrong = SPELLING_CONSTANTS[name] * 1.002 + 0.002 * (name == "zero")
                # 3.006 is no exponent at all.
                graph = Graph(nodes, {"w": W, "b": B} | SPELLING_CONSTANTS | {name: wrong})
                checked += 1
                net, refusal = loaded(graph, path)
                if net is None:
                    assert re.search(expected, refusal)
                    continue
                factors += 1
                right = run(path.read_bytes(), x)
                np.testing.assert_allclose(net.predict(x), right, rtol=0, atol=tolerance(np.float32, 4 * right))
    assert checked > 40
    assert factors < checked // 3


def test_a_batch_that_the_graph_tells(path):
    """As exporters write x.view(x.size(0), -1)."""
    for shape in ([7, -1], [7, 4], [0, 0], [-1, 0]):
        graph = Graph([("Reshape", "x shape", "a"), ("Gemm", "a w b", "y")], {"w": W, "b": B, "shape": np.array(shape)})
        graph.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 7
        assert graph.load(path).in_features == 4
    graph.model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 6
    graph.model.graph.initializer[2].CopyFrom(numpy_helper.from_array(np.array([7, 4]), "shape"))
    with pytest.raises(ValueError, match="expected a shape that changes nothing"):
        graph.load(path)


# x.view(x.size(0), -1), as exporters of several opsets write it.
VIEWS = {
    "attribute": (11, [("Shape", "x", "q"), ("Gather", "q first", "r"), ("Unsqueeze", "r", "u", {"axes": [0]}),
        ("Concat", "u rest", "s", {"axis": 0})]),
    "input": (17, [("Shape", "x", "q"), ("Gather", "q first", "r"), ("Unsqueeze", "r firsts", "u"),
        ("Concat", "u rest", "s", {"axis": 0})]),
    "slice": (17, [("Shape", "x", "q", {"start": 0, "end": 1}), ("Cast", "q", "u", {"to": 7}),
        ("Concat", "u features", "s", {"axis": 0})]),
}  # fmt: skip


@pytest.mark.parametrize("image", [(4,), (1, 2, 2), (2, 2)], ids=str)
@pytest.mark.parametrize("view", [*VIEWS, "Flatten", "Reshape"])
def test_inputs_are_flattened(view, image, path, rng):
    opset, nodes = VIEWS.get(view, (17, []))
    last = {"Flatten": ("Flatten", "x", "a"), "Reshape": ("Reshape", "x whole", "a")}.get(view, ("Reshape", "x s", "a"))
    constants = {
        "first": np.array(0), "firsts": np.array([0]), "rest": np.array([-1]), "features": np.array([4]),
        "whole": np.array([-1, 4]),
    }  # fmt: skip
    used = {part for _, inputs, *_ in [*nodes, last] for part in inputs.split()}
    constants = {name: value for name, value in constants.items() if name in used}
    graph = Graph([*nodes, last, ("Gemm", "a w b", "y")], {"w": W, "b": B} | constants, opset=opset)
    shape = graph.model.graph.input[0].type.tensor_type.shape
    del shape.dim[1:]
    for size in image:
        shape.dim.add(dim_value=size)
    onnx.checker.check_model(graph.model)
    x = rng.standard_normal((5, *image)).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    y = graph.load(path).predict(x.reshape(5, -1))
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(np.float32, expected))


def test_sizes_are_counted_from_the_end_too(path):
    nodes = [("Shape", "x", "q"), ("Gather", "q last", "r"), ("Concat", "any r", "s", {"axis": 0})]
    constants = {"w": W, "b": B, "last": np.array([-1]), "any": np.array([-1])}
    net = Graph([*nodes, ("Reshape", "x s", "a"), ("Gemm", "a w b", "y")], constants).load(path)
    assert (net.in_features, net.out_features) == W.shape


@pytest.mark.parametrize("shape", [[1, 4], [2, 2], [0, 0], [-1, 2], [0, 4, 1]], ids=str)
def test_other_shapes_of_an_image_are_refused(shape, path):
    graph = Graph([("Reshape", "x s", "a"), ("Gemm", "a w b", "y")], {"w": W, "b": B, "s": np.array(shape)})
    sizes = graph.model.graph.input[0].type.tensor_type.shape
    sizes.dim[1].dim_value = 2
    sizes.dim.add(dim_value=2)
    with pytest.raises(ValueError, match="Reshape: expected a shape that changes nothing"):
        graph.load(path)


def test_pixels_are_scaled_before_they_are_flattened(path, rng):
    nodes = [("Div", "x tff", "p"), ("Sub", "p one", "q"), ("Flatten", "q", "a"), ("Gemm", "a w b", "y")]
    graph = Graph(nodes, {"w": W, "b": B, "tff": 255.0, "one": 0.5})
    sizes = graph.model.graph.input[0].type.tensor_type.shape
    sizes.dim[1].dim_value = 2
    sizes.dim.add(dim_value=2)
    x = rng.uniform(0, 255, (5, 2, 2)).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    y = graph.load(path).predict(x.reshape(5, 4))
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(np.float32, expected))


def test_layers_that_a_file_does_not_have(path, rng):
    """Wider than the file is long; but what is too wide is refused before it is made."""
    w, v, s = numbers(4, 256), numbers(256, 1), numbers(256)
    for nodes in (
        [GEMM, ("Relu", "z", "r"), ("LayerNormalization", "r s s", "h"), ("Gemm", "h v", "y")],
        [GEMM, ("Sigmoid", "z", "r"), ("Mul", "r s", "y")],
        [GEMM, ("Sigmoid", "z", "r"), ("LayerNormalization", "r s s", "h", {"epsilon": 0.1}), ("Mul", "h s", "y")],
    ):
        graph = Graph(nodes, {"w": w, "b": s, "v": v, "s": s})
        x = rng.standard_normal((5, 4)).astype(np.float32)
        expected = run(graph.model.SerializeToString(), x)
        y = graph.load(path).predict(x)
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(np.float32, expected, terms=256))
    nodes = [("LayerNormalization", "x one", "n", {"epsilon": 0.1}), ("Gemm", "n w b", "y")]
    graph = Graph(nodes, {"w": W, "b": B, "one": [1.0]}, columns=(10**6, None))
    with pytest.raises(ValueError, match="expected 4,096 columns at most without a layer, got 1,000,000"):
        graph.load(path)


def test_summands_of_scaled_inputs_stay_finite(path, rng):
    """As mean of a Standardize they would not."""
    constants = {"w": W, "b": B, "k": [1e-38, 1.0, 1.0, 1.0], "m": [100.0, 0.0, 0.0, 0.0]}
    graph = Graph([("Mul", "x k", "a"), ("Add", "a m", "n"), ("Gemm", "n w b", "y")], constants)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    np.testing.assert_allclose(graph.load(path).predict(x), expected, rtol=0, atol=tolerance(np.float32, expected))


def test_what_was_standardised_is_brought_back(path, rng):
    """Where the bias times the deviation is nearly minus the mean too."""
    constants = {"w": W, "b": np.full(3, -2.0), "large": 1e5, "mean": 2e5}
    graph = Graph([GEMM, ("Mul", "z large", "a"), ("Add", "a mean", "y")], constants)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    np.testing.assert_allclose(graph.load(path).predict(x), expected, rtol=0, atol=tolerance(np.float32, expected))


def test_an_output_by_name(path, rng):
    """A classifier of skl2onnx has two outputs, labels and probabilities."""
    graph = Graph([GEMM, ("Softmax", "z", "p"), ("ArgMax", "p", "label", {"axis": 1})], {"w": W, "b": B})
    label, probabilities = helper.make_tensor_value_info("label", TensorProto.INT64, ["n", 1]), "p"
    graph.model.graph.output[0].CopyFrom(label)
    graph.model.graph.output.append(helper.make_tensor_value_info(probabilities, TensorProto.FLOAT, ["n", 3]))
    with pytest.raises(ValueError, match=r"outputs: expected one, or output= with a name, got 2: \['label', 'p'\]"):
        graph.load(path)
    x = rng.standard_normal((5, 4)).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x, probabilities)
    y = fastnn.onnx.load(path, output=probabilities).predict(x)
    np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(np.float32, expected))
    # A node's result that is no output of the graph.
    np.testing.assert_array_equal(fastnn.onnx.load(path, output="z").predict(x), fastnn.onnx.load(path, "z").predict(x))
    assert fastnn.onnx.load(path, output="z").layers[0].activation == fastnn.Activation.IDENTITY
    with pytest.raises(ValueError, match=r"output: expected one of \['label', 'p'\] or .* of a node's result, got 'q'"):
        fastnn.onnx.load(path, output="q")
    with pytest.raises(ValueError, match="ArgMax: expected an operator of a dense network"):
        fastnn.onnx.load(path, output="label")
    with pytest.raises(TypeError, match="output: expected a str or None, got int"):
        fastnn.onnx.load(path, output=1)


@pytest.mark.parametrize("axis", [1, -1])
def test_probabilities_of_two_classes(axis, path, rng):
    """As skl2onnx writes them."""
    nodes = [
        ("MatMul", "x w", "a"),
        ("Add", "a b", "z"),
        ("Sigmoid", "z", "p"),
        ("Sub", "one p", "q"),
        ("Concat", "q p", "y", {"axis": axis}),
    ]
    graph = Graph(nodes, {"w": W[:, :1], "b": B[:1], "one": [1.0]})
    x = 5 * rng.standard_normal((50, 4)).astype(np.float32)
    expected = run(graph.model.SerializeToString(), x)
    net = graph.load(path)
    assert (net.out_features, net.layers[-1].activation) == (2, fastnn.Activation.SOFTMAX)
    np.testing.assert_allclose(net.predict(x), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("nodes", "joined", "axis"),
    [
        ([("Sigmoid", "z", "p"), ("Sub", "one p", "q")], "p q", 1),
        ([("Sigmoid", "z", "p"), ("Sub", "one p", "q")], "q p", 0),
        ([("Tanh", "z", "p"), ("Sub", "one p", "q")], "q p", 1),
        ([("Sigmoid", "z", "p"), ("Mul", "one p", "q")], "q p", 1),
    ],
)
def test_other_things_side_by_side(nodes, joined, axis, path):
    gemm = ("Gemm", "x w b", "z")
    graph = Graph([gemm, *nodes, ("Concat", joined, "y", {"axis": axis})], {"w": W[:, :1], "b": B[:1], "one": [1.0]})
    with pytest.raises(ValueError, match="Concat: expected 1 - p and p, the sigmoid of one result, side by side"):
        graph.load(path)
    two = Graph([gemm, *nodes, ("Concat", joined, "y", {"axis": 1})], {"w": W, "b": B, "one": [1.0]})
    with pytest.raises(ValueError, match="Concat: expected 1 - p and p, the sigmoid of one result, side by side"):
        two.load(path)


def test_scaled_and_shifted_inputs_keep_digits(path, rng):
    """A MinMaxScaler of years, as skl2onnx writes it; in the first weight it would lose three digits more."""
    scale, shift = np.full(4, 1 / 30), np.full(4, -1990 / 30)
    graph = Graph(
        [("Mul", "x k", "a"), ("Add", "a m", "n"), ("Gemm", "n w b", "y")], {"w": W, "b": B, "k": scale, "m": shift}
    )
    x = rng.uniform(1990, 2020, (50, 4)).astype(np.float32)
    net = graph.load(path)
    assert net.adapted
    exact = ((x - 1990.0) / 30) @ W + B
    error = lambda y: np.abs(y - exact).max()
    assert error(net.predict(x)) < 4 * error(run(path.read_bytes(), x))


def test_an_output_without_a_type(path):
    graph = Graph([GEMM], {"w": W, "b": B})
    graph.model.graph.output[0].ClearField("type")
    assert graph.load(path).out_features == 3


def test_weights_of_half_precision(path):
    nodes = [("Cast", "h", "w", {"to": 1}), ("Gemm", "x w b", "y")]
    half = W.astype(np.float16)
    for raw in (True, False):
        graph = Graph(nodes, {"b": B})
        tensor = numpy_helper.from_array(half, "h")
        if not raw:
            tensor = helper.make_tensor("h", TensorProto.FLOAT16, half.shape, half.ravel())
        assert tensor.HasField("raw_data") == raw
        graph.model.graph.initializer.append(tensor)
        np.testing.assert_array_equal(graph.load(path).layers[0].weight, half.astype(np.float32))


def test_a_function_behind_numbers_of_the_next_layer(path):
    """silu(1 - x) is not 1 - silu(x)."""
    nodes = [("Sub", "mean x", "d"), ("silu", "d", "e", {"domain": "fastnn"})]
    graph = Graph([*nodes, ("MatMul", "e w", "y")], CONSTANTS, dtype=np.float64, opset=20)
    graph.model.functions.append(FUNCTIONS["silu"][1])
    graph.model.opset_import.append(helper.make_opsetid("fastnn", 1))
    with pytest.raises(ValueError, match="silu: expected a value that a linear layer does not have to take first"):
        graph.load(path)


def test_batch_normalization_of_the_input_keeps_digits(path):
    """Numbers of mean 10^5 and deviation 10."""
    graph = Graph(
        [("BatchNormalization", "x s o m v", "n"), ("MatMul", "n w", "y")],
        {"s": [2.0] * 4, "o": [1.0] * 4, "m": [1e5] * 4, "v": [100.0] * 4, "w": W},
    )
    x = (1e5 + 10 * numbers(20, 4)).astype(np.float32)
    exact = ((x.astype(float) - 1e5) / np.sqrt(100 + 1e-5) * 2 + 1) @ W.astype(np.float32).astype(float)
    np.testing.assert_allclose(graph.load(path).predict(x), exact, rtol=0, atol=tolerance(np.float32, exact))


def test_the_table_of_formulas_is_of_functions():
    """Each form, worked out number by number, is the activation; so none of the constants in the table is wrong."""
    x = np.linspace(-4, 4, 41)
    functions = {
        "Erf": np.vectorize(math.erf),
        "Tanh": np.tanh, "Exp": np.exp, "Log": np.log, "Reciprocal": np.reciprocal, "Greater": np.greater,
        "Clip": np.clip,
    }  # fmt: skip

    def value(expression):
        return sum(number * np.prod([factor(*atom) for atom in monomial], axis=0) for monomial, number in expression)

    def factor(name, attributes, argument):
        return x if name == "x" else functions[name](value(argument), *attributes)

    functions["Sigmoid"] = lambda v: 1 / (1 + np.exp(-v))
    checked = set()
    for activation, forms in onnx_expressions.FORMS.items():
        expected = np.empty_like(x)
        getattr(reference, activation.name.lower())(x, expected)
        for form in forms:
            try:
                got = value(form)
            except KeyError:  # a form of ONNX's own operator for it
                continue
            np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
            checked.add(activation.name.lower())
    assert checked >= {
        "gelu",
        "gelu_tanh",
        "silu",
        "sigmoid",
        "softplus",
        "hardswish",
        "hardsigmoid",
        "elu",
        "leaky_relu",
    }


@pytest.mark.parametrize("dtype_name", ["float32", "float64"])
def test_exports_of_torch(dtype_name, tmp_path):
    torch = pytest.importorskip("torch", reason="torch is not installed")
    from torch import nn

    dtype = getattr(torch, dtype_name)
    modules = {
        "relu": nn.ReLU(), "leaky_relu": nn.LeakyReLU(), "elu": nn.ELU(), "selu": nn.SELU(), "sigmoid": nn.Sigmoid(),
        "tanh": nn.Tanh(), "softplus": nn.Softplus(), "gelu": nn.GELU(), "gelu_tanh": nn.GELU("tanh"),
        "silu": nn.SiLU(), "hardsigmoid": nn.Hardsigmoid(), "hardswish": nn.Hardswish(), "softmax": nn.Softmax(1),
        "log_softmax": nn.LogSoftmax(-1),
    }  # fmt: skip
    torch.manual_seed(0)
    x = torch.randn(9, 4, dtype=dtype)
    for name, module in modules.items():
        middle = [nn.Flatten(), nn.Linear(4, 7), nn.BatchNorm1d(7), nn.LayerNorm(7), module, nn.Dropout(0.5)]
        kinds = {"batch": [0, 1, 2, 4, 5], "layer": [0, 1, 3, 4, 5]}
        for kind, chosen in kinds.items():
            model = nn.Sequential(*(middle[i] for i in chosen), nn.Linear(7, 2, bias=kind == "layer")).to(dtype).eval()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(model, (x,), str(tmp_path / "net.onnx"), opset_version=17, dynamo=False)
            net = fastnn.onnx.load(tmp_path / "net.onnx")
            assert [layer.activation.name.lower() for layer in net.layers] == [name, "identity"]
            expected = model(x).detach().numpy()
            assert net.dtype == expected.dtype
            # Its epsilon is a float32 attribute: 2.5e-13 off.
            atol = tolerance(expected.dtype, expected) + 1e-12
            np.testing.assert_allclose(net.predict(x.numpy()), expected, rtol=0, atol=atol)


# ---- Graphs at random

ONE_INPUT = [
    *("Relu", "LeakyRelu", "Elu", "Celu", "Selu", "Sigmoid", "Tanh", "Softplus", "HardSwish", "Softmax", "LogSoftmax"),
    *("Exp", "Log", "Erf", "Neg", "Reciprocal", "Sqrt", "Identity", "Dropout", "Flatten"),
]
TWO_INPUTS = ["Add", "Sub", "Mul", "Div", "Max", "Min", "Pow"]
SCALARS = ["one", "half", "three", "six", "zero", "twenty", "slope"]
RANDOM_CONSTANTS = {
    "w": W, "v": numbers(3, 3), "u": numbers(3, 1), "row": B[None], "single": [1.0], "corner": [[0.5]],
    "dev": [1.0, 2.0, 0.5, 3.0], "minus": [-1.0, 2.0, 0.5, -0.25],
}  # fmt: skip


def random_nodes(rng):
    """A linear layer, then operators on the newest values and on constants of all shapes, as they come."""
    nodes, values = [("Gemm", "x w b" if rng.random() < 0.5 else "x w", "z")], ["z"]
    source = "x"
    for i in range(rng.choice([0, 0, 0, 1, 2, 3])):
        pair = [source, rng.choice(["dev", "dev", "minus", "half", "three", source])]
        node = rng.choice(
            [
                (rng.choice(["Neg", "Identity"]), source),
                (rng.choice(["Add", "Sub", "Mul", "Div"]), " ".join(pair)),
                (rng.choice(["Add", "Sub", "Mul"]), " ".join(pair[::-1])),
                ("BatchNormalization", f"{source} minus dev minus dev"),
            ]
        )
        nodes.insert(i, (*node, f"x{i}"))
        source = f"x{i}"
    nodes[-1] = ("Gemm", nodes[-1][1].replace("x", source, 1), "z")
    if rng.random() < 0.1:
        nodes += spelled_layer_norm("z", rng.choice(["half", "slope"]), square=("Mul", "d d", "q"))
        values += rng.sample(["n", "n", "n", "d", "mean_of", "var_of"], 2)
    newest = lambda: rng.choice(values[-3:])
    for i in range(rng.randint(1, 7)):
        out, kind = f"t{i}", rng.random()
        if kind < 0.2:
            weight = rng.choice(["v", "v", "u"])
            node = rng.choice([("MatMul", f"{newest()} {weight}"), ("Gemm", f"{newest()} {weight} corner", ALPHAS)])
        elif kind < 0.45:
            node = (rng.choice(ONE_INPUT), newest())
        elif kind < 0.8:
            pair = [newest(), rng.choice([*SCALARS, "row", "b", "single", "corner", *values[-3:] * 4])]
            node = (rng.choice(TWO_INPUTS), " ".join(rng.sample(pair, 2)))
        elif kind < 0.9:
            node = ("BatchNormalization", f"{newest()} s t m var", {"epsilon": rng.choice([1e-5, 1e-3])})
        elif kind < 0.95:
            node = ("Clip", f"{newest()} zero {rng.choice(['one', 'six'])}")
        else:
            nodes.append(("Greater", f"{newest()} {rng.choice(['zero', 'twenty'])}", f"{out}?"))
            node = ("Where", f"{out}? {newest()} {newest()}")
        nodes.append((node[0], node[1], out, *node[2:]))
        values.append(out)
    # ONNX Runtime refuses wrong shapes in the others too.
    names, leading = {nodes[-1][2]}, []
    for node in reversed(nodes):
        if node[2] in names:
            names |= set(node[1].split())
            leading.append(node)
    return leading[::-1]


ALPHAS = {"alpha": 0.5, "beta": -1.0}


def test_random_graphs_are_refused_or_right():
    """What `load` takes it takes for what ONNX Runtime computes."""
    compared, activations = 0, set()
    constants = RANDOM_CONSTANTS | NORM | {"b": B} | {name: SPELLING_CONSTANTS[name] for name in SCALARS}
    for seed in range(20_000 if FULL else 600):
        rng = random.Random(seed)
        nodes, dtype = random_nodes(rng), rng.choice([np.float32, np.float64])
        used = {part for _, inputs, *_ in nodes for part in inputs.split()}
        graph = Graph(nodes, {key: np.asarray(value) for key, value in constants.items() if key in used}, dtype=dtype)
        content = graph.model.SerializeToString()
        try:
            # Without a file: a slow disk would take longer than all else.
            net = onnx_graph.network(graph.model, len(content))
        except ValueError:
            continue
        x = (2 * numbers(5, 4, seed=seed)).astype(dtype)
        try:
            expected = run(content, x)
        except Exception as error:  # its exceptions have no common class; it lacks float64 kernels
            assert dtype == np.float64, error  # noqa: PT017
            continue
        y = net.predict(x)
        scale = np.abs(y[np.isfinite(y)]).max(initial=1)
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4 * scale, err_msg=f"{seed}: {nodes}")
        compared += 1
        activations |= {layer.activation for layer in net.layers if isinstance(layer, fastnn.Dense)}
    assert compared > 50
    assert len(activations) > 5
