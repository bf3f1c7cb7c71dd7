"""A narrow layer, one of few outputs: its results are dot products of rows of x with columns of the weight.

    out[i, j] = bias[j] + sum over k of x[i, k] * w[k, j]

As columns of a matrix product they would leave most lanes of every vector empty, and a single row's multiply-adds would
wait for each other. So every result has LANES chains, on every machine and for every dtype: chain l begins at the bias
(l = 0) or at 0 and takes k = l, l + LANES, ... in this order; then again and again the upper half of the chains is
added to the lower one, as in reductions.py. That order depends on k alone, neither on the number of rows nor on how x
lies in memory.

Many rows are taken as tiles, from a copy of w whose columns lie side by side; a few from w as it is, x being spread.

On one Zen 5 core 338 rows of 612 to one output took 28 us by transposition in float32 and 41 in float64, and take 9 and
17; 128 rows of 784 to 2 and 4 outputs took 15.4 us as part of a vector, now 4.0 and 5.0 (float64: 17, now 7.8 and 11;
as AVX2 code 24, now 4.6 and 8.7). A row through 20-128-3 in compiled code took 180 ns and takes 77, through 4-32-32-1
100 and 87.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import glue, plain
from .operand import Rows, shifted, shifted_rows
from .reductions import halved_rows, halves
from .simd import (
    IS_ARM,
    LANES,
    VECTOR_BYTES,
    Place,
    advance,
    load,
    refuse_several_dtypes,
    store,
    transpose_square,
    vector_lanes,
)
from .symbols import shared
from .vector import Vector, intrinsic_function, llvm_type

INDEX = ir.IntType(64)
LANE = ir.IntType(32)

# Layers of so many outputs are narrow whose inner dimension is so many times as long: else it takes longer to add up
# the chains of a result than to leave lanes empty. With 5 to 8 outputs float64 gained nothing: 128 rows of 784 take 17
# us and would take 20 to 36, of 64 2.1 and 2.7.
MOST_OUTPUTS = 4
LEAST_INNER = 8
# From so many rows on w is copied, which takes as long as 20 to 30 rows from w as it is.
COPY_ROWS = 32

# The vectors of sums under way in a tile: eight hide the latency of an fma, sixteen of 32 registers leave room for x.
ACCUMULATORS = 16 if VECTOR_BYTES == 64 or IS_ARM else 8
MOST_ROWS = 8
# Columns of a tile: with more, what has to be read does not fit into 16 registers beside the sums.
WIDEST = 4 if ACCUMULATORS == 16 else 2


@plain
def is_narrow(n, k):
    """Whether a layer of n outputs and k inputs is summed in LANES chains."""
    return n == 1 or (n <= MOST_OUTPUTS and k >= LEAST_INNER * n)


def _constant_lanes(lanes):
    """The lanes that a shuffle takes."""
    lanes = list(lanes)
    return ir.Constant(ir.VectorType(LANE, len(lanes)), lanes)


def _switch(builder, code, name, cases, emit):
    """Code for each case: emit(case) where `code` is that number."""
    finished = builder.append_basic_block(f"{name}.finished")
    switch = builder.switch(code, finished)
    for case in cases:
        block = builder.append_basic_block(f"{name}.{case}")
        switch.add_case(INDEX(case), block)
        builder.position_at_end(block)
        emit(case)
        builder.branch(finished)
    builder.position_at_end(finished)


def _rows_of(scalar, columns):
    """Rows of a tile of this element type and so many columns, a power of two."""
    most = ACCUMULATORS * VECTOR_BYTES * 8 // (LANES * scalar.bitwidth * columns)
    rows = 1
    while 2 * rows <= min(MOST_ROWS, most):
        rows *= 2
    return rows


@plain
def _lower(rows, columns):
    """Rows of the next lower tile, 0 behind a single one. All heights of all widths would take 0.1 s to compile."""
    return rows // 2 if columns == 1 or rows == 1 else 1


def _emit_tile(builder, kind, rows, columns, k, x, x_row, w, bias, out, out_row):
    """The dot products of so many rows and columns."""
    vector, align = llvm_type(kind), kind.dtype.bitwidth // 8
    multiply_add = intrinsic_function(builder, "fma", kind, 3)
    at = lambda p, stride, count: [builder.gep(p, [builder.mul(stride, INDEX(i))]) for i in range(count)]
    xs, ws = at(x, x_row, rows), at(w, INDEX(LANES), columns)
    whole = builder.and_(k, INDEX(-LANES))
    zeros = ir.Constant(vector, [0.0] * LANES)
    begun = [builder.insert_element(zeros, builder.load(p), LANE(0)) for p in at(bias, INDEX(1), columns)]
    start = begun * rows
    before, loop, behind = builder.block, builder.append_basic_block("dot.loop"), builder.append_basic_block("dot.rest")
    builder.cbranch(builder.icmp_signed(">", whole, INDEX(0)), loop, behind)

    def added(terms, factors, sums):
        products = [(a, b) for a in terms for b in factors]
        return [builder.call(multiply_add, [a, b, s]) for (a, b), s in zip(products, sums, strict=True)]

    builder.position_at_end(loop)
    p, sums = builder.phi(INDEX), [builder.phi(vector) for _ in start]
    there = lambda base, i: builder.load(builder.bitcast(builder.gep(base, [i]), vector.as_pointer()), align=align)
    in_w = lambda p: builder.mul(p, INDEX(columns))
    following = added([there(base, p) for base in xs], [there(base, in_w(p)) for base in ws], sums)
    after = builder.add(p, INDEX(LANES))
    builder.cbranch(builder.icmp_signed("<", after, whole), loop, behind)
    for phi, first, later in [(p, INDEX(0), after), *zip(sums, start, following, strict=True)]:
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)

    builder.position_at_end(behind)
    sums = [builder.phi(vector) for _ in start]
    for phi, first, later in zip(sums, start, following, strict=True):
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)
    rest, done = builder.append_basic_block("dot.part"), builder.append_basic_block("dot.done")
    builder.cbranch(builder.icmp_signed("<", whole, k), rest, done)

    builder.position_at_end(rest)
    # Lanes behind the end of the row keep their sum: what is added there would make 0 of -0.
    left = builder.sub(k, whole)
    part = lambda base, i: Place(builder, builder.gep(base, [i]), INDEX(0), left, kind)
    inside = part(x, whole).mask()
    terms, factors = ([part(base, p).part(0.0) for base in bases] for bases, p in ((xs, whole), (ws, in_w(whole))))
    ended = [builder.select(inside, after, s) for after, s in zip(added(terms, factors, sums), sums, strict=True)]
    rest = builder.block
    builder.branch(done)

    builder.position_at_end(done)
    partial = [builder.phi(vector) for _ in start]
    for phi, there_before, later in zip(partial, sums, ended, strict=True):
        phi.add_incoming(there_before, behind)
        phi.add_incoming(later, rest)
    undefined = ir.Constant(vector, ir.Undefined)
    power = 1 << (len(partial) - 1).bit_length()
    results = halved_rows(builder, partial + [undefined] * (power - len(partial)), builder.fadd)

    def store_lanes(first, count, where):
        lanes = _constant_lanes(range(first, first + count))
        values = builder.shuffle_vector(results, ir.Constant(results.type, ir.Undefined), lanes)
        builder.store(values, builder.bitcast(where, values.type.as_pointer()), align=align)

    with builder.if_else(builder.icmp_signed("==", out_row, INDEX(columns))) as (together, apart):
        with together:
            store_lanes(0, rows * columns, out)
        with apart:
            for i, row in enumerate(at(out, out_row, rows)):
                store_lanes(i * columns, columns, row)


@intrinsic
def dot_tile(typingctx, rows, columns, k, x, w, bias, out):
    """A tile of `most_rows` or a `_lower` number of rows; x and out are Rows, w `_turned_at`."""
    refuse_several_dtypes(x.types[0], w, bias, out.types[0])
    sig = types.void(*map(types.unliteral, (rows, columns, k, x, w, bias, out)))

    def codegen(context, builder, signature, args):
        rows, columns, k, x, w, bias, out = args
        operands = k, *cgutils.unpack_tuple(builder, x), w, bias, *cgutils.unpack_tuple(builder, out)
        kind = Vector(signature.args[4].dtype, LANES)
        code = builder.add(builder.mul(columns, INDEX(MOST_ROWS + 1)), rows)
        shapes = {}
        for width in range(1, WIDEST + 1):
            height = _rows_of(kind.dtype, width)
            while height > 0:
                shapes[width * (MOST_ROWS + 1) + height] = height, width
                height = _lower(height, width)
        _switch(builder, code, "dot", shapes, lambda shape: _emit_tile(builder, kind, *shapes[shape], *operands))
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def most_rows(typingctx, columns, p):
    """Rows of the highest `dot_tile` of so many columns for the pointer's element type."""
    values = [_rows_of(p.dtype, width) for width in range(1, WIDEST + 1)]

    def codegen(context, builder, signature, args):
        result = INDEX(values[-1])
        for i in range(WIDEST - 2, -1, -1):
            result = builder.select(builder.icmp_signed("<=", args[0], INDEX(i + 1)), INDEX(values[i]), result)
        return result

    return types.intp(types.intp, p), codegen


