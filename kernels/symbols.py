"""Functions that are compiled once, and that all machine code which calls them finds by a symbol."""

import hashlib
import inspect

import llvmlite.binding as llvm
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .digest import SOURCE_DIGEST
from .jit import inner
from .requirement import PROVIDERS, Requirement


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
            Requirement(self._name, arguments).add_to(context.environment)
            kind = context.call_conv.get_function_type(result, arguments)
            callee = cgutils.get_or_insert_function(builder.module, kind, name)
            _, value = context.call_conv.call_function(builder, callee, result, arguments, args)
            return value

        return result(*arguments), codegen


def shared(function):
    """Compile a function that kernels call as machine code of its own, once for each tuple of argument types.

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
