"""`sensitivity` for networks with normalized layers or inputs; normalized over the batch means by running averages.

The work is that of sensitivity.py by the passes of regularized_passes.py: with a batch's mean and deviation taken from
the running averages, and no sums over the batch in the backward, rows do not depend on each other. Standardized rows
lie where those of a gathered batch would, before the scratch.
"""

from numba import int64, intp

from .activation import copy_elements
from .jit import glue
from .layout import ROWS, layer_parts
from .normalization import BATCH, running_factors
from .operand import Operand
from .regularized_passes import backward_until, forward_until
from .regularized_step import columns_of, plan_regular, upper_gradient
from .sensitivity import SEEDS, identity_rows, input_gradient
from .simd import advance, aligned, constant, load, pointer_to, store
from .standardization import standardized_rows, unstandardize_rows
from .step import plan_rows
from .table import IN, NORMALIZATION, OUT, STANDARDIZED, STATISTICS, mean_and_scale, widest
from .workers import finder, worker


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
def normalized_sensitivity_worker(table, parameters, statistics, x, x_row, x_column, rows, dy, out, workspace):
    """Rows of x at an address, with their strides; dy and out are contiguous at theirs.

    With dy, out receives the gradient with respect to x. Without, dy being 0, it receives the Jacobian of each row:
    rows of the identity take the place of dy, SEEDS at a time. One worker, for two would take twice as long to compile.
    """
    last = table.shape[0] - 1
    inputs, outputs = table[0, IN], table[last, OUT]
    is_jacobian, standardized, averages = dy == 0, table[0, STANDARDIZED], pointer_to(statistics, parameters)
    # A batch of dy goes through in one go; for Jacobians each sample does, and then what is counted are its outputs.
    samples, total, block = (rows, outputs, SEEDS) if is_jacobian else (1, rows, ROWS)
    for sample in range(samples):
        source = Operand(advance(pointer_to(x, parameters), sample * x_row), 0 if is_jacobian else x_row, x_column)
        result = advance(pointer_to(out, parameters), sample * outputs * inputs)
        planned = min(SEEDS, outputs) if is_jacobian else rows
        copies = layer_parts(table, parameters, planned, workspace).rest
        if standardized > 0:
            standardized_rows(table, averages, source, 1 if is_jacobian else rows, copies)
            source = Operand(copies, 0 if is_jacobian else inputs, 1)
        step = plan_rows(table, parameters, source, planned, workspace)
        regular = plan_regular(table, step.rows, workspace, parameters)
        _take_running(step, regular, averages)
        buffer = aligned(advance(step.scratch, planned * standardized))
        scratch = advance(buffer, widest(table))
        for first in range(0, total, block):
            m = min(block, total - first)
            row = 0 if is_jacobian else first
            if first == 0 or not is_jacobian:
                forward_until(step, regular, row, 1 if is_jacobian else m, -1, False, buffer, scratch)
            upper = upper_gradient(step, regular, last, row)
            if is_jacobian:
                identity_rows(upper, first, m, outputs)
            else:
                copy_elements(advance(pointer_to(dy, parameters), row * outputs), upper, m * outputs)
            backward_until(step, regular, row, m, last, False, not is_jacobian, False, buffer, scratch)
            down = advance(result, first * inputs)
            input_gradient(step, row, m, down, scratch)
            if standardized > 0:
                unstandardize_rows(down, mean_and_scale(table, averages)[1], down, m, inputs)


find_normalized_sensitivity = finder(normalized_sensitivity_worker)
