"""The machine: its vector width, raw pointers and the few instructions that Numba does not offer.

Everything here is an `@intrinsic`, inlined where it is used. Code that works on pointers trusts its caller: the
public door has checked every shape before a pointer exists.
"""

import functools
import platform

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .vector import Vector, element_of, intrinsic_function, llvm_type, masked_load, masked_store, splat

LANES = 16  # partial sums of every reduction over a vector, on every machine and for every dtype


def cpu_features():
    """The instruction-set features that Numba compiles for, after NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."""
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    if config.CPU_NAME not in (None, "host"):
        return set()
    return {name for name, present in llvm.get_host_cpu_features().items() if present}


def cpu_name():
    """The CPU that Numba compiles for, as LLVM names it."""
    return config.CPU_NAME or llvm.get_host_cpu_name()


def vector_bytes():
    """Width of the vectors that the micro-kernel uses: 64 (AVX-512), 32 (AVX2 with FMA) or 16 bytes."""
    features = cpu_features()
    if "avx512f" in features:
        return 64
    if {"avx2", "fma"} <= features:
        return 32
    return 16


VECTOR_BYTES = vector_bytes()
# An elementwise loop takes so many of the CPU's vectors at a time: their instructions alternate, so that one chain's
# latency is filled with the other's work. 16,384 sigmoids on a Zen 4 core: 5.8 us, with one at a time 6.1.
INTERLEAVE = 2
IS_ARM = platform.machine().lower() in ("arm64", "aarch64")


@intrinsic
def pointer(typingctx, array):
    """The address of an array's first element, typed by its dtype alone: layout and mutability no longer matter."""
    sig = types.CPointer(array.dtype)(array)

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return sig, codegen


@intrinsic
def keep_alive(typingctx, array):
    """Stands where an array is last needed. Numba frees it after the last use of its name, and a pointer is no use.

    So in this package nobody allocates and then works through a pointer without this after the work.
    """
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


@intrinsic
def advance(typingctx, p, count):
    """The pointer `count` elements further."""
    sig = p(p, types.intp)

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return sig, codegen


@intrinsic
def pointer_to(typingctx, address, like):
    """The pointer that an integer means, to elements of the dtype of the array `like`."""
    sig = types.CPointer(like.dtype)(types.intp, like)

    def codegen(context, builder, signature, args):
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return sig, codegen


@intrinsic
def address_of(typingctx, p):
    """The integer that `pointer_to` turns back into this pointer."""
    return types.intp(p), lambda context, builder, signature, args: builder.ptrtoint(args[0], ir.IntType(64))


@intrinsic
def on_stack(typingctx, number):
    """A pointer to a number, good as long as the function runs whose code this is in (that into which `glue` goes)."""
    codegen = lambda context, builder, signature, args: cgutils.alloca_once_value(builder, args[0])
    return types.CPointer(number)(number), codegen


