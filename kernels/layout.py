"""How large a workspace has to be, and where its parts begin.

Sizes and places are told in one file, for they have to agree: what `plan_step` (step.py) takes piece by piece is what
`training_workspace` has counted. Workspace of a step with m rows, one flat array:

    gradient      the parameters' size, for clipping by norm
    terms         m * (last out_features): the loss, element by element
    activations   m * (sum of out_features), layer after layer, each from a new cache line on
    z             m * (sum of out_features of the layers whose backward takes the pre-activation)
    dz            m * (sum of out_features)
    x, y, weights the gathered batch
    scratch       one part for each thread
    extras        what a step of networks that are not plain keeps besides (regularized_step.py)

A forward pass needs less, for each thread two buffers of rows that layers fill in turn, a row and scratch.
"""

from collections import namedtuple

from .activation import is_row_wise
from .dense import column_unit_of, grain_of
from .gemm import linear_scratch, product_scratch, product_scratch_up_to
from .jit import glue, plain
from .microkernel import MR, tile_columns
from .simd import LINE, advance, aligned, flat_pointer
from .table import (
    ACTIVATION,
    EXTRA_SIZE,
    IN,
    NORMALIZATION,
    OUT,
    STATISTICS_SIZE,
    has_statistics,
    outputs_count,
    record_sizes,
    widest,
)
from .threads import threads_for

# Rows that go through the layers together, so that their activations stay in cache from layer to layer.
ROWS = 256
# Threads that predict few rows share the columns of one layer after the other, so that each weight is read by one of
# them alone: as many rows as one tile has, and where all weights are larger than a core's L2 as many as multiply for as
# long as weights take to come. By columns and by rows 6 rows of 784-256-128-10 took 9.9 and 11.2 us, 8 rows 11.8 and
# 11.4; of 1024-1024-10 8 rows 57 and 65, 16 rows 82 and 113, 24 rows 114 both (Zen 5).
COLUMN_ROWS, LARGE_COLUMN_ROWS, LARGE_BYTES = MR, 16, 1 << 20
# Where the parts of a step's workspace begin behind the gradient, and where the rest does.
Parts = namedtuple("Parts", "terms activations z dz rest")
# Parts of a layer in what a training step of networks that are not plain keeps besides (regularized_step.py).
EXTRAS = 4


@plain
def extra_size(table, rows):
    """Elements that a training step of networks that are not plain takes besides, at the end of a workspace."""
    if table[0, EXTRA_SIZE] == 0:
        return 0
    return rows * table[0, EXTRA_SIZE] + 2 * table[0, STATISTICS_SIZE] + LINE * (EXTRAS * table.shape[0] + 2)


@plain
def forward_scratch(table, rows, size, nr):
    most = 0
    for layer in range(table.shape[0]):
        n, k = table[layer, OUT], table[layer, IN]
        most = max(most, linear_scratch(rows, n, k, size, nr, True, is_row_wise(table[layer, ACTIVATION])))
    return most


@plain
def training_scratch(table, rows, size, nr):
    """Enough for any batch of up to so many rows: the last one of an epoch may be short."""
    most = max(forward_scratch(table, min(rows, ROWS), size, nr), min(rows, ROWS) * widest(table))
    for layer in range(table.shape[0]):
        n, k = table[layer, OUT], table[layer, IN]
        most = max(most, product_scratch_up_to(k, n, rows, size, nr))
        if table[layer, NORMALIZATION] != 0:
            # Gradients of scale and shift, and the sums that they are made of (`normalization.parameter_sums`).
            most = max(most, 6 * n)
        # Through the first layer only the gradient with respect to the input goes back.
        whole_rows = layer > 0 and is_row_wise(table[layer - 1, ACTIVATION])
        most = max(most, product_scratch(min(rows, ROWS), k, n, size, nr, False, whole_rows))
    # A row for softmax and log_softmax lies before the scratch of the products.
    return widest(table) + most + LINE


