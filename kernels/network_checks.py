"""What kernels of whole networks check of their arguments: sizes. The table is trusted to be one that a model has."""

import numpy as np

from .codes import Loss
from .jit import plain
from .layout import inference_workspace, training_workspace
from .loss import QUANTILE, SOFTMAX_CROSS_ENTROPY
from .sharing import are_plain
from .table import IN, NUMBERS, OUT, parameters_count, statistics_count

LOSSES = len(Loss)


def require_plain_arrays(table, flat, others):
    """Raise a TypeError in Python unless arrays are what machine code reads at their addresses.

    flat: those that are to be contiguous, with one axis, the workspace last; others: those of the same dtype that a
        driver looks at itself.
    """
    good = type(table) is np.ndarray and table.dtype == NUMBERS.dtype and table.ndim == 2 and table.flags.c_contiguous
    dtype = getattr(flat[0], "dtype", None)
    if not good or not are_plain(dtype, flat, [(np.size(array),) for array in flat], 1):
        found = [f"{getattr(array, 'dtype', type(array).__name__)} {np.shape(array)}" for array in (table, *flat)]
        raise TypeError(f"expected a model's table, and flat arrays of one dtype, float32 or float64, got {found}")
    for array in others:
        if getattr(array, "dtype", None) != dtype:
            raise TypeError(f"expected arrays of {dtype}, as parameters, got {getattr(array, 'dtype', type(array))}")


@plain
def _require_network(table, parameters, x):
    if parameters.size != parameters_count(table):
        raise ValueError("parameters: expected as many as the table tells")
    if x.ndim != 2 or x.shape[1] != table[0, IN]:
        raise ValueError("x: expected a row of the network's in_features for each sample")


@plain
def require_forward(table, parameters, x, out, workspace):
    """Raise a ValueError unless the arrays have the sizes that `forward` follows."""
    _require_network(table, parameters, x)
    if out.shape != (x.shape[0], table[table.shape[0] - 1, OUT]):
        raise ValueError("out: expected a row of the network's out_features for each row of x")
    if workspace.size < inference_workspace(table, parameters, x.shape[0], 1):
        raise ValueError("workspace: expected more elements, as fastnn.workspace(network, batch) makes it")


@plain
def require_statistics(table, statistics):
    """Raise a ValueError unless a network's statistics are as many as its table tells."""
    if statistics.size != statistics_count(table):
        raise ValueError("statistics: expected as many as the table tells")


@plain
def require_batch(table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter):
    """Raise a ValueError unless the arrays have the sizes that `loss_and_gradient` follows; loss: a code."""
    _require_network(table, parameters, x)
    rows, outputs = x.shape[0], table[table.shape[0] - 1, OUT]
    labels = loss == SOFTMAX_CROSS_ENTROPY and y.shape == (rows, 1)
    if y.shape != (rows, 1 if labels else outputs):
        raise ValueError("y: expected a row of the network's out_features, or one label, for each row of x")
    if sample_weight.size != 0 and sample_weight.shape != (rows,):
        raise ValueError("sample_weight: expected one for each row of x")
    if not 0 <= loss < LOSSES:
        raise ValueError("loss: expected a member of fastnn.Loss")
    if loss == QUANTILE and loss_parameter.size != 1 and loss_parameter.size != outputs:
        raise ValueError("loss_parameter: expected a number, or one for each output")
    if gradient.size != parameters.size:
        raise ValueError("gradient: expected the size of the parameters")
    if workspace.size < training_workspace(table, parameters, rows, 1):
        raise ValueError("workspace: expected more elements, as fastnn.workspace(network, batch) makes it")
