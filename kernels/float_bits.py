"""Floats by their bits: powers of two, and numbers taken apart into exponent and fraction.

Whole numbers n travel as n + 1.5 * 2**(fraction bits), "shifted": the lowest bits of that float are those of n.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .vector import Vector, element_of, llvm_type


class Bits:
    """The integers as wide as a float, or the Vector of them: type, constants, and the float's layout."""

    def __init__(self, kind):
        size, self.fraction, self.bias = (64, 52, 1023) if element_of(kind) == types.float64 else (32, 23, 127)
        self._lanes = kind.lanes if isinstance(kind, Vector) else 0
        element = ir.IntType(size)
        self.type = ir.VectorType(element, self._lanes) if self._lanes else element

    def __call__(self, value):
        return ir.Constant(self.type, [value] * self._lanes if self._lanes else value)


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
def power_of_two(typingctx, shifted, offset):
    """2 ** (n + offset), a normal number, from n + 1.5 * 2**(fraction bits): n then stands in the lowest bits."""
    sig = shifted(shifted, shifted)

    def codegen(context, builder, signature, args):
        integer = Bits(signature.return_type)
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
        integer = Bits(signature.args[0])
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
        integer = Bits(kind)
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
