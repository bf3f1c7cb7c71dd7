"""Mutated ONNX files, and a process that loads them: `python onnx_fuzzer.py FOLDER FIRST COUNT`; see load_fuzzer.

What fastnn loads ONNX Runtime must compute to the same, if it takes the file at all: a mutant that means something else
must not become a model in silence.
"""

import contextlib
import copy
import pathlib
import sys

import load_fuzzer
import numpy as np
import onnx
import onnxruntime
from onnx import AttributeProto, TensorProto

import fastnn
import fastnn.onnx
from fastnn import onnx_graph, onnx_writer

onnxruntime.set_default_logger_severity(4)

# All kinds of networks in both dtypes, so that their kernels are there before it is watched what is executed.
NETWORKS = [
    fastnn.MLP([2, 3, 1], activation="tanh", seed=4),
    fastnn.MLP([3, 4, 2], activation="gelu", standardize=True, seed=0),
    fastnn.MLP([2, 3, 3, 1], activation=["silu", "leaky_relu"], normalization="batch", seed=1),
    fastnn.MLP([3, 4, 2], activation="elu", normalization="layer", dtype="float64", seed=2),
    fastnn.MLP([2, 3, 2], activation="softplus", output_activation="softmax", dtype="float64", seed=3),
]
OPERATORS = [
    *("Gemm", "MatMul", "Add", "Sub", "Mul", "Div", "Relu", "Gelu", "Selu", "Erf", "Identity", "Cast", "Clip", "Exp"),
    *("Softmax", "BatchNormalization", "LayerNormalization", "Loop", "If", "Neg", "Where", "PyOp", "\0", "x" * 5000),
]
DIMS = [0, 1, 2, 3, 4, 2**31, 2**62, 2**63 - 1, -1, -(2**63)]
NAMES = ["", "x", "y", "layers.1.weight", "layers.0.linear", "\N{SNOWMAN}", "n" * 5000]


def parsed(content):
    model = onnx.ModelProto()
    model.ParseFromString(content)
    return model


def change_operator(model, rng):
    rng.choice(model.graph.node).op_type = rng.choice(OPERATORS)


