"""One sample through a network in compiled code: the checks and the call are in a function that is given no array.

Numba counts references to an array for each name that stands for it, two atomic operations of 4 ns, unless its
optimiser finds the two in code without branches between. Here an intrinsic makes numbers of the arrays at once, and
what branches, or could raise, is a call that LLVM must not copy into its caller: a sample of 4-32-32-1 took 154 ns with
seven counted names and 96 so, one of a single layer 4-1 took 75 and 13; what is checked of sizes and of the workspace's
place has added some 5 (Zen 5, all before layers of one output became dot products, see dot.py).
"""

import numpy as np
from numba import carray, int64, intp, types
from numba.extending import intrinsic

from .embedded_checks import (
    BAD_NETWORK,
    BAD_OUT,
    BAD_X,
    MISALIGNED_X,
    NOT_COMPILED,
    OUT_OVERLAPS,
    SMALL_WORKSPACE,
    WORKSPACE_OVERLAPS,
    clear_of,
    span_aligned,
    span_apart,
)
from .inference import sample_worker
from .jit import glue
from .network import NormalizedNetwork
from .normalized_inference import normalized_sample_worker
from .simd import address_of, itemsize
from .slots import look_up
from .table import IN, ROW_WORKSPACE, TABLE_COLUMNS, outputs_count, parameters_count, statistics_count
from .workers import call

# What `apply_sample` returns if all is well; else the code of what is wrong.
FINE = -1


@glue
def _fault(table, layers, parameters, size, statistics, more, x, inputs, stride, out, outputs, workspace, room):
    """The code of what is wrong with a sample, or FINE.

    size, more, inputs, outputs, room: elements of parameters, statistics, x, out and workspace; stride: of x in bytes.
    """
    numbers = carray(table, (layers, TABLE_COLUMNS))
    first, element, target, scratch = address_of(x), itemsize(x), carray(out, outputs), carray(workspace, room)
    own, others = carray(parameters, size), carray(statistics, more)
    if size != parameters_count(numbers) or more != statistics_count(numbers):
        return BAD_NETWORK
    if inputs != numbers[0, IN]:
        return BAD_X
    if not span_aligned(first, inputs, stride, element):
        return MISALIGNED_X
    if outputs != outputs_count(numbers):
        return BAD_OUT
    if not (span_apart(first, inputs, stride, element, target) & clear_of(own, target) & clear_of(others, target)):
        return OUT_OVERLAPS
    apart = span_apart(first, inputs, stride, element, scratch) & clear_of(target, scratch)
    if not (apart & clear_of(own, scratch) & clear_of(others, scratch)):
        return WORKSPACE_OVERLAPS
    return SMALL_WORKSPACE if room < numbers[0, ROW_WORKSPACE] else FINE


def _apply_plain(
    row, table, layers, parameters, size, statistics, more, x, inputs, stride, out, outputs, workspace, room
):
    # Without statistics `more` is 0.
    fault = _fault(table, layers, parameters, size, statistics, more, x, inputs, stride, out, outputs, workspace, room)
    if fault == FINE:
        call(look_up(row), (table, layers, parameters, x, stride // itemsize(x), out, workspace))
    return fault


def _apply_normalized(
    row, table, layers, parameters, size, statistics, more, x, inputs, stride, out, outputs, workspace, room
):
    fault = _fault(table, layers, parameters, size, statistics, more, x, inputs, stride, out, outputs, workspace, room)
    if fault == FINE:
        call(look_up(row), (table, layers, parameters, statistics, x, stride // itemsize(x), out, workspace))
    return fault


@intrinsic
def apply_sample(typingctx, network, x, out, workspace):
    """out = network(x) for one sample, if nothing is wrong with it; what is, as a code of `refuse`, else FINE."""
    normalized = network.instance_class is NormalizedNetwork
    function = _apply_normalized if normalized else _apply_plain
    worker = normalized_sample_worker if normalized else sample_worker
    worker.address(np.dtype(x.dtype.name))
    p = types.CPointer(x.dtype)
    inner = intp(intp, types.CPointer(int64), intp, p, intp, p, intp, p, intp, intp, p, intp, p, intp)

    def codegen(context, builder, signature, args):
        array = lambda kind, value: context.make_array(kind)(context, builder, value)
        parts = enumerate(signature.args[0].types)
        table, parameters, *statistics = [array(kind, builder.extract_value(args[0], i)) for i, kind in parts]
        x, out, workspace = map(array, signature.args[1:], args[1:])
        first = lambda numbers: builder.extract_value(numbers, 0)
        values = (
            worker.emit_row(context, builder, signature.args[1].dtype),
            table.data,
            first(table.shape),
            parameters.data,
            parameters.nitems,
            statistics[0].data if normalized else parameters.data,
            statistics[0].nitems if normalized else context.get_constant(types.intp, 0),
            x.data,
            first(x.shape),
            first(x.strides),
            out.data,
            first(out.shape),
            workspace.data,
            workspace.nitems,
        )
        compiled = context.compile_subroutine(builder, function, inner)
        callee = context.declare_function(builder.module, compiled.fndesc)
        status, fault = context.call_conv.call_function(
            builder, callee, inner.return_type, inner.args, values, attrs=("noinline",)
        )
        # Its only error, of `look_up`, is passed on as a code: to pass on the error itself would be a branch.
        return builder.select(status.is_error, context.get_constant(types.intp, NOT_COMPILED), fault)

    return types.intp(network, x, out, workspace), codegen
