"""The matrix product: which part of the operands lies in which cache, and what happens to a block when it is done.

    block = init + a @ b,    then finish(epilogue, block) while it is in cache

Loops, from outside: blocks of columns (a panel of b, packed if that pays), blocks of MC rows, blocks of KC of the
inner dimension, then slivers of NR columns and tiles. Threads share out rows or columns around all of this: the inner
dimension is never split between them.
"""

from collections import namedtuple

from .activation import copy_elements
from .dot import dot_products, dot_scratch, is_narrow
from .epilogue import NOT_CONTESTED, contest, finish, landing, needs_whole_rows
from .jit import glue, plain
from .microkernel import (
    DEPTH,
    LOW_ROWS,
    MR,
    TALL,
    fetching_tile,
    low_columns,
    low_tile,
    panel_columns,
    row_step,
    row_steps,
    row_tile,
    row_tile_columns,
    tall_tile,
    tile,
)
from .operand import Operand, Rows, shifted, shifted_rows, transposed
from .packing import pack_b
from .simd import LINE, advance, aligned, constant, itemsize, load, prefetch_to_write, store, vector_lanes
from .symbols import shared

# Rows of a block: with KC they make a part of `a` that stays in L2. Measured on Zen 4 at 512, 1024 and 4096 x 256
# x 256: MC 48 to 192 and KC 128 to 512 differ by less than the noise, but for the weight gradient of large batches:
# 4096 x 784 x 256 gained 2 % by MC 192 instead of 96 and lost 6 to 10 % by KC 512.
MC = 192
KC = 256
# A panel of b is cut to this size; b itself is read in place up to it when its rows are contiguous. Packing costs a
# copy (0.3 cycles an element) and gains nothing while b stays in L2: 115 against 110 GFLOP/s at 128 x 784 x 256.
PANEL_BYTES = 1 << 20
# A packed panel has to serve so many rows of `a` (bytes of a column) to pay for its copy. m x 1024 x 1024 on one core
# in place and packed, in percent of the FMA peak: m = 64: 96, 87; 128: 95, 91; 256: 95, 92; float64, 64: 92, 85; 128:
# 90, 87; and 2048 x 2048 x 2048 91, 93. A b that is larger than a panel and yet not packed is read KC rows at a time:
# panels can then be wide, and `a` is read once. So it is in x.T @ dz too, where reading `a` again is the cost: with
# panels of the whole batch, 64 columns wide, x was read four times, and 4096 x 784 x 256 took 1.13 times as long in
# float32 and 1.3 in float64.
PACK_BYTES = 2048
# Where a's columns are contiguous (x.T of the weight gradient) each step of k reads another row: from this row length
# on blocks of a are copied together, else rows a power of two apart fall on each other in L1 and L2. In place, x.T of
# 1024 x 1024 gave 95 GFLOP/s on one core where x gave 106; the copy brought the same product to about 100. Its rows lie
# an odd number of lines apart, so that they take turns through all sets of L1: 256 x 128 by 200 rows in float64 took
# 132 us with rows end to end (24 lines: every eighth set) and takes 122; float32 takes as long as before (Zen 5).
# Rejected: the copy tile by tile, 6 elements of every row together, 7 % less in float64 as well, 3 % more in float32.
PACK_A_BYTES = 1024

# A b of so many bytes that is read in place is fetched ahead: 64 x 2048 x 2048 on two threads took 1.66 ms and takes
# 1.40, 256 x 1024 x 4096 5.5 and 5.1, in float64 16 x 1024 x 1024 234 and 189 us (Zen 5). A smaller one stays in L2,
# and the hardware reads ahead in a packed one: 128 x 784 x 256 took 3 % longer with it, 512 x 2048 x 2048 as long.
FETCH_BYTES = 1 << 20

# Few rows are multiplied row by row of b (`grow_rows`), not sliver by sliver (`low_tiles`), where b comes from memory,
# and where the rows of a sliver, so many bytes apart or a multiple of it, fall on each other in the caches and push
# each other out. On two Zen 5 cores 2 x 4096 x 4096 took 1.52 ms by tiles and takes 1.29, 8 rows 3.9 and 2.1.
FAR_BYTES = 12 << 20
CONFLICT_BYTES = 8192

