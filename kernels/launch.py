"""Workers on threads: how they are launched, and when launches are better left out.

A launch ends when its last thread has. Where other processes want the cores too, or other threads of the same one, that
thread first waits until it gets its turn, longer than small work takes in all. OpenBLAS' threads keep their cores for
20 ms after a matrix product: one before each call made a prediction of 0.17 ms take 5 ms. And on a virtual machine
two cores may share a cache in this second and lie far apart in the next: what they write for each other then takes four
times as long, and a small step takes longer on two than on one. So now and then a few launches are looked at, and where
one thread is better the calling thread works alone for a while; `watch.judge` has the rules. Results do not depend on
the number of threads, so time is all that anybody sees of it: `asv_bench/versus.py` shows it with --busy 2 or --blas
500, under FASTNN_NEVER_REST=1 as if threads never rested, under NUMBA_NUM_THREADS=1 on one thread.
"""

import sys
import time

from llvmlite import ir
from numba import carray, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inner, parallel_kernel
from .region import has_openmp, region_of
from .simd import pointer_to
from .symbols import shared
from .watch import (
    LARGE,
    NEXT_LOOK,
    REST_COUNT,
    REST_LEFT,
    REST_UNTIL,
    REST_WALL,
    STATE,
    STATE_NAME,
    are_small,
    judge,
    look_soon,
    note,
)
from .workers import call, call_address

INDEX = ir.IntType(64)

# POSIX's clocks, read as where a time_t has 64 bits. Without them, as on Windows, launches are not looked at.
HAS_CLOCKS = hasattr(time, "clock_gettime") and sys.maxsize > 2**32

# Where, in bytes, the words lie that two threads write for each other: neighbours of no other word in any cache.
FOUND, ASKED, ANSWERED, WORDS = 0, 128, 256, 384
# One answer is waited for to begin with, and so many are timed. A thread that has looked at a word so often, for some
# 50 us, waits no longer: the other has not got its turn.
ANSWERS, PATIENCE = 8, 50_000


def _clock(builder):
    """ns of the monotonic clock, in machine code."""
    spec = ir.LiteralStructType([INDEX, INDEX])
    place = cgutils.alloca_once(builder, spec)
    kind = ir.FunctionType(ir.IntType(32), [ir.IntType(32), spec.as_pointer()])
    function = cgutils.get_or_insert_function(builder.module, kind, "clock_gettime")
    builder.call(function, [ir.IntType(32)(time.CLOCK_MONOTONIC), place])
    seconds, rest = cgutils.unpack_tuple(builder, builder.load(place), 2)
    return builder.add(builder.mul(seconds, INDEX(10**9)), rest)


@intrinsic
def _now(typingctx):
    return types.intp(), lambda context, builder, signature, args: _clock(builder)


@intrinsic
def _state_address(typingctx):
    def codegen(context, builder, signature, args):
        state = builder.module.globals.get(STATE_NAME)
        if state is None:
            state = ir.GlobalVariable(builder.module, ir.ArrayType(INDEX, STATE.size), STATE_NAME)
        return builder.ptrtoint(state, INDEX)

    return types.intp(), codegen


@intrinsic(prefer_literal=True)
def _zeros(typingctx, size):
    """The address of so many bytes, all zero, on the stack of the caller."""

    def codegen(context, builder, signature, args):
        kind = ir.ArrayType(INDEX, size.literal_value // 8)
        place = cgutils.alloca_once(builder, kind)
        builder.store(ir.Constant(kind, None), place)
        return builder.ptrtoint(place, INDEX)

    return types.intp(size), codegen


@intrinsic
def _task(typingctx, address, arguments):
    """(code, data): addresses of a function of (data, thread, threads) that makes the call, and of what it needs.

    The data lie on the stack of the caller, who keeps what the arguments refer to.
    """
    sig = types.UniTuple(types.intp, 2)(address, arguments)

    def codegen(context, builder, signature, args):
        data = cgutils.alloca_once(builder, ir.LiteralStructType([value.type for value in args]))
        builder.store(cgutils.pack_struct(builder, args), data)
        code = ir.FunctionType(ir.VoidType(), [data.type, INDEX, INDEX])
        function = ir.Function(builder.module, code, builder.module.get_unique_name("fastnn_task"))
        function.linkage = "internal"
        inside = ir.IRBuilder(function.append_basic_block())
        worker, values = cgutils.unpack_tuple(inside, inside.load(function.args[0]), 2)
        kinds = (*signature.args[1], types.intp, types.intp)
        values = [*cgutils.unpack_tuple(inside, values, len(signature.args[1])), *function.args[1:]]
        call_address(context, inside, worker, kinds, values)
        inside.ret_void()
        addresses = [builder.ptrtoint(pointer, INDEX) for pointer in (function, data)]
        return context.make_tuple(builder, signature.return_type, addresses)

    return sig, codegen


def _emit_task(builder, code, data, thread, threads):
    function = ir.FunctionType(ir.VoidType(), [INDEX] * 3)
    builder.call(builder.inttoptr(code, function.as_pointer()), [data, thread, threads])


@intrinsic
def _run_task(typingctx, code, data, thread, threads):
    def codegen(context, builder, signature, args):
        _emit_task(builder, *args)
        return context.get_dummy_value()

    return types.void(code, data, thread, threads), codegen


def _emit_timed_task(builder, words, thread, threads):
    """A task, and how long it takes added to the sum at an address and to the maximum behind it, unless that is 0."""
    code, data, times = words
    timed = cgutils.is_not_null(builder, times)
    with builder.if_else(timed, likely=False) as (then, otherwise):
        with then:
            begin = _clock(builder)
            _emit_task(builder, code, data, thread, threads)
            taken = builder.sub(_clock(builder), begin)
            both = builder.inttoptr(times, ir.ArrayType(INDEX, 2).as_pointer())
            for column, operation in enumerate(("add", "max")):
                place = builder.gep(both, [INDEX(0), INDEX(column)])
                builder.atomic_rmw(operation, place, taken, "monotonic")
        with otherwise:
            _emit_task(builder, code, data, thread, threads)


@intrinsic
def _run_timed_task(typingctx, words, thread, threads):
    sig = types.void(types.UniTuple(types.intp, 3), types.intp, types.intp)

    def codegen(context, builder, signature, args):
        _emit_timed_task(builder, cgutils.unpack_tuple(builder, args[0], 3), *args[1:])
        return context.get_dummy_value()

    return sig, codegen


# (threads, (code, data, times))
_open_region = region_of(_emit_timed_task, 3)


@intrinsic
def _read(typingctx, address):
    def codegen(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], INDEX.as_pointer()), "acquire", 8)

    return types.intp(address), codegen


