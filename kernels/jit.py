"""How kernels are compiled: one set of options, and a disk cache that cannot serve stale machine code.

Numba's own cache stamps only the file that defines a function: after an edit or an upgrade of a callee in another file
it would go on serving the caller's old machine code. Here the cache lies in a folder named by a digest of every kernel
source, so a changed source means an empty folder. Its files are of our own making too, see `_CacheFiles`.
"""

import _thread
import contextlib
import ctypes
import functools
import gc
import hashlib
import inspect
import os
import pathlib
import pickle
import secrets
import sys
import tempfile
import threading
import warnings
from typing import NamedTuple

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import caching, cgutils, config, serialize
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic, overload, register_jitable
from numba.misc.appdirs import AppDirs

# nogil: kernels touch no Python object. error_model: no check for division by zero in inner loops. No fastmath: it lets
# the compiler change values, and with them the same-bits promise and NaN handling.
OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": False, "boundscheck": False}


if config.DISABLE_JIT:
    # Kernels are written for the compiler: as Python functions they would fail, each in a way of its own.
    raise ImportError("fastnn has nothing to run without Numba's compiler: unset NUMBA_DISABLE_JIT")


def source_digest():
    """A digest of all kernel sources, and of the Numba and the Python that compile them."""
    digest = hashlib.sha256(f"{numba.__version__} {sys.implementation.cache_tag}".encode())
    for path in sorted(pathlib.Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


SOURCE_DIGEST = source_digest()


def _choose_cache_directory():
    """The first writable of: NUMBA_CACHE_DIR, the user's cache folder; None (with a warning) if there is none."""
    candidates = [config.CACHE_DIR] if config.CACHE_DIR else []
    candidates.append(AppDirs(appname="fastnn", appauthor=False).user_cache_dir)
    for candidate in candidates:
        path = os.path.join(candidate, f"fastnn-{SOURCE_DIGEST}")
        try:
            os.makedirs(path, exist_ok=True)
            tempfile.TemporaryFile(dir=path).close()
        except OSError:
            continue
        return path
    warnings.warn(
        f"fastnn: no writable cache folder (tried {', '.join(candidates)}): kernels are compiled anew in every "
        "process; set NUMBA_CACHE_DIR to a writable folder",
        RuntimeWarning,
        stacklevel=2,
    )
    return None


CACHE_DIRECTORY = _choose_cache_directory()


class _Locator(caching._CacheLocator):
    def __init__(self, function):
        self._name = f"{function.__module__}.{function.__qualname__}"
        # Numba warns by it of what it cannot cache: code with addresses in it, as under NUMBA_OPT=0.
        self._py_file = function.__code__.co_filename

    def get_cache_path(self):
        return CACHE_DIRECTORY

    def ensure_cache_path(self):
        # Whoever writes a file makes the folder: it may have been deleted since, and the disk may be full.
        pass

    def get_source_stamp(self):
        return SOURCE_DIGEST

    def get_disambiguator(self):
        return ""


class _CacheImpl(caching.CompileResultCacheImpl):
    def __init__(self, py_func):
        self._lineno = py_func.__code__.co_firstlineno
        self._locator = _Locator(py_func)
        self._filename_base = f"{py_func.__module__}.{py_func.__qualname__}"


class _CacheFiles:
    """Compiled functions on disk: for each function, signature and CPU a file, named by its key and sealed by a digest.

    Numba's files are a pickled index and numbered data files. A damaged one raises whatever pickle happens to raise, or
    runs damaged machine code. Two processes that compile two signatures at once take the same number, and the index of
    one may then name the machine code of the other. Here a file that is not whole counts as missing, and is replaced.
    """

    DIGEST_SIZE = hashlib.sha256().digest_size

    def __init__(self, base):
        self._base = base

    def _path(self, key):
        name = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
        return pathlib.Path(CACHE_DIRECTORY, f"{self._base}.{name}.nbc")

    def load(self, key):
        """What was saved under a key, or None."""
        try:
            content = memoryview(self._path(key).read_bytes())
        except OSError:
            return None
        sealed = content[self.DIGEST_SIZE :]
        if hashlib.sha256(sealed).digest() != content[: self.DIGEST_SIZE]:
            return None
        try:
            stored, data = pickle.loads(sealed)
        except Exception:
            # Whole, but written by another version of what it holds: pickle then raises anything.
            return None
        # Two keys may look alike, say with two named tuples of one name.
        return data if stored == key else None

    def save(self, key, data):
        """Write a file whole or not at all; without a place for it the process works on with what it compiled."""
        path = self._path(key)
        sealed = serialize.dumps((key, data))
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(hashlib.sha256(sealed).digest() + sealed)
            temporary.replace(path)
        except BaseException as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            if not isinstance(error, OSError):
                raise
            warnings.warn(
                f"fastnn: compiled kernels cannot be kept ({error}): later processes will compile them anew",
                RuntimeWarning,
                stacklevel=2,
            )

    def flush(self):
        """Forget everything about this function."""
        for path in pathlib.Path(CACHE_DIRECTORY).glob(f"{self._base}.*"):
            path.unlink(missing_ok=True)


class _Cache(caching.FunctionCache):
    _impl_class = _CacheImpl

    def __init__(self, function):
        super().__init__(function)
        self._cache_file = _CacheFiles(self._impl.filename_base)

    def load_overload(self, sig, target_context):
        # Machine code of a parallel loop refers to Numba's threads, which have to be there before it is loaded. Numba
        # tells so to what is compiled around the loop, but not if the loop itself came from the cache: such a caller
        # ended the next process that loaded it.
        found = super().load_overload(sig, target_context)
        if found is not None:
            found.library._reload_init.update(found.reload_init)
        return found

    def save_overload(self, sig, data):
        VERSION.add_to(data.environment)
        super().save_overload(sig, data)


class _NoCache(caching.NullCache):
    def save_overload(self, sig, data):
        VERSION.add_to(data.environment)


def _compile(function, **options):
    dispatcher = numba.njit(**OPTIONS, **options)(function)
    dispatcher._cache = _NoCache() if CACHE_DIRECTORY is None else _Cache(function)
    return dispatcher


def kernel(function):
    """Compile a function that Python or a user's compiled code may call."""
    return _compile(function)


def inner(function):
    """Compile a function that only kernels call: without the wrappers that Python and C would need."""
    return _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def glue(function):
    """A function that Numba itself copies into its caller before compiling.

    A compiled function is optimised and turned into machine code again inside each of its callers, level by level:
    with the functions between a kernel and the micro-kernel as `inner`, the first call took twice as long.
    """
    return numba.njit(inline="always", **OPTIONS)(function)


class _Needed(NamedTuple):
    """What machine code takes along into caches, the user's too: it is unpickled before the code is loaded.

    It lies among the constants of the environment that Numba gives each function. Of all functions that are linked
    into another one Numba keeps the environments with that one, however many caches they have come from.

    Attributes:
        name, arguments: of a `shared` function whose symbol the code refers to; name "" stands for the version alone.
    """

    name: str
    arguments: tuple

    def __reduce__(self):
        return _needed, (SOURCE_DIGEST, *self)

    def add_to(self, environment):
        """Let a function's environment hold this."""
        # Among them may be arrays, which compare element by element.
        if not any(type(value) is _Needed and value == self for value in environment.consts):
            environment.consts.append(self)


def _needed(digest, name, arguments):
    if digest != SOURCE_DIGEST:
        # What Numba takes for a file that is gone: it compiles anew.
        raise FileNotFoundError("compiled against another version of fastnn")
    if name:
        _shared[name].symbol(arguments)
    return _Needed(name, arguments)


# Of every function: whoever links it keeps it in his own cache, which knows nothing of our sources.
VERSION = _Needed("", ())
# The functions that were made by `shared`, by name.
_shared = {}


def _shared_named(name):
    return _shared[name]


class _Shared:
    def __init__(self, function):
        self._compiled = _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._symbols = {}
        _shared[self._name] = self

    def __reduce__(self):
        # In another process its symbols are not there.
        return _shared_named, (self._name,)

    def symbol(self, arguments):
        """The name of the machine code for these types of arguments, and the type of its result; it is there then."""
        if arguments not in self._symbols:
            self._compiled.compile(arguments)
            result = self._compiled.overloads[arguments]
            kinds = hashlib.sha256(repr(arguments).encode()).hexdigest()[:16]
            name = f"fastnn-{SOURCE_DIGEST}-{self._name}-{kinds}"
            llvm.add_symbol(name, result.library.get_pointer_to_function(result.fndesc.llvm_func_name))
            self._symbols[arguments] = name, result.signature.return_type
        return self._symbols[arguments]

    def type_call(self, typingctx, *arguments):
        """The definition of an intrinsic that calls the machine code."""
        arguments = tuple(map(types.unliteral, arguments))
        name, result = self.symbol(arguments)

        def codegen(context, builder, signature, args):
            _Needed(self._name, arguments).add_to(context.environment)
            kind = context.call_conv.get_function_type(result, arguments)
            callee = cgutils.get_or_insert_function(builder.module, kind, name)
            _, value = context.call_conv.call_function(builder, callee, result, arguments, args)
            return value

        return result(*arguments), codegen


def shared(function):
    """Compile a function that kernels call as machine code of its own, once for each types of its arguments.

    `inner` functions are linked into their callers, and optimised and turned into machine code there once more. What
    every driver and worker contains is too large for that: blocks of products, activations and losses are nine tenths
    of the workers of training.
    """
    made = _Shared(function)

    def definition(typingctx, *arguments):
        return made.type_call(typingctx, *arguments)

    parameters = inspect.signature(function).parameters.values()
    first = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    definition.__signature__ = inspect.Signature([first, *parameters])
    definition.__name__, definition.__doc__ = function.__name__, function.__doc__
    return intrinsic(definition)


def plain(function):
    """A Python function that compiled code may call too: sizes and plans, worked out on both sides by one formula."""
    return register_jitable(**OPTIONS)(function)


def parallel_kernel(function):
    """Compile a driver: a `prange` loop, on Numba's threads, over a worker that it calls by address.

    With one thread it has to call the worker without the loop: a parallel region wakes the whole pool for one task too.
    """
    return _compile(function, parallel=True)


@contextlib.contextmanager
def _without_collector():
    """Compiling makes many objects and no garbage worth collecting: the collector took a sixth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def aside(function, *arguments):
    """function(*arguments), on a thread of its own if this is the main thread: Ctrl-C ends the wait, not the work.

    LLVM takes seconds to tens of seconds for a function. On the main thread Ctrl-C would have to wait for it, and might
    get lost in one of LLVM's calls back into Python; so compiling goes on, and a later call finds it done.
    """
    # Who holds the lock is compiling already: another thread would wait for it for ever.
    if threading.current_thread() is not threading.main_thread() or global_compiler_lock.is_locked():
        return function(*arguments)
    results, errors = [], []

    def target():
        try:
            results.append(function(*arguments))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, name="fastnn")
    thread.start()
    while thread.is_alive():
        # Windows does not interrupt a wait without an end.
        thread.join(0.1)
    if errors:
        raise errors[0]
    return results[0]


# The way from a user's compiled code to workers. It refers to this memory by name, and finds in row i (TOKEN, address)
# of a worker for one dtype, or zeros while that is not compiled; in row 0 the function to ask for it. So a cached
# function of the user's holds no machine code of ours, and if it was compiled against other sources it finds no TOKEN.
SLOTS = np.zeros((128, 2), np.int64)
SLOTS_NAME = "fastnn_worker_slots"
TOKEN = int(SOURCE_DIGEST[:15], 16)
llvm.add_symbol(SLOTS_NAME, SLOTS.ctypes.data)
_owners = {}
# Rows for which compiled code has asked, and Python has heard it.
_heard = set()


def _take_slots(worker):
    rows = {}
    for kind in (np.float32, np.float64):
        row = rows[np.dtype(kind)] = 1 + len(_owners)
        _owners[row] = worker, np.dtype(kind)
    return rows


def _fill_slot(row, address):
    # In this order: who sees the token may use the address.
    SLOTS[row, 1] = address
    SLOTS[row, 0] = TOKEN


@ctypes.CFUNCTYPE(None, ctypes.c_int64)
def _compile_for_slot(row):
    # What this raises, ctypes prints; the caller then finds the slot empty, and asks once more with -row. An interrupt
    # that came while compiled code ran has broken the first call before its first line: it is due then.
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


_fill_slot(0, ctypes.cast(_compile_for_slot, ctypes.c_void_p).value)


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
# Looks at an empty slot before a thread gives up: minutes, more than a compilation takes.
PATIENCE = 10**9


def _find(row):
    """The address of a worker that is not compiled yet.

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


class Worker:
    """A function with a fixed signature for each dtype, compiled once and called by the address of its machine code.

    Linked in the usual way it would be compiled again in each of the four layers that Numba puts between a parallel
    loop and its caller: the first parallel gradient took 56 s so, and takes a fifth of that by address.
    """

    def __init__(self, function, signature):
        self.function = function
        self.__module__, self.__qualname__ = function.__module__, function.__qualname__
        self.slots = _take_slots(self)
        self._compiled = _compile(function, no_cpython_wrapper=True, no_cfunc_wrapper=True)
        self._signature = signature
        self._addresses = {}

    def __reduce__(self):
        # By its name: in another process its addresses mean nothing.
        return self.__qualname__

    def address(self, dtype):
        """The address of the worker for float32 or float64 arrays; compiles it at the first call."""
        address = self._addresses.get(dtype)
        return aside(self._compile_for, dtype) if address is None else address

    def _compile_for(self, dtype):
        arguments = self._signature(numba.from_dtype(dtype))
        with _without_collector():
            self._compiled.compile(arguments)
        result = self._compiled.overloads[arguments]
        address = self._addresses[dtype] = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        _fill_slot(self.slots[dtype], address)
        return address


@intrinsic
def _look_up(typingctx, row):
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


def finder(worker):
    """A function for compiled code: the worker's address for the dtype of an array, compiled when its caller is."""

    @intrinsic
    def row_of(typingctx, array):
        dtype = np.dtype(array.dtype.name)
        worker.address(dtype)
        row = worker.slots[dtype]
        return types.intp(array), lambda context, builder, signature, args: context.get_constant(types.intp, row)

    @glue
    def find(array):
        return _look_up(row_of(array))

    return find


def worker(signature):
    """Make a `Worker`; signature: the argument types as a function of the element type."""
    return lambda function: Worker(function, signature)


def read_only(element, dimensions, layout="C"):
    """The type of an array that is read: as an argument it takes in writeable ones, with layout "A" any strides."""
    return types.Array(element, dimensions, layout, readonly=True)


def driver(signature):
    """Compile a kernel that Python alone calls, with one signature for each dtype; call `ready(dtype)` of it first.

    `entry_point(dtype)` of it is what Numba's dispatcher calls when it has looked at the types of the arguments, which
    takes 0.14 us: for callers that have done so, since it reads an array of any dtype as one of its own.

    Numba compiles for each layout, and for read-only arrays once more: three arguments made 24 signatures of the
    training kernel, of 5 s each. Where it may compile no more, arguments convert to what there is, in 0.1 us.

    Args:
        signature: the argument types as a function of the element type.
    """

    def entry_point(dispatcher, dtype):
        dispatcher.ready(dtype)
        return dispatcher.get_overload(signature(numba.from_dtype(dtype)))

    def register(function):
        dispatcher = _compile(function)

        def compile_for(dtype):
            with global_compiler_lock, _without_collector():
                dispatcher.disable_compile(False)
                dispatcher.compile(signature(numba.from_dtype(dtype)))
                dispatcher.disable_compile()

        dispatcher.ready = functools.cache(lambda dtype: aside(compile_for, dtype))
        dispatcher.entry_point = lambda dtype: entry_point(dispatcher, dtype)
        return dispatcher

    return register


def call_address(context, builder, address, kinds, values):
    """Call machine code at an address that takes such types and returns nothing."""
    callee = builder.inttoptr(address, context.call_conv.get_function_type(types.void, kinds).as_pointer())
    context.call_conv.call_function(builder, callee, types.void, kinds, values)


@intrinsic
def call(typingctx, address, arguments):
    """Call a worker, which returns nothing, with a tuple of exactly the arguments of its signature.

    An array's layout is not part of its representation, so a C-contiguous one may go where the signature has any.
    """
    sig = types.void(address, arguments)

    def codegen(context, builder, signature, args):
        kinds = tuple(signature.args[1])
        call_address(context, builder, args[0], kinds, cgutils.unpack_tuple(builder, args[1], len(kinds)))
        return context.get_dummy_value()

    return sig, codegen


def serial_in_njit(serial):
    """Let a Python function that picks a driver be called from compiled code too, where it means the serial worker.

    Inside a user's own loops, which may run in parallel already, the serial worker is the only safe choice.
    """

    def register(function):
        overload(function, strict=False, jit_options=dict(OPTIONS))(lambda *arguments: serial.py_func)
        function.serial = serial
        return function

    return register
