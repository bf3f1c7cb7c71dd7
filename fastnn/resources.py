"""What a call of a kernel works with besides the data: aligned memory, threads, and scratch for them."""

import math
import threading

import numpy as np

from .kernels.dense import FEW_ROWS, FEW_ROWS_GRAIN, GRAIN, grain_of
from .kernels.network import ROWS, forward_driver, workspace_size
from .kernels.regularized import forward_plan_of
from .kernels.threads import threads_for
from .validation import shown

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


class _Scratch(threading.local):
    """The workspaces of one Python thread, kept from call to call; class attributes are what a new thread finds."""

    inference_rows = inference_threads = 0
    inference = training = np.empty(0)
    # {threads: (kernel, address of its plan, the plan)}, and the entry for few enough rows
    plans = ()
    small_rows, small = -1, None
    training_plan = None


class Resources:
    """Threads and workspaces for the calls of one network.

    Python threads may share a network, never a workspace: each has its own.
    """

    def __init__(self, network):
        self._network, self._table, self._parameters = network, network.table, network.parameters
        self._size = self._parameters.size
        # So many rows are never shared, whatever the limit.
        self._serial_rows = (2 * FEW_ROWS_GRAIN - 1) // self._size
        if self._serial_rows >= FEW_ROWS:
            self._serial_rows = (2 * GRAIN - 1) // self._size
        self._scratch = _Scratch()

    def threads(self, rows, most):
        """Threads worth launching for a batch, at most `most` unless that is None."""
        count = threads_for(rows * self._size, grain_of(rows))
        return count if most is None else min(count, most)

    def inference(self, rows, most):
        """(kernel, address of its plan, the plan) for a forward pass on at most `most` threads."""
        scratch = self._scratch
        if rows <= scratch.small_rows:
            return scratch.small
        threads = self.threads(rows, most)
        # Rows pass through in blocks of ROWS, so what those need is enough.
        if (scratch.inference_rows < rows and scratch.inference_rows < ROWS) or threads not in scratch.plans:
            rows = max(min(rows, ROWS), scratch.inference_rows)
            count = max(threads, scratch.inference_threads)
            if (rows, count) != (scratch.inference_rows, scratch.inference_threads):
                size = workspace_size(self._table, self._parameters, rows, count)[0]
                scratch.inference = aligned_empty(size, self._parameters.dtype, "workspace of predict")
                scratch.inference_rows, scratch.inference_threads, scratch.plans = rows, count, {}
                scratch.small_rows = -1
            plan = forward_plan_of(self._network, scratch.inference, threads)
            scratch.plans[threads] = forward_driver(threads), plan.ctypes.data, plan
            if threads == 1:
                planned = rows if rows < ROWS else math.inf
                scratch.small_rows, scratch.small = min(planned, self._serial_rows), scratch.plans[1]
        return scratch.plans[threads]

    def training(self, rows, threads):
        """Scratch for the loss and its gradient on batches of at most so many rows."""
        scratch = self._scratch
        if scratch.training_plan != (rows, threads):
            size = workspace_size(self._table, self._parameters, rows, threads)[1]
            if scratch.training.size < size:
                scratch.training = aligned_empty(size, self._parameters.dtype, f"workspace of a batch of {rows} rows")
            scratch.training_plan = rows, threads
        return scratch.training
