"""One sample through a network in compiled code: the checks and the call are in a function that is given no array.

Numba counts references to an array for each name that stands for it, two atomic operations of 4 ns, unless its
optimizer finds the two in code without branches between. Here an intrinsic makes numbers of the arrays at once, and
what branches, or could raise, is a call that LLVM must not copy into its caller: a sample of 4-32-32-1 took 154 ns with
seven counted names and 96 so, one of a single layer 4-1 took 75 and 13; what is checked of sizes and of the workspace's
place has added some 5 (Zen 5, all before layers of one output became dot products, see dot.py).
"""

from collections import namedtuple

import numpy as np
from numba import carray, int64, intp, types
from numba.extending import intrinsic

from .embedded_checks import (
    BAD_NETWORK,
    BAD_OUT,
    BAD_X,
    FINE,
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

# The arrays of a sample as pointers, each with its size behind it: rows of the table, else elements. Without statistics
# there are 0 of them. stride: of x, in bytes.
Sample = namedtuple("Sample", "table layers parameters size statistics more x inputs stride out outputs workspace room")


def _sample_type(t):
    p, count = types.CPointer(t), types.intp
    kinds = types.CPointer(int64), count, p, count, p, count, p, count, count, p, count, p, count
    return types.NamedTuple(kinds, Sample)


@glue
def _fault(sample):
    """The code of what is wrong with a sample, or FINE."""
    numbers = carray(sample.table, (sample.layers, TABLE_COLUMNS))
    first, element, inputs, stride = address_of(sample.x), itemsize(sample.x), sample.inputs, sample.stride
    size, more, outputs, room = sample.size, sample.more, sample.outputs, sample.room
    own, others = carray(sample.parameters, size), carray(sample.statistics, more)
    target, scratch = carray(sample.out, outputs), carray(sample.workspace, room)
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


def _apply_plain(row, sample):
    fault = _fault(sample)
    if fault == FINE:
        x, step = sample.x, sample.stride // itemsize(sample.x)
        call(look_up(row), (sample.table, sample.layers, sample.parameters, x, step, sample.out, sample.workspace))
    return fault


def _apply_normalized(row, sample):
    fault = _fault(sample)
    if fault == FINE:
        x, step = sample.x, sample.stride // itemsize(sample.x)
        network = sample.table, sample.layers, sample.parameters, sample.statistics
        call(look_up(row), (*network, x, step, sample.out, sample.workspace))
    return fault


@intrinsic
def apply_sample(typingctx, network, x, out, workspace):
    """out = network(x) for one sample, if nothing is wrong with it; what is, as a code of `refuse`, else FINE."""
    normalized = network.instance_class is NormalizedNetwork
    function = _apply_normalized if normalized else _apply_plain
    worker = normalized_sample_worker if normalized else sample_worker
    worker.address(np.dtype(x.dtype.name))
    sample = _sample_type(x.dtype)
    inner = intp(intp, sample)

    def codegen(context, builder, signature, args):
        array = lambda kind, value: context.make_array(kind)(context, builder, value)
        parts = enumerate(signature.args[0].types)
        table, parameters, *statistics = [array(kind, builder.extract_value(args[0], i)) for i, kind in parts]
        x, out, workspace = map(array, signature.args[1:], args[1:])
        first = lambda numbers: builder.extract_value(numbers, 0)
        row = worker.emit_row(context, builder, signature.args[1].dtype)
        values = (
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
            builder,
            callee,
            inner.return_type,
            inner.args,
            (row, context.make_tuple(builder, sample, values)),
            attrs=("noinline",),
        )
        # Its only error, of `look_up`, is passed on as a code: to pass on the error itself would be a branch.
        return builder.select(status.is_error, context.get_constant(types.intp, NOT_COMPILED), fault)

    return types.intp(network, x, out, workspace), codegen
