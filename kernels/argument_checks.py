"""What kernels by name check of their arguments: where a shape did not fit, they would write into memory of another's.

What types tell is checked when a call is compiled, shapes at each call, for a nanosecond. Numba never lets go of arrays
with which a call has raised. `fastnn`'s own doors have looked at everything before, and say what they got besides.
"""

from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic

from .jit import glue, inner

FLOATS = types.float32, types.float64
# What an array is expected to be, besides one of floats.
KINDS = {
    "strided": lambda array: True,
    "flat": lambda array: array.layout == "C",
    "result": lambda array: array.layout == "C" and array.mutable,
}
WORDS = {"strided": "an array", "flat": "a C-contiguous array", "result": "a writeable C-contiguous array"}


@intrinsic(prefer_literal=True)
def require_arrays(typingctx, expected, arrays):
    """Refuse, when compiling, arrays of several dtypes, and those that by their types are not what is expected of them.

    expected: for each array in the tuple its kind, its name and the number of its axes, unless any will do, as
        "strided x 2, flat bias 1, result out".
    """
    if not isinstance(expected, types.StringLiteral):
        # Numba asks without literals once it has been refused.
        raise TypingError("expected a literal string")
    dtype = getattr(arrays[0], "dtype", None)
    for words, array in zip(expected.literal_value.split(", "), arrays, strict=True):
        kind, name, *axes = words.split()
        # No errors of Numba's: those wait for others, and what comes next fails for such types in ways of its own.
        if not isinstance(array, types.Array) or array.dtype not in FLOATS:
            raise TypeError(f"{name}: expected {WORDS[kind]} of float32 or float64, got {array}")
        if array.dtype != dtype:
            raise TypeError(f"{name}: expected an array of {dtype}, as others are, got {array}")
        if not KINDS[kind](array) or (axes and array.ndim != int(axes[0])):
            raise TypingError(f"{name}: expected {WORDS[kind]}{''.join(f', {n}-D' for n in axes)}, got {array}")
    return types.void(expected, arrays), lambda context, builder, signature, args: context.get_dummy_value()


@intrinsic
def _all(typingctx, conditions):
    """Whether all of a tuple of conditions hold, without a branch."""

    def codegen(context, builder, signature, args):
        result = context.get_constant(types.boolean, True)
        for kind, value in zip(signature.args[0], cgutils.unpack_tuple(builder, args[0]), strict=True):
            result = builder.and_(result, context.cast(builder, value, kind, types.boolean))
        return result

    return types.boolean(conditions), codegen


@inner
def _refuse(conditions, messages):
    for i in range(len(conditions)):
        if not conditions[i]:
            raise ValueError(messages[i])


@glue
def require_all(conditions, messages):
    """Raise a ValueError with the message of the first of these conditions, a tuple, that does not hold.

    All at once: with a branch for each, Numba no longer sees that it need not count references to the arrays, and
    `linear` of 4 x 8 x 4 numbers in compiled code took 158 ns instead of 121. An optimizer's update of 16 numbers took
    18 ns without any of this, 160 with branches, and takes 62. A kernel with one condition alone raises it itself: relu
    of 16 numbers takes 2.4 ns so, as without, and 24 by this (Zen 5).
    """
    if not _all(conditions):
        _refuse(conditions, messages)
