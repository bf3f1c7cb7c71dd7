"""What several test files share: the catalog as parameters, and a run of one row against its reference."""

import contextlib
import importlib
import os

import numpy as np
import pytest

# Tests of threads, and the processes that they start, use all of them beside whatever else runs.
os.environ["FASTNN_NEVER_REST"] = "1"

from fastnn import kernels
from fastnn.kernels import reference
from fastnn.kernels.catalog import CATALOG

DTYPES = (np.float32, np.float64)
# The long forms of tests whose default is a sample.
FULL = os.environ.get("FASTNN_FULL") == "1"


def threading_layers():
    """The layers that this installation of Numba can use."""
    found = ["workqueue"]
    for layer, module in (("omp", "omppool"), ("tbb", "tbbpool")):
        with contextlib.suppress(ImportError):
            importlib.import_module(f"numba.np.ufunc.{module}")
            found.append(layer)
    return found


@pytest.fixture
def rng():
    return np.random.default_rng(20240229)


@pytest.fixture(params=DTYPES, ids=lambda dtype: dtype.__name__)
def dtype(request):
    return request.param


@pytest.fixture(params=CATALOG, ids=lambda row: row.name)
def row(request):
    return request.param


def copies(arguments):
    """The same arguments with arrays of their own."""
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


def assert_within(actual, expected, bound, what):
    """|actual - expected| <= bound, NaN and infinities in the same places."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(np.isfinite(actual), finite, err_msg=what)
    error = np.abs(np.where(finite, actual, 0) - np.where(finite, expected, 0))
    excess = error - bound
    assert np.all(excess <= 0), f"{what}: error {error.max():.3g}, {np.max(excess):.3g} above its bound"


def check_against_reference(row, arguments, function=None):
    """Run a kernel and its reference on the same arguments; returns what the kernel changed."""
    before, expected = copies(arguments), copies(arguments)
    value = (function or getattr(kernels, row.name))(*arguments.values())
    expected_value = getattr(reference, row.name)(*expected.values())
    bounds = row.bound(before, expected)
    for name in row.outputs:
        assert_within(arguments[name], expected[name], bounds[name], f"{row.name}: {name}")
    if "return" in bounds and value is not None:
        assert_within(value, expected_value, bounds["return"], f"{row.name}: value")
    for name, value in arguments.items():
        if name not in row.outputs and name != "workspace" and isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, before[name], err_msg=f"{row.name} changed its input {name}")
    return {name: arguments[name] for name in row.outputs}
