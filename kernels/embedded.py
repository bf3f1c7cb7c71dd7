"""A network in the user's own compiled code: it goes there as `Network(table, parameters)`, a named tuple of arrays.

Networks with normalised layers or inputs go as `NormalizedNetwork(table, parameters, statistics)`, to other workers.

    apply, apply_into   out = network(x)
    vjp                 dx = dy^T d network(x) / dx
    jacobian            out[i, j] = d network(x)[i] / d x[j]
    gradient            d loss / d parameters

Unlike other kernels these check what they are given, for in compiled code nobody else does: dtypes and dimensions when
compiling (a sample is 1-D, a batch 2-D), shapes when called. They serve Python as well as compiled code. Python's calls
check the numbers in the table too (see table_check.py). Compiled code does not, for that would take it longer than a
small network: give it the network that a model has, not a tuple of your own making.

The work is done by the workers that Python's calls use too; compiled code finds them by address. So a user's function
compiles in 1 to 5 s, where with all the machine code in it a `prange` loop over `apply` took 8 s.
"""

import operator

import numpy as np
from numba import carray, types
from numba.core.errors import TypingError
from numba.extending import overload

from .codes import Loss
from .dense import operand
from .jit import OPTIONS, call, glue, inner, kernel
from .loss import HUBER, QUANTILE, SOFTMAX_CROSS_ENTROPY, default_parameter, quantile_parameter
from .network import (
    IN,
    LINE,
    OUT,
    ROW_WORKSPACE,
    STANDARDIZED,
    STATISTICS_SIZE,
    Network,
    NormalizedNetwork,
    batch_loss,
    find_forward,
    find_gradient,
    find_rows,
    find_sample,
    forward_arguments,
    layer_parts,
    workspace_size,
)
from .normalized_sensitivity import find_normalized_sensitivity
from .regularized import (
    find_conductor,
    find_normalized_forward,
    find_normalized_sample,
    find_regularized_gradient,
    mean_and_scale,
)
from .sensitivity import SEEDS, find_jacobian, find_vjp
from .simd import address_of, flat_pointer, keep_alive, pointer
from .standardization import find_standardize
from .table_check import MOST, checked_network

LOSSES = len(Loss)
BAD_X, BAD_OUT, BAD_DY, BAD_JACOBIAN, BAD_Y, BAD_GRADIENT, BAD_LOSS, BAD_BATCH, NO_ROWS, SMALL_WORKSPACE = range(10)
OUT_OVERLAPS, DX_OVERLAPS, GRADIENT_OVERLAPS, ONE_ROW, BAD_PARAMETER, MISALIGNED_X = range(10, 16)


@inner
def _refuse(code):
    """Raise what is wrong. In a function of its own: a raise in its body would make the user's `prange` loop serial."""
    if code == BAD_X:
        raise ValueError("x: its last axis is not the network's in_features")
    if code == MISALIGNED_X:
        raise ValueError("x: expected an aligned array, got strides or an address between two elements")
    if code == BAD_OUT:
        raise ValueError("out: expected a row of the network's out_features for each row of x")
    if code == BAD_DY:
        raise ValueError("dy and dx: expected a row of out_features and one of in_features for each row of x")
    if code == BAD_JACOBIAN:
        raise ValueError("out: expected an array (out_features, in_features) for each row of x")
    if code == BAD_Y:
        raise ValueError("y: expected a row of the network's out_features, or one label, for each row of x")
    if code == BAD_GRADIENT:
        raise ValueError("gradient: expected the size of the parameters")
    if code == BAD_LOSS:
        raise ValueError("loss: expected a member of fastnn.Loss")
    if code == BAD_PARAMETER:
        raise ValueError(
            "loss_parameter: expected a finite delta above 0 of huber, or a q of quantile between 0 and 1, "
            "or an array with one for each output"
        )
    if code == BAD_BATCH:
        raise ValueError("batch: expected at least 1, and no more than any memory holds")
    if code == NO_ROWS:
        raise ValueError("x: expected at least one row")
    if code == OUT_OVERLAPS:
        raise ValueError("out: expected memory of its own, got an array that overlaps x or the network")
    if code == DX_OVERLAPS:
        raise ValueError("dx: expected memory of its own, got an array that overlaps x, dy or the network")
    if code == GRADIENT_OVERLAPS:
        raise ValueError("gradient: expected memory of its own, got an array that overlaps x, y or the network")
    if code == ONE_ROW:
        raise ValueError("x: expected at least two rows, since a layer is normalised over the batch")
    raise ValueError("workspace: too small for this batch; fastnn.workspace(network, batch) makes one")


