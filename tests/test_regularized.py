"""Normalization and dropout in networks: central differences, PyTorch's formulas, the same bits everywhere."""

import copy
import os
import pickle
import subprocess
import sys

import numba
import numpy as np
import pytest
from conftest import FULL
from numba.core.runtime import _nrt_python, rtsys

import fastnn
from fastnn import kernels
from fastnn.kernels import network, normalized_inference, reference, regularized_training, training
from fastnn.kernels.catalog_training import hyper_parameters
from fastnn.kernels.codes import ROW_WISE, Activation, Loss, Normalization, Optimizer
from fastnn.kernels.dropout import rate_threshold
from fastnn.kernels.layout import workspace_size
from fastnn.kernels.network import make_table
from fastnn.kernels.optimizer import CLIP_NORM, L1, L2, PENALTY_IN_LOSS
from fastnn.kernels.table import STATISTICS_SIZE, has_statistics

ALL_THREADS = (1, 2, 3, 8)
KINDS = [None, "layer", "batch"]
LAYER, BATCH = int(Normalization.LAYER), int(Normalization.BATCH)


def some_network(kinds, activation, rng, dropout=0.0, dtype="float64", sizes=(3, 5, 4, 2), **options):
    """A model whose parameters and running averages are all drawn; hidden layers have the kinds in turn."""
    layers = [
        fastnn.Dense(k, n, activation, normalization=kind, dropout=dropout)
        for k, n, kind in zip(sizes, sizes[1:], kinds, strict=False)
    ]
    net = fastnn.Sequential(layers, dtype=dtype, seed=0, **options)
    net.parameters = rng.standard_normal(net.parameter_count) * 0.7
    for layer in layers:
        if layer.normalization is not None:
            layer.scale = 0.5 + rng.random(layer.out_features)
        if layer.normalization == Normalization.BATCH:
            layer.running_mean = rng.standard_normal(layer.out_features)
            layer.running_variance = 0.5 + rng.random(layer.out_features)
    return net


def make_target(loss, rows, outputs, rng):
    if loss == Loss.SOFTMAX_CROSS_ENTROPY:
        return rng.integers(0, outputs, rows)
    return rng.random((rows, outputs))


def central_differences(function, parameters, step=1e-6):
    numeric = np.empty(parameters.size)
    for i in range(parameters.size):
        up, down = parameters.copy(), parameters.copy()
        up[i] += step
        down[i] -= step
        numeric[i] = (function(up) - function(down)) / (2 * step)
    return numeric


# ---- PyTorch's formulas, written out


def plain_forward(net, parameters, x, seed=None, update=None):
    """The network's output by formulas: in training if there is an update, else in use. Returns (output, averages)."""
    a, averages = np.asarray(x, np.float64), []
    offset = 0
    for index, layer in enumerate(net.layers):
        k, n = layer.in_features, layer.out_features
        weight = parameters[offset : offset + k * n].reshape(k, n)
        bias, scale, shift = (parameters[offset + k * n + i * n :][:n] for i in range(3))
        offset += layer.parameter_count
        z = a @ weight + bias
        if layer.normalization == Normalization.LAYER:
            mean, variance = z.mean(1, keepdims=True), z.var(1, keepdims=True)
            z = (z - mean) / np.sqrt(variance + 1e-5) * scale + shift
        elif layer.normalization == Normalization.BATCH:
            mean, variance = layer.running_mean, layer.running_variance
            if update is not None:
                mean, variance = z.mean(0), z.var(0)
                averages.append(0.9 * layer.running_mean + 0.1 * mean)
                averages.append(0.9 * layer.running_variance + 0.1 * z.var(0, ddof=1))
            z = (z - mean) / np.sqrt(variance + 1e-5) * scale + shift
        a = np.empty_like(z)
        reference.ACTIVATIONS[layer.activation][0](z, a)
        if update is not None and layer.dropout:
            kept = reference.kept_units(a.size, layer.dropout, seed, update, index).reshape(a.shape)
            # Rates count in whole 2^-32.
            a = a * kept / (1 - round(layer.dropout * 2**32) / 2**32)
    return a, np.concatenate([*averages, []])


def plain_loss(loss, prediction, y, weights=None):
    target = y[:, np.newaxis] if y.ndim == 1 else y
    weights = np.empty(0) if weights is None else weights
    return reference.LOSSES[loss](prediction, target, weights, np.empty_like(prediction))


# ---- Gradients


