"""A training step of a plain network is two sweeps, each one parallel region:

    rows     every thread takes its rows of the batch through forward, loss and backward to the pre-activation
             gradients dz of all layers: rows do not depend on each other
    weights  every thread takes its rectangle of every layer's [weight; bias] through x.T @ dz, a sum over the whole
             batch in the order of its rows, and on through the optimizer

so the order of every sum is fixed whatever the number of threads. This file has the sweeps and the workers that do one
thread's part of them; training.py launches those.

Of what one thread reads the other has just written much, the first layer's weights above all. A thread that keeps
columns of that layer to itself, forward, backward and update, was slower nevertheless on two Zen 4 cores: 695 against
640 us for 784-256-128-10 and 128 rows, 208 against 111 us for 256-256-10 and 64. On one core all its parts together
took as long as these; rows cut into short pieces, neighbours written by two cores, did not go together.
"""

from collections import namedtuple

from numba import float64, int64, intp, types

from .activation import IDENTITY
from .dense import parameters_cell, sweep_cell
from .epilogue import Store, make_update, moved
from .jit import glue
from .layout import ROWS, rows_at
from .operand import Operand
from .optimizer import L1, L2, make_rule, penalty_scale, update_elements, with_penalties
from .passes import backward_hidden, backward_output, forward_saving, loss_and_slope
from .simd import advance, flat_pointer
from .step import dz_of, gather_rows, given_type, plan_step, scratch_of
from .table import ACTIVATION, BIAS, IN, OUT, RECORD, WEIGHT, widest
from .workers import finder, part, worker


@glue
def sweep_rows(step, first, last, scratch):
    """Forward, loss and backward of rows first..last: leaves activations, loss terms and dz of every layer."""
    table = step.table
    layers = table.shape[0]
    buffer = scratch
    scratch = advance(scratch, widest(table))
    activation = table[layers - 1, ACTIVATION]
    for row in range(first, last, ROWS):
        m = min(ROWS, last - row)
        if step.gather:
            gather_rows(step, row, row + m)
        forward_saving(step, row, m, buffer, scratch)
        dy = dz_of(step, layers - 1, row) if activation == IDENTITY else scratch
        loss_and_slope(step, row, m, dy)
        if activation != IDENTITY:
            backward_output(step, dy, row, m, True)
        backward_hidden(step, row, m, True, scratch)


@glue
def sweep_weights(step, sink, bias_sink, index, parts, scratch):
    """One part of every layer's [weight; bias]: x.T @ dz into the sinks, Stores or Updates over all parameters."""
    table = step.table
    for layer in range(table.shape[0]):
        n, k = table[layer, OUT], table[layer, IN]
        x = step.x
        if layer > 0:
            x = Operand(rows_at(step.activations, step.rows, table[layer - 1, RECORD], layer - 1, 0, k), k, 1)
        weight, bias = moved(sink, table[layer, WEIGHT], n), moved(bias_sink, table[layer, BIAS], n)
        cell = parameters_cell(k, n, parts, index, scratch)
        sweep_cell(cell, k, n, step.rows, x, Operand(dz_of(step, layer, 0), n, 1), weight, bias, scratch)


@worker(lambda t: (given_type(t), intp, intp))
def rows_worker(given, index, parts):
    """One thread's part of the first sweep."""
    step = plan_step(given, parts)
    sweep_rows(step, part(step.rows, index, parts), part(step.rows, index + 1, parts), scratch_of(step, index))


find_rows = finder(rows_worker)


@worker(lambda t: (given_type(t), t[::1], intp, intp))
def gradient_worker(given, gradient, index, parts):
    """One thread's part of the second sweep, the gradient stored."""
    step, sink = plan_step(given, parts), Store(flat_pointer(gradient), 0)
    sweep_weights(step, sink, sink, index, parts, scratch_of(step, index))


find_gradient = finder(gradient_worker)


