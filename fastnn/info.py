"""`fastnn info`: what a report of a problem should contain."""

import platform
import sys

import llvmlite
import llvmlite.binding as llvm
import numba
import numpy as np

import fastnn

from .kernels import microkernel, simd
from .kernels.cache import CACHE_DIRECTORY
from .kernels.threads import container_quota, get_num_threads, physical_cores


def cpu_model():
    """The CPU's name as the system gives it, which may tell no more than the maker, and LLVM's for its generation."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name} ({llvm.get_host_cpu_name()})"


def threading_layer():
    """The layer that Numba's threads run on; it is chosen at the first parallel launch."""
    try:
        return numba.threading_layer()
    except ValueError:
        return f"not launched yet (setting: {numba.config.THREADING_LAYER})"


def _threads():
    try:
        return get_num_threads()
    except ValueError as error:
        # As of a layer of threads that is not there.
        return f"none: {error}"


def facts():
    """(name, value) pairs."""
    columns = {np.dtype(t).name: microkernel.tile_columns(np.dtype(t).itemsize) for t in (np.float32, np.float64)}
    return [
        ("fastnn", fastnn.__version__),
        ("Python", f"{sys.version.split()[0]} ({platform.system()} {platform.machine()})"),
        ("NumPy", np.__version__),
        ("Numba", f"{numba.__version__} (llvmlite {llvmlite.__version__})"),
        ("CPU", f"{cpu_model()}, compiled for {simd.cpu_name()}"),
        ("vectors", f"{8 * simd.VECTOR_BYTES} bits"),
        ("register tile", ", ".join(f"{microkernel.MR} x {n} {name}" for name, n in columns.items())),
        ("threads", f"{_threads()} (cores: {physical_cores() or 'unknown'}, CPU quota: {container_quota() or 'none'})"),
        ("threading layer", threading_layer()),
        ("cache", CACHE_DIRECTORY or "none: no writable folder"),
    ]


def run():
    """Print the facts; returns the exit status."""
    for name, value in facts():
        print(f"{name:16} {value}")
    return 0
