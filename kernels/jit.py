"""How kernels are compiled: one set of options, and a decorator for each part that a function may have."""

import functools

import numba
from numba import types
from numba.core import config
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import overload, register_jitable

from .borrowed import borrowed
from .cache import cache_for
from .compilation import aside, without_collector

# nogil: kernels touch no Python object. error_model: no check for division by zero in inner loops. No fastmath: it lets
# the compiler change values, and with them the same-bits promise and NaN handling.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}


if config.DISABLE_JIT:
    # Kernels are written for the compiler: as Python functions they would fail, each in a way of its own.
    raise ImportError("fastnn has nothing to run without Numba's compiler: unset NUMBA_DISABLE_JIT")


def _compile(function, **options):
    dispatcher = numba.njit(**OPTIONS | options)(function)
    dispatcher._cache = cache_for(function)
    return dispatcher


def kernel(function):
    """Compile a function that Python or a user's compiled code may call."""
    return _compile(function)


def locked_kernel(function):
    """Compile a kernel that Python alone calls, and that lets Python's lock go itself if it lasts (lock.py)."""
    return _compile(function, nogil=False)


def inner(function):
    """Compile a function that only kernels call: without the wrappers that Python and C would need."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def glue(function):
    """A function that Numba itself copies into its caller before compiling.

    A compiled function is optimized and turned into machine code again inside each of its callers, level by level:
    with the functions between a kernel and the micro-kernel as `inner`, the first call took twice as long.
    """
    return numba.njit(inline="always", **OPTIONS)(function)


def plain(function):
    """A Python function that compiled code may call too: sizes and plans, worked out on both sides by one formula."""
    return register_jitable(**OPTIONS)(function)


def parallel_kernel(function):
    """Compile a driver: a `prange` loop, on Numba's threads, over a worker that it calls by address.

    With one thread it has to call the worker without the loop: a parallel region wakes the whole pool for one task too.
    """
    return _compile(function, parallel=True)


def read_only(element, dimensions, layout="C"):
    """The type of an array that is read: as an argument it takes in writeable ones, with layout "A" any strides."""
    return types.Array(element, dimensions, layout, readonly=True)


def driver(signature, **options):
    """Compile a kernel that Python alone calls, with one signature for each dtype; call `ready(dtype)` of it first.

    `entry_point(dtype)` of it is what Numba's dispatcher calls when it has looked at the types of the arguments, which
    takes 0.14 us: for callers that have done so, since it reads an array of any dtype as one of its own.

    Numba compiles for each layout, and for read-only arrays once more: three arguments made 24 signatures of the
    training kernel, of 5 s each. Where it may compile no more, arguments convert to what there is, in 0.1 us.

    Args:
        signature: the argument types as a function of the element type; arrays among them, not those in tuples, are
            borrowed.
        options: those in place of OPTIONS.
    """

    def arguments_for(dtype):
        return tuple(borrowed(kind) for kind in signature(numba.from_dtype(dtype)))

    def entry_point(dispatcher, dtype):
        dispatcher.ready(dtype)
        return dispatcher.get_overload(arguments_for(dtype))

    def register(function):
        # Another one compiles. Were the dispatcher itself to compile for a second dtype, it would meanwhile do so for
        # the arguments of other threads' calls too, or raise that it may not.
        dispatcher, compiler = _compile(function, **options), _compile(function, **options)

        def compile_for(dtype):
            arguments = arguments_for(dtype)
            with global_compiler_lock, without_collector():
                compiler.compile(arguments)
                # Of two threads that come at once the second one finds it there; twice there, it would be ambiguous.
                if arguments not in dispatcher.overloads:
                    dispatcher.add_overload(compiler.overloads[arguments])
                    dispatcher.disable_compile()

        dispatcher.ready = functools.cache(lambda dtype: aside(compile_for, dtype))
        dispatcher.entry_point = lambda dtype: entry_point(dispatcher, dtype)
        return dispatcher

    return register


def serial_in_njit(serial):
    """Let a Python function that picks a driver be called from compiled code too, where it means the serial worker.

    Inside a user's own loops, which may run in parallel already, the serial worker is the only safe choice.
    """

    def register(function):
        overload(function, strict=False, jit_options=dict(OPTIONS))(lambda *arguments, **named: serial.py_func)
        function.serial = serial
        return function

    return register