def _joined(builder, vectors):
    """One vector with the lanes of all, one after the other."""
    joined = vectors[0]
    for vector in vectors[1:]:
        count, more = joined.type.count, vector.type.count
        wide = _constant_lanes([*range(more), *[0] * (count - more)])
        vector = builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), wide)
        joined = builder.shuffle_vector(joined, vector, _constant_lanes(range(count + more)))
    return joined


def _emit_row(builder, scalar, columns, k, x, w, bias, out):
    """The results of one row for so many columns."""
    kind, align = Vector(scalar, LANES), scalar.bitwidth // 8
    vector = llvm_type(kind)
    multiply_add = intrinsic_function(builder, "fma", kind, 3)
    undefined = ir.Constant(vector, ir.Undefined)
    # Sum number l * columns + j is chain l of column j; here and in w they are cut into vectors of LANES.
    zeros = start = ir.Constant(vector, [0.0] * LANES)
    for j in range(columns):
        start = builder.insert_element(start, builder.load(builder.gep(bias, [INDEX(j)])), LANE(j))
    totals = [cgutils.alloca_once(builder, vector) for _ in range(columns)]
    for c, total in enumerate(totals):
        builder.store(zeros if c else start, total)
    whole, end = builder.and_(k, INDEX(-LANES)), builder.mul(k, INDEX(columns))

    def step(p, part):
        there = lambda place: place.part(0.0) if part else builder.load(place.where, align=align)
        terms, first = there(Place(builder, x, p, k, kind)), builder.mul(p, INDEX(columns))
        for c, total in enumerate(totals):
            factors = Place(builder, w, builder.add(first, INDEX(c * LANES)), end, kind)
            chains = _constant_lanes((c * LANES + i) // columns for i in range(LANES))
            before, spread = builder.load(total), builder.shuffle_vector(terms, undefined, chains)
            after = builder.call(multiply_add, [spread, there(factors), before])
            builder.store(builder.select(factors.mask(), after, before) if part else after, total)

    with cgutils.for_range_slice(builder, INDEX(0), whole, INDEX(LANES), INDEX) as (p, _):
        step(p, False)
    with builder.if_then(builder.icmp_signed("<", whole, k)):
        step(whole, True)
    sums = _joined(builder, [builder.load(total) for total in totals])
    while sums.type.count > columns:
        low, high = halves(builder, sums)
        sums = builder.fadd(low, high)
    builder.store(sums, builder.bitcast(out, sums.type.as_pointer()), align=align)


@intrinsic
def dot_row(typingctx, n, k, x, w, bias, out):
    """The n results of one row, n up to MOST_OUTPUTS; x and w are contiguous.

    Its chains and columns, LANES * n sums, are one vector, in the order in which w lies.
    """
    p = types.CPointer(out.dtype)

    def codegen(context, builder, signature, args):
        n, *operands = args
        scalar = signature.args[-1].dtype
        row = lambda columns: _emit_row(builder, scalar, columns, *operands)
        _switch(builder, n, "row", range(1, MOST_OUTPUTS + 1), row)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, p, p, p, p), codegen


