"""`sensitivity` for networks with normalised layers; those normalised over the batch go by their running averages.

The workers are those of sensitivity.py on the passes of regularized.py: with a batch's mean and deviation taken from
the running averages, and no sums over the batch in the backward, rows do not depend on each other.
"""

from numba import int64, intp

from .activation import copy_elements
from .gemm import Operand
from .jit import finder, glue, worker
from .network import IN, NORMALIZATION, OUT, ROWS, STATISTICS, plan_rows, widest
from .normalization import BATCH, running_factors
from .regularized import backward_until, columns_of, forward_until, plan_regular, upper_gradient
from .sensitivity import SEEDS, identity_rows, input_gradient
from .simd import advance, constant, load, pointer_to, store


@glue
def _take_running(step, regular, statistics):
    """Fill in what a batch's statistics would be, and zeros for the sums of the backward."""
    table = step.table
    for layer in range(table.shape[0]):
        if table[layer, NORMALIZATION] == BATCH:
            n = table[layer, OUT]
            mean, sums = columns_of(step, regular, layer)
            running = advance(statistics, table[layer, STATISTICS])
            copy_elements(running, mean, n)
            running_factors(advance(running, n), advance(mean, n), n)
            for j in range(2 * n):
                store(sums, j, constant(0.0, load(mean, 0)))


@worker(lambda t: (int64[:, ::1], t[::1], intp, intp, intp, intp, intp, intp, intp, t[::1]))
def normalized_vjp_worker(table, parameters, statistics, x, x_row, x_column, rows, dy, dx, workspace):
    """Rows of x at an address, with their strides; dy and dx are contiguous at theirs."""
    step = plan_rows(table, parameters, Operand(pointer_to(x, parameters), x_row, x_column), rows, workspace)
    regular = plan_regular(table, rows, workspace, parameters)
    _take_running(step, regular, pointer_to(statistics, parameters))
    last = table.shape[0] - 1
    inputs, outputs = table[0, IN], table[last, OUT]
    buffer, scratch = step.scratch, advance(step.scratch, widest(table))
    for row in range(0, rows, ROWS):
        m = min(ROWS, rows - row)
        forward_until(step, regular, row, m, -1, False, buffer, scratch)
        source = advance(pointer_to(dy, parameters), row * outputs)
        copy_elements(source, upper_gradient(step, regular, last, row), m * outputs)
        backward_until(step, regular, row, m, last, False, True, False, buffer, scratch)
        input_gradient(step, row, m, advance(pointer_to(dx, parameters), row * inputs), scratch)


find_normalized_vjp = finder(normalized_vjp_worker)


@worker(lambda t: (int64[:, ::1], t[::1], intp, intp, intp, intp, intp, intp, t[::1]))
def normalized_jacobian_worker(table, parameters, statistics, x, x_row, x_column, rows, out, workspace):
    """out (rows, out, in): for each sample rows of the identity go back through the network, SEEDS at a time."""
    last = table.shape[0] - 1
    inputs, outputs = table[0, IN], table[last, OUT]
    for sample in range(rows):
        source = Operand(advance(pointer_to(x, parameters), sample * x_row), 0, x_column)
        result = advance(pointer_to(out, parameters), sample * outputs * inputs)
        step = plan_rows(table, parameters, source, min(SEEDS, outputs), workspace)
        regular = plan_regular(table, step.rows, workspace, parameters)
        _take_running(step, regular, pointer_to(statistics, parameters))
        buffer, scratch = step.scratch, advance(step.scratch, widest(table))
        forward_until(step, regular, 0, 1, -1, False, buffer, scratch)
        for first in range(0, outputs, SEEDS):
            m = min(SEEDS, outputs - first)
            identity_rows(upper_gradient(step, regular, last, 0), first, m, outputs)
            backward_until(step, regular, 0, m, last, False, False, False, buffer, scratch)
            input_gradient(step, 0, m, advance(result, first * inputs), scratch)


find_normalized_jacobian = finder(normalized_jacobian_worker)
