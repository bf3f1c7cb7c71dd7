"""A network in the user's own compiled code: it goes there as `Network(table, parameters)`, a named tuple of arrays.

Unlike other kernels these check the shapes that they are given, for in compiled code nobody else does: comparisons of
some nanoseconds. A sample is 1-D, a batch 2-D, which is known when compiling; so are dtypes.
"""

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from .dense import operand
from .gemm import Operand
from .jit import OPTIONS, glue, inner, kernel
from .loss import SOFTMAX_CROSS_ENTROPY
from .network import IN, OUT, ROW_WORKSPACE, forward_rows, loss_and_gradient_serial, workspace_size
from .simd import flat_pointer, pointer


@inner
def _check(table, parameters, features, outputs, rows, same_rows, room):
    if features != table[0, IN]:
        raise ValueError("x: its last axis is not the network's in_features")
    if outputs != table[table.shape[0] - 1, OUT] or not same_rows:
        raise ValueError("out: expected a row of the network's out_features for each row of x")
    needed = table[0, ROW_WORKSPACE] if rows == 1 else workspace_size(table, parameters, rows, 1)[0]
    if room < needed:
        raise ValueError("workspace: too small for this batch; fastnn.workspace(network, batch) makes one")


@glue
def _span(array):
    """Addresses of an array's lowest byte and of the first one behind it."""
    low = high = array.ctypes.data
    if array.size == 0:
        return low, low
    for length, stride in zip(array.shape, array.strides):  # noqa: B905 (Numba's zip takes no `strict`)
        reach = (length - 1) * stride
        low, high = low + min(reach, 0), high + max(reach, 0)
    return low, high + array.itemsize


@glue
def _overlap(a, b):
    """Whether two arrays lie over each other, also if only gaps of the one are filled by the other."""
    a_low, a_high = _span(a)
    b_low, b_high = _span(b)
    return a_low < b_high and b_low < a_high


@glue
def _apply_sample(network, x, out, workspace):
    table, parameters = network.table, network.parameters
    _check(table, parameters, x.shape[0], out.shape[0], 1, True, workspace.size)
    if _overlap(x, out):
        raise ValueError("out: expected memory of its own, got an array that overlaps x")
    source = Operand(pointer(x), 0, x.strides[0] // x.itemsize)
    forward_rows(table, flat_pointer(parameters), source, 0, 1, flat_pointer(out), flat_pointer(workspace))


@glue
def _apply_batch(network, x, out, workspace):
    table, parameters = network.table, network.parameters
    rows = x.shape[0]
    _check(table, parameters, x.shape[1], out.shape[1], rows, out.shape[0] == rows, workspace.size)
    if _overlap(x, out):
        raise ValueError("out: expected memory of its own, got an array that overlaps x")
    forward_rows(table, flat_pointer(parameters), operand(x), 0, rows, flat_pointer(out), flat_pointer(workspace))


def _dtypes_agree(network, **arrays):
    """Refuse when compiling: what has another dtype than the network would be read as something else."""
    dtype = network.types[1].dtype
    for name, array in arrays.items():
        if not isinstance(array, types.Array) or array.dtype != dtype:
            raise TypingError(f"{name}: expected an array of {dtype}, the network's dtype, got {array}")


def _choose_apply_into(network, x, out, workspace):
    _dtypes_agree(network, x=x, out=out, workspace=workspace)
    if x.ndim not in (1, 2) or out.ndim != x.ndim:
        raise TypingError(f"x and out: expected both 1-D or both 2-D, got {x.ndim}-D and {out.ndim}-D")
    if x.ndim == 1:
        return lambda network, x, out, workspace: _apply_sample(network, x, out, workspace)
    return lambda network, x, out, workspace: _apply_batch(network, x, out, workspace)


def _apply_into(network, x, out, workspace):
    raise NotImplementedError("called from compiled code only")


overload(_apply_into, strict=False, jit_options=OPTIONS)(_choose_apply_into)


@kernel
def apply_into(network, x, out, workspace):
    """out = network(x) on this thread, without an allocation.

    Args:
        network: Network(table, parameters).
        x: (in,) or (m, in) of any strides.
        out: (out,) or (m, out) C-contiguous; must not overlap x.
        workspace: from `workspace(network, m)`.

    Raises:
        ValueError: x, out or workspace do not fit the network, or out overlaps x.
    """
    _apply_into(network, x, out, workspace)


@kernel
def workspace(network, batch):
    """Scratch for `apply_into` and `gradient` on batches of at most `batch` rows, of the network's dtype."""
    if batch < 1:
        raise ValueError("batch: expected at least 1")
    inference, training = workspace_size(network.table, network.parameters, batch, 1)
    return np.empty(max(inference, training), network.parameters.dtype)


def _apply(network, x):
    raise NotImplementedError("called from compiled code only")


@overload(_apply, strict=False, jit_options=OPTIONS)
def _choose_apply(network, x):
    _dtypes_agree(network, x=x)
    if x.ndim == 1:

        def apply(network, x):
            outputs = network.table[network.table.shape[0] - 1, OUT]
            out = np.empty(outputs, network.parameters.dtype)
            apply_into(network, x, out, workspace(network, 1))
            return out

    else:

        def apply(network, x):
            outputs = network.table[network.table.shape[0] - 1, OUT]
            out = np.empty((x.shape[0], outputs), network.parameters.dtype)
            apply_into(network, x, out, workspace(network, max(1, x.shape[0])))
            return out

    return apply


@kernel
def apply(network, x):
    """network(x) on this thread, a new array: (out,) for x of shape (in,), (m, out) for (m, in)."""
    return _apply(network, x)


@kernel
def gradient(network, x, y, loss, gradient, workspace):
    """The loss of a batch on this thread; `gradient` receives its gradient. Nothing is allocated.

    Args:
        network: Network(table, parameters).
        x: (m, in) of any strides, at least one row.
        y: (m, out) C-contiguous, or (m, 1) class labels for softmax_cross_entropy.
        loss: a `Loss`.
        gradient: like the parameters.
        workspace: from `workspace(network, m)`.

    Raises:
        ValueError: the shapes do not fit the network, or gradient overlaps x.
    """
    table, parameters = network.table, network.parameters
    rows = x.shape[0]
    labels = loss == SOFTMAX_CROSS_ENTROPY and y.shape[1] == 1
    if x.shape[1] != table[0, IN] or rows < 1:
        raise ValueError("x: expected at least one row of the network's in_features")
    if y.shape[0] != rows or not (labels or y.shape[1] == table[table.shape[0] - 1, OUT]):
        raise ValueError("y: expected a row of the network's out_features, or one label, for each row of x")
    if gradient.size != parameters.size:
        raise ValueError("gradient: expected the size of the parameters")
    if _overlap(x, gradient):
        raise ValueError("gradient: expected memory of its own, got an array that overlaps x")
    if workspace.size < workspace_size(table, parameters, rows, 1)[1]:
        raise ValueError("workspace: too small for this batch; fastnn.workspace(network, batch) makes one")
    return loss_and_gradient_serial(table, parameters, x, y, workspace[:0], loss, gradient, workspace)
