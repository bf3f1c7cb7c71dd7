"""Losses with a parameter, from their objects to what training makes of them."""

import copy
import dataclasses
import pickle

import numba
import numpy as np
import pytest

import fastnn
from fastnn import kernels
from fastnn.losses import Huber, Quantile

UNIT = (np.arange(40) + 0.5) / 40


def line(loss, x, y, epochs=4000):
    """Weight and bias of the line that a loss is least on, by full-batch descent with a rate that falls to 0."""
    net = fastnn.MLP([1, 1], dtype="float64", seed=0)
    net.parameters = [0.0, 0.0]
    schedule = fastnn.LearningRateScheduler(fastnn.schedules.Cosine())
    net.fit(x, y, loss, fastnn.SGD(learning_rate=0.3), batch_size=None, epochs=epochs, callbacks=[schedule])
    return net.parameters


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
def test_quantile_regression_finds_the_quantile(q):
    """For y = 1 + x u with u even on (0, 1), the quantile q given x is 1 + q x; a share q of all y lies below it."""
    x, u = (grid.reshape(-1, 1) for grid in np.meshgrid(np.array([0.5, 1.0, 2.0]), UNIT))
    y = 1 + x * u
    weight, bias = line(Quantile(q), x, y)
    # Anywhere between two neighbours among the values of u is a minimum.
    assert weight == pytest.approx(q, abs=1 / 40)
    assert bias == pytest.approx(1, abs=1 / 40)
    assert np.mean(y < bias + weight * x) == pytest.approx(q, abs=1 / 40)


def test_the_default_quantile_is_the_median():
    net = fastnn.MLP([1, 3], dtype="float64", seed=0)
    x, y = np.ones((5, 1)), np.arange(15.0).reshape(5, 3)
    value, gradient = net.loss_and_gradient(x, y, "quantile")
    error, slope = net.loss_and_gradient(x, y, "mae")
    assert value == error / 2
    np.testing.assert_array_equal(gradient, slope / 2)


def test_huber_lies_between_mean_and_median():
    """Its minimum c has sum of clip(c - y, -delta, delta) = 0: by hand for 0, 0, 0, 10 and delta = 1, c = 1 / 3."""
    x, y = np.zeros((4, 1)), np.array([0.0, 0.0, 0.0, 10.0])
    for delta, center in ((1.0, 1 / 3), (1.5, 0.5), (100.0, 2.5)):
        assert line(Huber(delta), x, y, 500)[1] == pytest.approx(center, abs=1e-6)


def test_objects_and_names_mean_the_same():
    assert fastnn.losses.get("quantile") == Quantile(0.5)
    assert fastnn.losses.get(fastnn.Loss.HUBER) == Huber(delta=1.0)
    assert (Huber(2).parameter, Quantile(0.25).parameter) == (2.0, 0.25)
    assert Huber(2) != Huber(3)


@pytest.mark.parametrize("wrong", [0, -1.0, np.inf, np.nan])
def test_a_delta_that_is_none(wrong):
    with pytest.raises(ValueError, match="delta: expected a finite number above 0"):
        Huber(delta=wrong)
    with pytest.raises(TypeError, match="delta: expected a real number, got '1'"):
        Huber(delta="1")


@pytest.mark.parametrize("wrong", [0, 1, 1.5, np.nan])
def test_a_q_that_is_none(wrong):
    with pytest.raises(ValueError, match="q: expected a finite number above 0 and below 1"):
        Quantile(wrong)


def test_the_parameter_goes_with_a_checkpoint(tmp_path):
    """And with what validation reports."""
    x, y = np.linspace(-1, 1, 32)[:, None], np.linspace(0, 3, 32)[:, None]
    trainer = fastnn.Trainer(fastnn.MLP([1, 4, 1], seed=0), Quantile(0.875), "adam")
    history = trainer.fit(x, y, epochs=2, seed=0, validation_data=(x, y))
    d = trainer.net.predict(x).astype(float) - y
    pinball = np.maximum(0.125 * d, -0.875 * d).mean()
    assert history.metrics["val_loss"][-1] == pytest.approx(pinball, rel=1e-6)
    trainer.save(tmp_path / "run")
    restored = fastnn.Trainer.restore(tmp_path / "run")
    assert restored.loss == Quantile(0.875)
    assert restored.step(x, y) == trainer.step(x, y)


