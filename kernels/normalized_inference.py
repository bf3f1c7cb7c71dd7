"""Networks with normalized layers or standardized inputs forward: inference.py's workers, plan and kernel for those.

A row's result does not depend on the others: layers normalized over the batch go by their running averages. Workers of
their own, so that the code for this is compiled for such networks alone.
"""

from numba import carray, intp, types

from .activation import IDENTITY
from .argument_checks import require_arrays
from .dense import linear_cell
from .epilogue import activate_rows
from .inference import FORWARD_ARRAYS, forward_driver, inputs_type, operand_of, plain_forward_plan, plan_of, pointers_of
from .jit import glue, kernel, serial_in_njit
from .layout import ROWS, inference_workspace, threads_that_fit
from .network_checks import require_forward, require_plain_arrays, require_statistics
from .normalization import AT_ONCE, LAYER, apply_running, normalize_rows, scale_and_shift
from .operand import Operand, Rows, operand, shifted
from .simd import advance, flat_pointer, pointer_to
from .standardization import standardized_rows
from .table import (
    ACTIVATION,
    BIAS,
    IN,
    NORMALIZATION,
    OUT,
    SCALE,
    STANDARDIZED,
    STATISTICS,
    TABLE_COLUMNS,
    weights_of,
    widest,
)
from .workers import finder, part, worker


@glue
def normalized_forward_rows(table, parameters, statistics, x, first, last, out, workspace):
    """`inference.forward_rows` with normalized layers or inputs: a row's result does not depend on the others."""
    layers, width = table.shape[0], widest(table)
    block = min(last - first, ROWS)
    buffer = advance(workspace, 2 * block * width)
    scratch = advance(buffer, width)
    for row in range(first, last, ROWS):
        m = min(ROWS, last - row)
        source = shifted(x, row, 0)
        for layer in range(layers):
            n, activation, normalization = table[layer, OUT], table[layer, ACTIVATION], table[layer, NORMALIZATION]
            if layer == 0 and table[0, STANDARDIZED] > 0:
                # The buffer that the next layer will fill.
                source = standardized_rows(table, statistics, source, m, advance(workspace, block * width))
            target = advance(workspace, (layer & 1) * block * width)
            if layer == layers - 1:
                target = advance(out, row * n)
            linear_cell(
                m,
                n,
                table[layer, IN],
                source,
                weights_of(table, layer, parameters),
                advance(parameters, table[layer, BIAS]),
                IDENTITY if normalization > 0 else activation,
                Rows(target, n),
                buffer,
                scratch,
            )
            if normalization > 0:
                scale = advance(parameters, table[layer, SCALE])
                shift = advance(scale, n)
                if normalization == LAYER:
                    for i in range(0, m, AT_ONCE):
                        # Scratch has room for so many factors, which nobody takes.
                        normalize_rows(advance(target, i * n), min(AT_ONCE, m - i), n, scratch)
                    scale_and_shift(target, scale, shift, target, m, n)
                else:
                    mean = advance(statistics, table[layer, STATISTICS])
                    apply_running(target, m, n, mean, advance(mean, n), scale, shift)
                activate_rows(activation, target, target, m, n, buffer)
            source = Operand(target, n, 1)


@worker(lambda t: (inputs_type(t), intp, intp, intp))
def normalized_forward_worker(inputs, layer, index, parts):
    """One thread's rows, with its part of the workspace; `layer` as in `forward_worker`."""
    workspace, out = pointers_of(inputs, index, parts)
    normalized_forward_rows(
        inputs.table,
        flat_pointer(inputs.parameters),
        pointer_to(inputs.statistics, inputs.parameters),
        operand_of(inputs),
        part(inputs.rows, index, parts),
        part(inputs.rows, index + 1, parts),
        out,
        workspace,
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


def forward_plan(network, workspace, threads):
    """The plan of a Network or NormalizedNetwork for `forward_driver`; see `plain_forward_plan`."""
    table, parameters, *statistics = network
    if not statistics:
        return plain_forward_plan(table, parameters, workspace, threads)
    address = normalized_forward_worker.address(parameters.dtype)
    return plan_of(address, 0, table, parameters, workspace, threads, statistics[0].ctypes.data)


@kernel
def normalized_forward_serial(table, parameters, statistics, x, out, workspace):
    """out = network(x) on this thread; arrays as `normalized_forward` takes them."""
    require_arrays(FORWARD_ARRAYS, (parameters, x, out, workspace))
    require_arrays("flat parameters 1, flat statistics 1", (parameters, statistics))
    require_forward(table, parameters, x, out, workspace)
    require_statistics(table, statistics)
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
    """out = network(x) with normalized layers or inputs, layers normalized over the batch by running averages.

    a = x, or standardized x; for each layer a = f(normalized(a W + b)); out = a.

    Args:
        table: `net.table`, int64 (layers, 18).
        parameters: flat float32 or float64.
        statistics: flat, the running mean and variance of each layer normalized over the batch, then the mean and scale
            of x if the table has it standardized.
        x: (m, in), any strides.
        out: (m, out) C-contiguous; must not overlap x.
        workspace: as large as `fastnn.workspace(net.network, m)`, or larger: from Python, room for more threads
            lets more of them work.

    >>> net = fastnn.Sequential([fastnn.Standardize(), fastnn.Dense(2, 1)], dtype="float64")
    >>> net.parameters, net.statistics = [1.0, 2.0, 0.5], [10.0, 20.0, 1.0, 10.0]
    >>> x, out = np.array([[11.0, 20.0], [10.0, 30.0]]), np.empty((2, 1))
    >>> workspace = fastnn.workspace(net.network, 2)
    >>> kernels.normalized_forward(net.table, net.parameters, net.statistics, x, out, workspace)
    >>> out.ravel()
    array([1.5, 2.5])
    """
    require_plain_arrays(table, (parameters, statistics, workspace), (x, out))
    require_forward(table, parameters, x, out, workspace)
    require_statistics(table, statistics)
    threads = threads_that_fit(table, parameters, x.shape[0], workspace, inference_workspace)
    address = normalized_forward_worker.address(parameters.dtype)
    plan = plan_of(address, 0, table, parameters, workspace, threads, statistics.ctypes.data)
    forward_driver(threads, parameters.dtype)(plan.ctypes.data, x, out)
