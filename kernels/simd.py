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

from .vector import Vector, element_of, intrinsic_function, llvm_type, masked_load, masked_store, splat

LANES = 16  # partial sums of every reduction over a vector, on every machine and for every dtype


def cpu_features():
    """The instruction-set features that Numba compiles for, after NUMBA_CPU_NAME and NUMBA_CPU_FEATURES."""
    if config.CPU_FEATURES is not None:
        return {name[1:] for name in config.CPU_FEATURES.split(",") if name.startswith("+")}
    if config.CPU_NAME not in (None, "host"):
        return set()
    found = {name for name, present in llvm.get_host_cpu_features().items() if present}
    # NUMBA_ENABLE_AVX=0
    return found if config.ENABLE_AVX else {name for name in found if not name.startswith("avx")}


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
# How far ahead elementwise functions fetch what they read. On two Zen 5 cores 8 million tanh took 1.29 ms and take
# 0.89, 4 million in float64 1.57 and 1.10, a million relu 40 and 38 us, 16,384 relu 1.10 and 1.16. 1 to 8 KB are as
# good for a million, and 4 and 8 the best for more; into L2 alone it gains a million nothing. In backward functions
# and losses as well it cost small networks' training 1 to 2 %; all lines of each 2 to 16 KB at once cost 3 to 15 %.
BYTES_AHEAD = 4096
# Elements of a cache line, of float32. Parts of workspaces and of scratch begin on one (`aligned`): vectors that lie
# across two cost double.
LINE = 16
IS_ARM = platform.machine().lower() in ("arm64", "aarch64")


# ---- Pointers


def _data(context, builder, signature, args):
    return context.make_array(signature.args[0])(context, builder, args[0]).data


@intrinsic
def pointer(typingctx, array):
    """The address of an array's first element, typed by its dtype alone: layout and mutability no longer matter."""
    return types.CPointer(array.dtype)(array), _data


@intrinsic
def flat_pointer(typingctx, array):
    """`pointer` for code that walks memory in order: refuses, when compiling, what may not be contiguous."""
    if array.layout != "C":
        raise TypingError(f"expected a C-contiguous array, got one of layout {array.layout!r} ({array})")
    return types.CPointer(array.dtype)(array), _data


@intrinsic
def keep_alive(typingctx, array):
    """Stands where an array is last needed. Numba frees it after the last use of its name, and a pointer is no use.

    So in this package nobody allocates and then works through a pointer without this after the work.
    """
    return types.void(array), lambda context, builder, signature, args: context.get_dummy_value()


def refuse_several_dtypes(*kinds):
    """Raise TypingError if arrays or pointers of these types have elements of several."""
    dtypes = [str(getattr(kind, "dtype", kind)) for kind in kinds]
    if len(set(dtypes)) > 1:
        raise TypingError(f"expected arrays of one dtype, got {', '.join(dtypes)}")


@intrinsic
def advance(typingctx, p, count):
    """The pointer `count` elements further."""
    sig = p(p, types.intp)

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return sig, codegen


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
def itemsize(typingctx, p):
    """Bytes of one element, a constant known from the pointer's type."""
    value = p.dtype.bitwidth // 8
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


@intrinsic
def load(typingctx, p, index):
    """p[index]"""
    sig = p.dtype(p, types.intp)

    def codegen(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    return sig, codegen


@intrinsic
def store(typingctx, p, index, value):
    """p[index] = value"""
    sig = types.void(p, types.intp, p.dtype)

    def codegen(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))
        return context.get_dummy_value()

    return sig, codegen


# What a line is fetched for, and into which caches: the operands of LLVM's prefetch.
TO_READ, TO_WRITE = 0, 1
UP_TO_L2, UP_TO_L1 = 2, 3


def emit_prefetch(builder, p, access, caches):
    """Emit the fetch of the line at the pointer p."""
    word = ir.IntType(32)
    where = builder.bitcast(p, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [where.type, word, word, word])
    function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
    of_data = word(1)
    builder.call(function, [where, word(access), word(caches), of_data])


def _prefetch(p, access):
    def codegen(context, builder, signature, args):
        emit_prefetch(builder, builder.gep(args[0], [args[1]]), access, UP_TO_L1)
        return context.get_dummy_value()

    return types.void(p, types.intp), codegen


@intrinsic
def prefetch_to_read(typingctx, p, index):
    """Have the CPU fetch the line of p[index], so that a later load need not wait for it."""
    return _prefetch(p, TO_READ)


@intrinsic
def prefetch_to_write(typingctx, p, index):
    """Have the CPU fetch the line of p[index], and make it its own, so that a later store need not wait for it."""
    return _prefetch(p, TO_WRITE)


# ---- Vectors in memory


def vector_kind(p):
    """The Vector in which elementwise loops go through what p points to."""
    return Vector(p.dtype, INTERLEAVE * VECTOR_BYTES // (p.dtype.bitwidth // 8))


class Place:
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


def _load_vector(p, bytes_ahead):
    """What an intrinsic for loads of vectors at p returns; bytes_ahead: how far ahead lines are fetched, 0 is not."""
    sig = vector_kind(p)(p, types.intp, types.intp)

    def codegen(context, builder, signature, args):
        place = Place(builder, *args, signature.return_type)
        with builder.if_else(place.whole, likely=True) as (then, otherwise):
            with then:
                if bytes_ahead:
                    for element in range(0, signature.return_type.lanes, 64 // place.align):
                        ahead = ir.IntType(64)(bytes_ahead // place.align + element)
                        emit_prefetch(builder, builder.gep(args[0], [builder.add(args[1], ahead)]), TO_READ, UP_TO_L1)
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
def load_vector(typingctx, p, i, count):
    """The elements from i on of a span of `count`, a Vector; zeros in the lanes behind its end."""
    return _load_vector(p, 0)


@intrinsic
def stream_vector(typingctx, p, i, count):
    """`load_vector` for loops over spans that may lie in memory: lines further on are fetched."""
    return _load_vector(p, BYTES_AHEAD)


@intrinsic
def store_vector(typingctx, p, i, count, value):
    """Write a Vector to the elements from i on of a span of `count`; lanes behind its end go nowhere."""
    sig = types.void(p, types.intp, types.intp, vector_kind(p))

    def codegen(context, builder, signature, args):
        place = Place(builder, *args[:3], signature.args[3])
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
def vector_lanes(typingctx, p):
    """Elements in one of the CPU's vectors, a constant known from the pointer's type."""
    value = VECTOR_BYTES // (p.dtype.bitwidth // 8)
    return types.intp(p), lambda context, builder, signature, args: context.get_constant(types.intp, value)


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


# ---- Numbers and Vectors


@intrinsic
def constant(typingctx, value, like):
    """A number in the type of `like`, in all its lanes: a plain 0.5 is a float64 and makes float32 code double."""
    sig = like(value if value == types.float32 else types.float64, like)

    def codegen(context, builder, signature, args):
        kind = signature.return_type
        return splat(builder, context.cast(builder, args[0], signature.args[0], element_of(kind)), kind)

    return sig, codegen


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
def copysign(typingctx, magnitude, sign):
    """|magnitude| with the sign of `sign`, signed zeros and NaN included."""
    sig = magnitude(magnitude, magnitude)

    def codegen(context, builder, signature, args):
        return builder.call(intrinsic_function(builder, "copysign", signature.return_type, 2), args)

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
