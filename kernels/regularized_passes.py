"""Forward and backward of some rows through normalized layers and dropout: passes.py for networks that are not plain.

Both stop where a layer is normalized over the batch, if asked to, for there every row needs all others.
"""

from .activation import LOG_SOFTMAX, activate_elements_backward, copy_elements, is_row_wise
from .dropout import drop_elements
from .epilogue import Store, activate_rows
from .gemm import linear_product, product
from .jit import glue
from .layout import rows_at
from .normalization import (
    BATCH,
    LAYER,
    normalize_columns,
    normalize_columns_backward,
    normalize_rows,
    normalize_rows_backward,
    scale_and_shift,
)
from .operand import Operand, shifted, transposed
from .regularized_step import DU, FACTORS, KEPT, NORMALIZED, columns_of, extra_at, keeps_output, mask_of, upper_gradient
from .simd import advance
from .softmax import softmax_rows_backward
from .step import dz_of, saved_of
from .table import ACTIVATION, BIAS, DROPOUT, IN, NORMALIZATION, OUT, RECORD, SCALE, weights_of


@glue
def _finish_forward(step, regular, layer, row, m, buffer):
    """From the product, for NORMALIZED layers there and else where the pre-activation belongs, to the output."""
    table = step.table
    n, normalization = table[layer, OUT], table[layer, NORMALIZATION]
    u = saved_of(step, layer, row)
    if normalization > 0:
        normalized = extra_at(step, regular, layer, NORMALIZED, row)
        if normalization == LAYER:
            normalize_rows(normalized, m, n, extra_at(step, regular, layer, FACTORS, row))
        else:
            mean, _ = columns_of(step, regular, layer)
            normalize_columns(normalized, m, n, mean, advance(mean, n))
        scale = advance(step.parameters, table[layer, SCALE])
        scale_and_shift(normalized, scale, advance(scale, n), u, m, n)
    out = rows_at(step.activations, step.rows, table[layer, RECORD], layer, row, n)
    keeps = keeps_output(table, layer)
    y = extra_at(step, regular, layer, KEPT, row) if keeps else out
    activate_rows(table[layer, ACTIVATION], u, y, m, n, buffer)
    if regular.trains and table[layer, DROPOUT] > 0:
        drop_elements(y, out, row * n, m * n, mask_of(step, regular, layer))
    elif keeps:
        copy_elements(y, out, m * n)


@glue
def forward_until(step, regular, row, m, layer, stops, buffer, scratch):
    """m rows forward from the x^ of a layer, or from x if layer is -1; if `stops`, until one over the batch has its z.

    Returns the layer at which it stopped, one that is normalized over the batch, or the number of layers.
    """
    table = step.table
    while True:
        source = step.x
        if layer >= 0:
            _finish_forward(step, regular, layer, row, m, buffer)
            n = table[layer, OUT]
            source = Operand(rows_at(step.activations, step.rows, table[layer, RECORD], layer, 0, n), n, 1)
        layer += 1
        if layer == table.shape[0]:
            break
        n, normalization = table[layer, OUT], table[layer, NORMALIZATION]
        target = saved_of(step, layer, row)
        if normalization > 0:
            target = extra_at(step, regular, layer, NORMALIZED, row)
        weight, bias = weights_of(table, layer, step.parameters), advance(step.parameters, table[layer, BIAS])
        linear_product(m, n, table[layer, IN], shifted(source, row, 0), weight, bias, Store(target, n), scratch)
        if stops and normalization == BATCH:
            break
    return layer


@glue
def _begin_backward(step, regular, layer, row, m, saved_per_row, buffer):
    """From the gradient with respect to a layer's output to that of its pre-activation, in place; over rows to dz too.

    saved_per_row: rows have saved values of their own, not all those of `row`.
    """
    table = step.table
    n, activation = table[layer, OUT], table[layer, ACTIVATION]
    here = upper_gradient(step, regular, layer, row)
    if regular.trains and table[layer, DROPOUT] > 0:
        drop_elements(here, here, row * n, m * n, mask_of(step, regular, layer))
    saved = saved_of(step, layer, row)
    if keeps_output(table, layer):
        saved = extra_at(step, regular, layer, KEPT, row)
    stride = n if saved_per_row else 0
    if is_row_wise(activation):
        for i in range(m):
            down = advance(here, i * n)
            copy_elements(down, buffer, n)
            softmax_rows_backward(buffer, advance(saved, i * stride), down, 1, n, activation == LOG_SOFTMAX)
    else:
        count, pieces = (m * n, 1) if saved_per_row else (n, m)
        for i in range(pieces):
            down = advance(here, i * n)
            activate_elements_backward(activation, down, saved, down, count)
    if table[layer, NORMALIZATION] == LAYER:
        normalize_rows_backward(
            here,
            extra_at(step, regular, layer, NORMALIZED, row),
            extra_at(step, regular, layer, FACTORS, row),
            advance(step.parameters, table[layer, SCALE]),
            dz_of(step, layer, row),
            m,
            n,
            stride,
        )


@glue
def backward_until(step, regular, row, m, layer, begun, saved_per_row, stops, buffer, scratch):
    """m rows back to the dz of the first layer; if `stops`, or until a layer normalized over the batch has its du.

    begun: the layer has its du, and now the sums over the batch; else it has the gradient with respect to its output.
    """
    table = step.table
    while True:
        n, k, over_batch = table[layer, OUT], table[layer, IN], table[layer, NORMALIZATION] == BATCH
        if not begun:
            _begin_backward(step, regular, layer, row, m, saved_per_row, buffer)
            if stops and over_batch:
                break
        begun = False
        if over_batch:
            mean, slopes = columns_of(step, regular, layer)
            normalize_columns_backward(
                extra_at(step, regular, layer, DU, row),
                extra_at(step, regular, layer, NORMALIZED, row),
                advance(mean, n),
                advance(step.parameters, table[layer, SCALE]),
                slopes,
                advance(slopes, n),
                dz_of(step, layer, row),
                m,
                n,
                n if saved_per_row else 0,
            )
        if layer == 0:
            break
        below = upper_gradient(step, regular, layer - 1, row)
        dz, weight = Operand(dz_of(step, layer, row), n, 1), weights_of(table, layer, step.parameters)
        product(m, k, n, dz, transposed(weight), Store(below, k), scratch)
        layer -= 1
