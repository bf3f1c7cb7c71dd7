"""Training of any network by the drivers of training.py: for each kind of network the workers that it takes."""

import numpy as np

from .argument_checks import require_arrays
from .jit import kernel, serial_in_njit
from .layout import threads_that_fit, training_workspace
from .loss import parameter_array
from .network_checks import require_batch, require_plain_arrays
from .regularized_step import CONTEXT_SIZE, RUNNING, SEED, THREADS, TRAINS, UPDATE
from .regularized_sweeps import (
    columns_worker,
    conductor,
    find_conductor,
    find_regularized_gradient,
    regularized_gradient_worker,
    regularized_update_worker,
    segment_worker,
)
from .sweeps import gradient_worker, rows_worker
from .table import CONTEXT, TABLE_COLUMNS, has_statistics, is_regularized
from .training import (
    BATCH_ARRAYS,
    TABLE_AT,
    by_both_sweeps,
    loss_and_gradient_parallel,
    plain_training_plan,
    whole_batch,
)


def _with_context(numbers, table, threads, running):
    """A copy of the table, at the end of `numbers`, with a context before it."""
    start = numbers.size - table.size
    context, copy = numbers[start - CONTEXT_SIZE : start], numbers[start:].reshape(table.shape)
    copy[...] = table
    copy[0, CONTEXT] = context.ctypes.data
    context[THREADS] = threads
    context[RUNNING] = running or 0
    return copy


def gradient_sweeps(table, dtype, threads, statistics=None):
    """The first arguments of `loss_and_gradient_parallel`: addresses of the workers of both sweeps, and their table.

    statistics: those of a network that is to standardize x itself.
    """
    if not has_statistics(table):
        return rows_worker.address(dtype), gradient_worker.address(dtype), table
    # The conductor finds them compiled.
    for between in (segment_worker, columns_worker):
        between.address(dtype)
    numbers = np.zeros(CONTEXT_SIZE + table.size, np.int64)
    running = None if statistics is None else statistics.ctypes.data
    copy = _with_context(numbers, table, threads, running)
    return conductor.address(dtype), regularized_gradient_worker.address(dtype), copy


def training_plan(network, optimization, loss, workspace, threads, loss_parameter=None):
    """`plain_training_plan` for any network; one that `is_regularized` needs `begin_updates` before `train_planned`."""
    table, parameters, *statistics = network
    if not is_regularized(table):
        return plain_training_plan(network, optimization, loss, workspace, threads, loss_parameter)
    for between in (segment_worker, columns_worker):
        between.address(parameters.dtype)
    sweeps = conductor, regularized_gradient_worker, regularized_update_worker
    head = plain_training_plan(network, optimization, loss, workspace, threads, loss_parameter, sweeps)
    plan = np.concatenate((head, np.zeros(CONTEXT_SIZE + table.size, np.int64)))
    running = statistics[0].ctypes.data if statistics else None
    plan[TABLE_AT] = _with_context(plan, table, threads, running).ctypes.data
    _context_of(plan)[TRAINS] = 1
    return plan


def _context_of(plan):
    start = (int(plan[TABLE_AT]) - plan.ctypes.data) // plan.itemsize
    return plan[start - CONTEXT_SIZE : start]


def table_in(plan):
    """The table, with its context, of a plan of a regularized network."""
    start = (int(plan[TABLE_AT]) - plan.ctypes.data) // plan.itemsize
    return plan[start:].reshape(-1, TABLE_COLUMNS)


def begin_updates(plan, seed, update):
    """Let the next updates of a plan of a regularized network drop what (seed, number of the update) says."""
    context = _context_of(plan)
    context[SEED], context[UPDATE] = np.uint64(seed).astype(np.int64), update


@kernel
def normalized_loss_and_gradient_serial(
    table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None
):
    """The loss and its gradient, on this thread; arrays as `normalized_loss_and_gradient` takes them."""
    parameter = parameter_array(loss, loss_parameter)
    require_arrays(BATCH_ARRAYS, (parameters, x, y, gradient, workspace))
    require_arrays("flat sample_weight 1", (sample_weight,))
    require_batch(table, parameters, x, y, sample_weight, np.int64(loss), gradient, workspace, parameter)
    given = whole_batch(table, parameters, x, y, sample_weight, workspace, np.int64(loss), parameter)
    return by_both_sweeps(find_conductor(parameters), find_regularized_gradient(parameters), given, gradient)


@serial_in_njit(normalized_loss_and_gradient_serial)
def normalized_loss_and_gradient(
    table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None
):
    """`loss_and_gradient` of a network with normalized layers, by the statistics of the batch; nothing is dropped.

    At least two rows if a layer is normalized over the batch. The running averages are left alone. If the table has x
    standardized, x is what `standardize` made of it. Arguments are those of `loss_and_gradient`.

    A bias before batch normalization has no gradient, for the batch's mean takes it away:

    >>> net = fastnn.Sequential([fastnn.Dense(1, 1, normalization="batch")], dtype="float64")
    >>> net.parameters = [2.0, 1.0, 3.0, 0.5]  # weight, bias, scale, shift
    >>> x, y, gradient = np.array([[-1.0], [1.0]]), np.array([[0.0], [0.0]]), np.empty(4)
    >>> workspace = fastnn.workspace(net.network, 2)
    >>> loss = kernels.normalized_loss_and_gradient(
    ...     net.table, net.parameters, x, y, np.empty(0), kernels.Loss.MSE, gradient, workspace
    ... )
    >>> round(loss, 4)
    9.25
    >>> gradient[2:].round(4)
    array([6., 1.])
    """
    require_plain_arrays(table, (parameters, gradient, workspace), (x, y))
    parameter = parameter_array(loss, loss_parameter)
    require_batch(table, parameters, x, y, sample_weight, loss, gradient, workspace, parameter)
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, training_workspace)
    loss_and_gradient_parallel.ready(parameters.dtype)
    rows_address, gradient_address, table = gradient_sweeps(table, parameters.dtype, threads)
    return loss_and_gradient_parallel(
        rows_address,
        gradient_address,
        table,
        parameters,
        x,
        y,
        sample_weight,
        int(loss),
        parameter,
        gradient,
        workspace,
        threads,
    )
