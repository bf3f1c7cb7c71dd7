"""Forward, loss and backward of some rows of a plain network, all that the backward takes being kept.

Training (sweeps.py) and products with the Jacobian (sensitivity.py) are made of these.
"""

from .epilogue import Activate, ActivateBackward, finish
from .gemm import linear_product, product
from .jit import glue
from .layout import rows_at
from .loss import Batch, loss_rows, terms_count
from .operand import Operand, Rows, shifted, transposed
from .simd import advance
from .step import dz_of, outputs_of, saved_of
from .table import ACTIVATION, BIAS, IN, OUT, RECORD, Z_RECORD, weights_of


@glue
def forward_saving(step, row, m, buffer, scratch):
    """Rows row..row + m forward, all that their backward takes kept."""
    table, parameters = step.table, step.parameters
    source = shifted(step.x, row, 0)
    for layer in range(table.shape[0]):
        n, activation, z_record = table[layer, OUT], table[layer, ACTIVATION], table[layer, Z_RECORD]
        target = rows_at(step.activations, step.rows, table[layer, RECORD], layer, row, n)
        z = rows_at(step.z, step.rows, max(z_record, 0), layer, row, n)
        epilogue = Activate(activation, target, n, z_record >= 0, z, buffer, step.contested)
        weight, bias = weights_of(table, layer, parameters), advance(parameters, table[layer, BIAS])
        linear_product(m, n, table[layer, IN], source, weight, bias, epilogue, scratch)
        source = Operand(target, n, 1)


@glue
def loss_and_slope(step, row, m, dy):
    """The terms of the loss of m rows, and its gradient with respect to the network's output, at dy."""
    columns, last = step.batch.columns, step.table.shape[0] - 1
    n = step.table[last, OUT]
    batch = Batch(
        advance(step.batch.target, row * columns),
        columns,
        advance(step.batch.weights, row if step.batch.weighted else 0),
        step.batch.weighted,
    )
    terms = advance(step.terms, terms_count(step.loss, row, n))
    loss_rows(step.loss, step.loss_parameter, outputs_of(step, row), batch, dy, terms, m, n, step.scale)


@glue
def backward_output(step, dy, row, m, saved_per_row):
    """From the gradient with respect to the output, m rows at dy, to dz of the last layer.

    saved_per_row: rows have saved values of their own, not all those of `row`.
    """
    last = step.table.shape[0] - 1
    n, activation = step.table[last, OUT], step.table[last, ACTIVATION]
    dz = dz_of(step, last, row)
    saved = saved_of(step, last, row)
    finish(ActivateBackward(activation, saved, n if saved_per_row else 0, dz, n, False), Rows(dy, n), 0, 0, m, n)


@glue
def backward_hidden(step, row, m, saved_per_row, scratch):
    """From dz of the last layer to that of the first; saved_per_row as in `backward_output`."""
    table = step.table
    for layer in range(table.shape[0] - 1, 0, -1):
        n, k, activation = table[layer, OUT], table[layer, IN], table[layer - 1, ACTIVATION]
        below = dz_of(step, layer - 1, row)
        saved = saved_of(step, layer - 1, row)
        epilogue = ActivateBackward(activation, saved, k if saved_per_row else 0, below, k, step.contested)
        dz = Operand(dz_of(step, layer, row), n, 1)
        product(m, k, n, dz, transposed(weights_of(table, layer, step.parameters)), epilogue, scratch)
