"""A network in the user's own compiled code, which has it as `Network(table, parameters)`, a named tuple of arrays.

Networks with normalized layers or inputs go as `NormalizedNetwork(table, parameters, statistics)`, to other workers.

    apply, apply_into   out = network(x)
    workspace           the scratch that functions without an allocation take

A sample is 1-D, a batch 2-D. They serve Python as well as compiled code; derivatives are in embedded_derivatives.py.
"""

import numpy as np
from numba import types
from numba.core.errors import TypingError

from .embedded_calls import call_forward, compiled, keep_network
from .embedded_checks import (
    BAD_BATCH,
    BAD_OUT,
    BAD_X,
    FINE,
    MISALIGNED_X,
    NOT_COMPILED,
    OUT_OVERLAPS,
    SMALL_WORKSPACE,
    WORKSPACE_OVERLAPS,
    batch_aligned,
    batch_apart,
    check_arrays,
    check_network_type,
    check_types,
    clear_of,
    clear_of_network,
    network_fault,
    refuse,
    require_fine,
    require_here,
    require_room,
    require_shape,
)
from .embedded_sample import apply_sample
from .inference import forward_inputs
from .jit import inner, kernel, plain
from .layout import inference_workspace, workspace_size
from .operand import operand
from .sensitivity import SEEDS
from .simd import LINE, flat_pointer
from .symbols import checked
from .table import IN, ROW_WORKSPACE, outputs_count
from .table_check import MOST
from .whole_numbers import as_int


@plain
def _inference_size(table, parameters, rows):
    return table[0, ROW_WORKSPACE] if rows <= 1 else inference_workspace(table, parameters, rows, 1)


@checked(NOT_COMPILED)
def _apply_batch(network, x, out, workspace):
    """What is wrong with a batch, or FINE."""
    table, parameters, rows = network.table, network.parameters, x.shape[0]
    if x.shape[1] != table[0, IN]:
        return BAD_X
    if not batch_aligned(x):
        return MISALIGNED_X
    if out.shape != (rows, outputs_count(table)):
        return BAD_OUT
    fault = network_fault(network, workspace)
    if fault != FINE:
        return fault
    if not (batch_apart(x, out) and clear_of_network(network, out)):
        return OUT_OVERLAPS
    if not (batch_apart(x, workspace) and clear_of(out, workspace)):
        return WORKSPACE_OVERLAPS
    if workspace.size < _inference_size(table, parameters, rows):
        return SMALL_WORKSPACE
    target, scratch = flat_pointer(out), flat_pointer(workspace)
    call_forward(network, forward_inputs(table, parameters, 0, operand(x), rows, target, scratch, workspace.size))
    keep_network(network, x, out, workspace)
    return FINE


def _choose_apply_into(network, x, out, workspace):
    check_types(network, {"out": 0}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    if x.ndim == 1:
        return lambda network, x, out, workspace: require_fine(apply_sample(network, x, out, workspace))
    return lambda network, x, out, workspace: require_fine(_apply_batch(network, x, out, workspace))


@compiled(_choose_apply_into)
def apply_into(network, x, out, workspace):
    """out = network(x) on this thread, without an allocation.

    Args:
        network: the `network` of a model. Python's call checks all of it, compiled code trusts the numbers in it.
        x: (in,) or (m, in) of the network's dtype, any strides.
        out: (out,) or (m, out) C-contiguous; must not overlap any of the others.
        workspace: from `workspace(network, m)`, memory that no other of these arrays has.

    Raises:
        ValueError: x, out or workspace do not fit the network.
        TypeError: not an array, or of another dtype. In compiled code numba's TypingError, when compiling.

    >>> import numpy as np, fastnn
    >>> net = fastnn.MLP([2, 8, 1], seed=0)
    >>> x, out = np.ones(2, np.float32), np.empty(1, np.float32)
    >>> fastnn.apply_into(net.network, x, out, fastnn.workspace(net.network, 1))
    >>> bool(out == net.predict(x))
    True
    """
    network = check_arrays(network, {"out": 0}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    rows = 1 if x.ndim == 1 else x.shape[0]
    batch = x.shape[:-1]
    require_shape("x", x, (*batch, network.table[0, IN]), BAD_X)
    require_shape("out", out, (*batch, outputs_count(network.table)), BAD_OUT)
    require_room(workspace, _inference_size(network.table, network.parameters, rows))
    _apply_into_kernel(network, x, out, workspace)


@kernel
def _apply_into_kernel(network, x, out, workspace):
    apply_into(network, x, out, workspace)


@plain
def _is_batch(parameters, batch):
    # A row takes some times as many elements as its layers have units: for more rows the number would not fit 64 bits.
    return 1 <= batch <= MOST // (parameters.size + LINE)


@inner
def _workspace_size(table, parameters, batch):
    if not _is_batch(parameters, batch):
        refuse(BAD_BATCH)
    inference, training = workspace_size(table, parameters, max(batch, SEEDS), 1)
    return max(inference, training)


def _choose_workspace(network, batch):
    check_network_type(network)
    if not isinstance(batch, types.Integer):
        raise TypingError(f"batch: expected a whole number, got {batch}")

    def workspace(network, batch):
        # Of an unsigned number and one of 64 bits Numba would make a float.
        size = _workspace_size(network.table, network.parameters, np.int64(batch))
        return np.empty(size, network.parameters.dtype)

    return workspace


@compiled(_choose_workspace)
def workspace(network, batch):
    """Scratch for the other functions on batches of at most `batch` rows: a new flat array of the network's dtype.

    Raises:
        ValueError: batch is below 1, or so large that no memory holds it.
        TypeError: not a network, or batch is not a whole number.
        MemoryError: there is no such memory.

    >>> import fastnn
    >>> fastnn.workspace(fastnn.MLP([2, 1], seed=0).network, 32).dtype
    dtype('float32')
    """
    network = check_arrays(network, {}, ())
    number = as_int(batch)
    if number is None:
        raise TypeError(f"batch: expected a whole number, got {batch!r:.200}")
    require_here(_is_batch(network.parameters, number), BAD_BATCH)
    return _workspace_kernel(network, number)


@kernel
def _workspace_kernel(network, batch):
    return workspace(network, batch)


def _choose_apply(network, x):
    check_types(network, {"x": 0}, (), x=x)
    if x.ndim == 1:

        def apply(network, x):
            out = np.empty(outputs_count(network.table), network.parameters.dtype)
            apply_into(network, x, out, np.empty(network.table[0, ROW_WORKSPACE], network.parameters.dtype))
            return out

    else:

        def apply(network, x):
            out = np.empty((x.shape[0], outputs_count(network.table)), network.parameters.dtype)
            size = _inference_size(network.table, network.parameters, x.shape[0])
            apply_into(network, x, out, np.empty(size, network.parameters.dtype))
            return out

    return apply


@compiled(_choose_apply)
def apply(network, x):
    """network(x) on this thread, a new array: (out,) for x of shape (in,), (m, out) for (m, in).

    Raises:
        ValueError, TypeError: as `apply_into`.

    >>> import numpy as np, fastnn
    >>> net = fastnn.MLP([2, 8, 3], seed=0)
    >>> fastnn.apply(net.network, np.ones((5, 2), np.float32)).shape
    (5, 3)
    """
    network = check_arrays(network, {"x": 0}, (), x=x)
    require_shape("x", x, (*x.shape[:-1], network.table[0, IN]), BAD_X)
    return _apply_kernel(network, x)


@kernel
def _apply_kernel(network, x):
    return apply(network, x)
