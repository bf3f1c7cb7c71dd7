"""Functions that are compiled once, and that all machine code which calls them finds by a symbol."""

import hashlib
import inspect

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .digest import SOURCE_DIGEST
from .jit import inner
from .requirement import PROVIDERS, Requirement, note_requirement


def _shared_named(name):
    return PROVIDERS[name]


class _Shared:
    """A function of kernels whose machine code others call by symbols, one for each tuple of argument types."""

    def __init__(self, function):
        self._compiled = inner(function)
        self._name = f"{function.__module__}.{function.__qualname__}"
        self._symbols = {}
        PROVIDERS[self._name] = self

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

    provide = symbol

    def type_call(self, typingctx, *arguments):
        """The definition of an intrinsic that calls the machine code."""
        arguments = tuple(map(types.unliteral, arguments))
        name, result = self.symbol(arguments)

        def codegen(context, builder, signature, args):
            self._note(context, builder, Requirement(self._name, arguments))
            kind = context.call_conv.get_function_type(result, arguments)
            callee = cgutils.get_or_insert_function(builder.module, kind, name)
            status, value = context.call_conv.call_function(builder, callee, result, arguments, args)
            return self._finish(builder, status, value)

        return result(*arguments), codegen

    def _note(self, context, builder, requirement):
        requirement.add_to(context.environment)

    def _finish(self, builder, status, value):
        """What its callers get: such functions raise nothing."""
        return value


class _Checked(_Shared):
    """One that returns a code of what is wrong with its arguments, or a tuple that begins with it."""

    def __init__(self, function, failed):
        super().__init__(function)
        self._failed = failed

    def _note(self, context, builder, requirement):
        # The user may call it in a `prange` loop.
        note_requirement(context, builder, requirement)

    def _finish(self, builder, status, value):
        # Its only error is that of a worker which is not there. Passed on as one it would be a branch in the caller.
        code = lambda found: builder.select(status.is_error, found.type(self._failed), found)
        if isinstance(value.type, ir.BaseStructType):
            return builder.insert_value(value, code(builder.extract_value(value, 0)), 0)
        return code(value)


def shared(function):
    """Compile a function that kernels call as machine code of its own, once for each tuple of argument types.

    `inner` functions are linked into their callers, and optimized and turned into machine code there once more. What
    every driver and worker contains is too large for that: blocks of products, activations and losses are nine tenths
    of the workers of training.
    """
    return _intrinsic(_Shared(function), function)


def checked(failed):
    """`shared` for a function that returns a code of what is wrong, `failed` if one of its workers is not there.

    What the user's compiled code calls: all that is checked, copied into a function that calls it, took 1.5 to 2 s to
    compile for each call in its source, and takes 0.1.
    """
    return lambda function: _intrinsic(_Checked(function, failed), function)


def _intrinsic(made, function):
    def definition(typingctx, *arguments):
        return made.type_call(typingctx, *arguments)

    parameters = inspect.signature(function).parameters.values()
    first = inspect.Parameter("typingctx", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    definition.__signature__ = inspect.Signature([first, *parameters])
    definition.__name__, definition.__doc__ = function.__name__, function.__doc__
    return intrinsic(definition)
