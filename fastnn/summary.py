"""A model as a table to print."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .sequential import Sequential


def summary(net: Sequential) -> str:
    """See `Sequential.summary`."""
    layers = net.layers
    columns: dict[str, list] = {
        "layer": [*range(len(layers))],
        "in": [layer.in_features for layer in layers],
        "out": [layer.out_features for layer in layers],
        "activation": [_name(layer, "activation") for layer in layers],
        "normalization": [_name(layer, "normalization") for layer in layers],
        "dropout": [f"{rate:g}" if (rate := getattr(layer, "dropout", 0)) else "" for layer in layers],
        "parameters": [layer.parameter_count for layer in layers],
    }
    if net.standardize is not None:
        columns["activation"][0] = "standardize"
    cells = [[name, *map(str, column)] for name, column in columns.items() if any(map(str, column))]
    lines = ["  ".join(row) for row in zip(*map(_aligned, cells), strict=True)]
    return "\n".join([*lines, f"{net.parameter_count} parameters, {net.dtype}, {net.parameters.nbytes} bytes"])


def _aligned(column):
    """Texts brought to the width of the longest."""
    width = max(map(len, column))
    return [cell.rjust(width) for cell in column]


def _name(layer, attribute):
    """That of an activation or a normalization, if the layer has one."""
    member = getattr(layer, attribute, None)
    return "" if member is None else member.name.lower()
