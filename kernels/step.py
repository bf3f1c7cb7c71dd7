"""One batch on its way through a network: where its data, and all that a step makes of them, lie.

Every worker of a step works this out anew from what it is given, which costs less than handing over its result.
"""

from collections import namedtuple

from numba import float64, int64, intp, types

from .activation import copy_elements
from .jit import glue, inner
from .layout import layer_parts, rows_at, terms_of, training_scratch
from .loss import Batch, loss_scale, terms_count, value_scale
from .microkernel import panel_columns
from .operand import Operand, operand, shifted
from .reductions import lane_sum
from .simd import advance, aligned, flat_pointer, itemsize, load, prefetch_to_read, store
from .symbols import shared
from .table import IN, OUT, RECORD, Z_RECORD, outputs_count

# Lines of rows to gather that are on their way at a time.
LINES_AHEAD = 32

# What a step is given, the same for all threads: the network, the data, which of their rows (first.., or those that
# order names from there on) and the sum of their weights.
Given = namedtuple("Given", "table parameters x y weights order workspace loss loss_parameter first rows weight")


def given_type(t):
    """The type of a `Given` of arrays of an element type."""
    arrays = int64[:, ::1], t[::1], t[:, :], t[:, ::1], t[::1], int64[::1], t[::1]
    return types.NamedTuple((*arrays, intp, float64[::1], intp, intp, float64), Given)


@glue
def with_x(given, x):
    """What is given, with other rows for x."""
    return Given(*given[:2], x, *given[3:])


# One batch on its way through the network, in pointers. If `gather`, the rows `indices` of the source arrays are copied
# into x, target and weights first. contested: whether other threads have read what is overwritten.
Step = namedtuple(
    "Step",
    "table parameters rows loss loss_parameter scale x batch activations z dz terms scratch "
    "gather source_x source_y source_weights indices contested",
)


@glue
def outputs_of(step, row):
    """Where the network's output for `row` lies."""
    last = step.table.shape[0] - 1
    return rows_at(step.activations, step.rows, step.table[last, RECORD], last, row, step.table[last, OUT])


@glue
def dz_of(step, layer, row):
    """Where the gradient with respect to a layer's pre-activation lies, from `row` on."""
    return rows_at(step.dz, step.rows, step.table[layer, RECORD], layer, row, step.table[layer, OUT])


@glue
def saved_of(step, layer, row):
    """What the backward of a layer's activation takes, from `row` on."""
    n, z_record = step.table[layer, OUT], step.table[layer, Z_RECORD]
    if z_record >= 0:
        return rows_at(step.z, step.rows, z_record, layer, row, n)
    return rows_at(step.activations, step.rows, step.table[layer, RECORD], layer, row, n)


@glue
def plan_rows(table, parameters, x, rows, workspace):
    """A Step of rows of the Operand x without targets: for forward and backward passes, not for a loss."""
    parts = layer_parts(table, parameters, rows, workspace)
    none = advance(flat_pointer(parameters), 0)
    return Step(
        table=table,
        parameters=flat_pointer(parameters),
        rows=rows,
        loss=0,
        loss_parameter=0.0,
        scale=1.0,
        x=x,
        batch=Batch(none, 0, none, False),
        activations=parts.activations,
        z=parts.z,
        dz=parts.dz,
        terms=parts.terms,
        scratch=parts.rest,
        gather=False,
        source_x=x,
        source_y=none,
        source_weights=none,
        indices=flat_pointer(table[0]),
        contested=False,
    )


