"""Networks with normalised layers, dropout or standardised inputs: workers for them behind network.py's drivers.

    z = x W + b,   u = normalised z (see normalization.py),   y = f(u),   out = y with units dropped (see dropout.py)

Of a plain network's two sweeps the first, over rows, is cut where a layer is normalised over the batch, for there every
row needs all others. Its segments are parallel regions over rows, between them others over columns:

    segment   rows from such a layer's x^ on through layers, to the z of the next one, or to the loss and back
    columns   mean and variance of the columns of that z; going back, the sums over the batch that its dz takes

A worker, the conductor, launches them one after the other, and has the place of a plain network's rows worker. What it
needs besides is in a context, numbers whose address is in the table that a plan has for itself. In a table without one,
a network's own, training is a function of its arguments: by the batch's statistics, with nothing dropped.

The second sweep is that of plain networks, and takes scales and shifts as it takes biases.

Where x is standardised (see standardization.py) the first segment makes standardised rows in the workspace's room for a
gathered batch, gathered or not, and both sweeps take those for x. mean and scale come by the context's address of the
statistics; where that is 0, and so in a table without a context, x holds standardised rows already.

Besides what network.py has, a step with m rows keeps at the end of its workspace

    columns     2 n for each layer normalised over the batch: mean, 1 / sqrt(variance + eps); then 2 n of sums for each
    KEPT        m n: y, of layers with dropout whose backward takes it
    NORMALIZED  m n: x^, and du in DU, of normalised layers
    FACTORS     m: 1 / sqrt(variance + eps) of rows
"""

from collections import namedtuple

import numpy as np
from numba import carray, float64, intp, types

from .activation import (
    IDENTITY,
    LOG_SOFTMAX,
    SOFTMAX,
    activate_elements,
    activate_elements_backward,
    copy_elements,
)
from .dense import linear_cell, operand, part, shifted, transposed
from .dropout import Mask, drop_elements
from .epilogue import Store, finish, landing, moved
from .gemm import Operand, product
from .jit import call, finder, glue, kernel, run, serial_in_njit, worker
from .loss import Batch, default_parameter, loss_rows, terms_count
from .network import (
    ACTIVATION,
    BIAS,
    CONTEXT,
    DROPOUT,
    EXTRA_RECORD,
    EXTRAS,
    IN,
    KIND,
    NORMALIZATION,
    NORMALIZING,
    NUMBERS,
    OUT,
    PLAIN,
    RECORD,
    ROWS,
    SCALE,
    STANDARDIZED,
    STATISTICS,
    STATISTICS_SIZE,
    TABLE_AT,
    TABLE_COLUMNS,
    Z_RECORD,
    Step,
    batch_loss,
    batch_weight,
    dz_of,
    extra_size,
    forward_driver,
    forward_plan,
    forward_types,
    gather_rows,
    gradient_worker,
    layer_parts,
    loss_and_gradient_parallel,
    outputs_of,
    plan_of,
    plan_step,
    rows_at,
    rows_worker,
    scratch_of,
    step_types,
    sweep_weights,
    threads_that_fit,
    training_plan,
    update_sinks,
    weights_of,
    widest,
)
from .normalization import (
    BATCH,
    LAYER,
    apply_running,
    column_statistics,
    divide,
    normalize_columns,
    normalize_columns_backward,
    normalize_rows,
    normalize_rows_backward,
    parameter_sums,
    scale_and_shift,
    unbiased,
    update_running,
)
from .simd import advance, aligned, flat_pointer, pointer_to
from .softmax import softmax_rows, softmax_rows_backward
from .standardization import standardize_rows

KEPT, NORMALIZED, DU, FACTORS = range(EXTRAS)
# A context. TRAINS: whether units are dropped and running averages move, which lie at the address RUNNING, before mean
# and scale of x. UPDATE is the number of the next update; the conductor counts on.
THREADS, TRAINS, RUNNING, SEED, UPDATE = range(5)
CONTEXT_SIZE = 5

# Where a step keeps the rest, and what its context says; seed and update fix what is dropped.
Regular = namedtuple("Regular", "columns extras trains running seed update")


def has_normalization(table):
    """Whether a layer is normalised, or x is standardised: whether the network has statistics."""
    return table[0, KIND] == NORMALIZING


def has_batch_normalization(table):
    """Whether a layer is normalised over the batch."""
    return table[0, STATISTICS_SIZE] > 0


def is_regularized(table):
    """Whether training differs from that of a plain network."""
    return table[0, KIND] != PLAIN


