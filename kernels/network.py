"""What a network is to compiled code, ours and the user's, a named tuple of arrays; and how its table is made.

Apart from table.py because a table says how much workspace one row takes, and layout.py works that out from the rest.
"""

from collections import namedtuple
from itertools import pairwise

import numpy as np

from .codes import NEEDS_PRE_ACTIVATION, Activation
from .digest import SOURCE_DIGEST
from .layout import row_workspace
from .table import (
    DROPPING,
    EXTRA_RECORD,
    EXTRA_SIZE,
    FIRST_PLACES,
    KIND,
    NORMALIZING,
    PLAIN,
    ROW_WORKSPACE,
    STANDARDIZED,
    STATISTICS_SIZE,
    TABLE_COLUMNS,
    layer_row,
)

# What a user's compiled code holds of a network; all arrays are shared with the Python object. Of another type where
# layers are normalized or x is standardized, so that the code for that is compiled for such networks alone.
Network = namedtuple("Network", "table parameters")
NormalizedNetwork = namedtuple("NormalizedNetwork", "table parameters statistics")
Network.__doc__ = """A network without normalized layers or inputs, as compiled code has it: `net.network` of a model.

    Attributes:
        table: `net.table`, int64 (layers, 18).
        parameters: flat float32 or float64, for each layer weight row by row, then bias.

    >>> net = fastnn.MLP([2, 3, 1], seed=0)
    >>> table, parameters = net.network
    >>> table.shape, parameters.size
    ((2, 18), 13)
    >>> np.shares_memory(parameters, net.parameters)
    True
    """
NormalizedNetwork.__doc__ = """A network with normalized layers or standardized inputs, as compiled code has it.

    Attributes:
        table, parameters: as those of `Network`, with a normalized layer's scale and shift behind its bias.
        statistics: flat, like parameters: the running mean and variance of each layer normalized over the batch, then
            mean and scale of standardized inputs.

    >>> net = fastnn.MLP([2, 3, 1], normalization="batch", seed=0)
    >>> net.network.parameters.size, net.network.statistics.size
    (19, 6)
    """
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


def make_table(sizes, activations, normalizations=None, dropouts=None, standardizes=False):
    """The layer table of a network with these feature counts and activation codes, and its number of parameters.

    For each layer there may be a normalization code, or 0, and a dropout rate as `dropout.rate_threshold` gives it.
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
