"""What a call of a kernel works with besides the data: aligned memory, threads, and scratch for them."""

import threading

import numpy as np

from .kernels.network import GRAIN, ROWS, workspace_size
from .kernels.threads import threads_for

# A cache line, and the widest vector register.
ALIGNMENT = 64


def aligned_empty(size, dtype):
    """A flat array of `size` elements that begins on a cache line; its content is arbitrary."""
    dtype = np.dtype(dtype)
    memory = np.empty(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size * dtype.itemsize].view(dtype)


class Resources(threading.local):
    """Threads for the calls of one network, and the workspaces of the Python thread that asks, kept from call to call.

    Python threads may share a network, never a workspace.
    """

    def __init__(self, network):
        self._table, self._parameters = network
        self._size = self._parameters.size
        self._inference = self._training = np.empty(0, self._parameters.dtype)
        self._inference_threads = 0
        self._training_plan = None

    def threads(self, rows, most):
        """Threads worth launching for a batch, at most `most` unless that is None."""
        count = threads_for(rows * self._size, GRAIN)
        return count if most is None else min(count, most)

    def inference(self, threads):
        """Scratch for a forward pass of any number of rows."""
        if self._inference_threads < threads:
            # Rows pass through in blocks of ROWS, so what those need is enough.
            size = workspace_size(self._table, self._parameters, ROWS, threads)[0]
            self._inference = aligned_empty(size, self._parameters.dtype)
            self._inference_threads = threads
        return self._inference

    def training(self, rows, threads):
        """Scratch for the loss and its gradient on batches of at most so many rows."""
        if self._training_plan != (rows, threads):
            size = workspace_size(self._table, self._parameters, rows, threads)[1]
            if self._training.size < size:
                self._training = aligned_empty(size, self._parameters.dtype)
            self._training_plan = rows, threads
        return self._training