@pytest.mark.parametrize("loss", list(Loss), ids=lambda loss: loss.name.lower())
@pytest.mark.parametrize("activation", list(Activation), ids=lambda code: code.name.lower())
@pytest.mark.parametrize("kinds", [("layer",) * 3, ("batch",) * 3, ("batch", None, "layer")], ids=str)
def test_gradient_by_central_differences(kinds, activation, loss):
    # A seed for which no relu or absolute difference sits on its kink.
    rng = np.random.default_rng(int(activation) * 100 + int(loss))
    net = some_network(kinds, activation, rng, dropout=0.5)
    x, y, weights = rng.standard_normal((6, 3)), make_target(loss, 6, 2, rng), rng.random(6) + 0.5
    before = net.statistics.copy()
    value, gradient = net.loss_and_gradient(x, y, loss, weights)
    assert np.isfinite(value)
    start = net.parameters.copy()

    def loss_at(parameters):
        net.parameters = parameters
        return net.loss_and_gradient(x, y, loss, weights)[0]

    numeric = central_differences(loss_at, start)
    # Normalizing makes slopes, and with them third derivatives, several times as large as those of plain networks.
    np.testing.assert_allclose(gradient, numeric, rtol=1e-5, atol=2e-7 * (1 + np.abs(numeric).max()))
    assert np.array_equal(net.statistics, before), "running averages moved outside of training"


@pytest.mark.parametrize("activation", list(Activation), ids=lambda code: code.name.lower())
@pytest.mark.parametrize("kinds", [(None,) * 3, ("layer",) * 3, ("batch",) * 3], ids=str)
def test_a_training_step_is_that_of_the_formulas(kinds, activation):
    """Gradient descent by 1: what the parameters lose is the gradient of the loss with exactly these units dropped."""
    rng = np.random.default_rng(int(activation))
    net = some_network(kinds, activation, rng, dropout=0.4)
    x, y, weights = rng.standard_normal((7, 3)), rng.random((7, 2)), rng.random(7) + 0.5
    trainer = fastnn.Trainer(net, "mse", fastnn.SGD(learning_rate=1.0), seed=2**63 + 5)
    trainer.steps = 2**32 + 3
    start, update = net.parameters.copy(), trainer.steps + 1
    loss_at = lambda parameters: plain_loss(
        Loss.MSE, plain_forward(net, parameters, x, trainer.seed, update)[0], y, weights
    )
    expected_loss, averages = loss_at(start), plain_forward(net, start, x, trainer.seed, update)[1]
    numeric = central_differences(loss_at, start)
    assert trainer.step(x, y, weights) == pytest.approx(expected_loss, rel=1e-12)
    np.testing.assert_allclose(start - net.parameters, numeric, rtol=1e-5, atol=2e-7 * (1 + np.abs(numeric).max()))
    np.testing.assert_allclose(net.statistics, averages, rtol=1e-13, atol=1e-14)
    assert trainer.steps == update


