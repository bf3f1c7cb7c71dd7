"""Whole networks over one flat parameter vector and a table of layers: a network is data, one kernel serves them all.

A training step is two sweeps, each one parallel region:

    rows     every thread takes its rows of the batch through forward, loss and backward to the pre-activation
             gradients dz of all layers: rows do not depend on each other
    weights  every thread takes its rows of every layer's [weight; bias] through x.T @ dz, a sum over the whole batch
             in the order of its rows, and on through the optimiser

so the order of every sum is fixed whatever the number of threads. Rows go through the layers in blocks, small enough
that a block's activations are still in cache when the next layer reads them.

Workspace of a step with m rows, one flat array:

    gradient      the parameters' size, for clipping by norm
    terms         m * (last out_features): the loss, element by element
    activations   m * (sum of out_features), layer after layer, each from a new cache line on
    z             m * (sum of out_features of the layers whose backward takes the pre-activation)
    dz            m * (sum of out_features)
    x, y, weights the gathered batch
    scratch       one part for each thread
"""

from collections import namedtuple
from itertools import pairwise

import numpy as np
from numba import carray, float64, int64, intp, types

from .activation import IDENTITY, SOFTMAX
from .codes import NEEDS_PRE_ACTIVATION, Activation, Normalization
from .dense import (
    FEW_ROWS,
    FEW_ROWS_GRAIN,
    column_sums,
    grain_of,
    linear_cell,
    operand,
    parameters_rows,
    part,
    shifted,
    transposed,
)
from .epilogue import Activate, ActivateBackward, Store, finish, landing, make_update, moved
from .gemm import Operand, product, product_scratch, product_scratch_up_to
from .jit import (
    SOURCE_DIGEST,
    call,
    driver,
    finder,
    glue,
    inner,
    kernel,
    plain,
    read_only,
    run,
    serial_in_njit,
    worker,
)
from .loss import Batch, default_parameter, loss_rows, loss_scale, terms_count, value_scale
from .microkernel import panel_columns, tile_columns
from .optimizer import (
    CLIP_NORM,
    L1,
    L2,
    LEARNING_RATE,
    PENALTY_IN_LOSS,
    clip_elements_by_norm,
    make_rule,
    penalty_scale,
    update_elements,
    with_penalties,
)
from .simd import (
    address_of,
    advance,
    aligned,
    flat_pointer,
    itemsize,
    lane_sum,
    lane_sum_of_sizes,
    lane_sum_of_squares,
    load,
    pointer_to,
    store,
)
from .threads import threads_for

# The last six stand in the first layer's row, for the whole network. KIND: PLAIN, or what a layer has. ROW_WORKSPACE:
# elements of workspace with which one row goes through it. STANDARDIZED: in_features if x is standardised, else 0. The
# other columns from NORMALIZATION on are for regularized.py.
(
    IN,
    OUT,
    WEIGHT,
    BIAS,
    ACTIVATION,
    RECORD,
    Z_RECORD,
    NORMALIZATION,
    SCALE,
    STATISTICS,
    DROPOUT,
    EXTRA_RECORD,
    KIND,
    ROW_WORKSPACE,
    EXTRA_SIZE,
    STATISTICS_SIZE,
    CONTEXT,
    STANDARDIZED,
) = range(18)
TABLE_COLUMNS = 18
# Networks with normalised layers, or standardised inputs, may drop units too.
PLAIN, DROPPING, NORMALIZING = range(3)
# Of the dtype of tables and plans.
NUMBERS = np.empty(0, np.int64)
# Where a training plan has the address of its table.
TABLE_AT = 4
# Where a training plan may hold the address of an array with a learning rate for each update; 0 means that of hyper.
# A call runs many updates: an array costs an update 8 bytes to read, a call for each of them a microsecond and more.
RATES = 19
# Where it holds the bits of the loss's parameter, a float64.
LOSS_PARAMETER = 20

# Parts of a layer in what a training step of regularized.py keeps besides.
EXTRAS = 4
# Every part of a workspace, and every layer's rows in it, begin on a cache line: vectors across two cost double.
LINE = 16
# Rows that go through the layers together, so that their activations stay in cache from layer to layer.
ROWS = 256

# What a user's compiled code holds of a network; all arrays are shared with the Python object. Of another type where
# layers are normalised or x is standardised, so that the code for that is compiled for such networks alone.
Network = namedtuple("Network", "table parameters")
NormalizedNetwork = namedtuple("NormalizedNetwork", "table parameters statistics")
# The classes are known by names that tell the version, for Numba's cache keeps by them what a user compiled for
# networks: after an upgrade that machine code is not found again.
_KINDS = {kind.__name__: kind for kind in (Network, NormalizedNetwork)}
for _name, _kind in _KINDS.items():
    _kind.__name__ = _kind.__qualname__ = f"{_name}_{SOURCE_DIGEST}"
    globals()[_kind.__name__] = _kind


