"""Models as safetensors files.

Tensors layers.<i>.weight (in_features, out_features) and layers.<i>.bias (out_features,); metadata
{"format": "fastnn", "version": "1", "architecture": JSON {"dtype": ..., "layers": [{"in_features", "out_features",
"activation"}, ...]}}. Nothing in a file is executed, and nothing is allocated that the file does not hold.

A layer may have "normalization" and "dropout" too; then tensors scale and shift, and for "batch" running_mean and
running_variance, (out_features,) each, stand beside its weight and bias. A `Standardize`, which comes first, is
{"standardize": in_features, "adapted": true or false}, its tensors mean and scale (in_features,).

A checkpoint (see `checkpoint`) has metadata "training" besides, and tensors whose names begin with "training.".
"""

from __future__ import annotations

import json

from .arguments import enum_member, file_path, flag, float_dtype, shortened, shown, whole_number
from .files import write_whole
from .kernels.codes import Activation, Normalization
from .layer import Dense
from .sequential import Sequential
from .standardize import Standardize
from .typing import PathLike

FORMAT = "fastnn"
VERSION = "1"
TRAINING = "training"
# The architecture may have so many characters, and so many more for each tensor: what is longer is not even parsed.
ARCHITECTURE_LENGTH = 1000
LENGTH_A_TENSOR = 200
# So many wrong names are told.
MOST_NAMES = 5


def _architecture(network):
    return {"dtype": network.dtype.name, "layers": [_layer_entry(layer) for layer in network.layers]}


def _layer_entry(layer):
    if isinstance(layer, Standardize):
        return {"standardize": layer.in_features, "adapted": layer.adapted}
    entry = {
        "in_features": layer.in_features,
        "out_features": layer.out_features,
        "activation": layer.activation.name.lower(),
    }
    # A plain network's file is one that versions without these read.
    if layer.normalization is not None:
        entry["normalization"] = layer.normalization.name.lower()
    if layer.dropout:
        entry["dropout"] = layer.dropout
    return entry


def _shapes(layer):
    """Names of a layer's tensors, and their shapes."""
    if isinstance(layer, Standardize):
        return {"mean": (layer.in_features,), "scale": (layer.in_features,)}
    names = ["bias"]
    if layer.normalization is not None:
        names += ["scale", "shift"]
    if layer.normalization == Normalization.BATCH:
        names += ["running_mean", "running_variance"]
    return {"weight": (layer.in_features, layer.out_features)} | dict.fromkeys(names, (layer.out_features,))


def _tensors(network):
    """Views of all weights and vectors by their names in a file."""
    return {
        f"layers.{i}.{name}": getattr(layer, name) for i, layer in enumerate(network.layers) for name in _shapes(layer)
    }


def save(network: Sequential, path: PathLike) -> None:
    """Write a model to a file; see `Sequential.save`."""
    write_file(network, path)


def write_file(network, path, training=None, tensors=None):
    """Write a model, and what a checkpoint has besides: a text, and tensors by names that begin with "training."."""
    import safetensors.numpy

    if network.standardize is not None:
        network.standardize._check_scale()
    metadata = {"format": FORMAT, "version": VERSION, "architecture": json.dumps(_architecture(network))}
    if training is not None:
        metadata[TRAINING] = training
    write_whole(file_path(path), safetensors.numpy.save(_tensors(network) | (tensors or {}), metadata))


def load(path: PathLike) -> Sequential:
    """Read a model that `Sequential.save` wrote, or that of a checkpoint.

    Returns:
        A `Sequential` with the saved architecture, dtype and parameters.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: path is none.
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

    path = file_path(path)
    # Opened here first, for the operating system's own errors.
    with open(path, "rb"):
        pass
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return _read(file, training)
    except safetensors.SafetensorError as error:
        raise ValueError(f"{path}: not a whole safetensors file: {shortened(str(error))}") from error
    except OSError as error:
        raise OSError(f"{path}: cannot be read: {error}") from error
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: {error}") from error


def _read(file, training):
    metadata, names = file.metadata() or {}, set(file.keys())
    for entry, value in (("format", FORMAT), ("version", VERSION)):
        if metadata.get(entry) != value:
            raise ValueError(f"{entry}: expected {value!r}, got {shown(metadata.get(entry))}")
    extra = {name for name in names if TRAINING in metadata and name.startswith(TRAINING + ".")}
    names -= extra
    text = metadata.get("architecture", "")
    most = ARCHITECTURE_LENGTH + LENGTH_A_TENSOR * len(names)
    if len(text) > most:
        raise ValueError(f"architecture: expected at most {most} characters for {len(names)} tensors, got {len(text)}")
    dtype, layers, adapted = _read_architecture(text)
    expected = {f"layers.{i}.{name}": shape for i, layer in enumerate(layers) for name, shape in _shapes(layer).items()}
    if names != set(expected):
        odd = sorted(shortened(name) for name in names ^ set(expected))
        told = ", ".join(odd[:MOST_NAMES]) + (f" and {len(odd) - MOST_NAMES} more" if len(odd) > MOST_NAMES else "")
        raise ValueError(f"tensors: missing or not of the architecture: {told}")
    # All shapes are compared before anything is allocated: a file cannot ask for more memory than it has bytes.
    stored = {"float32": "F32", "float64": "F64"}[dtype.name]
    for name, shape in expected.items():
        tensor = file.get_slice(name)
        if tensor.get_dtype() != stored:
            raise ValueError(f"{name}: expected dtype {stored}, got {tensor.get_dtype()}")
        if tuple(tensor.get_shape()) != shape:
            raise ValueError(f"{name}: expected shape {shown(list(shape))}, got {shown(list(tensor.get_shape()))}")
    network = Sequential(layers, dtype=dtype)
    for name, view in _tensors(network).items():
        view[...] = file.get_tensor(name)
    if network.standardize is not None:
        # Once more, for its checks.
        network.standardize._assign(network.standardize.mean, network.standardize.scale, adapted)
    return network, metadata.get(TRAINING), {name: file.get_tensor(name) for name in extra if training}


def _read_architecture(text):
    """(dtype, layers, whether a `Standardize` among them has learned) from the JSON of a file."""
    try:
        architecture = json.loads(text)
        dtype, entries = float_dtype(architecture["dtype"]), architecture["layers"]
        layers = [_read_layer(entry) for entry in entries]
        adapted = any(isinstance(layer, Standardize) for layer in layers) and flag(entries[0]["adapted"], "adapted")
    except (KeyError, TypeError, IndexError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"architecture: cannot be read: {shown(error)}") from error
    except ValueError as error:
        raise ValueError(f"architecture: {error}") from error
    if not layers:
        raise ValueError("architecture: expected at least one layer, got none")
    return dtype, layers, adapted


def _read_layer(entry):
    """A layer without values, which takes no memory yet."""
    if "standardize" in entry:
        return Standardize(whole_number(entry["standardize"], "standardize", 1))
    return Dense(
        entry["in_features"],
        entry["out_features"],
        enum_member(entry["activation"], Activation, "activation"),
        normalization=entry.get("normalization"),
        dropout=entry.get("dropout", 0.0),
        weight_initializer="zeros",
    )
