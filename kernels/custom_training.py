"""Training by what the user has worked out: the gradient of a loss of his own by the output, or a whole gradient.

The outputs that his loss is a function of come from `batch_outputs` or `update_outputs`. Its gradient with respect to
them goes on as the target of the loss LINEAR, by which the drivers of training.py find the gradient of his loss.
"""

import numpy as np
from numba import float64, int64, intp

from .jit import driver, read_only
from .launch import run
from .loss import LINEAR, parameter_array
from .optimizer import CLIP_NORM, clip_elements_by_norm
from .regularized_training import begin_updates, gradient_sweeps, table_in, training_plan
from .simd import flat_pointer, load
from .step import Given, outputs_of, plan_step
from .sweeps import optimization_type
from .table import outputs_count
from .training import callers


@driver(
    lambda t: (
        intp,
        read_only(int64, 2),
        t[::1],
        read_only(t, 2, "A"),
        read_only(float64, 1),
        t[::1],
        t[:, ::1],
        intp,
    )
)
def _training_outputs(rows_address, table, parameters, x, loss_parameter, workspace, out, threads):
    # The first sweep does it, which goes back again with a gradient of 0.
    rows, columns = out.shape
    for i in range(rows):
        for j in range(columns):
            out[i, j] = 0.0
    order, none = table[0, :0], workspace[:0]
    given = Given(table, parameters, x, out, none, order, workspace, LINEAR, loss_parameter, 0, rows, 1.0)
    run(rows_address, (given,), callers(table, threads))
    step = plan_step(given, 1)
    for i in range(rows):
        row = outputs_of(step, i)
        for j in range(columns):
            out[i, j] = load(row, j)


@driver(lambda t: (intp, read_only(int64, 2), t[::1], t[::1], optimization_type(t), intp, intp, int64[::1]))
def update_by_gradient(address, table, parameters, gradient, optimization, number, threads, done):
    """Update `number` of the parameters by a gradient in memory, which clipping by norm changes.

    Args:
        address: that of `flat_update_worker`.
        done: its element becomes 1 when all is done: an interrupt may come before Python knows.
    """
    limit = optimization.hyper[CLIP_NORM]
    if limit > 0.0:
        clip_elements_by_norm(flat_pointer(gradient), limit, gradient.size)
    run(address, (table, parameters, 1.0, gradient, optimization, number), threads)
    done[0] = 1


def batch_outputs(network, x, workspace, threads):
    """network(x) by the statistics of the batch where layers are normalized, and with nothing dropped.

    Args:
        network: the `NormalizedNetwork` of a model.
        workspace: of a training step with as many rows and threads.
    """
    table, parameters, statistics = network
    rows_address, _, table = gradient_sweeps(table, parameters.dtype, threads, statistics)
    return _outputs(rows_address, table, parameters, x, workspace, threads)


def update_outputs(network, optimization, x, workspace, threads, seed, update):
    """network(x) as the update of this number has it, with units dropped; running averages stay as they are.

    Args:
        network, optimization: as in `training_plan`, of a network that `is_regularized`.
        workspace: of a training step with at least as many rows and as many threads.
        seed: of what is dropped.
    """
    if "statistics" in network._fields:
        network = network._replace(statistics=network.statistics.copy())
    plan = training_plan(network, optimization, LINEAR, workspace, threads)
    begin_updates(plan, seed, update)
    return _outputs(int(plan[0]), table_in(plan), network.parameters, x, workspace, threads)


def _outputs(rows_address, table, parameters, x, workspace, threads):
    out = np.empty((x.shape[0], outputs_count(table)), parameters.dtype)
    _training_outputs.ready(parameters.dtype)
    _training_outputs(rows_address, table, parameters, x, parameter_array(LINEAR, None), workspace, out, threads)
    return out
