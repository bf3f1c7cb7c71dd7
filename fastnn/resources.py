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


class _Scratch(threading.local):
    """The workspaces of one Python thread, kept from call to call; class attributes are what a new thread finds."""

    inference = training = np.empty(0)
    inference_rows = inference_threads = 0
    training_plan = None


class Resources:
    """Threads and workspaces for the calls of one network.

    Python threads may share a network, never a workspace: each has its own.
    """

    def __init__(self, network):
        self._table, self._parameters = network
        self._scratch = _Scratch()

    def threads(self, rows, most):
        """Threads worth launching for a batch, at most `most` unless that is None."""
        count = threads_for(rows * self._parameters.size, GRAIN)
        return count if most is None else min(count, most)

    def inference(self, rows, threads):
        """Scratch for a forward pass."""
        scratch = self._scratch
        # Rows pass through in blocks of ROWS, so what those need is enough.
        rows = min(rows, ROWS)
        if scratch.inference_threads < threads or scratch.inference_rows < rows:
            rows, threads = max(rows, scratch.inference_rows), max(threads, scratch.inference_threads)
            size = workspace_size(self._table, self._parameters, rows, threads)[0]
            scratch.inference = aligned_empty(size, self._parameters.dtype)
            scratch.inference_rows, scratch.inference_threads = rows, threads
        return scratch.inference

    def training(self, rows, threads):
        """Scratch for the loss and its gradient on batches of at most so many rows."""
        scratch = self._scratch
        if scratch.training_plan != (rows, threads):
            size = workspace_size(self._table, self._parameters, rows, threads)[1]
            if scratch.training.size < size:
                scratch.training = aligned_empty(size, self._parameters.dtype)
            scratch.training_plan = rows, threads
        return scratch.training
