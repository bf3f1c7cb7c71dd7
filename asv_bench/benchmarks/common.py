"""What the benchmarks share: the networks, and the machine's peak."""

import functools
import pathlib
import sys

import numpy as np

from . import FULL

# The modules beside this package.
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
import work
from peak import peak_gflops

NETWORKS = work.NETWORKS
if not FULL:
    NETWORKS = {name: NETWORKS[name] for name in ("4-32-32-1", "64-64-10", "784-256-128-10")}
DTYPES = ["float32", "float64"] if FULL else ["float32"]


@functools.cache
def peak(dtype):
    """GFLOP/s of one core in fused multiply-adds."""
    return float(np.median([peak_gflops(np.dtype(dtype).type) for _ in range(5)]))


def seconds(function, least=0.1):
    """Median seconds of a call, over calls that last `least` in all."""
    import time

    times, begin = [], time.perf_counter()
    while time.perf_counter() - begin < least or len(times) < 3:
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return float(np.median(times))
