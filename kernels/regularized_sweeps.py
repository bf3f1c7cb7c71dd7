"""The two sweeps of a training step (see sweeps.py) with normalized layers, dropout or standardized inputs.

The first sweep, over rows, is cut where a layer is normalized over the batch, for there every row needs all others. Its
segments are parallel regions over rows, between them others over columns:

    segment   rows from such a layer's x^ on through layers, to the z of the next one, or to the loss and back
    columns   mean and variance of the columns of that z; going back, the sums over the batch that its dz takes

A worker, the conductor, launches them one after the other, and has the place of a plain network's rows worker. The
first segment standardizes x, if it is to be.

The second sweep is that of plain networks, and takes scales and shifts as it takes biases.
"""

from numba import carray, intp

from .epilogue import Store, finish, landing, moved
from .jit import glue
from .launch import run
from .layout import ROWS
from .normalization import BATCH, column_statistics, divide, parameter_sums, unbiased, update_running
from .operand import shifted
from .passes import loss_and_slope
from .regularized_passes import backward_until, forward_until
from .regularized_step import (
    CONTEXT_SIZE,
    DU,
    NORMALIZED,
    THREADS,
    UPDATE,
    columns_of,
    extra_at,
    plan_inputs,
    plan_regular,
    standardizes_itself,
    upper_gradient,
)
from .simd import advance, flat_pointer, pointer_to
from .standardization import standardized_rows
from .step import gather_rows, given_type, plan_step, scratch_of
from .sweeps import optimization_type, sweep_weights, update_sinks
from .table import CONTEXT, NORMALIZATION, NUMBERS, OUT, SCALE, STATISTICS, widest
from .workers import finder, part, worker


@worker(lambda t: (given_type(t), intp, intp, intp, intp))
def segment_worker(given, start, backward, index, parts):
    """One thread's rows of a segment that starts at a layer normalized over the batch, or forward from x at -1."""
    step, raw = plan_inputs(given, parts)
    table, rows = step.table, step.rows
    regular = plan_regular(step.table, step.rows, given.workspace, given.parameters)
    buffer = scratch_of(step, index)
    scratch = advance(buffer, widest(table))
    layers, standardizes = table.shape[0], standardizes_itself(table)
    end = part(rows, index + 1, parts)
    for row in range(part(rows, index, parts), end, ROWS):
        m = min(ROWS, end - row)
        layer = start
        if backward == 0:
            if start < 0 and step.gather:
                gather_rows(step, row, row + m)
            if start < 0 and standardizes:
                target = advance(step.x.pointer, row * step.x.row_stride)
                standardized_rows(table, regular.running, shifted(raw, row, 0), m, target)
            layer = forward_until(step, regular, row, m, start, True, buffer, scratch)
        if layer == layers:
            loss_and_slope(step, row, m, upper_gradient(step, regular, layers - 1, row))
        if backward != 0 or layer == layers:
            layer, begun = (layer, True) if backward != 0 else (layers - 1, False)
            backward_until(step, regular, row, m, layer, begun, True, True, buffer, scratch)


@worker(lambda t: (given_type(t), intp, intp, intp, intp))
def columns_worker(given, layer, backward, index, parts):
    """One thread's columns of what a layer normalized over the batch needs of all rows."""
    step = plan_step(given, parts)
    table, rows = step.table, step.rows
    regular = plan_regular(step.table, step.rows, given.workspace, given.parameters)
    n = table[layer, OUT]
    begin, end = part(n, index, parts), part(n, index + 1, parts)
    normalized = extra_at(step, regular, layer, NORMALIZED, 0)
    mean, sums = columns_of(step, regular, layer)
    if backward == 0:
        # The sums are not there yet: variances have their place.
        column_statistics(normalized, rows, n, begin, end, mean, advance(mean, n), sums)
        if regular.trains:
            running = advance(regular.running, table[layer, STATISTICS])
            update_running(running, mean, begin, end, 1.0)
            update_running(advance(running, n), sums, begin, end, unbiased(rows))
    else:
        slopes, means = advance(sums, begin), advance(sums, n + begin)
        du, scratch = extra_at(step, regular, layer, DU, 0), scratch_of(step, index)
        parameter_sums(du, normalized, rows, n, begin, end, slopes, means, scratch)
        divide(slopes, end - begin, float(rows))
        divide(means, end - begin, float(rows))


