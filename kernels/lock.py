"""Python's lock: a kernel that lasts lets it go, so that other threads may run Python meanwhile.

To let it go and take it again takes 50 ns, a twentieth of what `predict` takes for a small network's row, and work of
some microseconds is over before another thread would have woken up. So it depends on the work, unlike Numba's nogil,
which kernels that do this are compiled without (`locked_kernel` in jit.py, `driver` with nogil=False).
"""

from numba import types

from .jit import glue

# From so many multiply-adds on, or elements of an activation, the lock is let go: 1 to 10 us, and 66 of the costliest
# activation in float64. A thread of Python itself keeps it for 5,000.
LOCKED_WORK = 30_000

_save_thread = types.ExternalFunction("PyEval_SaveThread", types.intp())
_restore_thread = types.ExternalFunction("PyEval_RestoreThread", types.void(types.intp))


@glue
def let_lock_go(work):
    """Let the lock go if so much work follows; returns what `take_lock` has to be given after it."""
    return _save_thread() if work >= LOCKED_WORK else 0


@glue
def take_lock(state):
    """Take the lock again if it has been let go."""
    if state != 0:
        _restore_thread(state)