@glue
def plan_regular(table, rows, workspace, parameters):
    """The `Regular` of a step."""
    start = aligned(advance(flat_pointer(workspace), workspace.size - extra_size(table, rows)))
    extras = aligned(advance(start, 2 * table[0, STATISTICS_SIZE]))
    trains, running, seed, update = False, 0, 0, 0
    if table[0, CONTEXT] != 0:
        context = carray(pointer_to(table[0, CONTEXT], NUMBERS), CONTEXT_SIZE)
        trains, running, seed, update = context[TRAINS] != 0, context[RUNNING], context[SEED], context[UPDATE]
    return Regular(start, extras, trains, pointer_to(running, parameters), seed, update)


@glue
def mean_and_scale(table, statistics):
    """Where mean and scale of standardised inputs lie in the statistics."""
    mean = advance(statistics, table[0, STATISTICS_SIZE])
    return mean, advance(mean, table[0, STANDARDIZED])


@glue
def standardized_rows(table, statistics, x, m, out):
    """An Operand of m rows of the Operand x, standardised to contiguous rows at `out`."""
    mean, scale = mean_and_scale(table, statistics)
    standardize_rows(x, mean, scale, out, m, table[0, IN])
    return Operand(out, table[0, IN], 1)


@glue
def _standardizes(table):
    """Whether the sweeps are to standardise x themselves."""
    if table[0, STANDARDIZED] == 0 or table[0, CONTEXT] == 0:
        return False
    return carray(pointer_to(table[0, CONTEXT], NUMBERS), CONTEXT_SIZE)[RUNNING] != 0


