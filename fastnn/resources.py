"""What a call of a kernel works with besides the data: aligned memory, threads, and scratch for them."""

import math
import threading

import numpy as np

from .arguments import shown
from .kernels.dense import FEW_ROWS, GRAIN, grain_of
from .kernels.inference import forward_driver
from .kernels.layout import ROWS, rows_by_columns, workspace_size
from .kernels.normalized_inference import forward_plan
from .kernels.table import IN, OUT
from .kernels.threads import threads_for

# A cache line, and the widest vector register.
ALIGNMENT = 64


def aligned_empty(size, dtype, purpose):
    """A flat array of `size` elements that begins on a cache line; its content is arbitrary.

    Raises:
        MemoryError: there is no such memory; the message names the purpose.
    """
    dtype = np.dtype(dtype)
    try:
        memory = np.empty(int(size) * dtype.itemsize + ALIGNMENT, np.uint8)
    except (MemoryError, ValueError, OverflowError):  # NumPy's errors for sizes beyond the address space are the latter
        raise MemoryError(f"{purpose}: no memory for {shown(size)} numbers of {dtype}") from None
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * dtype.itemsize].view(dtype)


def _limited(count, most):
    return count if most is None else min(count, most)


class _Scratch(threading.local):
    """The workspaces of one Python thread, kept from call to call; class attributes are what a new thread finds.

    A signal's handler may run between any two steps of `Resources` and call the same model: what belongs together is
    one tuple, read and replaced at once.
    """

    # rows and threads that the workspace is for, the workspace, {threads: what `inference` returns}
    inference = 0, 0, None, ()
    # rows up to which one thread works in any case, and those up to which it does where one is asked for, and its plan
    small = -1, -1, None
    # rows and threads that it was last asked for, and the workspace
    training = None, np.empty(0)


class Resources:
    """Threads and workspaces for the calls of one network.

    Python threads may share a network, never a workspace: each has its own.

    Attributes:
        scratch: the calling thread's `_Scratch`.
    """

    def __init__(self, network):
        self._network, self._table, self._parameters = network, network.table, network.parameters
        self._size = self._parameters.size
        self._largest = int((self._table[:, IN] * self._table[:, OUT]).max())
        size = self._parameters.itemsize
        self._few_rows = rows_by_columns(self._table, size)
        # So many rows are never shared, whatever the limit.
        last = max(self._few_rows, FEW_ROWS)
        self._serial_rows = max(last, (2 * GRAIN - 1) // self._size)
        for rows in range(last, 0, -1):
            if rows * (self._largest if rows <= self._few_rows else self._size) >= 2 * grain_of(rows, size):
                self._serial_rows = rows - 1
        self.scratch = _Scratch()

    def threads(self, rows, most):
        """Threads worth launching for a batch that they share by rows, at most `most` unless that is None."""
        return _limited(threads_for(rows * self._size, grain_of(rows, self._parameters.itemsize)), most)

    def _inference_threads(self, rows, most):
        if rows > self._few_rows:
            return min(rows, self.threads(rows, most))
        # Shared layer by layer: the largest has to be worth it.
        return _limited(threads_for(rows * self._largest, grain_of(rows, self._parameters.itemsize)), most)

    def inference(self, rows, most):
        """(function, address of its plan, memory) for a forward pass on at most `most` threads.

        The function takes the address, x and out, 2-D arrays that have to be of the network's dtype.

        For few rows `scratch.small` has it at hand. The caller keeps the memory until the kernel is done: a signal's
        handler may call `predict` in between, and another workspace then takes the place of this one.
        """
        scratch = self.scratch
        threads = self._inference_threads(rows, most)
        planned_rows, planned_threads, workspace, plans = scratch.inference
        # Rows pass through in blocks of ROWS, so what those need is enough.
        if (planned_rows < rows and planned_rows < ROWS) or threads not in plans:
            rows = max(min(rows, ROWS), planned_rows)
            count = max(threads, planned_threads)
            if (rows, count) != (planned_rows, planned_threads):
                size = workspace_size(self._table, self._parameters, rows, count)[0]
                workspace, plans = aligned_empty(size, self._parameters.dtype, "workspace of predict"), {}
                scratch.inference = rows, count, workspace, plans
                scratch.small = _Scratch.small
            plan = forward_plan(self._network, workspace, threads)
            dtype = self._parameters.dtype
            forward = forward_driver(threads, dtype).entry_point(dtype)
            plans[threads] = forward, plan.ctypes.data, (plan, workspace)
            if threads == 1:
                planned = rows if rows < ROWS else math.inf
                scratch.small = min(planned, self._serial_rows), planned, plans[1]
        return plans[threads]

    def training(self, rows, threads):
        """Scratch for the loss and its gradient on batches of at most so many rows."""
        planned, workspace = self.scratch.training
        if planned != (rows, threads):
            size = workspace_size(self._table, self._parameters, rows, threads)[1]
            if workspace.size < size:
                workspace = aligned_empty(size, self._parameters.dtype, f"workspace of a batch of {rows} rows")
            self.scratch.training = (rows, threads), workspace
        return workspace
