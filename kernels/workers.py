"""Workers: functions that are compiled once for each dtype, and called by the address of their machine code."""

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .compilation import aside, without_collector
from .jit import glue, inner
from .requirement import PROVIDERS, Requirement, note_requirement
from .slots import fill_slot, look_up, take_slots

FLOATS = np.dtype(np.float32), np.dtype(np.float64)


class Worker:
    """A function with a fixed signature for each dtype, compiled once and called by the address of its machine code.

    Linked in the usual way it would be compiled again in each of the four layers that Numba puts between a parallel
    loop and its caller: the first parallel gradient took 56 s so, and takes a fifth of that by address.
    """

    def __init__(self, function, signature):
        self.function = function
        self.__module__, self.__qualname__ = function.__module__, function.__qualname__
        self.slots = take_slots(self)
        self._compiled = inner(function)
        self._signature = signature
        self._addresses = {}
        self._name = f"{function.__module__}.{function.__qualname__}"
        PROVIDERS[self._name] = self

    def __reduce__(self):
        # By its name: in another process its addresses mean nothing.
        return self.__qualname__

    def address(self, dtype):
        """The address of the worker for float32 or float64 arrays; compiles it at the first call."""
        address = self._addresses.get(dtype)
        return aside(self._compile_for, dtype) if address is None else address

    def provide(self, dtype_name):
        """Be there for machine code that comes out of a cache.

        The first to call it may be threads of Numba's pool alone, which cannot compile (`slots._find`).
        """
        self.address(np.dtype(dtype_name))

    def emit_row(self, context, builder, element):
        """The row of SLOTS for arrays of this element type, in machine code that requires the worker."""
        dtype = np.dtype(element.name)
        note_requirement(context, builder, Requirement(self._name, dtype.name))
        return context.get_constant(types.intp, self.slots[dtype])

    def _compile_for(self, dtype):
        if dtype not in FLOATS:
            raise TypeError(f"expected arrays of float32 or float64, got {dtype}")
        arguments = self._signature(numba.from_dtype(dtype))
        with without_collector():
            self._compiled.compile(arguments)
        result = self._compiled.overloads[arguments]
        address = self._addresses[dtype] = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        fill_slot(self.slots[dtype], address)
        return address


def worker(signature):
    """Make a `Worker`; signature: the argument types as a function of the element type."""
    return lambda function: Worker(function, signature)


def finder(worker):
    """A function for compiled code: the worker's address for the dtype of an array, compiled when its caller is."""

    @intrinsic
    def row_of(typingctx, array):
        def codegen(context, builder, signature, args):
            return worker.emit_row(context, builder, signature.args[0].dtype)

        # Compiled when its caller is; machine code alone would only name it.
        worker.address(np.dtype(array.dtype.name))
        return types.intp(array), codegen

    @glue
    def find(array):
        return look_up(row_of(array))

    return find


@glue
def part(total, index, parts):
    """First element of part `index` when `total` is shared evenly."""
    return index * total // parts


def call_address(context, builder, address, kinds, values):
    """Call machine code at an address that takes such types and returns nothing."""
    callee = builder.inttoptr(address, context.call_conv.get_function_type(types.void, kinds).as_pointer())
    context.call_conv.call_function(builder, callee, types.void, kinds, values)


@intrinsic
def call(typingctx, address, arguments):
    """Call a worker, which returns nothing, with a tuple of exactly the arguments of its signature.

    An array's layout is not part of its representation, so a C-contiguous one may go where the signature has any.
    """
    sig = types.void(address, arguments)

    def codegen(context, builder, signature, args):
        kinds = tuple(signature.args[1])
        call_address(context, builder, args[0], kinds, cgutils.unpack_tuple(builder, args[1], len(kinds)))
        return context.get_dummy_value()

    return sig, codegen
