"""Copies of an operand in the order in which the micro-kernel reads it, so that large strides cost nothing in its loop.

packed[s, p, j] = b[p, s * NR + j]        s: sliver of NR columns, p < k
"""

from .jit import inner
from .microkernel import copy_panel_row, panel_columns
from .simd import advance, load, store, transpose_square, vector_lanes
from .symbols import shared


@inner
def _pack_elements(source, row_stride, column_stride, first, last, first_column, last_column, sliver):
    """Rows first..last of some columns, one element at a time."""
    nr = panel_columns(sliver)
    for p in range(first, last):
        for j in range(first_column, last_column):
            store(sliver, p * nr + j, load(source, p * row_stride + j * column_stride))


@shared
def pack_b(k, n, b, packed):
    """Pack k x n elements of the Operand b; the last sliver is not padded.

    Whole rows of a sliver are copied as vectors. Where the columns lie contiguous instead, squares are transposed in
    registers.
    """
    nr = panel_columns(packed)
    lanes = vector_lanes(packed)
    row_stride, column_stride = b.row_stride, b.column_stride
    for first in range(0, n, nr):
        sliver = advance(packed, first * k)
        source = advance(b.pointer, first * column_stride)
        columns = min(nr, n - first)
        rows_done, columns_done = 0, 0
        if column_stride == 1 and columns == nr:
            for p in range(k):
                copy_panel_row(advance(source, p * row_stride), advance(sliver, p * nr))
            rows_done, columns_done = k, nr
        elif row_stride == 1:
            rows_done, columns_done = k - k % lanes, columns - columns % lanes
            for j in range(0, columns_done, lanes):
                for p in range(0, rows_done, lanes):
                    square = advance(source, j * column_stride + p)
                    transpose_square(square, column_stride, advance(sliver, p * nr + j), nr)
        _pack_elements(source, row_stride, column_stride, 0, rows_done, columns_done, columns, sliver)
        _pack_elements(source, row_stride, column_stride, rows_done, k, 0, columns, sliver)