def change_domain(model, rng):
    rng.choice(model.graph.node).domain = rng.choice(["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "fastnn", "other"])


def change_wiring(model, rng):
    node = rng.choice(model.graph.node)
    names = rng.choice([node.input, node.output])
    known = [name for other in model.graph.node for name in (*other.input, *other.output)]
    if names and rng.random() < 0.7:
        names[rng.randrange(len(names))] = rng.choice(known + NAMES)
    elif names and rng.random() < 0.5:
        del names[rng.randrange(len(names))]
    else:
        names.append(rng.choice(known + NAMES))


def change_attribute(model, rng):
    node = rng.choice([node for node in model.graph.node if node.attribute] or model.graph.node)
    if not node.attribute or rng.random() < 0.3:
        name = rng.choice(["alpha", "transA", "transB", "axis", "epsilon", "to", "body"])
        node.attribute.append(onnx.helper.make_attribute(name, rng.choice([0, 1, -1, 2.0, 0.5, "text", [1, 0], [0.5]])))
        return
    attribute = rng.choice(node.attribute)
    change = rng.randrange(4)
    if change == 0:
        attribute.type = rng.choice(AttributeProto.AttributeType.values())
    elif change == 1:
        attribute.name = rng.choice(["alpha", "beta", "gamma", "axis", "perm", "ref", ""])
    elif change == 2:
        attribute.f = rng.choice([0.0, 1.0, 0.2, 1e-3, float("nan"), float("inf"), -1.0])
    else:
        attribute.i, attribute.ref_attr_name = rng.choice([0, 1, -1, 2**62]), rng.choice(["", "alpha"])


def change_tensor(model, rng):
    tensor = rng.choice(model.graph.initializer)
    change = rng.randrange(7)
    if change == 0:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(DIMS)
    elif change == 1:
        tensor.dims.extend(rng.choices(DIMS, k=rng.choice([1, 3, 100])))
    elif change == 2:
        tensor.data_type = rng.choice(TensorProto.DataType.values())
    elif change == 3:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif change == 4:
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(
            key="location", value=rng.choice(["/etc/passwd", "../../x", "mutant.onnx", "/dev/zero"])
        )
    elif change == 5:
        del tensor.dims[:]
        tensor.dims.extend(rng.sample(DIMS[1:5], k=2))
    else:
        tensor.float_data.extend([1.0] * rng.choice([1, 6, 1000]))
        tensor.ClearField("raw_data")


def change_lists(model, rng):
    graph = model.graph
    items = rng.choice([graph.node, graph.initializer, graph.input, graph.output, model.opset_import, model.functions])
    if not items:
        return
    i, j = rng.randrange(len(items)), rng.randrange(len(items))
    change = rng.randrange(3)
    if change == 0:
        del items[i]
    elif change == 1:
        items.append(copy.deepcopy(items[i]))
    else:
        first, second = copy.deepcopy(items[i]), copy.deepcopy(items[j])
        items[i].CopyFrom(second)
        items[j].CopyFrom(first)


def change_types(model, rng):
    info = rng.choice([*model.graph.input, *model.graph.output])
    change = rng.randrange(4)
    if change == 0:
        info.type.tensor_type.elem_type = rng.choice([0, 1, 7, 8, 10, 11, 999])
    elif change == 1:
        info.type.tensor_type.shape.dim.add(dim_value=rng.choice(DIMS))
    elif change == 2:
        rng.choice(info.type.tensor_type.shape.dim).dim_value = rng.choice(DIMS)
    else:
        info.type.sequence_type.SetInParent()


def change_versions(model, rng):
    rng.choice(model.opset_import).version = rng.choice([0, 1, 6, 7, 12, 19, 21, 99, 2**62, -1])
    model.ir_version = rng.choice([0, 3, 8, 9, 10, 99])


def change_function(model, rng):
    if not model.functions:
        return
    function = rng.choice(model.functions)
    node = rng.choice(function.node)
    if rng.random() < 0.5:
        node.op_type = rng.choice(OPERATORS)
    else:
        constants = [other for other in function.node if other.op_type == "Constant"]
        rng.choice(constants).attribute[0].t.raw_data = np.float64(rng.choice([0.0, 2.0, -0.5])).tobytes()


def changed(change):
    """A mutation of a file from one of its model."""

    def mutate(content, rng):
        model = parsed(content)
        # What was changed before may have nothing left to choose from.
        with contextlib.suppress(IndexError):
            for _ in range(rng.choice([1, 1, 1, 2, 3])):
                change(model, rng)
        return model.SerializeToString()

    mutate.__name__ = change.__name__
    return mutate


CHANGES = [
    change_operator,
    change_domain,
    change_wiring,
    change_attribute,
    change_tensor,
    change_lists,
    change_types,
    change_versions,
    change_function,
]
BYTES = ("flip_bits", "insert_bytes", "delete_bytes", "cut", "join")
MUTATIONS = [changed(change) for change in CHANGES] + [getattr(load_fuzzer, name) for name in BYTES]


def originals():
    return [onnx_writer.content(net) for net in NETWORKS]


def outcome(path, content):
    """ "refused" or "loaded", after a look at the error or at the model."""
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    try:
        net = fastnn.onnx.load(path)
    except ValueError as error:
        message = str(error)
        assert str(path) in message, f"no name of the file in {message!r}"
        assert len(message) < load_fuzzer.LONGEST_MESSAGE, f"a message of {len(message)} characters: {message[:500]}"
        return "refused"
    assert net.parameters.nbytes <= onnx_graph.MOST_SHARING * len(content)
    assert net.predict(np.zeros((2, net.in_features))).shape == (2, net.out_features)
    compare(net, content)
    return "loaded"


def compare(net, content):
    """With ONNX Runtime, where it takes the file and no flipped bit has made numbers of another order."""
    numbers = np.concatenate([net.parameters, net.statistics])
    if not (np.abs(numbers) < 1e3).all() or not (np.abs(numbers[numbers != 0]) > 1e-6).all():
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        (given,) = session.get_inputs()
        x = np.random.default_rng(0).standard_normal((3, net.in_features))
        x = x.astype({"tensor(float)": np.float32, "tensor(double)": np.float64}[given.type])
        (y,) = session.run(None, {given.name: x})
    except Exception:  # its exceptions have no common class; what it does not take tells nothing
        return
    expected = net.predict(x)
    assert y.shape == expected.shape, (y.shape, expected.shape)
    np.testing.assert_allclose(y, expected, rtol=1e-3, atol=1e-3 * max(1.0, np.abs(expected).max()))
    COMPARED.append(True)


COMPARED = []


if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1])
    load_fuzzer.fuzz(folder / "mutant.onnx", *map(int, sys.argv[2:]), originals(), MUTATIONS, outcome)
    assert len(COMPARED) >= len(NETWORKS), len(COMPARED)