# An optimizer: its code, hyper-parameters (see optimizer.py) and states of the parameters' size, or empty.
Optimization = namedtuple("Optimization", "optimizer hyper state1 state2")
Optimization.__doc__ = """How a training step moves parameters.

    Attributes:
        optimizer: an `Optimizer`, as an int.
        hyper: float64 (12,), see optimizer.py.
        state1, state2: flat, like the parameters, or empty where the optimizer has none.

    >>> descent = kernels.Optimization(int(kernels.Optimizer.SGD), np.zeros(12), np.empty(0), np.empty(0))
    >>> descent.hyper[0] = 0.1  # the learning rate
    >>> descent.optimizer
    0
    """


def optimization_type(t):
    """The type of an `Optimization` with states of an element type."""
    return types.NamedTuple((intp, float64[::1], t[::1], t[::1]), Optimization)


@glue
def update_rules(weight, optimization, number):
    """The rule of update `number` for weights, and that for what penalties leave alone; weight: of the batch."""
    hyper = optimization.hyper
    rule, scale = make_rule(optimization.optimizer, hyper, number), penalty_scale(hyper, weight)
    return with_penalties(rule, hyper[L1] * scale, hyper[L2] * scale), rule


@glue
def update_sinks(given, optimization, number, parts):
    """Updates over all parameters, by both rules, for one thread of so many."""
    penalized, rule = update_rules(given.weight, optimization, number)
    # A state that the optimizer does not use may be empty; its pointer is moved along but never followed.
    first, second = flat_pointer(optimization.state1), flat_pointer(optimization.state2)
    parameters, contested = flat_pointer(given.parameters), parts > 1
    return (
        make_update(penalized, parameters, first, second, 0, contested),
        make_update(rule, parameters, first, second, 0, contested),
    )


@worker(lambda t: (given_type(t), optimization_type(t), intp, intp, intp))
def update_worker(given, optimization, number, index, parts):
    """One thread's part of the second sweep, the optimizer applied to each finished block of the gradient."""
    step = plan_step(given, parts)
    sink, bias_sink = update_sinks(given, optimization, number, parts)
    sweep_weights(step, sink, bias_sink, index, parts, scratch_of(step, index))


@worker(lambda t: (given_type(t), optimization_type(t), intp))
def step_worker(given, optimization, number):
    """Both sweeps on this thread: with a call for each, which both plan the step, 4-32-32-1 took 5 % longer."""
    step = plan_step(given, 1)
    scratch = scratch_of(step, 0)
    sink, bias_sink = update_sinks(given, optimization, number, 1)
    sweep_rows(step, 0, step.rows, scratch)
    sweep_weights(step, sink, bias_sink, 0, 1, scratch)


@worker(lambda t: (int64[:, ::1], t[::1], float64, t[::1], optimization_type(t), intp, intp, intp))
def flat_update_worker(table, parameters, weight, gradient, optimization, number, index, parts):
    """One thread's part of an update from a gradient in memory; weight: of the batch that it is of."""
    mine, end = part(parameters.size, index, parts), part(parameters.size, index + 1, parts)
    rules = update_rules(weight, optimization, number)
    layers = table.shape[0]
    # Spans of the flat vector in turn: a layer's weight, then all that lies before the next one's.
    for span in range(2 * layers):
        layer, is_weight = span // 2, span % 2 == 0
        start, stop = table[layer, WEIGHT], table[layer, BIAS]
        if not is_weight:
            start, stop = stop, parameters.size if layer == layers - 1 else table[layer + 1, WEIGHT]
        first, last = max(start, mine), min(stop, end)
        if first < last:
            update_elements(
                rules[0] if is_weight else rules[1],
                advance(flat_pointer(parameters), first),
                advance(flat_pointer(gradient), first),
                advance(flat_pointer(optimization.state1), first),
                advance(flat_pointer(optimization.state2), first),
                last - first,
            )