@pytest.mark.parametrize("kind", KINDS)
def test_in_use_the_formulas_have_no_dropout_and_running_averages(kind, dtype, rng):
    net = some_network((kind,) * 3, "tanh", rng, dropout=0.5, dtype=dtype)
    x = rng.standard_normal((300, 3)).astype(dtype)
    expected, _ = plain_forward(net, net.parameters.astype(np.float64), x)
    np.testing.assert_allclose(net.predict(x), expected, rtol=0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("kind", KINDS)
def test_many_steps_stay_with_the_formulas(kind, dtype, rng):
    """Loss and running averages of every step from the parameters before it, in batches that a seed shuffles."""
    net = some_network((kind, kind, None), "gelu", rng, dropout=0.2, dtype=dtype, sizes=(3, 20, 70, 2))
    x, y = rng.standard_normal((50, 3)).astype(dtype), rng.random((50, 2)).astype(dtype)
    trainer = fastnn.Trainer(net, "mse", "adam", seed=11)
    for step in range(1, 9):
        rows = rng.permutation(50)[:32]
        before = net.parameters.astype(np.float64)
        prediction, averages = plain_forward(net, before, x[rows], 11, step)
        found = trainer.step(x[rows], y[rows])
        eps = float(np.finfo(dtype).eps)
        assert found == pytest.approx(plain_loss(Loss.MSE, prediction, y[rows].astype(float)), rel=1000 * eps)
        np.testing.assert_allclose(net.statistics, averages, rtol=100 * eps, atol=100 * eps)


# ---- The same bits


def regularized_table(sizes, activations, codes, rates, dtype, rng):
    table, count = make_table(sizes, activations, codes, [rate_threshold(rate) for rate in rates])
    parameters = (rng.standard_normal(count) * 0.3).astype(dtype)
    if not has_statistics(table):
        return network.Network(table, parameters)
    return network.NormalizedNetwork(table, parameters, np.ones(table[0, STATISTICS_SIZE], dtype))


def train(
    net, x, y, hyper, threads, optimizer=Optimizer.ADAM, steps=4, batch_size=40, order=None, first=1, memory=None
):
    """(parameters, statistics, losses) after some steps."""
    own = type(net)(net.table, *(array.copy() for array in net[1:]))
    dtype = net.parameters.dtype
    states = np.zeros_like(net.parameters), np.zeros_like(net.parameters)
    size = workspace_size(net.table, net.parameters, batch_size, threads)[1]
    workspace = np.full(size, np.nan, dtype) if memory is None else memory[:size]
    optimization = training.Optimization(int(optimizer), hyper, *states)
    plan = regularized_training.training_plan(own, optimization, Loss.MSE, workspace, threads)
    regularized_training.begin_updates(plan, 2**64 - 3, first)
    losses = np.full(steps, np.nan)
    order = np.empty(0, np.int64) if order is None else order
    weights = np.linspace(0.5, 1.5, len(x)).astype(dtype)
    training.train_planned(plan.ctypes.data, x, y, weights, order, batch_size, first, losses)
    return own[1], (*own, np.empty(0, dtype))[2], losses


SIZES = (20, 33, 70, 5)
MIXED = [
    ((0, 0, 0), (0.5, 0.25, 0.0)),
    ((LAYER, LAYER, LAYER), (0.0, 0.3, 0.0)),
    ((BATCH, BATCH, BATCH), (0.0, 0.0, 0.1)),
    ((BATCH, LAYER, 0), (0.2, 0.2, 0.0)),
    ((0, BATCH, 0), (0.2, 0.0, 0.0)),
]


@pytest.mark.parametrize("clip", [0.0, 0.01], ids=["fused", "clipped by norm"])
@pytest.mark.parametrize(("codes", "rates"), MIXED, ids=str)
def test_any_number_of_threads_trains_the_same(codes, rates, clip, dtype, rng):
    activations = Activation.GELU, Activation.SOFTMAX, Activation.TANH
    net = regularized_table(SIZES, activations, codes, rates, dtype, rng)
    x, y = rng.standard_normal((150, 20)).astype(dtype), rng.random((150, 5)).astype(dtype)
    hyper = hyper_parameters(Optimizer.ADAM)
    hyper[CLIP_NORM] = clip
    # The last batch is a short one.
    order = rng.permutation(150)[:123]
    found = {
        tuple(array.tobytes() for array in train(net, x, y, hyper, threads, order=order)) for threads in ALL_THREADS
    }
    assert len(found) == 1
    for part, kind in zip(*found, (dtype, dtype, np.float64), strict=True):
        assert np.isfinite(np.frombuffer(part, kind)).all()


@pytest.mark.parametrize("codes", [(LAYER, LAYER, LAYER), (BATCH, BATCH, BATCH), (BATCH, 0, LAYER)], ids=str)
def test_any_number_of_threads_finds_the_same_gradient(codes, dtype, rng):
    net = regularized_table(SIZES, (Activation.SILU,) * 3, codes, (0, 0, 0), dtype, rng)
    x, y = rng.standard_normal((300, 20)).astype(dtype), rng.random((300, 5)).astype(dtype)
    training.loss_and_gradient_parallel.ready(np.dtype(dtype))
    found = set()
    for threads in ALL_THREADS:
        workspace = np.full(workspace_size(*net[:2], 300, threads)[1], np.nan, dtype)
        gradient = np.full_like(net.parameters, np.nan)
        sweeps = regularized_training.gradient_sweeps(net.table, net.parameters.dtype, threads)
        rest = (net.parameters, x, y, np.empty(0, dtype), int(Loss.MSE), np.ones(1), gradient, workspace, threads)
        value = training.loss_and_gradient_parallel(*sweeps, *rest)
        found.add((value, gradient.tobytes()))
    room, gradient = fastnn.workspace(net, 300), np.empty_like(net.parameters)
    found.add((fastnn.gradient(net, x, y, Loss.MSE, gradient, room), gradient.tobytes()))
    assert len(found) == 1
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("kinds", [("layer", "layer"), ("batch", "batch"), ("batch", "layer")], ids=str)
def test_a_row_does_not_depend_on_its_batch_nor_on_who_asks(kinds, dtype, rng):
    net = some_network(kinds, "gelu", rng, dtype=dtype, sizes=(20, 300, 5))
    x = rng.standard_normal((600, 20)).astype(dtype)
    whole = net.predict(x)
    assert np.isfinite(whole).all()
    for threads in (1, 2):
        net.num_threads = threads
        for cuts in ([1], [3, 7, 300], [255, 256, 257]):
            assert np.concatenate([net.predict(part) for part in np.split(x, cuts)]).tobytes() == whole.tobytes()
    assert net.predict(np.asfortranarray(x)).tobytes() == whole.tobytes()
    assert net.predict(x[3]).tobytes() == whole[3].tobytes()
    room, out = fastnn.workspace(net.network, 600), np.empty_like(whole)
    fastnn.apply_into(net.network, x, out, room)
    assert out.tobytes() == whole.tobytes()
    assert fastnn.apply(net.network, x[::7][4]).tobytes() == whole[28].tobytes()
    for function in (kernels.normalized_forward, normalized_inference.normalized_forward_serial):
        out[:] = np.nan
        function(*net.network, x, out, room)
        assert out.tobytes() == whole.tobytes()


@pytest.mark.parametrize("clip", [0.0, 1e9])
def test_scales_and_shifts_are_updated_as_biases_are(clip, dtype, rng):
    """Without a penalty, and by the flat optimizer's bits on the gradient."""
    net = regularized_table((6, 9, 3), (Activation.TANH, Activation.IDENTITY), (BATCH, LAYER), (0, 0), dtype, rng)
    x, y = rng.standard_normal((40, 6)).astype(dtype), rng.random((40, 3)).astype(dtype)
    hyper = hyper_parameters(Optimizer.SGD)
    hyper[L1], hyper[L2], hyper[PENALTY_IN_LOSS], hyper[CLIP_NORM] = 0.3, 0.7, 1.0, clip
    results = train(net, x, y, hyper, 2, Optimizer.SGD, steps=1)
    gradient, weights = np.empty_like(net.parameters), np.linspace(0.5, 1.5, 40).astype(dtype)
    room = np.full(workspace_size(*net[:2], 40, 1)[1], np.nan, dtype)
    value = kernels.normalized_loss_and_gradient(*net[:2], x, y, weights, Loss.MSE, gradient, room)
    moved = net.parameters.copy()
    penalized = np.zeros(moved.size, bool)
    for k, n, start in net.table[:, :3]:
        penalized[start : start + k * n] = True
    kernels.sgd(moved, gradient, np.zeros_like(moved), np.zeros_like(moved), 1, hyper)
    assert moved[~penalized].tobytes() == results[0][~penalized].tobytes()
    assert (moved[penalized] != results[0][penalized]).any()
    total = weights.sum(dtype=np.float64)
    sizes = np.abs(net.parameters[penalized].astype(float))
    expected = value + (0.3 * sizes.sum() + 0.7 / 2 * np.square(sizes).sum()) / total
    assert results[2][0] == pytest.approx(expected, rel=100 * float(np.finfo(dtype).eps))


@pytest.fixture
def allocations():
    _nrt_python.memsys_enable_stats()
    yield lambda: rtsys.get_allocation_stats().alloc
    _nrt_python.memsys_disable_stats()


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_allocates_nothing_and_stays_in_its_workspace(threads, allocations, rng):
    counts = []
    for codes, rates in MIXED:
        net = regularized_table(SIZES, (Activation.LOG_SOFTMAX,) * 3, codes, rates, np.float32, rng)
        x, y = rng.standard_normal((400, 20)).astype(np.float32), rng.random((400, 5)).astype(np.float32)
        size = workspace_size(*net[:2], 40, threads)[1]
        memory = np.full(size + 4096, np.nan, np.float32)
        memory[size:] = 7
        for steps in (1, 1, 10):
            before = allocations()
            train(net, x, y, hyper_parameters(Optimizer.ADAM), threads, steps=steps, memory=memory)
            counts.append(allocations() - before)
        assert (memory[size:] == 7).all()
        assert counts[-1] == counts[-2], "ten steps allocate more than one"


# ---- Trainers, files, copies


def data(rng, rows=60):
    x = rng.standard_normal((rows, 4)).astype(np.float32)
    return x, x[:, :1] * x[:, 1:2]


def built(kind, seed=0):
    return fastnn.MLP([4, 24, 12, 1], "gelu", normalization=kind, dropout=0.25, seed=seed)


def bits(net):
    return net.parameters.tobytes(), net.statistics.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_resumed_fit_has_the_bits_of_one_that_ran_through(kind, rng, tmp_path):
    x, y = data(rng)
    options = {"epochs": 6, "batch_size": 8, "seed": 5}
    whole = built(kind)
    whole.fit(x, y, optimizer="adam", **options)
    path = tmp_path / "run.safetensors"

    def stop(trainer, history):
        if trainer.epochs == 3:
            trainer.save(path)
            raise KeyboardInterrupt

    cut = built(kind)
    trainer = fastnn.Trainer(cut, optimizer="adam", seed=99)
    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, callbacks=[stop], **options)
    assert bits(cut) != bits(whole)
    restored = fastnn.Trainer.restore(path)
    assert restored.seed == 99
    restored.resume(x, y, callbacks=[lambda trainer, history: None])
    trainer.resume(x, y, callbacks=[lambda trainer, history: None])
    assert bits(restored.net) == bits(cut) == bits(whole)
    # Trainers of one seed drop the same, whatever they did since.
    steps = [one.step(x[:8], y[:8]) for one in (trainer, restored)]
    assert steps[0] == steps[1]
    assert bits(restored.net) == bits(cut)


