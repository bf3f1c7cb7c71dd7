"""Sums and maxima over spans of memory, in an order that depends on their length alone, on every machine.

Element i goes to partial result i modulo LANES; then again and again the upper half of those is combined into the lower
one. A row of at most LANES elements fits into one Vector: it is reduced in registers, to the same bits as in memory.
"""

import functools

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .simd import LANES, Place
from .vector import Vector, llvm_type, splat


def _lane_reduction(builder, spans, count, scalar, accumulator, neutral, combine, prepare=lambda v: v):
    """LANES partial results, lane i of the elements i, i + LANES, ..., then halves combined: one order everywhere.

    What is combined is prepare(vector of each span), widened to the accumulator's type if it is not.
    """
    index, wide = ir.IntType(64), ir.VectorType(accumulator, LANES)
    kind = Vector(scalar, LANES)
    whole = builder.and_(count, index(-LANES))
    sums = cgutils.alloca_once_value(builder, ir.Constant(wide, [neutral] * LANES))
    builder.store(ir.Constant(wide, [neutral] * LANES), sums)

    def take(vectors):
        value = prepare(*vectors)
        return combine(builder.load(sums), value if value.type == wide else builder.fpext(value, wide))

    with cgutils.for_range_slice(builder, index(0), whole, index(LANES), index) as (i, _):
        here = [Place(builder, p, i, count, kind) for p in spans]
        builder.store(take([builder.load(place.where, align=place.align) for place in here]), sums)
    rest = [Place(builder, p, whole, count, kind).part(neutral) for p in spans]
    return _halved(builder, take(rest), combine)


def _widened(builder, v):
    wide = ir.VectorType(ir.DoubleType(), v.type.count)
    return v if v.type == wide else builder.fpext(v, wide)


def halves(builder, value):
    """The lower and the upper half of a vector's lanes."""
    half = value.type.count // 2
    undefined = ir.Constant(value.type, ir.Undefined)
    lanes = [ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(s, s + half))) for s in (0, half)]
    return [builder.shuffle_vector(value, undefined, part) for part in lanes]


def halved_rows(builder, rows, combine):
    """A vector of what is left of each row, again and again the upper half of its lanes combined into the lower one.

    rows: vectors of as many lanes, a power of two of them. Two at a time go on in one vector, side by side.
    """
    lanes = rows[0].type.count
    while lanes > 1:
        step = min(2, len(rows))
        pairs = [(rows[i], rows[i + step - 1]) for i in range(0, len(rows), step)]
        starts = range(0, step * rows[0].type.count, lanes)
        lanes //= 2
        low, high = [[start + shift + i for start in starts for i in range(lanes)] for shift in (0, lanes)]
        part = lambda pair, numbers: builder.shuffle_vector(
            *pair, ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)
        )
        rows = [combine(part(pair, low), part(pair, high)) for pair in pairs]
    return rows[0]


def _halved(builder, value, combine):
    """The one lane left when again and again the upper half of the lanes is combined into the lower one."""
    return builder.extract_element(halved_rows(builder, [value], combine), ir.IntType(32)(0))


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


@intrinsic
def lane_sum(typingctx, p, count):
    """The sum of `count` elements in float64, in an order that depends on the count alone."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        return _lane_reduction(builder, args[:1], args[1], scalar, ir.DoubleType(), 0.0, builder.fadd)

    return types.float64(p, types.intp), codegen


@intrinsic
def lane_sum_of_products(typingctx, p, q, count):
    """`lane_sum` of the products of the elements of two spans, each rounded to their dtype."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        return _lane_reduction(builder, args[:2], args[2], scalar, ir.DoubleType(), 0.0, builder.fadd, builder.fmul)

    return types.float64(p, p, types.intp), codegen


def _shares(builder, target, below):
    """The products in float64, 0 where the target is."""
    zero = ir.Constant(target.type, None)
    product = builder.fmul(_widened(builder, target), _widened(builder, below))
    return builder.select(builder.fcmp_ordered("==", target, zero), ir.Constant(product.type, None), product)