def __getattr__(name):
    """The networks of other versions, which a user's cache or pickles still mention: a class that nothing takes."""
    kind = _KINDS.get(name.rpartition("_")[0])
    if kind is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = other = namedtuple(name, kind._fields, module=__name__)
    return other


# An optimiser: its code, hyper-parameters (see optimizer.py) and states of the parameters' size, or empty.
Optimization = namedtuple("Optimization", "optimizer hyper state1 state2")

# One batch on its way through the network, in pointers. If `gather`, the rows `indices` of the source arrays are copied
# into x, target and weights first.
Step = namedtuple(
    "Step",
    "table parameters rows loss loss_parameter scale x batch activations z dz terms scratch "
    "gather source_x source_y source_weights indices",
)


# Where the first layer's parts begin: in parameters, activations, saved pre-activations, statistics and extras.
FIRST_PLACES = 0, 0, 0, 0, 0


@plain
def layer_row(k, n, activation, saves, normalization, dropout, places):
    """A layer's columns of the table up to EXTRA_RECORD, and the places of the next one.

    saves: whether its backward takes the pre-activation.
    """
    offset, record, z_record, statistics, extra = places
    bias = offset + k * n
    scale = bias + n
    z_place = z_record if saves else -1
    row = (k, n, offset, bias, activation, record, z_place, normalization, scale, statistics, dropout, extra)
    kept = (2 * n + 1 if normalization else 0) + (n if dropout and not saves else 0)
    following = (
        scale + (2 * n if normalization else 0),
        record + n,
        z_record + (n if saves else 0),
        statistics + (2 * n if normalization == Normalization.BATCH else 0),
        extra + kept,
    )
    return row, following


@plain
def row_workspace(table):
    """What a table has as ROW_WORKSPACE; it depends on the machine's vectors too."""
    return max(forward_size(table, 1, 1, 4, tile_columns(4)), forward_size(table, 1, 1, 8, tile_columns(8)))


def make_table(sizes, activations, normalizations=None, dropouts=None, standardizes=False):
    """The layer table of a network with these feature counts and activation codes, and its number of parameters.

    For each layer there may be a normalisation code, or 0, and a dropout rate as `dropout.rate_threshold` gives it.
    standardizes: whether the first layer reads (x - mean) / scale; see `statistics_count`.
    """
    layers = len(activations)
    table = np.zeros((layers, TABLE_COLUMNS), np.int64)
    normalizations = [0] * layers if normalizations is None else normalizations
    dropouts = [0] * layers if dropouts is None else dropouts
    places = FIRST_PLACES
    each = zip(table, pairwise(sizes), activations, normalizations, dropouts, strict=True)
    for row, (k, n), activation, normalization, dropout in each:
        saves = Activation(activation) in NEEDS_PRE_ACTIVATION
        row[: EXTRA_RECORD + 1], places = layer_row(k, n, activation, saves, normalization, dropout, places)
    offset, _, _, statistics, extra = places
    table[0, STANDARDIZED] = sizes[0] if standardizes else 0
    table[0, ROW_WORKSPACE] = row_workspace(table)
    table[0, EXTRA_SIZE], table[0, STATISTICS_SIZE] = extra, statistics
    normalizing = any(normalizations) or standardizes
    table[0, KIND] = NORMALIZING if normalizing else DROPPING if any(dropouts) else PLAIN
    return table, offset


@plain
def statistics_count(table):
    """The size of `statistics`: running averages, then mean and scale of x if it is standardised."""
    return table[0, STATISTICS_SIZE] + 2 * table[0, STANDARDIZED]


@plain
def extra_size(table, rows):
    """Elements that a training step of regularized.py takes besides, at the end of a workspace."""
    if table[0, EXTRA_SIZE] == 0:
        return 0
    return rows * table[0, EXTRA_SIZE] + 2 * table[0, STATISTICS_SIZE] + LINE * (EXTRAS * table.shape[0] + 2)


@plain
def widest(table):
    """The largest number of features between two layers, at the end, or of standardised rows."""
    width = table[0, STANDARDIZED]
    for layer in range(table.shape[0]):
        width = max(width, table[layer, OUT])
    return width


@plain
def record_sizes(table):
    """(activations, saved pre-activations) of one sample, in elements."""
    activations, z = 0, 0
    for layer in range(table.shape[0]):
        activations += table[layer, OUT]
        if table[layer, Z_RECORD] >= 0:
            z += table[layer, OUT]
    return activations, z


@plain
def forward_scratch(table, rows, size, nr):
    most = 0
    for layer in range(table.shape[0]):
        n, k = table[layer, OUT], table[layer, IN]
        most = max(most, product_scratch(rows, n, k, size, nr, True, table[layer, ACTIVATION] >= SOFTMAX))
    return most