def test_seeds_fix_what_is_dropped(rng):
    x, y = data(rng)
    results = []
    for seed in (0, 0, 2):
        net = built(None)
        trainer = fastnn.Trainer(net, seed=seed)
        results.append([trainer.step(x, y) for _ in range(3)])
    assert results[0] == results[1] != results[2]
    assert len(set(results[0])) == 3
    assert fastnn.Trainer(built(None)).seed != fastnn.Trainer(built(None)).seed
    fits = []
    for seed in (0, 0, 2):
        net = built(None)
        net.fit(x, y, batch_size=None, shuffle=False, epochs=2, seed=seed)
        fits.append(bits(net))
    assert fits[0] == fits[1] != fits[2]


@pytest.mark.parametrize("kind", KINDS)
def test_files_pickles_and_copies(kind, rng, tmp_path, dtype):
    x, y = data(rng)
    net = fastnn.MLP([4, 24, 12, 1], "tanh", normalization=kind, dropout=0.25, seed=0, dtype=dtype)
    net.fit(x, y, epochs=2, seed=0)
    path = tmp_path / "net.safetensors"
    net.save(path)
    for twin in (fastnn.load(path), pickle.loads(pickle.dumps(net)), copy.deepcopy(net), net.copy()):
        assert repr(twin) == repr(net)
        assert bits(twin) == bits(net)
        assert twin.predict(x).tobytes() == net.predict(x).tobytes()
        twin.parameters[:] = 0
        twin.statistics[:] = 0
        twin.fit(x, y, epochs=1)
    assert net.predict(x).any()
    layer = copy.deepcopy(net.layers[0])
    assert not layer._in_model
    assert layer.weight.tobytes() == net.layers[0].weight.tobytes()
    if kind == "batch":
        assert net.statistics.any()
        assert layer.running_mean.tobytes() == net.layers[0].running_mean.tobytes()
        again = fastnn.Sequential([layer], dtype=dtype)
        assert again.layers[0].running_variance.tobytes() == net.layers[0].running_variance.tobytes()


