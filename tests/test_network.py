"""Whole networks: gradients by central differences, the same bits however the work is cut, no allocation in a step."""

import numba
import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from fastnn import kernels
from fastnn.kernels import inference, layout, network, reference, sweeps, training
from fastnn.kernels.catalog_training import hyper_parameters
from fastnn.kernels.codes import Activation, Loss, Optimizer
from fastnn.kernels.dense import FEW_ROWS, grain_of
from fastnn.kernels.loss import parameter_array
from fastnn.kernels.microkernel import LOW_ROWS, tile_columns
from fastnn.kernels.network import make_table
from fastnn.kernels.optimizer import CLIP_NORM, L1, L2, LEARNING_RATE, PENALTY_IN_LOSS

ALL_THREADS = (1, 2, 3, 8)


def make_network(sizes, activations, dtype, rng, scale=1.0):
    table, count = make_table(sizes, [int(a) for a in activations])
    parameters = np.empty(count, dtype)
    for k, n, offset in table[:, [0, 1, 2]]:
        parameters[offset : offset + k * n + n] = rng.standard_normal(k * n + n) * scale * k**-0.5
    return network.Network(table, parameters)


def make_workspace(net, rows, threads, dtype):
    # NaN everywhere: a step that reads what it has not written cannot hide.
    return np.full(max(layout.workspace_size(net.table, net.parameters, rows, threads)), np.nan, dtype)


def make_target(loss, rows, outputs, dtype, rng):
    if loss == Loss.SOFTMAX_CROSS_ENTROPY:
        return rng.integers(0, outputs, (rows, 1)).astype(dtype)
    if loss in (Loss.BINARY_CROSS_ENTROPY, Loss.POISSON):
        return rng.random((rows, outputs)).astype(dtype)
    return rng.standard_normal((rows, outputs)).astype(dtype)


def gradient_of(net, x, y, weights, loss, threads=1, parameter=None):
    dtype = net.parameters.dtype
    gradient = np.full_like(net.parameters, np.nan)
    training.loss_and_gradient_parallel.ready(dtype)
    value = training.loss_and_gradient_parallel(
        sweeps.rows_worker.address(dtype),
        sweeps.gradient_worker.address(dtype),
        net.table,
        net.parameters,
        x,
        y,
        weights,
        int(loss),
        parameter_array(loss, parameter),
        gradient,
        make_workspace(net, len(x), threads, dtype),
        threads,
    )
    return value, gradient


def train(
    net,
    x,
    y,
    optimizer,
    hyper,
    threads,
    loss=Loss.MSE,
    steps=10,
    batch_size=16,
    order=None,
    weights=None,
    workspace=None,
    parameter=None,
):
    """The parameters and losses after some steps."""
    dtype = net.parameters.dtype
    net = network.Network(net.table, net.parameters.copy())
    states = np.zeros_like(net.parameters), np.zeros_like(net.parameters)
    losses = np.full(steps, np.nan)
    workspace = make_workspace(net, batch_size, threads, dtype) if workspace is None else workspace
    optimization = training.Optimization(int(optimizer), hyper, *states)
    parameter = parameter_array(loss, parameter)
    plan = training.plain_training_plan(net, optimization, loss, workspace, threads, parameter)
    weights = np.empty(0, dtype) if weights is None else weights
    order = np.empty(0, np.int64) if order is None else order
    training.train_planned(plan.ctypes.data, x, y, weights, order, batch_size, 1, losses)
    return net.parameters, losses


