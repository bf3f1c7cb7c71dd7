"""The dense layer: forward, both backward products and the outer-product update, each over rectangles of its result.

linear                       out = f(x @ weight + bias)          x (m, k), weight (k, n), bias (n), out (m, n)
linear_backward_input        out = dz @ weight.T                 dz (m, n), out (m, k)
linear_backward_parameters   dweight = x.T @ dz, dbias = sum of dz over rows
outer_update                 weight -= rate x.T @ dz, bias -= rate (sum of dz over rows), no gradient written out
"""

import numpy as np
from numba import float64, intp

from .activation import ACTIVATIONS, is_row_wise
from .argument_checks import require_all, require_arrays
from .dot import is_narrow
from .epilogue import Activate, Store, finish, landing, make_update, moved
from .gemm import linear_product, linear_scratch, narrow_layer, packs_panel, product, product_scratch, row_product
from .jit import glue, inner, kernel, locked_kernel, plain, serial_in_njit
from .launch import run
from .lock import let_lock_go, take_lock
from .microkernel import one_of, panel_columns, row_tile, row_tile_columns, tile_columns
from .operand import Operand, Rows, operand, rows_of, shifted, shifted_rows, transposed
from .optimizer import plain_rule
from .simd import (
    advance,
    constant,
    flat_pointer,
    itemsize,
    keep_alive,
    lanes_of,
    load_vector,
    pointer,
    store_vector,
)
from .symbols import shared
from .threads import threads_for
from .workers import finder, part, worker

# Multiply-adds from which another thread pays for its launch, some 0.6 us, and for what it packs or reads anew. On one
# Zen 5 core and on two 48 x 64 x 64 take 2.3 and 2.1 us, 64 x 64 x 64 2.8 and 2.4; steps of 64-64-10 with 32 rows 4.2
# and 4.4, of 30-100-1 with 64 rows 5.5 and 5.1.
GRAIN = 100_000
# With so few rows the weights' way from the cache takes the time, not their multiplications: what counts is how many
# bytes of weights a thread has. One row through 784-256-128-10, whose first layer has 800 KB, takes 7.3 us on one Zen 5
# core and 8.0 on two; through 512-512-10, with 1 MB, 10.1 and 7.3; in float64 the first takes 18.4 and 12.3.
FEW_ROWS = 4
FEW_ROWS_BYTES = 440_000
LEAST_GRAIN = FEW_ROWS_BYTES // 8
# What an element of b counts when threads share out a product a @ b, where one of a counts 2. b packed counts most, for
# each thread that needs a part of it packs that; b read in place least, for its rows are streams that halves of them
# would break: 128 x 784 x 256 on two threads took 111 us by columns and takes 106 by rows, 200 x 400 x 400 139 and 136.
# In x.T @ dz other threads have just written much of both, so they count alike: 50 x 256 weights by 200 rows are cut
# by columns. A step of 50-256-128-1 in float64 took 260 us when all threads had rows, and takes 256. Columns are cut
# evenly then or not at all: digits, 64-100-10, took 2 % longer with 48 and 52 of them than by rows (Zen 5).
IN_PLACE, FRESH, PACKED = 1, 2, 4


@plain
def grain_of(rows, size):
    """Multiply-adds from which another thread pays, for a batch of so many rows of elements of `size` bytes."""
    return FEW_ROWS_BYTES // size if rows <= FEW_ROWS else GRAIN


@shared
def column_sums(m, n, dz, out):
    """out[j] = sum over i of dz[i, j], in the order of i; dz is Rows.

    It is the row 1 @ dz: an fma does not round its product with 1. By vectors down dz, one after the other, the sums of
    200 x 100 numbers in float64 took 1.24 us, now 0.75, those of 1024 x 512 270 and 44.
    """
    for j in range(0, n, lanes_of(out)):
        store_vector(out, j, n, constant(0.0, load_vector(out, j, 0)))
    width = row_tile_columns(out)
    for j in range(0, n, width):
        here = Rows(advance(out, j), n)
        row_tile(1, min(width, n - j), m, Operand(one_of(out), 0, 0), shifted_rows(dz, 0, j), here, here)