def test_a_plain_network_is_written_as_before(tmp_path):
    import safetensors

    path = tmp_path / "net.safetensors"
    fastnn.MLP([2, 3, 1], seed=0).save(path)
    with safetensors.safe_open(path, "numpy") as file:
        assert "normalization" not in file.metadata()["architecture"]
        assert "dropout" not in file.metadata()["architecture"]


@pytest.mark.parametrize("change", ["normalization", "dropout", "tensor"])
def test_damaged_files_are_refused(change, tmp_path):
    import json

    import safetensors.numpy

    path = tmp_path / "net.safetensors"
    fastnn.MLP([2, 3, 1], normalization="batch", dropout=0.5, seed=0).save(path)
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    tensors = safetensors.numpy.load_file(path)
    architecture = json.loads(metadata["architecture"])
    layer = architecture["layers"][0]
    if change == "normalization":
        layer["normalization"], message = "group", "normalization: expected one of layer, batch, got 'group'"
    elif change == "dropout":
        layer["dropout"], message = 1.0, "dropout: expected a finite number of at least 0 and below 1, got 1.0"
    else:
        del tensors["layers.0.running_mean"]
        message = "tensors: missing or not of the architecture: layers.0.running_mean"
    safetensors.numpy.save_file(tensors, path, metadata | {"architecture": json.dumps(architecture)})
    with pytest.raises(ValueError, match=message):
        fastnn.load(path)


