"""What happens to a block of a matrix product while it is in cache: the fusion of the package.

Each epilogue is a named tuple whose pointers are those of the whole result's first element. `landing` says where the
product puts a block (in place, or in scratch), `finish` takes it from there. Both are chosen by the epilogue's type
when compiling, so a product carries the code of its own epilogue alone.

Some have `contested`: whether another thread has read what is overwritten, see `multiply_block` in gemm.py.
"""

from collections import namedtuple

from numba import types
from numba.extending import overload

from .activation import (
    IDENTITY,
    LOG_SOFTMAX,
    activate_elements,
    activate_elements_backward,
    copy_elements,
    is_row_wise,
)
from .jit import OPTIONS, glue
from .operand import Rows, shifted_rows
from .optimizer import Rule, update_rows
from .simd import advance
from .softmax import softmax_rows, softmax_rows_backward

# The row stride of what is not contested.
NOT_CONTESTED = -1

# out = product
Store = namedtuple("Store", "out row_stride")
# out = f(product); the product itself is kept in z if keep; buffer holds a row for the softmax family
Activate = namedtuple("Activate", "activation out row_stride keep z buffer contested")
# out = product * f'(saved); a saved_row_stride of 0 has one saved row for all
ActivateBackward = namedtuple("ActivateBackward", "activation saved saved_row_stride out row_stride contested")
# the product is a gradient: the optimizer's rule, whose fields come first, is applied to parameters and states. Flat,
# because a parallel loop can't capture a tuple within a tuple.
RULE_SIZE = len(Rule._fields)
Update = namedtuple("Update", (*Rule._fields, "parameters", "state1", "state2", "row_stride", "contested"))


@glue
def make_update(rule, parameters, state1, state2, row_stride, contested):
    """The Update by a rule, or by that of another Update."""
    return Update(*rule[:RULE_SIZE], parameters, state1, state2, row_stride, contested)


def landing(epilogue, block, width, row, column):
    """The Rows into which the product puts the block at (row, column); at `block` is free scratch."""
    raise NotImplementedError("called from compiled code only")


def needs_whole_rows(epilogue):
    """Whether no block of the product may end inside a row."""
    raise NotImplementedError("called from compiled code only")


def finish(epilogue, block, row, column, height, width):
    """Take a finished block, Rows of height x width at (row, column), from where it landed to where it belongs."""
    raise NotImplementedError("called from compiled code only")


def contest(epilogue, row, column):
    """The Rows that the block at (row, column) overwrites; their stride is NOT_CONTESTED if they are not."""
    raise NotImplementedError("called from compiled code only")


def moved(epilogue, offset, row_stride):
    """The Store or Update whose result begins `offset` elements further and has that row stride."""
    raise NotImplementedError("called from compiled code only")


def _move_store(epilogue, offset, row_stride):
    return Store(advance(epilogue.out, offset), row_stride)


def _move_update(epilogue, offset, row_stride):
    return make_update(
        epilogue,
        advance(epilogue.parameters, offset),
        advance(epilogue.state1, offset),
        advance(epilogue.state2, offset),
        row_stride,
        epilogue.contested,
    )


@glue
def _runs(height, width, stride, source_row):
    """(runs, elements of each) of a block: one run if its rows lie end to end on both sides."""
    if width == stride and width == source_row:
        return 1, height * width
    return height, width


@glue
def activate_rows(activation, z, y, m, n, buffer):
    """y = f(z) for m whole rows; y may be z. buffer holds a row.

    For what is no product's block any more: a normalization lies between the two.
    """
    if is_row_wise(activation):
        copy_elements(z, y, m * n)
        softmax_rows(y, m, n, activation == LOG_SOFTMAX, buffer)
    else:
        activate_elements(activation, z, y, m * n)


def _any_blocks(epilogue):
    return False


def _row_wise(epilogue):
    return is_row_wise(epilogue.activation)


def _in_scratch(epilogue, block, width, row, column):
    return Rows(block, width)


def _in_place(epilogue, block, width, row, column):
    return shifted_rows(Rows(epilogue.out, epilogue.row_stride), row, column)


# Products that are changed element by element land where they belong. From a block of scratch, which a pass of its own
# reads and writes to another place, 50-256 forward with relu took 48 us for 200 rows in float64, and takes 44 (Zen 5).