def test_another_parameter_takes_effect_in_the_next_step():
    x, y = np.zeros((4, 1)), np.full((4, 1), 8.0)
    trainer = fastnn.Trainer(fastnn.MLP([1, 1], seed=0), Huber(), "sgd")
    trainer.net.parameters = [0, 0]
    trainer.optimizer = fastnn.SGD(learning_rate=0.0)
    assert trainer.step(x, y) == 7.5
    trainer.loss = dataclasses.replace(trainer.loss, delta=2)
    assert trainer.step(x, y) == 14


# ---- Several quantiles at once

LEVELS = (0.1, 0.5, 0.9)


def pinball(prediction, y):
    """(loss, gradient) of LEVELS by hand: each column against its own q, then the mean."""
    d = prediction - y.reshape(-1, 1)
    over, under = 1 - np.array(LEVELS), -np.array(LEVELS)
    slope = np.where(d > 0, over, np.where(d < 0, under, 0))
    return slope * d, slope


@numba.njit
def compiled_gradient(network, x, y, gradient, room, levels):
    return fastnn.gradient(network, x, y, fastnn.Loss.QUANTILE, gradient, room, levels)


@numba.njit
def compiled_kernel(table, parameters, x, y, weights, loss, gradient, room, levels):
    return kernels.loss_and_gradient(table, parameters, x, y, weights, loss, gradient, room, levels)


@pytest.mark.parametrize("weighted", [False, True])
def test_a_q_for_each_output_is_that_formula(weighted, dtype, rng):
    """Of a linear network, whose gradient is x.T @ slope; from every caller the same bits."""
    net = fastnn.MLP([4, 3], dtype=dtype, seed=0)
    x, y = rng.standard_normal((50, 4)).astype(dtype), rng.standard_normal(50).astype(dtype)
    weight = rng.random(50).astype(dtype) if weighted else None
    share = np.full(50, 1 / 50) if weight is None else weight / weight.sum(dtype=float)
    terms, slope = pinball(net.predict(x).astype(float), y)
    loss = Quantile(list(LEVELS))
    value, gradient = net.loss_and_gradient(x, y, loss, weight)
    eps = float(np.finfo(dtype).eps)
    assert value == pytest.approx(share @ terms.mean(axis=1), rel=50 * eps)
    slope = slope * share[:, None] / 3
    np.testing.assert_allclose(gradient[:12].reshape(4, 3), x.T @ slope, rtol=0, atol=50 * eps)
    np.testing.assert_allclose(gradient[12:], slope.sum(axis=0), rtol=0, atol=50 * eps)
    assert net.loss_and_gradient(x, y[:, None], loss, weight)[1].tobytes() == gradient.tobytes()
    for threads in (1, 2):
        net.num_threads = threads
        again = net.loss_and_gradient(x, y, pickle.loads(pickle.dumps(loss)), weight)
        assert (again[0], again[1].tobytes()) == (value, gradient.tobytes())
    columns, room, levels = np.repeat(y[:, None], 3, axis=1), fastnn.workspace(net.network, 50), np.array(LEVELS)
    if weight is None:
        for function in (
            lambda *given: fastnn.gradient(*given[:3], fastnn.Loss.QUANTILE, *given[3:]),
            compiled_gradient,
        ):
            found = np.empty_like(gradient)
            assert function(net.network, x, columns, found, room, levels) == value
            assert found.tobytes() == gradient.tobytes()
        for function in (kernels.loss_and_gradient, compiled_kernel):
            found = np.empty_like(gradient)
            arguments = (
                net.network.table,
                net.parameters,
                x,
                columns,
                np.empty(0, dtype),
                loss.code,
                found,
                room,
                levels,
            )
            assert function(*arguments) == value
            assert found.tobytes() == gradient.tobytes()
    one = net.loss_and_gradient(x, columns, Quantile(0.75), weight)
    many = net.loss_and_gradient(x, y, Quantile([0.75] * 3), weight)
    assert (many[0], many[1].tobytes()) == (one[0], one[1].tobytes())


