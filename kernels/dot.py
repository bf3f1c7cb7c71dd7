"""A layer of one output: its results are dot products of rows of x with the weight, in explicit vectors.

    out[i] = bias + sum over k of x[i, k] * w[k]

As a column of a matrix product it would fill one lane of every vector, or need x transposed, and a single row's
multiply-adds would wait for each other. So every result has LANES chains, on every machine and for every dtype: chain l
begins at the bias (l = 0) or at 0 and takes k = l, l + LANES, ... in this order; then again and again the upper half of
the chains is added to the lower one, as in reductions.py. That order depends on k alone, not on the number of rows, nor
on how x lies in memory.

338 rows of 612 took 28 us by transposition in float32 and 41 in float64, and take 9 and 17; a row through 4-32-32-1 in
compiled code took 100 ns as one chain, and takes 81 (Zen 5, one core).
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .jit import inner, plain
from .reductions import halved_rows
from .simd import (
    IS_ARM,
    LANES,
    VECTOR_BYTES,
    Place,
    advance,
    constant,
    fma,
    lanes_of,
    load,
    load_vector,
    store_vector,
)
from .symbols import shared
from .vector import Vector, intrinsic_function, llvm_type

INDEX = ir.IntType(64)
# The vectors of sums under way in a tile: eight hide the latency of an fma, sixteen of 32 registers leave room for x.
ACCUMULATORS = 16 if VECTOR_BYTES == 64 or IS_ARM else 8
MOST_ROWS = 8


def _rows_of(scalar):
    """Rows of a tile of this element type, a power of two."""
    return max(1, min(MOST_ROWS, ACCUMULATORS * VECTOR_BYTES * 8 // (LANES * scalar.bitwidth)))


def _emit_tile(builder, kind, rows, k, x, x_row, w, bias, out):
    """The dot products of so many rows."""
    vector, align = llvm_type(kind), kind.dtype.bitwidth // 8
    multiply_add = intrinsic_function(builder, "fma", kind, 3)
    at = [builder.gep(x, [builder.mul(x_row, INDEX(i))]) for i in range(rows)]
    whole = builder.and_(k, INDEX(-LANES))
    zeros = ir.Constant(vector, [0.0] * LANES)
    start = builder.insert_element(zeros, bias, ir.IntType(32)(0))
    before, loop, behind = builder.block, builder.append_basic_block("dot.loop"), builder.append_basic_block("dot.rest")
    builder.cbranch(builder.icmp_signed(">", whole, INDEX(0)), loop, behind)

    builder.position_at_end(loop)
    p, sums = builder.phi(INDEX), [builder.phi(vector) for _ in range(rows)]
    there = lambda q: builder.load(builder.bitcast(builder.gep(q, [p]), vector.as_pointer()), align=align)
    factor = there(w)
    following = [builder.call(multiply_add, [there(q), factor, s]) for q, s in zip(at, sums, strict=True)]
    after = builder.add(p, INDEX(LANES))
    builder.cbranch(builder.icmp_signed("<", after, whole), loop, behind)
    for phi, first, later in [(p, INDEX(0), after), *((s, start, f) for s, f in zip(sums, following, strict=True))]:
        phi.add_incoming(first, before)
        phi.add_incoming(later, loop)

    builder.position_at_end(behind)
    sums = [builder.phi(vector) for _ in range(rows)]
    for phi, later in zip(sums, following, strict=True):
        phi.add_incoming(start, before)
        phi.add_incoming(later, loop)
    rest, done = builder.append_basic_block("dot.part"), builder.append_basic_block("dot.done")
    builder.cbranch(builder.icmp_signed("<", whole, k), rest, done)

    builder.position_at_end(rest)
    # Lanes behind the end of the row keep their sum: what is added there would make 0 of -0.
    place = lambda q: Place(builder, q, whole, k, kind)
    inside, factor = place(w).mask(), place(w).part(0.0)
    ended = [
        builder.select(inside, builder.call(multiply_add, [place(q).part(0.0), factor, s]), s)
        for q, s in zip(at, sums, strict=True)
    ]
    rest = builder.block
    builder.branch(done)

    builder.position_at_end(done)
    partial = [builder.phi(vector) for _ in range(rows)]
    for phi, there_before, later in zip(partial, sums, ended, strict=True):
        phi.add_incoming(there_before, behind)
        phi.add_incoming(later, rest)
    results = halved_rows(builder, partial, builder.fadd)
    builder.store(results, builder.bitcast(out, results.type.as_pointer()), align=align)


@intrinsic
def dot_tile(typingctx, rows, k, x, x_row, w, bias, out):
    """out[i] of a power of two of rows, `most_rows` at most; x and w contiguous along k, strides in elements."""
    index, p = types.intp, types.CPointer(out.dtype)
    sig = types.void(index, index, p, index, p, out.dtype, p)

    def codegen(context, builder, signature, args):
        rows, *operands = args
        kind = Vector(signature.args[-1].dtype, LANES)
        finished = builder.append_basic_block("dot.finished")
        switch = builder.switch(rows, finished)
        height = _rows_of(kind.dtype)
        while height > 0:
            block = builder.append_basic_block(f"dot.{height}")
            switch.add_case(INDEX(height), block)
            builder.position_at_end(block)
            _emit_tile(builder, kind, height, *operands)
            builder.branch(finished)
            height //= 2
        builder.position_at_end(finished)
        return context.get_dummy_value()

    return sig, codegen


@plain
def dot_scratch(nr):
    """Elements of scratch that `dot_products` needs: NR is not less than the lanes of a Vector of rows."""
    return LANES * nr


@intrinsic
def most_rows(typingctx, p):
    """Rows of the highest `dot_tile` for the pointer's element type, as a constant."""
    value = _rows_of(p.dtype)
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


@inner
def _strided_dots(m, k, x, x_row, x_k, w, w_k, bias, out, sums):
    """`dot_products` for any strides: lanes are rows if those lie side by side, else rows are taken one by one."""
    width = lanes_of(out)
    together = width if x_row == 1 else 1
    for row in range(0, m, together):
        count = min(together, m - row)
        for lane in range(LANES):
            here = advance(sums, lane * width)
            start = bias if lane == 0 else constant(0.0, bias)
            store_vector(here, 0, width, constant(start, load_vector(here, 0, 0)))
        for p in range(k):
            here = advance(sums, p % LANES * width)
            terms = load_vector(advance(x, row * x_row + p * x_k), 0, count)
            total = fma(terms, constant(load(w, p * w_k), terms), load_vector(here, 0, width))
            store_vector(here, 0, width, total)
        half = LANES // 2
        while half > 0:
            for lane in range(half):
                here, other = advance(sums, lane * width), advance(sums, (lane + half) * width)
                store_vector(here, 0, width, load_vector(here, 0, width) + load_vector(other, 0, width))
            half //= 2
        store_vector(out, row, row + count, load_vector(sums, 0, width))


@shared
def dot_products(m, k, x, x_row, x_k, w, w_k, bias, out, sums):
    """out[i] for i < m, side by side; x and w of any strides. sums: scratch of `dot_scratch` elements."""
    if x_k != 1 or w_k != 1:
        _strided_dots(m, k, x, x_row, x_k, w, w_k, bias, out, sums)
        return
    row, height = 0, most_rows(out)
    while row < m:
        while height > m - row:
            height //= 2
        dot_tile(height, k, advance(x, row * x_row), x_row, w, bias, advance(out, row))
        row += height
