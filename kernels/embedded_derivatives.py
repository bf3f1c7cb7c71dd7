"""Derivatives of a network in the user's own compiled code (see embedded_apply.py).

vjp        dx = dy^T d network(x) / dx
jacobian   out[i, j] = d network(x)[i] / d x[j]
gradient   d loss / d parameters
parameter_vjp   dy^T d network(x) / d parameters
"""

import enum

import numpy as np
from numba import types
from numba.core.errors import TypingError

from .codes import Loss
from .embedded_calls import call_jacobian, call_sweeps, call_vjp, compiled, keep_network
from .embedded_checks import (
    BAD_DY,
    BAD_DY_OR_DX,
    BAD_GRADIENT,
    BAD_JACOBIAN,
    BAD_LOSS,
    BAD_PARAMETER,
    BAD_WEIGHTS,
    BAD_X,
    BAD_Y,
    DX_OVERLAPS,
    FINE,
    GRADIENT_OVERLAPS,
    LOSSES,
    MISALIGNED_X,
    NO_ROWS,
    NOT_COMPILED,
    ONE_ROW,
    OUT_OVERLAPS,
    SMALL_WORKSPACE,
    WORKSPACE_OVERLAPS,
    batch_aligned,
    batch_apart,
    check_arrays,
    check_types,
    clear_of,
    clear_of_network,
    network_fault,
    require_fine,
    require_here,
    require_room,
    require_shape,
    sample_aligned,
    sample_apart,
)
from .jit import glue, inner, kernel
from .layout import training_workspace
from .loss import HUBER, LINEAR, QUANTILE, SOFTMAX_CROSS_ENTROPY, default_parameter, parameter_array
from .operand import operand
from .sensitivity import SEEDS
from .simd import address_of, flat_pointer, keep_alive, pointer
from .step import Given, batch_weight
from .symbols import checked
from .table import IN, STATISTICS_SIZE, outputs_count


@inner
def _training_size(table, parameters, rows):
    return training_workspace(table, parameters, rows, 1)


def _check_here(network, x, workspace, rows=None):
    """What Python's calls check of x, and of the workspace for so many rows; returns x's shape without its columns."""
    batch = x.shape[:-1]
    require_shape("x", x, (*batch, network.table[0, IN]), BAD_X)
    size = _training_size.py_func(network.table, network.parameters, (*batch, 1)[0] if rows is None else rows)
    require_room(workspace, size)
    return batch


def _check_gradient_here(network, batch, gradient):
    rows = (*batch, 1)[0]
    require_here(rows > 0, NO_ROWS)
    if gradient.size != network.parameters.size:
        found = f"; expected {network.parameters.size} elements, got {gradient.size}"
        require_here(False, BAD_GRADIENT, found)
    # Layers normalized over the batch need more than one row.
    require_here(rows > 1 or network.table[0, STATISTICS_SIZE] == 0, ONE_ROW)


# Each of these checks its arguments, and returns what is wrong with them or FINE.


@glue
def _vjp(network, x, x_row, x_column, rows, dy, dx, workspace):
    table, parameters = network.table, network.parameters
    fault = network_fault(network, workspace)
    if fault != FINE:
        return fault
    if not (clear_of(dy, workspace) and clear_of(dx, workspace)):
        return WORKSPACE_OVERLAPS
    if workspace.size < _training_size(table, parameters, rows):
        return SMALL_WORKSPACE
    source, upper, lower = address_of(pointer(x)), address_of(flat_pointer(dy)), address_of(flat_pointer(dx))
    call_vjp(network, (table, parameters, source, x_row, x_column, rows, upper, lower, workspace))
    keep_network(network, x, dy, workspace)
    keep_alive(dx)
    return FINE