@pytest.mark.parametrize("loss", list(Loss), ids=lambda loss: loss.name.lower())
@pytest.mark.parametrize("activation", list(Activation), ids=lambda code: code.name.lower())
def test_whole_network_gradient_by_central_differences(activation, loss):
    # A seed for which no relu or absolute difference sits on its kink.
    rng = np.random.default_rng(int(activation) * 100 + int(loss))
    net = make_network((3, 5, 4, 2), (activation, activation, activation), np.float64, rng)
    x, y = rng.standard_normal((4, 3)), make_target(loss, 4, 2, np.float64, rng)
    weights = rng.random(4) + 0.5
    value, gradient = gradient_of(net, x, y, weights, loss)
    assert np.isfinite(value)
    step = 1e-6
    numeric = np.empty_like(gradient)
    for i in range(len(numeric)):
        values = []
        for sign in (1, -1):
            moved = network.Network(net.table, net.parameters.copy())
            moved.parameters[i] += sign * step
            values.append(gradient_of(moved, x, y, weights, loss)[0])
        numeric[i] = (values[0] - values[1]) / (2 * step)
    np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=2e-8)


@pytest.mark.parametrize(("loss", "parameter"), [(Loss.QUANTILE, 0.875), (Loss.HUBER, 0.25), (Loss.HUBER, None)])
def test_the_parameter_of_a_loss_reaches_it(loss, parameter, dtype, rng):
    """In the gradient and in training, where one step of gradient descent has to subtract just that gradient."""
    net = make_network((3, 5, 2), (Activation.TANH, Activation.IDENTITY), dtype, rng)
    x, y = rng.standard_normal((9, 3)).astype(dtype), make_target(loss, 9, 2, dtype, rng)
    no_weights = np.empty(0, dtype)
    value, gradient = gradient_of(net, x, y, no_weights, loss, parameter=parameter)
    expected = np.empty(net.parameters.size)
    arguments = net.table, net.parameters, x, y, no_weights, loss, expected, no_weights
    eps = float(np.finfo(dtype).eps)
    assert value == pytest.approx(reference.loss_and_gradient(*arguments, parameter), rel=20 * eps)
    np.testing.assert_allclose(gradient, expected, atol=40 * eps)
    assert (
        kernels.loss_and_gradient(*arguments[:6], np.empty_like(gradient), make_workspace(net, 9, 1, dtype))
        == (gradient_of(net, x, y, no_weights, loss)[0])
    )
    again = np.empty_like(gradient)
    room = make_workspace(net, 9, 1, dtype)
    assert kernels.loss_and_gradient(*arguments[:6], again, room, parameter) == value
    assert again.tobytes() == gradient.tobytes()
    hyper = np.zeros_like(hyper_parameters(Optimizer.SGD))
    hyper[LEARNING_RATE] = 0.5
    trained, losses = train(net, x, y, Optimizer.SGD, hyper, 1, loss, steps=1, parameter=parameter)
    assert losses[0] == value
    np.testing.assert_allclose(trained, net.parameters - dtype(0.5) * gradient, atol=2 * eps)


@pytest.mark.parametrize("activation", list(Activation), ids=lambda code: code.name.lower())
def test_same_bits_for_any_thread_count(activation, dtype, rng):
    net = make_network((20, 33, 70, 5), (activation, Activation.GELU, activation), dtype, rng)
    x = rng.standard_normal((150, 20)).astype(dtype)
    y = make_target(Loss.SOFTMAX_CROSS_ENTROPY, 150, 5, dtype, rng)
    results = [gradient_of(net, x, y, np.empty(0, dtype), Loss.SOFTMAX_CROSS_ENTROPY, t) for t in ALL_THREADS]
    assert len({(value, gradient.tobytes()) for value, gradient in results}) == 1