@intrinsic
def lane_sum_of_shares(typingctx, target, p, largest, count):
    """The sum of target (p - largest) in float64, of which those count nothing whose target is 0; see `lane_sum`."""

    def codegen(context, builder, signature, args):
        target, p, largest, count = args
        scalar = signature.args[0].dtype
        most = splat(builder, largest, Vector(scalar, LANES))
        share = lambda t, v: _shares(builder, t, builder.fsub(v, most))
        return _lane_reduction(builder, [target, p], count, scalar, ir.DoubleType(), 0.0, builder.fadd, share)

    return types.float64(target, p, p.dtype, types.intp), codegen


@intrinsic
def lane_sum_of_squares(typingctx, p, count):
    """The sum of the squares of `count` elements in float64, in an order that depends on the count alone."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        square = lambda v: builder.fmul(*[_widened(builder, v)] * 2)
        return _lane_reduction(builder, args[:1], args[1], scalar, ir.DoubleType(), 0.0, builder.fadd, square)

    return types.float64(p, types.intp), codegen


@intrinsic
def lane_sum_of_sizes(typingctx, p, count):
    """The sum of the absolute values of `count` elements in float64, in an order that depends on the count alone."""

    def size(builder, v):
        negative = builder.fneg(v)
        return builder.select(builder.fcmp_ordered(">", negative, v), negative, v)

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        each = lambda v: size(builder, v)
        return _lane_reduction(builder, args[:1], args[1], scalar, ir.DoubleType(), 0.0, builder.fadd, each)

    return types.float64(p, types.intp), codegen


@intrinsic
def lane_max(typingctx, p, count):
    """The largest of `count` elements, NaN passed over; -inf if there is none."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        larger = functools.partial(_larger, builder)
        return _lane_reduction(builder, args[:1], args[1], scalar, llvm_type(scalar), float("-inf"), larger)

    return p.dtype(p, types.intp), codegen


# ---- A row of at most LANES elements, one Vector


@intrinsic
def load_row(typingctx, p, count):
    """A row of `count` elements, at most LANES, as a Vector of LANES; zeros in the lanes behind its end."""
    sig = Vector(p.dtype, LANES)(p, types.intp)

    def codegen(context, builder, signature, args):
        return Place(builder, args[0], ir.IntType(64)(0), args[1], signature.return_type).part(0.0)

    return sig, codegen


@intrinsic
def store_row(typingctx, p, count, row):
    """Write the first `count` lanes of a Vector of LANES.

    In pieces of 16, 8, 4, 2 and 1, for a masked store holds back the loads of all that its lanes could have written:
    softmax in place, of rows of 10, took twice as long.
    """
    sig = types.void(p, types.intp, Vector(p.dtype, LANES))

    def codegen(context, builder, signature, args):
        p, count, rest = args
        index, align = ir.IntType(64), signature.args[0].dtype.bitwidth // 8

        def piece(value, width):
            present = builder.icmp_signed("!=", builder.and_(count, index(width)), index(0))
            with builder.if_then(present):
                builder.store(value, builder.bitcast(p, value.type.as_pointer()), align=align)
            return present

        piece(rest, LANES)
        width = LANES
        while width > 1:
            width //= 2
            low, high = halves(builder, rest)
            present = piece(low, width)
            p = builder.gep(p, [builder.and_(count, index(width))])
            rest = builder.select(present, high, low)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def lane_numbers(typingctx, row):
    """0, 1, 2, ... in the lanes of a Vector of this type."""

    def codegen(context, builder, signature, args):
        kind = signature.return_type
        return ir.Constant(llvm_type(kind), [float(i) for i in range(kind.lanes)])

    return row(row), codegen


@intrinsic
def row_sum(typingctx, row):
    """`lane_sum` of a Vector of LANES."""

    def codegen(context, builder, signature, args):
        wide = ir.VectorType(ir.DoubleType(), LANES)
        value = args[0] if args[0].type == wide else builder.fpext(args[0], wide)
        return _halved(builder, value, builder.fadd)

    return types.float64(row), codegen


@intrinsic
def row_sum_of_shares(typingctx, target, below):
    """`lane_sum_of_shares` of Vectors of LANES: the sum of target below."""

    def codegen(context, builder, signature, args):
        return _halved(builder, _shares(builder, *args), builder.fadd)

    return types.float64(target, below), codegen


@intrinsic
def row_max(typingctx, row):
    """`lane_max` of a Vector of LANES."""

    def codegen(context, builder, signature, args):
        return _halved(builder, args[0], functools.partial(_larger, builder))

    return row.dtype(row), codegen
