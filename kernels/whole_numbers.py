"""Whole numbers as users give them: ints, NumPy's, and whatever else Python takes for an index."""

import operator

import numpy as np


def as_int(value):
    """The Python int that a value is; None if it is no whole number, or a bool."""
    if isinstance(value, (bool, np.bool_)):
        return None
    try:
        return operator.index(value)
    except TypeError:  # arrays have __index__, but most of them no index
        return None
