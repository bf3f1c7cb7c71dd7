"""Models as ONNX files, for ONNX Runtime and whatever else reads them; needs the extra `onnx`.

`save` writes a `Sequential` of any kind as it predicts, in float32 or float64. `load` reads dense networks, those of
`save` and those that other libraries export, as a `Sequential`.

>>> import pathlib, tempfile
>>> import numpy as np
>>> import fastnn
>>> net = fastnn.MLP([4, 16, 3], activation="gelu", output_activation="softmax", seed=0)
>>> path = pathlib.Path(tempfile.mkdtemp(), "net.onnx")
>>> save(net, path)
>>> load(path).layers
(Dense(4, 16, activation='gelu'), Dense(16, 3, activation='softmax'))
>>> bool(np.array_equal(load(path).parameters, net.parameters))
True
"""

from __future__ import annotations

try:
    # For the modules below: here it is told what to install.
    import onnx  # noqa: F401
except ImportError as error:
    raise ImportError('fastnn.onnx needs the extra "onnx": pip install "onnx>=1.16"') from error

from . import onnx_file, onnx_graph, onnx_writer
from .arguments import file_path
from .files import write_whole
from .sequential import Sequential
from .typing import PathLike

__all__ = ["load", "save"]


def save(network: Sequential, path: PathLike) -> None:
    """Write a model to an ONNX file, whole or not at all.

    The file has one input, "x" (batch, in_features), and one output, "y" (batch, out_features), both of the model's
    dtype; batch may be any number. Its initializers have the names of the safetensors files: layers.<i>.weight
    (in_features, out_features), layers.<i>.bias and so on. The opset is 20, the IR version 9: onnxruntime reads it from
    1.18 on. Results agree with `predict` to rounding.

    In float64 ONNX Runtime lacks kernels for leaky_relu, elu, selu, softplus, gelu, silu, hardsigmoid and hardswish,
    and ONNX has epsilon as float32 alone: there a layer calls a function that the file itself defines, of operators
    that have kernels.

    Not the same are infinite pre-activations in float32: of -inf silu, gelu, gelu_tanh and hardswish may be nan in
    ONNX, as infinity times 0 is, and are 0 here. Dropout, which does nothing outside of training, is not written.

    Args:
        network: a `Sequential`.
        path: a str, bytes or os.PathLike; conventionally it ends in ".onnx".

    Raises:
        OSError: the file cannot be written; an old one is as it was.
        TypeError: network is no `Sequential`, or path is none.
        ValueError: the parameters have more bytes than an ONNX file can hold, 2 GiB; or path names no file.

    >>> import pathlib, tempfile
    >>> import fastnn
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.onnx")
    >>> save(fastnn.MLP([2, 8, 1], seed=0), path)
    >>> path.exists()
    True
    """
    if not isinstance(network, Sequential):
        raise TypeError(f"network: expected a Sequential, got {type(network).__name__}")
    write_whole(file_path(path), onnx_writer.content(network))


def load(path: PathLike, output: str | None = None) -> Sequential:
    """Read a dense network from an ONNX file.

    What `save` wrote comes back with the same layers and, to the bit, the same parameters and statistics, but without
    dropout. Of other writers' graphs, opset 7 to 28, these are read, if they have one input and one output, of shape
    (batch, features), float32 or float64 throughout; an input of more axes, as that of images, if they are flattened
    before all but factors and summands of one number: then `predict` takes rows of all its features.

    - Gemm with any transB, alpha and beta; MatMul with a constant behind it, and Add or Sub of a bias;
    - all activations of fastnn, as operators with fastnn's alpha and the like and softmax over the last axis, or
      spelled out, as x (1 + Erf(x / sqrt 2)) / 2 is, which is taken for the function that it stands for;
    - BatchNormalization in use; one behind an activation goes into the next weight; an epsilon other than 1e-5 goes
      into the variance; LayerNormalization, also spelled out by ReduceMean, Sub, Pow, Sqrt and Div, an epsilon other
      than 1e-5 going into the weight before it, behind an activation or on the input with a `Dense` before it that
      changes nothing, 4,096 columns wide at most;
    - factors and summands, one number or one for each column, which go into the weights before or behind them, at the
      end into a `Dense` of their own;
    - (x - mean) / scale and x factor + number of the input, ai.onnx.ml.Scaler and BatchNormalization of the input,
      which become a `Standardize`; other factors and summands of the input, which go into the first weight;
    - Identity, Dropout, Flatten and Reshape that change nothing, the latter's shape a constant or made of the input's
      by Shape, Gather, Unsqueeze and Concat; Cast of the input, and of the output to DOUBLE;
    - Concat of 1 - p and p, p the sigmoid of one result, as skl2onnx writes two classes, which become a softmax;
    - weights that are transposed or cast constants.

    Nodes that do not lead to the output are not looked at. Weights in files of their own, as torch.onnx.export writes
    them unless told external_data=False, come into one file by onnx.save(onnx.load(path), other_path).

    All else is refused. The file is data alone: nothing in it is executed, no other file is opened, whatever it names,
    and memory is bounded by a multiple of the file's size and 200 MB for layers that change nothing.

    Args:
        path: a str, bytes or os.PathLike.
        output: where a file has several outputs, the name of the one that the network is to give, as "probabilities" of
            a classifier that skl2onnx wrote; or the name of a node's result.

    Returns:
        A `Sequential` of the file's dtype.

    Raises:
        OSError: there is no such file, or it cannot be read.
        TypeError: path is none, or output no str.
        ValueError: the file is not a whole ONNX file, or not a dense network; the message names the node, its operator,
            what was expected and what is there.

    >>> import pathlib, tempfile
    >>> import fastnn
    >>> path = pathlib.Path(tempfile.mkdtemp(), "net.onnx")
    >>> save(fastnn.MLP([2, 8, 1], activation="silu", seed=0), path)
    >>> load(path)
    Sequential([Dense(2, 8, activation='silu'), Dense(8, 1, activation='identity')], dtype='float32')
    """
    path = file_path(path)
    if not isinstance(output, str | None):
        raise TypeError(f"output: expected a str or None, got {type(output).__name__}")
    try:
        model, size = onnx_file.read_model(path)
        return onnx_graph.network(model, size, output)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
