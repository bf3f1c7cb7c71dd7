"""Rules of annotations: all that is public has them, they name what there is, and nothing private."""

import functools
import inspect
import re
import typing

import pytest

import fastnn
from fastnn import activations, callbacks, hooks, initializers, losses, optimizers, schedules, serialization
from fastnn.c_function import CFunction
from fastnn.position import Position

MODULES = (fastnn, activations, callbacks, initializers, losses, optimizers, schedules, serialization)
CALLED_BY_SYNTAX = {"__init__", "__call__", "__iter__", "__len__", "__getitem__"}
# What modules import for type checkers alone; the last two are of packages that need not be there.
FOR_CHECKERS = {
    kind.__name__: kind for kind in (fastnn.History, fastnn.Sequential, fastnn.Trainer, CFunction, Position)
}
FOR_CHECKERS |= dict.fromkeys(["Axes", "LowLevelCallable"], object)


def is_ours(thing):
    """Whether it is of the layer API."""
    return getattr(thing, "__module__", "").startswith("fastnn.") and ".kernels." not in thing.__module__


def functions_of(member):
    """The functions that an attribute of a class calls."""
    if isinstance(member, property):
        return [function for function in (member.fget, member.fset) if function is not None]
    member = getattr(member, "func" if isinstance(member, functools.cached_property) else "__func__", member)
    return [member] if inspect.isfunction(member) else []


def public_functions():
    """(place, function, whether it is a method) of whatever a user may call."""
    things = [getattr(module, name) for module in MODULES for name in getattr(module, "__all__", ["load", "save"])]
    things = dict.fromkeys(thing for thing in (*things, CFunction, Position) if is_ours(thing) and callable(thing))
    for function in filter(inspect.isfunction, things):
        yield function.__name__, function, False
    kinds = dict.fromkeys(kind for thing in filter(inspect.isclass, things) for kind in thing.__mro__ if is_ours(kind))
    for kind in kinds:
        for name, member in vars(kind).items():
            if not name.startswith("_") or name in CALLED_BY_SYNTAX:
                for function in functions_of(member):
                    yield f"{kind.__name__}.{name}", function, True


PUBLIC = list(public_functions())


def test_whatever_is_public_is_looked_at():
    places = {place for place, *_ in PUBLIC}
    assert {"MLP", "load", "relu", "Sequential.fit", "Dense.scale", "Trainer.restore", "Base.parameter"} <= places
    assert {"Custom.__init__", "Cosine.__call__", "CSVLogger.on_fit_end", "CFunction.__init__"} <= places


@pytest.mark.parametrize(
    ("place", "function", "is_method"), PUBLIC, ids=lambda value: value if type(value) is str else ""
)
def test_parameters_and_results_have_types(place, function, is_method):
    names = [*list(inspect.signature(function).parameters)[is_method:], "return"]
    # NameError where an annotation names what there is not.
    hints = typing.get_type_hints(function, localns=FOR_CHECKERS)
    assert [name for name in names if name not in hints] == []
    assert re.findall(r"(?<!\w)_\w+", " ".join(map(str, inspect.get_annotations(function).values()))) == []


def test_a_callback_is_what_a_fit_calls():
    parts = typing.get_args(fastnn.typing.CallbackLike)
    assert {name for part in parts for name in vars(part) if name.startswith("on_")} == set(hooks.HOOKS)
    assert sum("__call__" in vars(part) for part in parts) == 1


def test_every_name_of_a_type_is_there():
    assert [name for name in fastnn.typing.__all__ if not hasattr(fastnn.typing, name)] == []
    assert [name for name in fastnn.typing.__all__ if name not in fastnn.typing.__doc__] == []
