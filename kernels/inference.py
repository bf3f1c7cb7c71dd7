"""Plain networks forward: workers, the plan by which Python calls them, and the kernel `forward`.

Rows go through the layers in blocks, small enough that a block's activations are still in cache when the next layer
reads them. Nothing is kept for a backward pass: that forward is in passes.py.
"""

from collections import namedtuple

import numpy as np
from numba import carray, int64, intp, types

from .activation import is_row_wise
from .argument_checks import require_arrays
from .dense import grain_of, linear_cell
from .jit import driver, glue, kernel, read_only, serial_in_njit
from .launch import run
from .layout import ROWS, inference_workspace, layer_scratch, rows_by_columns, threads_that_fit
from .lock import let_lock_go, take_lock
from .microkernel import panel_columns
from .network_checks import require_forward, require_plain_arrays
from .operand import Operand, Rows, operand, shifted
from .plan import planned_array, planned_table, spans
from .simd import address_of, advance, flat_pointer, itemsize, pointer_to
from .table import ACTIVATION, BIAS, IN, NUMBERS, OUT, TABLE_COLUMNS, require_plain, weights_of, widest
from .workers import call, finder, part, worker

# The places of a forward plan (plan.py): addresses of workers, that of layers 0 if it is not called; arrays; the number
# of threads, the address of statistics or 0, and the most rows that are the layer worker's.
ROWS_WORKER, LAYER_WORKER = range(2)
TABLE_AT, PARAMETERS_AT, WORKSPACE_AT = range(2, 8, 2)
THREADS, STATISTICS_AT, LAYER_ROWS = 8, 9, 10
PLAN_SIZE = 11
# What the serial kernels take, as `require_arrays` has it.
FORWARD_ARRAYS = "flat parameters 1, strided x 2, result out 2, result workspace 1"


