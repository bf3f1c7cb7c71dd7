"""What several test files share: the catalog as parameters, and a run of one row against its reference."""

import contextlib
import importlib
import os

import numpy as np
import pytest

# Tests of threads, and the processes that they start, use all of them beside whatever else runs.
os.environ["FASTNN_NEVER_REST"] = "1"

from fastnn import check
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


def assert_within(actual, expected, bound, what):
    """|actual - expected| <= bound, NaN and infinities in the same places."""
    share = check.share(actual, expected, bound)
    assert share <= 1, f"{what}: an error of {share:.3g} times its bound"


def check_against_reference(row, arguments, function=None):
    """Run a kernel and its reference on the same arguments; returns what the kernel changed."""
    before = check.copies(arguments)
    shares = check.compare(row, arguments, function)
    assert max(shares.values()) <= 1, f"{row.name}: errors of {shares} times their bounds"
    for name, value in arguments.items():
        if name not in row.outputs and name != "workspace" and isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, before[name], err_msg=f"{row.name} changed its input {name}")
    return {name: arguments[name] for name in row.outputs}
