"""A network as a function that C code can call: some instructions of its own around the worker that all networks share.

    map         void   f(const T *x, T *y)                               y = network(x)
    integrand   double f(int n, double *x, void *)                       as scipy.integrate takes it
    filter      int    f(double *x, npy_intp n, double *y, void *)       as scipy.ndimage.generic_filter takes it

They may be called by any thread, with or without Python's lock. Addresses of the network's arrays are constants in
them, so they are neither cached nor pickled, and the arrays have to outlive them.
"""

import ctypes

import numba
import numpy as np
from numba import types

from .inference import sample_worker
from .normalized_inference import normalized_sample_worker
from .simd import keep_alive, pointer, pointer_to
from .table import IN, NUMBERS, ROW_WORKSPACE
from .workers import call


def _evaluation(network):
    """A function (x, y) for compiled code: y = network(x), both pointers."""
    table, parameters, *statistics = network
    dtype = parameters.dtype
    layers, size = table.shape[0], int(table[0, ROW_WORKSPACE])
    table_address, parameters_address = table.ctypes.data, parameters.ctypes.data
    if statistics:
        worker, statistics_address = normalized_sample_worker.address(dtype), statistics[0].ctypes.data

        @numba.njit(nogil=True, error_model="numpy")
        def evaluate_normalized(x, y):
            workspace = np.empty(size, dtype)
            numbers, values = pointer_to(table_address, NUMBERS), pointer_to(parameters_address, workspace)
            running = pointer_to(statistics_address, workspace)
            call(worker, (numbers, layers, values, running, x, 1, y, pointer(workspace)))
            keep_alive(workspace)

        return evaluate_normalized
    worker = sample_worker.address(dtype)

    @numba.njit(nogil=True, error_model="numpy")
    def evaluate(x, y):
        workspace = np.empty(size, dtype)
        numbers, values = pointer_to(table_address, NUMBERS), pointer_to(parameters_address, workspace)
        call(worker, (numbers, layers, values, x, 1, y, pointer(workspace)))
        keep_alive(workspace)

    return evaluate


def _map(evaluate, t, inputs):
    def f(x, y):
        evaluate(x, y)

    element = np.ctypeslib.as_ctypes_type(t.name)
    c_type = ctypes.CFUNCTYPE(None, ctypes.POINTER(element), ctypes.POINTER(element))
    return f, types.void(types.CPointer(t), types.CPointer(t)), c_type


def _integrand(evaluate, t, inputs):
    def f(n, x, data):
        if n != inputs:
            # The only word that SciPy lets through.
            return np.nan
        y = np.empty(1)
        evaluate(x, pointer(y))
        return y[0]

    c_type = ctypes.CFUNCTYPE(ctypes.c_double, ctypes.c_int, ctypes.POINTER(ctypes.c_double), ctypes.c_void_p)
    return f, types.double(types.intc, types.CPointer(t), types.voidptr), c_type


def _filter(evaluate, t, inputs):
    def f(x, n, y, data):
        if n != inputs:
            return 0  # SciPy raises
        evaluate(x, y)
        return 1

    double = ctypes.POINTER(ctypes.c_double)
    c_type = ctypes.CFUNCTYPE(ctypes.c_int, double, ctypes.c_ssize_t, double, ctypes.c_void_p)
    return f, types.intc(types.CPointer(t), types.intp, types.CPointer(t), types.voidptr), c_type


KINDS = {"map": _map, "integrand": _integrand, "filter": _filter}


def c_callable(network, kind):
    """(compiled function, ctypes function) of a kind above; keep the first as long as the second is called."""
    t = numba.from_dtype(network.parameters.dtype)
    function, signature, c_type = KINDS[kind](_evaluation(network), t, int(network.table[0, IN]))
    compiled = numba.cfunc(signature, nopython=True, error_model="numpy")(function)
    return compiled, c_type(compiled.address)
