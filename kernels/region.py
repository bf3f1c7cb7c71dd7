"""Parallel regions of GNU OpenMP, opened at its own door: the threads are those that Numba's `prange` loops have.

A `prange` loop goes through a scheduler of Numba's, makes arrays of the loop's bounds and waits for its threads twice.
An empty one took 0.80 us on two threads, a region so 0.40; a product of 64 x 64 x 64 2.9 us and now 2.4, a step of
64-100-10 with 64 rows 10.1 and 8.7 (Zen 5).
"""

import ctypes
import importlib
import sys

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

INDEX, INT, BYTES = ir.IntType(64), ir.IntType(32), ir.IntType(8).as_pointer()

# Addresses in the library that Numba's threads are of, and that of Numba's number of threads, or 0: machine code finds
# them by name.
FUNCTIONS = "GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads"
ADDRESSES = np.zeros(len(FUNCTIONS) + 1, np.int64)
ADDRESSES_NAME = "fastnn_openmp"
llvm.add_symbol(ADDRESSES_NAME, ADDRESSES.ctypes.data)
PARALLEL, THREAD, TEAM, NUMBA = range(4)


def find_openmp():
    """Have regions opened so from now on, if Numba's threads are GNU OpenMP's or those of a library with its entries.

    Numba's threads must have been launched, after which it keeps its layer of threads.
    """
    if sys.platform != "linux" or numba.threading_layer() != "omp":
        return
    try:
        # What Numba's own module is linked to, not some other copy of the library.
        pool = importlib.import_module("numba.np.ufunc.omppool")
        library = ctypes.CDLL(pool.__file__)
        found = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value for name in FUNCTIONS]
        found.append(pool.get_num_threads)
    except (ImportError, OSError, AttributeError):
        return
    # The first is what `has_openmp` asks for: threads may be on their way through here.
    ADDRESSES[THREAD:] = found[THREAD:]
    ADDRESSES[PARALLEL] = found[PARALLEL]


def forget_openmp():
    """Have regions opened by Numba's loops from now on: in a forked child those end the process, where OpenMP hangs."""
    ADDRESSES[PARALLEL] = 0


def _address(builder, which):
    table = builder.module.globals.get(ADDRESSES_NAME)
    if table is None:
        table = ir.GlobalVariable(builder.module, ir.ArrayType(INDEX, ADDRESSES.size), ADDRESSES_NAME)
    return builder.load(builder.gep(table, [INDEX(0), INDEX(which)]))


def _call(builder, which, result, arguments=()):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    function = builder.inttoptr(_address(builder, which), kind.as_pointer())
    return builder.call(function, arguments)


@intrinsic
def has_openmp(typingctx):
    def codegen(context, builder, signature, args):
        return builder.icmp_signed("!=", _address(builder, PARALLEL), INDEX(0))

    return types.boolean(), codegen


def region_of(emit_part, words):
    """An intrinsic (parts, (word, ...)): each thread of a region makes its parts, by code that `emit_part` gives.

    A region has as many threads as numba.get_num_threads() says, as Numba's loops have: where it differs from the last
    one's, the library ends threads and makes new ones, which takes 0.1 ms. There may be fewer than parts, by
    OMP_THREAD_LIMIT too or inside another region; then a thread makes several.

    Args:
        emit_part: a function of (builder, words, part, parts).
        words: how many words it takes.
    """

    def open_region(typingctx, parts, values):
        sig = types.void(types.intp, types.UniTuple(types.intp, words))

        def codegen(context, builder, signature, args):
            record = ir.ArrayType(INDEX, words + 1)
            place = cgutils.alloca_once(builder, record)
            for i, word in enumerate([args[0], *cgutils.unpack_tuple(builder, args[1], words)]):
                builder.store(word, builder.gep(place, [INDEX(0), INDEX(i)]))
            name = builder.module.get_unique_name("fastnn_region")
            function = ir.Function(builder.module, ir.FunctionType(ir.VoidType(), [place.type]), name)
            function.linkage = "internal"
            _emit_parts(ir.IRBuilder(function.append_basic_block()), function.args[0], words, emit_part)
            pointers = [builder.bitcast(function, BYTES), builder.bitcast(place, BYTES)]
            arguments = [*pointers, _call(builder, NUMBA, INT), INT(0)]
            _call(builder, PARALLEL, ir.VoidType(), arguments)
            return context.get_dummy_value()

        return sig, codegen

    return intrinsic(open_region)


def _emit_parts(builder, place, words, emit_part):
    """The code of one thread, in a function of its own that gets the record at `place`."""
    parts, *values = [builder.load(builder.gep(place, [INDEX(0), INDEX(i)])) for i in range(words + 1)]
    thread, team = [builder.zext(_call(builder, which, INT), INDEX) for which in (THREAD, TEAM)]
    with cgutils.for_range_slice(builder, thread, parts, team, INDEX) as (part, _):
        emit_part(builder, values, part, parts)
    builder.ret_void()