find_segment = finder(segment_worker)
find_columns = finder(columns_worker)


@glue
def _following(table, layer, step):
    """The next layer normalized over the batch, up or down."""
    layer += step
    while 0 <= layer < table.shape[0] and table[layer, NORMALIZATION] != BATCH:
        layer += step
    return layer


@worker(lambda t: (given_type(t), intp, intp))
def conductor(given, index, parts):
    """The first sweep: all segments, and what lies between them, on the context's threads or on this one alone."""
    table, segment, columns = given.table, find_segment(given.parameters), find_columns(given.parameters)
    context = carray(pointer_to(table[0, CONTEXT], NUMBERS), CONTEXT_SIZE)
    threads = context[THREADS] if table[0, CONTEXT] != 0 else 1
    run(segment, (given, -1, 0), threads)
    layer = _following(table, -1, 1)
    backward = 0
    while layer >= 0:
        if layer == table.shape[0]:
            backward = 1
        else:
            run(columns, (given, layer, backward), threads)
            run(segment, (given, layer, backward), threads)
        layer = _following(table, layer, -1 if backward != 0 else 1)
    if table[0, CONTEXT] != 0:
        context[UPDATE] += 1


find_conductor = finder(conductor)


@glue
def _sweep_scales(step, regular, sink, index, parts, scratch):
    """One part of every layer's scale and shift: their gradients into a Store or Update over all parameters."""
    table = step.table
    for layer in range(table.shape[0]):
        n = table[layer, OUT]
        begin, end = part(n, index, parts), part(n, index + 1, parts)
        if table[layer, NORMALIZATION] > 0 and end > begin:
            scales = moved(sink, table[layer, SCALE] + begin, n)
            shifts = moved(sink, table[layer, SCALE] + n + begin, n)
            dscale = landing(scales, scratch, n, 0, 0)
            dshift = landing(shifts, advance(scratch, n), n, 0, 0)
            du = extra_at(step, regular, layer, DU, 0)
            normalized = extra_at(step, regular, layer, NORMALIZED, 0)
            lost = advance(scratch, 2 * n)
            parameter_sums(du, normalized, step.rows, n, begin, end, dscale.pointer, dshift.pointer, lost)
            finish(scales, dscale, 0, 0, 1, end - begin)
            finish(shifts, dshift, 0, 0, 1, end - begin)


@worker(lambda t: (given_type(t), t[::1], intp, intp))
def regularized_gradient_worker(given, gradient, index, parts):
    """One thread's part of the second sweep, the gradient stored."""
    step, _ = plan_inputs(given, parts)
    regular = plan_regular(step.table, step.rows, given.workspace, given.parameters)
    sink, scratch = Store(flat_pointer(gradient), 0), scratch_of(step, index)
    sweep_weights(step, sink, sink, index, parts, scratch)
    _sweep_scales(step, regular, sink, index, parts, scratch)


find_regularized_gradient = finder(regularized_gradient_worker)


@worker(lambda t: (given_type(t), optimization_type(t), intp, intp, intp))
def regularized_update_worker(given, optimization, number, index, parts):
    """One thread's part of the second sweep, the optimizer applied to each finished block of the gradient."""
    step, _ = plan_inputs(given, parts)
    regular = plan_regular(step.table, step.rows, given.workspace, given.parameters)
    sink, bias_sink = update_sinks(given, optimization, number, parts)
    scratch = scratch_of(step, index)
    sweep_weights(step, sink, bias_sink, index, parts, scratch)
    _sweep_scales(step, regular, bias_sink, index, parts, scratch)