@glue
def _require(condition, code):
    # Conditions are joined by &: `and` makes a branch, which the function that this is copied into would have too.
    if not condition:
        _refuse(code)


@glue
def _stride(x, axis):
    # That of an axis of length 1 means nothing.
    # Without a branch: Numba's own check warns of one in code that is copied into its caller twice.
    return x.strides[axis] * (x.shape[axis] > 1)


@glue
def _sample_aligned(x):
    """Whether no element lies across the places of two, as in arrays of records: Numba has no type for those."""
    return (address_of(pointer(x)) | _stride(x, 0)) & (x.itemsize - 1) == 0


@glue
def _batch_aligned(x):
    return (address_of(pointer(x)) | _stride(x, 0) | _stride(x, 1)) & (x.itemsize - 1) == 0


@glue
def _apart(low, high, out):
    """Whether an array lies beside what is from address `low` to `high`: kernels read x while they write."""
    start = address_of(pointer(out))
    return (start >= high) | (start + out.size * out.itemsize <= low) | (out.size == 0)


@glue
def _sample_apart(x, out):
    # Gaps in x count as x.
    first = address_of(pointer(x))
    last = first + (x.shape[0] - 1) * x.strides[0]
    return _apart(min(first, last), max(first, last) + x.itemsize, out)


@glue
def _batch_apart(x, out):
    first, down, across = address_of(pointer(x)), (x.shape[0] - 1) * x.strides[0], (x.shape[1] - 1) * x.strides[1]
    return _apart(first + min(0, down) + min(0, across), first + max(0, down) + max(0, across) + x.itemsize, out)


@glue
def _clear_of(array, out):
    """The same for a contiguous array."""
    start = address_of(flat_pointer(array))
    return _apart(start, start + array.size * array.itemsize, out)


@glue
def _keep(network, x, y, workspace):
    keep_alive(network.table)
    keep_alive(network.parameters)
    keep_alive(x)
    keep_alive(y)
    keep_alive(workspace)


@glue
def _outputs(table):
    return table[table.shape[0] - 1, OUT]


@inner
def _inference_size(table, parameters, rows):
    return table[0, ROW_WORKSPACE] if rows <= 1 else workspace_size(table, parameters, rows, 1)[0]


@inner
def _training_size(table, parameters, rows):
    return workspace_size(table, parameters, rows, 1)[1]


def _network_fits(network):
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


def _fits(network, dimensions, written, **arrays):
    """Refuse when compiling; `dimensions` says how many axes an array has more than x."""
    _network_fits(network)
    dtype = network.types[1].dtype
    for name, array in arrays.items():
        if not isinstance(array, types.Array) or array.dtype != dtype:
            raise TypingError(f"{name}: expected an array of {dtype}, the network's dtype, got {array}")
        if name in written and not array.mutable:
            raise TypingError(f"{name}: expected a writeable array, got {array}")
    _agree(TypingError, dimensions, arrays)


def _agree(error, dimensions, arrays):
    for name, extra in dimensions.items():
        found = arrays["x"].ndim, arrays[name].ndim
        if found not in ((1, 1 + extra), (2, 2 + extra)):
            expected = "both 1-D or both 2-D" if extra == 0 else f"1-D and {1 + extra}-D or 2-D and {2 + extra}-D"
            raise error(f"x and {name}: expected {expected}, got {found[0]}-D and {found[1]}-D")