@glue
def plan_step(given, threads):
    """The Step of what is given, for one of so many threads. The workspace begins with room for a gradient."""
    table, parameters, rows, first, order = given.table, given.parameters, given.rows, given.first, given.order
    inputs, columns = table[0, IN], given.y.shape[1]
    gather, weighted = order.size > 0, given.weights.size > 0
    start = 0 if gather else first
    parts = layer_parts(table, parameters, rows, given.workspace)
    y_part = aligned(advance(parts.rest, rows * inputs))
    weights_part = aligned(advance(y_part, rows * columns))
    source_x = operand(given.x)
    x = Operand(parts.rest, inputs, 1) if gather else shifted(source_x, start, 0)
    indices = advance(flat_pointer(order), first if gather else 0)
    source_y, source_weights = flat_pointer(given.y), flat_pointer(given.weights)
    batch = Batch(
        y_part if gather else advance(source_y, start * columns),
        columns,
        weights_part if gather else advance(source_weights, start if weighted else 0),
        weighted,
    )
    return Step(
        table=table,
        parameters=flat_pointer(parameters),
        rows=rows,
        loss=given.loss,
        loss_parameter=given.loss_parameter,
        scale=loss_scale(given.loss, given.weight, outputs_count(table)),
        x=x,
        batch=batch,
        activations=parts.activations,
        z=parts.z,
        dz=parts.dz,
        terms=parts.terms,
        scratch=aligned(advance(weights_part, rows)),
        gather=gather,
        source_x=source_x,
        source_y=source_y,
        source_weights=source_weights,
        indices=indices,
        contested=threads > 1,
    )


@glue
def with_inputs(step, x):
    """A step that reads another Operand for x."""
    return Step(*step[:6], x, *step[7:])


@shared
def _scratch_size(table, rows, p):
    return training_scratch(table, rows, itemsize(p), panel_columns(p))


@glue
def scratch_of(step, index):
    """The scratch of one thread."""
    if index == 0:
        return step.scratch
    return advance(step.scratch, index * _scratch_size(step.table, step.rows, step.scratch))


@shared
def _take_rows(indices, first, last, source, columns, out):
    """Rows first..last of out, contiguous: those rows of the Operand source that the indices name.

    They lie anywhere in memory, where the hardware does not read ahead. A step of 50-256-128-1 with 200 rows out of
    100,000, in float64 on one thread, took 463 us element by element, and takes 460; one of 8-100-1 25 and 23 (Zen 5).
    Rows shorter than a line gain nothing: the CPU has loads of many of them under way.
    """
    line = 64 // itemsize(out)
    if source.column_stride != 1 or columns < line:
        for i in range(first, last):
            row = shifted(source, load(indices, i), 0).pointer
            for j in range(columns):
                store(out, i * columns + j, load(row, j * source.column_stride))
        return
    ahead = max(1, LINES_AHEAD // (columns // line + 1))
    for i in range(first - ahead, last):
        if i + ahead < last:
            following = shifted(source, load(indices, i + ahead), 0).pointer
            for j in range(0, columns, line):
                prefetch_to_read(following, j)
        if i >= first:
            copy_elements(shifted(source, load(indices, i), 0).pointer, advance(out, i * columns), columns)


@glue
def gather_rows(step, first, last):
    """Copy the rows of the batch from where they lie in the data set to where the step reads them."""
    columns = step.batch.columns
    _take_rows(step.indices, first, last, step.source_x, step.table[0, IN], step.x.pointer)
    _take_rows(step.indices, first, last, Operand(step.source_y, columns, 1), columns, step.batch.target)
    if step.batch.weighted:
        _take_rows(step.indices, first, last, Operand(step.source_weights, 1, 1), 1, step.batch.weights)


@inner
def batch_weight(weights, order, first, rows):
    """Sum of the sample weights of a batch, in float64 in the order of its rows; the number of rows without weights."""
    if weights.size == 0:
        return float(rows)
    total = 0.0
    for i in range(first, first + rows):
        total += weights[order[i] if order.size > 0 else i]
    return total


@inner
def batch_loss(given):
    """The loss of a batch from the terms that the first sweep left."""
    loss, outputs = given.loss, outputs_count(given.table)
    terms = terms_of(given.parameters, given.workspace)
    return value_scale(loss, given.weight, outputs) * lane_sum(terms, terms_count(loss, given.rows, outputs))