def test_one_network_finds_all_quantiles(tmp_path):
    """For y = 1 + x u as above: three lines in the time of one; fits, checkpoints and copies hold the levels."""
    x, u = (grid.reshape(-1, 1) for grid in np.meshgrid(np.array([0.5, 1.0, 2.0]), UNIT))
    y = 1 + x * u
    net = fastnn.MLP([1, 3], dtype="float64", seed=0)
    trainer = fastnn.Trainer(net, Quantile(LEVELS), fastnn.SGD(learning_rate=0.9))
    callbacks = [fastnn.LearningRateScheduler(fastnn.schedules.Cosine())]
    history = trainer.fit(x, y, batch_size=None, epochs=4000, seed=0, callbacks=callbacks, validation_data=(x, y))
    np.testing.assert_allclose(net.layers[0].weight.ravel(), LEVELS, atol=1 / 40)
    np.testing.assert_allclose(net.layers[0].bias, 1, atol=1 / 40)
    terms, _ = pinball(net.predict(x), y)
    assert history.metrics["val_loss"][-1] == pytest.approx(terms.mean(), rel=1e-12)
    trainer.save(tmp_path / "run")
    restored = fastnn.Trainer.restore(tmp_path / "run")
    assert restored.loss == trainer.loss == Quantile(list(LEVELS)) == copy.deepcopy(trainer.loss)
    assert restored.step(x, y) == copy.deepcopy(trainer).step(x, y) == trainer.step(x, y)
    assert restored.net.parameters.tobytes() == net.parameters.tobytes()
    trainer.loss = Quantile([0.2, 0.5, 0.8])
    assert trainer.step(x, y) != restored.step(x, y)


def test_levels_that_do_not_fit(rng):
    net, x, y = fastnn.MLP([2, 3], seed=0), np.ones((5, 2), np.float32), np.ones((5, 1), np.float32)
    for wrong, message in (
        ([0.1, 1.0], r"q\[1\]: expected a finite number above 0 and below 1, got 1.0"),
        ([], "q: expected at least one number, got none"),
    ):
        with pytest.raises(ValueError, match=message):
            Quantile(wrong)
    with pytest.raises(TypeError, match=r"q\[0\]: expected a real number, got '0.1'"):
        Quantile(["0.1"])
    for function in (net.loss_and_gradient, lambda x, y, loss: fastnn.Trainer(net, loss).step(x, y)):
        with pytest.raises(ValueError, match="loss: expected a network with 2 outputs, one for each q, got 3"):
            function(x, y, Quantile([0.1, 0.9]))
        with pytest.raises(ValueError, match=r"y: expected shape \(\*,\), got \(5, 3\)"):
            function(x, np.ones((5, 3)), Quantile(LEVELS))
        with pytest.raises(ValueError, match="x and y: expected the same number of rows, got 5 and 4"):
            function(x, y[:4], Quantile(LEVELS))
    room, gradient = fastnn.workspace(net.network, 5), np.empty_like(net.parameters)
    columns = np.ones((5, 3), np.float32)
    for levels in (np.array([0.1, 0.9]), np.array([0.1, 0.5, 1.0]), np.array([0.1, np.nan, 0.9])):
        for function in (
            lambda *given: fastnn.gradient(*given[:3], fastnn.Loss.QUANTILE, *given[3:]),
            compiled_gradient,
        ):
            with pytest.raises(ValueError, match=r"loss_parameter: expected .* or an array with one for each output"):
                function(net.network, x, columns, gradient, room, levels)
    with pytest.raises(ValueError, match="loss_parameter: expected"):
        fastnn.gradient(net.network, x, columns, fastnn.Loss.HUBER, gradient, room, np.array(LEVELS))
    for wrong in (np.array(LEVELS, np.float32), np.full((3, 1), 0.5), np.full(6, 0.5)[::2]):
        with pytest.raises(TypeError, match="loss_parameter: expected a number, a contiguous 1-D array of float64"):
            fastnn.gradient(net.network, x, columns, 7, gradient, room, wrong)
        with pytest.raises(numba.TypingError, match="loss_parameter: expected a number, a contiguous 1-D array"):
            compiled_gradient(net.network, x, columns, gradient, room, wrong)


def test_what_kernels_take_of_a_loss_lives_as_long_as_it_and_cannot_be_changed():
    for loss in (Huber(0.5), Quantile(0.9), Quantile(LEVELS), fastnn.losses.MSE(), fastnn.losses.get("quantile")):
        numbers = loss.parameter
        assert numbers is loss.parameter
        assert numbers.dtype == np.float64
        with pytest.raises(ValueError, match="read-only"):
            numbers[0] = 1
