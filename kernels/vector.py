"""A vector of elements as a value of compiled code: elementwise loops are written in it, and so are vectors by
construction, whatever the compiler's loop vectorizer thinks of them.

Left to that, each loop came with a scalar remainder of up to 63 elements (all of a row of 10 outputs), a check for
overlaps that failed on work in place, and one dependent chain of 30 instructions at a time.
"""

import math
import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import models, register_model


class Vector(types.Type):
    """`lanes` elements of a dtype: float32, float64, or boolean for what a comparison gives."""

    def __init__(self, dtype, lanes):
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"Vector({dtype}, {lanes})")


@register_model(Vector)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, kind):
        element = ir.IntType(1) if kind.dtype == types.boolean else manager.lookup(kind.dtype).get_value_type()
        super().__init__(manager, kind, ir.VectorType(element, kind.lanes))


def element_of(kind):
    """The element type of a Vector, the type itself of a scalar."""
    return kind.dtype if isinstance(kind, Vector) else kind


def llvm_type(kind):
    """The LLVM type of float32, float64 or a Vector of them."""
    element = ir.DoubleType() if element_of(kind) == types.float64 else ir.FloatType()
    return ir.VectorType(element, kind.lanes) if isinstance(kind, Vector) else element


def llvm_suffix(kind):
    """How the names of LLVM's functions end for this type."""
    element = "f64" if element_of(kind) == types.float64 else "f32"
    return f"v{kind.lanes}{element}" if isinstance(kind, Vector) else element


def intrinsic_function(builder, name, kind, arity):
    """LLVM's function `name` of some values of the type to one."""
    value = llvm_type(kind)
    function = ir.FunctionType(value, [value] * arity)
    return cgutils.get_or_insert_function(builder.module, function, f"llvm.{name}.{llvm_suffix(kind)}")


def splat(builder, value, kind):
    """`value` in every lane of a Vector; itself for a scalar type."""
    if not isinstance(kind, Vector):
        return value
    lane = ir.IntType(32)
    undefined = ir.Constant(ir.VectorType(value.type, kind.lanes), ir.Undefined)
    first = builder.insert_element(undefined, value, lane(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(lane, kind.lanes), [0] * kind.lanes))


def _masked(builder, name, vector, result, arguments):
    suffix = f"v{vector.count}{'f64' if vector.element == ir.DoubleType() else 'f32'}"
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.masked.{name}.{suffix}.p0")
    return builder.call(function, arguments)


# The alignment is an argument before the mask until LLVM 21; later versions of LLVM read that as what they have for it.
def masked_load(builder, where, align, mask, filler):
    """The vector at an address; the filler's elements in the lanes that the mask leaves out, which are not read."""
    return _masked(builder, "load", filler.type, filler.type, [where, ir.IntType(32)(align), mask, filler])


def masked_store(builder, value, where, align, mask):
    """Write a vector to an address, but for the lanes that the mask leaves out."""
    _masked(builder, "store", value.type, ir.VoidType(), [value, where, ir.IntType(32)(align), mask])


def _register(function, arity, result, emit, dtypes):
    """Let `function` take `arity` equal Vectors of one of the dtypes; result(kind) is the type of what it gives."""

    @infer_global(function)
    class Template(AbstractTemplate):
        def generic(self, args, kws):
            first = args[0]
            if not isinstance(first, Vector) or first.dtype not in dtypes or args != (first,) * arity or kws:
                return None
            return signature(result(first), *args)

    lower_builtin(function, *[Vector] * arity)(lambda context, builder, sig, args: emit(builder, sig.args[0], *args))


_FLOATS = (types.float32, types.float64)
_same = lambda kind: kind
_flags = lambda kind: Vector(types.boolean, kind.lanes)

for _function, _method in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
    (operator.neg, "fneg"),
):
    _emit = lambda builder, kind, *args, method=_method: getattr(builder, method)(*args)
    _register(_function, 1 if _method == "fneg" else 2, _same, _emit, _FLOATS)
for _function, _sign in (
    (operator.lt, "<"),
    (operator.le, "<="),
    (operator.gt, ">"),
    (operator.ge, ">="),
    (operator.eq, "=="),
):
    _emit = lambda builder, kind, a, b, sign=_sign: builder.fcmp_ordered(sign, a, b)
    _register(_function, 2, _flags, _emit, _FLOATS)
for _function, _name in ((abs, "fabs"), (math.sqrt, "sqrt")):
    _emit = lambda builder, kind, x, name=_name: builder.call(intrinsic_function(builder, name, kind, 1), [x])
    _register(_function, 1, _same, _emit, _FLOATS)
_register(operator.and_, 2, _same, lambda builder, kind, a, b: builder.and_(a, b), (types.boolean,))
