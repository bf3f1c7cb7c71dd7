"""How a network's output depends on its input: products of its Jacobian, row by row, and the Jacobian itself.

vjp        dx = dy^T J(x)
jacobian   J[i, j] = d network(x)[i] / d x[j]

Both go forward keeping what the backward takes, then from the output back through all layers to x; the weights' own
gradients are not touched.
"""

from numba import int64, intp

from .epilogue import Store
from .gemm import product
from .jit import glue
from .layout import ROWS
from .operand import Operand, transposed
from .passes import backward_hidden, backward_output, forward_saving
from .simd import advance, constant, load, pointer_to, store
from .step import dz_of, plan_rows
from .table import IN, OUT, outputs_count, weights_of, widest
from .workers import finder, worker

# Rows of a Jacobian that go back through the network together: enough to pay for reading weights by their columns.
SEEDS = 32


@glue
def input_gradient(step, row, m, dx, scratch):
    """From dz of the first layer to the gradient with respect to the input, m contiguous rows at dx."""
    n, k = step.table[0, OUT], step.table[0, IN]
    dz, weight = Operand(dz_of(step, 0, row), n, 1), weights_of(step.table, 0, step.parameters)
    product(m, k, n, dz, transposed(weight), Store(dx, k), scratch)


@glue
def identity_rows(out, first, m, n):
    """Rows first .. first + m of the identity of n columns."""
    for i in range(m * n):
        store(out, i, constant(0.0, load(out, i)))
    for i in range(m):
        store(out, i * n + first + i, constant(1.0, load(out, 0)))


@worker(lambda t: (int64[:, ::1], t[::1], intp, intp, intp, intp, intp, intp, t[::1]))
def vjp_worker(table, parameters, x, x_row, x_column, rows, dy, dx, workspace):
    """Rows of x at an address, with their strides; dy and dx are contiguous at theirs."""
    step = plan_rows(table, parameters, Operand(pointer_to(x, parameters), x_row, x_column), rows, workspace)
    inputs, outputs = table[0, IN], outputs_count(table)
    scratch = advance(step.scratch, widest(table))
    for row in range(0, rows, ROWS):
        m = min(ROWS, rows - row)
        forward_saving(step, row, m, step.scratch, scratch)
        backward_output(step, advance(pointer_to(dy, parameters), row * outputs), row, m, True)
        backward_hidden(step, row, m, True, scratch)
        input_gradient(step, row, m, advance(pointer_to(dx, parameters), row * inputs), scratch)


find_vjp = finder(vjp_worker)


@worker(lambda t: (int64[:, ::1], t[::1], intp, intp, intp, intp, intp, t[::1]))
def jacobian_worker(table, parameters, x, x_row, x_column, rows, out, workspace):
    """out (rows, out, in): for each sample rows of the identity go back through the network, SEEDS at a time.

    Forward mode would need fewer rows where the network has fewer inputs than outputs; it is not there.
    """
    inputs, outputs = table[0, IN], outputs_count(table)
    for sample in range(rows):
        source = Operand(advance(pointer_to(x, parameters), sample * x_row), 0, x_column)
        result = advance(pointer_to(out, parameters), sample * outputs * inputs)
        step = plan_rows(table, parameters, source, min(SEEDS, outputs), workspace)
        scratch = advance(step.scratch, widest(table))
        forward_saving(step, 0, 1, step.scratch, scratch)
        for first in range(0, outputs, SEEDS):
            m = min(SEEDS, outputs - first)
            identity_rows(scratch, first, m, outputs)
            backward_output(step, scratch, 0, m, False)
            backward_hidden(step, 0, m, False, scratch)
            input_gradient(step, 0, m, advance(result, first * inputs), scratch)


find_jacobian = finder(jacobian_worker)
