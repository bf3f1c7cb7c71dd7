"""Files: what comes back, and what is refused."""

import json
import os

import numpy as np
import pytest
import safetensors.numpy

import fastnn
from fastnn import serialization


@pytest.fixture
def net(dtype):
    return fastnn.MLP([3, 5, 2], activation="gelu", output_activation="softmax", dtype=dtype, seed=0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "net.safetensors"


def test_round_trip(net, path):
    net.save(path)
    loaded = fastnn.load(path)
    assert repr(loaded) == repr(net)
    np.testing.assert_array_equal(loaded.parameters, net.parameters)
    assert os.listdir(path.parent) == [path.name]
    assert fastnn.load(str(path)).dtype == net.dtype


def test_the_file_is_plain_safetensors(net, path):
    net.save(path)
    tensors = safetensors.numpy.load_file(path)
    assert sorted(tensors) == ["layers.0.bias", "layers.0.weight", "layers.1.bias", "layers.1.weight"]
    np.testing.assert_array_equal(tensors["layers.1.weight"], net.layers[1].weight)


def test_saving_over_a_file_is_whole_or_not_at_all(net, path, monkeypatch):
    net.save(path)
    before = path.read_bytes()
    net.parameters[:] = 0

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="disk full"):
            net.save(path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]
    net.save(path)
    assert not fastnn.load(path).parameters.any()


def test_the_file_has_the_usual_mode(path):
    path.with_name("other").touch()
    fastnn.MLP([1, 1], seed=0).save(path)
    assert path.stat().st_mode == path.with_name("other").stat().st_mode


def test_no_file(path):
    with pytest.raises(FileNotFoundError):
        fastnn.load(path)


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\xff" * 64, (10**12).to_bytes(8, "little") + b"{}"])
def test_not_a_safetensors_file(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        fastnn.load(path)


def test_cut_short(path):
    fastnn.MLP([3, 2], seed=0).save(path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        fastnn.load(path)


def write(path, change):
    """A file of a small model after change(metadata, architecture, tensors)."""
    net = fastnn.MLP([3, 2], seed=0)
    tensors = {"layers.0.weight": net.layers[0].weight.copy(), "layers.0.bias": net.layers[0].bias.copy()}
    architecture = {"dtype": "float32", "layers": [{"in_features": 3, "out_features": 2, "activation": "relu"}]}
    metadata = {"format": serialization.FORMAT, "version": serialization.VERSION}
    change(metadata, architecture, tensors)
    safetensors.numpy.save_file(tensors, path, {"architecture": json.dumps(architecture)} | metadata)


def layer(architecture):
    return architecture["layers"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, a, t: m.update(format="other"), "format: expected 'fastnn', got 'other'"),
        (lambda m, a, t: m.update(version="99"), "version: expected '1', got '99'"),
        (lambda m, a, t: m.update(architecture="{"), "architecture: cannot be read"),
        (lambda m, a, t: m.update(architecture="[" * 1_300), "architecture: cannot be read"),
        (lambda m, a, t: a.pop("layers"), "architecture: cannot be read: KeyError"),
        (lambda m, a, t: a.update(layers=[]), "architecture: expected at least one layer"),
        (lambda m, a, t: a.update(dtype="float16"), "architecture: dtype: expected float32 or float64, got 'float16'"),
        (lambda m, a, t: a.update(dtype="float64"), "layers.0.weight: expected dtype F64, got F32"),
        (lambda m, a, t: layer(a).update(activation="nonsense"), "activation: expected one of .*, got 'nonsense'"),
        (lambda m, a, t: layer(a).update(activation=1), "architecture: cannot be read"),
        (lambda m, a, t: layer(a).update(in_features=10**30), r"layers.0.weight: expected shape .*, got \[3, 2\]"),
        (lambda m, a, t: layer(a).update(in_features=-3), "in_features: expected at least 1, got -3"),
        (lambda m, a, t: layer(a).update(in_features=3.0), "in_features: expected a whole number, got 3.0"),
        (lambda m, a, t: t.pop("layers.0.bias"), "tensors: missing or not of the architecture: layers.0.bias"),
        (lambda m, a, t: t.update(odd=np.zeros(1)), "tensors: missing or not of the architecture: odd"),
        (lambda m, a, t: t.update({"layers.0.bias": np.zeros(2)}), "layers.0.bias: expected dtype F32, got F64"),
    ],
)
def test_wrong_content(path, change, message):
    write(path, change)
    with pytest.raises(ValueError, match=message):
        fastnn.load(path)


def test_the_unchanged_file_is_right(path):
    write(path, lambda *_: None)
    assert fastnn.load(path).parameter_count == 8
