"""How functions in the user's compiled code reach the workers: by address, another for each kind of network.

The work is done by the workers that Python's calls use too. So a call adds some 0.1 s to the compilation of the user's
function, where with all the machine code in it a `prange` loop over `apply` took 8 s.
"""

from numba import carray
from numba.extending import overload

from .inference import Inputs, find_forward
from .jit import OPTIONS, glue
from .layout import layer_parts
from .network import NormalizedNetwork
from .normalized_inference import find_normalized_forward
from .normalized_sensitivity import find_normalized_sensitivity
from .operand import operand
from .regularized_sweeps import find_conductor, find_regularized_gradient
from .sensitivity import find_jacobian, find_vjp
from .simd import address_of, flat_pointer, keep_alive
from .standardization import find_standardize
from .step import with_x
from .sweeps import find_gradient, find_rows
from .table import IN, STANDARDIZED, mean_and_scale
from .training import by_both_sweeps
from .workers import call


def compiled(choose):
    """What a function of Python's is in compiled code: `choose` picks it by the types of the arguments.

    It is copied into its caller: called with a network and three arrays on the stack, it took 30 ns more.
    """

    def register(function):
        overload(function, strict=False, inline="always", jit_options=OPTIONS)(choose)
        return function

    return register


@glue
def keep_network(network, x, y, workspace):
    keep_alive(network.table)
    keep_alive(network.parameters)
    keep_alive(x)
    keep_alive(y)
    keep_alive(workspace)


def _by_kind(plain, normalized):
    """A function for compiled code that is `plain` or `normalized`, by the type of the network that it is given."""

    def function(network, arguments):
        raise NotImplementedError("called from compiled code only")

    def choose(network, arguments):
        if network.instance_class is NormalizedNetwork:
            return lambda network, arguments: normalized(network, arguments)
        return lambda network, arguments: plain(network, arguments)

    overload(function, strict=False, inline="always", jit_options=OPTIONS)(choose)
    return function


@glue
def _plain_forward(network, inputs):
    call(find_forward(network.parameters), (inputs, 0, 0, 1))


@glue
def _normalized_forward(network, inputs):
    statistics = address_of(flat_pointer(network.statistics))
    found = find_normalized_forward(network.parameters)
    call(found, (Inputs(*inputs[:2], statistics, *inputs[3:]), 0, 0, 1))
    keep_alive(network.statistics)


@glue
def _plain_vjp(network, arguments):
    call(find_vjp(network.parameters), arguments)


@glue
def _normalized_vjp(network, arguments):
    statistics = address_of(flat_pointer(network.statistics))
    call(find_normalized_sensitivity(network.parameters), (*arguments[:2], statistics, *arguments[2:]))
    keep_alive(network.statistics)


@glue
def _plain_jacobian(network, arguments):
    call(find_jacobian(network.parameters), arguments)


@glue
def _normalized_jacobian(network, arguments):
    statistics = address_of(flat_pointer(network.statistics))
    found = find_normalized_sensitivity(network.parameters)
    call(found, (*arguments[:2], statistics, *arguments[2:6], 0, *arguments[6:]))
    keep_alive(network.statistics)


@glue
def _plain_sweeps(network, given, gradient):
    return by_both_sweeps(find_rows(network.parameters), find_gradient(network.parameters), given, gradient)


@glue
def _sweeps_of(network, given, gradient):
    rows, second = find_conductor(network.parameters), find_regularized_gradient(network.parameters)
    return by_both_sweeps(rows, second, given, gradient)


@glue
def _normalized_sweeps(network, given, gradient):
    table, parameters, rows = given.table, given.parameters, given.rows
    if table[0, STANDARDIZED] == 0:
        return _sweeps_of(network, given, gradient)
    # In the room for a gathered batch: nothing is gathered.
    copies, a = layer_parts(table, parameters, rows, given.workspace).rest, operand(given.x)
    mean, scale = mean_and_scale(table, flat_pointer(network.statistics))
    places = address_of(mean), address_of(scale), address_of(a.pointer), a.row_stride, a.column_stride
    call(find_standardize(parameters), (parameters, *places, address_of(copies), rows, table[0, IN]))
    standardized = carray(copies, (rows, table[0, IN]))
    value = _sweeps_of(network, with_x(given, standardized), gradient)
    keep_alive(network.statistics)
    return value


call_forward = _by_kind(_plain_forward, _normalized_forward)
call_vjp = _by_kind(_plain_vjp, _normalized_vjp)
call_jacobian = _by_kind(_plain_jacobian, _normalized_jacobian)


def call_sweeps(network, given, gradient):
    """The loss of what is given, and its gradient."""
    raise NotImplementedError("called from compiled code only")


# Not `_by_kind`: of a tuple in a tuple, as its arguments would be, Numba's analysis of a `prange` loop makes an array.
@overload(call_sweeps, strict=False, inline="always", jit_options=OPTIONS)
def _choose_sweeps(network, given, gradient):
    if network.instance_class is NormalizedNetwork:
        return lambda network, given, gradient: _normalized_sweeps(network, given, gradient)
    return lambda network, given, gradient: _plain_sweeps(network, given, gradient)