@intrinsic
def _write(typingctx, address, value):
    def codegen(context, builder, signature, args):
        builder.store_atomic(args[1], builder.inttoptr(args[0], INDEX.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(address, value), codegen


@inner
def _is_there(address, value):
    """Wait until a word has this value; False if it takes too long."""
    left = PATIENCE
    while _read(address) != value and left > 0:
        left -= 1
    return left > 0


@inner
def _talk(words, thread, threads):
    """The first and the last thread answer each other; how many ns all answers took goes to FOUND, if all came."""
    begin = 0
    for count in range(1, ANSWERS + 2):
        if thread == 0:
            _write(words + ASKED, count)
            if not _is_there(words + ANSWERED, count):
                return
            if count == 1:
                begin = _now()
        elif thread == threads - 1:
            if not _is_there(words + ASKED, count):
                return
            _write(words + ANSWERED, count)
    if thread == 0:
        _write(words + FOUND, _now() - begin)


@parallel_kernel
def _launch(code, data, threads):
    for thread in prange(threads):
        _run_task(code, data, thread, threads)


@parallel_kernel
def _launch_watched(code, data, threads, times):
    """`_launch`, with the time that each part takes added to `times`, an address, unless that is 0.

    Without code, `_talk` about the words at data: in here because each parallel loop takes a second to compile.
    """
    for thread in prange(threads):
        if code == 0:
            _talk(data, thread, threads)
        else:
            _run_timed_task((code, data, times), thread, threads)


@inner
def _answer_time(threads):
    """How many ns a thread waits for another's answer; 0 if it got none."""
    words = _zeros(WORDS)
    _launch_watched(0, words, threads, 0)
    return _read(words + FOUND) // ANSWERS


def _share_watched(code, data, threads):
    state = carray(pointer_to(_state_address(), STATE), STATE.size)
    begin = _now()
    if begin < state[REST_UNTIL] or state[REST_LEFT] > 0:
        _run_task(code, data, 0, 1)
        state[REST_LEFT] = max(0, state[REST_LEFT] - 1)
        state[REST_COUNT] += 1
        state[REST_WALL] += _now() - begin
        return
    looks = begin >= state[NEXT_LOOK]
    times = _zeros(16)
    if has_openmp():
        _open_region(threads, (code, data, times if looks else 0))
    else:
        _launch_watched(code, data, threads, times if looks else 0)
    now = _now()
    if looks:
        busy = carray(pointer_to(times, STATE), 2)
        if note(state, now, now - begin, threads, busy[0], busy[1]):
            judge(state, now, _answer_time(threads) if are_small(state) else 0)
    elif now - begin >= LARGE:
        look_soon(state, now)


def _share_blindly(code, data, threads):
    # Not by `_launch_watched`, whose machine code refers to the clocks even if it is told not to look at them.
    _launch(code, data, threads)


_share = shared(_share_watched if HAS_CLOCKS else _share_blindly)


@inner
def run(address, arguments, threads):
    """Call a worker once for each thread, with (*arguments, thread, threads); all are done when this returns.

    Or with (*arguments, 0, 1), if there is one thread, or if the others are better left alone now.

    Sweeps that follow each other have to be launched from here, not from two `prange` loops in one function: Numba sees
    nothing of what a worker writes, and ran the second loop while threads were still in the first. The loop knows of
    two addresses alone, so that it is compiled once, not for the arguments of each worker anew.

    Rejected: threads of our own that wait for a word in memory to change. Such a launch took 0.7 us, a `prange` region
    1.3 and one of region.py 0.6; what two cores write for each other costs more than that.
    """
    if threads == 1:
        call(address, (*arguments, 0, 1))
    else:
        code, data = _task(address, arguments)
        _share(code, data, threads)