def _check(network, dimensions, written, **arrays):
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
    _agree(ValueError, dimensions, arrays)
    for name in written:
        if not arrays[name].flags.writeable:
            raise ValueError(f"{name}: expected a writeable array, got a read-only one")
        for other, array in (*arrays.items(), *zip(network._fields, network, strict=True)):
            if other != name and np.may_share_memory(arrays[name], array):
                raise ValueError(f"{name}: expected memory of its own, it overlaps {other}")
    return network


def _by_kind(plain, normalized):
    """A function for compiled code that is `plain` or `normalized`, by the type of the network that it is given."""

    def function(network, arguments):
        raise NotImplementedError("called from compiled code only")

    def choose(network, arguments):
        if network.instance_class is NormalizedNetwork:
            return lambda network, arguments: normalized(network, arguments)
        return lambda network, arguments: plain(network, arguments)

    overload(function, strict=False, inline="always", jit_options=OPTIONS)(choose)
    return function


@glue
def _plain_sample(network, arguments):
    call(find_sample(network.parameters), arguments)


@glue
def _normalized_sample(network, arguments):
    statistics = flat_pointer(network.statistics)
    call(find_normalized_sample(network.parameters), (*arguments[:3], statistics, *arguments[3:]))
    keep_alive(network.statistics)


@glue
def _plain_forward(network, arguments):
    call(find_forward(network.parameters), (*arguments, 0, 0, 1))


@glue
def _normalized_forward(network, arguments):
    statistics = address_of(flat_pointer(network.statistics))
    found = find_normalized_forward(network.parameters)
    call(found, (*arguments[:2], statistics, *arguments[3:], 0, 0, 1))
    keep_alive(network.statistics)


@glue
def _plain_vjp(network, arguments):
    call(find_vjp(network.parameters), arguments)


@glue
def _normalized_vjp(network, arguments):
    statistics = address_of(flat_pointer(network.statistics))
    call(find_normalized_sensitivity(network.parameters), (*arguments[:2], statistics, *arguments[2:]))
    keep_alive(network.statistics)


@glue
def _plain_jacobian(network, arguments):
    call(find_jacobian(network.parameters), arguments)


@glue
def _normalized_jacobian(network, arguments):
    statistics = address_of(flat_pointer(network.statistics))
    found = find_normalized_sensitivity(network.parameters)
    call(found, (*arguments[:2], statistics, *arguments[2:6], 0, *arguments[6:]))
    keep_alive(network.statistics)


@glue
def _plain_sweeps(network, arguments):
    call(find_rows(network.parameters), (*arguments[:-1], 0, 1))
    call(find_gradient(network.parameters), (*arguments, 0, 1))


@glue
def _normalized_sweeps(network, arguments):
    # Layers normalised over the batch need more than one row.
    table, parameters, x, rows, workspace = *arguments[:3], arguments[10], arguments[6]
    _require((rows > 1) | (table[0, STATISTICS_SIZE] == 0), ONE_ROW)
    if table[0, STANDARDIZED] == 0:
        _sweeps_of(network, arguments)
    else:
        # In the room for a gathered batch: nothing is gathered.
        copies, a = layer_parts(table, parameters, rows, workspace)[4], operand(x)
        mean, scale = mean_and_scale(table, flat_pointer(network.statistics))
        places = address_of(mean), address_of(scale), address_of(a.pointer), a.row_stride, a.column_stride
        call(find_standardize(parameters), (parameters, *places, address_of(copies), rows, table[0, IN]))
        _sweeps_of(network, (*arguments[:2], carray(copies, (rows, table[0, IN])), *arguments[3:]))
        keep_alive(network.statistics)


@glue
def _sweeps_of(network, arguments):
    call(find_conductor(network.parameters), (*arguments[:-1], 0, 1))
    call(find_regularized_gradient(network.parameters), (*arguments, 0, 1))


