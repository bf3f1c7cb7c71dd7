"""What networks in compiled code check of their arguments, and the errors that say what is wrong.

Those of embedded_apply.py and embedded_derivatives.py check more than other kernels (argument_checks.py): dtypes and
dimensions when compiling, shapes, sizes and overlaps when called. Python's calls check all that in Python, for a kernel
that raises never lets go of the arrays that it was called with, and the numbers in the table too (see table_check.py).
Compiled code leaves those numbers alone, for that would take it longer than a small network: give it the table that a
model has, not one of your own making.
"""

import numpy as np
from numba import types
from numba.core.errors import TypingError
from numba.extending import overload

from .codes import Loss
from .jit import OPTIONS, glue, inner
from .network import Network, NormalizedNetwork
from .simd import address_of, flat_pointer, pointer
from .table import parameters_count, statistics_count
from .table_check import checked_network

LOSSES = len(Loss)
# What is wrong.
(
    BAD_X,
    BAD_OUT,
    BAD_DY,
    BAD_DY_OR_DX,
    BAD_JACOBIAN,
    BAD_Y,
    BAD_GRADIENT,
    BAD_LOSS,
    BAD_PARAMETER,
    BAD_WEIGHTS,
    BAD_BATCH,
    BAD_NETWORK,
    NO_ROWS,
    ONE_ROW,
    MISALIGNED_X,
    SMALL_WORKSPACE,
    OUT_OVERLAPS,
    DX_OVERLAPS,
    GRADIENT_OVERLAPS,
    WORKSPACE_OVERLAPS,
    NOT_COMPILED,
) = range(21)


# What a function returns if nothing is.
FINE = -1


@inner
def refuse(code):
    """Raise what is wrong. In a function of its own: a raise in its body would make the user's `prange` loop serial."""
    if code == BAD_X:
        raise ValueError("x: its last axis is not the network's in_features")
    if code == MISALIGNED_X:
        raise ValueError("x: expected an aligned array, got strides or an address between two elements")
    if code == BAD_OUT:
        raise ValueError("out: expected a row of the network's out_features for each row of x")
    if code == BAD_DY_OR_DX:
        raise ValueError("dy and dx: expected a row of out_features and one of in_features for each row of x")
    if code == BAD_JACOBIAN:
        raise ValueError("out: expected an array (out_features, in_features) for each row of x")
    if code == BAD_Y:
        raise ValueError("y: expected a row of the network's out_features, or one label, for each row of x")
    if code == BAD_DY:
        raise ValueError("dy: expected a row of the network's out_features for each row of x")
    if code == BAD_GRADIENT:
        raise ValueError("gradient: expected the size of the parameters")
    if code == BAD_LOSS:
        raise ValueError("loss: expected a member of fastnn.Loss")
    if code == BAD_PARAMETER:
        raise ValueError(
            "loss_parameter: expected a finite delta above 0 of huber, or a q of quantile between 0 and 1, "
            "or an array with one for each output"
        )
    if code == BAD_WEIGHTS:
        raise ValueError("sample_weight: expected one for each row of x")
    if code == BAD_BATCH:
        raise ValueError("batch: expected at least 1, and no more than any memory holds")
    if code == NO_ROWS:
        raise ValueError("x: expected at least one row")
    if code == OUT_OVERLAPS:
        raise ValueError("out: expected memory of its own, got an array that overlaps x or the network")
    if code == DX_OVERLAPS:
        raise ValueError("dx: expected memory of its own, got an array that overlaps x, dy or the network")
    if code == GRADIENT_OVERLAPS:
        raise ValueError("gradient: expected memory of its own, got an array that overlaps another or the network")
    if code == WORKSPACE_OVERLAPS:
        raise ValueError("workspace: expected memory of its own, got an array that overlaps another or the network")
    if code == BAD_NETWORK:
        raise ValueError("network: expected parameters and statistics of the sizes that its table tells")
    if code == ONE_ROW:
        raise ValueError("x: expected at least two rows, since a layer is normalized over the batch")
    if code == NOT_COMPILED:
        raise RuntimeError(
            "a kernel of fastnn could not be compiled; or this function was compiled against another version of it: "
            "delete its cache"
        )
    raise ValueError("workspace: too small for this batch; fastnn.workspace(network, batch) makes one")