@checked(NOT_COMPILED)
def _vjp_sample(network, x, dy, dx, workspace):
    table = network.table
    if x.shape[0] != table[0, IN]:
        return BAD_X
    if not sample_aligned(x):
        return MISALIGNED_X
    if dy.shape[0] != outputs_count(table) or dx.shape[0] != table[0, IN]:
        return BAD_DY_OR_DX
    if not (sample_apart(x, dx) and clear_of(dy, dx) and clear_of_network(network, dx)):
        return DX_OVERLAPS
    if not sample_apart(x, workspace):
        return WORKSPACE_OVERLAPS
    return _vjp(network, x, 0, x.strides[0] // x.itemsize, 1, dy, dx, workspace)


@checked(NOT_COMPILED)
def _vjp_batch(network, x, dy, dx, workspace):
    table, rows, a = network.table, x.shape[0], operand(x)
    if x.shape[1] != table[0, IN]:
        return BAD_X
    if not batch_aligned(x):
        return MISALIGNED_X
    if dy.shape != (rows, outputs_count(table)) or dx.shape != (rows, table[0, IN]):
        return BAD_DY_OR_DX
    if not (batch_apart(x, dx) and clear_of(dy, dx) and clear_of_network(network, dx)):
        return DX_OVERLAPS
    if not batch_apart(x, workspace):
        return WORKSPACE_OVERLAPS
    return _vjp(network, x, a.row_stride, a.column_stride, rows, dy, dx, workspace)


def _choose_vjp(network, x, dy, dx, workspace):
    check_types(network, {"dy": 0, "dx": 0}, ("dx", "workspace"), x=x, dy=dy, dx=dx, workspace=workspace)
    if x.ndim == 1:
        return lambda network, x, dy, dx, workspace: require_fine(_vjp_sample(network, x, dy, dx, workspace))
    return lambda network, x, dy, dx, workspace: require_fine(_vjp_batch(network, x, dy, dx, workspace))


@compiled(_choose_vjp)
def vjp(network, x, dy, dx, workspace):
    """dx = dy^T d network(x) / dx, row by row, on this thread, without an allocation.

    Args:
        network: the `network` of a model.
        x: (in,) or (m, in) of the network's dtype, any strides.
        dy: (out,) or (m, out) C-contiguous, the gradient of some number with respect to the output.
        dx: (in,) or (m, in) C-contiguous, receives its gradient with respect to x; must not overlap any of the others.
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
    network = check_arrays(network, {"dy": 0, "dx": 0}, ("dx", "workspace"), x=x, dy=dy, dx=dx, workspace=workspace)
    batch = _check_here(network, x, workspace)
    require_shape("dy", dy, (*batch, outputs_count(network.table)), BAD_DY_OR_DX)
    require_shape("dx", dx, x.shape, BAD_DY_OR_DX)
    _vjp_kernel(network, x, dy, dx, workspace)


@kernel
def _vjp_kernel(network, x, dy, dx, workspace):
    vjp(network, x, dy, dx, workspace)


@glue
def _jacobian(network, x, x_row, x_column, rows, out, workspace):
    table, parameters = network.table, network.parameters
    fault = network_fault(network, workspace)
    if fault != FINE:
        return fault
    if not clear_of(out, workspace):
        return WORKSPACE_OVERLAPS
    if workspace.size < _training_size(table, parameters, SEEDS):
        return SMALL_WORKSPACE
    source, result = address_of(pointer(x)), address_of(flat_pointer(out))
    call_jacobian(network, (table, parameters, source, x_row, x_column, rows, result, workspace))
    keep_network(network, x, out, workspace)
    return FINE


@checked(NOT_COMPILED)
def _jacobian_sample(network, x, out, workspace):
    table = network.table
    if x.shape[0] != table[0, IN]:
        return BAD_X
    if not sample_aligned(x):
        return MISALIGNED_X
    if out.shape != (outputs_count(table), table[0, IN]):
        return BAD_JACOBIAN
    if not (sample_apart(x, out) and clear_of_network(network, out)):
        return OUT_OVERLAPS
    if not sample_apart(x, workspace):
        return WORKSPACE_OVERLAPS
    return _jacobian(network, x, 0, x.strides[0] // x.itemsize, 1, out, workspace)


@checked(NOT_COMPILED)
def _jacobian_batch(network, x, out, workspace):
    table, rows, a = network.table, x.shape[0], operand(x)
    if x.shape[1] != table[0, IN]:
        return BAD_X
    if not batch_aligned(x):
        return MISALIGNED_X
    if out.shape != (rows, outputs_count(table), table[0, IN]):
        return BAD_JACOBIAN
    if not (batch_apart(x, out) and clear_of_network(network, out)):
        return OUT_OVERLAPS
    if not batch_apart(x, workspace):
        return WORKSPACE_OVERLAPS
    return _jacobian(network, x, a.row_stride, a.column_stride, rows, out, workspace)


def _choose_jacobian(network, x, out, workspace):
    check_types(network, {"out": 1}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    if x.ndim == 1:
        return lambda network, x, out, workspace: require_fine(_jacobian_sample(network, x, out, workspace))
    return lambda network, x, out, workspace: require_fine(_jacobian_batch(network, x, out, workspace))


@compiled(_choose_jacobian)
def jacobian(network, x, out, workspace):
    """out[..., i, j] = d network(x)[..., i] / d x[..., j] on this thread, without an allocation.

    Args:
        network: the `network` of a model.
        x: (in,) or (m, in) of the network's dtype, any strides.
        out: (out, in) or (m, out, in) C-contiguous; must not overlap any of the others.
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
    network = check_arrays(network, {"out": 1}, ("out", "workspace"), x=x, out=out, workspace=workspace)
    batch = _check_here(network, x, workspace, SEEDS)
    require_shape("out", out, (*batch, outputs_count(network.table), x.shape[-1]), BAD_JACOBIAN)
    _jacobian_kernel(network, x, out, workspace)


@kernel
def _jacobian_kernel(network, x, out, workspace):
    jacobian(network, x, out, workspace)


@inner
def _parameter_fits(code, parameter, outputs):
    if parameter.size != 1 and (code != QUANTILE or parameter.size != outputs):
        return False
    fit = code != HUBER or 0.0 < parameter[0] < np.inf
    if code == QUANTILE:
        for q in parameter:
            fit &= 0.0 < q < 1.0
    return fit


@glue
def _sweeps_fault(network, x, gradient, workspace):
    """What is wrong with arguments of both functions that have a gradient with respect to parameters."""
    table, parameters, rows = network.table, network.parameters, x.shape[0]
    if x.shape[1] != table[0, IN]:
        return BAD_X
    if not batch_aligned(x):
        return MISALIGNED_X
    if rows == 0:
        return NO_ROWS
    # Layers normalized over the batch need more than one row.
    if rows == 1 and table[0, STATISTICS_SIZE] > 0:
        return ONE_ROW
    if gradient.size != parameters.size:
        return BAD_GRADIENT
    if not (batch_apart(x, gradient) and clear_of_network(network, gradient)):
        return GRADIENT_OVERLAPS
    if not (batch_apart(x, workspace) and clear_of(gradient, workspace)):
        return WORKSPACE_OVERLAPS
    return network_fault(network, workspace)


@glue
def _room_fault(network, rows, read, gradient, workspace):
    """What is wrong with these two, beside an array that is to be read, or in size."""
    if not clear_of(read, gradient):
        return GRADIENT_OVERLAPS
    if not clear_of(read, workspace):
        return WORKSPACE_OVERLAPS
    return SMALL_WORKSPACE if workspace.size < _training_size(network.table, network.parameters, rows) else FINE


@checked(NOT_COMPILED)
def _gradient_batch(network, x, y, weights, code, parameter, gradient, workspace):
    """(what is wrong, the loss); weights: one for each row, or empty."""
    rows, outputs = x.shape[0], outputs_count(network.table)
    nothing = 0.0
    fault = _sweeps_fault(network, x, gradient, workspace)
    if fault != FINE:
        return fault, nothing
    labels = code == SOFTMAX_CROSS_ENTROPY and y.shape[1] == 1
    if y.shape[0] != rows or not (labels or y.shape[1] == outputs):
        return BAD_Y, nothing
    if code < 0 or code >= LOSSES:
        return BAD_LOSS, nothing
    if not _parameter_fits(code, parameter, outputs):
        return BAD_PARAMETER, nothing
    if not clear_of(parameter, gradient):
        return GRADIENT_OVERLAPS, nothing
    if not clear_of(parameter, workspace):
        return WORKSPACE_OVERLAPS, nothing
    if weights.size > 0 and weights.size != rows:
        return BAD_WEIGHTS, nothing
    if not clear_of(weights, gradient):
        return GRADIENT_OVERLAPS, nothing
    if not clear_of(weights, workspace):
        return WORKSPACE_OVERLAPS, nothing
    fault = _room_fault(network, rows, y, gradient, workspace)
    if fault != FINE:
        return fault, nothing
    total = batch_weight(weights, network.table[0, :0], 0, rows)
    value = _swept(network, x, y, weights, code, parameter, total, gradient, workspace)
    return FINE, value


@glue
def _swept(network, x, y, weights, code, parameter, total, gradient, workspace):
    table, parameters, rows = network.table, network.parameters, x.shape[0]
    given = Given(table, parameters, x, y, weights, table[0, :0], workspace, code, parameter, 0, rows, total)
    value = call_sweeps(network, given, gradient)
    keep_network(network, x, y, gradient)
    keep_alive(weights)
    keep_alive(workspace)
    keep_alive(parameter)
    return value


@glue
def _parameter_vjp(network, x, dy, gradient, workspace):
    fault = _sweeps_fault(network, x, gradient, workspace)
    if fault != FINE:
        return fault
    if dy.shape != (x.shape[0], outputs_count(network.table)):
        return BAD_DY
    fault = _room_fault(network, x.shape[0], dy, gradient, workspace)
    if fault != FINE:
        return fault
    _swept(network, x, dy, workspace[:0], LINEAR, parameter_array(LINEAR, None), 1.0, gradient, workspace)
    return FINE


@checked(NOT_COMPILED)
def _parameter_vjp_sample(network, x, dy, gradient, workspace):
    return _parameter_vjp(network, x[np.newaxis], dy.reshape((1, dy.size)), gradient, workspace)


@checked(NOT_COMPILED)
def _parameter_vjp_batch(network, x, dy, gradient, workspace):
    return _parameter_vjp(network, x, dy, gradient, workspace)


def _choose_parameter_vjp(network, x, dy, gradient, workspace):
    written = "gradient", "workspace"
    check_types(network, {"dy": 0}, written, x=x, dy=dy, gradient=gradient, workspace=workspace)
    if gradient.ndim != 1:
        raise TypingError(f"gradient: expected 1-D, got {gradient.ndim}-D")

    def of_sample(network, x, dy, gradient, workspace):
        require_fine(_parameter_vjp_sample(network, x, dy, gradient, workspace))

    def of_batch(network, x, dy, gradient, workspace):
        require_fine(_parameter_vjp_batch(network, x, dy, gradient, workspace))

    return of_sample if x.ndim == 1 else of_batch


@compiled(_choose_parameter_vjp)
def parameter_vjp(network, x, dy, gradient, workspace):
    """gradient = dy^T d network(x) / d parameters, summed over rows, on this thread, without an allocation.

    For a loss that is not one of `Loss`: dy is its gradient with respect to the output, and `gradient` becomes that
    with respect to the parameters. As in `gradient`, nothing is dropped, and layers normalized over the batch go by the
    statistics of this batch, of at least two rows then, not by the running averages that `apply` takes.

    Args:
        network: the `network` of a model.
        x: (in,) or (m, in) of the network's dtype, any strides, at least one row.
        dy: (out,) or (m, out) C-contiguous.
        gradient: like the parameters; must not overlap any of the others.
        workspace: from `workspace(network, m)`.

    Raises:
        ValueError, TypeError: as `apply_into`.

    >>> import numpy as np, fastnn
    >>> net = fastnn.MLP([2, 1], seed=0)
    >>> x, slope = np.array([3, 5], np.float32), np.empty(3, np.float32)
    >>> fastnn.parameter_vjp(net.network, x, np.ones(1, np.float32), slope, fastnn.workspace(net.network, 1))
    >>> slope.tolist()
    [3.0, 5.0, 1.0]
    """
    arrays = {"x": x, "dy": dy, "gradient": gradient, "workspace": workspace}
    network = check_arrays(network, {"dy": 0}, ("gradient", "workspace"), **arrays)
    if gradient.ndim != 1:
        raise ValueError(f"gradient: expected 1-D, got {gradient.ndim}-D")
    batch = _check_here(network, x, workspace)
    require_shape("dy", dy, (*batch, outputs_count(network.table)), BAD_DY)
    _check_gradient_here(network, batch, gradient)
    _parameter_vjp_kernel(network, x, dy, gradient, workspace)


@kernel
def _parameter_vjp_kernel(network, x, dy, gradient, workspace):
    parameter_vjp(network, x, dy, gradient, workspace)


@glue
def _number_of(loss):
    return loss.value


@glue
def _whole(loss):
    return np.int64(loss)


@glue
def _themselves(sample_weight, workspace):
    return sample_weight


@glue
def _no_weights(sample_weight, workspace):
    return workspace[:0]


A_PARAMETER = "expected a number, a contiguous 1-D array of float64 or None"


def _is_levels(dtype, array):
    contiguous = array.layout == "C" if isinstance(array, types.Array) else array.flags.c_contiguous
    return np.dtype(str(dtype)) == np.float64 and array.ndim == 1 and contiguous


def _is_none(kind):
    return kind is None or isinstance(kind, types.NoneType) or getattr(kind, "value", 0) is None


def _choose_gradient(network, x, y, loss, gradient, workspace, loss_parameter=None, sample_weight=None):
    written = "gradient", "workspace"
    weighted = not _is_none(sample_weight)
    arrays = {"x": x, "y": y, "gradient": gradient, "workspace": workspace}
    if weighted:
        arrays["sample_weight"] = sample_weight
    check_types(network, {"y": 0, "x": 0}, written, **arrays)
    if x.ndim != 2 or gradient.ndim != 1:
        raise TypingError(f"x and gradient: expected 2-D and 1-D, got {x.ndim}-D and {gradient.ndim}-D")
    if weighted and sample_weight.ndim != 1:
        raise TypingError(f"sample_weight: expected 1-D, got {sample_weight.ndim}-D")
    weights_of = _themselves if weighted else _no_weights
    other = isinstance(loss, types.IntEnumMember) and loss.instance_class is not Loss
    if other or not isinstance(loss, (types.IntEnumMember, types.Integer)):
        raise TypingError(f"loss: expected a member of fastnn.Loss, got {loss}")
    code_of = _number_of if isinstance(loss, types.IntEnumMember) else _whole
    if isinstance(loss_parameter, types.Array):
        known = _is_levels(loss_parameter.dtype, loss_parameter)
    else:
        numbers = types.NoneType, types.Omitted, types.Float, types.Integer
        known = loss_parameter is None or isinstance(loss_parameter, numbers)
    if not known:
        raise TypingError(f"loss_parameter: {A_PARAMETER}, got {loss_parameter}")

    def gradient_of_loss(network, x, y, loss, gradient, workspace, loss_parameter=None, sample_weight=None):
        code = code_of(loss)
        parameter = parameter_array(code, loss_parameter)
        weights = weights_of(sample_weight, workspace)
        fault, value = _gradient_batch(network, x, y, weights, code, parameter, gradient, workspace)
        require_fine(fault)
        return value

    return gradient_of_loss


@compiled(_choose_gradient)
def gradient(network, x, y, loss, gradient, workspace, loss_parameter=None, sample_weight=None):
    """The loss of a batch on this thread; `gradient` receives its gradient. Nothing is allocated.

    A function of what it is given: nothing is dropped, and layers normalized over the batch go by the statistics of
    this batch, of at least two rows then, and leave their running averages alone.

    Args:
        network: the `network` of a model.
        x: (m, in) of the network's dtype, any strides, at least one row.
        y: (m, out) C-contiguous, or for softmax_cross_entropy and more than one output (m, 1) class labels, of which
            one of no class makes the loss NaN.
        loss: a `Loss`.
        gradient: like the parameters; must not overlap any of the others.
        workspace: from `workspace(network, m)`.
        loss_parameter: huber's delta, quantile's q, or a 1-D float64 array of one or of a q for each output; None is 1
            or 1/2.
            Other losses have none and take no notice of a number.
        sample_weight: (m,) C-contiguous, how much each row counts; None is 1. They are not looked at: where they sum to
            0, or are not finite, so is the loss.

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
    if sample_weight is not None:
        arrays["sample_weight"] = sample_weight
    network = check_arrays(network, {"y": 0, "x": 0}, ("gradient", "workspace"), **arrays)
    if x.ndim != 2 or gradient.ndim != 1:
        raise ValueError(f"x and gradient: expected 2-D and 1-D, got {x.ndim}-D and {gradient.ndim}-D")
    if sample_weight is not None:
        require_shape("sample_weight", sample_weight, x.shape[:1], BAD_WEIGHTS)
    other = isinstance(loss, (bool, enum.Enum)) and not isinstance(loss, Loss)
    if other or not isinstance(loss, (int, np.integer)):
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
    require_here(0 <= loss < LOSSES, BAD_LOSS)
    code, outputs = int(loss), outputs_count(network.table)
    batch = _check_here(network, x, workspace)
    labels = y.shape == (*batch, 1) and code == SOFTMAX_CROSS_ENTROPY
    require_shape("y", y, y.shape if labels else (*batch, outputs), BAD_Y)
    require_here(_parameter_fits.py_func(code, np.atleast_1d(loss_parameter), outputs), BAD_PARAMETER)
    require_here(not np.may_share_memory(gradient, loss_parameter), GRADIENT_OVERLAPS)
    require_here(not np.may_share_memory(workspace, loss_parameter), WORKSPACE_OVERLAPS)
    _check_gradient_here(network, batch, gradient)
    weights = workspace[:0] if sample_weight is None else sample_weight
    return _gradient_kernel(network, x, y, code, gradient, workspace, loss_parameter, weights)


# Its own parameter has the function's name.
_gradient = gradient


@kernel
def _gradient_kernel(network, x, y, loss, gradient, workspace, loss_parameter, sample_weight):
    return _gradient(network, x, y, loss, gradient, workspace, loss_parameter, sample_weight)