def test_early_stopping_brings_running_averages_back(rng):
    x, y = data(rng)
    net, seen = built("batch"), {}

    def note(trainer, history):
        seen[trainer.epochs] = bits(trainer.net)

    stopping = fastnn.EarlyStopping("val_loss", patience=3, restore_best=True)
    net.fit(
        x,
        y,
        optimizer=fastnn.Adam(learning_rate=0.1),
        epochs=60,
        batch_size=10,
        seed=0,
        validation_data=data(rng, 20),
        callbacks=[note, stopping],
    )
    assert stopping.best_epoch < len(seen)
    assert bits(net) == seen[stopping.best_epoch] != seen[len(seen)]


def test_a_loss_that_is_not_finite_takes_running_averages_back(rng):
    x, y = data(rng)
    net = built("batch")
    net.fit(x, y, epochs=1, seed=0)
    before = bits(net)
    y[40:] = np.nan
    with pytest.raises(FloatingPointError):
        net.fit(x, y, epochs=1, seed=0, batch_size=10, shuffle=False)
    assert bits(net) == before


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_folded(kind, dtype, rng):
    net = some_network((kind, "batch", "layer"), "silu", rng, dropout=0.1, dtype=dtype, num_threads=1)
    plain = net.folded()
    expected = [None if kind == "batch" else Normalization.LAYER, None, Normalization.LAYER]
    assert [layer.normalization for layer in plain.layers] == expected
    assert [layer.dropout for layer in plain.layers] == [0.1] * 3
    assert (plain.dtype, plain.num_threads, plain.statistics.size) == (net.dtype, 1, 0)
    x = rng.standard_normal((50, 3)).astype(dtype)
    np.testing.assert_allclose(plain.predict(x), net.predict(x), rtol=0, atol=200 * np.finfo(dtype).eps)
    before = bits(net)
    plain.parameters[:] = 0
    assert bits(net) == before
    assert all(layer.normalization is None for layer in fastnn.MLP([2, 3, 1], normalization="batch").folded().layers)


# ---- In compiled code and in C


@pytest.mark.parametrize("kinds", [("layer",) * 3, ("batch",) * 3, ("batch", None, "layer")], ids=str)
@pytest.mark.parametrize("activation", ["gelu", "tanh", "softmax"])
def test_derivatives_by_the_input(kinds, activation, dtype, rng):
    net = some_network(kinds, activation, rng, dropout=0.5, dtype=dtype)
    wide = some_network(kinds, activation, rng)
    wide.parameters, wide.statistics = net.parameters, net.statistics
    x, dy = rng.standard_normal((300, 3)).astype(dtype), rng.standard_normal((300, 2)).astype(dtype)
    room = fastnn.workspace(net.network, 300)
    jacobian, dx, row = np.empty((300, 2, 3), dtype), np.empty_like(x), np.empty(3, dtype)
    fastnn.jacobian(net.network, x, jacobian, room)
    numeric = np.empty((300, 2, 3))
    for i in range(3):
        # Two units are normalized to nearly a step: the third derivative counts, and has to cancel.
        step = 2e-6 * np.eye(3)[i]
        near, far = (wide.predict(x + k * step) - wide.predict(x - k * step) for k in (1, 2))
        numeric[:, :, i] = (8 * near - far) / 24e-6
    tolerance = 1e-7 if dtype == np.float64 else 1000 * np.finfo(dtype).eps
    np.testing.assert_allclose(jacobian, numeric, rtol=0, atol=tolerance * (1 + np.abs(numeric).max()))
    fastnn.vjp(net.network, x, dy, dx, room)
    product = np.einsum("bo,boi->bi", dy.astype(float), numeric)
    np.testing.assert_allclose(dx, product, rtol=0, atol=3 * tolerance * (1 + np.abs(numeric).max()))
    fastnn.vjp(net.network, x[7], dy[7], row, room)
    assert row.tobytes() == dx[7].tobytes()


@numba.njit
def everything(net, x, y, dy, gradient, dx):
    room = fastnn.workspace(net, len(x))
    loss = fastnn.gradient(net, x, y, fastnn.Loss.MSE, gradient, room)
    fastnn.vjp(net, x, dy, dx, room)
    return loss, fastnn.apply(net, x), fastnn.apply(net, x[0])