@plain
def rows_by_columns(table, size):
    """The most rows that threads share by columns, for elements of `size` bytes."""
    if has_statistics(table):
        # Rows alone (normalized_inference.py).
        return 0
    unit, weights, whole = column_unit_of(size), 0, 0
    for layer in range(table.shape[0]):
        n = table[layer, OUT]
        weights += table[layer, IN] * n
        if n <= unit or is_row_wise(table[layer, ACTIVATION]):
            whole += table[layer, IN] * n
    if 4 * whole > weights:
        # Such a layer has one thread: it would take what others do meanwhile.
        return 0
    return LARGE_COLUMN_ROWS if weights * size >= LARGE_BYTES else COLUMN_ROWS


@plain
def layer_scratch(table, rows, size, nr):
    """Scratch of each thread that computes some columns of a layer for at most so many rows: too few for packing."""
    most = 0
    for layer in range(table.shape[0]):
        most = max(most, linear_scratch(rows, table[layer, OUT], table[layer, IN], size, nr, True, True))
    return most


@plain
def forward_size(table, rows, threads, size, nr):
    """Enough for fewer rows too, which threads share in another way."""
    block = min(rows, ROWS)
    width = widest(table)
    by_rows = threads * (2 * block * width + width + forward_scratch(table, block, size, nr))
    if threads == 1:
        return by_rows
    few = rows_by_columns(table, size)
    return max(by_rows, (2 * few + 1) * width + threads * layer_scratch(table, few, size, nr))


@plain
def inference_workspace(table, parameters, rows, threads):
    """Elements of workspace with which so many threads predict so many rows."""
    size = parameters.itemsize
    return forward_size(table, rows, threads, size, tile_columns(size))


@plain
def training_workspace(table, parameters, rows, threads):
    """Elements of workspace with which so many threads train on a batch of so many rows, in the order of `plan_step`.

    A target has as many columns as the network has outputs, or fewer.
    """
    size, (activations, z) = parameters.itemsize, record_sizes(table)
    per_row = 2 * activations + z + 2 * outputs_count(table) + table[0, IN] + 1
    lines = LINE * (3 * table.shape[0] + 8)
    scratch = threads * training_scratch(table, rows, size, tile_columns(size))
    return rows * per_row + parameters.size + lines + scratch + extra_size(table, rows)


@plain
def workspace_size(table, parameters, rows, threads):
    """Elements of workspace for a batch of so many rows on so many threads: (inference, training)."""
    return inference_workspace(table, parameters, rows, threads), training_workspace(table, parameters, rows, threads)


@plain
def row_workspace(table):
    """What a table has as ROW_WORKSPACE; it depends on the machine's vectors too."""
    return max(forward_size(table, 1, 1, 4, tile_columns(4)), forward_size(table, 1, 1, 8, tile_columns(8)))


def threads_that_fit(table, parameters, rows, workspace, size_of):
    """The most threads that pay for so many rows and for which a workspace is large enough by one of the two sizes."""
    threads = threads_for(rows * parameters.size, grain_of(rows, parameters.itemsize))
    while threads > 1 and size_of(table, parameters, rows, threads) > workspace.size:
        threads -= 1
    return threads


@glue
def rows_at(base, rows, record, layer, row, n):
    """Where a layer's n features of `row` lie in a part of the workspace that holds `rows` rows of every layer."""
    return advance(aligned(advance(base, rows * record + LINE * layer)), row * n)


@glue
def terms_of(parameters, workspace):
    return aligned(advance(flat_pointer(workspace), parameters.size))


@glue
def layer_parts(table, parameters, rows, workspace):
    """The `Parts` of so many rows in a workspace."""
    activations, z = record_sizes(table)
    lines = LINE * table.shape[0]
    terms = terms_of(parameters, workspace)
    a_part = aligned(advance(terms, rows * outputs_count(table)))
    z_part = aligned(advance(a_part, rows * activations + lines))
    dz_part = aligned(advance(z_part, rows * z + lines))
    return Parts(terms, a_part, z_part, dz_part, aligned(advance(dz_part, rows * activations + lines)))
