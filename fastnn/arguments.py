"""Checks of arguments other than arrays: numbers, names, flags, paths; and their error messages.

Each of these functions returns what it was given as the one type that the rest of the code knows, or raises an error
that names the argument, what was expected and what was got.
"""

import math
import numbers
import os
import re
import sys

import numpy as np

from .kernels.whole_numbers import as_int
from .other_names import did_you_mean

# Strings that mean a dtype.
DTYPE_NAMES = re.compile("[<>=|]?(float32|single|f4|f|float64|double|float|f8|d)")
# So much of a wrong value is shown: the message of an error is no place for a user's data.
MOST_SHOWN = 200


def shortened(text):
    """A text for a message, cut if it is long."""
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."


def shown(value):
    """repr(value) for a message, shortened, and some text even where there is no repr."""
    try:
        return shortened(repr(value))
    except Exception:  # a whole number of 5,000 digits, or whatever a user's class does
        return f"a {type(value).__name__}"


def shape_text(*sizes):
    """A shape as NumPy prints it, with * for what may be any size."""
    return f"({', '.join(map(str, sizes))}{',' if len(sizes) == 1 else ''})"


def wrong_shape(name, expected, array):
    return ValueError(f"{name}: expected shape {expected}, got {array.shape}")


def float_dtype(dtype, name="dtype") -> np.dtype:
    """np.dtype float32 or float64, NumPy's own instance: `predict` compares by identity."""
    # Of what else np.dtype would take it warns sometimes.
    named = isinstance(dtype, str) and DTYPE_NAMES.fullmatch(dtype)
    usable = named or isinstance(dtype, np.dtype) or any(dtype is kind for kind in (float, np.float32, np.float64))
    kind = np.dtype(dtype).type if usable else None
    if kind not in (np.float32, np.float64):
        raise ValueError(f"{name}: expected float32 or float64, got {shown(dtype)}")
    return np.dtype(kind)


def is_number(value) -> bool:
    """Whether it is a Python or NumPy number, real and not a bool."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def whole_number(value, name, at_least, bits=None) -> int:
    """A Python int of at least `at_least`, of at most so many bits."""
    number = as_int(value)
    if number is None:
        raise TypeError(f"{name}: expected a whole number, got {shown(value)}")
    if number < at_least:
        raise ValueError(f"{name}: expected at least {at_least}, got {shown(number)}")
    if bits is not None and number >> bits:
        raise ValueError(f"{name}: expected below 2**{bits}, got {shown(number)}")
    return number


def real_number(value, name, least=-math.inf, *, above=False, below=math.inf) -> float:
    """A finite Python float: at least `least` (above it, if `above`) and below `below`."""
    if not is_number(value):
        raise TypeError(f"{name}: expected a real number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not (math.isfinite(number) and (number > least if above else number >= least) and number < below):
        expected = "a finite number"
        if least > -math.inf:
            expected += f" above {least:g}" if above else f" of at least {least:g}"
        if below < math.inf:
            expected += f" and below {below:g}"
        raise ValueError(f"{name}: expected {expected}, got {shown(value)}")
    return number


def user_number(value, message) -> float:
    """What a function of the user's returned, as a float, nan and inf too; an array of one number is one."""
    try:
        return float(value.item() if isinstance(value, np.ndarray) and value.size == 1 else value)
    except (TypeError, ValueError):
        raise TypeError(f"{message}, got {shown(value)}") from None


def flag(value, name) -> bool:
    """A Python bool."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: expected True or False, got {shown(value)}")
    return bool(value)


def listed(values, name, what) -> list:
    """A list of what an iterable holds; not of a set or dict, which has no order or more than is asked for."""
    try:
        if not isinstance(values, (set, frozenset, dict)):
            return list(values)
    except TypeError:
        pass
    raise TypeError(f"{name}: expected a list of {what}, got {shown(values)}")


def file_path(path) -> str:
    """The path of a file as a str, or a ValueError or TypeError that names it."""
    # open() would take a number for a descriptor, and close what it belongs to: 1, or True, is the standard output.
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise TypeError(f"path: expected a str, bytes or os.PathLike, got {shown(path)}")
    path = os.fsdecode(path)
    if not path or "\0" in path:
        raise ValueError(f"path: expected the name of a file, got {shown(path)}")
    return path


def seed_number(seed) -> int | None:
    """A whole number in 0 .. 2**64 - 1, or None."""
    return None if seed is None else whole_number(seed, "seed", 0, bits=64)


def choice(value, options, name):
    """The entry of `options`, a mapping by name, that a string means."""
    if not isinstance(value, str) or value not in options:
        meant = did_you_mean(value, options)
        raise ValueError(f"{name}: expected one of {', '.join(options)}, got {shown(value)}{meant}")
    return options[value]


def enum_member(value, enum, name, instead=""):
    """A member of an IntEnum from the member itself or from its name in lower case.

    instead: what else the caller would have taken, for the message.
    """
    if isinstance(value, enum):
        return value
    members = {member.name.lower(): member for member in enum}
    if isinstance(value, str):
        return choice(value, members, name)
    meant = did_you_mean(getattr(value, "__name__", str(value)), members) if value is None or callable(value) else ""
    expected = f"{', '.join(members)}, or a member of {enum.__name__}{instead}"
    raise TypeError(f"{name}: expected one of {expected}, got {shown(value)}{meant}")


def users_stacklevel():
    """For `warnings.warn`: how far away the first caller is that is no part of this package."""
    frame, level = sys._getframe(1), 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "fastnn":
        frame, level = frame.f_back, level + 1
    return level
