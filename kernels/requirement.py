"""What machine code needs from the process that loads it, and how it says so in every cache, the user's too."""

from typing import NamedTuple

from numba import types
from numba.extending import intrinsic

from .digest import SOURCE_DIGEST

# What machine code may refer to, by name: functions made by `symbols.shared` and workers, with a method `provide`.
PROVIDERS = {}


class Requirement(NamedTuple):
    """What machine code takes along into caches, the user's too: it is unpickled before the code is loaded.

    It lies among the constants of the environment that Numba gives each function. Of all functions that are linked
    into another one Numba keeps the environments with that one, however many caches they have come from.

    Attributes:
        name: of one of PROVIDERS that the code refers to; "" stands for the version alone.
        arguments: what its `provide` is given.
    """

    name: str
    arguments: tuple

    def __reduce__(self):
        return _fulfil, (SOURCE_DIGEST, *self)

    def add_to(self, environment):
        """Let a function's environment hold this."""
        # Among them may be arrays, which compare element by element.
        if not any(type(value) is Requirement and value == self for value in environment.consts):
            environment.consts.append(self)


def _fulfil(digest, name, arguments):
    # Files in users' caches call it by its module and name: if it moved, they could not tell that they are out of date.
    if digest != SOURCE_DIGEST:
        # What Numba takes for a file that is gone: it compiles anew.
        raise FileNotFoundError("compiled against another version of fastnn")
    if name:
        PROVIDERS[name].provide(arguments)
    return Requirement(name, arguments)


def note_requirement(context, builder, requirement):
    """Let the function whose code is being emitted hold a Requirement.

    In an environment of its own: that of a `prange` loop, which it may be in, Numba does not keep.
    """

    @intrinsic
    def note(typingctx):
        def codegen(context, builder, signature, args):
            requirement.add_to(context.environment)
            return context.get_dummy_value()

        return types.void(), codegen

    # No lambda: with debug information Numba warns of one whose source it cannot find.
    def keep():
        note()

    context.compile_internal(builder, keep, types.void(), ())


# Of every function: whoever links it keeps it in his own cache, which knows nothing of our sources.
VERSION = Requirement("", ())
