"""The drivers of training: the loss and gradient of one batch, and many updates in one call.

They know workers (sweeps.py, or regularized_sweeps.py for networks that are not plain) by address alone.
"""

import numpy as np
from numba import carray, float64, int64, intp

from .argument_checks import require_arrays
from .jit import driver, glue, inner, kernel, read_only, serial_in_njit
from .launch import run
from .layout import threads_that_fit, training_workspace
from .loss import parameter_array
from .network_checks import require_batch, require_plain_arrays
from .optimizer import CLIP_NORM, L1, L2, LEARNING_RATE, PENALTY_IN_LOSS, clip_elements_by_norm
from .plan import planned_array, planned_table, spans
from .reductions import lane_sum_of_sizes, lane_sum_of_squares
from .simd import advance, flat_pointer, load, pointer_to
from .step import Given, batch_loss, batch_weight
from .sweeps import (
    Optimization,
    find_gradient,
    find_rows,
    flat_update_worker,
    gradient_worker,
    rows_worker,
    step_worker,
    update_worker,
)
from .table import CONTEXT, IN, NUMBERS, OUT, WEIGHT, require_plain
from .workers import call

# The places of a training plan (plan.py): addresses of workers, 0 for those that are not called; arrays; numbers.
ROWS_SWEEP, UPDATE_SWEEP, GRADIENT_SWEEP, FLAT_UPDATE, BOTH_SWEEPS = range(5)
TABLE_AT, PARAMETERS_AT, HYPER_AT, STATE1_AT, STATE2_AT, WORKSPACE_AT, LOSS_PARAMETER_AT = range(5, 19, 2)
OPTIMIZER, LOSS, THREADS = range(19, 22)
# Here may be the address of an array with a learning rate for each update; 0 means that of hyper. A call runs many
# updates: an array costs an update 8 bytes to read, a call for each of them a microsecond and more.
RATES = 22
PLAN_SIZE = 23
# What the serial kernels take, as `require_arrays` has it.
BATCH_ARRAYS = "flat parameters 1, strided x 2, flat y 2, result gradient 1, result workspace 1"


@inner
def penalty_in_loss(table, parameters, hyper, weight):
    """What L1 and L2 add to the loss of a batch: of the weights, not of biases."""
    l1, l2 = hyper[L1], hyper[L2]
    if hyper[PENALTY_IN_LOSS] == 0.0 or (l1 == 0.0 and l2 == 0.0):
        return 0.0
    sizes, squares = 0.0, 0.0
    for layer in range(table.shape[0]):
        first, count = advance(flat_pointer(parameters), table[layer, WEIGHT]), table[layer, IN] * table[layer, OUT]
        squares += lane_sum_of_squares(first, count)
        if l1 != 0.0:
            sizes += lane_sum_of_sizes(first, count)
    return (0.5 * l2 * squares + l1 * sizes) / weight if weight != 0.0 else 0.0


@glue
def whole_batch(table, parameters, x, y, sample_weight, workspace, loss, loss_parameter):
    """All rows of the data, as they lie, as what a step is given."""
    order = table[0, :0]
    weight = batch_weight(sample_weight, order, 0, x.shape[0])
    return Given(table, parameters, x, y, sample_weight, order, workspace, loss, loss_parameter, 0, x.shape[0], weight)


@glue
def by_both_sweeps(rows_address, gradient_address, given, gradient):
    """The loss and gradient on this thread, by the workers at two addresses."""
    call(rows_address, (given, 0, 1))
    call(gradient_address, (given, gradient, 0, 1))
    return batch_loss(given)


@kernel
def loss_and_gradient_serial(table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None):
    """The loss and its gradient, on this thread; arrays as `loss_and_gradient` takes them."""
    require_plain(table)
    parameter = parameter_array(loss, loss_parameter)
    require_arrays(BATCH_ARRAYS, (parameters, x, y, gradient, workspace))
    require_arrays("flat sample_weight 1", (sample_weight,))
    require_batch(table, parameters, x, y, sample_weight, np.int64(loss), gradient, workspace, parameter)
    given = whole_batch(table, parameters, x, y, sample_weight, workspace, np.int64(loss), parameter)
    return by_both_sweeps(find_rows(parameters), find_gradient(parameters), given, gradient)