# So few columns leave most lanes of a vector empty. Where rows of the result are columns of `a` that lie side by side,
# as in the weight gradient of an output layer, they become the rows of one tile, TURNED columns of it at a time. In
# float32 784 x 3 by 128 rows took 17 us, in float64 21, and take 6 and 10; 100 x 2 by 32 rows 1.25, now 1.0. With 8
# columns, two tiles that each read `a`, float64 gained nothing (Zen 5).
NARROW = MR
TURNED = 256
# Elements of scratch by which its parts, five at most, may be moved to begin on a cache line.
ALIGNMENT_ROOM = 5 * LINE
# Rows of a block of a narrow layer forward, whose weight is copied once for each.
NARROW_ROWS = 256


@plain
def panel_width(n, k, size, nr):
    """Columns of a panel of k rows of b: all of them if they fit, else a multiple of NR."""
    if n * k * size <= PANEL_BYTES:
        return n
    return min(n, max(1, PANEL_BYTES // (k * size * nr)) * nr)


@plain
def packs_panel(m, n, k, size, contiguous):
    """Whether b is packed: always where its rows are not contiguous."""
    return not contiguous or (n * k * size > PANEL_BYTES and m * size >= PACK_BYTES)


@glue
def panel_plan(m, n, k, size, nr, a_turned, b_contiguous):
    """(columns of a panel of b, whether it is packed); a_turned: a's columns are contiguous, b_contiguous: b's rows."""
    panel, wide = panel_width(n, k, size, nr), panel_width(n, min(k, KC), size, nr)
    packs = packs_panel(m, n, k, size, b_contiguous)
    # In place KC rows at a time.
    if b_contiguous and (a_turned or not packs) and (wide == n or wide > 2 * panel):
        return wide, False
    return panel, packs


@plain
def copied_row(m, size):
    """Elements from one row of a copied block of `a` to the next: m and room up to an odd number of cache lines."""
    line = 64 // size
    return ((m + line - 1) // line | 1) * line


@plain
def packing_scratch(m, n, k, size, nr, contiguous, whole_rows):
    """Elements that copies of the operands take: a block of a, a panel of b."""
    packed = 0
    if packs_panel(m, n, k, size, contiguous):
        packed = k * ((n if whole_rows else panel_width(n, k, size, nr)) + nr)
    return copied_row(min(m, MC), size) * min(k, KC) + packed


@plain
def linear_scratch(m, n, k, size, nr, contiguous, whole_rows):
    """Elements of scratch that `linear_product` needs, whose results land in place: copies of the operands, a row."""
    if is_narrow(n, k):
        return ALIGNMENT_ROOM + n + dot_scratch(m, n, k)
    return ALIGNMENT_ROOM + n + packing_scratch(m, n, k, size, nr, contiguous, whole_rows)


@plain
def product_scratch(m, n, k, size, nr, contiguous, whole_rows):
    """Elements of scratch that `product` needs: zeros, a block of results, copies of the operands, a row."""
    width = n if whole_rows else panel_width(n, min(k, KC), size, nr)
    blocks = ALIGNMENT_ROOM + width + min(m, MC) * width + n
    blocks += packing_scratch(m, n, k, size, nr, contiguous, whole_rows)
    if n == 1:
        blocks = max(blocks, column_scratch(m, k, nr))
    return max(blocks, narrow_scratch(m, n)) if n <= NARROW else blocks


@plain
def product_scratch_up_to(m, n, k, size, nr):
    """Enough for `product` with contiguous b and any inner dimension up to k: a smaller one has a wider panel."""
    rows = min(m, MC)
    blocks = ALIGNMENT_ROOM + 2 * n + rows * n + copied_row(rows, size) * KC
    return blocks + PANEL_BYTES // size + 2 * nr * k + column_scratch(m, k, nr)


@plain
def column_scratch(m, k, nr):
    """Elements of scratch that `product` needs for a single column."""
    return ALIGNMENT_ROOM + m + min(k, KC) * (MC + nr)


@plain
def narrow_scratch(m, n):
    """Elements of scratch that `product` needs for few columns: zeros, a block of the result, and the same turned."""
    return ALIGNMENT_ROOM + min(m, TURNED) * (1 + 2 * n)


# Columns of b in slivers of NR: each with contiguous rows, row_stride apart; sliver_stride is from one to the next.
Slivers = namedtuple("Slivers", "pointer row_stride sliver_stride")


@glue
def sliver_of(b, number):
    """The Rows of a sliver."""
    return Rows(advance(b.pointer, number * b.sliver_stride), b.row_stride)


@shared
def multiply_block(m, n, k, a, b, fetches, init, out, contested):
    """out = init + a @ b for a block: m x k elements of the Operand a, Slivers b; init and out are Rows.

    The rows are shared evenly among the tiles: 32 rows are 6 6 5 5 5 5, not 6 6 6 6 6 2, since a low tile wastes the
    latency of its few accumulators; 11 11 10 of one vector.

    contested: Rows of what the block will overwrite in the end, if other threads have read it; the row stride is -1 if
    not, or if it has been fetched before. Where two cores share no cache, a line that the other one has read takes 9 ns
    to write. Fetched under the tile that is being computed, it takes them while the core has other work: steps of
    784-256-128-10 on two such cores took 415 us and take 380, of 50-256-128-2 in float64 387 and 347, of
    1024-1024-1024-10 with Adam 7.4 and 6.9 ms; with a shared cache they take as long as before (Zen 5). On one thread
    it would cost 4-32-32-1 8 %.

    fetches: whether lines of the next sliver come into L2 under a tile, one a step of k. The hardware does not read
    ahead from one sliver to the next where a sliver's rows are pieces of rows of b. See FETCH_BYTES.

    Rejected: rows of its own for each thread, and copies of what the other needs, which writes a word into each line as
    it reads and so makes it cheap to write again. 50-256-128-2 took 315 us, but 5 % more with a shared cache.
    """
    nr = panel_columns(b.pointer)
    lanes, line = vector_lanes(b.pointer), 64 // itemsize(b.pointer)
    for first in range(0, n, nr):
        columns, right = min(nr, n - first), sliver_of(b, first // nr)
        most = TALL if columns <= lanes else MR
        tiles = (m + most - 1) // most
        height = m // tiles
        higher = m - height * tiles
        row = 0
        for t in range(tiles):
            rows = height + (1 if t < higher else 0)
            if contested.row_stride >= 0:
                for i in range(row, row + rows):
                    for j in range(first, first + columns, line):
                        prefetch_to_write(contested.pointer, i * contested.row_stride + j)
            left = shifted(a, row, 0)
            here, there = shifted_rows(init, row, first), shifted_rows(out, row, first)
            if columns <= lanes:
                tall_tile(rows, columns, k, left, right, here, there)
            elif fetches and columns == nr:
                ahead = Rows(right.pointer, 0)
                if t * line < min(nr, n - nr - first):
                    ahead = shifted_rows(sliver_of(b, first // nr + 1), 0, t * line)
                fetching_tile(rows, columns, k, left, right, here, there, ahead)
            else:
                tile(rows, columns, k, left, right, here, there)
            row += rows


@shared
def low_tiles(m, n, k, a, b, init, out):
    """`multiply_block` for as many rows as `low_columns` has columns for, and more columns than a sliver; b is Rows.

    All rows are one tile. Tiles are of even width: one of few sums under way waits for each of them.
    """
    lanes = vector_lanes(b.pointer)
    widest, vectors = low_columns(m, b.pointer) // lanes, (n + lanes - 1) // lanes
    tiles = (vectors + widest - 1) // widest
    width = (vectors + tiles - 1) // tiles * lanes
    for first in range(0, n, width):
        here, there = shifted_rows(init, 0, first), shifted_rows(out, 0, first)
        low_tile(m, min(width, n - first), k, a, shifted_rows(b, 0, first), here, there)


@shared
def grow_rows(m, n, k, a, b, init, out):
    """out = init + a @ b for few rows, b being Rows: it is read once, and in the order in which it lies.

    The result grows in L1 by DEPTH rows of b at a time. By tiles of one row, 64 columns wide, each step of k jumped by
    a whole row of b: 1024-1024-1024-10 took 177 us for a row, now 74 on two threads and 109 on one (Zen 4, 77 GB/s;
    DEPTH 4 to 12 and prefetching were no faster; Zen 5: 2 instead of 8 took 3 to 17 % longer, tiles of 256 columns 9 %
    less for 1024 x 1024 and 35 % more for 4096 x 4096). Two threads reach 107 GB/s on halves of rows, which are half a
    page each, and 180 on a copy where each one's columns lie together: in place, where a user may change a weight at
    any time, the hardware's prefetching begins anew with every row.
    """
    for i in range(m):
        copy_elements(shifted_rows(init, i, 0).pointer, shifted_rows(out, i, 0).pointer, n)
    steps = k - k % DEPTH
    for p in range(0, steps, DEPTH):
        row_steps(m, n, shifted(a, 0, p), shifted_rows(b, p, 0), out)
    for p in range(steps, k):
        row_step(m, n, shifted(a, 0, p), shifted_rows(b, p, 0), out)


@shared
def row_product(n, k, x, x_k, b, init, out):
    """out = init + x @ b for one row, b being Rows. No more columns than a `row_tile` has stay in registers."""
    if n <= row_tile_columns(out):
        row_tile(1, n, k, Operand(x, 0, x_k), b, Rows(init, 0), Rows(out, n))
    else:
        grow_rows(1, n, k, Operand(x, 0, x_k), b, Rows(init, 0), Rows(out, n))


@glue
def column_product(m, k, a, b, b_k, init, out, scratch):
    """out = init + a @ b for a single column: the row b.T @ a.T, in which the lanes are rows of a.

    As a column it fills one lane of every vector: 32 x 32 x 1 took 0.40 us so and its weight gradient 0.50.
    """
    nr = panel_columns(out)
    for first in range(0, m, MC):
        height = min(MC, m - first)
        for p in range(0, max(k, 1), KC):
            depth = min(KC, k - p)
            block = shifted(a, first, p)
            turned = Slivers(block.pointer, a.column_stride, nr)
            if a.row_stride != 1:
                pack_b(depth, height, transposed(block), scratch)
                turned = Slivers(scratch, nr, nr * depth)
            for row in range(0, height, nr):
                here = first + row
                row_product(
                    min(nr, height - row),
                    depth,
                    advance(b, p * b_k),
                    b_k,
                    sliver_of(turned, row // nr),
                    advance(init if p == 0 else out, here),
                    advance(out, here),
                )


@glue
def narrow_product(m, n, k, a, b, epilogue, scratch):
    """a @ b for few columns as the transpose of b.T @ a.T; each element is the same chain."""
    size = min(m, TURNED)
    zeros = aligned(scratch)
    turned = aligned(advance(zeros, size))
    block = aligned(advance(turned, size * n))
    for j in range(size):
        store(zeros, j, constant(0.0, load(zeros, j)))
    for first in range(0, m, size):
        rows = min(size, m - first)
        out = landing(epilogue, block, n, first, 0)
        columns = Slivers(advance(a.pointer, first), a.column_stride, panel_columns(scratch))
        multiply_block(
            n, rows, k, transposed(b), columns, False, Rows(zeros, 0), Rows(turned, rows), Rows(turned, NOT_CONTESTED)
        )
        for i in range(rows):
            for j in range(n):
                store(out.pointer, i * out.row_stride + j, load(turned, j * rows + i))
        finish(epilogue, out, first, 0, rows, n)


@glue
def narrow_layer(m, n, k, a, b, bias, epilogue, scratch):
    """Forward through a layer that `is_narrow`: no wider than a sliver, so no thread has some of its columns alone."""
    free = aligned(scratch)
    for row in range(0, m, NARROW_ROWS):
        rows = min(NARROW_ROWS, m - row)
        out = landing(epilogue, free, n, row, 0)
        dot_products(rows, n, k, shifted(a, row, 0), b, bias, out, free)
        finish(epilogue, out, row, 0, rows, n)


@glue
def linear_product(m, n, k, a, b, bias, epilogue, scratch):
    """Hand the m x n elements of bias + a @ b to the epilogue, a Store or Activate; scratch holds `linear_scratch`."""
    _product(m, n, k, a, b, bias, True, epilogue, scratch)


@glue
def product(m, n, k, a, b, epilogue, scratch):
    """Hand the m x n elements of a @ b, of Operands, to the epilogue; scratch holds `product_scratch` elements."""
    _product(m, n, k, a, b, scratch, False, epilogue, scratch)


@shared
def _product(m, n, k, a, b, bias, has_bias, epilogue, scratch):
    """`linear_product`, or `product` where bias is any pointer: compiled once for both."""
    if has_bias and is_narrow(epilogue.row_stride, k):
        narrow_layer(m, n, k, a, b, bias, epilogue, scratch)
    elif m == 1 and has_bias and b.column_stride == 1:
        # A row forward: 4-32-32-1, its last layer a row too then, took 102 ns so, block by block 196 (Zen 5).
        out = landing(epilogue, aligned(scratch), n, 0, 0)
        row_product(n, k, a.pointer, a.column_stride, Rows(b.pointer, b.row_stride), bias, out.pointer)
        finish(epilogue, out, 0, 0, 1, n)
    elif n == 1 and epilogue.row_stride == 1:
        # The result's rows lie end to end, in the scratch and in what the epilogue reads too.
        start = aligned(scratch)
        for i in range(m):
            store(start, i, constant(0.0, load(start, i)))
        out = landing(epilogue, start, 1, 0, 0)
        packed = aligned(advance(start, m))
        column_product(m, k, a, b.pointer, b.row_stride, start, out.pointer, packed)
        finish(epilogue, out, 0, 0, m, 1)
    else:
        turns = n <= NARROW and a.row_stride == 1 and m >= panel_columns(scratch) // 4
        if turns and not has_bias and not needs_whole_rows(epilogue):
            narrow_product(m, n, k, a, b, epilogue, scratch)
        else:
            block_product(m, n, k, a, b, bias, has_bias, epilogue, scratch)


@glue
def block_product(m, n, k, a, b, bias, has_bias, epilogue, scratch):
    """`_product`, block by block."""
    nr = panel_columns(scratch)
    size = itemsize(scratch)
    panel, pack = panel_plan(m, n, k, size, nr, a.row_stride == 1, b.column_stride == 1)
    if needs_whole_rows(epilogue):
        panel = n
    zeros = aligned(scratch)
    block = zeros if has_bias else aligned(advance(zeros, panel))
    packed_a = block if has_bias else aligned(advance(block, min(m, MC) * panel))
    if not has_bias:
        for j in range(panel):
            store(zeros, j, constant(0.0, load(zeros, j)))
    packed = aligned(advance(packed_a, copied_row(min(m, MC), size) * min(k, KC)))
    fetches = not pack and n * k * size >= FETCH_BYTES
    # LOW_ROWS are fewer than MC: such a block has all rows.
    low = not pack and 1 < m <= LOW_ROWS and n > nr
    grows = low and (n * k * size >= FAR_BYTES or b.row_stride * size % CONFLICT_BYTES == 0)
    pack_a = a.row_stride == 1 and a.column_stride * size >= PACK_A_BYTES and n > nr
    for column in range(0, n, panel):
        width = min(panel, n - column)
        source = shifted(b, 0, column)
        right = Slivers(source.pointer, b.row_stride, nr)
        if pack:
            pack_b(k, width, source, packed)
            right = Slivers(packed, nr, nr * k)
        for row in range(0, m, MC):
            height = min(MC, m - row)
            out = landing(epilogue, block, width, row, column)
            init, contested = Rows(advance(bias, column) if has_bias else zeros, 0), contest(epilogue, row, column)
            for inner_first in range(0, max(k, 1), KC):
                depth = min(KC, k - inner_first)
                left = shifted(a, row, inner_first)
                if pack_a:
                    copied = Operand(packed_a, 1, copied_row(height, size))
                    for p in range(depth):
                        copy_elements(shifted(left, 0, p).pointer, shifted(copied, 0, p).pointer, height)
                    left = copied
                deeper = Slivers(advance(right.pointer, inner_first * right.row_stride), *right[1:])
                rows_of_b = Rows(deeper.pointer, deeper.row_stride)
                if grows:
                    grow_rows(m, width, depth, left, rows_of_b, init, out)
                elif low and low_columns(m, right.pointer) > 0:
                    low_tiles(m, width, depth, left, rows_of_b, init, out)
                else:
                    multiply_block(height, width, depth, left, deeper, fetches, init, out, contested)
                init, contested = out, Rows(contested.pointer, NOT_CONTESTED)
            finish(epilogue, out, row, column, height, width)
