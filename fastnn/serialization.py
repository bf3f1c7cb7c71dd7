"""Models as safetensors files.

Tensors layers.<i>.weight (in_features, out_features) and layers.<i>.bias (out_features,); metadata
{"format": "fastnn", "version": "1", "architecture": JSON {"dtype": ..., "layers": [{"in_features", "out_features",
"activation"}, ...]}}. Nothing in a file is executed, and nothing is allocated that the file does not hold.

A checkpoint (see `checkpoint`) has metadata "training" besides, and tensors whose names begin with "training.".
"""

import json
import os

from .files import write_whole
from .kernels.codes import Activation
from .layer import Dense
from .sequential import Sequential
from .validation import enum_member, float_dtype

FORMAT = "fastnn"
VERSION = "1"
TRAINING = "training"


def _architecture(network):
    return {
        "dtype": network.dtype.name,
        "layers": [
            {
                "in_features": layer.in_features,
                "out_features": layer.out_features,
                "activation": layer.activation.name.lower(),
            }
            for layer in network.layers
        ],
    }


def _tensors(network):
    """Views of all weights and biases by their names in a file."""
    tensors = {}
    for i, layer in enumerate(network.layers):
        tensors[f"layers.{i}.weight"] = layer.weight
        tensors[f"layers.{i}.bias"] = layer.bias
    return tensors


def save(network, path):
    """Write a model to a file; see `Sequential.save`."""
    write_file(network, path)


def write_file(network, path, training=None, tensors=None):
    """Write a model, and what a checkpoint has besides: a text, and tensors by names that begin with "training."."""
    import safetensors.numpy

    metadata = {"format": FORMAT, "version": VERSION, "architecture": json.dumps(_architecture(network))}
    if training is not None:
        metadata[TRAINING] = training
    write_whole(path, safetensors.numpy.save(_tensors(network) | (tensors or {}), metadata))


def load(path):
    """Read a model that `Sequential.save` wrote, or that of a checkpoint.

    Returns:
        A `Sequential` with the saved architecture, dtype and parameters.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a model of fastnn, or not a whole one; the message says what is wrong.

    >>> import pathlib, tempfile
    >>> from fastnn import MLP
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.safetensors")
    >>> MLP([2, 3, 1], seed=0).save(path)
    >>> load(path).layers
    (Dense(2, 3, activation='relu'), Dense(3, 1, activation='identity'))
    """
    return read_file(path, training=False)[0]


def read_file(path, training=True):
    """(model, training text or None, {name: tensor}) of a file; without `training` the model alone is read."""
    import safetensors

    # Opened here first, for the operating system's own errors.
    with open(path, "rb"):
        pass
    try:
        with safetensors.safe_open(os.fspath(path), framework="numpy") as file:
            return _read(file, training)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read(file, training):
    metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(f"format: expected {FORMAT!r}, got {metadata.get('format')!r}")
    if metadata.get("version") != VERSION:
        raise ValueError(f"version: expected {VERSION!r}, got {metadata.get('version')!r}")
    dtype, sizes = _read_architecture(metadata.get("architecture", ""))
    expected = {}
    for i, (in_features, out_features, _) in enumerate(sizes):
        expected[f"layers.{i}.weight"] = [in_features, out_features]
        expected[f"layers.{i}.bias"] = [out_features]
    text = metadata.get(TRAINING)
    extra = {name for name in file.keys() if text is not None and name.startswith(TRAINING + ".")}  # noqa: SIM118
    names = set(file.keys()) - extra
    if names != set(expected):
        odd = sorted(names ^ set(expected))
        raise ValueError(f"tensors: missing or not of the architecture: {', '.join(odd)}")
    # All shapes are compared before anything is allocated: a file cannot ask for more memory than it has bytes.
    stored = {"float32": "F32", "float64": "F64"}[dtype.name]
    for name, shape in expected.items():
        tensor = file.get_slice(name)
        if tensor.get_dtype() != stored:
            raise ValueError(f"{name}: expected dtype {stored}, got {tensor.get_dtype()}")
        if list(tensor.get_shape()) != shape:
            raise ValueError(f"{name}: expected shape {shape}, got {list(tensor.get_shape())}")
    network = Sequential([Dense(*size, weight_initializer="zeros") for size in sizes], dtype=dtype)
    for name, view in _tensors(network).items():
        view[...] = file.get_tensor(name)
    return network, text, {name: file.get_tensor(name) for name in extra if training}


def _read_architecture(text):
    """(dtype, [(in_features, out_features, activation), ...]) from the JSON of a file."""
    try:
        architecture = json.loads(text)
        dtype = float_dtype(architecture["dtype"])
        sizes = [
            (layer["in_features"], layer["out_features"], enum_member(layer["activation"], Activation, "activation"))
            for layer in architecture["layers"]
        ]
    except (KeyError, TypeError, IndexError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"architecture: cannot be read: {error!r}") from error
    except ValueError as error:
        raise ValueError(f"architecture: {error}") from error
    if not sizes:
        raise ValueError("architecture: expected at least one layer, got none")
    return dtype, sizes