@numba.njit(parallel=True)
def each_row(net, x, out):
    for i in numba.prange(len(x)):
        out[i] = fastnn.apply(net, x[i])


@pytest.mark.parametrize("kind", KINDS)
def test_a_users_compiled_code_has_the_same_bits(kind, rng):
    net = built(kind)
    x, y = data(rng)
    net.fit(x, y, epochs=1, seed=0)
    gradient, dx, dy = np.empty_like(net.parameters), np.empty_like(x), np.ones_like(y)
    loss, out, first = everything(net.network, x, y, dy, gradient, dx)
    expected = net.loss_and_gradient(x, y)
    assert (loss, gradient.tobytes()) == (expected[0], expected[1].tobytes())
    assert out.tobytes() == net.predict(x).tobytes()
    assert first.tobytes() == out[0].tobytes()
    direct = np.empty_like(x)
    fastnn.vjp(net.network, x, dy, direct, fastnn.workspace(net.network, len(x)))
    assert dx.tobytes() == direct.tobytes()
    rows = np.empty_like(y)
    each_row(net.network, x, rows)
    assert rows.tobytes() == out.tobytes()


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_as_a_c_function(kind, rng):
    import ctypes

    net = built(kind)
    net.fit(*data(rng), epochs=1, seed=0)
    function, x, y = net.cfunc(), rng.standard_normal(4).astype(np.float32), np.empty(1, np.float32)
    pointer = ctypes.POINTER(ctypes.c_float)
    function.ctypes(x.ctypes.data_as(pointer), y.ctypes.data_as(pointer))
    assert y.tobytes() == net.predict(x).tobytes()


# ---- Bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"dropout": 1.0}, ValueError, "dropout: expected a finite number of at least 0 and below 1, got 1.0"),
        ({"dropout": -0.1}, ValueError, "dropout: expected a finite number of at least 0 and below 1, got -0.1"),
        ({"dropout": float("nan")}, ValueError, "dropout: expected a finite number of at least 0 and below 1, got nan"),
        ({"dropout": "0.5"}, TypeError, "dropout: expected a real number, got '0.5'"),
        ({"dropout": True}, TypeError, "dropout: expected a real number, got True"),
        ({"normalization": "group"}, ValueError, "normalization: expected one of layer, batch, got 'group'"),
        ({"normalization": 1}, TypeError, "normalization: expected one of layer, batch, or a member"),
        ({"normalization": ["layer"]}, TypeError, "normalization: expected one of layer, batch, or a member"),
    ],
    ids=str,
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        fastnn.Dense(2, 3, **options)
    with pytest.raises(error, match=message):
        fastnn.MLP([2, 3, 1], **options)


def test_options_reach_hidden_layers_alone():
    net = fastnn.MLP([2, 3, 4, 1], normalization=fastnn.Normalization.LAYER, dropout=0.5, seed=0)
    assert [layer.normalization for layer in net.layers] == [Normalization.LAYER, Normalization.LAYER, None]
    assert [layer.dropout for layer in net.layers] == [0.5, 0.5, 0]
    assert net.parameter_count == (2 * 3 + 3 * 3) + (3 * 4 + 3 * 4) + 5
    assert (net.layers[1].scale == 1).all()
    assert not net.layers[1].shift.any()
    net.layers[1].shift = [1, 2, 3, 4]
    assert net.parameters[15 + 12 + 8 :][:4].tolist() == [1, 2, 3, 4]
    for name in ("running_mean", "running_variance"):
        with pytest.raises(AttributeError, match=f"{name}: .* has none"):
            getattr(net.layers[0], name)
    with pytest.raises(AttributeError, match=r"scale: .* has none"):
        _ = net.layers[2].scale


def test_batch_normalization_wants_two_rows(rng):
    net = built("batch")
    x, y = data(rng, 33)
    before = bits(net)
    trainer = fastnn.Trainer(net)
    message = "x: expected at least 2 rows of a batch for batch normalization, got 1"
    for function in (trainer.step, net.loss_and_gradient):
        with pytest.raises(ValueError, match=message):
            function(x[:1], y[:1])
    with pytest.raises(
        ValueError, match=r"batch_size: expected batches of at least 2 rows .* got one of 1 where 33 rows"
    ):
        trainer.fit(x, y, batch_size=32)
    with pytest.raises(ValueError, match="batch_size: expected batches of at least 2 rows"):
        trainer.fit(x, y, batch_size=1)
    room = fastnn.workspace(net.network, 1)
    with pytest.raises(ValueError, match="x: expected at least two rows"):
        fastnn.gradient(net.network, x[:1], y[:1], Loss.MSE, np.empty_like(net.parameters), room)
    assert bits(net) == before
    assert trainer.history is None
    assert net.predict(x[:1]).shape == (1, 1)
    built("layer").fit(x, y, batch_size=32)


