"""The machine: its vector width, raw pointers and the few instructions that Numba does not offer.

Everything here is an `@intrinsic`, inlined where it is used. Code that works on pointers trusts its caller: the
public door has checked every shape before a pointer exists.
"""

import platform

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic

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
IS_ARM = platform.machine().lower() in ("arm64", "aarch64")


def llvm_type(scalar):
    return ir.DoubleType() if scalar == types.float64 else ir.FloatType()


def llvm_suffix(scalar):
    return "f64" if scalar == types.float64 else "f32"


@intrinsic
def pointer(typingctx, array):
    """The address of an array's first element, typed by its dtype alone: layout and mutability no longer matter."""
    sig = types.CPointer(array.dtype)(array)

    def codegen(context, builder, signature, args):
        return context.make_array(signature.args[0])(context, builder, args[0]).data

    return sig, codegen


@intrinsic
def advance(typingctx, p, count):
    """The pointer `count` elements further."""
    sig = p(p, types.intp)

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return sig, codegen


@intrinsic
def address(typingctx, p):
    """The pointer as an integer, for comparing two of them."""
    sig = types.intp(p)

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], ir.IntType(types.intp.bitwidth))

    return sig, codegen


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


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c rounded once, on every target (a library call where the CPU has no such instruction)."""
    sig = a(a, a, a)

    def codegen(context, builder, signature, args):
        value = llvm_type(signature.return_type)
        name = f"llvm.fma.{llvm_suffix(signature.return_type)}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(value, [value] * 3), name)
        return builder.call(function, args)

    return sig, codegen


@intrinsic
def select(typingctx, condition, a, b):
    """`a if condition else b` without a branch: both are computed, so the loop around it vectorises."""
    sig = a(types.boolean, a, a)

    def codegen(context, builder, signature, args):
        return builder.select(args[0], args[1], args[2])

    return sig, codegen


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
    """A literal in the type of `like`: a plain 0.5 is a float64 and would drag float32 code into double arithmetic."""
    sig = like(types.float64, like)

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], types.float64, signature.return_type)

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
    index = ir.IntType(64)
    lane = ir.IntType(32)
    numbers = ir.VectorType(lane, LANES)
    vector = ir.VectorType(llvm_type(scalar), LANES)
    wide = ir.VectorType(accumulator, LANES)
    flags = ir.VectorType(ir.IntType(1), LANES)
    name = f"llvm.masked.load.v{LANES}{llvm_suffix(scalar)}.p0"
    kind = ir.FunctionType(vector, [vector.as_pointer(), flags, vector])
    masked_load = cgutils.get_or_insert_function(builder.module, kind, name)
    filler = ir.Constant(vector, [neutral] * LANES)
    where = lambda i: builder.bitcast(builder.gep(p, [i]), vector.as_pointer())
    widen = lambda v: prepare(v if vector == wide else builder.fpext(v, wide))

    whole = builder.and_(count, index(-LANES))
    sums = cgutils.alloca_once_value(builder, ir.Constant(wide, [neutral] * LANES))
    builder.store(ir.Constant(wide, [neutral] * LANES), sums)
    with cgutils.for_range_slice(builder, index(0), whole, index(LANES), index) as (i, _):
        builder.store(combine(builder.load(sums), widen(builder.load(where(i), align=scalar.bitwidth // 8))), sums)
    left = builder.trunc(builder.sub(count, whole), lane)
    undefined = ir.Constant(numbers, ir.Undefined)
    spread = builder.shuffle_vector(
        builder.insert_element(undefined, left, lane(0)), undefined, ir.Constant(numbers, [0] * LANES)
    )
    mask = builder.icmp_signed("<", ir.Constant(numbers, list(range(LANES))), spread)
    result = combine(builder.load(sums), widen(builder.call(masked_load, [where(whole), mask, filler])))
    width = LANES
    while width > 1:
        width //= 2
        halves = [ir.Constant(ir.VectorType(lane, width), list(range(s, s + width))) for s in (0, width)]
        undefined = ir.Constant(result.type, ir.Undefined)
        low, high = (builder.shuffle_vector(result, undefined, half) for half in halves)
        result = combine(low, high)
    return builder.extract_element(result, lane(0))


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
def lane_max(typingctx, p, count):
    """The largest of `count` elements, NaN passed over; -inf if there is none."""

    def codegen(context, builder, signature, args):
        scalar = signature.args[0].dtype
        larger = lambda a, b: builder.select(builder.fcmp_ordered(">", b, a), b, a)
        return _lane_reduction(builder, args[0], args[1], scalar, llvm_type(scalar), float("-inf"), larger)

    return p.dtype(p, types.intp), codegen


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
        return context.cast(builder, args[2] if kind == types.float64 else args[1], types.float64, kind)

    return sig, codegen


@intrinsic
def polynomial(typingctx, x, single, double):
    """c[0] + c[1] x + c[2] x^2 + ... by Horner's rule in fma; c is the tuple `single` or `double`, by the type of x."""
    sig = x(x, single, double)

    def codegen(context, builder, signature, args):
        kind = signature.return_type
        value = llvm_type(kind)
        table = args[2] if kind == types.float64 else args[1]
        count = len(signature.args[2] if kind == types.float64 else signature.args[1])
        coefficient = lambda i: context.cast(builder, builder.extract_value(table, i), types.float64, kind)
        name = f"llvm.fma.{llvm_suffix(kind)}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(value, [value] * 3), name)
        result = coefficient(count - 1)
        for i in range(count - 2, -1, -1):
            result = builder.call(function, [result, args[0], coefficient(i)])
        return result

    return sig, codegen