@plain
def _whole(k):
    """k rounded up to whole LANES."""
    return (k + LANES - 1) // LANES * LANES


@plain
def _turned_at(n, depth, p, j):
    """Where the copy of w has its elements p .. p + LANES of column j, p being a multiple of LANES; depth: `_whole(k)`.

    The columns of a tile lie together, and tiles one after the other.
    """
    first = j // WIDEST * WIDEST
    return first * depth + p * min(WIDEST, n - first) + (j - first) * LANES


@plain
def dot_scratch(m, n, k):
    """Elements of scratch that `dot_products` needs: copies of w and of some rows of x."""
    return (n + min(m, LANES)) * _whole(k)


@glue
def _turn_columns(n, k, w, out):
    """Copy the Operand w so that LANES elements of each column are side by side, and `_turned_at` is where."""
    depth = _whole(k)
    for p in range(0, k, LANES):
        rows = min(LANES, k - p)
        source = advance(w.pointer, p * w.row_stride)
        for j in range(n):
            target = advance(out, _turned_at(n, depth, p, j))
            for l in range(rows):
                store(target, l, load(source, l * w.row_stride + j * w.column_stride))


@glue
def _copy_rows(m, k, x, out):
    """Copy the Operand x into Rows; where columns are, squares are transposed in registers.

    128 x 784 in column order to 4 outputs took 16 us as a matrix product, and takes 13; in float64 17, now 27 (Zen 5).
    Rejected: rows as lanes, all sums in memory, as fast, but 0.3 s to compile; the chains one after the other in
    registers, 28 and 125 us.
    """
    lanes = vector_lanes(out.pointer)
    rows_done, steps_done = 0, 0
    if x.row_stride == 1:
        rows_done, steps_done = m - m % lanes, k - k % lanes
        for p in range(0, steps_done, lanes):
            for i in range(0, rows_done, lanes):
                square, target = shifted(x, i, p), shifted_rows(out, i, p)
                transpose_square(square.pointer, x.column_stride, target.pointer, out.row_stride)
    for i in range(m):
        row, target = shifted(x, i, 0), shifted_rows(out, i, 0)
        for p in range(steps_done if i < rows_done else 0, k):
            store(target.pointer, p, load(row.pointer, p * x.column_stride))


