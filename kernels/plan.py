"""Plans: what a driver needs besides the data, in one int64 array, of which it takes the address.

Python hands Numba an array in 50 ns, more than a small network takes for a layer: addresses cost nothing. A plan has
for each array its address, and its size in the place behind. Who makes one keeps it and its arrays while it is in use.
"""

from numba import carray

from .jit import glue
from .simd import pointer_to
from .table import NUMBERS, TABLE_COLUMNS


def spans(*arrays):
    """What a plan has for these arrays."""
    return [number for array in arrays for number in (array.ctypes.data, array.size)]


@glue
def planned_array(plan, place, like):
    """The array at a place of a plan, flat, of the dtype of `like`."""
    return carray(pointer_to(plan[place], like), plan[place + 1])


@glue
def planned_table(plan, place):
    """The table of a network at a place of a plan."""
    return carray(pointer_to(plan[place], NUMBERS), (plan[place + 1] // TABLE_COLUMNS, TABLE_COLUMNS))