def _integer_layout(scalar):
    """The integer type as wide as a float, its number of stored fraction bits and the bias of its exponent."""
    return (ir.IntType(64), 52, 1023) if scalar == types.float64 else (ir.IntType(32), 23, 127)


@intrinsic
def copysign(typingctx, magnitude, sign):
    """|magnitude| with the sign of `sign`, signed zeros and NaN included."""
    sig = magnitude(magnitude, magnitude)

    def codegen(context, builder, signature, args):
        value = llvm_type(signature.return_type)
        name = f"llvm.copysign.{llvm_suffix(signature.return_type)}"
        function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(value, [value] * 2), name)
        return builder.call(function, args)

    return sig, codegen


@intrinsic
def power_of_two(typingctx, shifted, offset):
    """2 ** (n + offset), a normal number, from n + 1.5 * 2**(fraction bits): n then stands in the lowest bits."""
    sig = shifted(shifted, shifted)

    def codegen(context, builder, signature, args):
        integer, fraction, bias = _integer_layout(signature.return_type)
        n = builder.shl(builder.bitcast(args[0], integer), integer(fraction))
        start = builder.add(builder.fptosi(args[1], integer), integer(bias))
        power = builder.add(n, builder.shl(start, integer(fraction)))
        return builder.bitcast(power, llvm_type(signature.return_type))

    return sig, codegen


@intrinsic
def power_of_two_halves(typingctx, shifted):
    """(a, b) with a * b = 2 ** n from n + 1.5 * 2**(fraction bits): for n that are the exponent of no normal number."""
    sig = types.UniTuple(shifted, 2)(shifted)

    def codegen(context, builder, signature, args):
        integer, fraction, bias = _integer_layout(signature.args[0])
        n = builder.bitcast(args[0], integer)
        half = builder.ashr(n, integer(1))
        one = integer(bias << fraction)
        powers = [
            builder.bitcast(builder.add(builder.shl(part, integer(fraction)), one), llvm_type(signature.args[0]))
            for part in (half, builder.sub(n, half))
        ]
        return context.make_tuple(builder, signature.return_type, powers)

    return sig, codegen


@intrinsic
def split_exponent(typingctx, x):
    """(n + 1.5 * 2**(fraction bits), m) with x = 2**n * m and sqrt(1/2) <= m < sqrt(2), for normal x > 0."""
    sig = types.UniTuple(x, 2)(x)

    def codegen(context, builder, signature, args):
        scalar = signature.args[0]
        integer, fraction, bias = _integer_layout(scalar)
        root_half = 0x3FE6A09E667F3BCD if scalar == types.float64 else 0x3F3504F3
        pattern = builder.bitcast(args[0], integer)
        above = builder.sub(pattern, integer(root_half))
        n = builder.ashr(above, integer(fraction))
        shifted = builder.add(n, integer(((bias + fraction) << fraction) | (1 << (fraction - 1))))
        m = builder.sub(pattern, builder.and_(above, integer(-1 << fraction)))
        return context.make_tuple(
            builder, signature.return_type, [builder.bitcast(v, llvm_type(scalar)) for v in (shifted, m)]
        )

    return sig, codegen
