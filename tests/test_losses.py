"""Losses with a parameter, from their objects to what training makes of them."""

import dataclasses

import numpy as np
import pytest

import fastnn
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
