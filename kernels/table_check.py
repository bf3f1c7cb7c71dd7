"""What Python's door to a network in compiled code checks of the network: a table follows raw offsets into arrays.

A model's own table is right and nobody can write it. But a named tuple is easily made by hand, changed by `_replace` or
brought from a machine with other vectors by pickle, and a wrong number in the table then ends the process, or worse.
So the whole table is worked out again from its sizes and codes, in compiled code, at every call: 0.5 us, and nothing is
remembered of arrays that may have changed since.
"""

import functools

import numpy as np
from numba import types

from .codes import NEEDS_PRE_ACTIVATION, Activation, Normalization
from .dropout import RATE_UNITS
from .jit import driver, inner, read_only
from .layout import row_workspace
from .network import Network, NormalizedNetwork
from .simd import address_of, pointer
from .table import (
    ACTIVATION,
    CONTEXT,
    DROPOUT,
    DROPPING,
    EXTRA_RECORD,
    EXTRA_SIZE,
    FIRST_PLACES,
    IN,
    KIND,
    NORMALIZATION,
    NORMALIZING,
    NUMBERS,
    OUT,
    PLAIN,
    ROW_WORKSPACE,
    STANDARDIZED,
    STATISTICS_SIZE,
    TABLE_COLUMNS,
    layer_row,
    statistics_count,
)
from .workers import FLOATS

ACTIVATIONS, NORMALIZATIONS = len(Activation), len(Normalization)
SAVES = np.array([code in NEEDS_PRE_ACTIVATION for code in Activation])
# More parameters than any memory holds; sums and products of so many stay within 64 bits.
MOST = 2**56
# Of no table is this the number of parameters.
BAD_TABLE = 0


@inner
def _parameters_of(table):
    """The size of the flat vector that a table describes, or BAD_TABLE if `make_table` would not have made it."""
    if table.shape[0] == 0 or table.shape[1] != TABLE_COLUMNS:
        return BAD_TABLE
    places, above, standardized = FIRST_PLACES, table[0, IN], table[0, STANDARDIZED]
    kind = NORMALIZING if standardized != 0 else PLAIN
    if standardized != 0 and standardized != above:
        return BAD_TABLE
    for layer in range(table.shape[0]):
        numbers = table[layer]
        k, n, activation = numbers[IN], numbers[OUT], numbers[ACTIVATION]
        normalization, dropout = numbers[NORMALIZATION], numbers[DROPOUT]
        if n < 1 or n > MOST or k < 1 or k > MOST // n or k != above:
            return BAD_TABLE
        if not (0 <= activation < ACTIVATIONS and 0 <= normalization <= NORMALIZATIONS and 0 <= dropout < RATE_UNITS):
            return BAD_TABLE
        row, places = layer_row(k, n, activation, SAVES[activation], normalization, dropout, places)
        if places[0] > MOST:
            return BAD_TABLE
        for column in range(TABLE_COLUMNS):
            if column <= EXTRA_RECORD:
                if numbers[column] != row[column]:
                    return BAD_TABLE
            elif layer > 0 and numbers[column] != 0:
                return BAD_TABLE
        kind = max(kind, NORMALIZING if normalization > 0 else DROPPING if dropout > 0 else PLAIN)
        above = n
    offset, _, _, statistics, extra = places
    first = table[0]
    if first[KIND] != kind or first[EXTRA_SIZE] != extra or first[STATISTICS_SIZE] != statistics or first[CONTEXT] != 0:
        return BAD_TABLE
    return offset if first[ROW_WORKSPACE] == row_workspace(table) else BAD_TABLE


@driver(lambda t: (read_only(types.int64, 2), read_only(t, 1)))
def _found(table, parameters):
    """The size that the parameters should have, negative if layers or inputs are normalized, or BAD_TABLE."""
    # Of the alignment of an array Numba knows nothing.
    if address_of(pointer(table)) % table.itemsize != 0 or address_of(pointer(parameters)) % parameters.itemsize != 0:
        return BAD_TABLE
    count = _parameters_of(table)
    return -count if count != BAD_TABLE and table[0, KIND] == NORMALIZING else count


@functools.cache
def _ready():
    for dtype in FLOATS:
        _found.ready(dtype)
    return _found


def checked_network(network):
    """A network that is what a model's `network` gives, or equal to it.

    Returns:
        The same, with a table that cannot be written to, as a model's: to Numba that is another type, for which it
        would take seconds to compile the same function again.

    Raises:
        TypeError, ValueError: it is not; the message says where.
    """
    kind = type(network)
    if (kind is not Network and kind is not NormalizedNetwork) or len(network) != len(kind._fields):
        raise TypeError(f"network: expected the network of a model, got {kind.__name__}")
    table, parameters, *statistics = network
    usual = type(table) is type(parameters) is np.ndarray and not statistics
    if not usual:
        _check_arrays(table, parameters, statistics)
    try:
        found = _ready()(table, parameters)
    except TypeError:
        # No array of another dtype or layout gets in, for compiling is over.
        _check_arrays(table, parameters, statistics)
        raise
    if not (usual and found == parameters.size):
        _check_arrays(table, parameters, statistics)
        _check_sizes(found, kind, table, parameters, statistics)
    if table.flags.writeable:
        table = table.view()
        table.flags.writeable = False
        return network._replace(table=table)
    return network


def _check_sizes(found, kind, table, parameters, statistics):
    """Raise what is wrong with arrays that are what they should be one by one; found: what `_found` has returned."""
    if found == BAD_TABLE:
        raise ValueError(
            "network: expected a table that a model of this version of fastnn made on this machine, got one whose "
            "numbers do not belong together"
        )
    if (found < 0) != bool(statistics):
        raise TypeError(f"network: expected another kind for this table, got {kind.__name__}")
    if parameters.size != abs(found):
        raise ValueError(f"network: expected {abs(found)} parameters, got {parameters.size}")
    for array in statistics:
        if array.size != statistics_count(table):
            raise ValueError(f"network: expected {statistics_count(table)} statistics, got {array.size}")


def _check_arrays(table, parameters, statistics):
    _check_array(table, "table", 2, (NUMBERS.dtype,))
    _check_array(parameters, "parameters", 1, FLOATS)
    for array in statistics:
        _check_array(array, "statistics", 1, (parameters.dtype,))


def _check_array(array, name, dimensions, dtypes):
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"network: expected an array as {name}, got {type(array).__name__}")
    if array.dtype not in dtypes:
        raise TypeError(f"network: expected {name} of {' or '.join(map(str, dtypes))}, got {array.dtype}")
    if array.ndim != dimensions or not (array.flags.c_contiguous and array.flags.aligned):
        expected = f"{name} with {dimensions} axes, C-contiguous and aligned"
        raise ValueError(f"network: expected {expected}, got shape {array.shape} and strides {array.strides}")