@intrinsic
def load(typingctx, p, index):
    sig = p.dtype(p, types.intp)

    def codegen(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    return sig, codegen


@intrinsic
def store(typingctx, p, index, value):
    sig = types.void(p, types.intp, p.dtype)

    def codegen(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return sig, codegen


def vector_kind(p):
    """The Vector in which elementwise loops go through what p points to."""
    return Vector(p.dtype, INTERLEAVE * VECTOR_BYTES // (p.dtype.bitwidth // 8))


class _Place:
    """Elements i .. i + lanes - 1 of a span of `count`: whether all are inside, and else which."""

    def __init__(self, builder, p, i, count, kind):
        index, lane = ir.IntType(64), ir.IntType(32)
        self.builder, self.vector = builder, llvm_type(kind)
        self.align = element_of(kind).bitwidth // 8
        self.where = builder.bitcast(builder.gep(p, [i]), self.vector.as_pointer())
        self._left = builder.sub(count, i)
        self.whole = builder.icmp_signed(">=", self._left, index(kind.lanes))
        self._numbers = ir.Constant(ir.VectorType(lane, kind.lanes), list(range(kind.lanes)))
        self._kind = kind

    def mask(self):
        left = splat(self.builder, self.builder.trunc(self._left, ir.IntType(32)), self._kind)
        return self.builder.icmp_signed("<", self._numbers, left)

    def part(self, filler):
        """The elements inside, the filler in the other lanes."""
        rest = ir.Constant(self.vector, [filler] * self._kind.lanes)
        return masked_load(self.builder, self.where, self.align, self.mask(), rest)


@intrinsic
def load_vector(typingctx, p, i, count):
    """The elements from i on of a span of `count`, a Vector; zeros in the lanes behind its end."""
    sig = vector_kind(p)(p, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        place = _Place(builder, *args, signature.return_type)
        with builder.if_else(place.whole, likely=True) as (then, otherwise):
            with then:
                whole = builder.load(place.where, align=place.align)
                whole_block = builder.block
            with otherwise:
                part = place.part(0.0)
                part_block = builder.block
        result = builder.phi(place.vector)
        result.add_incoming(whole, whole_block)
        result.add_incoming(part, part_block)
        return result

    return sig, codegen


@intrinsic
def store_vector(typingctx, p, i, count, value):
    """Write a Vector to the elements from i on of a span of `count`; lanes behind its end go nowhere."""
    sig = types.void(p, types.intp, types.intp, vector_kind(p))

    def codegen(context, builder, signature, args):
        place = _Place(builder, *args[:3], signature.args[3])
        with builder.if_else(place.whole, likely=True) as (then, otherwise):
            with then:
                builder.store(args[3], place.where, align=place.align)
            with otherwise:
                masked_store(builder, args[3], place.where, place.align, place.mask())
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def lanes_of(typingctx, p):
    """The lanes of `load_vector`, a constant known from the pointer's type."""
    value = vector_kind(p).lanes
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c rounded once, on every target (a library call where the CPU has no such instruction)."""
    sig = a(a, a, a)

    def codegen(context, builder, signature, args):
        return builder.call(intrinsic_function(builder, "fma", signature.return_type, 3), args)

    return sig, codegen


@intrinsic
def select(typingctx, condition, a, b):
    """`a if condition else b` without a branch, both being computed; lane by lane for Vectors."""
    sig = a(Vector(types.boolean, a.lanes) if isinstance(a, Vector) else types.boolean, a, a)

    def codegen(context, builder, signature, args):
        return builder.select(args[0], args[1], args[2])

    return sig, codegen


def _at_most(builder, x, limit):
    return builder.select(builder.fcmp_ordered(">", x, limit), limit, x)


def _at_least(builder, x, limit):
    return builder.select(builder.fcmp_ordered("<", x, limit), limit, x)


@intrinsic
def at_most(typingctx, x, limit):
    """The smaller of both; x itself if it is NaN, or a zero and the limit the other one."""
    return x(x, x), lambda context, builder, signature, args: _at_most(builder, *args)


@intrinsic
def at_least(typingctx, x, limit):
    """The larger of both; x itself if it is NaN, or a zero and the limit the other one."""
    return x(x, x), lambda context, builder, signature, args: _at_least(builder, *args)


@intrinsic
def clamp(typingctx, x, low, high):
    """x within [low, high]; NaN stays NaN."""
    emit = lambda context, builder, signature, args: _at_most(builder, _at_least(builder, *args[:2]), args[2])
    return x(x, x, x), emit


@intrinsic
def bits(typingctx, x):
    """The bit pattern of a float as a signed integer of the same width."""
    sig = (types.int64 if x == types.float64 else types.int32)(x)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(signature.return_type.bitwidth))

    return sig, codegen


@intrinsic
def from_bits(typingctx, i):
    """The float whose bit pattern is a signed integer of the same width."""
    sig = (types.float64 if i == types.int64 else types.float32)(i)

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], llvm_type(signature.return_type))

    return sig, codegen


@intrinsic
def transpose_square(typingctx, source, source_row, out, out_row):
    """out[j, i] = source[i, j] for a square of one vector's lanes, in registers: log2(lanes) rounds of interleaving."""
    index = types.intp
    sig = types.void(source, index, source, index)

    def codegen(context, builder, signature, args):
        source, source_row, out, out_row = args
        scalar = signature.args[0].dtype
        align = scalar.bitwidth // 8
        lanes = VECTOR_BYTES // align
        vector = ir.VectorType(llvm_type(scalar), lanes)
        kind = ir.VectorType(ir.IntType(32), lanes)
        row = lambda p, stride, i: builder.bitcast(
            builder.gep(p, [builder.mul(stride, ir.IntType(64)(i))]), vector.as_pointer()
        )
        rows = [builder.load(row(source, source_row, i), align=align) for i in range(lanes)]
        half = lanes // 2
        low = ir.Constant(kind, [lane for i in range(half) for lane in (i, i + lanes)])
        high = ir.Constant(kind, [lane for i in range(half, lanes) for lane in (i, i + lanes)])
        for _ in range(lanes.bit_length() - 1):
            rows = [builder.shuffle_vector(rows[i], rows[i + half], part) for i in range(half) for part in (low, high)]
        for i in range(lanes):
            builder.store(rows[i], row(out, out_row, i), align=align)
        return context.get_dummy_value()

    return sig, codegen


@intrinsic
def vector_lanes(typingctx, p):
    """Elements in one of the CPU's vectors, a constant known from the pointer's type."""
    value = VECTOR_BYTES // (p.dtype.bitwidth // 8)
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


@intrinsic
def constant(typingctx, value, like):
    """A number in the type of `like`, in all its lanes: a plain 0.5 is a float64 and makes float32 code double."""
    sig = like(value if value == types.float32 else types.float64, like)

    def codegen(context, builder, signature, args):
        kind = signature.return_type
        return splat(builder, context.cast(builder, args[0], signature.args[0], element_of(kind)), kind)

    return sig, codegen


@intrinsic
def flat_pointer(typingctx, array):
    """`pointer` for code that walks memory in order: refuses, when compiling, what may not be contiguous."""
    if array.layout != "C":
        raise TypingError(f"expected a C-contiguous array, got one of layout {array.layout!r} ({array})")
    sig = types.CPointer(array.dtype)(array)

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return sig, codegen


def _lane_reduction(builder, p, count, scalar, accumulator, neutral, combine, prepare=lambda v: v):
    """LANES partial results, lane i of the elements i, i + LANES, ..., then halves combined: one order everywhere."""
    index, wide = ir.IntType(64), ir.VectorType(accumulator, LANES)
    widen = lambda v: prepare(v if v.type == wide else builder.fpext(v, wide))
    kind = Vector(scalar, LANES)
    whole = builder.and_(count, index(-LANES))
    sums = cgutils.alloca_once_value(builder, ir.Constant(wide, [neutral] * LANES))
    builder.store(ir.Constant(wide, [neutral] * LANES), sums)
    with cgutils.for_range_slice(builder, index(0), whole, index(LANES), index) as (i, _):
        here = _Place(builder, p, i, count, kind)
        builder.store(combine(builder.load(sums), widen(builder.load(here.where, align=here.align))), sums)
    rest = _Place(builder, p, whole, count, kind).part(neutral)
    return _halved(builder, combine(builder.load(sums), widen(rest)), combine)


def _halves(builder, value):
    """The lower and the upper half of a vector's lanes."""
    half = value.type.count // 2
    undefined = ir.Constant(value.type, ir.Undefined)
    lanes = [ir.Constant(ir.VectorType(ir.IntType(32), half), list(range(s, s + half))) for s in (0, half)]
    return [builder.shuffle_vector(value, undefined, part) for part in lanes]


def _halved(builder, value, combine):
    """The one lane left when again and again the upper half of the lanes is combined into the lower one."""
    while value.type.count > 1:
        value = combine(*_halves(builder, value))
    return builder.extract_element(value, ir.IntType(32)(0))


def _larger(builder, a, b):
    return builder.select(builder.fcmp_ordered(">", b, a), b, a)


@intrinsic
def lane_sum(typingctx, p, count):
    """The sum of `count` elements in float64, in an order that depends on the count alone."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        return _lane_reduction(builder, args[0], args[1], scalar, ir.DoubleType(), 0.0, builder.fadd)

    return types.float64(p, types.intp), codegen


@intrinsic
def lane_sum_of_squares(typingctx, p, count):
    """The sum of the squares of `count` elements in float64, in an order that depends on the count alone."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        square = lambda v: builder.fmul(v, v)
        return _lane_reduction(builder, args[0], args[1], scalar, ir.DoubleType(), 0.0, builder.fadd, square)

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
        return _lane_reduction(builder, args[0], args[1], scalar, ir.DoubleType(), 0.0, builder.fadd, each)

    return types.float64(p, types.intp), codegen


@intrinsic
def lane_max(typingctx, p, count):
    """The largest of `count` elements, NaN passed over; -inf if there is none."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        larger = functools.partial(_larger, builder)
        return _lane_reduction(builder, args[0], args[1], scalar, llvm_type(scalar), float("-inf"), larger)

    return p.dtype(p, types.intp), codegen


# ---- A row of at most LANES elements, one Vector: reduced in registers to the same bits as in memory


@intrinsic
def load_row(typingctx, p, count):
    """A row of `count` elements, at most LANES, as a Vector of LANES; zeros in the lanes behind its end."""
    sig = Vector(p.dtype, LANES)(p, types.intp)

    def codegen(context, builder, signature, args):
        return _Place(builder, args[0], ir.IntType(64)(0), args[1], signature.return_type).part(0.0)

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
            low, high = _halves(builder, rest)
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
def row_max(typingctx, row):
    """`lane_max` of a Vector of LANES."""

    def codegen(context, builder, signature, args):
        return _halved(builder, args[0], functools.partial(_larger, builder))

    return row.dtype(row), codegen


@intrinsic
def aligned(typingctx, p):
    """The first address at or after p that begins a cache line."""
    sig = p(p)

    def codegen(context, builder, signature, args):
        index = ir.IntType(64)
        number = builder.add(builder.ptrtoint(args[0], index), index(63))
        return builder.inttoptr(builder.and_(number, index(-64)), args[0].type)

    return sig, codegen


@intrinsic
def itemsize(typingctx, p):
    """Bytes of one element, a constant known from the pointer's type."""
    value = p.dtype.bitwidth // 8
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


@intrinsic
def by_type(typingctx, x, single, double):
    """A literal in the type of x: `single` if that is float32, `double` if it is float64."""
    sig = x(x, types.float64, types.float64)

    def codegen(context, builder, signature, args):
        kind = signature.return_type
        element = element_of(kind)
        value = context.cast(builder, args[2] if element == types.float64 else args[1], types.float64, element)
        return splat(builder, value, kind)

    return sig, codegen


@intrinsic
def polynomial(typingctx, x, single, double):
    """c[0] + c[1] x + c[2] x^2 + ... by Horner's rule in fma; c is the tuple `single` or `double`, by the type of x."""
    sig = x(x, single, double)

    def codegen(context, builder, signature, args):
        kind = signature.return_type
        element = element_of(kind)
        which = 2 if element == types.float64 else 1
        coefficient = lambda i: splat(
            builder, context.cast(builder, builder.extract_value(args[which], i), types.float64, element), kind
        )
        function = intrinsic_function(builder, "fma", kind, 3)
        count = len(signature.args[which])
        result = coefficient(count - 1)
        for i in range(count - 2, -1, -1):
            result = builder.call(function, [result, args[0], coefficient(i)])
        return result

    return sig, codegen


class _Bits:
    """The integers as wide as a float, or the Vector of them: type, constants, and the float's layout."""

    def __init__(self, kind):
        size, self.fraction, self.bias = (64, 52, 1023) if element_of(kind) == types.float64 else (32, 23, 127)
        self._lanes = kind.lanes if isinstance(kind, Vector) else 0
        element = ir.IntType(size)
        self.type = ir.VectorType(element, self._lanes) if self._lanes else element

    def __call__(self, value):
        return ir.Constant(self.type, [value] * self._lanes if self._lanes else value)


@intrinsic
def copysign(typingctx, magnitude, sign):
    """|magnitude| with the sign of `sign`, signed zeros and NaN included."""
    sig = magnitude(magnitude, magnitude)

    def codegen(context, builder, signature, args):
        return builder.call(intrinsic_function(builder, "copysign", signature.return_type, 2), args)

    return sig, codegen


@intrinsic
def power_of_two(typingctx, shifted, offset):
    """2 ** (n + offset), a normal number, from n + 1.5 * 2**(fraction bits): n then stands in the lowest bits."""
    sig = shifted(shifted, shifted)

    def codegen(context, builder, signature, args):
        integer = _Bits(signature.return_type)
        n = builder.shl(builder.bitcast(args[0], integer.type), integer(integer.fraction))
        start = builder.add(builder.fptosi(args[1], integer.type), integer(integer.bias))
        power = builder.add(n, builder.shl(start, integer(integer.fraction)))
        return builder.bitcast(power, llvm_type(signature.return_type))

    return sig, codegen


@intrinsic
def power_of_two_halves(typingctx, shifted):
    """(a, b) with a * b = 2 ** n from n + 1.5 * 2**(fraction bits): for n that are the exponent of no normal number."""
    sig = types.UniTuple(shifted, 2)(shifted)

    def codegen(context, builder, signature, args):
        integer = _Bits(signature.args[0])
        n = builder.bitcast(args[0], integer.type)
        half = builder.ashr(n, integer(1))
        fraction = integer(integer.fraction)
        one = integer(integer.bias << integer.fraction)
        powers = [
            builder.bitcast(builder.add(builder.shl(part, fraction), one), llvm_type(signature.args[0]))
            for part in (half, builder.sub(n, half))
        ]
        return context.make_tuple(builder, signature.return_type, powers)

    return sig, codegen


@intrinsic
def split_exponent(typingctx, x):
    """(n + 1.5 * 2**(fraction bits), m) with x = 2**n * m and sqrt(1/2) <= m < sqrt(2), for normal x > 0."""
    sig = types.UniTuple(x, 2)(x)

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        integer = _Bits(kind)
        fraction, bias = integer.fraction, integer.bias
        root_half = 0x3FE6A09E667F3BCD if element_of(kind) == types.float64 else 0x3F3504F3
        pattern = builder.bitcast(args[0], integer.type)
        above = builder.sub(pattern, integer(root_half))
        n = builder.ashr(above, integer(fraction))
        shifted = builder.add(n, integer(((bias + fraction) << fraction) | (1 << (fraction - 1))))
        m = builder.sub(pattern, builder.and_(above, integer(-1 << fraction)))
        return context.make_tuple(
            builder, signature.return_type, [builder.bitcast(v, llvm_type(kind)) for v in (shifted, m)]
        )

    return sig, codegen


def table_polynomial(table, entries):
    """A function (x, at): the polynomial of x - centre whose number stands in the lowest bits of `at`, float32.

    Args:
        table: rows of a number for each polynomial: the centres, then the coefficients, the constant ones first.
        entries: the first so many of them, 16 or 32.

    An entry is found by a permutation of a row's registers: on AVX-512 one instruction for 16 lanes, vpermps for 16
    entries, and for 32 vpermi2ps, which takes 1.4 times as long. CPUs without a permutation by variables read memory
    lane by lane.
    """
    table = [row[:entries] for row in table]

    @intrinsic
    def evaluate(typingctx, x, at):
        def codegen(context, builder, signature, args):
            kind = signature.return_type
            find = _Entries(builder, args[1], kind, entries)
            rest = builder.fsub(args[0], find(table[0]))
            function = intrinsic_function(builder, "fma", kind, 3)
            result = find(table[-1])
            for row in reversed(table[1:-1]):
                result = builder.call(function, [result, rest, find(row)])
            return result

        return x(x, x), codegen

    return evaluate


class _Entries:
    """Entries of tables of float32 numbers by the lowest bits of a float or of each lane of a Vector."""

    def __init__(self, builder, at, kind, entries):
        self._builder, self._kind, self._entries = builder, kind, entries
        self._lanes = VECTOR_BYTES // 4
        self._permutes = isinstance(kind, Vector) and self._lanes >= 8
        integer = _Bits(kind)
        pattern = builder.bitcast(at, integer.type)
        # A permutation takes no notice of higher bits.
        self._index = pattern if self._permutes else builder.and_(pattern, integer(entries - 1))

    def __call__(self, row):
        if not self._permutes:
            return self._from_memory(row)
        native = self._lanes
        parts = [self._permuted(row, first) for first in range(0, self._kind.lanes, native)]
        while len(parts) > 1:
            parts = [self._joined(*pair) for pair in zip(parts[::2], parts[1::2], strict=True)]
        return parts[0]

    def _joined(self, low, high):
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), 2 * low.type.count), list(range(2 * low.type.count)))
        return self._builder.shuffle_vector(low, high, lanes)

    def _permuted(self, row, first):
        """The entries of one of the CPU's vectors of lanes, from lane `first` on."""
        builder, native = self._builder, self._lanes
        number, numbers = ir.IntType(32), ir.VectorType(ir.IntType(32), native)
        value = ir.VectorType(ir.FloatType(), native)
        lanes = ir.Constant(numbers, list(range(first, first + native)))
        index = builder.shuffle_vector(self._index, ir.Constant(self._index.type, ir.Undefined), lanes)
        halves = [ir.Constant(value, list(row[start : start + native])) for start in range(0, self._entries, native)]
        if native == 16 and len(halves) == 2:
            return builder.call(
                self._function("avx512.vpermi2var.ps.512", [value, numbers, value]), [halves[0], index, halves[1]]
            )
        # It takes the lowest bits of an index that lead to a lane, the next ones choose between the results.
        permute = self._function({16: "avx512.permvar.sf.512", 8: "avx2.permps"}[native], [value, numbers])
        found = [builder.call(permute, [half, index]) for half in halves]
        bit = native
        while len(found) > 1:
            bits_set = builder.and_(index, ir.Constant(numbers, [number(bit)] * native))
            other = builder.icmp_unsigned("!=", bits_set, ir.Constant(numbers, [0] * native))
            found = [builder.select(other, *pair[::-1]) for pair in zip(found[::2], found[1::2], strict=True)]
            bit *= 2
        return found[0]

    def _function(self, name, arguments):
        kind = ir.FunctionType(arguments[0], arguments)
        return cgutils.get_or_insert_function(self._builder.module, kind, f"llvm.x86.{name}")

    def _from_memory(self, row):
        builder, number = self._builder, ir.IntType(32)
        data = ir.Constant(ir.ArrayType(ir.FloatType(), len(row)), list(row))
        memory = cgutils.global_constant(builder, "table", data)
        read = lambda index: builder.load(builder.gep(memory, [number(0), index], inbounds=True))
        if not isinstance(self._kind, Vector):
            return read(self._index)
        result = ir.Constant(llvm_type(self._kind), ir.Undefined)
        for lane in range(self._kind.lanes):
            entry = read(builder.extract_element(self._index, number(lane)))
            result = builder.insert_element(result, entry, number(lane))
        return result


@intrinsic
def any_lane(typingctx, condition):
    """Whether a condition holds in some lane of a Vector of them; the condition itself if it is one alone."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        if not isinstance(kind, Vector):
            return args[0]
        number = ir.IntType(kind.lanes)
        return builder.icmp_unsigned("!=", builder.bitcast(args[0], number), number(0))

    return types.boolean(condition), codegen