def test_a_network_of_the_wrong_kind_is_refused(rng):
    net = built("batch")
    x, out = data(rng, 3)
    room = fastnn.workspace(net.network, 3)
    with pytest.raises(TypeError, match="network: expected another kind for this table"):
        fastnn.apply_into(kernels.Network(*net.network[:2]), x, out, room)
    with pytest.raises(ValueError, match="network: expected 72 statistics, got 1"):
        fastnn.apply_into(net.network._replace(statistics=np.empty(1, np.float32)), x, out, room)


def test_layers_by_hand_refuse(rng):
    for options in ({"normalization": "layer"}, {"normalization": "batch"}, {"dropout": 0.5}):
        layer = fastnn.Dense(2, 3, seed=0, **options)
        with pytest.raises(ValueError, match="forward: a layer with normalization or dropout works in a model alone"):
            layer.forward(np.ones((2, 2)))
        with pytest.raises(ValueError, match="backward: a layer"):
            layer.backward(np.ones((2, 3)), None)


def test_data_that_overlap_running_averages_are_refused():
    net = fastnn.MLP([2, 2, 1], normalization="batch", seed=0)
    with pytest.raises(ValueError, match="x: expected memory of its own, got an array that overlaps the statistics"):
        fastnn.Trainer(net).step(net.statistics.reshape(2, 2), np.zeros((2, 1), np.float32))


def test_row_wise_activations_go_with_normalization(rng):
    for activation in ROW_WISE:
        net = fastnn.MLP([4, 8, 1], activation, normalization="batch", dropout=0.2, seed=0)
        net.fit(*data(rng), epochs=1, seed=0)
        assert np.isfinite(net.parameters).all()


PLAIN = """
import numpy as np, fastnn
from fastnn.kernels import normalized_inference, normalized_sensitivity, regularized_sweeps
x, y = np.zeros((8, 3), np.float32), np.zeros((8, 1), np.float32)
net = fastnn.MLP([3, 4, 1], seed=0)
net.predict(x), net.loss_and_gradient(x, y), net.fit(x, y, seed=0), net.cfunc()
room = fastnn.workspace(net.network, 8)
fastnn.apply(net.network, x), fastnn.vjp(net.network, x, y, x.copy(), room)
fastnn.gradient(net.network, x, y, fastnn.Loss.MSE, net.parameters.copy(), room)
modules = normalized_inference, normalized_sensitivity, regularized_sweeps
workers = {w for m in modules for w in vars(m).values() if hasattr(w, "slots")}
workers = [w for w in workers if w.function.__module__ in {m.__name__ for m in modules}]
print(len(workers), [w.function.__name__ for w in workers if w._addresses])
"""


def test_a_plain_network_compiles_none_of_this():
    result = subprocess.run([sys.executable, "-c", PLAIN], capture_output=True, text=True, env=os.environ, timeout=600)
    assert result.returncode == 0, result.stderr
    # Eight workers that could have been compiled, and none that was.
    assert result.stdout == "8 []\n"


if FULL:

    @pytest.mark.parametrize("seed", range(200))
    def test_random_networks_train_as_the_formulas_say(seed):
        """One step of networks of any shape, in batches of any size."""
        rng = np.random.default_rng(seed)
        sizes = rng.integers(1, 90, rng.integers(2, 6)).tolist()
        kinds = [KINDS[i] for i in rng.integers(0, 3, len(sizes) - 1)]
        net = some_network(kinds, list(Activation)[seed % 15], rng, dropout=float(rng.random() * 0.9), sizes=sizes)
        rows = int(rng.integers(2, 600))
        x, y = rng.standard_normal((rows, sizes[0])), rng.random((rows, sizes[-1]))
        trainer = fastnn.Trainer(net, seed=seed)
        prediction, averages = plain_forward(net, net.parameters.copy(), x, seed, 1)
        assert trainer.step(x, y) == pytest.approx(plain_loss(Loss.MSE, prediction, y), rel=1e-9)
        np.testing.assert_allclose(net.statistics, averages, rtol=1e-11, atol=1e-12)
