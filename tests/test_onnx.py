"""ONNX files: ONNX Runtime computes what `predict` does, and everything comes back to the bit."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import onnx
import onnx_fuzzer
import pytest
from conftest import FULL, assert_within
from onnx_graphs import TYPES, run, tolerance

import fastnn
import fastnn.onnx
from fastnn import Activation, activations, onnx_forms, onnx_writer
from fastnn.kernels import reference

MUTANTS = 20_000 if FULL else 400
IN, HIDDEN, OUT = 6, 9, 5


def trained(dtype, activation="relu", **options):
    """A model whose mean, scale, running averages, scales and shifts are not what they start as."""
    net = fastnn.MLP([IN, HIDDEN, OUT], activation, activation, dtype=dtype, dropout=0.1, seed=1, **options)
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        net.fit(rng.normal(3, 4, (64, IN)), rng.normal(size=(64, OUT)), epochs=2, seed=0)
    return net


# ---- What save writes


@pytest.mark.parametrize("normalization", [None, "layer", "batch"])
@pytest.mark.parametrize("name", activations.__all__)
def test_onnxruntime_computes_what_predict_does(name, normalization, dtype, rng):
    net = trained(dtype, name, normalization=normalization, standardize=True)
    content = onnx_writer.content(net)
    onnx.checker.check_model(content, full_check=True)
    for rows in (1, 33):
        x = rng.normal(3, 8, (rows, IN)).astype(dtype)
        y, expected = run(content, x), net.predict(x)
        assert y.dtype == dtype
        np.testing.assert_allclose(y, expected, rtol=0, atol=tolerance(dtype, expected))


@pytest.mark.parametrize("name", activations.__all__)
def test_activations_are_the_same_functions(name, dtype):
    """By a layer that multiplies by 1, on numbers of all sizes: constants and formulas, not only their like near 0."""
    x = np.concatenate([np.linspace(-30, 30, 801), [1e-8, -1e-8, 0.0, -0.0, 88.0, -88.0, 1e4, -1e4]])
    x = x.reshape(-1, 1) if name not in ("softmax", "log_softmax") else np.stack([x, 1 - x, x / 2], axis=1)
    x = x.astype(dtype)
    net = fastnn.Sequential([fastnn.Dense(x.shape[1], x.shape[1], name)], dtype=dtype, seed=0)
    net.layers[0].weight = np.eye(x.shape[1])
    expected = np.empty_like(x)
    getattr(reference, name)(x, expected)
    # x s(x) has the error of s, a rounding of 1, times x.
    bound = 8 * np.finfo(dtype).eps * np.maximum(1, np.abs(x))
    assert_within(run(onnx_writer.content(net), x), expected, bound, name)


@pytest.mark.parametrize("name", ["elu", "selu", "softplus", "gelu", "silu"])
def test_functions_of_the_file_lose_no_digits_near_their_zeros(name):
    """In float64, where the file brings its own formula; ONNX Runtime's kernels do not promise relative errors."""
    x = -np.logspace(-12, 1, 200)[:, None] if name in ("elu", "selu") else np.linspace(-30, 0, 200)[:, None]
    net = fastnn.Sequential([fastnn.Dense(1, 1, name)], dtype="float64", seed=0)
    net.layers[0].weight = [[1.0]]
    expected = np.empty_like(x)
    getattr(reference, name)(x, expected)
    # exp(-w^2 / 2) of a rounded square: an error of w^2 / 2 roundings, 450 at the most, and as many of exp's.
    rtol = (900 if name == "gelu" else 8) * np.finfo(np.float64).eps
    np.testing.assert_allclose(run(onnx_writer.content(net), x), expected, rtol=rtol, atol=0)


@pytest.mark.parametrize("name", activations.__all__)
def test_nan_passes_through(name, dtype):
    net = fastnn.MLP([2, 3], output_activation=name, dtype=dtype, seed=0)
    y = run(onnx_writer.content(net), np.array([[np.nan, 1.0], [0.0, 1.0]], dtype))
    assert np.isnan(y[0]).all()
    assert np.isfinite(y[1]).all()


def test_infinities_in_float64():
    """The limits, as `predict` has them; onnxruntime 1.18 has exp(-inf) = 5.6e-309, which meets factors of 1000."""
    x = np.array([[np.inf], [-np.inf]])
    for name in ("leaky_relu", "elu", "selu", "softplus", "gelu", "gelu_tanh", "silu", "hardsigmoid", "hardswish"):
        net = fastnn.Sequential([fastnn.Dense(1, 1, name)], dtype="float64", seed=0)
        net.layers[0].weight = [[1.0]]
        y = run(onnx_writer.content(net), x)
        np.testing.assert_allclose(y, net.predict(x), rtol=0, atol=1000 * np.finfo(np.float64).tiny, err_msg=name)


