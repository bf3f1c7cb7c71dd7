"""The machine's limits, measured: fused multiply-adds in registers, and the micro-kernel in cache."""

import time

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from fastnn.kernels import microkernel
from fastnn.kernels.microkernel import tile
from fastnn.kernels.operand import Operand, Rows
from fastnn.kernels.simd import VECTOR_BYTES, pointer
from fastnn.kernels.vector import Vector, intrinsic_function, llvm_type

CHAINS = 12  # independent chains: latency 4 x 2 units need 8


@intrinsic
def fma_loop(typingctx, like, count):
    """`count` rounds of CHAINS independent vector fused multiply-adds: s = like s + (1 - like)."""
    sig = like(like, types.int64)

    def codegen(context, builder, signature, args):
        lanes = VECTOR_BYTES // (like.bitwidth // 8)
        kind = Vector(like, lanes)
        element, vector, fma = llvm_type(like), llvm_type(kind), intrinsic_function(builder, "fma", kind, 3)
        # Operands that the compiler does not know: of constants it worked out a chain at its fixed point beforehand,
        # and the peak came out a twelfth too high.
        undefined = ir.Constant(vector, ir.Undefined)
        lane = ir.IntType(32)
        spread = lambda value: builder.shuffle_vector(
            builder.insert_element(undefined, value, lane(0)),
            undefined,
            ir.Constant(ir.VectorType(lane, lanes), [0] * lanes),
        )
        factor = spread(args[0])
        addend = spread(builder.fsub(ir.Constant(element, 1.0), args[0]))
        index = ir.IntType(64)
        entry = builder.block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        i = builder.phi(index)
        sums = [builder.phi(vector) for _ in range(CHAINS)]
        results = [builder.call(fma, [s, factor, addend]) for s in sums]
        i_next = builder.add(i, index(1))
        builder.cbranch(builder.icmp_signed("<", i_next, args[1]), loop, done)
        for phi, first, later in [(i, index(0), i_next)] + [
            (s, ir.Constant(vector, [float(j)] * lanes), r) for j, (s, r) in enumerate(zip(sums, results, strict=True))
        ]:
            phi.add_incoming(first, entry)
            phi.add_incoming(later, loop)
        builder.position_at_end(done)
        total = results[0]
        for result in results[1:]:
            total = builder.fadd(total, result)
        return builder.extract_element(total, ir.IntType(32)(0))

    return sig, codegen


@numba.njit
def _fma_rounds(like, count):
    return fma_loop(like, count)


@numba.njit
def _tile_rounds(rounds, rows, columns, k, a, b, bias, out):
    left, right = Operand(pointer(a), 1, rows), Rows(pointer(b), columns)
    for _ in range(rounds):
        tile(rows, columns, k, left, right, Rows(pointer(bias), 0), Rows(pointer(out), columns))


def peak_gflops(dtype=np.float32, rounds=300_000):
    """GFLOP/s of one core in fused multiply-adds on registers: one timing."""
    like = dtype(0.999)
    _fma_rounds(like, 10)
    start = time.perf_counter()
    _fma_rounds(like, rounds)
    lanes = VECTOR_BYTES // np.dtype(dtype).itemsize
    return 2 * CHAINS * lanes * rounds / (time.perf_counter() - start) / 1e9


def tile_gflops(dtype=np.float32, k=256, rounds=30_000):
    """GFLOP/s of one core in the micro-kernel, its operands in cache: one timing."""
    rows, columns = microkernel.MR, microkernel.tile_columns(np.dtype(dtype).itemsize)
    a, b = np.ones((k, rows), dtype), np.ones((k, columns), dtype)
    bias, out = np.zeros(columns, dtype), np.empty((rows, columns), dtype)
    _tile_rounds(1, rows, columns, k, a, b, bias, out)
    start = time.perf_counter()
    _tile_rounds(rounds, rows, columns, k, a, b, bias, out)
    elapsed = time.perf_counter() - start
    if not np.array_equal(out, np.full_like(out, k)):
        raise AssertionError("the micro-kernel computed something else")
    return 2 * rows * columns * k * rounds / elapsed / 1e9
