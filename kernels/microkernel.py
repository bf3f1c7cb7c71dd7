"""The micro-kernel: one register tile of a matrix product, in explicit vectors.

    out[i, j] = init[i, j] + sum over k of a[i, k] * b[k, j]        i < rows, j < columns <= NR

Every element is one chain of fused multiply-adds in the order of k, begun at `init` (a bias, zero, or what earlier
k-blocks left), so its bits depend neither on the tile's shape nor on the vector width nor on how k was blocked.

Every height from 1 up and every width has its own straight-line loop, picked by one switch, so that an edge tile
costs what its work costs; the last vector is masked where the columns do not fill it.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import plain
from .simd import IS_ARM, TO_READ, UP_TO_L2, VECTOR_BYTES, emit_prefetch, refuse_several_dtypes
from .vector import Vector, intrinsic_function, llvm_type, masked_load, masked_store

# Register tile: MR rows of NV vectors. On AVX-512 (and NEON, 32 registers as well) 6 x 4 accumulators, four vectors
# of b and one broadcast. Measured in cache on a Zen 4 core: 6x4, 8x3, 12x2 and 14x2 all reach 98 % of the FMA peak, a
# from packed and from strided memory alike, but 6x4 needs the fewest row addresses and variants: it compiles in two
# thirds of the time of 14x2 (1.0 s against 1.55 s, with as many kinds of each). AVX2 and SSE have 16 registers: 6 x 2.
MR = 6
NV = 4 if VECTOR_BYTES == 64 or IS_ARM else 2
# Where columns fill one vector alone, as those of most output layers do, 6 rows are 6 sums under way, and each step of
# k waits for the 4 cycles that a sum takes: 64-10 on 32 rows took 0.95 us forward and back, with 12 rows 0.84 (Zen 5;
# 16 rows: 0.90), 64-3 on 200 rows in float64 5.2 and 4.4.
TALL = 12
# A tile of one row may be wider. Where it takes b's rows whole, b is one stream, which the CPU reads ahead best: one
# row through 784 x 128 took 2.8 us as rows that grow in L1, and takes 1.7 in registers.
ROW_NV = 4 * NV
# Few rows whose columns are many: one tile takes them all, so that b is read once, and is as wide as registers allow,
# so that b is read in long pieces. Its widths in vectors, by its rows; for 5 and 6 rows that is `tile`. On two Zen 5
# cores 2 x 1024 x 1024 took 45 us by `tile` and takes 29, 8 x 1000 x 1000, by two tiles of 4, 53 and 42.
# Sixteen registers are too few for 7 and 8 rows.
LOW_NV = {2: 8, 3: 8, 4: 6, 7: 3, 8: 3} if NV == 4 else {2: 4, 3: 4, 4: 3}
LOW_ROWS = max(LOW_NV)

# The widest tile has an unmasked twin where a masked load is slower than a plain one: not on AVX-512, where the twin
# would only be compiled. Narrower tiles are edges.
MASKS_COST = VECTOR_BYTES < 64

INDEX = ir.IntType(64)
LANE = ir.IntType(32)


@plain
def tile_columns(itemsize):
    """NR, the columns of a tile, for elements of `itemsize` bytes."""
    return NV * VECTOR_BYTES // itemsize


def _keep_rolled(module, branch):
    """Have LLVM leave the loop of this branch back to its start as it is.

    For loops that read b at the speed at which it comes: unrolled twice, the same reads in the same order reached 150
    GB/s from a Zen 5 core's L2, not unrolled 240. Tiles of more rows are 1 to 5 % faster as LLVM unrolls them.
    """
    disable = module.add_metadata([ir.MetaDataString(module, "llvm.loop.unroll.disable")])
    loop = module.add_metadata([disable, disable])
    # A loop's node names itself first.
    loop.operands = (loop, disable)
    branch.set_metadata("llvm.loop", loop)


class Emitter:
    """Emits the variants of the tile for one element type."""

    def __init__(self, builder, scalar, columns, rolled=False):
        self.builder = builder
        self.element = llvm_type(scalar)
        self.align = scalar.bitwidth // 8
        self.width = VECTOR_BYTES // self.align
        self.vector = ir.VectorType(self.element, self.width)
        self.columns = columns
        self.rolled = rolled
        self.fma = intrinsic_function(builder, "fma", Vector(scalar, self.width), 3)

    def splat(self, value, kind):
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, value, LANE(0))
        return self.builder.shuffle_vector(
            first, undefined, ir.Constant(ir.VectorType(LANE, kind.count), [0] * kind.count)
        )

    def mask(self, vectors):
        """Which lanes of the last of `vectors` vectors lie inside the columns."""
        kind = ir.VectorType(LANE, self.width)
        left = self.builder.sub(self.columns, INDEX((vectors - 1) * self.width))
        numbers = ir.Constant(kind, list(range(self.width)))
        return self.builder.icmp_signed("<", numbers, self.splat(self.builder.trunc(left, LANE), kind))

    def _row_of_vectors(self, p, vectors, mask):
        """The addresses of the vectors at p, each with its mask or None."""
        for j in range(vectors):
            where = self.builder.bitcast(self.builder.gep(p, [INDEX(j * self.width)]), self.vector.as_pointer())
            yield where, mask if j == vectors - 1 else None

    def load(self, p, vectors, mask):
        zero = ir.Constant(self.vector, [0.0] * self.width)
        return [
            self.builder.load(where, align=self.align)
            if flags is None
            else masked_load(self.builder, where, self.align, flags, zero)
            for where, flags in self._row_of_vectors(p, vectors, mask)
        ]

    def store(self, values, p, mask):
        for value, (where, flags) in zip(values, self._row_of_vectors(p, len(values), mask), strict=True):
            if flags is None:
                self.builder.store(value, where, align=self.align)
            else:
                masked_store(self.builder, value, where, self.align, flags)

    def tile(self, rows, vectors, full, k, a, b, init, out, ahead=None):
        """a: (pointer, row stride, column stride), the others (pointer, row stride)."""
        builder = self.builder
        (a, a_row, a_k), (b, b_k), (init, init_row), (out, out_row) = a, b, init, out
        mask = None if full else self.mask(vectors)
        row = lambda p, stride, i: builder.gep(p, [builder.mul(stride, INDEX(i))])
        start = [self.load(row(init, init_row, i), vectors, mask) for i in range(rows)]
        a_offsets = [builder.mul(a_row, INDEX(i)) for i in range(rows)]
        entry = builder.block
        loop = builder.append_basic_block("k.loop")
        done = builder.append_basic_block("k.done")
        builder.cbranch(builder.icmp_signed(">", k, INDEX(0)), loop, done)

        builder.position_at_end(loop)
        counter, a_now, b_now = builder.phi(INDEX), builder.phi(a.type), builder.phi(b.type)
        sums = [[builder.phi(self.vector) for _ in range(vectors)] for _ in range(rows)]
        ahead_now = None if ahead is None else builder.phi(b.type)
        if ahead is not None:
            emit_prefetch(builder, ahead_now, TO_READ, UP_TO_L2)
        b_vectors = self.load(b_now, vectors, mask)
        following = []
        for i in range(rows):
            spread = self.splat(builder.load(builder.gep(a_now, [a_offsets[i]])), self.vector)
            following.append([builder.call(self.fma, [spread, b_vectors[j], sums[i][j]]) for j in range(vectors)])
        steps = [
            (counter, INDEX(0), builder.add(counter, INDEX(1))),
            (a_now, a, builder.gep(a_now, [a_k])),
            (b_now, b, builder.gep(b_now, [b_k])),
        ]
        if ahead is not None:
            steps.append((ahead_now, ahead[0], builder.gep(ahead_now, [ahead[1]])))
        back = builder.cbranch(builder.icmp_signed("<", steps[0][2], k), loop, done)
        if rows == 1 or self.rolled:
            _keep_rolled(builder.module, back)
        for i in range(rows):
            steps += zip(sums[i], start[i], following[i], strict=True)
        for phi, first, later in steps:
            phi.add_incoming(first, entry)
            phi.add_incoming(later, loop)

        builder.position_at_end(done)
        results = [[builder.phi(self.vector) for _ in range(vectors)] for _ in range(rows)]
        for i in range(rows):
            for phi, first, later in zip(results[i], start[i], following[i], strict=True):
                phi.add_incoming(first, entry)
                phi.add_incoming(later, loop)
        for i in range(rows):
            self.store(results[i], row(out, out_row, i), mask)


def _tile_of(widths, twins_from, name, doc, fetches=False, rolled=False):
    """An intrinsic with a variant of the tile for each height, and for each the widths in vectors: {height: widths}.

    Widths from `twins_from` on have a twin without masks, for columns that fill their vectors. fetches: whether it has
    `ahead`. rolled: whether the loops are kept as they are.
    """
    highest, widest = max(widths), max(map(max, widths.values()))
    shapes = [(height, width, False) for height in widths for width in widths[height]]
    shapes += [(height, width, True) for height, width, _ in shapes if width >= twins_from]

    def typed(*arguments):
        operands = arguments[3:]
        refuse_several_dtypes(*(operand.types[0] for operand in operands))
        scalar = operands[0].types[0].dtype
        sig = types.void(*map(types.unliteral, arguments))

        def codegen(context, builder, signature, args):
            rows, columns, k, *operands = args
            operands = k, *(cgutils.unpack_tuple(builder, operand) for operand in operands)
            emitter = Emitter(builder, scalar, columns, rolled)
            width = INDEX(emitter.width)
            vectors = builder.sdiv(builder.add(columns, builder.sub(width, INDEX(1))), width)
            code = vectors
            if twins_from <= widest:
                fills = builder.icmp_signed("==", columns, builder.mul(vectors, width))
                full = builder.and_(fills, builder.icmp_signed(">=", vectors, INDEX(twins_from)))
                code = builder.select(full, builder.add(vectors, INDEX(widest)), vectors)
            finished = builder.append_basic_block("tile.finished")
            switch = builder.switch(builder.add(builder.mul(code, INDEX(highest + 1)), rows), finished)
            for height, vectors, full in shapes:
                block = builder.append_basic_block(f"tile.{height}x{vectors}")
                switch.add_case(INDEX((vectors + widest * full) * (highest + 1) + height), block)
                builder.position_at_end(block)
                emitter.tile(height, vectors, full, *operands)
                builder.branch(finished)
            builder.position_at_end(finished)
            return context.get_dummy_value()

        return sig, codegen

    # Numba takes the names and the number of arguments from the function.
    if fetches:

        def tile(typingctx, rows, columns, k, a, b, init, out, ahead):
            return typed(rows, columns, k, a, b, init, out, ahead)
    else:

        def tile(typingctx, rows, columns, k, a, b, init, out):
            return typed(rows, columns, k, a, b, init, out)

    tile.__name__ = tile.__qualname__ = name
    tile.__doc__ = doc
    return intrinsic(tile)


def _up_to(heights, widths):
    """{height: widths} for every height from 1 to this one."""
    return dict.fromkeys(range(1, heights + 1), widths)


# Where a twin begins in a tile of NV vectors.
TWINS = NV if MASKS_COST else NV + 1
tile = _tile_of(
    _up_to(MR, range(1, NV + 1)),
    TWINS,
    "tile",
    """One tile: rows x columns of out, k x columns of b, an Operand a; b, init and out are Rows.

    init may be out (carry on) and may have a row stride of 0 (the same row, such as a bias, for every row).
    """,
)
# A tile of its own: with the two registers that it takes in every tile, a step of 4-32-32-1 took 8 to
# 13 % longer (Zen 5).
fetching_tile = _tile_of(
    _up_to(MR, [NV]),
    TWINS,
    "fetching_tile",
    "`tile` of NV vectors. Of ahead, Rows, a line of each of k rows comes into L2 on the way.",
    fetches=True,
)
tall_tile = _tile_of(_up_to(TALL, [1]), 2, "tall_tile", "`tile` of up to TALL rows, for columns that fill one vector.")
# Read at the speed at which b comes, these two: see `_keep_rolled`.
row_tile = _tile_of(
    _up_to(1, range(1, ROW_NV + 1)), 1, "row_tile", "`tile` for one row of up to `row_tile_columns`.", rolled=True
)
low_tile = _tile_of(
    {height: range(1, width + 1) for height, width in LOW_NV.items()},
    ROW_NV,
    "low_tile",
    "`tile` for so many rows as `low_columns` has columns for, and so many of those.",
    rolled=True,
)


def _row_steps_of(depth):
    """An intrinsic: out[i, j] += sum over p < depth of x[i, p] * b[p, j], m x n elements, each a chain in that order.

    x is an Operand, b and out are Rows.
    """

    def row_steps(typingctx, m, n, x, b, out):
        refuse_several_dtypes(x.types[0], b.types[0], out.types[0])
        scalar = out.types[0].dtype
        sig = types.void(*map(types.unliteral, (m, n, x, b, out)))

        def codegen(context, builder, signature, args):
            m, n, *operands = args
            (x, x_row, x_k), (b, b_k), (out, out_row) = (cgutils.unpack_tuple(builder, operand) for operand in operands)
            emitter = Emitter(builder, scalar, n)
            at = lambda p, stride, i: builder.gep(p, [builder.mul(stride, i)])
            steps = [INDEX(i) for i in range(depth)]

            def factors_of(row):
                return [emitter.splat(builder.load(at(at(x, x_row, row), x_k, p)), emitter.vector) for p in steps]

            def add(row, factors, j, terms, mask):
                """To a row of out, from j on, its products with terms, vectors of each row of b."""
                here = builder.gep(at(out, out_row, row), [j])
                sums = emitter.load(here, len(terms[0]), mask)
                for factor, vectors in zip(factors, terms, strict=True):
                    sums = [builder.call(emitter.fma, [factor, *pair]) for pair in zip(vectors, sums, strict=True)]
                emitter.store(sums, here, mask)

            def take(j, vectors, mask, factors):
                """Columns from j on, of all rows or of the first one, whose factors are given."""
                terms = [emitter.load(builder.gep(at(b, b_k, p), [j]), vectors, mask) for p in steps]
                if factors:
                    add(INDEX(0), factors, j, terms, mask)
                else:
                    with cgutils.for_range(builder, m, intp=INDEX) as loop:
                        add(loop.index, factors_of(loop.index), j, terms, mask)

            # Columns before the first vector that lies in one line in every row, if there is such: NumPy's large arrays
            # begin 16 bytes behind a line. 1 x 2048 x 2048 took 162 us without, now 116 (Zen 5).
            width = INDEX(emitter.width)
            to_line = builder.urem(builder.sdiv(builder.neg(builder.ptrtoint(b, INDEX)), INDEX(emitter.align)), width)
            keeps = builder.icmp_signed("==", builder.srem(b_k, width), INDEX(0))
            head = builder.select(keeps, to_line, INDEX(0))
            head = builder.select(builder.icmp_signed("<", head, n), head, n)

            def columns(most, factors):
                with builder.if_then(builder.icmp_signed(">", head, INDEX(0))):
                    emitter.columns = head
                    take(INDEX(0), 1, emitter.mask(1), factors)
                start = head
                for vectors in dict.fromkeys((most, 1)):
                    width = INDEX(vectors * emitter.width)
                    end = builder.sub(n, builder.srem(builder.sub(n, start), width))
                    with cgutils.for_range_slice(builder, start, end, width, INDEX) as (j, _):
                        take(j, vectors, None, factors)
                    start = end
                with builder.if_then(builder.icmp_signed("<", start, n)):
                    emitter.columns = builder.sub(n, start)
                    take(start, 1, emitter.mask(1), factors)

            with builder.if_else(builder.icmp_signed("==", m, INDEX(1))) as (one, several):
                with one:
                    columns(1, factors_of(INDEX(0)))
                with several:
                    columns(HELD, None)
            return context.get_dummy_value()

        return sig, codegen

    row_steps.__name__ = row_steps.__qualname__ = f"row_steps_{depth}"
    return intrinsic(row_steps)


# Rows of b that are added to rows of the result in one pass: the result, in L1, is read and written once for so many.
DEPTH = 8
# So many vectors side by side of each of them stay in registers for several rows; for one row they are read as it is
# multiplied, one at a time: with four, 1024-1024-10 took 3 and 1024-1024-1024-10 6 % longer (Zen 5).
HELD = 2 if NV == 4 else 1
row_steps = _row_steps_of(DEPTH)
row_step = _row_steps_of(1)


@intrinsic
def low_columns(typingctx, rows, p):
    """The columns of the widest `low_tile` of so many rows for the pointer's element type, 0 where there is none."""
    lanes = VECTOR_BYTES * 8 // p.dtype.bitwidth

    def codegen(context, builder, signature, args):
        result = INDEX(0)
        for height, width in LOW_NV.items():
            result = builder.select(builder.icmp_signed("==", args[0], INDEX(height)), INDEX(width * lanes), result)
        return result

    return types.intp(types.intp, p), codegen


@intrinsic
def panel_columns(typingctx, p):
    """NR for the pointer's element type, as a constant."""
    value = tile_columns(p.dtype.bitwidth // 8)
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


@intrinsic
def row_tile_columns(typingctx, p):
    """The columns of the widest row_tile for the pointer's element type, as a constant."""
    value = ROW_NV * VECTOR_BYTES * 8 // p.dtype.bitwidth
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


@intrinsic
def one_of(typingctx, p):
    """A pointer to a 1 of the pointer's element type."""

    def codegen(context, builder, signature, args):
        kind = llvm_type(signature.return_type.dtype)
        return cgutils.global_constant(builder, "one", ir.Constant(kind, 1.0))

    return p(p), codegen


@intrinsic
def copy_panel_row(typingctx, source, out):
    """Copy NR contiguous elements. Plain loops stay scalar here: LLVM can't prove that source and out are apart."""
    sig = types.void(source, source)

    def codegen(context, builder, signature, args):
        emitter = Emitter(builder, signature.args[0].dtype, None)
        emitter.store(emitter.load(args[0], NV, None), args[1], None)
        return context.get_dummy_value()

    return sig, codegen