_call_sample = _by_kind(_plain_sample, _normalized_sample)
_call_forward = _by_kind(_plain_forward, _normalized_forward)
_call_vjp = _by_kind(_plain_vjp, _normalized_vjp)
_call_jacobian = _by_kind(_plain_jacobian, _normalized_jacobian)
_call_sweeps = _by_kind(_plain_sweeps, _normalized_sweeps)


def _compiled(choose):
    """What a function of Python's is in compiled code: `choose` picks it by the types of the arguments.

    It is copied into its caller: called with a network and three arrays on the stack, it took 30 ns more.
    """

    def register(function):
        overload(function, strict=False, inline="always", jit_options=OPTIONS)(choose)
        return function

    return register


@glue
def _apply_sample(network, x, out, workspace):
    table, parameters = network.table, network.parameters
    _require(x.shape[0] == table[0, IN], BAD_X)
    _require(_sample_aligned(x), MISALIGNED_X)
    _require(out.shape[0] == _outputs(table), BAD_OUT)
    _require(_sample_apart(x, out) & _clear_of(network.parameters, out), OUT_OVERLAPS)
    _require(workspace.size >= table[0, ROW_WORKSPACE], SMALL_WORKSPACE)
    step, target, scratch = x.strides[0] // x.itemsize, flat_pointer(out), flat_pointer(workspace)
    arguments = (flat_pointer(table), table.shape[0], flat_pointer(parameters), pointer(x), step, target, scratch)
    _call_sample(network, arguments)
    _keep(network, x, out, workspace)


@glue
def _apply_batch(network, x, out, workspace):
    table, parameters = network.table, network.parameters
    rows = x.shape[0]
    _require(x.shape[1] == table[0, IN], BAD_X)
    _require(_batch_aligned(x), MISALIGNED_X)
    _require((out.shape[0] == rows) & (out.shape[1] == _outputs(table)), BAD_OUT)
    _require(_batch_apart(x, out) & _clear_of(network.parameters, out), OUT_OVERLAPS)
    _require(workspace.size >= _inference_size(table, parameters, rows), SMALL_WORKSPACE)
    target, scratch = flat_pointer(out), flat_pointer(workspace)
    _call_forward(network, forward_arguments(table, parameters, 0, operand(x), rows, target, scratch, workspace.size))
    _keep(network, x, out, workspace)


