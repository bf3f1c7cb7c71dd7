"""Matrices as pointers: what products and networks hand from one to the next."""

from collections import namedtuple

from .jit import glue
from .simd import advance, flat_pointer, pointer

# Element (i, j) of a matrix lies i * row_stride + j * column_stride elements after the pointer.
Operand = namedtuple("Operand", "pointer row_stride column_stride")
# One whose rows are contiguous: column_stride is 1.
Rows = namedtuple("Rows", "pointer row_stride")


@glue
def operand(array):
    """An Operand over a 2-D array of any strides."""
    size = array.itemsize
    return Operand(pointer(array), array.strides[0] // size, array.strides[1] // size)


@glue
def rows_of(array):
    """An Operand over a C-contiguous 2-D array; the strides of an axis of length 1 may say anything."""
    return Operand(flat_pointer(array), array.shape[1], 1)


@glue
def transposed(a):
    return Operand(a.pointer, a.column_stride, a.row_stride)


@glue
def shifted_rows(a, row, column):
    """`shifted` of Rows."""
    return Rows(advance(a.pointer, row * a.row_stride + column), a.row_stride)


@glue
def shifted(a, row, column):
    """The Operand whose first element is a's element (row, column)."""
    return Operand(advance(a.pointer, row * a.row_stride + column * a.column_stride), a.row_stride, a.column_stride)
