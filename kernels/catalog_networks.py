"""The catalog's rows of whole networks."""

from itertools import pairwise

import numpy as np

from .catalog_row import Row, eps, sample
from .codes import Activation, Loss, Normalization
from .layout import workspace_size
from .network import make_table
from .table import IN, NORMALIZATION, OUT, SCALE, STANDARDIZED, STATISTICS, WEIGHT, statistics_count

# (rows, in_features, the out_features of each layer)
SHAPES = ((1, 3, 1), (5, 4, 32, 32, 1), (33, 64, 64, 10), (130, 70, 33, 65, 17), (257, 20, 100, 3))
TIMED = (128, 784, 256, 128, 10)


def _activations(layers):
    """One for each layer, of all kinds that a backward tells apart."""
    return [*[Activation.TANH, Activation.GELU, Activation.RELU][: layers - 1], Activation.IDENTITY]


def _workspace(table, parameters, rows):
    return np.full(max(workspace_size(table, parameters, rows, 2)), np.nan, parameters.dtype)


def _plain(shape, dtype, rng):
    """(arguments that say what the network is and what it reads, workspace)"""
    rows, *sizes = shape
    table, _ = make_table(sizes, _activations(len(sizes) - 1))
    parameters = np.concatenate([sample(rng, k * n + n, dtype, (k + 1) ** -0.5) for k, n in pairwise(sizes)])
    workspace = _workspace(table, parameters, rows)
    return {"table": table, "parameters": parameters, "x": sample(rng, (rows, sizes[0]), dtype)}, workspace


def _normalized(shape, dtype, rng):
    """As `_plain`, layers normalized over the batch, over rows and not at all, in turn from the first."""
    rows, *sizes = shape
    layers = len(sizes) - 1
    codes = [(Normalization.BATCH, Normalization.LAYER, 0)[i % 3] for i in range(layers)]
    # Those of an odd number of inputs have them standardized too.
    table, count = make_table(sizes, _activations(layers), codes, standardizes=sizes[0] % 2 == 1)
    parameters, statistics = np.empty(count, dtype), sample(rng, statistics_count(table), dtype)
    for k, n, at, at_scale, at_mean, code in table[:, (IN, OUT, WEIGHT, SCALE, STATISTICS, NORMALIZATION)].tolist():
        parameters[at : at + k * n + n] = sample(rng, k * n + n, dtype, (k + 1) ** -0.5)
        if code:
            parameters[at_scale : at_scale + 2 * n] = 0.5 + rng.random(2 * n)
        if code == Normalization.BATCH:
            statistics[at_mean + n : at_mean + 2 * n] = 0.5 + rng.random(n)
    statistics[statistics.size - table[0, STANDARDIZED] :] = 0.5 + rng.random(table[0, STANDARDIZED])
    workspace = _workspace(table, parameters, rows)
    x = sample(rng, (rows, sizes[0]), dtype)
    return {"table": table, "parameters": parameters, "statistics": statistics, "x": x}, workspace


def _bound(inputs, expected, name):
    # Layers of unit gain: each adds the error of its own sums, of numbers of size 1 in k terms.
    table, dtype = inputs["table"], inputs["parameters"].dtype
    return {name: 4 * eps(dtype) * float(table[:, IN].sum() + 8) * (1 + np.abs(expected[name]))}


def _multiply_adds(shape):
    return sum(k * n + n for k, n in pairwise(shape[1:])) * shape[0]


def _forward_row(name, network):
    def inputs(shape, dtype, rng):
        arguments, workspace = network(shape, dtype, rng)
        return {**arguments, "out": np.full((shape[0], shape[-1]), np.nan, dtype), "workspace": workspace}

    bound = lambda inputs, expected: _bound(inputs, expected, "out")
    flops = lambda shape: (2 * _multiply_adds(shape), None)
    return Row(name, inputs, ("out",), bound, SHAPES, TIMED, flops, "GFLOP/s")


def _gradient_row(name, network, shapes):
    """Odd numbers of rows have weights, and if there are several outputs those are classes."""

    def inputs(shape, dtype, rng):
        arguments, workspace = network(shape, dtype, rng)
        # Training goes by the statistics of the batch.
        arguments.pop("statistics", None)
        rows, classes = shape[0], shape[-1]
        y, loss, weight = sample(rng, (rows, classes), dtype), Loss.MSE, np.empty(0, dtype)
        if rows % 2:
            weight = rng.random(rows).astype(dtype)
            if classes > 1:
                y, loss = rng.integers(0, classes, (rows, 1)).astype(dtype), Loss.SOFTMAX_CROSS_ENTROPY
        return {
            **arguments,
            "y": y,
            "sample_weight": weight,
            "loss": int(loss),
            "gradient": np.full_like(arguments["parameters"], np.nan),
            "workspace": workspace,
        }

    def bound(inputs, expected):
        limit = _bound(inputs, expected, "gradient")
        return {**limit, "return": float(np.max(limit["gradient"]))}

    # Three products a layer, but for the gradient by the first one's input.
    flops = lambda shape: (6 * _multiply_adds(shape) - 2 * shape[0] * shape[1] * shape[2], None)
    return Row(name, inputs, ("gradient",), bound, shapes, TIMED, flops, "GFLOP/s")


def network_rows():
    yield _forward_row("forward", _plain)
    yield _gradient_row("loss_and_gradient", _plain, SHAPES)
    yield _forward_row("normalized_forward", _normalized)
    # A batch of one row has no variance.
    yield _gradient_row("normalized_loss_and_gradient", _normalized, [shape for shape in SHAPES if shape[0] > 1])
