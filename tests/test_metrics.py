"""Losses as metrics, against NumPy."""

import numpy as np
import pytest

import fastnn
from fastnn import MLP
from fastnn.losses import Huber, Quantile


@pytest.fixture
def data(rng):
    return rng.normal(size=(60, 3)), rng.normal(size=(60, 2)), rng.uniform(0.5, 2, 60)


def test_losses_are_metrics_by_name_and_as_objects(data):
    x, y, weight = data
    net = fastnn.MLP([3, 8, 2], dtype="float64", seed=0)
    metrics = ["mae", Huber(0.3), Quantile(0.9)]
    history = net.fit(x, y, "mse", seed=0, metrics=metrics, sample_weight=weight, validation_data=(x[:20], y[:20]))
    found = net.evaluate(x, y, "log_cosh", metrics=metrics, sample_weight=weight)
    d = net.predict(x) - y
    elements = {
        "mae": np.abs(d),
        "huber": np.where(np.abs(d) < 0.3, d**2 / 2, 0.3 * (np.abs(d) - 0.15)),
        "quantile": np.where(d > 0, 0.1 * d, -0.9 * d),
    }
    for name, each in elements.items():
        np.testing.assert_allclose(found[name], np.average(each.mean(axis=1), weights=weight), rtol=1e-12)
        np.testing.assert_allclose(history.metrics[f"val_{name}"][-1], each[:20].mean(), rtol=1e-12)
        assert history.metrics[name][-1] == found[name]


def test_several_quantiles_have_metrics_of_the_repeated_target(data):
    x, y, _ = data
    net = fastnn.MLP([3, 2], dtype="float64", seed=0)
    found = net.evaluate(x, y[:, 0], Quantile([0.1, 0.9]), metrics=["mae", Quantile([0.1, 0.9])])
    np.testing.assert_allclose(found["mae"], np.abs(net.predict(x) - y[:, :1]).mean(), rtol=1e-12)
    assert found["quantile"] == found["loss"]


@pytest.mark.parametrize(
    ("loss", "metric", "columns"),
    [
        ("softmax_cross_entropy", "mse", 1),
        ("binary_cross_entropy", "mae", 2),
        ("poisson", "mse", 2),
        ("mse", "softmax_cross_entropy", 2),
        ("mse", "poisson", 2),
        ("mse", Quantile([0.1, 0.9]), 2),
        (Quantile([0.2, 0.8]), Quantile([0.1, 0.9]), 1),
    ],
)
def test_metrics_that_mean_something_else_are_refused(loss, metric, columns, data):
    with pytest.raises(ValueError, match=r"metrics: expected metrics that a network trained by .* has, got "):
        fastnn.MLP([3, 2]).fit(data[0], np.zeros((60, columns)), loss, metrics=[metric])


def test_beside_a_loss_of_ones_own_metrics_are_functions(data):
    loss = lambda y, prediction: (0.0, np.zeros_like(prediction))
    with pytest.raises(ValueError, match=r"metrics: expected functions beside a loss of your own, .* got mse"):
        fastnn.MLP([3, 2]).fit(data[0], np.zeros((60, 2)), loss, metrics=["mse"])


def test_unknown_names_are_refused(data):
    x, y, _ = data
    with pytest.raises(ValueError, match=r"metrics: expected 'accuracy', a loss by name .* got 'r2'"):
        fastnn.MLP([3, 2]).fit(x, y, metrics=["r2"])
    with pytest.raises(
        ValueError, match="monitor: expected one of loss, seconds, got 'val_loss'; a fit with validation"
    ):
        fastnn.MLP([3, 2]).fit(x, y, callbacks=[fastnn.EarlyStopping()])


def test_a_metric_may_not_change_what_others_see(data):
    """Not the targets, by which training goes on, nor the prediction, by which the next metric does."""
    x, y, _ = data

    def on_targets(y, prediction):
        y -= prediction
        return 0.0

    def on_prediction(y, prediction):
        np.maximum(prediction, 0, out=prediction)
        return 0.0

    before = y.copy()
    net = fastnn.MLP([3, 8, 2], dtype="float64", seed=0)
    for metric in (on_targets, on_prediction):
        with pytest.raises(ValueError, match="read-only"):
            net.fit(x, y, metrics=[metric])
        with pytest.raises(ValueError, match="read-only"):
            net.evaluate(x, y, metrics=[metric])
    np.testing.assert_array_equal(y, before)


def test_a_loss_that_works_in_its_predictions_memory_changes_no_metric(rng):
    def pure(y, prediction):
        d = prediction - y
        return float(np.mean(d**2)), 2 * d / d.size

    def in_place(y, prediction):
        prediction -= y
        value = float(np.mean(prediction**2))
        prediction *= 2 / prediction.size
        return value, prediction

    def largest(y, prediction):
        return np.abs(prediction).max()

    x, y = rng.standard_normal((50, 3)), rng.standard_normal((50, 2))
    found = []
    for loss in (pure, in_place):
        net = MLP([3, 8, 2], dtype="float64", seed=0)
        history = net.fit(x, y, loss, "adam", epochs=3, seed=0, validation_data=(x, y), metrics=[largest])
        found.append((history.metrics["val_largest"], net.evaluate(x, y, loss, metrics=[largest])))
    assert found[0] == found[1]


@pytest.mark.parametrize("labels", [np.arange(60) % 3, (np.arange(60) % 3)[:, None]])
def test_a_metric_gets_class_labels_as_whole_numbers(labels, rng):
    def accuracy_of_ones_own(y, prediction):
        assert y.shape == (60,)
        assert prediction[np.arange(60), y].shape == (60,)
        return (prediction.argmax(axis=1) == y).mean()

    found = MLP([4, 3], seed=0).evaluate(
        rng.standard_normal((60, 4)), labels, "softmax_cross_entropy", metrics=["accuracy", accuracy_of_ones_own]
    )
    assert found["accuracy"] == found["accuracy_of_ones_own"]


def test_a_metric_may_return_an_array_of_one_number(rng):
    def error(y, prediction):
        return np.mean(np.abs(y - prediction), axis=0)

    x = rng.standard_normal((20, 2))
    found = MLP([2, 1], seed=0).evaluate(x, x[:, 0], "mse", metrics=[error, "mae"])
    assert found["error"] == pytest.approx(found["mae"], rel=1e-6)


@pytest.mark.parametrize("names", [("mae", "val_mae"), ("val_mae", "mae"), ("epoch",), ("val_loss",)])
def test_metrics_whose_numbers_would_have_one_name(names, rng):
    metrics = []
    for name in names:
        metrics.append(lambda y, prediction: 1.0)
        metrics[-1].__name__ = name
    x = rng.standard_normal((20, 2))
    with pytest.raises(ValueError, match="metrics: expected names of their own"):
        MLP([2, 1], seed=0).fit(x, x[:, 0], "mse", metrics=metrics)


def test_a_half_is_still_class_0_of_outputs_and_of_targets():
    net = MLP([1, 1], seed=0)
    net.parameters = [0, 0]
    assert net.evaluate(np.ones((3, 1)), [0, 0.5, 0], "binary_cross_entropy", metrics=["accuracy"])["accuracy"] == 1


def test_an_accuracy_without_any_weight_counts_all_rows():
    net = MLP([1, 2], seed=0)
    net.parameters = [1, 0, 0, 0]
    found = net.evaluate([[1.0], [2.0]], [0, 1], "softmax_cross_entropy", np.zeros(2), metrics=["accuracy"])
    assert found == {"loss": 0, "accuracy": 0.5}
