"""Arrays as arguments that a driver borrows from its caller: their addresses and shapes, read from the object itself.

Numba makes a record of ownership for every array that it takes from Python, in 45 ns, since the array may outlive the
call. A driver hands nothing on and keeps nothing, and its caller holds the arguments until it returns. One row through
4-32-32-1 by `predict` took 0.82 us with records, and takes 0.72 without (Zen 5). A driver that raises lets go of its
arrays, which Numba's functions then hold for ever.
"""

import ctypes
import functools

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, models, register_model, unbox
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import as_dtype

# Words of a NumPy array's object: PyObject_HEAD, whose last is ob_type; char *data; int nd; npy_intp *dimensions;
# npy_intp *strides. NumPy's macros read them so in all extension modules that were ever compiled: the order is a part
# of its binary interface.
DATA = object.__basicsize__ // ctypes.sizeof(ctypes.c_void_p)
TYPE, AXES, DIMENSIONS, STRIDES = DATA - 1, DATA + 1, DATA + 2, DATA + 3
# By this name machine code, which caches hold, finds numpy.ndarray in every process.
NDARRAY_NAME = "fastnn_ndarray"
llvm.add_symbol(NDARRAY_NAME, id(np.ndarray))

WORD, AXES_KIND = ir.IntType(64), ir.IntType(32)


class Borrowed(types.Array):
    """The type of an array that is borrowed; to Numba's functions an array like others, with no owner."""

    def __repr__(self):
        # Files of the cache are named by it.
        return f"Borrowed{super().__repr__()}"


register_model(Borrowed)(models.ArrayModel)


@unbox(Borrowed)
def _read(kind, obj, c):
    builder = c.builder
    fields = builder.bitcast(obj, WORD.as_pointer())
    field = lambda place: builder.load(builder.gep(fields, [WORD(place)]))
    array = c.context.make_array(kind)(c.context, builder)
    result = cgutils.alloca_once_value(builder, array._getvalue())
    # Numba takes an object for an array if it says so itself, as arrays on GPUs do.
    axes = builder.icmp_signed("==", builder.trunc(field(AXES), AXES_KIND), AXES_KIND(kind.ndim))
    fits = cgutils.alloca_once_value(builder, cgutils.false_bit)
    with builder.if_then(_is_array(c, field(TYPE))), builder.if_then(axes):
        builder.store(cgutils.true_bit, fits)
        pointer = lambda place: builder.inttoptr(field(place), WORD.as_pointer())
        numbers = lambda place: [builder.load(builder.gep(pointer(place), [WORD(axis)])) for axis in range(kind.ndim)]
        populate_array(
            array,
            data=builder.inttoptr(field(DATA), array.data.type),
            shape=numbers(DIMENSIONS),
            strides=numbers(STRIDES),
            itemsize=c.context.get_constant(types.intp, as_dtype(kind.dtype).itemsize),
            meminfo=None,
            parent=None,
        )
        builder.store(array._getvalue(), result)
    failed = builder.not_(builder.load(fits))
    with builder.if_then(failed, likely=False):
        c.pyapi.err_set_string("PyExc_TypeError", f"expected a NumPy array of {kind.ndim} axes")
    return NativeValue(builder.load(result), is_error=failed)


def _is_array(c, kind):
    """Whether the type at this address is numpy.ndarray or a subclass of it."""
    builder, pointer = c.builder, c.pyapi.voidptr
    ndarray = builder.module.globals.get(NDARRAY_NAME)
    if ndarray is None:
        ndarray = ir.GlobalVariable(builder.module, ir.IntType(8), NDARRAY_NAME)
    found = cgutils.alloca_once_value(builder, builder.icmp_unsigned("==", kind, builder.ptrtoint(ndarray, WORD)))
    with builder.if_then(builder.not_(builder.load(found)), likely=False):
        signature = ir.FunctionType(ir.IntType(32), [pointer, pointer])
        below = cgutils.get_or_insert_function(builder.module, signature, "PyType_IsSubtype")
        answer = builder.call(below, [builder.inttoptr(kind, pointer), ndarray])
        builder.store(cgutils.is_not_null(builder, answer), found)
    return builder.load(found)


@functools.cache
def _layout_is_known():
    """Whether arrays are laid out so here, as seen from one."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    array = np.zeros((3, 5), np.int16)[:, ::2]
    words = ctypes.cast(id(array), ctypes.POINTER(ctypes.c_int64))
    numbers = lambda place: tuple(ctypes.cast(words[place], ctypes.POINTER(ctypes.c_int64))[:2])
    start = words[TYPE], words[DATA], words[AXES] & 0xFFFFFFFF
    # In this order: what is no address is not followed.
    return start == (id(np.ndarray), array.ctypes.data, array.ndim) and (
        (numbers(DIMENSIONS), numbers(STRIDES)) == (array.shape, array.strides)
    )


def borrowed(kind):
    """A type of arguments with a borrowed array in the place of an array; arrays in tuples stay what they are."""
    if type(kind) is not types.Array or not _layout_is_known():
        return kind
    return Borrowed(kind.dtype, kind.ndim, kind.layout, readonly=not kind.mutable, aligned=kind.aligned)
