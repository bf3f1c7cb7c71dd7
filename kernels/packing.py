"""Copies of an operand in the order in which the micro-kernel reads it, so that large strides cost nothing in its loop.

    packed[s, p, j] = b[p, s * NR + j]        s: sliver of NR columns, p < k
"""

from .jit import inner
from .microkernel import copy_panel_row, panel_columns
from .simd import advance, load, store, transpose_square, vector_lanes


@inner
def pack_b(b, row_stride, column_stride, k, n, packed):
    """Pack k x n elements of b, b[p, j] = b[p * row_stride + j * column_stride]; the last sliver is not padded."""
    nr = panel_columns(packed)
    for first in range(0, n, nr):
        sliver = advance(packed, first * k)
        source = advance(b, first * column_stride)
        columns = min(nr, n - first)
        if column_stride == 1:
            _copy_sliver(source, row_stride, k, columns, sliver)
        elif row_stride == 1:
            _transpose_sliver(source, column_stride, k, columns, sliver)
        else:
            for p in range(k):
                for j in range(columns):
                    store(sliver, p * nr + j, load(source, p * row_stride + j * column_stride))


@inner
def _copy_sliver(source, row_stride, k, columns, sliver):
    nr = panel_columns(sliver)
    if columns == nr:
        for p in range(k):
            copy_panel_row(advance(source, p * row_stride), advance(sliver, p * nr))
    else:
        for p in range(k):
            for j in range(columns):
                store(sliver, p * nr + j, load(source, p * row_stride + j))


@inner
def _transpose_sliver(source, column_stride, k, columns, sliver):
    """The columns of the sliver lie contiguous in the source: squares go through registers, the rest one by one."""
    nr = panel_columns(sliver)
    lanes = vector_lanes(sliver)
    square_columns = columns - columns % lanes
    square_k = k - k % lanes
    for p in range(0, square_k, lanes):
        for j in range(0, square_columns, lanes):
            transpose_square(
                advance(source, j * column_stride + p), column_stride, advance(sliver, p * nr + j), nr
            )
        for j in range(square_columns, columns):
            for i in range(lanes):
                store(sliver, (p + i) * nr + j, load(source, j * column_stride + p + i))
    for p in range(square_k, k):
        for j in range(columns):
            store(sliver, p * nr + j, load(source, j * column_stride + p))
