"""`fastnn check`: kernels against their references on the user's own machine."""

import sys
import time

import numpy as np

from . import kernels
from .kernels import reference
from .kernels.catalog import CATALOG

# A timing repeats the kernel for about this long.
SECONDS = 0.02


def copies(arguments):
    """The same arguments with arrays of their own."""
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in arguments.items()}


def share(actual, expected, bound):
    """The largest error as a share of its bound; infinite unless NaN and both infinities stand in the same places."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    finite = np.isfinite(expected)
    if not (
        np.array_equal(np.isfinite(actual), finite)
        and np.array_equal(actual[~finite], expected[~finite], equal_nan=True)
    ):
        return np.inf
    error = np.abs(np.subtract(actual, expected, out=np.zeros(expected.shape), where=finite))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return float(np.where(error == 0, 0, error / bound).max(initial=0))


def compare(row, arguments, function=None):
    """Run a catalog row's kernel, or a function in its place, and the reference on these arguments.

    Returns:
        The largest error of each output, and of what is returned, as a share of its tolerance: a dict by name.
    """
    before, expected = copies(arguments), copies(arguments)
    value = (function or getattr(kernels, row.name))(*arguments.values())
    expected_value = getattr(reference, row.name)(*expected.values())
    bounds = row.bound(before, expected)
    shares = {name: share(arguments[name], expected[name], bounds[name]) for name in row.outputs}
    if "return" in bounds and value is not None:
        shares["return"] = share(value, expected_value, bounds["return"])
    return shares


def throughput(row, dtype, rng):
    """GFLOP/s or GB/s of the kernel on the row's shape for timing."""
    arguments = row.inputs(row.timed, dtype, rng)
    function, values = getattr(kernels, row.name), tuple(arguments.values())
    function(*values)
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < SECONDS:
        function(*values)
        calls += 1
    flops, elements = row.work(row.timed)
    amount = flops if flops is not None else elements * np.dtype(dtype).itemsize
    return amount * calls / elapsed / 1e9


def run(names=()):
    """Print a row for each kernel and dtype; returns 0 if all are within tolerance, else 1."""
    unknown = set(names) - {row.name for row in CATALOG}
    if unknown:
        known = ", ".join(row.name for row in CATALOG)
        print(f"unknown kernel {', '.join(sorted(unknown))}; there are: {known}", file=sys.stderr)
        return 2
    rows = [row for row in CATALOG if not names or row.name in names]
    print(f"{'kernel':28} {'dtype':8} {'shapes':>6} {'worst error / tolerance':>24} {'speed':>16}  verdict")
    failures = 0
    for row in rows:
        for dtype in (np.float32, np.float64):
            rng = np.random.default_rng(0)
            worst = max(max(compare(row, row.inputs(shape, dtype, rng)).values()) for shape in row.shapes)
            speed = throughput(row, dtype, rng)
            verdict = "ok" if worst <= 1 else "FAILED"
            failures += verdict != "ok"
            name = np.dtype(dtype).name
            print(
                f"{row.name:28} {name:8} {len(row.shapes):6} {worst:24.3g} {speed:9.1f} {row.unit:7} {verdict}",
                flush=True,
            )
    total = 2 * len(rows)
    print(f"\n{total - failures} of {total} within tolerance" + (f", {failures} FAILED" if failures else ""))
    return 1 if failures else 0