@glue
def new_scratch(out, m, n, k, contiguous):
    """Scratch for `product` of these sizes, of the dtype of `out`; contiguous: whether the rows of b are."""
    p = pointer(out)
    return np.empty(product_scratch(m, n, k, itemsize(p), panel_columns(p), contiguous, False), out.dtype)


@plain
def column_unit_of(size):
    """Columns between the places where threads may cut a result: slivers, and lines where those are longer.

    Without AVX2 a sliver of float64 is half a line, and as narrow as a layer that is summed in another way, with
    another scratch (dot.py): no piece of a wide layer may be.
    """
    return max(tile_columns(size), 64 // size)


@glue
def column_unit(p):
    """`column_unit_of` elements like those at p."""
    return column_unit_of(itemsize(p))


@inner
def grid_rows(m, n, threads, unit, read_b):
    """How many ways to split m rows when threads share m x n elements: the split that reads the operands least.

    unit: a `column_unit`. read_b: IN_PLACE, FRESH or PACKED.
    """
    best, least = threads, read_b * threads * n + 2 * m
    for columns in range(2, threads + 1):
        rows = threads // columns
        fits = n % (columns * unit) == 0 if read_b == FRESH else columns * unit <= n
        if rows * columns == threads and fits and read_b * rows * n + 2 * columns * m < least:
            best, least = rows, read_b * rows * n + 2 * columns * m
    return best


@glue
def cell_of(m, n, threads, cell, unit, whole_rows, read_b):
    """(first row, last row, first column, last column) of one thread's rectangle of m x n elements.

    A rectangle of some of the columns has at least `unit` of them.
    """
    rows = threads if whole_rows else grid_rows(m, n, threads, unit, read_b)
    columns = threads // rows
    i, j = cell // columns, cell % columns
    units = (n + unit - 1) // unit
    first, last = part(units, j, columns) * unit, min(n, part(units, j + 1, columns) * unit)
    return part(m, i, rows), part(m, i + 1, rows), first, last


@glue
def linear_cell(m, n, k, x, weight, bias, activation, out, buffer, scratch):
    """f(x @ weight + bias) for m x n elements of a result, Rows; x and weight are Operands at its first row and column.

    buffer holds a row for softmax and log_softmax. `product` would find the first two cases itself, but is a call more:
    by it alone a sample of 4-32-32-1 in compiled code took 92 ns instead of 79, one of 4-1 24 instead of 18 (Zen 5).
    """
    epilogue = Activate(activation, out.pointer, out.row_stride, False, out.pointer, buffer, False)
    if is_narrow(out.row_stride, k):
        narrow_layer(m, n, k, x, weight, bias, epilogue, scratch)
    elif m == 1 and weight.column_stride == 1:
        row_product(n, k, x.pointer, x.column_stride, Rows(weight.pointer, weight.row_stride), bias, out.pointer)
        finish(epilogue, out, 0, 0, 1, n)
    else:
        linear_product(m, n, k, x, weight, bias, epilogue, scratch)


@glue
def linear_part(x, weight, bias, activation, out, index, parts):
    """One thread's rectangle of `linear`, with scratch of its own."""
    m, k = x.shape
    n = out.shape[1]
    whole_rows = is_row_wise(activation)
    p = flat_pointer(out)
    contiguous = weight.strides[1] == weight.itemsize
    packs = packs_panel(m, n, k, itemsize(p), contiguous)
    r0, r1, c0, c1 = cell_of(m, n, parts, index, column_unit(p), whole_rows, PACKED if packs else IN_PLACE)
    if r1 > r0 and c1 > c0:
        size = linear_scratch(r1 - r0, c1 - c0, k, itemsize(p), panel_columns(p), contiguous, whole_rows)
        scratch = np.empty(size, out.dtype)
        q = pointer(scratch)
        linear_cell(
            r1 - r0,
            c1 - c0,
            k,
            shifted(operand(x), r0, 0),
            shifted(operand(weight), 0, c0),
            advance(flat_pointer(bias), c0),
            activation,
            Rows(advance(p, r0 * n + c0), n),
            # The last n elements of scratch are a row for softmax and log_softmax.
            advance(q, scratch.size - (c1 - c0)),
            q,
        )
        keep_alive(scratch)


@glue
def _require_linear(x, weight, bias, activation, out):
    require_arrays("strided x 2, strided weight 2, flat bias 1, result out 2", (x, weight, bias, out))
    k, n = weight.shape
    require_all(
        (x.shape == (out.shape[0], k), bias.shape == (n,), out.shape == (x.shape[0], n), 0 <= activation < ACTIVATIONS),
        (
            "x: expected the rows of out and a column for each row of weight",
            "bias: expected a number for each column of weight",
            "out: expected a column for each of weight",
            "activation: expected an Activation",
        ),
    )


@worker(lambda t: (t[:, :], t[:, :], t[::1], intp, t[:, ::1], intp, intp))
def linear_worker(x, weight, bias, activation, out, index, parts):
    linear_part(x, weight, bias, activation, out, index, parts)


@kernel
def linear_serial(x, weight, bias, activation, out):
    """out = f(x @ weight + bias) on this thread; arrays as `linear` takes them."""
    _require_linear(x, weight, bias, activation, out)
    linear_part(x, weight, bias, activation, out, 0, 1)


find_linear = finder(linear_worker)


@locked_kernel
def linear_parallel(x, weight, bias, activation, out, threads):
    """`linear_serial` with the result cut into one rectangle for each thread."""
    _require_linear(x, weight, bias, activation, out)
    worker = find_linear(out)
    state = let_lock_go(out.size + x.shape[0] * weight.size)
    run(worker, (x, weight, bias, activation, out), threads)
    take_lock(state)


@serial_in_njit(linear_serial)
def linear(x, weight, bias, activation, out):
    """out = f(x @ weight + bias), bias and activation applied to each block while it is in cache.

    Args:
        x: (m, k) float32 or float64, any strides.
        weight: (k, n) of the same dtype, any strides; contiguous rows are fastest.
        bias: (n,) contiguous.
        activation: an `Activation`.
        out: (m, n) C-contiguous; must not overlap an input.

    From Python, large work is shared by threads; inside compiled code this is the serial worker. Scratch for
    packing is allocated per call.

    >>> x, weight = np.array([[1.0, 2.0], [3.0, -4.0]]), np.array([[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]])
    >>> bias, out = np.array([0.5, 0.0, 0.0]), np.empty((2, 3))
    >>> kernels.linear(x, weight, bias, kernels.Activation.RELU, out)
    >>> out
    array([[1.5, 2. , 4. ],
           [3.5, 0. , 2. ]])
    """
    work = x.shape[0] * weight.size
    # Small work, where 0.1 us of Python is much, is not asked about.
    threads = 1 if work < 2 * LEAST_GRAIN else threads_for(work, grain_of(x.shape[0], out.itemsize))
    # Compiled from here, Ctrl-C does not have to wait for the compiler; so in those below.
    linear_worker.address(out.dtype)
    linear_parallel(x, weight, bias, int(activation), out, threads)


@glue
def _require_backward_input(dz, weight, out):
    require_arrays("strided dz 2, strided weight 2, result out 2", (dz, weight, out))
    k, n = weight.shape
    require_all(
        (dz.shape == (out.shape[0], n), out.shape == (dz.shape[0], k)),
        ("dz: expected the rows of out and the columns of weight", "out: expected a column for each row of weight"),
    )


@glue
def backward_input_part(dz, weight, out, index, parts):
    m, n = out.shape
    k = dz.shape[1]
    p = flat_pointer(out)
    r0, r1, c0, c1 = cell_of(m, n, parts, index, column_unit(p), False, PACKED)
    if r1 > r0 and c1 > c0:
        here = advance(p, r0 * n + c0)
        scratch = new_scratch(out, r1 - r0, c1 - c0, k, weight.strides[0] == weight.itemsize)
        left, right = shifted(operand(dz), r0, 0), shifted(transposed(operand(weight)), 0, c0)
        product(r1 - r0, c1 - c0, k, left, right, Store(here, n), pointer(scratch))
        keep_alive(scratch)


@worker(lambda t: (t[:, :], t[:, :], t[:, ::1], intp, intp))
def backward_input_worker(dz, weight, out, index, parts):
    backward_input_part(dz, weight, out, index, parts)


@kernel
def linear_backward_input_serial(dz, weight, out):
    """out = dz @ weight.T on this thread; arrays as `linear_backward_input` takes them."""
    _require_backward_input(dz, weight, out)
    backward_input_part(dz, weight, out, 0, 1)


find_backward_input = finder(backward_input_worker)


@locked_kernel
def linear_backward_input_parallel(dz, weight, out, threads):
    """`linear_backward_input_serial` with the result cut into one rectangle for each thread."""
    _require_backward_input(dz, weight, out)
    worker = find_backward_input(out)
    state = let_lock_go(dz.shape[0] * weight.size)
    run(worker, (dz, weight, out), threads)
    take_lock(state)


@serial_in_njit(linear_backward_input_serial)
def linear_backward_input(dz, weight, out):
    """out = dz @ weight.T, the gradient with respect to the layer's input.

    Args:
        dz: (m, n) float32 or float64, any strides: gradient with respect to the pre-activation.
        weight: (k, n), any strides.
        out: (m, k) C-contiguous; must not overlap an input. All of one dtype.

    >>> dz, weight = np.array([[1.0, -1.0]]), np.array([[1.0, 2.0], [3.0, 5.0], [7.0, 7.0]])
    >>> dx = np.empty((1, 3))
    >>> kernels.linear_backward_input(dz, weight, dx)
    >>> dx
    array([[-1., -2.,  0.]])
    """
    threads = threads_for(dz.shape[0] * weight.size, GRAIN)
    backward_input_worker.address(out.dtype)
    linear_backward_input_parallel(dz, weight, out, threads)


@glue
def parameters_cell(k, n, parts, index, p):
    """The rectangle of [weight; bias], k + 1 rows of n elements like those at p, whose gradient one thread computes."""
    return cell_of(k + 1, n, parts, index, column_unit(p), False, FRESH)


@glue
def sweep_cell(cell, k, n, batch, x, dz, weight, bias, scratch):
    """x.T @ dz and the sums of dz for a `parameters_cell`, to two epilogues, Stores or Updates.

    x and dz are Operands of so many rows; scratch holds `product_scratch` elements.
    """
    first, last, left, right = cell
    width = right - left
    if last == k + 1 and width > 0:
        last = k
        mine = moved(bias, left, n)
        sums = landing(mine, scratch, n, 0, 0)
        column_sums(batch, width, Rows(advance(dz.pointer, left), dz.row_stride), sums.pointer)
        finish(mine, sums, 0, 0, 1, width)
    if last > first and width > 0:
        here = moved(weight, first * n + left, n)
        product(last - first, width, batch, shifted(transposed(x), first, 0), shifted(dz, 0, left), here, scratch)


@glue
def sweep_cell_allocating(x, dz, like, weight, bias, index, parts):
    """`sweep_cell` for one thread's part of arrays, with scratch of its own; like: an array (k, n)."""
    k, n = like.shape
    batch = dz.shape[0]
    cell = parameters_cell(k, n, parts, index, pointer(like))
    scratch = new_scratch(like, cell[1] - cell[0], cell[3] - cell[2], batch, True)
    sweep_cell(cell, k, n, batch, operand(x), rows_of(dz), weight, bias, pointer(scratch))
    keep_alive(scratch)


@glue
def _require_sweep(x, dz, weight, bias):
    """For gradients of weight and bias as for themselves."""
    require_arrays("strided x 2, flat dz 2, result weight 2, result bias 1", (x, dz, weight, bias))
    k, n = weight.shape
    require_all(
        (x.shape == (dz.shape[0], k), dz.shape == (x.shape[0], n), bias.shape == (n,)),
        (
            "x: expected the rows of dz and a column for each row of the weight",
            "dz: expected a column for each of the weight",
            "bias: expected a number for each column of the weight",
        ),
    )


@glue
def backward_parameters_part(x, dz, dweight, dbias, index, parts):
    weight, bias = Store(flat_pointer(dweight), dweight.shape[1]), Store(flat_pointer(dbias), dbias.size)
    sweep_cell_allocating(x, dz, dweight, weight, bias, index, parts)


@worker(lambda t: (t[:, :], t[:, ::1], t[:, ::1], t[::1], intp, intp))
def backward_parameters_worker(x, dz, dweight, dbias, index, parts):
    backward_parameters_part(x, dz, dweight, dbias, index, parts)


@kernel
def linear_backward_parameters_serial(x, dz, dweight, dbias):
    """dweight = x.T @ dz, dbias = dz.sum(0) on this thread; arrays as `linear_backward_parameters` takes them."""
    _require_sweep(x, dz, dweight, dbias)
    backward_parameters_part(x, dz, dweight, dbias, 0, 1)


find_backward_parameters = finder(backward_parameters_worker)


@locked_kernel
def linear_backward_parameters_parallel(x, dz, dweight, dbias, threads):
    """`linear_backward_parameters_serial` with [weight; bias] shared by threads."""
    _require_sweep(x, dz, dweight, dbias)
    worker = find_backward_parameters(dweight)
    state = let_lock_go(dz.shape[0] * dweight.size)
    run(worker, (x, dz, dweight, dbias), threads)
    take_lock(state)


@serial_in_njit(linear_backward_parameters_serial)
def linear_backward_parameters(x, dz, dweight, dbias):
    """dweight = x.T @ dz and dbias = dz.sum(0), each a sum in the order of the rows.

    Args:
        x: (m, k) float32 or float64, any strides.
        dz: (m, n) C-contiguous: gradient with respect to the pre-activation.
        dweight: (k, n) C-contiguous; dbias: (n,). Neither may overlap an input. All of one dtype.

    >>> x, dz = np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]]), np.array([[1.0], [10.0]])
    >>> dweight, dbias = np.empty((3, 1)), np.empty(1)
    >>> kernels.linear_backward_parameters(x, dz, dweight, dbias)
    >>> dweight.ravel(), dbias
    (array([ 1., 12., 30.]), array([11.]))
    """
    threads = threads_for(dz.shape[0] * dweight.size, GRAIN)
    backward_parameters_worker.address(dweight.dtype)
    linear_backward_parameters_parallel(x, dz, dweight, dbias, threads)


@glue
def outer_update_part(x, dz, learning_rate, weight, bias, index, parts):
    n = weight.shape[1]
    rule = plain_rule(learning_rate)
    p, q = flat_pointer(weight), flat_pointer(bias)
    weights, biases = make_update(rule, p, p, p, n, False), make_update(rule, q, q, q, n, False)
    sweep_cell_allocating(x, dz, weight, weights, biases, index, parts)


@worker(lambda t: (t[:, :], t[:, ::1], float64, t[:, ::1], t[::1], intp, intp))
def outer_update_worker(x, dz, learning_rate, weight, bias, index, parts):
    outer_update_part(x, dz, learning_rate, weight, bias, index, parts)


@kernel
def outer_update_serial(x, dz, learning_rate, weight, bias):
    """weight -= rate x.T @ dz, bias -= rate dz.sum(0) on this thread; arrays as `outer_update` takes them."""
    _require_sweep(x, dz, weight, bias)
    outer_update_part(x, dz, learning_rate, weight, bias, 0, 1)


find_outer_update = finder(outer_update_worker)


@locked_kernel
def outer_update_parallel(x, dz, learning_rate, weight, bias, threads):
    """`outer_update_serial` with [weight; bias] shared by threads."""
    _require_sweep(x, dz, weight, bias)
    worker = find_outer_update(weight)
    state = let_lock_go(dz.shape[0] * weight.size)
    run(worker, (x, dz, learning_rate, weight, bias), threads)
    take_lock(state)


@serial_in_njit(outer_update_serial)
def outer_update(x, dz, learning_rate, weight, bias):
    """weight -= learning_rate * x.T @ dz and bias -= learning_rate * dz.sum(0), the gradient never leaving the cache.

    Args:
        x: (m, k) float32 or float64, any strides.
        dz: (m, n) C-contiguous: gradient with respect to the pre-activation.
        learning_rate: float.
        weight: (k, n) C-contiguous and bias: (n,), updated in place; neither may overlap an input. All of one dtype.

    >>> x, dz = np.array([[1.0, 2.0]]), np.array([[4.0]])
    >>> weight, bias = np.array([[1.0], [1.0]]), np.array([1.0])
    >>> kernels.outer_update(x, dz, 0.125, weight, bias)
    >>> weight.ravel(), bias
    (array([0.5, 0. ]), array([0.5]))
    """
    threads = threads_for(dz.shape[0] * weight.size, GRAIN)
    outer_update_worker.address(weight.dtype)
    outer_update_parallel(x, dz, float(learning_rate), weight, bias, threads)
