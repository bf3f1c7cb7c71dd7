"""Kernels with a fault each, that `guarded` has to find: `python guard_faults.py FAULT`."""

import ctypes
import sys

import numba
import numpy as np
from guarded import Guard


@numba.njit
def read_behind(x, out):
    for i in range(len(out)):
        out[i] = x[i + 1]


@numba.njit
def read_before(x, out):
    for i in range(len(out)):
        # Numba counts a negative index from the end.
        out[i] = x[i - 1 - len(x)]


@numba.njit
def write_behind(x, out):
    for i in range(len(out) + 1):
        out[i] = x[0]


@numba.njit
def write_before(x, out):
    out[-1 - len(out)] = x[0]


@numba.njit
def write_input(x, out):
    x[0] = out[0]


def write_gap(x, out):
    """x has a stride of two elements: this is the byte after its first."""
    ctypes.memset(x.ctypes.data + x.itemsize, 0, 1)


@numba.njit
def nothing_wrong(x, out):
    for i in range(len(out)):
        out[i] = x[i]


def main(fault):
    """Returns only where a kernel has no fault; fences end the process, other checks raise AssertionError."""
    guard, side = Guard(), "before" if fault.endswith("before") else "behind"
    layout = "rows"
    x, out = np.ones(5, np.float32), np.zeros(5, np.float32)
    if fault == "write_gap":
        x, layout = np.ones((5, 5), np.float32), "step 2"
    if fault == "write_margin":
        fault, side = "write_behind", "before"
    frozen = fault != "write_gap"
    arguments = guard.place(x, side, "x", layout=layout, frozen=frozen), guard.place(out, side, "out")
    print("started", flush=True)
    guard.call(globals()[fault], *arguments)
    print("ended")


if __name__ == "__main__":
    main(sys.argv[1])
