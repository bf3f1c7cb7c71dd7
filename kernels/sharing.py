"""Kernels that Python's calls share among threads if their work is large, and that are serial in compiled code."""

import functools

import numpy as np

from .jit import kernel, serial_in_njit
from .workers import FLOATS


def are_plain(dtype, arrays, shapes, results):
    """Whether these are NumPy's own arrays of a dtype of floats and of these shapes, C-contiguous and aligned.

    A worker is called by address: what is not so it would read as if it were. results: those that it fills, at the
    end, are so many.
    """
    first_result = len(arrays) - results
    return dtype in FLOATS and all(
        type(array) is np.ndarray
        and array.dtype == dtype
        and array.shape == shape
        and array.flags.c_contiguous
        and array.flags.aligned
        and (place < first_result or array.flags.writeable)
        for place, (array, shape) in enumerate(zip(arrays, shapes, strict=True))
    )


def shares_large_work(share, place, least):
    """Make a function a kernel that Python's calls have threads share where `share` does so.

    place, least: the array at this place of the arguments, and the size below which `share` need not be asked, which
        takes as long as relu of 16 numbers.
    share: takes the kernel's arguments. It returns NotImplemented, with nothing done, for work that does not pay for
        threads and for whatever is not just as workers take it: the serial kernel does that, or refuses it, so that
        what is refused depends on no size.
    """

    def register(function):
        serial, defaults = kernel(function), function.__defaults__ or ()
        required = function.__code__.co_argcount - len(defaults)

        @serial_in_njit(serial)
        @functools.wraps(function)
        def shared(*arguments, **named):
            if defaults and not named and len(arguments) == required:
                # Numba may take 37 us to find the type of a default.
                arguments += defaults
            if named or len(arguments) <= place or getattr(arguments[place], "size", least) >= least:
                result = share(*arguments, **named)
                if result is not NotImplemented:
                    return result
            return serial(*arguments, **named)

        return shared

    return register