@pytest.mark.parametrize("activation", list(Activation), ids=lambda code: code.name.lower())
def test_same_bits_for_any_batch_split(activation, dtype, rng):
    net = make_network((20, 33, 300, 5), (activation, Activation.SILU, activation), dtype, rng)
    x = rng.standard_normal((300, 20)).astype(dtype)

    def forward(rows, threads):
        out = np.full((len(rows), 5), np.nan, dtype)
        size = layout.workspace_size(net.table, net.parameters, len(rows), threads)[0]
        workspace = np.full(size, np.nan, dtype)
        plan = inference.plain_forward_plan(net.table, net.parameters, workspace, threads)
        inference.forward_driver(threads, out.dtype)(plan.ctypes.data, rows, out)
        return out

    whole = forward(x, 1)
    assert np.isfinite(whole).all()
    for threads in ALL_THREADS:
        assert forward(x, threads).tobytes() == whole.tobytes()
    for cuts in ([1], [7, 8, 200], [128, 129, 256]):
        parts = [forward(part, 1) for part in np.split(x, cuts)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


@pytest.mark.parametrize("last", [Activation.IDENTITY, Activation.TANH, Activation.LOG_SOFTMAX])
def test_few_rows_share_columns_with_the_same_bits(last, dtype, rng):
    # One column more than whole slivers: a thread may have to itself a single one of many.
    odd = tile_columns(np.dtype(dtype).itemsize) + 1
    net = make_network(
        (450, 820, 333, 2100, odd), (Activation.GELU, Activation.TANH, Activation.RELU, last), dtype, rng
    )
    assert 3 * grain_of(FEW_ROWS, 4) < 450 * 820, "too small to be shared by three threads"
    most = layout.rows_by_columns(net.table, np.dtype(dtype).itemsize)
    assert most == layout.LARGE_COLUMN_ROWS > LOW_ROWS
    x = np.asfortranarray(rng.standard_normal((most + 1, 450)).astype(dtype))
    whole = np.empty((len(x), odd), dtype)
    kernels.forward(net.table, net.parameters, x, whole, make_workspace(net, len(x), 1, dtype))
    for rows in (*range(1, LOW_ROWS + 2), most, most + 1):
        for threads in ALL_THREADS:
            size = layout.workspace_size(net.table, net.parameters, rows, threads)[0]
            memory = np.full(size + 2**17, 7, dtype)
            workspace, out = memory[:size], np.full((rows, odd), np.nan, dtype)
            plan = inference.plain_forward_plan(net.table, net.parameters, workspace, threads)
            inference.forward_driver(threads, out.dtype)(plan.ctypes.data, x[:rows], out)
            assert out.tobytes() == whole[:rows].tobytes()
            assert (memory[size:] == 7).all(), "written past the end of the workspace"


@pytest.mark.parametrize("clip", [0.0, 0.01], ids=["fused", "clipped by norm"])
@pytest.mark.parametrize("optimizer", list(Optimizer), ids=lambda code: code.name.lower())
def test_training_is_gradient_then_optimizer(optimizer, clip, dtype, rng):
    """The fused update against the gradient kernel and the flat optimizer, and the same bits for any thread count."""
    net = make_network((6, 33, 3), (Activation.TANH, Activation.IDENTITY), dtype, rng)
    x, y = rng.standard_normal((60, 6)).astype(dtype), rng.standard_normal((60, 3)).astype(dtype)
    weights = rng.random(60).astype(dtype)
    order = rng.permutation(60)[:50]
    hyper = hyper_parameters(optimizer)
    hyper[CLIP_NORM] = clip
    steps = 4  # of 16, 16, 16 and 2 rows
    results = [train(net, x, y, optimizer, hyper, t, steps=steps, order=order, weights=weights) for t in ALL_THREADS]
    assert len({(parameters.tobytes(), losses.tobytes()) for parameters, losses in results}) == 1

    expected = network.Network(net.table, net.parameters.copy())
    states = np.zeros_like(expected.parameters), np.zeros_like(expected.parameters)
    for step in range(steps):
        rows = order[16 * step : 16 * step + 16]
        value, gradient = gradient_of(expected, x[rows], y[rows], weights[rows], Loss.MSE)
        assert value == results[0][1][step]
        if clip:
            kernels.clip_by_norm(gradient, clip)
        getattr(kernels, optimizer.name.lower())(expected.parameters, gradient, *states, step + 1, hyper)
    assert expected.parameters.tobytes() == results[0][0].tobytes()


@pytest.mark.parametrize(("in_loss", "clip"), [(True, 0.0), (False, 0.0), (True, 0.05)])
@pytest.mark.parametrize("optimizer", [Optimizer.SGD, Optimizer.ADAM], ids=lambda code: code.name.lower())
def test_penalties_pull_at_weights_and_not_at_biases(optimizer, in_loss, clip, dtype, rng):
    """g + s (l1 sign(p) + l2 p) after clipping, sign(0) = 0; in the loss s (l1 sum of |p| + l2 / 2 sum of p^2).

    s is 1 over the total weight of the batch, or 1 where the penalties are no part of the loss.
    """
    net = make_network((6, 33, 3), (Activation.TANH, Activation.IDENTITY), dtype, rng)
    net.parameters[:8] = 0
    x, y = rng.standard_normal((20, 6)).astype(dtype), rng.standard_normal((20, 3)).astype(dtype)
    # Of a column of zeros only the penalties move the weights: they stay at 0.
    x[:, 0] = 0
    weights = rng.random(20).astype(dtype)
    hyper = hyper_parameters(optimizer)
    hyper[L1], hyper[L2], hyper[PENALTY_IN_LOSS], hyper[CLIP_NORM] = 0.3, 0.7, in_loss, clip
    results = [train(net, x, y, optimizer, hyper, t, steps=2, weights=weights) for t in ALL_THREADS]
    assert len({(parameters.tobytes(), losses.tobytes()) for parameters, losses in results}) == 1
    assert not results[0][0][:8].any()

    expected = network.Network(net.table, net.parameters.astype(np.float64))
    states = np.zeros_like(expected.parameters), np.zeros_like(expected.parameters)
    is_weight = np.zeros(expected.parameters.size, bool)
    for k, n, start in net.table[:, :3]:
        is_weight[start : start + k * n] = True
    for step in range(2):
        rows = slice(16 * step, 16 * step + 16)
        scale = 1 / weights[rows].sum(dtype=np.float64) if in_loss else 1.0
        data = (array[rows].astype(np.float64) for array in (x, y, weights))
        value, gradient = gradient_of(expected, *data, Loss.MSE)
        penalized = np.where(is_weight, expected.parameters, 0)
        if in_loss:
            value += scale * (0.3 * np.abs(penalized).sum() + 0.7 / 2 * (penalized**2).sum())
        np.testing.assert_allclose(results[0][1][step], value, rtol=100 * np.finfo(dtype).eps)
        if clip:
            assert reference.clip_by_norm(gradient, clip) > clip
        gradient += scale * (0.3 * np.sign(penalized) + 0.7 * penalized)
        getattr(reference, optimizer.name.lower())(expected.parameters, gradient, *states, step + 1, hyper)
    # Two updates: twice the rounding of parameters of order 1, and adam divides by the root of small moments.
    np.testing.assert_allclose(results[0][0], expected.parameters, rtol=0, atol=1000 * np.finfo(dtype).eps)


def test_gathered_batches_equal_batches_in_place(dtype, rng):
    net = make_network((6, 9, 3), (Activation.RELU, Activation.IDENTITY), dtype, rng)
    x, y = rng.standard_normal((48, 6)).astype(dtype), rng.standard_normal((48, 3)).astype(dtype)
    hyper = hyper_parameters(Optimizer.ADAM)
    plain = train(net, x, y, Optimizer.ADAM, hyper, 1, steps=3)
    gathered = train(net, np.asfortranarray(x), y, Optimizer.ADAM, hyper, 1, steps=3, order=np.arange(48))
    assert plain[0].tobytes() == gathered[0].tobytes()


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("sizes", "batch_size", "rows"),
    [((7, 4200, 3), 256, 258), ((1500, 300, 2), 200, 601), ((3, 5, 4), 8, 17), ((300, 1100), 129, 130)],
)
def test_the_planned_workspace_is_enough(sizes, batch_size, rows, threads, rng):
    """Nothing is written past its end, though the last batch is short and its blocks are cut in another way."""
    activations = [Activation.GELU] * (len(sizes) - 2) + [Activation.SOFTMAX]
    net = make_network(sizes, activations, np.float32, rng)
    size = layout.workspace_size(net.table, net.parameters, batch_size, threads)[1]
    memory = np.full(size + 2**20, np.nan, np.float32)
    memory[size:] = 7
    x, y = rng.standard_normal((rows, sizes[0])).astype(np.float32), rng.random((rows, sizes[-1])).astype(np.float32)
    hyper = hyper_parameters(Optimizer.SGD)
    hyper[0] = 1e-6
    steps = -(-rows // batch_size)
    for clip in (0.0, 1.0):
        hyper[CLIP_NORM] = clip
        _, losses = train(
            net,
            x,
            y,
            Optimizer.SGD,
            hyper,
            threads,
            steps=steps,
            batch_size=batch_size,
            workspace=memory[:size],
            order=np.arange(rows),
            weights=np.ones(rows, np.float32),
        )
        assert np.isfinite(losses).all()
        assert (memory[size:] == 7).all()


@pytest.fixture
def allocations():
    """A function that counts the arrays that compiled code has allocated since the process began."""
    _nrt_python.memsys_enable_stats()
    yield lambda: rtsys.get_allocation_stats().alloc
    _nrt_python.memsys_disable_stats()


@numba.njit
def allocate_one():
    return np.empty(3).size


@pytest.mark.parametrize("clip", [0.0, 0.01], ids=["fused", "clipped by norm"])
@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step_allocates_nothing(threads, clip, allocations, rng):
    net = make_network((20, 70, 5), (Activation.GELU, Activation.LOG_SOFTMAX), np.float32, rng)
    x, y = rng.standard_normal((160, 20)).astype(np.float32), rng.standard_normal((160, 5)).astype(np.float32)
    hyper = hyper_parameters(Optimizer.ADAM)
    hyper[CLIP_NORM] = clip
    order = np.arange(160)
    counts = []
    for steps in (1, 1, 10):
        before = allocations()
        train(net, x, y, Optimizer.ADAM, hyper, threads, steps=steps, order=order)
        counts.append(allocations() - before)
    assert counts[2] == counts[1], "ten steps allocate more than one"
    before = allocations()
    allocate_one()
    assert allocations() == before + 1, "the counter does not count"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("sizes", "activations", "rows"),
    [
        ((1, 4096, 300, 1000), (Activation.IDENTITY, Activation.RELU, Activation.LOG_SOFTMAX), 95),
        ((5, 1025, 255, 5, 2000), (Activation.IDENTITY, *[Activation.SOFTMAX] * 3), 96),
        ((5, 2000, 5, 1000, 100), (Activation.LOG_SOFTMAX, Activation.IDENTITY, *[Activation.SOFTMAX] * 2), 64),
    ],
)
def test_a_wide_layer_beside_a_row_wise_one_stays_in_the_workspace(sizes, activations, rows, threads, dtype, rng):
    net = make_network(sizes, activations, dtype, rng)
    size = layout.workspace_size(net.table, net.parameters, rows, threads)[1]
    memory = np.full(size + 2**18, np.nan, dtype)
    memory[size:] = 7
    x, y = rng.standard_normal((rows, sizes[0])).astype(dtype), np.zeros((rows, sizes[-1]), dtype)
    _, losses = train(
        net,
        x,
        y,
        Optimizer.SGD,
        hyper_parameters(Optimizer.SGD),
        threads,
        steps=1,
        batch_size=rows,
        workspace=memory[:size],
    )
    assert np.isfinite(losses).all()
    assert (memory[size:] == 7).all()
