"""Dropout (Srivastava et al. 2014), inverted: out = x / (1 - rate) where a unit is kept, 0 where it is dropped.

Whether a unit is kept follows from where it stands alone, so a mask is worked out wherever it is needed, forward and
backward, on any thread, and is stored nowhere. Element e of a layer's (rows, units) of a batch takes a word of

    Philox 4x32-10 (Salmon et al. 2011), counter (block, layer, update, update >> 32), key the 64 bits of the seed

and is dropped if that word is below rate * 2^32. A block has four words: element 64 g + 16 w + i of a layer takes word
w of block 16 g + i, so that words of one number fill a vector. Blocks are counted in 32 bits: beyond 2^34 elements of
one layer in one batch the mask comes again.
"""

from collections import namedtuple

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .argument_checks import require_all, require_arrays
from .jit import inner, kernel, plain
from .simd import LANES, flat_pointer
from .vector import Vector, llvm_type, masked_load, masked_store, splat

# Elements that the words of LANES blocks decide on.
GROUP = 4 * LANES
ROUNDS = 10
MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
WEYL = 0x9E3779B9, 0xBB67AE85
# A rate is a whole number of 2^-32.
RATE_UNITS = 2**32

# What one layer drops in one update. threshold: its rate in RATE_UNITS; seed: 64 bits, as a signed number.
Mask = namedtuple("Mask", "threshold seed update layer")


@plain
def rate_threshold(rate):
    """A rate in 0 <= rate < 1 as kernels take it; what rounds to 1 is cut to the largest rate below it."""
    return min(int(rate * RATE_UNITS + 0.5), RATE_UNITS - 1)


