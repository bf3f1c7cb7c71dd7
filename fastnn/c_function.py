"""Networks for C: what `Sequential.cfunc` gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .kernels.c_callable import c_callable

if TYPE_CHECKING:
    from scipy import LowLevelCallable

    from .sequential import Sequential


class CFunction:
    """A network as a C function void f(const T *x, T *y), T float or double as the network's dtype.

    x holds in_features numbers, y receives out_features; both contiguous, not overlapping. The function reads the
    model's parameters where they are: training on changes what it gives. Any thread may call it, several at a time.
    Make one and keep it: each is compiled anew, into 1 MB of memory that Numba never gives back.

    Attributes:
        net: the model, which lives as long as this object or its `ctypes` function.
        address: the function pointer, an int; valid as long as this object.
        ctypes: the same as a ctypes function.

    >>> import ctypes
    >>> import numpy as np
    >>> from fastnn import MLP
    >>> net = MLP([2, 8, 1], seed=0)
    >>> function = net.cfunc()
    >>> x, y = np.ones(2, np.float32), np.empty(1, np.float32)
    >>> pointer = ctypes.POINTER(ctypes.c_float)
    >>> function.ctypes(x.ctypes.data_as(pointer), y.ctypes.data_as(pointer))
    >>> bool(y == net.predict(x))
    True
    """

    def __init__(self, net: Sequential) -> None:
        self.net = net
        function = self._make("map")
        self.ctypes: Callable[..., None] = function
        self.address: int = function.compiled.address

    def _make(self, kind):
        compiled, function = c_callable(self.net.network, kind)
        # Who holds the function alone holds what it needs.
        function.compiled, function.net = compiled, self.net
        return function

    def low_level_callable(self, kind: str = "integrand") -> LowLevelCallable:
        """The network as a `scipy.LowLevelCallable`.

        Args:
            kind: "integrand" for scipy.integrate.quad, dblquad, tplquad and nquad: a float64 network with one output,
                its inputs the variables (the value is nan for another number of them); or "filter" for
                scipy.ndimage.generic_filter, its inputs the pixels (SciPy raises for another number).

        Raises:
            ImportError: SciPy is not installed.
            ValueError: another kind, or a network that SciPy could not call so: one of several outputs, or of float32.

        >>> from scipy.integrate import quad
        >>> from fastnn import MLP
        >>> net = MLP([1, 1], dtype="float64", seed=0)
        >>> net.parameters = [2.0, 1.0]
        >>> round(quad(net.cfunc().low_level_callable(), 0, 1)[0], 12)
        2.0
        """
        if kind not in ("integrand", "filter"):
            raise ValueError(f"kind: expected 'integrand' or 'filter', got {kind!r}")
        if self.net.out_features != 1 or self.net.dtype != "float64":
            raise ValueError(
                f"low_level_callable: expected a float64 network with one output, got {self.net.dtype} with "
                f"{self.net.out_features}"
            )
        try:
            from scipy import LowLevelCallable
        except ImportError as error:
            raise ImportError('low_level_callable needs SciPy: pip install "scipy>=1.12"') from error
        return LowLevelCallable(self._make(kind))

    def __reduce__(self):
        # An address means nothing in another process: there the function is made anew.
        return CFunction, (self.net,)

    def __repr__(self):
        element = "double" if self.net.dtype == "float64" else "float"
        return f"<void f(const {element} x[{self.net.in_features}], {element} y[{self.net.out_features}])>"