@glue
def callers(table, threads):
    """Threads on which to call the worker of the first sweep: one with a CONTEXT shares out the work itself."""
    return 1 if table[0, CONTEXT] != 0 else threads


def _data_types(t):
    """x, y, sample_weight"""
    return read_only(t, 2, "A"), read_only(t, 2), read_only(t, 1)


@driver(
    lambda t: (
        intp,
        intp,
        read_only(int64, 2),
        t[::1],
        *_data_types(t),
        intp,
        read_only(float64, 1),
        t[::1],
        t[::1],
        intp,
    )
)
def loss_and_gradient_parallel(
    rows_address,
    gradient_address,
    table,
    parameters,
    x,
    y,
    sample_weight,
    loss,
    loss_parameter,
    gradient,
    workspace,
    threads,
):
    """`loss_and_gradient_serial` on threads; the workspace is one planned for as many."""
    given = whole_batch(table, parameters, x, y, sample_weight, workspace, loss, loss_parameter)
    run(rows_address, (given,), callers(table, threads))
    run(gradient_address, (given, gradient), threads)
    return batch_loss(given)


@serial_in_njit(loss_and_gradient_serial)
def loss_and_gradient(table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None):
    """The loss of a batch, and its gradient in the parameters' order, by back propagation (Rumelhart et al. 1986).

    Args:
        table: `net.table`, int64 (layers, 18); no layer of it normalized, x not standardized, else a ValueError.
        parameters: flat float32 or float64.
        x: (m, in), any strides.
        y: (m, out) C-contiguous, or (m, 1) class labels for softmax_cross_entropy.
        sample_weight: (m,), or empty.
        loss: a `Loss`.
        gradient: like parameters, filled.
        workspace: as large as `fastnn.workspace(net.network, m)`, or larger: from Python, room for more threads
            lets more of them work.
        loss_parameter: huber's delta, quantile's q, or a float64 array with a q for each output; None is 1 or 1/2.
            Other losses have none.

    Returns:
        The loss, a float.

    >>> net = fastnn.MLP([2, 1], dtype="float64")
    >>> net.parameters = [1.0, 2.0, 0.5]  # the weights, the bias
    >>> x, y, gradient = np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[3.0], [3.0]]), np.empty(3)
    >>> workspace = fastnn.workspace(net.network, 2)
    >>> kernels.loss_and_gradient(
    ...     net.table, net.parameters, x, y, np.empty(0), kernels.Loss.MSE, gradient, workspace
    ... )
    0.25
    >>> gradient
    array([0.5, 0. , 0. ])
    """
    require_plain_arrays(table, (parameters, gradient, workspace), (x, y))
    require_plain(table)
    parameter = parameter_array(loss, loss_parameter)
    require_batch(table, parameters, x, y, sample_weight, loss, gradient, workspace, parameter)
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, training_workspace)
    dtype = parameters.dtype
    loss_and_gradient_parallel.ready(dtype)
    return loss_and_gradient_parallel(
        rows_worker.address(dtype),
        gradient_worker.address(dtype),
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


def plain_training_plan(network, optimization, loss, workspace, threads, loss_parameter=None, sweeps=None):
    """What `train_planned` needs besides the data, as an int64 array; keep it and its arrays as long as it is used.

    Args:
        network: Network(table, parameters).
        optimization: Optimization(code, hyper, state1, state2).
        loss: a `Loss`.
        workspace: at least `training_workspace(table, parameters, batch_size, threads)` elements.
        threads: 1 launches none.
        loss_parameter: from `loss.parameter_array`; None is the default.
        sweeps: the workers of rows, gradient and update, if not those of plain networks.
    """
    dtype = network.parameters.dtype
    train_planned.ready(dtype)
    # Workers that will not be called are not compiled.
    rows, gradient, update = sweeps or (rows_worker, gradient_worker, update_worker)
    if optimization.hyper[CLIP_NORM] > 0:
        workers = rows.address(dtype), 0, gradient.address(dtype), flat_update_worker.address(dtype), 0
    elif threads == 1 and sweeps is None:
        workers = 0, 0, 0, 0, step_worker.address(dtype)
    else:
        workers = rows.address(dtype), update.address(dtype), 0, 0, 0
    parameter = parameter_array(loss, None) if loss_parameter is None else loss_parameter
    arrays = spans(network.table, network.parameters, *optimization[1:], workspace, parameter)
    own_rate = 0
    return np.array([*workers, *arrays, int(optimization.optimizer), int(loss), threads, own_rate], np.int64)


@driver(lambda t: (intp, *_data_types(t), read_only(int64, 1), intp, intp, float64[::1]))
def train_planned(plan, x, y, sample_weight, order, batch_size, first_step, losses):
    """`losses.size` updates of a network, one for each batch of the data, without an allocation.

    Args:
        plan: the address of the array from `plain_training_plan`; its entry RATES may be the address of a float64 array
            with the learning rate of each update.
        x: (rows, in) of any strides.
        y: (rows, out), or (rows, 1) labels, contiguous.
        sample_weight: (rows,) or empty.
        order: int64 indices of the rows to visit, or empty for the rows as they lie.
        batch_size: rows of a batch; the last one may be shorter.
        first_step: number of the first update, from 1.
        losses: float64, receives the loss of each batch before its update, with the penalties if hyper says so.
    """
    numbers = carray(pointer_to(plan, NUMBERS), PLAN_SIZE)
    rows_address, update_address = numbers[ROWS_SWEEP], numbers[UPDATE_SWEEP]
    gradient_address, flat_address = numbers[GRADIENT_SWEEP], numbers[FLAT_UPDATE]
    table = planned_table(numbers, TABLE_AT)
    parameters, workspace = planned_array(numbers, PARAMETERS_AT, y), planned_array(numbers, WORKSPACE_AT, y)
    state1, state2 = planned_array(numbers, STATE1_AT, y), planned_array(numbers, STATE2_AT, y)
    hyper = planned_array(numbers, HYPER_AT, losses)
    loss_parameter = planned_array(numbers, LOSS_PARAMETER_AT, losses)
    optimization = Optimization(numbers[OPTIMIZER], hyper, state1, state2)
    loss, threads = numbers[LOSS], numbers[THREADS]
    own_rate = hyper[LEARNING_RATE]
    total = order.size if order.size > 0 else x.shape[0]
    clip = hyper[CLIP_NORM]
    gradient = workspace[: parameters.size]
    for number in range(losses.size):
        first = number * batch_size
        rows = min(batch_size, total - first)
        weight = batch_weight(sample_weight, order, first, rows)
        given = Given(
            table, parameters, x, y, sample_weight, order, workspace, loss, loss_parameter, first, rows, weight
        )
        if numbers[RATES] != 0:
            hyper[LEARNING_RATE] = load(pointer_to(numbers[RATES], losses), number)
        update = first_step + number
        penalty = penalty_in_loss(table, parameters, hyper, weight)
        if numbers[BOTH_SWEEPS] != 0:
            call(numbers[BOTH_SWEEPS], (given, optimization, update))
        else:
            run(rows_address, (given,), callers(table, threads))
            if clip > 0.0:
                # The norm needs the whole gradient, so here it does travel through memory.
                run(gradient_address, (given, gradient), threads)
                clip_elements_by_norm(flat_pointer(gradient), clip, gradient.size)
                run(flat_address, (table, parameters, weight, gradient, optimization, update), threads)
            else:
                run(update_address, (given, optimization, update), threads)
        losses[number] = batch_loss(given) + penalty
    if numbers[RATES] != 0:
        hyper[LEARNING_RATE] = own_rate