@glue
def forward_layer(table, layer, parameters, x, m, first, last, out, buffer, scratch):
    """Columns first..last of a layer's result for m rows; x is an Operand, out begins at the result's first column."""
    n, k = table[layer, OUT], table[layer, IN]
    linear_cell(
        m,
        last - first,
        k,
        x,
        shifted(weights_of(table, layer, parameters), 0, first),
        advance(parameters, table[layer, BIAS] + first),
        table[layer, ACTIVATION],
        Rows(advance(out, first), n),
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


# What workers of a forward pass are given: two arrays, and addresses of statistics, or 0, and of all else, which are
# fewer numbers than arrays would be. size: elements of the workspace.
Inputs = namedtuple("Inputs", "table parameters statistics x row_stride column_stride rows out workspace size")


def inputs_type(t):
    """The type of `Inputs` of an element type."""
    return types.NamedTuple((int64[:, ::1], t[::1], *[intp] * 8), Inputs)


@glue
def forward_inputs(table, parameters, statistics, x, rows, out, workspace, size):
    """The Inputs from an Operand and pointers."""
    return Inputs(
        table=table,
        parameters=parameters,
        statistics=statistics,
        x=address_of(x.pointer),
        row_stride=x.row_stride,
        column_stride=x.column_stride,
        rows=rows,
        out=address_of(out),
        workspace=address_of(workspace),
        size=size,
    )


@glue
def operand_of(inputs):
    """The Operand x."""
    return Operand(pointer_to(inputs.x, inputs.parameters), inputs.row_stride, inputs.column_stride)


@glue
def pointers_of(inputs, index, parts):
    """Where one thread's part of the workspace and the result of all rows lie."""
    workspace = pointer_to(inputs.workspace, inputs.parameters)
    return advance(workspace, index * (inputs.size // parts)), pointer_to(inputs.out, inputs.parameters)


@worker(lambda t: (inputs_type(t), intp, intp, intp))
def forward_worker(inputs, layer, index, parts):
    """One thread's rows, with its part of the workspace; `layer` is there for the other worker's sake."""
    first, last = part(inputs.rows, index, parts), part(inputs.rows, index + 1, parts)
    workspace, out = pointers_of(inputs, index, parts)
    forward_rows(inputs.table, flat_pointer(inputs.parameters), operand_of(inputs), first, last, out, workspace)


find_forward = finder(forward_worker)


@worker(lambda t: (types.CPointer(int64), intp, *[types.CPointer(t)] * 2, intp, *[types.CPointer(t)] * 2))
def sample_worker(table, layers, parameters, x, x_step, out, workspace):
    """One row, in code that knows it is one: 4-32-32-1 took 180 ns a call, by `forward_worker` 205 (Zen 4)."""
    forward_rows(carray(table, (layers, TABLE_COLUMNS)), parameters, Operand(x, 0, x_step), 0, 1, out, workspace)


@worker(lambda t: (inputs_type(t), intp, intp, intp))
def layer_worker(inputs, layer, index, parts):
    """One thread's columns of one layer, for a batch of too few rows to share; threads have one part of workspace."""
    table, m = inputs.table, inputs.rows
    layers, width = table.shape[0], widest(table)
    p, out = pointers_of(inputs, 0, 1)
    n, k = table[layer, OUT], table[layer, IN]
    source = operand_of(inputs)
    if layer > 0:
        source = Operand(advance(p, (1 - (layer & 1)) * m * width), k, 1)
    target = out if layer == layers - 1 else advance(p, (layer & 1) * m * width)
    nr = panel_columns(p)
    slivers = (n + nr - 1) // nr
    first, last = part(slivers, index, parts) * nr, min(n, part(slivers, index + 1, parts) * nr)
    if is_row_wise(table[layer, ACTIVATION]):
        # Rows stay whole.
        first, last = 0, n if index == 0 else 0
    if last > first:
        buffer = advance(p, 2 * m * width)
        scratch = advance(buffer, width + index * layer_scratch(table, m, itemsize(p), nr))
        forward_layer(table, layer, flat_pointer(inputs.parameters), source, m, first, last, target, buffer, scratch)


@kernel
def forward_serial(table, parameters, x, out, workspace):
    """out = network(x) on this thread; arrays as `forward` takes them."""
    require_plain(table)
    require_arrays(FORWARD_ARRAYS, (parameters, x, out, workspace))
    require_forward(table, parameters, x, out, workspace)
    forward_rows(table, flat_pointer(parameters), operand(x), 0, x.shape[0], flat_pointer(out), flat_pointer(workspace))


def plain_forward_plan(table, parameters, workspace, threads):
    """What a kernel of `forward_driver` needs besides the data; keep it and its arrays while in use."""
    dtype = parameters.dtype
    # The worker that a single thread will not call is not compiled.
    layer_address = layer_worker.address(dtype) if threads > 1 else 0
    return plan_of(forward_worker.address(dtype), layer_address, table, parameters, workspace, threads, 0)


def plan_of(rows_address, layer_address, table, parameters, workspace, threads, statistics):
    """The plan with these workers; without one for layers, few rows are not shared. statistics: an address."""
    arrays, few = spans(table, parameters, workspace), rows_by_columns(table, parameters.itemsize)
    return np.array([rows_address, layer_address, *arrays, threads, statistics, few if layer_address else 0], np.int64)


@glue
def _planned(plan, x, out):
    """The numbers of a plan, and the Inputs of its workers."""
    numbers = carray(pointer_to(plan, NUMBERS), PLAN_SIZE)
    table, parameters = planned_table(numbers, TABLE_AT), planned_array(numbers, PARAMETERS_AT, out)
    workspace, size = pointer_to(numbers[WORKSPACE_AT], out), numbers[WORKSPACE_AT + 1]
    source, target, statistics = operand(x), flat_pointer(out), numbers[STATISTICS_AT]
    return numbers, forward_inputs(table, parameters, statistics, source, x.shape[0], target, workspace, size)


def _signature(t):
    return intp, read_only(t, 2, "A"), t[:, ::1]


@driver(_signature, nogil=False)
def forward_planned(plan, x, out):
    """out = network(x) on this thread; plan: the address of the array from `plain_forward_plan`."""
    numbers, inputs = _planned(plan, x, out)
    state = let_lock_go(x.shape[0] * numbers[PARAMETERS_AT + 1])
    call(numbers[ROWS_WORKER], (inputs, 0, 0, 1))
    take_lock(state)


@driver(_signature)
def forward_shared(plan, x, out):
    """`forward_planned` on the plan's threads, which share rows, or layer after layer the columns if rows are few.

    A kernel of its own, for who needs no threads need not wait for its compilation.
    """
    numbers, inputs = _planned(plan, x, out)
    table, threads = inputs.table, numbers[THREADS]
    by_rows = x.shape[0] > numbers[LAYER_ROWS]
    # One launch in the source: each one would be compiled, for a third of a second.
    for layer in range(1 if by_rows else table.shape[0]):
        work = x.shape[0] * table[layer, IN] * table[layer, OUT]
        count = threads if by_rows else min(threads, max(1, work // grain_of(x.shape[0], out.itemsize)))
        run(numbers[ROWS_WORKER if by_rows else LAYER_WORKER], (inputs, layer), count)


def forward_driver(threads, dtype):
    """The driver that takes a plan for so many threads, ready for parameters of this dtype."""
    found = forward_planned if threads == 1 else forward_shared
    found.ready(dtype)
    return found


@serial_in_njit(forward_serial)
def forward(table, parameters, x, out, workspace):
    """out = network(x): a = x; for each layer a = f(a W + b); out = a.

    Args:
        table: `net.table`, int64 (layers, 18); no layer of it normalized, x not standardized, else a ValueError:
            `fastnn.apply_into` takes the network of any model.
        parameters: flat float32 or float64.
        x: (m, in), any strides.
        out: (m, out) C-contiguous; must not overlap x.
        workspace: as large as `fastnn.workspace(net.network, m)`, or larger: from Python, room for more threads
            lets more of them work.

    >>> net = fastnn.MLP([2, 2, 1], activation="relu", dtype="float64")
    >>> net.parameters = [1.0, -1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 2.0, 0.5]
    >>> x, out = np.array([[1.0, 2.0], [2.0, 1.0]]), np.empty((2, 1))
    >>> kernels.forward(net.table, net.parameters, x, out, fastnn.workspace(net.network, 2))
    >>> out.ravel()
    array([5.5, 3.5])
    """
    require_plain_arrays(table, (parameters, workspace), (x, out))
    require_plain(table)
    require_forward(table, parameters, x, out, workspace)
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, inference_workspace)
    plan = plain_forward_plan(table, parameters, workspace, threads)
    forward_driver(threads, parameters.dtype)(plan.ctypes.data, x, out)
