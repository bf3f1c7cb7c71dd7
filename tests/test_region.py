"""Regions of OpenMP: every part is made once, whatever threads there are; and without them, Numba's own loop."""

import hashlib
import os
import subprocess
import sys

import numba
import numpy as np
import pytest
from conftest import threading_layers
from llvmlite import ir

import fastnn
from fastnn.kernels import region
from fastnn.kernels.region import has_openmp

WORK = """
import hashlib, numpy as np, fastnn
from fastnn.kernels import region
CHANGE
x = np.linspace(-20, 20, 1_000_003, dtype=np.float32)
results = {fastnn.activations.tanh(x).tobytes() for _ in range(20)}
hashes = [hashlib.sha256(result).hexdigest() for result in results]
print(fastnn.get_num_threads(), int(region.ADDRESSES.all()), *hashes)
"""
needs_openmp = pytest.mark.skipif(
    sys.platform != "linux" or "omp" not in threading_layers() or fastnn.get_num_threads() == 1,
    reason="needs two threads of OpenMP",
)


@pytest.fixture(scope="module")
def expected():
    fastnn.set_num_threads(1)
    try:
        x = np.linspace(-20, 20, 1_000_003, dtype=np.float32)
        return hashlib.sha256(fastnn.activations.tanh(x).tobytes()).hexdigest()
    finally:
        fastnn.set_num_threads(None)


def work(change="", layer="omp", **environment):
    """(threads, whether OpenMP's own door is used, the hash of results) of a process."""
    settings = {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "2", "FASTNN_NEVER_REST": "1"} | environment
    code = WORK.replace("CHANGE", change)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | settings, timeout=600
    )
    assert result.returncode == 0, result.stderr
    threads, used, *hashes = result.stdout.split()
    assert len(hashes) == 1
    return int(threads), used == "1", hashes[0]


@needs_openmp
@pytest.mark.parametrize(
    "environment",
    [{}, {"OMP_THREAD_LIMIT": "1"}, {"OMP_DYNAMIC": "true"}, {"OMP_WAIT_POLICY": "passive"}, {"OMP_NUM_THREADS": "1"}],
    ids=str,
)
def test_regions_of_openmp(environment, expected):
    """A limit may leave a region fewer threads than parts."""
    assert work(**environment) == (2, True, expected)


@needs_openmp
def test_a_library_without_the_entries(expected):
    assert work("region.FUNCTIONS = ('GOMP_parallel', 'omp_get_thread_num', 'no_such_function')") == (
        2,
        False,
        expected,
    )


@pytest.mark.parametrize("layer", [layer for layer in threading_layers() if layer != "omp"])
def test_other_layers_have_their_own_regions(layer, expected):
    assert work(layer=layer) == (2, False, expected)


def _count_part(builder, words, part, parts):
    """words: the address of a row of counts for each number of parts."""
    counts = builder.inttoptr(words[0], ir.IntType(64).as_pointer())
    place = builder.gep(counts, [builder.add(builder.mul(parts, region.INDEX(16)), part)])
    builder.atomic_rmw("add", place, region.INDEX(1), "monotonic")


count_parts = region.region_of(_count_part, 1)


FORKED = """
import os, signal, sys, numpy as np, fastnn
from fastnn.kernels import dense
x, w, b, out = (np.ones(shape, np.float32) for shape in ((300, 300), (300, 300), 300, (300, 300)))
dense.linear_worker.address(out.dtype)
dense.linear_parallel(x, w, b, 1, out, 2)
fastnn.activations.tanh(np.zeros(1_000_000, np.float32))
dense.linear_parallel(x, w, b, 1, out, 2)
child = os.fork()
if child == 0:
    signal.alarm(60)
    dense.linear_parallel(x, w, b, 1, out, 2)
    os._exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@needs_openmp
def test_a_launch_in_a_forked_child_ends_it_as_numbas_do():
    """Who calls a driver by himself is told, where OpenMP would wait for ever."""
    environment = os.environ | {"NUMBA_THREADING_LAYER": "omp", "NUMBA_NUM_THREADS": "2", "FASTNN_NEVER_REST": "1"}
    result = subprocess.run(
        [sys.executable, "-c", FORKED], capture_output=True, text=True, env=environment, timeout=600
    )
    assert result.stdout == "-15\n", result.stderr
    assert "fork() called from a process already using GNU OpenMP" in result.stderr


@needs_openmp
def test_every_part_is_made_once():
    fastnn.activations.tanh(np.zeros(1_000_000, np.float32))
    if numba.threading_layer() != "omp":
        pytest.skip("another layer is in use")

    @numba.njit
    def count(parts, address):
        known = has_openmp()
        if known:
            count_parts(parts, (address,))
        return known

    counts = np.zeros((16, 16), np.int64)
    for parts in range(1, 16):
        for _ in range(parts):
            assert count(parts, counts.ctypes.data)
    assert np.array_equal(counts, np.tril(np.ones((16, 16), int), -1) * np.arange(16)[:, np.newaxis])


@needs_openmp
def test_numbas_own_number_of_threads_counts(expected):
    """Parts may be more: what one thread has to make it makes one after the other."""
    change = "import numba; fastnn.activations.tanh(np.zeros(1_000_000, np.float32)); numba.set_num_threads(1)"
    assert work(change) == (1, True, expected)