def _choose_apply_into(network, x, out, workspace):
    _fits(network, {"out": 0}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    if x.ndim == 1:
        return lambda network, x, out, workspace: _apply_sample(network, x, out, workspace)
    return lambda network, x, out, workspace: _apply_batch(network, x, out, workspace)


@_compiled(_choose_apply_into)
def apply_into(network, x, out, workspace):
    """out = network(x) on this thread, without an allocation.

    Args:
        network: the `network` of a model. Python's call checks all of it, compiled code trusts the numbers in it.
        x: (in,) or (m, in) of the network's dtype, any strides.
        out: (out,) or (m, out) C-contiguous; must not overlap x or the network.
        workspace: from `workspace(network, m)`.

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
    network = _check(network, {"out": 0}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    _apply_into_kernel(network, x, out, workspace)


@kernel
def _apply_into_kernel(network, x, out, workspace):
    apply_into(network, x, out, workspace)


@inner
def _workspace_size(table, parameters, batch):
    # A row takes some times as many elements as its layers have units: for more rows the number would not fit 64 bits.
    if batch < 1 or batch > MOST // (parameters.size + LINE):
        _refuse(BAD_BATCH)
    inference, training = workspace_size(table, parameters, max(batch, SEEDS), 1)
    return max(inference, training)


def _choose_workspace(network, batch):
    _network_fits(network)
    if not isinstance(batch, types.Integer):
        raise TypingError(f"batch: expected a whole number, got {batch}")

    def workspace(network, batch):
        return np.empty(_workspace_size(network.table, network.parameters, batch), network.parameters.dtype)

    return workspace


@_compiled(_choose_workspace)
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
    network = _check(network, {}, ())
    try:
        number = None if isinstance(batch, (bool, np.bool_)) else operator.index(batch)
    except TypeError:  # arrays have __index__, but most of them no index
        number = None
    if number is None:
        raise TypeError(f"batch: expected a whole number, got {batch!r:.200}")
    # Beyond 64 bits they are as wrong as the largest, and the smallest, of 64 bits.
    return _workspace_kernel(network, min(max(number, 0), 2**63 - 1))


@kernel
def _workspace_kernel(network, batch):
    return workspace(network, batch)


def _choose_apply(network, x):
    _fits(network, {"x": 0}, (), x=x)
    if x.ndim == 1:

        def apply(network, x):
            out = np.empty(_outputs(network.table), network.parameters.dtype)
            apply_into(network, x, out, np.empty(network.table[0, ROW_WORKSPACE], network.parameters.dtype))
            return out

    else:

        def apply(network, x):
            out = np.empty((x.shape[0], _outputs(network.table)), network.parameters.dtype)
            size = _inference_size(network.table, network.parameters, x.shape[0])
            apply_into(network, x, out, np.empty(size, network.parameters.dtype))
            return out

    return apply


@_compiled(_choose_apply)
def apply(network, x):
    """network(x) on this thread, a new array: (out,) for x of shape (in,), (m, out) for (m, in).

    Raises:
        ValueError, TypeError: as `apply_into`.

    >>> import numpy as np, fastnn
    >>> net = fastnn.MLP([2, 8, 3], seed=0)
    >>> fastnn.apply(net.network, np.ones((5, 2), np.float32)).shape
    (5, 3)
    """
    network = _check(network, {"x": 0}, (), x=x)
    return _apply_kernel(network, x)


@kernel
def _apply_kernel(network, x):
    return apply(network, x)


@glue
def _vjp(network, x, x_row, x_column, rows, dy, dx, workspace):
    table, parameters = network.table, network.parameters
    _require(workspace.size >= _training_size(table, parameters, rows), SMALL_WORKSPACE)
    source, upper, lower = address_of(pointer(x)), address_of(flat_pointer(dy)), address_of(flat_pointer(dx))
    _call_vjp(network, (table, parameters, source, x_row, x_column, rows, upper, lower, workspace))
    _keep(network, x, dy, workspace)
    keep_alive(dx)


@glue
def _vjp_sample(network, x, dy, dx, workspace):
    table = network.table
    _require(x.shape[0] == table[0, IN], BAD_X)
    _require(_sample_aligned(x), MISALIGNED_X)
    _require((dy.shape[0] == _outputs(table)) & (dx.shape[0] == table[0, IN]), BAD_DY)
    _require(_sample_apart(x, dx) & _clear_of(dy, dx) & _clear_of(network.parameters, dx), DX_OVERLAPS)
    _vjp(network, x, 0, x.strides[0] // x.itemsize, 1, dy, dx, workspace)


@glue
def _vjp_batch(network, x, dy, dx, workspace):
    table, rows, a = network.table, x.shape[0], operand(x)
    _require(x.shape[1] == table[0, IN], BAD_X)
    _require(_batch_aligned(x), MISALIGNED_X)
    _require((dy.shape[0] == rows) & (dy.shape[1] == _outputs(table)), BAD_DY)
    _require((dx.shape[0] == rows) & (dx.shape[1] == table[0, IN]), BAD_DY)
    _require(_batch_apart(x, dx) & _clear_of(dy, dx) & _clear_of(network.parameters, dx), DX_OVERLAPS)
    _vjp(network, x, a.row_stride, a.column_stride, rows, dy, dx, workspace)


def _choose_vjp(network, x, dy, dx, workspace):
    _fits(network, {"dy": 0, "dx": 0}, ("dx", "workspace"), x=x, dy=dy, dx=dx, workspace=workspace)
    if x.ndim == 1:
        return lambda network, x, dy, dx, workspace: _vjp_sample(network, x, dy, dx, workspace)
    return lambda network, x, dy, dx, workspace: _vjp_batch(network, x, dy, dx, workspace)


@_compiled(_choose_vjp)
def vjp(network, x, dy, dx, workspace):
    """dx = dy^T d network(x) / dx, row by row, on this thread, without an allocation.

    Args:
        network: the `network` of a model.
        x: (in,) or (m, in) of the network's dtype, any strides.
        dy: (out,) or (m, out) C-contiguous, the gradient of some number with respect to the output.
        dx: (in,) or (m, in) C-contiguous, receives its gradient by x; must not overlap x, dy or the network.
        workspace: from `workspace(network, m)`.

    Raises:
        ValueError, TypeError: as `apply_into`.

    >>> import numpy as np, fastnn
    >>> net = fastnn.MLP([2, 1], seed=0)
    >>> x, dx = np.ones(2, np.float32), np.empty(2, np.float32)
    >>> fastnn.vjp(net.network, x, np.ones(1, np.float32), dx, fastnn.workspace(net.network, 1))
    >>> bool((dx == net.layers[0].weight[:, 0]).all())
    True
    """
    network = _check(network, {"dy": 0, "dx": 0}, ("dx", "workspace"), x=x, dy=dy, dx=dx, workspace=workspace)
    _vjp_kernel(network, x, dy, dx, workspace)


@kernel
def _vjp_kernel(network, x, dy, dx, workspace):
    vjp(network, x, dy, dx, workspace)


@glue
def _jacobian(network, x, x_row, x_column, rows, out, workspace):
    table, parameters = network.table, network.parameters
    _require(workspace.size >= _training_size(table, parameters, SEEDS), SMALL_WORKSPACE)
    source, result = address_of(pointer(x)), address_of(flat_pointer(out))
    _call_jacobian(network, (table, parameters, source, x_row, x_column, rows, result, workspace))
    _keep(network, x, out, workspace)


@glue
def _jacobian_sample(network, x, out, workspace):
    table = network.table
    _require(x.shape[0] == table[0, IN], BAD_X)
    _require(_sample_aligned(x), MISALIGNED_X)
    _require((out.shape[0] == _outputs(table)) & (out.shape[1] == table[0, IN]), BAD_JACOBIAN)
    _require(_sample_apart(x, out) & _clear_of(network.parameters, out), OUT_OVERLAPS)
    _jacobian(network, x, 0, x.strides[0] // x.itemsize, 1, out, workspace)


@glue
def _jacobian_batch(network, x, out, workspace):
    table, rows, a = network.table, x.shape[0], operand(x)
    _require(x.shape[1] == table[0, IN], BAD_X)
    _require(_batch_aligned(x), MISALIGNED_X)
    _require(out.shape[0] == rows, BAD_JACOBIAN)
    _require((out.shape[1] == _outputs(table)) & (out.shape[2] == table[0, IN]), BAD_JACOBIAN)
    _require(_batch_apart(x, out) & _clear_of(network.parameters, out), OUT_OVERLAPS)
    _jacobian(network, x, a.row_stride, a.column_stride, rows, out, workspace)


def _choose_jacobian(network, x, out, workspace):
    _fits(network, {"out": 1}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    if x.ndim == 1:
        return lambda network, x, out, workspace: _jacobian_sample(network, x, out, workspace)
    return lambda network, x, out, workspace: _jacobian_batch(network, x, out, workspace)


@_compiled(_choose_jacobian)
def jacobian(network, x, out, workspace):
    """out[..., i, j] = d network(x)[..., i] / d x[..., j] on this thread, without an allocation.

    Args:
        network: the `network` of a model.
        x: (in,) or (m, in) of the network's dtype, any strides.
        out: (out, in) or (m, out, in) C-contiguous; must not overlap x or the network.
        workspace: from `workspace(network, batch)`, any batch.

    Raises:
        ValueError, TypeError: as `apply_into`.

    >>> import numpy as np, fastnn
    >>> net = fastnn.MLP([2, 3], seed=0)
    >>> out = np.empty((3, 2), np.float32)
    >>> fastnn.jacobian(net.network, np.ones(2, np.float32), out, fastnn.workspace(net.network, 1))
    >>> bool((out == net.layers[0].weight.T).all())
    True
    """
    network = _check(network, {"out": 1}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    _jacobian_kernel(network, x, out, workspace)


@kernel
def _jacobian_kernel(network, x, out, workspace):
    jacobian(network, x, out, workspace)


@inner
def _parameter_fits(code, parameter):
    if code == HUBER:
        return (parameter > 0.0) & (parameter < np.inf)
    return (code != QUANTILE) | ((parameter > 0.0) & (parameter < 1.0))


@inner
def _levels_fit(code, levels, outputs):
    fit = (code == QUANTILE) & (levels.size == outputs)
    for q in levels:
        fit &= (q > 0.0) & (q < 1.0)
    return fit


@glue
def _gradient_batch(network, x, y, code, parameter, fits, gradient, workspace):
    table, parameters = network.table, network.parameters
    rows, weight = x.shape[0], float(x.shape[0])
    labels = (code == SOFTMAX_CROSS_ENTROPY) & (y.shape[1] == 1)
    _require(x.shape[1] == table[0, IN], BAD_X)
    _require(_batch_aligned(x), MISALIGNED_X)
    _require(rows > 0, NO_ROWS)
    _require((y.shape[0] == rows) & (labels | (y.shape[1] == _outputs(table))), BAD_Y)
    _require((code >= 0) & (code < LOSSES), BAD_LOSS)
    _require(fits, BAD_PARAMETER)
    _require(gradient.size == parameters.size, BAD_GRADIENT)
    clear = _clear_of(y, gradient) & _clear_of(parameters, gradient)
    _require(_batch_apart(x, gradient) & clear, GRADIENT_OVERLAPS)
    _require(workspace.size >= _training_size(table, parameters, rows), SMALL_WORKSPACE)
    data = (table, parameters, x, y, workspace[:0], table[0, :0], workspace, code, parameter, 0, rows, weight)
    _call_sweeps(network, (*data, gradient))
    value = batch_loss(table, parameters, workspace, code, rows, weight)
    _keep(network, x, y, gradient)
    keep_alive(workspace)
    return value


@glue
def _number_of(loss):
    return loss.value


@glue
def _itself(loss):
    return loss


@glue
def _own_parameter(network, code, parameter):
    return default_parameter(code), True


@glue
def _given_parameter(network, code, parameter):
    return float(parameter), _parameter_fits(code, float(parameter))


@glue
def _given_levels(network, code, parameter):
    return quantile_parameter(parameter), _levels_fit(code, parameter, _outputs(network.table))


@glue
def _nothing(parameter):
    pass


A_PARAMETER = "expected a number, a contiguous 1-D array of float64 or None"


def _is_levels(dtype, array):
    contiguous = array.layout == "C" if isinstance(array, types.Array) else array.flags.c_contiguous
    return np.dtype(str(dtype)) == np.float64 and array.ndim == 1 and contiguous


def _choose_gradient(network, x, y, loss, gradient, workspace, loss_parameter=None):
    written = "gradient", "workspace"
    _fits(network, {"y": 0, "x": 0}, written, x=x, y=y, gradient=gradient, workspace=workspace)
    if x.ndim != 2 or gradient.ndim != 1:
        raise TypingError(f"x and gradient: expected 2-D and 1-D, got {x.ndim}-D and {gradient.ndim}-D")
    if not isinstance(loss, (types.IntEnumMember, types.Integer)):
        raise TypingError(f"loss: expected a member of fastnn.Loss, got {loss}")
    code_of, keep = _number_of if isinstance(loss, types.IntEnumMember) else _itself, _nothing
    if loss_parameter is None or isinstance(loss_parameter, (types.NoneType, types.Omitted)):
        parameter_of = _own_parameter
    elif isinstance(loss_parameter, (types.Float, types.Integer)):
        parameter_of = _given_parameter
    elif isinstance(loss_parameter, types.Array) and _is_levels(loss_parameter.dtype, loss_parameter):
        parameter_of, keep = _given_levels, keep_alive
    else:
        raise TypingError(f"loss_parameter: {A_PARAMETER}, got {loss_parameter}")

    def gradient_of_loss(network, x, y, loss, gradient, workspace, loss_parameter=None):
        code = code_of(loss)
        parameter, fits = parameter_of(network, code, loss_parameter)
        value = _gradient_batch(network, x, y, code, parameter, fits, gradient, workspace)
        keep(loss_parameter)
        return value

    return gradient_of_loss


@_compiled(_choose_gradient)
def gradient(network, x, y, loss, gradient, workspace, loss_parameter=None):
    """The loss of a batch on this thread; `gradient` receives its gradient. Nothing is allocated.

    A function of what it is given: nothing is dropped, and layers normalised over the batch go by the statistics of
    this batch, of at least two rows then, and leave their running averages alone.

    Args:
        network: the `network` of a model.
        x: (m, in) of the network's dtype, any strides, at least one row.
        y: (m, out) C-contiguous, or (m, 1) class labels for softmax_cross_entropy.
        loss: a `Loss`.
        gradient: like the parameters; must not overlap them, x or y.
        workspace: from `workspace(network, m)`.
        loss_parameter: huber's delta, quantile's q, or a 1-D float64 array with a q for each output; None is 1 or 1/2.
            Other losses have none and take no notice of a number.

    Returns:
        The loss, a float.

    Raises:
        ValueError, TypeError: as `apply_into`.

    >>> import numpy as np, fastnn
    >>> net = fastnn.MLP([2, 1], seed=0)
    >>> x, y, slope = np.ones((4, 2), np.float32), np.ones((4, 1), np.float32), np.empty(3, np.float32)
    >>> value = fastnn.gradient(net.network, x, y, fastnn.Loss.MSE, slope, fastnn.workspace(net.network, 4))
    >>> value == net.loss_and_gradient(x, y, "mse")[0]
    True
    """
    arrays = {"x": x, "y": y, "gradient": gradient, "workspace": workspace}
    network = _check(network, {"y": 0, "x": 0}, ("gradient", "workspace"), **arrays)
    if x.ndim != 2 or gradient.ndim != 1:
        raise ValueError(f"x and gradient: expected 2-D and 1-D, got {x.ndim}-D and {gradient.ndim}-D")
    if not isinstance(loss, (int, np.integer)) or isinstance(loss, bool):
        raise TypeError(f"loss: expected a member of fastnn.Loss, got {loss!r}")
    if loss_parameter is None:
        loss_parameter = default_parameter(loss)
    elif isinstance(loss_parameter, (int, float, np.integer, np.floating)) and not isinstance(loss_parameter, bool):
        try:
            loss_parameter = float(loss_parameter)
        except OverflowError:
            loss_parameter = np.inf
    elif not isinstance(loss_parameter, np.ndarray) or not _is_levels(loss_parameter.dtype, loss_parameter):
        raise TypeError(f"loss_parameter: {A_PARAMETER}, got {loss_parameter!r}")
    # Whole numbers of any length: the compiled code, which says what is wrong, takes 64 bits.
    code = int(loss) if 0 <= loss < LOSSES else -1
    return _gradient_kernel(network, x, y, code, gradient, workspace, loss_parameter)


# Its own parameter has the function's name.
_gradient = gradient


@kernel
def _gradient_kernel(network, x, y, loss, gradient, workspace, loss_parameter):
    return _gradient(network, x, y, loss, gradient, workspace, loss_parameter)
