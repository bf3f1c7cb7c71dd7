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
# npy_intp *strides; PyObject *base; PyArray_Descr *descr; int flags. NumPy's macros read them so in all extension
# modules that were ever compiled: the order is a part of its binary interface, as is NPY_ARRAY_C_CONTIGUOUS.
DATA = object.__basicsize__ // ctypes.sizeof(ctypes.c_void_p)
TYPE, AXES, DIMENSIONS, STRIDES, FLAGS = DATA - 1, DATA + 1, DATA + 2, DATA + 3, DATA + 6
CONTIGUOUS = 1
# By this name machine code, which caches hold, finds numpy.ndarray in every process.
NDARRAY_NAME = "fastnn_ndarray"
llvm.add_symbol(NDARRAY_NAME, id(np.ndarray))

WORD, INT = ir.IntType(64), ir.IntType(32)


class _Fields:
    """The words of an object, and the arrays of words that they point to."""

    def __init__(self, builder, obj):
        self.builder = builder
        self._start = builder.bitcast(obj, WORD.as_pointer())

    def word(self, place):
        return self.builder.load(self.builder.gep(self._start, [WORD(place)]))

    def integer(self, place):
        return self.builder.trunc(self.word(place), INT)

    def pointed(self, place, index):
        start = self.builder.inttoptr(self.word(place), WORD.as_pointer())
        return self.builder.load(self.builder.gep(start, [index]))


class Borrowed(types.Array):
    """The type of an array that is borrowed; to Numba's functions an array like others, with no owner."""

    def __repr__(self):
        # Files of the cache are named by it.
        return f"{type(self).__name__}{super().__repr__()}"

    def fits(self, fields):
        return fields.builder.icmp_signed("==", fields.integer(AXES), INT(self.ndim))

    def shape_and_strides(self, fields, itemsize):
        return [[fields.pointed(place, WORD(axis)) for axis in range(self.ndim)] for place in (DIMENSIONS, STRIDES)]


class Flat(Borrowed):
    """The type of an array of any number of axes that is borrowed as one axis, of stride 0 if it is not C-contiguous.

    An activation of 4 x 4 numbers took 0.82 us when x and out were reshaped before, and takes 0.42 (Zen 5).
    """

    def fits(self, fields):
        return cgutils.true_bit

    def shape_and_strides(self, fields, itemsize):
        builder = fields.builder
        size = cgutils.alloca_once_value(builder, WORD(1))
        with cgutils.for_range(builder, builder.zext(fields.integer(AXES), WORD)) as loop:
            builder.store(builder.mul(builder.load(size), fields.pointed(DIMENSIONS, loop.index)), size)
        contiguous = builder.trunc(builder.and_(fields.integer(FLAGS), INT(CONTIGUOUS)), ir.IntType(1))
        return [builder.load(size)], [builder.select(contiguous, itemsize, WORD(0))]


register_model(Borrowed)(models.ArrayModel)
register_model(Flat)(models.ArrayModel)


@unbox(Borrowed)
def _read(kind, obj, c):
    builder, fields = c.builder, _Fields(c.builder, obj)
    array = c.context.make_array(kind)(c.context, builder)
    result = cgutils.alloca_once_value(builder, array._getvalue())
    # Numba takes an object for an array if it says so itself, as arrays on GPUs do.
    fits = cgutils.alloca_once_value(builder, cgutils.false_bit)
    with builder.if_then(_is_array(c, fields.word(TYPE))), builder.if_then(kind.fits(fields)):
        builder.store(cgutils.true_bit, fits)
        itemsize = c.context.get_constant(types.intp, as_dtype(kind.dtype).itemsize)
        shape, strides = kind.shape_and_strides(fields, itemsize)
        populate_array(
            array,
            data=builder.inttoptr(fields.word(DATA), array.data.type),
            shape=shape,
            strides=strides,
            itemsize=itemsize,
            meminfo=None,
            parent=None,
        )
        builder.store(array._getvalue(), result)
    failed = builder.not_(builder.load(fits))
    with builder.if_then(failed, likely=False):
        axes = "" if isinstance(kind, Flat) else f" of {kind.ndim} axes"
        c.pyapi.err_set_string("PyExc_TypeError", f"expected a NumPy array{axes}")
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
def layout_is_known():
    """Whether arrays are laid out so here, as seen from two."""
    if ctypes.sizeof(ctypes.c_void_p) != 8:
        return False
    whole = np.zeros((3, 5), np.int16)
    return all(_laid_out_so(array) for array in (whole, whole[:, ::2]))


def _laid_out_so(array):
    words = ctypes.cast(id(array), ctypes.POINTER(ctypes.c_int64))
    numbers = lambda place: tuple(ctypes.cast(words[place], ctypes.POINTER(ctypes.c_int64))[:2])
    start = words[TYPE], words[DATA], words[AXES] & 0xFFFFFFFF, words[FLAGS] & CONTIGUOUS
    # In this order: what is no address is not followed.
    return start == (id(np.ndarray), array.ctypes.data, array.ndim, int(array.flags.c_contiguous)) and (
        (numbers(DIMENSIONS), numbers(STRIDES)) == (array.shape, array.strides)
    )


def borrowed(kind):
    """A type of arguments with a borrowed array in the place of an array; arrays in tuples stay what they are."""
    if type(kind) is not types.Array or not layout_is_known():
        return kind
    return _as(Borrowed, kind)


def flat(kind):
    """A type of arguments for arrays of any number of axes in the place of one of 1 axis, if `layout_is_known`."""
    return _as(Flat, kind) if layout_is_known() else kind


def _as(borrowed_kind, kind):
    return borrowed_kind(kind.dtype, kind.ndim, kind.layout, readonly=not kind.mutable, aligned=kind.aligned)