def _words(builder, group, mask):
    """The four words of LANES blocks, vectors of 32 bits."""
    narrow, wide = ir.VectorType(ir.IntType(32), LANES), ir.VectorType(ir.IntType(64), LANES // 2)
    kind = Vector(types.float32, LANES)
    low_word = lambda value: splat(builder, builder.trunc(value, ir.IntType(32)), kind)
    constant = lambda value, vector: ir.Constant(vector, [value] * vector.count)
    high = lambda value: builder.lshr(value, ir.IntType(64)(32))
    seed, update, layer = mask
    half, lower, upper = constant(32, wide), constant(2**32 - 1, wide), constant(2**64 - 2**32, wide)

    def product(multiplier, value):
        """(high, low) 32 bits of a product: even and odd lanes apart, as the CPU multiplies 32 bits to 64.

        Widened first, all lanes side by side, 49,152 numbers were dropped in 33 us, and now in 16 (Zen 5).
        """
        pairs, factor = builder.bitcast(value, wide), constant(multiplier, wide)
        even, odd = (builder.mul(factor, part) for part in (builder.and_(pairs, lower), builder.lshr(pairs, half)))
        highs = builder.or_(builder.lshr(even, half), builder.and_(odd, upper))
        lows = builder.or_(builder.and_(even, lower), builder.shl(odd, half))
        return builder.bitcast(highs, narrow), builder.bitcast(lows, narrow)

    first = low_word(builder.mul(group, ir.IntType(64)(LANES)))
    counter = [
        builder.add(first, ir.Constant(narrow, list(range(LANES)))),
        low_word(layer),
        low_word(update),
        low_word(high(update)),
    ]
    key = [low_word(seed), low_word(high(seed))]
    for _ in range(ROUNDS):
        (high0, low0), (high1, low1) = product(MULTIPLIERS[0], counter[0]), product(MULTIPLIERS[1], counter[2])
        counter = [
            builder.xor(builder.xor(high1, counter[1]), key[0]),
            low1,
            builder.xor(builder.xor(high0, counter[3]), key[1]),
            low0,
        ]
        key = [builder.add(part, constant(step, narrow)) for part, step in zip(key, WEYL, strict=True)]
    return counter


@intrinsic
def _drop_group(typingctx, x, out, here, count, group, mask, scale):
    """Elements of one group: those at x[here ...], of which 0 .. count - 1 are there."""
    index = types.intp
    sig = types.void(x, out, index, index, index, mask, types.float64)

    def codegen(context, builder, signature, args):
        x, out, here, count, group, mask, scale = args
        threshold, *rest = cgutils.unpack_tuple(builder, mask, 4)
        words = _words(builder, group, rest)
        kind = Vector(signature.args[0].dtype, LANES)
        vector, lanes = llvm_type(kind), ir.VectorType(ir.IntType(64), LANES)
        flags = ir.VectorType(ir.IntType(1), LANES)
        i64, align = ir.IntType(64), kind.dtype.bitwidth // 8
        factor = splat(builder, context.cast(builder, scale, types.float64, kind.dtype), kind)
        zero = ir.Constant(vector, [0.0] * LANES)
        limit = splat(builder, builder.trunc(threshold, ir.IntType(32)), kind)
        end = builder.add(here, i64(GROUP))
        whole = builder.and_(builder.icmp_signed(">=", here, i64(0)), builder.icmp_signed("<=", end, count))

        def place(p, at):
            return builder.bitcast(builder.gep(p, [at]), vector.as_pointer())

        with builder.if_else(whole, likely=True) as (then, otherwise):
            for block, is_whole in ((then, True), (otherwise, False)):
                with block:
                    for w, word in enumerate(words):
                        at = builder.add(here, i64(w * LANES))
                        kept = builder.icmp_unsigned(">=", word, limit)
                        if is_whole:
                            value = builder.load(place(x, at), align=align)
                        else:
                            number = builder.add(splat(builder, at, kind), ir.Constant(lanes, list(range(LANES))))
                            there = builder.and_(
                                builder.icmp_signed(">=", number, ir.Constant(lanes, [0] * LANES)),
                                builder.icmp_signed("<", number, splat(builder, count, kind)),
                            )
                            assert there.type == flags
                            value = masked_load(builder, place(x, at), align, there, zero)
                        value = builder.select(kept, builder.fmul(value, factor), zero)
                        if is_whole:
                            builder.store(value, place(out, at), align=align)
                        else:
                            masked_store(builder, value, place(out, at), align, there)
        return context.get_dummy_value()

    return sig, codegen


@inner
def drop_elements(x, out, first, count, mask):
    """out = x with units dropped, for elements first .. first + count of a layer's batch; x and out may be one span."""
    scale = 1.0 / (1.0 - mask.threshold / RATE_UNITS)
    group = first // GROUP
    for here in range(group * GROUP - first, count, GROUP):
        _drop_group(x, out, here, count, group, (mask.threshold, mask.seed, mask.update, mask.layer), scale)
        group += 1


@kernel
def dropout(x, rate, seed, update, layer, out):
    """out = x / (1 - rate) where a unit is kept, 0 where it is dropped; of dy it makes dx, since it is linear.

    Args:
        x: (rows, units) C-contiguous float32 or float64.
        rate: the probability with which a unit is dropped, 0 <= rate < 1, taken in whole numbers of 2^-32.
        seed, update, layer: int64, the last below 2^32; they fix the mask, together with row and unit.
        out: like x; may be x itself.

    The same numbers drop the same units, on any machine:

    >>> x, out = np.ones((2, 4)), np.empty((2, 4))
    >>> kernels.dropout(x, 0.5, 0, 1, 0, out)  # rate, seed, update, layer
    >>> out
    array([[2., 2., 2., 0.],
           [2., 2., 0., 0.]])
    """
    require_arrays("flat x 2, result out 2", (x, out))
    require_all(
        (x.shape == out.shape, 0.0 <= rate < 1.0),
        ("out: expected the shape of x", "rate: expected at least 0 and less than 1"),
    )
    mask = Mask(rate_threshold(rate), seed, update, layer)
    drop_elements(flat_pointer(x), flat_pointer(out), 0, x.size, mask)
