"""How Python waits for the compiler: Ctrl-C is heard, and the garbage collector rests."""

import contextlib
import gc
import threading

from numba.core.compiler_lock import global_compiler_lock


@contextlib.contextmanager
def without_collector():
    """Compiling makes many objects and no garbage worth collecting: the collector took a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def aside(function, *arguments):
    """function(*arguments), on a thread of its own if this is the main thread: Ctrl-C ends the wait, not the work.

    LLVM takes seconds to tens of seconds for a function. On the main thread Ctrl-C would have to wait for it, and might
    get lost in one of LLVM's calls back into Python; so compiling goes on, and a later call finds it done.
    """
    # Who holds the lock is compiling already: another thread would wait for it for ever.
    if threading.current_thread() is not threading.main_thread() or global_compiler_lock.is_locked():
        return function(*arguments)
    results, errors = [], []

    def target():
        try:
            results.append(function(*arguments))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, name="fastnn")
    thread.start()
    while thread.is_alive():
        # Windows does not interrupt a wait without an end.
        thread.join(0.1)
    if errors:
        raise errors[0]
    return results[0]