@glue
def _require(condition, code):
    if not condition:
        refuse(code)


@glue
def require_fine(fault):
    """Raise what is wrong, if anything is."""
    # By a function more: where the branch was in here, Numba's own check warned of a caller with two such calls.
    _require(fault == FINE, fault)


@glue
def _stride(x, axis):
    # That of an axis of length 1 means nothing.
    # Without a branch: Numba's own check warns of one in code that is copied into its caller twice.
    return x.strides[axis] * (x.shape[axis] > 1)


@glue
def span_aligned(first, length, stride, size):
    """Whether no element lies across the places of two, as in arrays of records: Numba has no type for those."""
    return (first | stride * (length > 1)) & (size - 1) == 0


@glue
def sample_aligned(x):
    return span_aligned(address_of(pointer(x)), x.shape[0], x.strides[0], x.itemsize)


@glue
def batch_aligned(x):
    return (address_of(pointer(x)) | _stride(x, 0) | _stride(x, 1)) & (x.itemsize - 1) == 0


@glue
def _apart(low, high, out):
    """Whether an array lies beside what is from address `low` to `high`: kernels read x while they write."""
    start = address_of(pointer(out))
    return (start >= high) | (start + out.size * out.itemsize <= low) | (out.size == 0)


@glue
def span_apart(first, length, stride, size, out):
    # Gaps between elements count as x.
    last = first + (length - 1) * stride
    return _apart(min(first, last), max(first, last) + size, out)


@glue
def sample_apart(x, out):
    return span_apart(address_of(pointer(x)), x.shape[0], x.strides[0], x.itemsize, out)


@glue
def batch_apart(x, out):
    first, down, across = address_of(pointer(x)), (x.shape[0] - 1) * x.strides[0], (x.shape[1] - 1) * x.strides[1]
    return _apart(first + min(0, down) + min(0, across), first + max(0, down) + max(0, across) + x.itemsize, out)


@glue
def clear_of(array, out):
    """The same for a contiguous array."""
    start = address_of(flat_pointer(array))
    return _apart(start, start + array.size * array.itemsize, out)


def clear_of_network(network, out):
    """Whether a contiguous array lies beside parameters and statistics."""
    raise NotImplementedError("called from compiled code only")


def sizes_fit(network):
    """Whether parameters and statistics have the sizes that the table tells."""
    raise NotImplementedError("called from compiled code only")


@overload(clear_of_network, strict=False, inline="always", jit_options=OPTIONS)
def _choose_clear(network, out):
    if network.instance_class is NormalizedNetwork:
        return lambda network, out: clear_of(network.parameters, out) & clear_of(network.statistics, out)
    return lambda network, out: clear_of(network.parameters, out)


@overload(sizes_fit, strict=False, inline="always", jit_options=OPTIONS)
def _choose_sizes(network):
    if network.instance_class is NormalizedNetwork:
        return lambda network: (
            (network.parameters.size == parameters_count(network.table))
            & (network.statistics.size == statistics_count(network.table))
        )
    return lambda network: network.parameters.size == parameters_count(network.table)


@glue
def network_fault(network, workspace):
    """What all functions want of a network, and of the workspace beside it, as a code."""
    if not sizes_fit(network):
        return BAD_NETWORK
    return FINE if clear_of_network(network, workspace) else WORKSPACE_OVERLAPS