def test_the_model_says_what_it_is(dtype):
    model = onnx_writer.model(trained(dtype, "gelu", normalization="batch", standardize=True))
    assert (model.ir_version, model.producer_name, model.producer_version) == (9, "fastnn", fastnn.__version__)
    domains = {entry.domain: entry.version for entry in model.opset_import}
    assert domains == ({"": 20} if dtype == np.float32 else {"": 20, "fastnn": 1})
    for info, name, columns in ((model.graph.input, "x", IN), (model.graph.output, "y", OUT)):
        (info,) = info
        batch, features = info.type.tensor_type.shape.dim
        assert (info.name, batch.dim_param, features.dim_value) == (name, "batch", columns)
        assert info.type.tensor_type.elem_type == TYPES[dtype]
    names = ["weight", "bias", "scale", "shift", "running_mean", "running_variance"]
    expected = ["layers.0.mean", "layers.0.scale", *(f"layers.1.{name}" for name in names)]
    assert [tensor.name for tensor in model.graph.initializer] == [*expected, "layers.2.weight", "layers.2.bias"]
    operators = [node.op_type for node in model.graph.node]
    assert "Dropout" not in operators
    nodes = {
        np.float32: ["BatchNormalization", "Gelu", "Gemm", "Gelu"],
        np.float64: ["batch_norm", "gelu", "Gemm", "gelu"],
    }
    assert operators == ["Sub", "Div", "Gemm", *nodes[dtype]]


@pytest.mark.parametrize("normalization", [None, "layer", "batch"])
def test_round_trip_to_the_bit(normalization, dtype, tmp_path):
    path = tmp_path / "net.onnx"
    rng = np.random.default_rng(0)
    layers = [fastnn.Standardize()]
    for activation in Activation:
        layers.append(fastnn.Dense(4, 4, activation, normalization=normalization, dropout=0.5))
    net = fastnn.Sequential(layers, dtype=dtype, seed=0)
    net.fit(rng.normal(2, 3, (32, 4)), rng.normal(size=(32, 4)), epochs=1, seed=0)
    net.parameters[:5] = [-0.0, np.nan, np.inf, -np.inf, 1e-40]
    fastnn.onnx.save(net, path)
    loaded = fastnn.onnx.load(path)
    assert os.listdir(tmp_path) == ["net.onnx"]
    assert loaded.dtype == dtype
    assert loaded.parameters.tobytes() == net.parameters.tobytes()
    assert loaded.statistics.tobytes() == net.statistics.tobytes()
    assert loaded.adapted
    plain = repr(net).replace(", dropout=0.5", "")
    assert repr(loaded) == plain
    assert onnx_writer.content(loaded) == path.read_bytes()


def test_a_standardize_that_has_not_learned_still_may(tmp_path):
    net = fastnn.MLP([2, 1], standardize=True, seed=0)
    fastnn.onnx.save(net, tmp_path / "net.onnx")
    loaded = fastnn.onnx.load(tmp_path / "net.onnx")
    assert not loaded.adapted
    loaded.fit([[1.0, 2.0], [3.0, 6.0]], [0.0, 1.0], seed=0)
    assert loaded.standardize.mean.tolist() == [2.0, 4.0]


def test_a_standardize_that_has_learned_0_and_1(tmp_path):
    x = np.array([[1.0, -1.0], [-1.0, 1.0]])
    net = fastnn.MLP([2, 1], standardize=True, seed=0)
    net.fit(x, [0.0, 1.0], epochs=1, seed=0)
    assert (net.standardize.mean.tolist(), net.standardize.scale.tolist()) == ([0.0, 0.0], [1.0, 1.0])
    fastnn.onnx.save(net, tmp_path / "net.onnx")
    loaded = fastnn.onnx.load(tmp_path / "net.onnx")
    assert loaded.adapted
    loaded.fit(3 * x + 1, [0.0, 1.0], epochs=1, seed=0)
    assert loaded.standardize.mean.tolist() == [0.0, 0.0]