@plain
def training_scratch(table, rows, size, nr):
    """Enough for any batch of up to so many rows: the last one of an epoch may be short."""
    most = max(forward_scratch(table, min(rows, ROWS), size, nr), min(rows, ROWS) * widest(table))
    for layer in range(table.shape[0]):
        n, k = table[layer, OUT], table[layer, IN]
        most = max(most, product_scratch_up_to(k, n, rows, size, nr))
        # Through the first layer only the gradient with respect to the input goes back.
        whole_rows = layer > 0 and table[layer - 1, ACTIVATION] >= SOFTMAX
        most = max(most, product_scratch(min(rows, ROWS), k, n, size, nr, False, whole_rows))
    # A row for log_softmax lies before the scratch of the products.
    return widest(table) + most + 16


@plain
def layer_scratch(table, size, nr):
    """Scratch of each thread that computes some columns of a layer for at most FEW_ROWS rows: too few for packing."""
    most = 0
    for layer in range(table.shape[0]):
        most = max(most, product_scratch(FEW_ROWS, table[layer, OUT], table[layer, IN], size, nr, True, True))
    return most


@plain
def forward_size(table, rows, threads, size, nr):
    """Enough for fewer rows too, which threads share in another way."""
    block = min(rows, ROWS)
    width = widest(table)
    by_rows = threads * (2 * block * width + width + forward_scratch(table, block, size, nr))
    if threads == 1:
        return by_rows
    return max(by_rows, (2 * FEW_ROWS + 1) * width + threads * layer_scratch(table, size, nr))


@plain
def training_size(table, inputs, targets, rows, threads, size, nr, parameters):
    """Elements of the workspace of `train` and `loss_and_gradient`; the order of its parts is that of `plan_step`."""
    activations, z = record_sizes(table)
    last = table[table.shape[0] - 1, OUT]
    per_row = 2 * activations + z + last + inputs + targets + 1
    lines = LINE * (3 * table.shape[0] + 8)
    scratch = threads * training_scratch(table, rows, size, nr)
    return rows * per_row + parameters + lines + scratch + extra_size(table, rows)


@plain
def workspace_size(table, parameters, rows, threads):
    """Elements of workspace for a batch of so many rows on so many threads: (inference, training)."""
    size = parameters.itemsize
    nr = tile_columns(size)
    last = table[table.shape[0] - 1, OUT]
    training = training_size(table, table[0, IN], last, rows, threads, size, nr, parameters.size)
    return forward_size(table, rows, threads, size, nr), training


@glue
def weights_of(table, layer, parameters):
    return Operand(advance(parameters, table[layer, WEIGHT]), table[layer, OUT], 1)


@glue
def forward_layer(table, layer, parameters, x, m, first, last, out, buffer, scratch):
    """Columns first..last of a layer's result for m rows; x is an Operand, out begins at the result's first column."""
    n, k = table[layer, OUT], table[layer, IN]
    linear_cell(
        x,
        shifted(weights_of(table, layer, parameters), 0, first),
        advance(parameters, table[layer, BIAS] + first),
        table[layer, ACTIVATION],
        m,
        k,
        last - first,
        advance(out, first),
        n,
        buffer,
        scratch,
    )


@glue
def forward_rows(table, parameters, x, first, last, out, workspace):
    """Rows first..last through all layers; hidden activations pass between two buffers of ROWS rows."""
    layers = table.shape[0]
    width = widest(table)
    block = min(last - first, ROWS)
    buffer = advance(workspace, 2 * block * width)
    scratch = advance(buffer, width)
    for row in range(first, last, ROWS):
        m = min(ROWS, last - row)
        source = shifted(x, row, 0)
        for layer in range(layers):
            n = table[layer, OUT]
            target = advance(workspace, (layer & 1) * block * width)
            if layer == layers - 1:
                target = advance(out, row * n)
            forward_layer(table, layer, parameters, source, m, 0, n, target, buffer, scratch)
            source = Operand(target, n, 1)


def forward_types(t):
    """table, parameters; addresses of statistics and x, x's strides; rows, out, workspace, its size, layer."""
    return int64[:, ::1], t[::1], intp, intp, intp, intp, intp, intp, intp, intp, intp


@glue
def forward_arguments(table, parameters, statistics, x, rows, out, workspace, size):
    """A worker's arguments from an Operand and pointers: fewer than arrays would be, and a sample is a row."""
    return (
        table,
        parameters,
        statistics,
        address_of(x.pointer),
        x.row_stride,
        x.column_stride,
        rows,
        address_of(out),
        address_of(workspace),
        size,
    )


