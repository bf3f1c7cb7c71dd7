"""What a training step keeps of normalized layers, dropout and standardized inputs, besides what step.py has.

    z = x W + b,   u = normalized z (see normalization.py),   y = f(u),   out = y with units dropped (see dropout.py)

With m rows it lies at the end of the workspace:

    columns     2 n for each layer normalized over the batch: mean, 1 / sqrt(variance + eps); then 2 n of sums for each
    KEPT        m n: y, of layers with dropout whose backward takes it
    NORMALIZED  m n: x^, and du in DU, of normalized layers
    FACTORS     m: 1 / sqrt(variance + eps) of rows

What the step has to know besides is in a context, numbers whose address is in the table that a plan has for itself. In
a table without one, a network's own, training is a function of its arguments: by the batch's statistics, with nothing
dropped.

Where x is standardized (see standardization.py) standardized rows are made in the workspace's room for a gathered
batch, gathered or not, and both sweeps take those for x. mean and scale come by the context's address of the
statistics; where that is 0, and so in a table without a context, x holds standardized rows already.
"""

from collections import namedtuple

from numba import carray

from .dropout import Mask
from .jit import glue
from .layout import EXTRAS, extra_size, layer_parts, rows_at
from .operand import Operand
from .simd import advance, aligned, flat_pointer, pointer_to
from .step import dz_of, plan_step, with_inputs
from .table import (
    CONTEXT,
    DROPOUT,
    EXTRA_RECORD,
    IN,
    NORMALIZATION,
    NUMBERS,
    OUT,
    STANDARDIZED,
    STATISTICS,
    STATISTICS_SIZE,
    Z_RECORD,
)

KEPT, NORMALIZED, DU, FACTORS = range(EXTRAS)
# A context. TRAINS: whether units are dropped and running averages move, which lie at the address RUNNING, before mean
# and scale of x. UPDATE is the number of the next update; the conductor counts on.
THREADS, TRAINS, RUNNING, SEED, UPDATE = range(5)
CONTEXT_SIZE = 5
# Where a step keeps the rest, and what its context says; seed and update fix what is dropped.
Regular = namedtuple("Regular", "columns extras trains running seed update")


@glue
def plan_regular(table, rows, workspace, parameters):
    """The `Regular` of so many rows in a workspace."""
    start = aligned(advance(flat_pointer(workspace), workspace.size - extra_size(table, rows)))
    extras = aligned(advance(start, 2 * table[0, STATISTICS_SIZE]))
    trains, running, seed, update = False, 0, 0, 0
    if table[0, CONTEXT] != 0:
        context = carray(pointer_to(table[0, CONTEXT], NUMBERS), CONTEXT_SIZE)
        trains, running, seed, update = context[TRAINS] != 0, context[RUNNING], context[SEED], context[UPDATE]
    return Regular(start, extras, trains, pointer_to(running, parameters), seed, update)


@glue
def standardizes_itself(table):
    """Whether the sweeps are to standardize x themselves."""
    if table[0, STANDARDIZED] == 0 or table[0, CONTEXT] == 0:
        return False
    return carray(pointer_to(table[0, CONTEXT], NUMBERS), CONTEXT_SIZE)[RUNNING] != 0


@glue
def plan_inputs(given, threads):
    """(the Step of `plan_step`, whose x is the standardized rows if there are any, the x of which they are made)"""
    table, step = given.table, plan_step(given, threads)
    inputs = step.x
    if standardizes_itself(table):
        inputs = Operand(layer_parts(table, given.parameters, given.rows, given.workspace).rest, table[0, IN], 1)
    return with_inputs(step, inputs), step.x


@glue
def keeps_output(table, layer):
    """Whether the backward takes an output that dropout has changed."""
    return table[layer, DROPOUT] > 0 and table[layer, Z_RECORD] < 0


@glue
def extra_at(step, regular, layer, which, row):
    """Where a layer's KEPT, NORMALIZED, DU or FACTORS of `row` lie."""
    n, record = step.table[layer, OUT], step.table[layer, EXTRA_RECORD]
    if which > KEPT:
        record += (n if keeps_output(step.table, layer) else 0) + (which - NORMALIZED) * n
    width = 1 if which == FACTORS else n
    return rows_at(regular.extras, step.rows, record, EXTRAS * layer + which, row, width)


@glue
def columns_of(step, regular, layer):
    """Where a layer's mean and factors lie, and where the sums of its backward."""
    here = advance(regular.columns, step.table[layer, STATISTICS])
    return here, advance(here, step.table[0, STATISTICS_SIZE])


@glue
def mask_of(step, regular, layer):
    return Mask(step.table[layer, DROPOUT], regular.seed, regular.update, layer)


@glue
def upper_gradient(step, regular, layer, row):
    """Where the gradient with respect to a layer's output comes to lie, and turns into du or dz."""
    if step.table[layer, NORMALIZATION] > 0:
        return extra_at(step, regular, layer, DU, row)
    return dz_of(step, layer, row)