def test_a_deep_network(tmp_path):
    net = fastnn.MLP([2] * 2_001, activation="gelu", dtype="float64", seed=0)
    fastnn.onnx.save(net, tmp_path / "net.onnx")
    assert fastnn.onnx.load(tmp_path / "net.onnx").parameters.tobytes() == net.parameters.tobytes()


def test_saving_over_a_file_is_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    net = fastnn.MLP([2, 1], seed=0)
    fastnn.onnx.save(net, path)
    before = path.read_bytes()
    net.parameters[:] = 0

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            fastnn.onnx.save(net, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]
    fastnn.onnx.save(net, path)
    assert not fastnn.onnx.load(path).parameters.any()


def test_what_save_refuses(tmp_path, monkeypatch):
    net = fastnn.MLP([2, 1], seed=0)
    with pytest.raises(TypeError, match="network: expected a Sequential, got Dense"):
        fastnn.onnx.save(fastnn.Dense(2, 1), tmp_path / "net.onnx")
    with pytest.raises(TypeError, match=r"path: expected a str, bytes or os\.PathLike"):
        fastnn.onnx.save(net, 1)
    monkeypatch.setattr(onnx_writer, "MOST_BYTES", 11)
    with pytest.raises(
        ValueError, match="network: expected at most 11 bytes of parameters, as ONNX files hold, got 12"
    ):
        fastnn.onnx.save(net, tmp_path / "net.onnx")
    assert not os.listdir(tmp_path)


def test_functions_are_known_by_their_bodies(tmp_path):
    path = tmp_path / "net.onnx"
    net = fastnn.MLP([2, 2], output_activation="elu", dtype="float64", seed=0)
    for change in (
        lambda model: setattr(model.functions[0].node[-1], "op_type", "Mul"),
        lambda model: model.functions.append(model.functions[0]),
        lambda model: model.ClearField("functions"),
        lambda model: setattr(model.functions[0].opset_import[0], "version", 19),
    ):
        model = onnx_writer.model(net)
        change(model)
        path.write_bytes(model.SerializeToString())
        with pytest.raises(ValueError, match=r"elu: expected a function of fastnn\.onnx\.save's, with the body"):
            fastnn.onnx.load(path)


def test_functions_are_of_float64(tmp_path):
    model = onnx_writer.model(fastnn.MLP([2, 2], output_activation="elu", seed=0))
    node = model.graph.node[-1]
    node.domain, node.op_type = "fastnn", "elu"
    node.ClearField("attribute")
    model.functions.append(onnx_forms.FUNCTIONS["elu"][1])
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ValueError, match="elu: expected a DOUBLE input, got float32"):
        fastnn.onnx.load(tmp_path / "net.onnx")


def test_every_function_has_a_name_that_is_its_own():
    functions = [function for _, function in onnx_forms.FUNCTIONS.values()]
    assert len({function.SerializeToString(deterministic=True) for function in functions}) == len(functions) == 11
    for function in functions:
        onnx.checker.check_function(function)


def test_mutated_files(tmp_path):
    command = [sys.executable, "-W", "error", onnx_fuzzer.__file__, str(tmp_path), "0", str(MUTANTS)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    counts = json.loads(result.stdout)
    print(counts)
    assert sum(sum(kind.values()) for kind in counts.values()) == MUTANTS
    assert set(counts) == {mutate.__name__ for mutate in onnx_fuzzer.MUTATIONS}
    assert all(kind["refused"] > 0 for kind in counts.values())
    assert sum(kind["loaded"] for kind in counts.values()) > 0


def test_the_fuzzer_sees_what_a_file_means():
    """A model that is not the file's is told."""
    content = onnx_writer.content(onnx_fuzzer.NETWORKS[1])
    wrong = onnx_fuzzer.NETWORKS[1].copy()
    onnx_fuzzer.compare(wrong, content)
    wrong.layers[1].bias = wrong.layers[1].bias + 0.1
    with pytest.raises(AssertionError):
        onnx_fuzzer.compare(wrong, content)


# ---- The package


def python(code):
    run = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_onnx_is_imported_when_it_is_used():
    assert python("import sys, fastnn; print('onnx' in sys.modules, fastnn.onnx.__name__, 'onnx' in sys.modules)") == (
        "False fastnn.onnx True"
    )


def test_without_onnx_the_error_names_the_extra():
    code = "import sys; sys.modules['onnx'] = None; import fastnn\ntry: fastnn.onnx\nexcept ImportError as e: print(e)"
    assert python(code) == 'fastnn.onnx needs the extra "onnx": pip install "onnx>=1.16"'
