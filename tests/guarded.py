"""Arrays directly against memory that may not be touched: a stray access ends the process."""

import ctypes
import mmap

import numpy as np

PAGE = mmap.PAGESIZE
# Pages without access on each side, so that a wild jump lands there too.
FENCE = 16 * PAGE
# Writable bytes beside an array, on its open side, that are looked at after a call.
MARGIN = 512
CANARY = 0xA5

_NONE, _READ, _WRITE = 0, 1, 2
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)

LAYOUTS = ("rows", "columns", "step 2", "row step", "negative", "row of one")
SIDES = ("before", "behind")


def _protect(address, size, access):
    if _libc.mprotect(address, size, access):
        raise OSError(ctypes.get_errno(), "mprotect failed")


def strides_of(shape, itemsize, layout):
    """Strides in bytes; those of layouts for matrices apply to 2-D arrays alone."""
    strides, step = [], itemsize
    for length in reversed(shape):
        strides.insert(0, step)
        step *= max(length, 1)
    if len(shape) != 2 or layout == "rows":
        return strides
    m, n = (max(length, 1) for length in shape)
    return {
        "columns": [itemsize, m * itemsize],
        "step 2": [2 * n * itemsize, 2 * itemsize],
        "row step": [(n + 3) * itemsize, itemsize],
        "negative": [-n * itemsize, -itemsize],
        # Every row is the same one: a stride of zero.
        "row of one": [0, itemsize],
    }[layout]


class Span:
    """Whole pages between two fences; one array at a time lies in them, against one of the fences."""

    def __init__(self, size):
        self._size = -(-(size + MARGIN) // PAGE) * PAGE
        total = self._size + 2 * FENCE
        self._memory = (ctypes.c_uint8 * total).from_buffer(mmap.mmap(-1, total))
        self._address = ctypes.addressof(self._memory)
        _protect(self._address, FENCE, _NONE)
        _protect(self._address + FENCE + self._size, FENCE, _NONE)
        self._bytes = np.frombuffer(self._memory, np.uint8)[FENCE : FENCE + self._size]
        self._frozen = False

    def fits(self, size):
        return size + MARGIN <= self._size

    def place(self, values, side, layout="rows"):
        """A copy of an array; between its elements, where the layout leaves gaps, lies NaN."""
        self.thaw()
        shape, itemsize = values.shape, values.itemsize
        strides = strides_of(shape, itemsize, layout)
        reach = [(length - 1) * stride for length, stride in zip(shape, strides, strict=True)] if values.size else [0]
        low, high = sum(min(r, 0) for r in reach), sum(max(r, 0) for r in reach) + itemsize * (values.size > 0)
        size = high - low
        start = 0 if side == "before" else self._size - size
        span = self._bytes[start : start + size]
        span[:] = 0xFF  # NaN in either dtype
        array = np.ndarray(shape, values.dtype, self._memory, FENCE + start - low, strides)
        array[...] = values
        self._margin = self._bytes[size : size + MARGIN] if side == "before" else self._bytes[:start][-MARGIN:]
        self._margin[:] = CANARY
        taken = np.zeros(size, np.bool_)
        if size != values.nbytes and layout != "row of one":
            mine = np.ndarray(shape, f"V{itemsize}", taken, -low, strides)
            mine[...] = np.ones(itemsize, np.bool_).view(f"V{itemsize}")[0]
            self._gaps = span, ~taken
        else:
            self._gaps = None
        return array

    def freeze(self):
        """Make the array unwritable, for whoever holds its address."""
        self._frozen = True
        _protect(self._address + FENCE, self._size, _READ)

    def thaw(self):
        if self._frozen:
            self._frozen = False
            _protect(self._address + FENCE, self._size, _READ | _WRITE)

    def check(self, what):
        """Raise if anything beside or between the elements was written to."""
        if (self._margin != CANARY).any():
            raise AssertionError(f"{what}: bytes beside it were written to")
        if self._gaps is not None:
            span, gaps = self._gaps
            if (span[gaps] != 0xFF).any():
                raise AssertionError(f"{what}: bytes between its elements were written to")


class Guard:
    """Places the arrays of one call after the other, and counts them."""

    def __init__(self):
        self._spans = []
        self._used = []
        self.bytes = 0

    def _span(self, size):
        for i, span in enumerate(self._spans):
            if span.fits(size):
                return self._spans.pop(i)
        return Span(size)

    def place(self, values, side, name, *, layout="rows", frozen=False):
        size = 2 * values.nbytes + 4 * values.itemsize * (values.shape[0] if values.ndim == 2 else 1)
        span = self._span(size if layout != "rows" else values.nbytes)
        array = span.place(values, side, layout)
        self._used.append((name, span, frozen))
        self.bytes += values.nbytes
        return array

    def call(self, function, *arguments):
        """function(*arguments) with the frozen arrays unwritable; then all margins are looked at."""
        for _, span, frozen in self._used:
            if frozen:
                span.freeze()
        result = function(*arguments)
        for name, span, _ in self._used:
            span.thaw()
            span.check(name)
        return result

    def clear(self):
        """The arrays placed so far are done with."""
        self._spans += [span for _, span, _ in self._used]
        self._spans.sort(key=lambda span: span._size)
        self._used = []
