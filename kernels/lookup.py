"""Tables in registers: piecewise polynomials whose coefficients each lane finds by itself."""

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from .float_bits import Bits
from .simd import VECTOR_BYTES
from .vector import Vector, intrinsic_function, llvm_type


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
        integer = Bits(kind)
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
