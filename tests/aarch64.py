"""Run a script or module of Python with all of Numba's machine code made for AArch64, in an emulator, on Linux.

    python aarch64.py same_bits.py --predictions
    python aarch64.py -m fastnn check relu

Numba types and lowers every function as on an ARM machine, whose vectors have 16 bytes; LLVM makes the code for an
Apple M1; and Unicorn, QEMU's CPUs as a library, runs it wherever Python calls a compiled function. The emulated CPU
sees the memory of this process at the same addresses, so arrays go as they are. It has one thread, and no function
that it runs may return an array.
"""

import functools
import inspect
import io
import math
import os
import platform
import re
import runpy
import struct
import sys

if __name__ == "__main__":
    # Numba reads these when it is imported.
    os.environ |= {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_NUM_THREADS": "1"}

import llvmlite.binding as llvm
import unicorn
from elftools.elf.elffile import ELFFile
from numba import types
from numba.core import caching, codegen, dispatcher
from unicorn import arm64_const as arm

TRIPLE, CPU = "aarch64-unknown-linux-gnu", "apple-m1"
# The CPU's memory that is not this process's: machine code, then what Numba allocates, and a stack.
CODE, CODE_BYTES = 0x10000000, 1 << 26
HEAP, HEAP_BYTES = 0x20000000, 1 << 28
STACK, STACK_BYTES = 0x40000000, 1 << 24
# Memory of this process is shared in pages, so many bytes of them at a time.
PAGE_BYTES, SHARED_BYTES = 4096, 1 << 20
X = [getattr(arm, f"UC_ARM64_REG_X{i}") for i in range(8)]
D = [getattr(arm, f"UC_ARM64_REG_D{i}") for i in range(8)]
MASK = 2**64 - 1

# Relocations of ELF for AArch64 (Arm's IHI 0056). Of an address's low 12 bits, the places that an access scales away.
ABSOLUTE, RELATIVE, PAGE, ADD_LOW, CALLS = 257, 261, 275, 277, (282, 283)
LOW_BITS = {ADD_LOW: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}
# Those that go by a table of addresses, and what they are to its entry.
BY_TABLE = {311: PAGE, 312: 286}


class Machine:
    """An emulated CPU with the machine code that it has been given."""

    def __init__(self):
        target = llvm.Target.from_triple(TRIPLE)
        self._target = target.create_target_machine(cpu=CPU, opt=3, reloc="static", codemodel="small")
        self._cpu = unicorn.Uc(unicorn.UC_ARCH_ARM64, unicorn.UC_MODE_ARM)
        self._cpu.ctl_set_cpu_model(arm.UC_CPU_ARM64_MAX)
        for start, size in ((CODE, CODE_BYTES), (HEAP, HEAP_BYTES), (STACK, STACK_BYTES)):
            self._cpu.mem_map(start, size)
        self._cpu.reg_write(arm.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # floating point is allowed
        self._cpu.hook_add(unicorn.UC_HOOK_MEM_UNMAPPED, self._share)
        self._code, self._heap, self._shared = CODE, HEAP, set()
        self._symbols, self._table, self._libraries = {}, {}, {}
        self._missing = None
        self._end = self._in_python("the end", None)

    # ---- Memory

    def _share(self, cpu, access, address, size, value, data):
        """Let the CPU see this process's memory around an address; False if there is none."""
        with open("/proc/self/maps") as maps:
            for line in maps:
                ends, rights = line.split()[:2]
                start, end = (int(number, 16) for number in ends.split("-"))
                if start <= address < end and rights[0] == "r":
                    around = address // SHARED_BYTES * SHARED_BYTES
                    self._map(range(max(start, around), min(end, around + SHARED_BYTES), PAGE_BYTES))
                    return True
        return False

    def _reach(self, start, size):
        """Share memory that the CPU has not touched by itself, unless it is its own."""
        for page in range(start // PAGE_BYTES * PAGE_BYTES, start + size, PAGE_BYTES):
            if page not in self._shared and not CODE <= page < STACK + STACK_BYTES:
                self._share(self._cpu, None, page, PAGE_BYTES, 0, None)

    def _map(self, pages):
        rights = unicorn.UC_PROT_READ | unicorn.UC_PROT_WRITE
        pages = [page for page in pages if page not in self._shared]
        while pages:
            count = next((i for i in range(1, len(pages)) if pages[i] != pages[0] + i * PAGE_BYTES), len(pages))
            self._cpu.mem_map_ptr(pages[0], count * PAGE_BYTES, rights, pages[0])
            self._shared.update(pages[:count])
            pages = pages[count:]

    def _allocate(self, size):
        start = (self._heap + 63) // 64 * 64
        self._heap = start + size
        assert self._heap <= HEAP + HEAP_BYTES, "out of emulated memory"
        return start

    def _place(self, content, align=16):
        """The address at which bytes of code or constants now lie."""
        start = (self._code + align - 1) // align * align
        self._code = start + len(content)
        assert self._code <= CODE + CODE_BYTES, "out of emulated memory"
        self._cpu.mem_write(start, content)
        return start

    # ---- Functions that are no machine code

    def _in_python(self, name, function):
        """The address of an instruction at which a function of Python runs; without one the CPU stops there."""

        def reached(cpu, address, size, data):
            if function is None:
                self._missing = name
                cpu.emu_stop()
            else:
                result = function(self, *(cpu.reg_read(register) for register in X[:3]))
                cpu.reg_write(X[0], 0 if result is None else result)

        start = self._symbols[name] = self._place(bytes.fromhex("c0035fd6"))  # ret
        self._cpu.hook_add(unicorn.UC_HOOK_CODE, reached, begin=start, end=start)
        return start

    def _symbol(self, name):
        """The address behind a symbol: fastnn's own, which are known to LLVM, or one of FUNCTIONS."""
        if name not in self._symbols and name.startswith("fastnn"):
            self._symbols[name] = llvm.address_of_symbol(name)
        return self._symbols.get(name) or self._in_python(name, FUNCTIONS.get(name))

    def _new_array(self, size, align, _):
        start, info = self._allocate(size), self._allocate(48)
        references, destructor, its_argument, external = 1, 0, 0, 0
        words = references, destructor, its_argument, start, size, external
        self._cpu.mem_write(info, struct.pack("<6Q", *words))
        return info

    def _fill(self, start, value, size):
        self._reach(start, size)
        self._cpu.mem_write(start, bytes([value & 255]) * size)
        return start

    def _copy(self, start, source, size):
        self._reach(start, size)
        self._reach(source, size)
        self._cpu.mem_write(start, bytes(self._cpu.mem_read(source, size)))
        return start

    def _frexp(self, exponent_at, *_):
        fraction, exponent = math.frexp(self._double())
        self._cpu.mem_write(exponent_at, struct.pack("<i", exponent))
        self._cpu.reg_write(D[0], *struct.unpack("<Q", struct.pack("<d", fraction)))

    def _ldexp(self, exponent, *_):
        (exponent,) = struct.unpack("<i", struct.pack("<I", exponent & 0xFFFFFFFF))
        number = math.ldexp(self._double(), exponent)
        self._cpu.reg_write(D[0], *struct.unpack("<Q", struct.pack("<d", number)))

    def _double(self):
        return struct.unpack("<d", struct.pack("<Q", self._cpu.reg_read(D[0])))[0]

    # ---- Machine code

    def functions(self, library):
        """{name: address} of a library of Numba's, which is compiled for the CPU at the first call."""
        if library not in self._libraries:
            module = llvm.parse_assembly(self._retargeted(library.before_optimization))
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization = options.slp_vectorization = True
            passes = llvm.create_pass_builder(self._target, options)
            passes.getModulePassManager().run(module, passes)
            self._libraries[library] = self._load(ELFFile(io.BytesIO(self._target.emit_object(module))))
        return self._libraries[library]

    def _retargeted(self, assembly):
        assembly = re.sub('target triple = ".*"', f'target triple = "{TRIPLE}"', assembly)
        return re.sub('target datalayout = ".*"', f'target datalayout = "{self._target.target_data}"', assembly)

    def _load(self, file):
        """{name: address} of the functions and data of an object file, placed and linked."""
        allocated = 2
        places = {
            number: self._place(bytes(section.data()), max(16, section["sh_addralign"]))
            for number, section in enumerate(file.iter_sections())
            if section["sh_flags"] & allocated
        }
        symbols = list(file.get_section_by_name(".symtab").iter_symbols())
        found = {}
        for symbol in symbols:
            if symbol["st_shndx"] in places:
                found[symbol.name] = places[symbol["st_shndx"]] + symbol["st_value"]
            elif symbol["st_shndx"] == "SHN_COMMON":
                found[symbol.name] = self._place(bytes(symbol["st_size"]))
        for section in file.iter_sections():
            if section["sh_type"] == "SHT_RELA" and section["sh_info"] in places:
                for relocation in section.iter_relocations():
                    symbol = symbols[relocation["r_info_sym"]]
                    inside = symbol["st_shndx"] in places
                    start = places[symbol["st_shndx"]] + symbol["st_value"] if inside else None
                    target = start if inside else found.get(symbol.name) or self._symbol(symbol.name)
                    where = places[section["sh_info"]] + relocation["r_offset"]
                    self._link(relocation["r_info_type"], where, target + relocation["r_addend"])
        return found

    def _link(self, kind, where, target):
        """Write the address `target` into what a relocation stands for."""
        if kind in BY_TABLE:
            if target not in self._table:
                self._table[target] = self._place(struct.pack("<Q", target))
            kind, target = BY_TABLE[kind], self._table[target]
        if kind == ABSOLUTE:
            self._cpu.mem_write(where, struct.pack("<Q", target & MASK))
            return
        (word,) = struct.unpack("<I", self._cpu.mem_read(where, 4))
        if kind == RELATIVE:
            word = (target - where) & 0xFFFFFFFF
        elif kind in CALLS:
            word = word & 0xFC000000 | (target - where >> 2) & 0x3FFFFFF
        elif kind == PAGE:
            pages = (target >> 12) - (where >> 12)
            word = word & 0x9F00001F | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5
        elif kind in LOW_BITS:
            word = word & ~(0xFFF << 10) | (target & 0xFFF) >> LOW_BITS[kind] << 10
        else:
            raise NotImplementedError(f"relocation {kind}")
        self._cpu.mem_write(where, struct.pack("<I", word))

    def call(self, compiled, values):
        """What a function that Numba has compiled (a CompileResult) returns for these arguments."""
        function = self.functions(compiled.library)[compiled.fndesc.llvm_func_name]
        self._heap = HEAP
        result, error = self._allocate(64), self._allocate(8)
        arguments = [(False, result), (False, error)]
        for kind, value in zip(compiled.signature.args, values, strict=True):
            arguments += _parts(kind, value)
        registers = {False: iter(X), True: iter(D)}
        stack = []
        for is_float, bits in arguments:
            register = next(registers[is_float], None)
            if register is None:
                stack.append(bits)
            else:
                self._cpu.reg_write(register, bits)
        top = (STACK + STACK_BYTES - 8 * len(stack)) // 64 * 64
        self._cpu.mem_write(top, struct.pack(f"<{len(stack)}Q", *stack))
        self._cpu.reg_write(arm.UC_ARM64_REG_SP, top)
        self._cpu.reg_write(arm.UC_ARM64_REG_LR, self._end)
        self._missing = None
        self._cpu.emu_start(function, CODE - 4)
        if self._missing != "the end":
            raise NotImplementedError(f"{self._missing} was called")
        status = self._cpu.reg_read(X[0]) & 0xFFFFFFFF
        returned_none = 0xFFFFFFFE
        if status not in (0, returned_none):
            raise RuntimeError(f"{compiled.fndesc.qualname} raised an exception, status {status}")
        return self._result(compiled.signature.return_type, result)

    def _result(self, kind, at):
        if isinstance(kind, types.NoneType):
            return None
        code = {types.float32: "f", types.float64: "d", types.boolean: "?"}.get(kind)
        if code is None:
            code = {8: "q", 4: "i"}[kind.bitwidth // 8]
        (value,) = struct.unpack(f"<{code}", self._cpu.mem_read(at, struct.calcsize(code)))
        return value


FUNCTIONS = {
    "NRT_MemInfo_alloc_aligned": Machine._new_array,
    "NRT_MemInfo_alloc_safe_aligned": Machine._new_array,
    "NRT_MemInfo_call_dtor": lambda *_: None,
    "PyEval_SaveThread": lambda *_: 1,
    "PyEval_RestoreThread": lambda *_: None,
    "memset": Machine._fill,
    "memcpy": Machine._copy,
    "numba_frexp": Machine._frexp,
    "numba_ldexp": Machine._ldexp,
}


def _parts(kind, value):
    """An argument as Numba passes it: (whether it is a float, its 64 bits) of each part."""
    if isinstance(kind, types.Array):
        no_owner = 0, 0
        numbers = *no_owner, value.size, value.itemsize, value.ctypes.data, *value.shape, *value.strides
        return [(False, number & MASK) for number in numbers]
    if isinstance(kind, types.BaseTuple):
        return [part for each, item in zip(kind.types, value, strict=True) for part in _parts(each, item)]
    if isinstance(kind, types.Float):
        code = "<f4x" if kind == types.float32 else "<d"
        return [(True, *struct.unpack("<Q", struct.pack(code, value)))]
    if isinstance(kind, (types.NoneType, types.Omitted)):
        return []
    return [(False, int(value) & MASK)]


def _overload(function, values):
    """What a dispatcher has compiled, or compiles now, for arguments like these."""
    kinds = tuple(function.typeof_pyval(value) for value in values)
    if kinds not in function.overloads and function._can_compile:
        function.compile(kinds)
    if kinds in function.overloads:
        return function.overloads[kinds]
    fits = function.typingctx.can_convert
    usable = [
        compiled
        for signature, compiled in function.overloads.items()
        if all(fits(*pair) is not None for pair in zip(kinds, signature, strict=True))
    ]
    (compiled,) = usable
    return compiled


def emulate():
    """From now on, have an emulated CPU run what Numba compiles."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = Machine()

    def keep_assembly(library):
        library.before_optimization = str(library._final_module)

    def address(library, name):
        library._ensure_finalized()
        # Nobody calls a wrapper for Python.
        return 0 if name.startswith("_ZN7cpython") else machine.functions(library)[name]

    def call(function, *arguments, **keywords):
        bound = inspect.signature(function.py_func).bind(*arguments, **keywords)
        bound.apply_defaults()
        values = tuple(bound.arguments.values())
        return machine.call(_overload(function, values), values)

    def entry_point(function):
        def for_dtype(dtype):
            function.ready(dtype)
            return functools.partial(call, function)

        return for_dtype

    nothing = lambda *_: None
    # What a cache holds has no assembly, only machine code.
    caching.Cache.load_overload = caching.Cache.save_overload = nothing
    codegen.CPUCodeLibrary._optimize_final_module = keep_assembly
    codegen.JITCodeLibrary.get_pointer_to_function = address
    codegen.JITCodeLibrary._finalize_specific = nothing
    codegen.JITCPUCodegen.set_env = nothing
    dispatcher.Dispatcher.__call__ = call
    # What `fastnn.kernels.jit.driver` gives its functions, for calls without a look at the types.
    dispatcher.Dispatcher.entry_point = property(entry_point, nothing)
    platform.machine = lambda: "aarch64"
    return machine


def main():
    if sys.platform != "linux":
        sys.exit("aarch64.py reads /proc/self/maps, which Linux has")
    emulate()
    sys.argv = sys.argv[1:]
    if sys.argv[0] == "-m":
        sys.argv = sys.argv[1:]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, os.path.dirname(os.path.abspath(sys.argv[0])))
        runpy.run_path(sys.argv[0], run_name="__main__")


if __name__ == "__main__":
    main()
