"""What the numbers in the table of a network say: a network is data, one kernel serves them all.

The table has a row for each layer: its sizes and codes, and where its parts begin in the flat vector of parameters, in
the statistics, and in what a training step keeps of a sample. All other files read it by the names of its columns; the
arithmetic of the offsets is here alone, for both who makes a table (network.py) and who checks one (table_check.py).
"""

import numpy as np

from .codes import Normalization
from .jit import glue, plain
from .operand import Operand
from .simd import advance

# The last six stand in the first layer's row, for the whole network. KIND: PLAIN, or what a layer has. ROW_WORKSPACE:
# elements of workspace with which one row goes through it. STANDARDIZED: in_features if x is standardized, else 0. The
# other columns from NORMALIZATION on are for networks that are not plain.
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
# Networks with normalized layers, or standardized inputs, may drop units too.
PLAIN, DROPPING, NORMALIZING = range(3)
# Of the dtype of tables and plans.
NUMBERS = np.empty(0, np.int64)
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
def statistics_count(table):
    """The size of `statistics`: running averages, then mean and scale of x if it is standardized."""
    return table[0, STATISTICS_SIZE] + 2 * table[0, STANDARDIZED]


@plain
def has_statistics(table):
    """Whether a layer is normalized or x is standardized, by numbers that are not parameters."""
    return table[0, KIND] == NORMALIZING


@plain
def require_plain(table):
    """For kernels that know layers without normalization alone: of others they would leave it out."""
    if table[0, KIND] == NORMALIZING:
        raise ValueError("table: expected plain layers, got normalized ones or inputs; see fastnn.apply_into")


def has_batch_normalization(table):
    """Whether a layer is normalized over the batch."""
    return table[0, STATISTICS_SIZE] > 0


def is_regularized(table):
    """Whether training differs from that of a plain network."""
    return table[0, KIND] != PLAIN


@plain
def parameters_count(table):
    """The size of the flat vector of parameters."""
    last = table[table.shape[0] - 1]
    return last[SCALE] + (2 * last[OUT] if last[NORMALIZATION] != 0 else 0)


@plain
def widest(table):
    """The largest number of features between two layers, at the end, or of standardized rows."""
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
def outputs_count(table):
    """The number of features that the network gives."""
    return table[table.shape[0] - 1, OUT]


@glue
def weights_of(table, layer, parameters):
    return Operand(advance(parameters, table[layer, WEIGHT]), table[layer, OUT], 1)


@glue
def mean_and_scale(table, statistics):
    """Where mean and scale of standardized inputs lie in the statistics."""
    mean = advance(statistics, table[0, STATISTICS_SIZE])
    return mean, advance(mean, table[0, STANDARDIZED])