@worker(lambda t: (*forward_types(t), intp, intp))
def forward_worker(table, parameters, statistics, x, x_row, x_column, rows, out, workspace, size, layer, index, parts):
    """One thread's rows, with its part of the workspace; some arguments are there for other workers' sake."""
    forward_rows(
        table,
        flat_pointer(parameters),
        Operand(pointer_to(x, parameters), x_row, x_column),
        part(rows, index, parts),
        part(rows, index + 1, parts),
        pointer_to(out, parameters),
        advance(pointer_to(workspace, parameters), index * (size // parts)),
    )


find_forward = finder(forward_worker)


@worker(lambda t: (types.CPointer(int64), intp, *[types.CPointer(t)] * 2, intp, *[types.CPointer(t)] * 2))
def sample_worker(table, layers, parameters, x, x_step, out, workspace):
    """One row, in code that knows it is one: 4-32-32-1 took 180 ns a call, by `forward_worker` 205."""
    forward_rows(carray(table, (layers, TABLE_COLUMNS)), parameters, Operand(x, 0, x_step), 0, 1, out, workspace)


find_sample = finder(sample_worker)


@worker(lambda t: (*forward_types(t), intp, intp))
def layer_worker(table, parameters, statistics, x, x_row, x_column, m, out, workspace, size, layer, index, parts):
    """One thread's columns of one layer, for a batch of too few rows to share; threads have one part of workspace."""
    layers, width = table.shape[0], widest(table)
    p = pointer_to(workspace, parameters)
    n, k = table[layer, OUT], table[layer, IN]
    source = Operand(pointer_to(x, parameters), x_row, x_column)
    if layer > 0:
        source = Operand(advance(p, (1 - (layer & 1)) * m * width), k, 1)
    target = pointer_to(out, parameters) if layer == layers - 1 else advance(p, (layer & 1) * m * width)
    nr = panel_columns(p)
    slivers = (n + nr - 1) // nr
    first, last = part(slivers, index, parts) * nr, min(n, part(slivers, index + 1, parts) * nr)
    if table[layer, ACTIVATION] >= SOFTMAX:
        # Rows stay whole.
        first, last = 0, n if index == 0 else 0
    if last > first:
        buffer = advance(p, 2 * m * width)
        scratch = advance(buffer, width + index * layer_scratch(table, itemsize(p), nr))
        forward_layer(table, layer, flat_pointer(parameters), source, m, first, last, target, buffer, scratch)


@kernel
def forward_serial(table, parameters, x, out, workspace):
    """out = network(x) on this thread; arrays as `forward` takes them."""
    forward_rows(table, flat_pointer(parameters), operand(x), 0, x.shape[0], flat_pointer(out), flat_pointer(workspace))


def forward_plan(table, parameters, workspace, threads):
    """What a kernel of `forward_driver` needs besides the data, as an int64 array; keep it and its arrays while in use.

    Python hands Numba an array in 50 ns, more than a small network takes for a layer: addresses cost nothing.
    """
    dtype = parameters.dtype
    # The worker that a single thread will not call is not compiled.
    layer_address = layer_worker.address(dtype) if threads > 1 else 0
    return plan_of(forward_worker.address(dtype), layer_address, table, parameters, workspace, threads, 0)


def plan_of(rows_address, layer_address, table, parameters, workspace, threads, statistics):
    """The plan with these workers; without one for layers, few rows are not shared. statistics: an address."""
    arrays = [number for array in (table, parameters, workspace) for number in (array.ctypes.data, array.size)]
    return np.array([rows_address, layer_address, *arrays, threads, statistics], np.int64)


@glue
def _planned(plan, x, out):
    """The numbers of a plan, and the arguments of its workers but for the layer."""
    numbers = carray(pointer_to(plan, NUMBERS), 10)
    table = carray(pointer_to(numbers[2], NUMBERS), (numbers[3] // TABLE_COLUMNS, TABLE_COLUMNS))
    parameters = carray(pointer_to(numbers[4], out), numbers[5])
    workspace = pointer_to(numbers[6], out)
    source, target = operand(x), flat_pointer(out)
    arguments = forward_arguments(table, parameters, numbers[9], source, x.shape[0], target, workspace, numbers[7])
    return numbers, table, arguments


@kernel
def forward_planned(plan, x, out):
    """out = network(x) on this thread; plan: the address of the array from `forward_plan`."""
    numbers, _, arguments = _planned(plan, x, out)
    call(numbers[0], (*arguments, 0, 0, 1))


@kernel
def forward_shared(plan, x, out):
    """`forward_planned` on the plan's threads, which share rows, or layer after layer the columns if rows are few.

    A kernel of its own, for who needs no threads need not wait for its compilation.
    """
    numbers, table, arguments = _planned(plan, x, out)
    threads = numbers[8]
    by_rows = x.shape[0] > FEW_ROWS or numbers[1] == 0
    # One launch in the source: each one would be compiled, for a third of a second.
    for layer in range(1 if by_rows else table.shape[0]):
        work = x.shape[0] * table[layer, IN] * table[layer, OUT]
        count = threads if by_rows else min(threads, max(1, work // FEW_ROWS_GRAIN))
        run(numbers[0] if by_rows else numbers[1], (*arguments, layer), count)


def forward_driver(threads):
    """The kernel that takes a plan for so many threads."""
    return forward_planned if threads == 1 else forward_shared


@serial_in_njit(forward_serial)
def forward(table, parameters, x, out, workspace):
    """out = network(x).

    Args:
        table: int64 (layers, 18), from `make_table`; no layer of it normalised, x not standardised.
        parameters: flat float32 or float64.
        x: (m, in), any strides.
        out: (m, out) C-contiguous; must not overlap x.
        workspace: at least `workspace_size(table, parameters, m, 1)[0]` elements; from Python, room for more threads
            lets more of them work.
    """
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, 0)
    plan = forward_plan(table, parameters, workspace, threads)
    forward_driver(threads)(plan.ctypes.data, x, out)


def threads_that_fit(table, parameters, rows, workspace, which):
    threads = threads_for(rows * parameters.size, grain_of(rows))
    while threads > 1 and workspace_size(table, parameters, rows, threads)[which] > workspace.size:
        threads -= 1
    return threads


@glue
def gather_rows(step, first, last):
    """Copy the rows of the batch from where they lie in the data set to where the step reads them."""
    inputs, columns = step.table[0, IN], step.batch.columns
    for i in range(first, last):
        index = load(step.indices, i)
        source = shifted(step.source_x, index, 0)
        for j in range(inputs):
            store(step.x.pointer, i * inputs + j, load(source.pointer, j * source.column_stride))
        for j in range(columns):
            store(step.batch.target, i * columns + j, load(step.source_y, index * columns + j))
        if step.batch.weighted:
            store(step.batch.weights, i, load(step.source_weights, index))


@glue
def rows_at(base, rows, record, layer, row, n):
    """Where a layer's n features of `row` lie in a part of the workspace that holds `rows` rows of every layer."""
    return advance(aligned(advance(base, rows * record + LINE * layer)), row * n)


@glue
def forward_saving(step, row, m, buffer, scratch):
    """Rows row..row + m forward, all that their backward takes kept."""
    table, parameters = step.table, step.parameters
    source = shifted(step.x, row, 0)
    for layer in range(table.shape[0]):
        n, activation, z_record = table[layer, OUT], table[layer, ACTIVATION], table[layer, Z_RECORD]
        target = rows_at(step.activations, step.rows, table[layer, RECORD], layer, row, n)
        product(
            source,
            weights_of(table, layer, parameters),
            m,
            n,
            table[layer, IN],
            advance(parameters, table[layer, BIAS]),
            True,
            activation >= SOFTMAX,
            Activate(
                activation,
                target,
                n,
                z_record >= 0,
                rows_at(step.z, step.rows, max(z_record, 0), layer, row, n),
                buffer,
            ),
            scratch,
        )
        source = Operand(target, n, 1)


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
def backward_output(step, dy, row, m, each):
    """From the gradient with respect to the output, m rows at dy, to dz of the last layer; `each` as below."""
    last = step.table.shape[0] - 1
    n, activation = step.table[last, OUT], step.table[last, ACTIVATION]
    dz = dz_of(step, last, row)
    finish(ActivateBackward(activation, saved_of(step, last, row), n if each else 0, dz, n), dy, n, 0, 0, m, n)


@glue
def backward_hidden(step, row, m, each, scratch):
    """From dz of the last layer to that of the first; each: rows have saved values of their own, not those of `row`."""
    table = step.table
    for layer in range(table.shape[0] - 1, 0, -1):
        n, k, activation = table[layer, OUT], table[layer, IN], table[layer - 1, ACTIVATION]
        below = dz_of(step, layer - 1, row)
        product(
            Operand(dz_of(step, layer, row), n, 1),
            transposed(weights_of(table, layer, step.parameters)),
            m,
            k,
            n,
            below,
            False,
            activation >= SOFTMAX,
            ActivateBackward(activation, saved_of(step, layer - 1, row), k if each else 0, below, k),
            scratch,
        )


@glue
def sweep_rows(step, first, last, scratch):
    """Forward, loss and backward of rows first..last: leaves activations, loss terms and dz of every layer."""
    table, columns = step.table, step.batch.columns
    layers = table.shape[0]
    buffer = scratch
    scratch = advance(scratch, widest(table))
    n, activation = table[layers - 1, OUT], table[layers - 1, ACTIVATION]
    for row in range(first, last, ROWS):
        m = min(ROWS, last - row)
        if step.gather:
            gather_rows(step, row, row + m)
        forward_saving(step, row, m, buffer, scratch)
        batch = Batch(
            advance(step.batch.target, row * columns),
            columns,
            advance(step.batch.weights, row if step.batch.weighted else 0),
            step.batch.weighted,
        )
        out, dz = outputs_of(step, row), dz_of(step, layers - 1, row)
        dy = dz if activation == IDENTITY else scratch
        terms = advance(step.terms, terms_count(step.loss, row, n))
        loss_rows(step.loss, step.loss_parameter, out, batch, dy, terms, m, n, step.scale)
        if activation != IDENTITY:
            backward_output(step, dy, row, m, True)
        backward_hidden(step, row, m, True, scratch)


@glue
def saved_of(step, layer, row):
    """What the backward of a layer's activation takes, from `row` on."""
    n, z_record = step.table[layer, OUT], step.table[layer, Z_RECORD]
    if z_record >= 0:
        return rows_at(step.z, step.rows, z_record, layer, row, n)
    return rows_at(step.activations, step.rows, step.table[layer, RECORD], layer, row, n)


@glue
def sweep_weights(step, sink, bias_sink, index, parts, scratch):
    """One part of every layer's [weight; bias] rows: x.T @ dz into the sinks, Stores or Updates over all parameters."""
    table = step.table
    for layer in range(table.shape[0]):
        n, k = table[layer, OUT], table[layer, IN]
        first, last = part(k + 1, index, parts), part(k + 1, index + 1, parts)
        dz = dz_of(step, layer, 0)
        if last == k + 1:
            last = k
            bias = moved(bias_sink, table[layer, BIAS], n)
            sums, _ = landing(bias, scratch, n, 0, 0)
            column_sums(dz, step.rows, n, sums)
            finish(bias, sums, n, 0, 0, 1, n)
        if last > first:
            source = step.x
            if layer > 0:
                source = Operand(rows_at(step.activations, step.rows, table[layer - 1, RECORD], layer - 1, 0, k), k, 1)
            parameters_rows(
                source,
                Operand(dz, n, 1),
                first,
                last,
                n,
                step.rows,
                moved(sink, table[layer, WEIGHT] + first * n, n),
                scratch,
            )


@glue
def terms_of(parameters, workspace):
    return aligned(advance(flat_pointer(workspace), parameters.size))


@glue
def layer_parts(table, parameters, rows, workspace):
    """Where terms, activations, z and dz of so many rows begin in a workspace, and where the rest does."""
    activations, z = record_sizes(table)
    lines = LINE * table.shape[0]
    terms = terms_of(parameters, workspace)
    a_part = aligned(advance(terms, rows * table[table.shape[0] - 1, OUT]))
    z_part = aligned(advance(a_part, rows * activations + lines))
    dz_part = aligned(advance(z_part, rows * z + lines))
    return terms, a_part, z_part, dz_part, aligned(advance(dz_part, rows * activations + lines))


@glue
def plan_rows(table, parameters, x, rows, workspace):
    """A Step of rows of the Operand x without targets: for forward and backward passes, not for a loss."""
    terms, a_part, z_part, dz_part, scratch = layer_parts(table, parameters, rows, workspace)
    none = advance(flat_pointer(parameters), 0)
    order = flat_pointer(table[0])
    batch = Batch(none, 0, none, False)
    return Step(
        table,
        flat_pointer(parameters),
        rows,
        0,
        0.0,
        1.0,
        x,
        batch,
        a_part,
        z_part,
        dz_part,
        terms,
        scratch,
        False,
        x,
        none,
        none,
        order,
    )


@glue
def plan_step(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight):
    """The Step of rows first.. of the data, or of the rows order[first]..; weight is the sum of its sample weights.

    The workspace begins with room for a gradient.
    """
    inputs, last, columns = table[0, IN], table[table.shape[0] - 1, OUT], y.shape[1]
    gather, weighted = order.size > 0, weights.size > 0
    start = 0 if gather else first
    terms, a_part, z_part, dz_part, x_part = layer_parts(table, parameters, rows, workspace)
    y_part = aligned(advance(x_part, rows * inputs))
    weights_part = aligned(advance(y_part, rows * columns))
    source_x = operand(x)
    source_y, source_weights = flat_pointer(y), flat_pointer(weights)
    batch = Batch(
        y_part if gather else advance(source_y, start * columns),
        columns,
        weights_part if gather else advance(source_weights, start if weighted else 0),
        weighted,
    )
    return Step(
        table,
        flat_pointer(parameters),
        rows,
        loss,
        loss_parameter,
        loss_scale(loss, weight, last),
        Operand(x_part, inputs, 1) if gather else shifted(source_x, start, 0),
        batch,
        a_part,
        z_part,
        dz_part,
        terms,
        aligned(advance(weights_part, rows)),
        gather,
        source_x,
        source_y,
        source_weights,
        advance(flat_pointer(order), first if gather else 0),
    )


@glue
def scratch_of(step, index):
    """The scratch of one thread."""
    if index == 0:
        return step.scratch
    p = step.scratch
    return advance(p, index * training_scratch(step.table, step.rows, itemsize(p), panel_columns(p)))


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
def batch_loss(table, parameters, workspace, loss, rows, weight):
    """The loss of a batch from the terms that `sweep_rows` left."""
    last = table[table.shape[0] - 1, OUT]
    return value_scale(loss, weight, last) * lane_sum(terms_of(parameters, workspace), terms_count(loss, rows, last))


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


def step_types(t):
    """table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight"""
    return int64[:, ::1], t[::1], t[:, :], t[:, ::1], t[::1], int64[::1], t[::1], intp, float64, intp, intp, float64


@glue
def _part_of_rows(
    table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight, index, parts
):
    step = plan_step(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    sweep_rows(
        step,
        part(rows, index, parts),
        part(rows, index + 1, parts),
        scratch_of(step, index),
    )


@glue
def _part_of_gradient(
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
    step = plan_step(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    sink = Store(flat_pointer(gradient), 0)
    sweep_weights(step, sink, sink, index, parts, scratch_of(step, index))


@worker(lambda t: (*step_types(t), intp, intp))
def rows_worker(
    table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight, index, parts
):
    """One thread's part of the first sweep."""
    _part_of_rows(
        table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight, index, parts
    )


find_rows = finder(rows_worker)


@worker(lambda t: (*step_types(t), t[::1], intp, intp))
def gradient_worker(
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
    _part_of_gradient(
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
    )


find_gradient = finder(gradient_worker)


@glue
def update_rules(weight, optimizer, hyper, number):
    """The rule for weights and that for what penalties leave alone; weight: of the batch's samples."""
    rule, scale = make_rule(optimizer, hyper, number), penalty_scale(hyper, weight)
    return with_penalties(rule, hyper[L1] * scale, hyper[L2] * scale), rule


@glue
def update_sinks(parameters, weight, optimizer, hyper, state1, state2, number):
    """Updates over all parameters, by both rules."""
    penalised, rule = update_rules(weight, optimizer, hyper, number)
    # A state that the optimiser does not use may be empty; its pointer is moved along but never followed.
    all_of, first, second = flat_pointer(parameters), flat_pointer(state1), flat_pointer(state2)
    return make_update(penalised, all_of, first, second, 0), make_update(rule, all_of, first, second, 0)


@worker(lambda t: (*step_types(t), intp, float64[::1], t[::1], t[::1], intp, intp, intp))
def update_worker(
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
    step = plan_step(table, parameters, x, y, weights, order, workspace, loss, loss_parameter, first, rows, weight)
    sink, bias_sink = update_sinks(parameters, weight, optimizer, hyper, state1, state2, number)
    sweep_weights(step, sink, bias_sink, index, parts, scratch_of(step, index))


@worker(lambda t: (int64[:, ::1], t[::1], t[::1], float64, intp, float64[::1], t[::1], t[::1], intp, intp, intp))
def flat_update_worker(table, parameters, gradient, weight, optimizer, hyper, state1, state2, number, index, parts):
    """One thread's part of an update from a gradient in memory, of a batch of this total sample weight."""
    mine, end = part(parameters.size, index, parts), part(parameters.size, index + 1, parts)
    rules = update_rules(weight, optimizer, hyper, number)
    layers = table.shape[0]
    # Spans of the flat vector in turn: a layer's weight, then all that lies before the next one's.
    for span in range(2 * layers):
        layer, plain = span // 2, span % 2 == 1
        start = table[layer, BIAS] if plain else table[layer, WEIGHT]
        stop = table[layer, BIAS]
        if plain:
            stop = parameters.size if layer == layers - 1 else table[layer + 1, WEIGHT]
        first, last = max(start, mine), min(stop, end)
        if first < last:
            update_elements(
                rules[1] if plain else rules[0],
                advance(flat_pointer(parameters), first),
                advance(flat_pointer(gradient), first),
                advance(flat_pointer(state1), first),
                advance(flat_pointer(state2), first),
                last - first,
            )


@kernel
def loss_and_gradient_serial(table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None):
    """The loss and its gradient, on this thread; arrays as `loss_and_gradient` takes them."""
    loss_parameter = default_parameter(loss) if loss_parameter is None else float(loss_parameter)
    rows = x.shape[0]
    order = table[0, :0]
    weight = batch_weight(sample_weight, order, 0, rows)
    _part_of_rows(table, parameters, x, y, sample_weight, order, workspace, loss, loss_parameter, 0, rows, weight, 0, 1)
    _part_of_gradient(
        table, parameters, x, y, sample_weight, order, workspace, loss, loss_parameter, 0, rows, weight, gradient, 0, 1
    )
    return batch_loss(table, parameters, workspace, loss, rows, weight)


@glue
def _callers(table, threads):
    """Threads on which to call the worker of the first sweep: one with a CONTEXT shares out the work itself."""
    return 1 if table[0, CONTEXT] != 0 else threads


def _data_types(t):
    """x, y, sample_weight"""
    return read_only(t, 2, "A"), read_only(t, 2), read_only(t, 1)


@driver(lambda t: (intp, intp, read_only(int64, 2), t[::1], *_data_types(t), intp, float64, t[::1], t[::1], intp))
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
    rows = x.shape[0]
    order = table[0, :0]
    weight = batch_weight(sample_weight, order, 0, rows)
    data = (table, parameters, x, y, sample_weight, order, workspace, loss, loss_parameter, 0, rows, weight)
    run(rows_address, data, _callers(table, threads))
    run(gradient_address, (*data, gradient), threads)
    return batch_loss(table, parameters, workspace, loss, rows, weight)


@serial_in_njit(loss_and_gradient_serial)
def loss_and_gradient(table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None):
    """The loss of a batch, and its gradient in the parameters' order.

    Args:
        table: int64 (layers, 18), from `make_table`; no layer of it normalised, x not standardised.
        parameters: flat float32 or float64.
        x: (m, in), any strides.
        y: (m, out) C-contiguous, or (m, 1) class labels for softmax_cross_entropy.
        sample_weight: (m,), or empty.
        loss: a `Loss`.
        gradient: like parameters, filled.
        workspace: at least `workspace_size(table, parameters, m, 1)[1]` elements; from Python, room for more threads
            lets more of them work.
        loss_parameter: huber's delta, what `loss.quantile_parameter` makes of q; None is 1 or 1/2. Other losses have
            none.

    Returns:
        The loss, a float.
    """
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, 1)
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
        default_parameter(loss) if loss_parameter is None else float(loss_parameter),
        gradient,
        workspace,
        threads,
    )


def training_plan(network, optimization, loss, workspace, threads, loss_parameter=None, sweeps=None):
    """What `train_planned` needs besides the data, as an int64 array; keep it and its arrays as long as it is used.

    Args:
        network: Network(table, parameters).
        optimization: Optimization(code, hyper, state1, state2).
        loss: a `Loss`.
        workspace: at least `workspace_size(table, parameters, batch_size, threads)[1]` elements.
        threads: 1 launches none.
        loss_parameter: huber's delta, quantile's q; None is 1 or 1/2. Other losses have none.
        sweeps: the workers of rows, gradient and update, if not those of plain networks.
    """
    dtype = network.parameters.dtype
    train_planned.ready(dtype)
    # Workers that will not be called are not compiled.
    rows, gradient, update = sweeps or (rows_worker, gradient_worker, update_worker)
    if optimization.hyper[CLIP_NORM] > 0:
        workers = rows.address(dtype), 0, gradient.address(dtype), flat_update_worker.address(dtype)
    else:
        workers = rows.address(dtype), update.address(dtype), 0, 0
    arrays = (network.table, network.parameters, *optimization[1:], workspace)
    spans = [number for array in arrays for number in (array.ctypes.data, array.size)]
    parameter = np.float64(default_parameter(loss) if loss_parameter is None else loss_parameter).view(np.int64)
    # The last are RATES and LOSS_PARAMETER.
    return np.array([*workers, *spans, int(optimization.optimizer), int(loss), threads, 0, parameter], np.int64)


@driver(lambda t: (intp, *_data_types(t), read_only(int64, 1), intp, intp, float64[::1]))
def train_planned(plan, x, y, sample_weight, order, batch_size, first_step, losses):
    """`losses.size` updates of a network, one for each batch of the data, without an allocation.

    Args:
        plan: the address of the array from `training_plan`; its entry RATES may be the address of a float64 array with
            the learning rate of each update.
        x: (rows, in) of any strides.
        y: (rows, out), or (rows, 1) labels, contiguous.
        sample_weight: (rows,) or empty.
        order: int64 indices of the rows to visit, or empty for the rows as they lie.
        batch_size: rows of a batch; the last one may be shorter.
        first_step: number of the first update, from 1.
        losses: float64, receives the loss of each batch before its update, with the penalties if hyper says so.
    """
    numbers = carray(pointer_to(plan, NUMBERS), 21)
    rows_address, update_address, gradient_address, flat_address = numbers[0], numbers[1], numbers[2], numbers[3]
    table = carray(pointer_to(numbers[TABLE_AT], NUMBERS), (numbers[5] // TABLE_COLUMNS, TABLE_COLUMNS))
    parameters = carray(pointer_to(numbers[6], y), numbers[7])
    hyper = carray(pointer_to(numbers[8], losses), numbers[9])
    state1 = carray(pointer_to(numbers[10], y), numbers[11])
    state2 = carray(pointer_to(numbers[12], y), numbers[13])
    workspace = carray(pointer_to(numbers[14], y), numbers[15])
    optimizer, loss, threads = numbers[16], numbers[17], numbers[18]
    loss_parameter = load(pointer_to(plan, losses), LOSS_PARAMETER)
    own_rate = hyper[LEARNING_RATE]
    total = order.size if order.size > 0 else x.shape[0]
    clip = hyper[CLIP_NORM]
    gradient = workspace[: parameters.size]
    for number in range(losses.size):
        first = number * batch_size
        rows = min(batch_size, total - first)
        weight = batch_weight(sample_weight, order, first, rows)
        batch = (table, parameters, x, y, sample_weight, order, workspace, loss, loss_parameter, first, rows, weight)
        if numbers[RATES] != 0:
            hyper[LEARNING_RATE] = load(pointer_to(numbers[RATES], losses), number)
        rule = (optimizer, hyper, state1, state2, first_step + number)
        penalty = penalty_in_loss(table, parameters, hyper, weight)
        run(rows_address, batch, _callers(table, threads))
        if clip > 0.0:
            # The norm needs the whole gradient, so here it does travel through memory.
            run(gradient_address, (*batch, gradient), threads)
            clip_elements_by_norm(flat_pointer(gradient), clip, gradient.size)
            run(flat_address, (table, parameters, gradient, weight, *rule), threads)
        else:
            run(update_address, (*batch, *rule), threads)
        losses[number] = batch_loss(table, parameters, workspace, loss, rows, weight) + penalty
    if numbers[RATES] != 0:
        hyper[LEARNING_RATE] = own_rate