def check_network_type(network):
    """Refuse when compiling what is no network, or has arrays that kernels cannot follow."""
    if not isinstance(network, types.NamedTuple) or network.instance_class not in (Network, NormalizedNetwork):
        raise TypingError(f"network: expected the network of a model, got {network}")
    table, parameters, *statistics = network.types
    for array, dimensions, dtypes in (
        (table, 2, (types.int64,)),
        (parameters, 1, (types.float32, types.float64)),
        *((array, 1, (parameters.dtype,)) for array in statistics),
    ):
        if not isinstance(array, types.Array) or array.dtype not in dtypes or array.ndim != dimensions:
            raise TypingError(f"network: expected the arrays of a model, got {array}")
        if array.layout != "C":
            raise TypingError(f"network: expected C-contiguous arrays, got {array}")


def check_types(network, dimensions, written, **arrays):
    """Refuse when compiling; `dimensions` says how many axes an array has more than x."""
    check_network_type(network)
    dtype = network.types[1].dtype
    for name, array in arrays.items():
        if not isinstance(array, types.Array) or array.dtype != dtype:
            raise TypingError(f"{name}: expected an array of {dtype}, the network's dtype, got {array}")
        if name != "x" and array.layout != "C":
            raise TypingError(f"{name}: expected a C-contiguous array, got {array}")
        if name == "workspace" and array.ndim != 1:
            raise TypingError(f"workspace: expected 1-D, got {array.ndim}-D")
        if name in written and not array.mutable:
            raise TypingError(f"{name}: expected a writeable array, got {array}")
    _agree(TypingError, dimensions, arrays)


def _agree(error, dimensions, arrays):
    for name, extra in dimensions.items():
        found = arrays["x"].ndim, arrays[name].ndim
        if name == "x" and found[0] not in (1, 2):
            raise error(f"x: expected 1-D or 2-D, got {found[0]}-D")
        if found not in ((1, 1 + extra), (2, 2 + extra)):
            expected = "both 1-D or both 2-D" if extra == 0 else f"1-D and {1 + extra}-D or 2-D and {2 + extra}-D"
            raise error(f"x and {name}: expected {expected}, got {found[0]}-D and {found[1]}-D")


def require_here(condition, code, found=""):
    """Raise what is wrong, in Python: kernels that raise keep the arrays that Python gave them for ever.

    found: what compiled code cannot say, which knows its messages when it is compiled.
    """
    if not condition:
        try:
            refuse.py_func(code)
        except ValueError as error:
            raise ValueError(f"{error}{found}") from None


def require_shape(name, array, expected, code):
    """The same of an array that has not the shape expected, a tuple."""
    if array.shape != expected:
        require_here(False, code, f"; {name}: expected shape {tuple(map(int, expected))}, got {array.shape}")


def require_room(workspace, size):
    """The same of a workspace that is smaller than that."""
    if workspace.size < size:
        require_here(False, SMALL_WORKSPACE, f"; expected {size} elements, got {workspace.size}")


def check_arrays(network, dimensions, written, **arrays):
    """The same for arrays that Python hands over, and what the compiler does not see; returns the network to use."""
    network = checked_network(network)
    dtype = network.parameters.dtype
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray) or array.dtype != dtype:
            got = array.dtype if type(array) is np.ndarray else type(array).__name__
            raise TypeError(f"{name}: expected an ndarray of {dtype}, the network's dtype, got {got}")
        if not array.flags.aligned:
            raise ValueError(f"{name}: expected an aligned array, got strides {array.strides}")
        if name != "x" and not array.flags.c_contiguous:
            raise ValueError(f"{name}: expected a C-contiguous array")
        if name == "workspace" and array.ndim != 1:
            raise ValueError(f"workspace: expected 1-D, got {array.ndim}-D")
    _agree(ValueError, dimensions, arrays)
    for name in written:
        if not arrays[name].flags.writeable:
            raise ValueError(f"{name}: expected a writeable array, got a read-only one")
        for other, array in (*arrays.items(), *zip(network._fields, network, strict=True)):
            if other != name and np.may_share_memory(arrays[name], array):
                raise ValueError(f"{name}: expected memory of its own, it overlaps {other}")
    return network