@glue
def _dot_tiles(m, n, k, x, w, bias, out):
    """By tiles: x and out are Rows, w `_turned_at`."""
    for first in range(0, n, WIDEST):
        columns, right = min(WIDEST, n - first), advance(w, first * _whole(k))
        row, height = 0, most_rows(columns, w)
        while row < m:
            while height > m - row:
                height = _lower(height, columns)
            dot_tile(
                height, columns, k, shifted_rows(x, row, 0), right, advance(bias, first), shifted_rows(out, row, first)
            )
            row += height


@glue
def _dot_rows(m, n, k, x, w, bias, out):
    """Row by row: x and out are Rows, w as it is, contiguous."""
    for i in range(m):
        dot_row(n, k, shifted_rows(x, i, 0).pointer, w, bias, shifted_rows(out, i, 0).pointer)


@shared
def dot_products(m, n, k, x, w, bias, out, scratch):
    """m x n results of Operands x and w to the Rows out; scratch: `dot_scratch` elements."""
    depth, turned = _whole(k), w.pointer
    in_place = w.row_stride == n and w.column_stride == 1 and m < (2 if n == 1 else COPY_ROWS)
    contiguous = x.column_stride == 1
    if in_place and contiguous:
        # As single samples come: by the blocks below one through 4-32-32-1 took 98 ns, now 83, through 4-1 35 and 24.
        _dot_rows(m, n, k, Rows(x.pointer, x.row_stride), turned, bias, out)
        return
    if not in_place and (n > 1 or w.row_stride != 1):
        _turn_columns(n, k, w, scratch)
        turned = scratch
    block = m if contiguous else LANES
    for first in range(0, m, block):
        rows, here, source = min(block, m - first), shifted_rows(out, first, 0), shifted(x, first, 0)
        left = Rows(source.pointer, x.row_stride)
        if not contiguous:
            left = Rows(advance(scratch, n * depth), depth)
            _copy_rows(rows, k, source, left)
        if in_place:
            _dot_rows(rows, n, k, left, turned, bias, here)
        else:
            _dot_tiles(rows, n, k, left, turned, bias, here)
