"""The way from a user's compiled code to workers: a table of addresses, which Python fills as they are needed."""

import _thread
import ctypes
import os
import threading

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .digest import SOURCE_DIGEST

# Compiled code refers to this memory by name, and finds in row i (TOKEN, address) of a worker for one dtype, or zeros
# while that is not compiled; in row 0 the function to ask for it. So a cached function of the user's holds no machine
# code of ours, and if it was compiled against other sources it finds no TOKEN.
SLOTS = np.zeros((128, 2), np.int64)
SLOTS_NAME = "fastnn_worker_slots"
TOKEN = int(SOURCE_DIGEST[:15], 16)
llvm.add_symbol(SLOTS_NAME, SLOTS.ctypes.data)
_owners = {}
# Rows for which compiled code has asked, and Python has heard it.
_heard = set()


def take_slots(worker):
    """Rows for a worker, by dtype."""
    rows = {}
    for kind in (np.float32, np.float64):
        row = rows[np.dtype(kind)] = 1 + len(_owners)
        _owners[row] = worker, np.dtype(kind)
    return rows


def fill_slot(row, address):
    """Let compiled code find a worker."""
    # In this order: who sees the token may use the address.
    SLOTS[row, 1] = address
    SLOTS[row, 0] = TOKEN


@ctypes.CFUNCTYPE(None, ctypes.c_int64)
def _compile_for_slot(row):
    # What this raises, ctypes prints; the caller then finds the slot empty, and asks once more with -row. If Ctrl-C
    # came while compiled code ran, Python has raised it before the first line of the first call: the second makes up.
    due, row = row < 0 and -row not in _heard, abs(row)
    _heard.add(row)
    worker, dtype = _owners[row]
    try:
        worker.address(dtype)
    except KeyboardInterrupt:
        # Threads that share a loop with this one wait for the slot. So does the interrupt, for the compiled code's end.
        worker.address(dtype)
        due = True
    if due:
        threading.Timer(0.1, _thread.interrupt_main).start()


fill_slot(0, ctypes.cast(_compile_for_slot, ctypes.c_void_p).value)


def _slot(builder, row, column):
    """The address of an element of SLOTS."""
    index = ir.IntType(64)
    module = builder.module
    table = module.globals.get(SLOTS_NAME)
    if table is None:
        table = ir.GlobalVariable(module, ir.ArrayType(index, SLOTS.size), SLOTS_NAME)
    return builder.gep(table, [index(0), builder.add(builder.mul(row, index(2)), index(column))])


def _slot_address(builder, row):
    """The address in a row of SLOTS, or 0."""
    index = ir.IntType(64)
    token = builder.load_atomic(_slot(builder, row, 0), "acquire", 8)
    here = builder.icmp_unsigned("==", token, index(TOKEN))
    return builder.select(here, builder.load(_slot(builder, row, 1)), index(0))


@intrinsic
def _read_slot(typingctx, row):
    """The address in a row of SLOTS, or 0."""
    return types.intp(types.intp), lambda context, builder, signature, args: _slot_address(builder, args[0])


@intrinsic
def _request(typingctx, address, row):
    """Call the function at `address`, which is `_compile_for_slot`."""

    def codegen(context, builder, signature, args):
        function = ir.FunctionType(ir.VoidType(), [ir.IntType(64)])
        builder.call(builder.inttoptr(args[0], function.as_pointer()), [args[1]])
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


_python_thread = types.ExternalFunction("PyGILState_GetThisThreadState", types.intp())
_give_way = types.ExternalFunction("sched_yield" if os.name == "posix" else "SwitchToThread", types.int32())
# Looks at an empty slot before a thread gives up: half a minute, more than a compilation takes.
PATIENCE = 3 * 10**7


def _find(row):
    """The address of a worker that is not compiled yet, as few are: caches have them compiled (requirement.py).

    Compiling needs Python's lock. A thread of Numba's pool must not ask for it: the thread that holds it may be waiting
    for the pool. But that one takes its share of the loop, comes by here and compiles.
    """
    ask = _read_slot(0)
    if ask == 0:
        raise RuntimeError("this function was compiled against another version of fastnn: delete its cache")
    if _python_thread() != 0:
        _request(ask, row)
        if _read_slot(row) == 0:
            _request(ask, -row)
    else:
        for _ in range(PATIENCE):
            if _read_slot(row) != 0:
                break
            _give_way()
    address = _read_slot(row)
    if address == 0:
        raise RuntimeError("a kernel of fastnn could not be compiled")
    return address


@intrinsic
def look_up(typingctx, row):
    """The address in a row of SLOTS, or that of `_find`.

    A branch in machine code alone: Numba's own check warned of one in code that was copied into its caller twice, and a
    function of its own took 12 ns.
    """
    sig = types.intp(types.intp)

    def codegen(context, builder, signature, args):
        address = _slot_address(builder, args[0])
        result = cgutils.alloca_once_value(builder, address)
        with builder.if_then(builder.icmp_unsigned("==", address, ir.IntType(64)(0)), likely=False):
            builder.store(context.compile_internal(builder, _find, sig, args), result)
        return builder.load(result)

    return sig, codegen