def _activate_landing(epilogue, block, width, row, column):
    keeps = epilogue.keep and epilogue.activation != IDENTITY
    return shifted_rows(Rows(epilogue.z if keeps else epilogue.out, epilogue.row_stride), row, column)


def _backward_landing(epilogue, block, width, row, column):
    if is_row_wise(epilogue.activation):
        return Rows(block, width)
    return shifted_rows(Rows(epilogue.out, epilogue.row_stride), row, column)


def _nothing(epilogue, block, row, column, height, width):
    pass


def _activate(epilogue, block, row, column, height, width):
    activation = epilogue.activation
    stride = epilogue.row_stride
    source, source_row = block
    out = advance(epilogue.out, row * stride + column)
    if is_row_wise(activation):
        # In place; blocks of row-wise activations span whole rows, and their products are never kept.
        softmax_rows(out, height, width, activation == LOG_SOFTMAX, epilogue.buffer)
    elif activation != IDENTITY:
        rows, columns = _runs(height, width, stride, source_row)
        for i in range(rows):
            activate_elements(activation, advance(source, i * source_row), advance(out, i * stride), columns)


def _activate_backward(epilogue, block, row, column, height, width):
    activation = epilogue.activation
    source, source_row = block
    stride, saved_stride = epilogue.row_stride, epilogue.saved_row_stride
    saved = advance(epilogue.saved, row * saved_stride + column)
    out = advance(epilogue.out, row * stride + column)
    rows, columns = height, width
    if saved_stride == stride:
        rows, columns = _runs(height, width, stride, source_row)
    for i in range(rows):
        dy, kept, dz = advance(source, i * source_row), advance(saved, i * saved_stride), advance(out, i * stride)
        if is_row_wise(activation):
            # Blocks of row-wise activations span whole rows.
            softmax_rows_backward(dy, kept, dz, columns // width, width, activation == LOG_SOFTMAX)
        else:
            activate_elements_backward(activation, dy, kept, dz, columns)


def _update(epilogue, block, row, column, height, width):
    # Rejected, all measured on 1024-1024-1024-10 and 784-256-128-10: to prefetch parameters and states that no other
    # thread has read under each tile (1 to 3 % slower, Zen 4), or by the `ahead` of tiles with blocks small enough for
    # L2 (2 to 5 % slower, Zen 5), and to update sliver by sliver (2 to 6 % slower): whole rows are long enough for the
    # hardware's own prefetching, pieces of 256 bytes are not.
    stride = epilogue.row_stride
    rows, columns = _runs(height, width, stride, block.row_stride)
    here = row * stride + column
    update_rows(
        epilogue,
        advance(epilogue.parameters, here),
        block.pointer,
        advance(epilogue.state1, here),
        advance(epilogue.state2, here),
        rows,
        columns,
        stride,
        block.row_stride,
    )


@glue
def _contested(overwritten, epilogue, row, column):
    here = advance(overwritten, row * epilogue.row_stride + column)
    return Rows(here, epilogue.row_stride if epilogue.contested else NOT_CONTESTED)


def _contest(epilogue, row, column):
    return _contested(epilogue.out, epilogue, row, column)


def _contest_update(epilogue, row, column):
    return _contested(epilogue.parameters, epilogue, row, column)


def _no_contest(epilogue, row, column):
    return Rows(epilogue.out, NOT_CONTESTED)


def _by_type(kinds):
    def choose(epilogue, *rest):
        for kind, implementation in kinds.items():
            if isinstance(epilogue, types.BaseNamedTuple) and epilogue.instance_class is kind:
                return implementation
        return None

    return choose


overload(landing, strict=False, jit_options=OPTIONS)(
    _by_type({Store: _in_place, Activate: _activate_landing, ActivateBackward: _backward_landing, Update: _in_scratch})
)
overload(needs_whole_rows, strict=False, jit_options=OPTIONS)(
    _by_type({Store: _any_blocks, Activate: _row_wise, ActivateBackward: _row_wise, Update: _any_blocks})
)
overload(finish, strict=False, jit_options=OPTIONS)(
    _by_type({Store: _nothing, Activate: _activate, ActivateBackward: _activate_backward, Update: _update})
)
overload(contest, strict=False, jit_options=OPTIONS)(
    _by_type({Store: _no_contest, Activate: _contest, ActivateBackward: _contest, Update: _contest_update})
)
overload(moved, strict=False, jit_options=OPTIONS)(_by_type({Store: _move_store, Update: _move_update}))