@glue
def plan_inputs(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight):
    """(the Step of `plan_step`, whose x is the standardised rows if there are any, the x of which they are made)"""
    step = plan_step(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    inputs = step.x
    if _standardizes(table):
        inputs = Operand(layer_parts(table, parameters, rows, workspace)[4], table[0, IN], 1)
    with_inputs = Step(
        step.table,
        step.parameters,
        step.rows,
        step.loss,
        step.loss_parameter,
        step.scale,
        inputs,
        step.batch,
        step.activations,
        step.z,
        step.dz,
        step.terms,
        step.scratch,
        step.gather,
        step.source_x,
        step.source_y,
        step.source_weights,
        step.indices,
    )
    return with_inputs, step.x


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
def _mask(step, regular, layer):
    return Mask(step.table[layer, DROPOUT], regular.seed, regular.update, layer)


@glue
def _activated(step, layer, row):
    """Where a layer's pre-activation is worked out."""
    n, z_record = step.table[layer, OUT], step.table[layer, Z_RECORD]
    if z_record >= 0:
        return rows_at(step.z, step.rows, z_record, layer, row, n)
    return rows_at(step.activations, step.rows, step.table[layer, RECORD], layer, row, n)


@glue
def upper_gradient(step, regular, layer, row):
    """Where the gradient with respect to a layer's output comes to lie, and turns into du or dz."""
    if step.table[layer, NORMALIZATION] > 0:
        return extra_at(step, regular, layer, DU, row)
    return dz_of(step, layer, row)


@glue
def activate_rows(activation, z, y, m, n, buffer):
    """y = f(z) for m whole rows; y may be z. buffer holds a row."""
    if activation >= SOFTMAX:
        copy_elements(z, y, m * n)
        softmax_rows(y, m, n, activation == LOG_SOFTMAX, buffer)
    else:
        activate_elements(activation, z, y, m * n)


@glue
def _finish_forward(step, regular, layer, row, m, buffer):
    """From the product, for NORMALIZED layers there and else where the pre-activation belongs, to the output."""
    table = step.table
    n, normalization = table[layer, OUT], table[layer, NORMALIZATION]
    u = _activated(step, layer, row)
    if normalization > 0:
        normalized = extra_at(step, regular, layer, NORMALIZED, row)
        if normalization == LAYER:
            normalize_rows(normalized, m, n, extra_at(step, regular, layer, FACTORS, row))
        else:
            mean, _ = columns_of(step, regular, layer)
            normalize_columns(normalized, m, n, mean, advance(mean, n))
        scale = advance(step.parameters, table[layer, SCALE])
        scale_and_shift(normalized, scale, advance(scale, n), u, m, n)
    out = rows_at(step.activations, step.rows, table[layer, RECORD], layer, row, n)
    keeps = keeps_output(table, layer)
    y = extra_at(step, regular, layer, KEPT, row) if keeps else out
    activate_rows(table[layer, ACTIVATION], u, y, m, n, buffer)
    if regular.trains and table[layer, DROPOUT] > 0:
        drop_elements(y, out, row * n, m * n, _mask(step, regular, layer))
    elif keeps:
        copy_elements(y, out, m * n)


@glue
def forward_until(step, regular, row, m, layer, stops, buffer, scratch):
    """m rows forward from the x^ of a layer, or from x if layer is -1. If `stops`, until a layer normalised over the
    batch has its z. Returns that layer, or the number of layers."""
    table = step.table
    while True:
        source = step.x
        if layer >= 0:
            _finish_forward(step, regular, layer, row, m, buffer)
            n = table[layer, OUT]
            source = Operand(rows_at(step.activations, step.rows, table[layer, RECORD], layer, 0, n), n, 1)
        layer += 1
        if layer == table.shape[0]:
            break
        n, normalization = table[layer, OUT], table[layer, NORMALIZATION]
        target = _activated(step, layer, row)
        if normalization > 0:
            target = extra_at(step, regular, layer, NORMALIZED, row)
        product(
            Operand(advance(source.pointer, row * source.row_stride), source.row_stride, source.column_stride),
            weights_of(table, layer, step.parameters),
            m,
            n,
            table[layer, IN],
            advance(step.parameters, table[layer, BIAS]),
            True,
            False,
            Store(target, n),
            scratch,
        )
        if stops and normalization == BATCH:
            break
    return layer


@glue
def _begin_backward(step, regular, layer, row, m, each, buffer):
    """From the gradient with respect to a layer's output to that of its pre-activation, in place; over rows to dz too.

    each: rows have saved values of their own, not all those of `row`.
    """
    table = step.table
    n, activation = table[layer, OUT], table[layer, ACTIVATION]
    here = upper_gradient(step, regular, layer, row)
    if regular.trains and table[layer, DROPOUT] > 0:
        drop_elements(here, here, row * n, m * n, _mask(step, regular, layer))
    saved = _activated(step, layer, row)
    if keeps_output(table, layer):
        saved = extra_at(step, regular, layer, KEPT, row)
    stride = n if each else 0
    if activation >= SOFTMAX:
        for i in range(m):
            down = advance(here, i * n)
            copy_elements(down, buffer, n)
            softmax_rows_backward(buffer, advance(saved, i * stride), down, 1, n, activation == LOG_SOFTMAX)
    else:
        count, pieces = (m * n, 1) if each else (n, m)
        for i in range(pieces):
            down = advance(here, i * n)
            activate_elements_backward(activation, down, saved, down, count)
    if table[layer, NORMALIZATION] == LAYER:
        normalize_rows_backward(
            here,
            extra_at(step, regular, layer, NORMALIZED, row),
            extra_at(step, regular, layer, FACTORS, row),
            advance(step.parameters, table[layer, SCALE]),
            dz_of(step, layer, row),
            m,
            n,
            stride,
            buffer,
        )


@glue
def backward_until(step, regular, row, m, layer, begun, each, stops, buffer, scratch):
    """m rows back to the dz of the first layer; if `stops`, or until a layer normalised over the batch has its du.

    begun: the layer has its du, and now the sums over the batch; else it has the gradient with respect to its output.
    """
    table = step.table
    while True:
        n, k, over_batch = table[layer, OUT], table[layer, IN], table[layer, NORMALIZATION] == BATCH
        if not begun:
            _begin_backward(step, regular, layer, row, m, each, buffer)
            if stops and over_batch:
                break
        begun = False
        if over_batch:
            mean, slopes = columns_of(step, regular, layer)
            normalize_columns_backward(
                extra_at(step, regular, layer, DU, row),
                extra_at(step, regular, layer, NORMALIZED, row),
                advance(mean, n),
                advance(step.parameters, table[layer, SCALE]),
                slopes,
                advance(slopes, n),
                dz_of(step, layer, row),
                m,
                n,
                n if each else 0,
            )
        if layer == 0:
            break
        below = upper_gradient(step, regular, layer - 1, row)
        product(
            Operand(dz_of(step, layer, row), n, 1),
            transposed(weights_of(table, layer, step.parameters)),
            m,
            k,
            n,
            below,
            False,
            False,
            Store(below, k),
            scratch,
        )
        layer -= 1


@worker(lambda t: (*step_types(t), intp, intp, intp, intp))
def segment_worker(
    table,
    parameters,
    x,
    y,
    weights,
    order,
    workspace,
    loss,
    loss_parameter,
    first,
    rows,
    weight,
    start,
    backward,
    index,
    parts,
):
    """One thread's rows of a segment that starts at a layer normalised over the batch, or forward from x at -1."""
    step, raw = plan_inputs(
        table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight
    )
    regular = plan_regular(table, rows, workspace, parameters)
    buffer = scratch_of(step, index)
    scratch = advance(buffer, widest(table))
    layers, columns, standardizes = table.shape[0], step.batch.columns, _standardizes(table)
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
            n = table[layers - 1, OUT]
            batch = Batch(
                advance(step.batch.target, row * columns),
                columns,
                advance(step.batch.weights, row if step.batch.weighted else 0),
                step.batch.weighted,
            )
            dy = upper_gradient(step, regular, layers - 1, row)
            terms = advance(step.terms, terms_count(step.loss, row, n))
            loss_rows(step.loss, step.loss_parameter, outputs_of(step, row), batch, dy, terms, m, n, step.scale)
        if backward != 0 or layer == layers:
            layer, begun = (layer, True) if backward != 0 else (layers - 1, False)
            backward_until(step, regular, row, m, layer, begun, True, True, buffer, scratch)


@worker(lambda t: (*step_types(t), intp, intp, intp, intp))
def columns_worker(
    table,
    parameters,
    x,
    y,
    weights,
    order,
    workspace,
    loss,
    loss_parameter,
    first,
    rows,
    weight,
    layer,
    backward,
    index,
    parts,
):
    """One thread's columns of what a layer normalised over the batch needs of all rows."""
    step = plan_step(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    regular = plan_regular(table, rows, workspace, parameters)
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
        parameter_sums(extra_at(step, regular, layer, DU, 0), normalized, rows, n, begin, end, slopes, means)
        divide(slopes, end - begin, float(rows))
        divide(means, end - begin, float(rows))


find_segment = finder(segment_worker)
find_columns = finder(columns_worker)


@glue
def _following(table, layer, step):
    """The next layer normalised over the batch, up or down."""
    layer += step
    while 0 <= layer < table.shape[0] and table[layer, NORMALIZATION] != BATCH:
        layer += step
    return layer


@worker(lambda t: (*step_types(t), intp, intp))
def conductor(
    table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight, index, parts
):
    """The first sweep: all segments, and what lies between them, on the context's threads or on this one alone."""
    data = (table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    segment, columns = find_segment(parameters), find_columns(parameters)
    context = carray(pointer_to(table[0, CONTEXT], NUMBERS), CONTEXT_SIZE)
    threads = context[THREADS] if table[0, CONTEXT] != 0 else 1
    run(segment, (*data, -1, 0), threads)
    layer = _following(table, -1, 1)
    backward = 0
    while layer >= 0:
        if layer == table.shape[0]:
            backward = 1
        else:
            run(columns, (*data, layer, backward), threads)
            run(segment, (*data, layer, backward), threads)
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
            dscale, _ = landing(scales, scratch, n, 0, 0)
            dshift, _ = landing(shifts, advance(scratch, n), n, 0, 0)
            du = extra_at(step, regular, layer, DU, 0)
            normalized = extra_at(step, regular, layer, NORMALIZED, 0)
            parameter_sums(du, normalized, step.rows, n, begin, end, dscale, dshift)
            finish(scales, dscale, n, 0, 0, 1, end - begin)
            finish(shifts, dshift, n, 0, 0, 1, end - begin)


@worker(lambda t: (*step_types(t), t[::1], intp, intp))
def regularized_gradient_worker(
    table,
    parameters,
    x,
    y,
    weights,
    order,
    workspace,
    loss,
    loss_parameter,
    first,
    rows,
    weight,
    gradient,
    index,
    parts,
):
    """One thread's part of the second sweep, the gradient stored."""
    step, _ = plan_inputs(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    regular = plan_regular(table, rows, workspace, parameters)
    sink, scratch = Store(flat_pointer(gradient), 0), scratch_of(step, index)
    sweep_weights(step, sink, sink, index, parts, scratch)
    _sweep_scales(step, regular, sink, index, parts, scratch)


find_regularized_gradient = finder(regularized_gradient_worker)


@worker(lambda t: (*step_types(t), intp, float64[::1], t[::1], t[::1], intp, intp, intp))
def regularized_update_worker(
    table,
    parameters,
    x,
    y,
    weights,
    order,
    workspace,
    loss,
    loss_parameter,
    first,
    rows,
    weight,
    optimizer,
    hyper,
    state1,
    state2,
    number,
    index,
    parts,
):
    """One thread's part of the second sweep, the optimiser applied to each finished block of the gradient."""
    step, _ = plan_inputs(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    regular = plan_regular(table, rows, workspace, parameters)
    sink, bias_sink = update_sinks(parameters, weight, optimizer, hyper, state1, state2, number)
    scratch = scratch_of(step, index)
    sweep_weights(step, sink, bias_sink, index, parts, scratch)
    _sweep_scales(step, regular, bias_sink, index, parts, scratch)


@glue
def normalized_forward_rows(table, parameters, statistics, x, first, last, out, workspace):
    """`network.forward_rows` with normalised layers or inputs: a row's result does not depend on the others."""
    layers, width = table.shape[0], widest(table)
    block = min(last - first, ROWS)
    buffer = advance(workspace, 2 * block * width)
    scratch = advance(buffer, width)
    for row in range(first, last, ROWS):
        m = min(ROWS, last - row)
        source = Operand(advance(x.pointer, row * x.row_stride), x.row_stride, x.column_stride)
        for layer in range(layers):
            n, activation, normalization = table[layer, OUT], table[layer, ACTIVATION], table[layer, NORMALIZATION]
            if layer == 0 and table[0, STANDARDIZED] > 0:
                # The buffer that the next layer will fill.
                source = standardized_rows(table, statistics, source, m, advance(workspace, block * width))
            target = advance(workspace, (layer & 1) * block * width)
            if layer == layers - 1:
                target = advance(out, row * n)
            linear_cell(
                source,
                weights_of(table, layer, parameters),
                advance(parameters, table[layer, BIAS]),
                IDENTITY if normalization > 0 else activation,
                m,
                table[layer, IN],
                n,
                target,
                n,
                buffer,
                scratch,
            )
            if normalization > 0:
                scale = advance(parameters, table[layer, SCALE])
                shift = advance(scale, n)
                if normalization == LAYER:
                    for i in range(m):
                        normalize_rows(advance(target, i * n), 1, n, buffer)
                    scale_and_shift(target, scale, shift, target, m, n)
                else:
                    mean = advance(statistics, table[layer, STATISTICS])
                    apply_running(target, m, n, mean, advance(mean, n), scale, shift)
                activate_rows(activation, target, target, m, n, buffer)
            source = Operand(target, n, 1)


@worker(lambda t: (*forward_types(t), intp, intp))
def normalized_forward_worker(
    table, parameters, statistics, x, x_row, x_column, rows, out, workspace, size, layer, index, parts
):
    """One thread's rows, with its part of the workspace."""
    normalized_forward_rows(
        table,
        flat_pointer(parameters),
        pointer_to(statistics, parameters),
        Operand(pointer_to(x, parameters), x_row, x_column),
        part(rows, index, parts),
        part(rows, index + 1, parts),
        pointer_to(out, parameters),
        advance(pointer_to(workspace, parameters), index * (size // parts)),
    )


find_normalized_forward = finder(normalized_forward_worker)


@worker(
    lambda t: (types.CPointer(types.int64), intp, *[types.CPointer(t)] * 3, intp, *[types.CPointer(t)] * 2),
)
def normalized_sample_worker(table, layers, parameters, statistics, x, x_step, out, workspace):
    """One row."""
    source = Operand(x, 0, x_step)
    whole = carray(table, (layers, TABLE_COLUMNS))
    normalized_forward_rows(whole, parameters, statistics, source, 0, 1, out, workspace)


find_normalized_sample = finder(normalized_sample_worker)


# ---- Plans: for each kind of network the workers that it takes


def forward_plan_of(network, workspace, threads):
    """The plan of a Network or NormalizedNetwork for `forward_driver(threads)`; see `forward_plan`."""
    table, parameters, *statistics = network
    if not statistics:
        return forward_plan(table, parameters, workspace, threads)
    address = normalized_forward_worker.address(parameters.dtype)
    return plan_of(address, 0, table, parameters, workspace, threads, statistics[0].ctypes.data)


def gradient_sweeps(table, dtype, threads, statistics=None):
    """The first arguments of `loss_and_gradient_parallel`: addresses of the workers of both sweeps, and their table.

    statistics: those of a network that is to standardise x itself.
    """
    if not has_normalization(table):
        return rows_worker.address(dtype), gradient_worker.address(dtype), table
    # The conductor finds them compiled.
    for between in (segment_worker, columns_worker):
        between.address(dtype)
    numbers = np.zeros(CONTEXT_SIZE + table.size, np.int64)
    running = None if statistics is None else statistics.ctypes.data
    copy = _with_context(numbers, table, threads, running)
    return conductor.address(dtype), regularized_gradient_worker.address(dtype), copy


def _with_context(numbers, table, threads, running):
    """A copy of the table, at the end of `numbers`, with a context before it."""
    start = numbers.size - table.size
    context, copy = numbers[start - CONTEXT_SIZE : start], numbers[start:].reshape(table.shape)
    copy[...] = table
    copy[0, CONTEXT] = context.ctypes.data
    context[THREADS] = threads
    context[RUNNING] = running or 0
    return copy


def training_plan_of(network, optimization, loss, workspace, threads, loss_parameter=None):
    """`training_plan` for any network; if `is_regularized`, `begin_updates` has to come before `train_planned`."""
    table, parameters, *statistics = network
    if not is_regularized(table):
        return training_plan(network, optimization, loss, workspace, threads, loss_parameter)
    for between in (segment_worker, columns_worker):
        between.address(parameters.dtype)
    sweeps = conductor, regularized_gradient_worker, regularized_update_worker
    head = training_plan(network, optimization, loss, workspace, threads, loss_parameter, sweeps)
    plan = np.concatenate((head, np.zeros(CONTEXT_SIZE + table.size, np.int64)))
    running = statistics[0].ctypes.data if statistics else None
    plan[TABLE_AT] = _with_context(plan, table, threads, running).ctypes.data
    _context_of(plan)[TRAINS] = 1
    return plan


def _context_of(plan):
    start = (int(plan[TABLE_AT]) - plan.ctypes.data) // plan.itemsize
    return plan[start - CONTEXT_SIZE : start]


def begin_updates(plan, seed, update):
    """Let the next updates of a plan of a regularised network drop what (seed, number of the update) says."""
    context = _context_of(plan)
    context[SEED], context[UPDATE] = np.uint64(seed).astype(np.int64), update


# ---- Kernels


@kernel
def normalized_forward_serial(table, parameters, statistics, x, out, workspace):
    """out = network(x) on this thread; arrays as `normalized_forward` takes them."""
    normalized_forward_rows(
        table,
        flat_pointer(parameters),
        flat_pointer(statistics),
        operand(x),
        0,
        x.shape[0],
        flat_pointer(out),
        flat_pointer(workspace),
    )


@serial_in_njit(normalized_forward_serial)
def normalized_forward(table, parameters, statistics, x, out, workspace):
    """out = network(x) with normalised layers or inputs, layers normalised over the batch by running averages.

    Args:
        table: int64 (layers, 18), from `make_table`.
        parameters: flat float32 or float64.
        statistics: flat, the running mean and variance of each layer normalised over the batch, then the mean and scale
            of x if the table has it standardised.
        x: (m, in), any strides.
        out: (m, out) C-contiguous; must not overlap x.
        workspace: at least `workspace_size(table, parameters, m, 1)[0]` elements; from Python, room for more threads
            lets more of them work.
    """
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, 0)
    address = normalized_forward_worker.address(parameters.dtype)
    plan = plan_of(address, 0, table, parameters, workspace, threads, statistics.ctypes.data)
    forward_driver(threads)(plan.ctypes.data, x, out)


@kernel
def normalized_loss_and_gradient_serial(
    table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None
):
    """The loss and its gradient, on this thread; arrays as `normalized_loss_and_gradient` takes them."""
    loss_parameter = default_parameter(loss) if loss_parameter is None else float(loss_parameter)
    rows = x.shape[0]
    order = table[0, :0]
    weight = batch_weight(sample_weight, order, 0, rows)
    data = (table, parameters, x, y, sample_weight, order, workspace, loss, loss_parameter, 0, rows, weight)
    call(find_conductor(parameters), (*data, 0, 1))
    call(find_regularized_gradient(parameters), (*data, gradient, 0, 1))
    return batch_loss(table, parameters, workspace, loss, rows, weight)


@serial_in_njit(normalized_loss_and_gradient_serial)
def normalized_loss_and_gradient(
    table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None
):
    """`loss_and_gradient` of a network with normalised layers, by the statistics of the batch; nothing is dropped.

    At least two rows if a layer is normalised over the batch. The running averages are left alone. If the table has x
    standardised, x is what `standardize` made of it.
    """
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, 1)
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
        default_parameter(loss) if loss_parameter is None else float(loss_parameter),
        gradient,
        workspace,
        threads,
    )
