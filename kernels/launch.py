"""Workers on threads: the one parallel loop of the package, and when launches are better left out.

A launch ends when its last thread has. Where other processes want the cores too, or the system has put two threads on
one core, that thread first waits until it gets its turn, longer than small work takes in all. So now and then a few
launches are looked at, and where their parts one after the other would have been done much earlier, the calling thread
works alone for a while. Results do not depend on the number of threads, so time is all that anybody sees of it:
`asv_bench/versus.py --busy 2` shows it, with FASTNN_NEVER_REST=1 as if threads never rested, with NUMBA_NUM_THREADS=1
on one thread.
"""

import os
import sys
import time

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import carray, prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from .jit import inner, parallel_kernel, plain
from .simd import pointer_to
from .symbols import shared
from .workers import call, call_address

INDEX = ir.IntType(64)

# What all launches of the process know, times in ns: until when threads rest, when to look at launches again, how long
# the last rest was and how many there were; of the launches that are being looked at, when the first began, the CPU
# time of the process then, how long they lasted, and how long a thread would have needed alone. Compiled code finds it
# by name. Threads that write it at once may lose each other's word, which costs a look.
STATE = np.zeros(8, np.int64)
STATE_NAME = "fastnn_launches"
REST_UNTIL, NEXT_LOOK, REST, RESTS, BEGIN, CPU, WALL, ALONE = range(8)
llvm.add_symbol(STATE_NAME, STATE.ctypes.data)
# For tests of what threads do, which should not depend on what else the machine does.
if os.environ.get("FASTNN_NEVER_REST") == "1":
    STATE[NEXT_LOOK] = np.iinfo(np.int64).max

# A look is some of the system's time slices long, and a fifth of all launches pay for being timed.
LOOK, BETWEEN_LOOKS = 8_000_000, 32_000_000
SHORTEST_REST, LONGEST_REST = 8_000_000, 512_000_000

# POSIX's clocks, read as where a time_t has 64 bits. Without them, as on Windows, launches are not looked at.
HAS_CLOCKS = hasattr(time, "clock_gettime") and sys.maxsize > 2**32


@plain
def note(state, wall, threads, busy, longest):
    """Add a launch to those that are being looked at; True if they are enough.

    Args:
        state: STATE.
        wall: how long it lasted.
        threads: how many it had.
        busy, longest: how long its parts lasted, in all and at most. The longest may be one that was interrupted.
    """
    state[WALL] += wall
    state[ALONE] += (busy - longest) * threads // (threads - 1)
    return state[WALL] >= LOOK


@plain
def judge(state, now, cpu, threads):
    """End a look: rest, if threads have been less than a third as fast as one that nobody interrupts.

    Beside a busy process a thread alone would get half a core. Turns that are lost now and then are worth it, for more
    threads get more of the cores. Small networks lose all turns.

    Args:
        state: STATE.
        now: time of the monotonic clock.
        cpu: CPU time of the process.
        threads: of the last launch. Those that wait for one with more to do use CPU time too.
    """
    slow = 3 * state[ALONE] < state[WALL] and 5 * (cpu - state[CPU]) < 4 * threads * (now - state[BEGIN])
    if slow:
        # Soon after a rest the reason for it is still there.
        again = state[BEGIN] - state[REST_UNTIL] < state[REST]
        state[REST] = min(2 * state[REST], LONGEST_REST) if again else SHORTEST_REST
        state[REST_UNTIL] = now + state[REST]
        state[RESTS] += 1
    state[NEXT_LOOK] = now if slow else now + BETWEEN_LOOKS
    state[WALL], state[ALONE] = 0, 0


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


# Microseconds of CPU time of all threads of the process: POSIX fixes the unit.
_cpu_time = types.ExternalFunction("clock", types.intp())


@intrinsic
def _state_address(typingctx):
    def codegen(context, builder, signature, args):
        state = builder.module.globals.get(STATE_NAME)
        if state is None:
            state = ir.GlobalVariable(builder.module, ir.ArrayType(INDEX, STATE.size), STATE_NAME)
        return builder.ptrtoint(state, INDEX)

    return types.intp(), codegen


@intrinsic
def _two_zeros(typingctx):
    """The address of two numbers on the stack of the caller."""

    def codegen(context, builder, signature, args):
        place = cgutils.alloca_once(builder, ir.ArrayType(INDEX, 2))
        builder.store(ir.Constant(ir.ArrayType(INDEX, 2), [0, 0]), place)
        return builder.ptrtoint(place, INDEX)

    return types.intp(), codegen


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


@intrinsic
def _run_task(typingctx, code, data, thread, threads):
    def codegen(context, builder, signature, args):
        function = ir.FunctionType(ir.VoidType(), [INDEX] * 3)
        builder.call(builder.inttoptr(args[0], function.as_pointer()), args[1:])
        return context.get_dummy_value()

    return types.void(code, data, thread, threads), codegen


@intrinsic
def _add_time(typingctx, times, time):
    """Add to the sum at an address, and to the maximum that lies behind it."""

    def codegen(context, builder, signature, args):
        both = builder.inttoptr(args[0], ir.ArrayType(INDEX, 2).as_pointer())
        for column, operation in enumerate(("add", "max")):
            place = builder.gep(both, [INDEX(0), INDEX(column)])
            builder.atomic_rmw(operation, place, args[1], "monotonic")
        return context.get_dummy_value()

    return types.void(times, time), codegen


@parallel_kernel
def _launch(code, data, threads):
    for thread in prange(threads):
        _run_task(code, data, thread, threads)


@parallel_kernel
def _launch_timed(code, data, threads, times):
    """`_launch`, with the time that each part takes added to `times`, an address, unless that is 0."""
    for thread in prange(threads):
        if times == 0:
            _run_task(code, data, thread, threads)
        else:
            begin = _now()
            _run_task(code, data, thread, threads)
            _add_time(times, _now() - begin)


def _share_watched(code, data, threads):
    state = carray(pointer_to(_state_address(), STATE), STATE.size)
    begin = _now()
    if begin < state[REST_UNTIL]:
        _run_task(code, data, 0, 1)
        return
    looks = begin >= state[NEXT_LOOK]
    if looks and state[WALL] == 0:
        state[BEGIN], state[CPU] = begin, 1000 * _cpu_time()
    times = _two_zeros()
    _launch_timed(code, data, threads, times if looks else 0)
    if looks:
        now, busy = _now(), carray(pointer_to(times, STATE), 2)
        if note(state, now - begin, threads, busy[0], busy[1]):
            judge(state, now, 1000 * _cpu_time(), threads)


def _share_blindly(code, data, threads):
    # Not by `_launch_timed`, whose machine code refers to the clocks even if it is told not to look at them.
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
    takes 1.3; but what two cores write for each other costs more than that, so that small steps stayed slower on two
    threads (4-32-32-1, 32 rows: 5.4 us, on one 4.2) and larger ones gained 2 % (64-100-10, 200 rows, float64: 104 us
    instead of 106).
    """
    if threads == 1:
        call(address, (*arguments, 0, 1))
    else:
        code, data = _task(address, arguments)
        _share(code, data, threads)
