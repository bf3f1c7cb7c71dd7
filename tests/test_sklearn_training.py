"""What training by `fastnn.sklearn` can do beyond scikit-learn's: penalties, clipping, losses, schedules, callbacks."""

import pathlib
import pickle
import re
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
import scipy.optimize
import scipy.sparse
import sklearn.neural_network
from sklearn.base import clone
from sklearn.callback import ScoringMonitor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import Lasso, QuantileRegressor
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import fastnn
from fastnn.kernels import reference
from fastnn.losses import Huber, Quantile
from fastnn.schedules import Cosine, OneCycle, ReduceOnPlateau, Step
from fastnn.sklearn import MLPClassifier, MLPRegressor

BOTH = pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor], ids=["classifier", "regressor"])
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
# Plain gradient descent on all rows at once, without a penalty.
DESCENT = {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": False, "batch_size": 60, "random_state": 0}
LINEAR = {"hidden_layer_sizes": (), "alpha": 0.0}


@pytest.fixture
def data():
    rng = np.random.default_rng(5)
    X = rng.standard_normal((60, 3))
    return X, X @ [1.0, -2.0, 0.5] + 0.5 * rng.standard_normal(60) ** 3 + 1


def flat(model):
    return np.concatenate([np.r_[c.ravel(), i] for c, i in zip(model.coefs_, model.intercepts_, strict=True)])


def start_and_end(data, **parameters):
    """Flat parameters before and after one step of gradient descent at a rate of 1/8, and the fitted model."""
    parameters = DESCENT | {"hidden_layer_sizes": (5,), "alpha": 0.0, "max_iter": 1} | parameters
    start = MLPRegressor(**parameters | {"learning_rate_init": 1e-300}).fit(*data)
    model = MLPRegressor(**parameters | {"learning_rate_init": 0.125}).fit(*data)
    return flat(start), flat(model), model


def test_l1_and_alpha_are_penalties_over_the_rows(data):
    start, plain, _ = start_and_end(data)
    _, end, model = start_and_end(data, alpha=0.6, l1=3.0)
    is_weight = np.concatenate(
        [np.r_[np.ones(c.size), np.zeros(i.size)] for c, i in zip(model.coefs_, model.intercepts_, strict=True)]
    )
    slope = is_weight * (3.0 * np.sign(start) + 0.6 * start) / 60
    np.testing.assert_allclose(end, plain - 0.125 * slope, rtol=1e-12)
    weights = start[is_weight == 1]
    penalty = (3.0 * np.abs(weights).sum() + 0.3 * (weights**2).sum()) / 60
    plain_loss = start_and_end(data)[2].loss_
    assert model.loss_ == pytest.approx(plain_loss + penalty, rel=1e-12)


def test_a_linear_network_with_l1_is_the_lasso():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, 5))
    y = X @ [3.0, -1.0, 0.05, 0.05, 0.05] + 1
    parameters = LINEAR | {"random_state": 0, "max_iter": 300, "schedule": Cosine(), "learning_rate_init": 0.05}
    model = MLPRegressor(l1=20.0, n_iter_no_change=300, **parameters).fit(X, y)
    lasso = Lasso(alpha=20 / 200).fit(X, y)
    assert not lasso.coef_[2:].any()
    np.testing.assert_allclose(flat(model), np.r_[lasso.coef_, lasso.intercept_], atol=0.01)


def test_clipping_by_norm_then_by_value_and_penalties_after_it(data):
    start, plain, _ = start_and_end(data)
    gradient = (start - plain) / 0.125
    norm = np.linalg.norm(gradient)
    by_norm = gradient * (0.5 * norm) / norm
    limit = np.abs(by_norm).max() / 2
    for parameters, expected in [
        ({"clip_norm": 0.5 * norm}, by_norm),
        ({"clip_norm": 2 * norm}, gradient),
        ({"clip_value": limit}, np.clip(gradient, -limit, limit)),
        ({"clip_norm": 0.5 * norm, "clip_value": limit}, np.clip(by_norm, -limit, limit)),
    ]:
        _, end, _ = start_and_end(data, **parameters)
        np.testing.assert_allclose((start - end) / 0.125, expected, rtol=1e-11, atol=1e-13, err_msg=str(parameters))
    _, end, model = start_and_end(data, clip_norm=0.5 * norm, alpha=0.6)
    inner = slice(0, model.coefs_[0].size)
    np.testing.assert_allclose((start - end)[inner] / 0.125, (by_norm + 0.6 / 60 * start)[inner], rtol=1e-11)


def test_a_wide_huber_loss_is_the_squared_error_and_a_narrow_one_is_not(data):
    parameters = {"max_iter": 5, "random_state": 0, "learning_rate_init": 0.01}
    squared, wide, narrow = (
        MLPRegressor(loss=loss, **parameters).fit(*data) for loss in ("squared_error", Huber(100.0), "huber")
    )
    np.testing.assert_allclose(wide.loss_curve_, squared.loss_curve_, rtol=1e-12)
    np.testing.assert_allclose(flat(wide), flat(squared), rtol=1e-9)
    assert narrow.loss_curve_[0] < 0.9 * squared.loss_curve_[0]


@pytest.mark.parametrize("solver", ["lbfgs", "adam"])
def test_a_linear_huber_network_is_huber_regression(solver, data):
    X, y = data
    model = MLPRegressor(
        loss=Huber(0.5), solver=solver, **LINEAR, random_state=0, max_iter=1500, learning_rate_init=0.02, tol=0.0
    )
    model.set_params(**({"tol": 1e-12} if solver == "lbfgs" else {"schedule": Cosine(), "n_iter_no_change": 1500}))
    model.fit(X, y)

    def huber(parameters):
        return reference.huber(
            (X @ parameters[:3] + parameters[3])[:, None], y[:, None], np.empty(0), np.empty((60, 1)), 0.5
        )

    best = scipy.optimize.minimize(huber, np.zeros(4), tol=1e-12)
    np.testing.assert_allclose(flat(model), best.x, atol=2e-3)
    assert huber(flat(model)) == pytest.approx(best.fun, rel=1e-5)


@pytest.mark.parametrize("q", [0.25, 0.9])
def test_a_linear_quantile_network_is_quantile_regression(q, data):
    X, y = data
    model = MLPRegressor(
        loss=Quantile(q), **LINEAR, random_state=0, max_iter=1500, learning_rate_init=0.02, schedule=Cosine(), tol=0.0
    )
    model.set_params(n_iter_no_change=1500).fit(X, y)
    theirs = QuantileRegressor(quantile=q, alpha=0).fit(X, y)
    pinball = lambda prediction: np.maximum(q * (y - prediction), (q - 1) * (y - prediction)).mean()
    assert pinball(model.predict(X)) == pytest.approx(pinball(theirs.predict(X)), rel=2e-3)
    assert np.mean(y < model.predict(X)) == pytest.approx(q, abs=0.05)
    with pytest.raises(ValueError, match="loss"):
        MLPRegressor(loss="mae").fit(X, y)


def test_early_stopping_on_these_losses_watches_minus_the_loss(data):
    model = MLPRegressor(loss=Quantile(0.9), early_stopping=True, max_iter=6, random_state=0).fit(*data)
    np.testing.assert_array_equal(model.validation_scores_, -np.array(model.validation_loss_curve_))


def test_a_schedule_sets_the_rate_of_every_step(data):
    """Against gradient descent with momentum in NumPy, its velocity free of the rate, as PyTorch has it."""
    X, y = data
    parameters = DESCENT | LINEAR | {"momentum": 0.8, "learning_rate_init": 0.1, "max_iter": 6}
    start = flat(MLPRegressor(**parameters | {"max_iter": 1, "learning_rate_init": 1e-300}).fit(X, y))
    model = MLPRegressor(schedule=Step(2, gamma=0.5), **parameters).fit(X, y)
    velocity, p = 0.0, start
    for epoch in range(6):
        d = X @ p[:3] + p[3] - y
        velocity = 0.8 * velocity + np.r_[X.T @ d, d.sum()] / 60
        p = p - 0.1 * 0.5 ** (epoch // 2) * velocity
    np.testing.assert_allclose(flat(model), p, rtol=1e-10)
    assert model.history_.metrics["learning_rate"] == [0.1, 0.1, 0.05, 0.05, 0.025, 0.025]


@BOTH
def test_schedules_of_all_kinds(Estimator, data):
    X, y = data[0], (data[1] > 1).astype(int)
    parameters = {"max_iter": 4, "random_state": 0, "batch_size": 16}
    plain = Estimator(**parameters).fit(X, y)
    same = Estimator(schedule=lambda t, rate: rate, **parameters).fit(X, y)
    np.testing.assert_array_equal(flat(same), flat(plain))
    stopped = Estimator(schedule=lambda t, rate: rate * (t < 2), **parameters).fit(X, y)
    np.testing.assert_array_equal(flat(stopped), flat(Estimator(**parameters | {"max_iter": 2}).fit(X, y)))
    # Per update: 4 epochs of 4 batches.
    cycle = OneCycle(rising=0.5)
    model = Estimator(schedule=cycle, **parameters).fit(X, y)
    np.testing.assert_array_equal(model.history_.metrics["learning_rate"], cycle(np.arange(3, 16, 4), 1e-3, 16))
    plateau = ReduceOnPlateau(monitor="loss", patience=0, threshold=1e9)
    rates = Estimator(schedule=plateau, **parameters).fit(X, y).history_.metrics["learning_rate"]
    np.testing.assert_allclose(rates, [1e-3, 1e-3, 1e-4, 1e-5])
    with pytest.raises(ValueError, match="learning_rate: expected 'constant' with a schedule"):
        Estimator(schedule=cycle, solver="sgd", learning_rate="adaptive").fit(X, y)
    with pytest.raises(ValueError, match="callbacks: expected at most one LearningRateScheduler"):
        Estimator(schedule=cycle, callbacks=[fastnn.LearningRateScheduler(cycle)]).fit(X, y)


def test_learning_rates_of_a_callback_of_ones_own(data):
    """Kernels follow the array's address: another dtype is converted, another shape refused."""

    class Rates:
        on_epoch_end = staticmethod(lambda *_: None)

        def __init__(self, rates):
            self.learning_rates = lambda base, position, count: rates(count)

    parameters = DESCENT | {"max_iter": 3, "batch_size": 16, "learning_rate_init": 0.25}
    fitted = lambda rates: MLPRegressor(**parameters | {"callbacks": [Rates(rates)]}).fit(*data)
    expected = flat(MLPRegressor(**parameters).fit(*data))
    np.testing.assert_array_equal(flat(fitted(lambda count: np.full(2 * count, 0.25, np.float32)[::2])), expected)
    np.testing.assert_array_equal(flat(fitted(lambda count: [0.25] * count)), expected)
    with pytest.raises(ValueError, match=r"learning_rates: expected shape \(\d+,\), got \(1, 1\)"):
        fitted(lambda count: np.ones((1, 1)))


def test_callbacks_see_the_fit_and_end_it(data, tmp_path):
    X, y = data
    calls = []

    class Recorder:
        def on_fit_begin(self, fit, history):
            calls.append("begin")

        def on_batches_end(self, fit, history):
            calls.append(fit.steps)

        def on_epoch_end(self, fit, history):
            calls.append(("epoch", fit.epochs, fit.estimator.predict(X[:1]).shape))

        def on_fit_end(self, fit, history):
            calls.append("end")

    callbacks = [
        Recorder(),
        fastnn.CSVLogger(tmp_path / "log.csv"),
        fastnn.Checkpoint(tmp_path / "net.safetensors"),
        lambda fit, history: fit.epochs == 3,
    ]
    model = MLPRegressor(callbacks=callbacks, batch_size=20, random_state=0).fit(X, y)
    assert calls == ["begin", *(part for i in (1, 2, 3) for part in (3 * i, ("epoch", i, (1,)))), "end"]
    assert model.n_iter_ == 3
    assert model.history_.metrics["loss"] == model.loss_curve_
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [str(i), repr(float(model.loss_curve_[i - 1]))] for i in (1, 2, 3)
    ]
    assert fastnn.load(tmp_path / "net.safetensors").predict(X).ravel().tobytes() == model.predict(X).tobytes()
    with pytest.raises(TypeError, match="callbacks: expected functions or objects with on_epoch_end, got 3"):
        MLPRegressor(callbacks=[3]).fit(X, y)


def test_a_file_keeps_the_best_network(data, tmp_path):
    X, y = data
    best = fastnn.Checkpoint(tmp_path / "net.safetensors", monitor="val_loss")
    parameters = {"random_state": 0, "learning_rate_init": 0.3, "n_iter_no_change": 40}
    curve = (
        MLPRegressor(callbacks=[best], max_iter=40, **parameters)
        .fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
        .validation_loss_curve_
    )
    assert best.best == min(curve)
    assert 1 < best.best_epoch == int(np.argmin(curve)) + 1 < 40
    expected = MLPRegressor(max_iter=best.best_epoch, **parameters).fit(X[:40], y[:40])
    assert fastnn.load(best.path).predict(X).ravel().tobytes() == expected.predict(X).tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_callback_brings_back_the_best_parameters(dtype, data):
    X, y = data[0].astype(dtype), data[1]
    parameters = {"random_state": 0, "learning_rate_init": 0.3, "max_iter": 40, "n_iter_no_change": 40}
    stopping = fastnn.EarlyStopping("val_loss", patience=3, restore_best=True)
    model = MLPRegressor(callbacks=[stopping], **parameters).fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
    curve = model.validation_loss_curve_
    assert len(curve) == int(np.argmin(curve)) + 4 < 40
    d = model.predict(X[40:]).astype(float) - y[40:]
    assert np.mean(d**2) / 2 == pytest.approx(min(curve), rel=1e-5)


def test_the_validation_loss_is_scikit_learns(data):
    X, y = data
    labels = np.digitize(y, [0, 2])
    weight = np.linspace(0.5, 2, 20)
    model = MLPClassifier(max_iter=3, random_state=0).fit(
        X[:40], labels[:40], X_val=X[40:], y_val=labels[40:], sample_weight_val=weight
    )
    expected = log_loss(labels[40:], model.predict_proba(X[40:]), sample_weight=weight)
    assert len(model.validation_loss_curve_) == 3
    assert model.validation_loss_curve_[-1] == pytest.approx(expected, rel=1e-12)
    assert model.validation_scores_ is None
    binary = MLPClassifier(max_iter=3, random_state=0).fit(X, y > 1, X_val=X[40:], y_val=y[40:] > 1)
    assert binary.validation_loss_curve_[-1] == pytest.approx(
        log_loss(y[40:] > 1, binary.predict_proba(X[40:])), rel=1e-12
    )
    two = np.c_[y, -y]
    outputs = MLPRegressor(max_iter=3, random_state=0).fit(X, two, X_val=X[40:], y_val=two[40:])
    assert outputs.validation_loss_curve_[-1] == pytest.approx(((outputs.predict(X[40:]) - two[40:]) ** 2).mean() / 2)
    held_out = MLPClassifier(max_iter=3, random_state=0, early_stopping=True).fit(X, labels)
    assert len(held_out.validation_loss_curve_) == len(held_out.validation_scores_) == 3
    assert not hasattr(MLPClassifier(max_iter=3, random_state=0).fit(X, labels), "validation_loss_curve_")
    counts = np.arange(60) % 3
    poisson = MLPRegressor(loss="poisson", max_iter=2, random_state=0).fit(X, counts, X_val=X, y_val=counts)
    rate = poisson.predict(X)
    deviance = np.where(counts > 0, counts * np.log(np.maximum(counts, 1) / rate), 0) - counts + rate
    assert poisson.validation_loss_curve_[-1] == pytest.approx(deviance.mean())


def test_early_stopping_with_partial_fit(data):
    """Every call scores the set; after n_iter_no_change calls and one more without progress the best comes back."""
    X, y = data
    labels = (y > 1).astype(int)
    scores = iter([0.1, 0.5, 0.4, 0.4, 0.3, 0.9, 0.2])
    parameters = {"early_stopping": True, "n_iter_no_change": 2, "random_state": 0, "scoring": lambda *_: next(scores)}
    model, seen, stopped = MLPClassifier(**parameters), [], []
    watched = {"X_val": X[40:], "y_val": labels[40:]}
    for _ in range(7):
        model.partial_fit(X[:40], labels[:40], classes=[0, 1], **watched)
        seen.append(flat(model).copy())
        stopped.append(model.early_stopped_)
    assert stopped == [False] * 4 + [True] + [False] * 2
    assert model.validation_scores_ == [0.1, 0.5, 0.4, 0.4, 0.3, 0.9, 0.2]
    assert model.best_validation_score_ == 0.9
    np.testing.assert_array_equal(seen[4], seen[1])
    assert not np.array_equal(seen[3], seen[1])
    # The sixth call went on from the best, and left that one as it was.
    assert not np.array_equal(seen[5], seen[4])
    assert len(model.validation_loss_curve_) == len(model.history_.epochs) == 7
    with pytest.raises(ValueError, match="X_val, y_val: partial_fit with early_stopping=True expects both"):
        model.partial_fit(X, labels)
    with pytest.raises(ValueError, match="y_val: expected classes of y"):
        model.partial_fit(X, labels, X_val=X, y_val=labels + 5)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_predictions_in_another_thread_do_not_change_what_is_learned(solver, rng):
    """Training in a dtype that is not that of coefs_ goes on in another network than theirs."""
    X, y = rng.standard_normal((2000, 30)), rng.integers(0, 4, 2000)

    def trained(with_predictions):
        model = MLPClassifier((64, 32), solver=solver, warm_start=True, random_state=0, max_iter=3)
        model.fit(X.astype(np.float32), y)
        ended = threading.Event()

        def predict():
            while not ended.is_set():
                model.predict_proba(X[:200])

        threads = [threading.Thread(target=predict) for _ in range(2 * with_predictions)]
        for thread in threads:
            thread.start()
        for _ in range(15):
            model.fit(X, y) if solver == "lbfgs" else model.partial_fit(X, y)
        ended.set()
        for thread in threads:
            thread.join()
        return b"".join(coef.tobytes() for coef in model.coefs_)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        assert trained(with_predictions=True) == trained(with_predictions=False)


@pytest.mark.parametrize("weight", [np.nan, np.inf])
def test_a_single_weight_that_is_no_number_is_refused_by_early_stopping_too(weight, data):
    X, _ = data
    for module in (sklearn.neural_network, fastnn.sklearn):
        model = module.MLPClassifier((4,), max_iter=3, early_stopping=True, random_state=0)
        with np.errstate(all="ignore"), pytest.raises(ValueError, match="sample_weight contains"):
            model.fit(X, np.arange(len(X)) % 2, sample_weight=weight)


@pytest.mark.parametrize("batch_size", [0, -5])
def test_partial_fit_takes_rows_one_by_one_where_a_batch_has_none(batch_size, data):
    X, _ = data
    loss = [
        module.MLPClassifier((4,), max_iter=3, random_state=0)
        .fit(X, np.arange(len(X)) % 2)
        .set_params(batch_size=batch_size)
        .partial_fit(X, np.arange(len(X)) % 2)
        .loss_
        for module in (sklearn.neural_network, fastnn.sklearn)
    ]
    assert loss[0] == pytest.approx(loss[1], rel=1e-9)


def test_partial_fits_that_differ_have_one_history(data, tmp_path):
    """Of a number that a call does not work out there is nan in its epochs: columns are as long as the epochs."""
    X, y = data
    model = MLPRegressor(callbacks=[fastnn.CSVLogger(tmp_path / "log.csv")], random_state=0)
    for validation in ({}, {"X_val": X, "y_val": y}, {}):
        model.partial_fit(X, y, **validation)
    history = model.history_
    assert history.epochs == [1, 2, 3]
    assert all(len(column) == 3 for column in history.metrics.values())
    assert np.isnan(history.metrics["val_loss"]).tolist() == [True, False, True]
    assert history.metrics["val_loss"][1] == model.validation_loss_curve_[0]
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,loss,seconds,val_loss"
    assert [line.split(",")[3] for line in lines[1:]] == ["nan", repr(history.metrics["val_loss"][1]), "nan"]


def test_partial_fits_are_the_epochs_of_a_fit_for_callbacks_and_schedules_too(data):
    X, y = data
    parameters = {"random_state": 0, "shuffle": False, "max_iter": 5, "schedule": Cosine(warmup=2)}
    seen = []
    whole = MLPRegressor(**parameters).fit(X, y)
    parts = MLPRegressor(callbacks=[lambda fit, history: seen.append(history.epochs[-1])], **parameters)
    for i in range(5):
        parts.partial_fit(X, y)
        if i == 2:
            parts = pickle.loads(pickle.dumps(parts.set_params(callbacks=())))
            parts.set_params(callbacks=[lambda fit, history: seen.append(history.epochs[-1])])
    assert seen == [1, 2, 3, 4, 5]
    assert flat(parts).tobytes() == flat(whole).tobytes()
    assert parts.history_.metrics["learning_rate"] == whole.history_.metrics["learning_rate"]


def twin_of(model, data, kind, rate, seed, epochs):
    """The same training by a `Trainer`, from the start of a model: the gradient of d^2 is twice that of d^2 / 2."""
    net = fastnn.MLP([3, 8, 6, 1], "tanh", normalization=kind, dropout=rate, dtype="float64", seed=0)
    for layer, coef, intercept in zip(net.layers, model.coefs_, model.intercepts_, strict=True):
        layer.weight, layer.bias = coef, intercept
    trainer = fastnn.Trainer(net, "mse", fastnn.SGD(learning_rate=0.05 / 2, momentum=0.5, l2=0.0), seed=seed)
    trainer.fit(*data, batch_size=20, epochs=epochs, shuffle=False, seed=seed)
    return net


@pytest.mark.parametrize("kind", [None, "layer", "batch"])
@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_dropout_and_normalization_are_those_of_a_trainer(kind, rate, data):
    parameters = {"hidden_layer_sizes": (8, 6), "activation": "tanh", "solver": "sgd", "momentum": 0.5, "alpha": 0.0}
    parameters |= {"nesterovs_momentum": False, "batch_size": 20, "shuffle": False, "random_state": 0}
    parameters |= {"dropout": rate, "normalization": kind, "learning_rate_init": 0.05}
    start = MLPRegressor(**parameters | {"learning_rate_init": 1e-300, "max_iter": 1}).fit(*data)
    model = MLPRegressor(**parameters | {"max_iter": 4}).fit(*data)
    net = twin_of(start, data, kind, rate, model._optimizer.seed, 4)
    np.testing.assert_allclose(model.predict(data[0]), net.predict(data[0]).ravel(), rtol=1e-8, atol=1e-10)
    names = [] if kind is None else ["scale", "shift"] + ["running_mean", "running_variance"] * (kind == "batch")
    for name in names:
        attribute = {"running_variance": "running_variances_"}.get(name, f"{name}s_")
        for array, layer in zip(getattr(model, attribute), net.layers[:-1], strict=True):
            np.testing.assert_allclose(array, getattr(layer, name), rtol=1e-8, atol=1e-10)
    parts = MLPRegressor(**parameters | {"max_iter": 4})
    for _ in range(4):
        parts = pickle.loads(pickle.dumps(parts.partial_fit(*data)))
    assert parts.predict(data[0]).tobytes() == model.predict(data[0]).tobytes()
    assert clone(model).fit(*data).predict(data[0]).size == 60
    if rate:
        other = MLPRegressor(**parameters | {"max_iter": 4, "random_state": 1}).fit(*data)
        assert other._optimizer.seed != model._optimizer.seed


def test_the_best_epoch_of_a_normalized_network_comes_back_whole(data):
    """Scores that fall from the third epoch on: what stays is a fit of three epochs, averages and all."""
    X, y = data
    parameters = {"normalization": "batch", "random_state": 0, "shuffle": False, "learning_rate_init": 0.05}
    scores = iter([0.1, 0.2, 0.3, 0.2, 0.1, 0.0])
    model = MLPRegressor(early_stopping=True, scoring=lambda *_: next(scores), max_iter=6, **parameters)
    model.fit(X, y, X_val=X, y_val=y)
    three = MLPRegressor(max_iter=3, **parameters).fit(X, y)
    assert model.predict(X).tobytes() == three.predict(X).tobytes()
    assert model.running_means_[0].tobytes() == three.running_means_[0].tobytes()
    # Another value of the parameter means the next fit.
    assert model.set_params(normalization=None).predict(X).tobytes() == three.predict(X).tobytes()
    assert not hasattr(model.set_params(early_stopping=False).fit(X, y), "scales_")
    with pytest.raises(
        ValueError, match=r"batch_size: expected at least 2 rows in every batch .* n_samples=60, batch_size=59"
    ):
        MLPRegressor(batch_size=59, **parameters).fit(X, y)


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_normalized_float32_data_after_float64(kind, data):
    """Parameters of float32 that are trained on data of float64 are rounded after every batch, averages too."""
    X, y = data
    model = MLPRegressor(normalization=kind, random_state=0).partial_fit(X.astype(np.float32), y.astype(np.float32))
    before = model.scales_[0].copy()
    model.partial_fit(X, y)
    assert model.scales_[0].dtype == model.coefs_[0].dtype == np.float32
    assert not np.array_equal(model.scales_[0], before)
    same = pickle.loads(pickle.dumps(model))
    assert same.predict(X).tobytes() == model.predict(X).tobytes()


def test_progress_shows_losses_and_scores(data, capsys):
    MLPRegressor(progress=True, early_stopping=True, max_iter=3, random_state=0).fit(*data)
    written = capsys.readouterr().err
    for text in ("epoch 3", "3/3", "val_loss=", "val_score=", " loss="):
        assert text in written
    MLPRegressor(max_iter=3, random_state=0).fit(*data)
    assert capsys.readouterr().err == ""


class Recorder:
    """A callback of scikit-learn's protocol."""

    max_propagation_depth = None

    def __init__(self, most=10**9):
        self.most, self.events, self.fitted = most, [], []

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id, context.max_subtasks))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.events.append(("end", context.task_name, context.task_id, len(X), len(y), sorted(metadata or ())))
        self.fitted.append(fitted_estimator)
        return context.task_name == "epoch" and context.task_id + 1 >= self.most


@BOTH
def test_scikit_learns_callback_protocol(Estimator, data):
    X, y = data[0], (data[1] > 1).astype(int)
    recorder = Recorder(most=3)
    model = Estimator(max_iter=5, random_state=0).set_callbacks(recorder).fit(X, y, sample_weight=np.ones(60))
    what = 60, 60, ["sample_weight"]
    epochs = [part for i in range(3) for part in (("begin", "epoch", i, 0), ("end", "epoch", i, *what))]
    assert recorder.events == ["setup", ("begin", "fit", 0, 5), *epochs, ("end", "fit", 0, *what), "teardown"]
    assert model.n_iter_ == 3
    # Each is the estimator of its epoch, untouched by later ones, and can be fitted without a trace in the first.
    for i, fitted in enumerate(recorder.fitted[:3], 1):
        twin = Estimator(max_iter=i, random_state=0).fit(X, y, sample_weight=np.ones(60))
        np.testing.assert_array_equal(fitted.predict(X), twin.predict(X))
    before = flat(model).copy()
    recorder.fitted[-1].partial_fit(X, y)
    np.testing.assert_array_equal(flat(model), before)

    lbfgs = Recorder()
    Estimator(solver="lbfgs", max_iter=5, random_state=0).set_callbacks(lbfgs).fit(X, y)
    assert lbfgs.events == ["setup", ("begin", "fit", 0, 0), ("end", "fit", 0, 60, 60, []), "teardown"]


def test_a_pipeline_hands_its_callbacks_on(data):
    X, labels = data[0], (data[1] > 1).astype(int)
    recorder = Recorder()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*StandardScaler does not support callbacks.*")
        make_pipeline(StandardScaler(), MLPClassifier(max_iter=2)).set_callbacks(recorder).fit(X, labels)
    assert [event[1:3] for event in recorder.events if event[0] == "end" and event[1] == "epoch"] == [
        ("epoch", 0),
        ("epoch", 1),
    ]


def test_scikit_learns_scoring_monitor(data):
    X, labels = data[0], (data[1] > 1).astype(int)
    monitor = ScoringMonitor(scoring="accuracy")
    model = MLPClassifier(max_iter=4, random_state=0).set_callbacks(monitor).fit(X, labels)
    logged = [row["accuracy"] for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(logged) == 4
    assert logged[-1] == accuracy_score(labels, model.predict(X))


# ---- Standardized features


def unequal(data):
    """Features of other sizes, one of them constant."""
    X, y = data
    return np.c_[X * [1.0, 40.0, 1e-3] + [0.0, 7.0, 2.0], np.full(len(X), 3.0)], y


STANDARDIZED = [
    {"max_iter": 20},
    {"max_iter": 20, "early_stopping": True, "batch_size": 16},
    {"max_iter": 10, "solver": "sgd", "learning_rate": "adaptive", "dropout": 0.2},
    {"max_iter": 20, "solver": "lbfgs", "alpha": 0.1},
    {"max_iter": 10, "normalization": "batch"},
]


@BOTH
@pytest.mark.parametrize("parameters", STANDARDIZED, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardize_is_a_standard_scaler_in_a_pipeline(Estimator, parameters, dtype, data):
    X, y = unequal(data)
    X = X.astype(dtype)
    y = y > 1 if Estimator is MLPClassifier else y.astype(dtype)
    parameters = {"random_state": 0, "hidden_layer_sizes": (12, 7)} | parameters
    model = Estimator(standardize=True, **parameters).fit(X, y)
    pipeline = make_pipeline(StandardScaler(), Estimator(**parameters)).fit(X, y)
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(model.input_mean_, pipeline[0].mean_, rtol=4 * eps)
    np.testing.assert_allclose(model.input_scale_, pipeline[0].scale_, rtol=4 * eps)
    outputs = lambda one, X=X: one.predict_proba(X) if Estimator is MLPClassifier else one.predict(X)
    # By the same mean and scale to the last bit, fits have the same bits; those of a StandardScaler are rounded anew.
    standardized = (X - model.input_mean_) / model.input_scale_
    plain = Estimator(**parameters).fit(standardized, y)
    assert flat(model).tobytes() == flat(plain).tobytes()
    # lbfgs leaves parameters of float64, by which the features are standardized in float64 too.
    tolerance = 0 if model.coefs_[0].dtype == dtype else 10 * eps
    np.testing.assert_allclose(outputs(model), outputs(plain, standardized), rtol=0, atol=tolerance)
    assert model.n_iter_ == plain.n_iter_
    if dtype == np.float64:
        np.testing.assert_allclose(flat(model), flat(pipeline[1]), rtol=0, atol=1e-9)
        np.testing.assert_allclose(outputs(model), outputs(pipeline), rtol=0, atol=1e-9)
    twin = pickle.loads(pickle.dumps(model))
    assert outputs(twin).tobytes() == outputs(model).tobytes()
    # Another value of the parameter means the next fit.
    assert outputs(twin.set_params(standardize=False)).tobytes() == outputs(model).tobytes()
    assert not hasattr(twin.fit(standardized, y), "input_mean_")
    assert flat(twin).tobytes() == flat(plain).tobytes()


def test_mean_and_scale_go_by_weights_and_stay_with_the_parameters(data):
    X, y = unequal(data)
    labels, weight = y > 1, np.linspace(0, 1, 60)
    model = MLPClassifier(standardize=True, class_weight={False: 1, True: 3}, random_state=0, max_iter=2)
    model.fit(X, labels, sample_weight=weight)
    expected = StandardScaler().fit(X, sample_weight=weight * (1 + 2 * labels))
    np.testing.assert_allclose(model.input_mean_, expected.mean_, rtol=1e-14)
    first = MLPRegressor(standardize=True, random_state=0).partial_fit(X, y)
    for model in (first, MLPRegressor(standardize=True, random_state=0, max_iter=1, warm_start=True).fit(X, y)):
        mean, scale = model.input_mean_, model.input_scale_
        (model.partial_fit if model is first else model.fit)(2 * X, y)
        assert model.input_mean_ is mean
        assert model.input_scale_ is scale
    np.testing.assert_allclose(mean, X.mean(axis=0), rtol=1e-14)
    assert not np.array_equal(clone(model).fit(2 * X, y).input_mean_, mean)
    # What the estimator predicts goes by its attributes.
    before = model.predict(X)
    model.input_mean_ = model.input_mean_ + X[0]
    np.testing.assert_allclose(model.predict(X + X[0]), before, rtol=1e-9)
    saved = EstimatorsNetwork()
    MLPRegressor(standardize=True, max_iter=1, callbacks=[saved]).fit(X, y)
    assert repr(saved.net.layers[0]) == "Standardize(4)"


class EstimatorsNetwork:
    """A callback that keeps the network of a fit."""

    def on_epoch_end(self, fit, history):
        self.net = fit.net


class Start:
    """A callback that keeps the parameters with which a fit begins, and can do something after every epoch."""

    def __init__(self, then=lambda fit: None):
        self.then = then

    def on_fit_begin(self, fit, history):
        self.parameters = fit.net.parameters.copy()

    def on_epoch_end(self, fit, history):
        self.then(fit)


SEVERAL = Quantile([0.1, 0.5, 0.9])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("weighted", [False, True])
def test_several_quantiles_are_those_of_a_network(dtype, weighted, data):
    """From the same start, by the same batches: the same parameters, losses and predictions, bit by bit."""
    X, y = data[0].astype(dtype), data[1].astype(dtype)
    weight = np.linspace(0.5, 1.5, 60, dtype=dtype) if weighted else None
    start = Start()
    parameters = {"hidden_layer_sizes": (8,), "alpha": 0.0, "shuffle": False, "max_iter": 5, "batch_size": 16}
    parameters |= {"learning_rate_init": 0.125, "momentum": 0.5, "callbacks": [start]}
    model = MLPRegressor(loss=SEVERAL, **DESCENT | parameters)
    model.fit(X, y, weight, X_val=X[::2], y_val=y[::2])

    net = fastnn.MLP([3, 8, 3], dtype=dtype)
    net.parameters = start.parameters
    optimizer = fastnn.SGD(learning_rate=0.125, momentum=0.5)
    history = net.fit(
        X,
        y,
        SEVERAL,
        optimizer,
        batch_size=16,
        epochs=5,
        shuffle=False,
        sample_weight=weight,
        validation_data=(X[::2], y[::2]),
    )
    assert flat(model).tobytes() == net.parameters.tobytes()
    assert flat(model).tobytes() != start.parameters.tobytes()
    assert model.predict(X).tobytes() == net.predict(X).tobytes()
    assert model.predict(X).shape == (60, 3)
    assert model.validation_loss_curve_ == history.metrics["val_loss"]
    for of in (clone(model).set_params(callbacks=[]), pickle.loads(pickle.dumps(model.set_params(callbacks=[])))):
        assert of.fit(X, y, weight).predict(X).tobytes() == net.predict(X).tobytes()


def test_linear_networks_of_several_quantiles_are_quantile_regressions(data):
    X, y = data
    model = MLPRegressor(
        loss=SEVERAL, **LINEAR, random_state=0, max_iter=1500, learning_rate_init=0.02, schedule=Cosine(), tol=0.0
    )
    found = model.set_params(n_iter_no_change=1500).fit(X, y).predict(X)
    for q, prediction in zip(SEVERAL.q, found.T, strict=True):
        theirs = QuantileRegressor(quantile=q, alpha=0).fit(X, y)
        pinball = lambda prediction, q=q: np.maximum(q * (y - prediction), (q - 1) * (y - prediction)).mean()
        assert pinball(prediction) == pytest.approx(pinball(theirs.predict(X)), rel=5e-3)
    assert (np.diff(found) > 0).all()


def test_lbfgs_learns_several_quantiles(data):
    X, y = data
    model = MLPRegressor(loss=SEVERAL, hidden_layer_sizes=(20,), solver="lbfgs", max_iter=300, random_state=0).fit(X, y)
    lower, middle, upper = model.predict(X).T
    assert lower.mean() < middle.mean() < upper.mean()
    assert np.mean((lower - 0.05 <= y) & (y <= upper + 0.05)) > 0.7


def test_around_several_quantiles(data):
    X, y = data
    parameters = {"max_iter": 6, "random_state": 0, "hidden_layer_sizes": (8,)}
    model = MLPRegressor(loss=SEVERAL, early_stopping=True, **parameters).fit(X, y)
    np.testing.assert_array_equal(model.validation_scores_, -np.array(model.validation_loss_curve_))
    expected = np.mean([r2_score(y, column) for column in model.predict(X).T])
    assert model.score(X, y) == pytest.approx(expected, rel=1e-12)
    assert model.score(X, list(y), np.ones(60)) == pytest.approx(model.score(X, y))
    model = MLPRegressor(loss=SEVERAL, early_stopping=True, scoring="r2", **parameters).fit(X, y, X_val=X, y_val=y)
    assert model.score(X, y) == max(model.validation_scores_)
    assert cross_val_score(MLPRegressor(loss=SEVERAL, **parameters), X, y, cv=3).shape == (3,)

    one = MLPRegressor(loss=Quantile([0.3]), **parameters).fit(X, y)
    same = MLPRegressor(loss=Quantile(0.3), **parameters).fit(X, y)
    assert one.predict(X).shape == (60, 1)
    assert one.predict(X).ravel().tobytes() == same.predict(X).tobytes()
    parts = MLPRegressor(loss=SEVERAL, **parameters)
    for _ in range(2):
        parts.partial_fit(X, y)
    whole = MLPRegressor(loss=SEVERAL, **parameters | {"max_iter": 1, "warm_start": True}).fit(X, y)
    assert parts.predict(X).shape == whole.predict(X).shape == (60, 3)

    with pytest.raises(ValueError, match=r"^y: expected shape \(\*,\), got \(60, 2\)$"):
        MLPRegressor(loss=SEVERAL, **parameters).fit(X, np.c_[y, y])
    with pytest.raises(ValueError, match=r"^y_val: expected shape \(\*, 1\), got \(60, 3\)$"):
        MLPRegressor(loss=SEVERAL, **parameters).fit(X, y, X_val=X, y_val=np.c_[y, y, y])
    with pytest.raises(ValueError, match=r"^loss: expected one for 3 outputs, as in the fit"):
        whole.set_params(loss=Quantile([0.2, 0.8])).fit(X, y)


@BOTH
def test_a_callback_cannot_make_outputs_more_than_targets(Estimator, data):
    """Kernels would read beyond those of the validation set."""
    X, y = data[0], np.arange(60) % 3

    def widen(fit):
        fit.estimator.coefs_[-1] = np.ones((8, 400))
        fit.estimator.intercepts_[-1] = np.ones(400)

    model = Estimator(hidden_layer_sizes=(8,), callbacks=[Start(widen)], random_state=0)
    outputs = 3 if Estimator is MLPClassifier else 1
    with pytest.raises(ValueError, match=re.escape(f"coefs_: expected the shapes [(3, 8), (8, {outputs})] of the fit")):
        model.fit(X, y, X_val=X, y_val=y)


@BOTH
def test_early_stopping_puts_the_best_into_the_network_of_the_fit(Estimator, data):
    saved = EstimatorsNetwork()
    X, y = data[0], data[1] > 1
    model = Estimator(early_stopping=True, max_iter=8, learning_rate_init=0.3, callbacks=[saved], random_state=0)
    model.fit(X, y)
    assert np.argmax(model.validation_scores_) < 7
    assert saved.net.parameters.tobytes() == flat(model).tobytes()
    assert all(map(np.shares_memory, model.coefs_, [saved.net.parameters] * 2))
    size = len(pickle.dumps(model.set_params(callbacks=())))
    plain = Estimator(max_iter=8, random_state=0).fit(X, y)
    assert size < len(pickle.dumps(plain)) + 2000


def test_a_callback_cannot_take_the_quantiles_away_from_a_fit(data):
    """Kernels hold the address of the fit's q; a validation loss goes by those of the estimator."""
    X, y = data
    parameters = {"max_iter": 8, "random_state": 0, "hidden_layer_sizes": (8,)}
    expected = MLPRegressor(loss=Quantile([0.1, 0.5, 0.9]), **parameters).fit(X, y)

    def replace(fit):
        fit.estimator.set_params(loss="squared_error")
        # Memory of that size that has just been freed would be theirs.
        fit.others = [Quantile([7 / 8] * 3) for _ in range(1000)]

    model = MLPRegressor(loss=Quantile([0.1, 0.5, 0.9]), callbacks=[Start(replace)], **parameters).fit(X, y)
    assert flat(model).tobytes() == flat(expected).tobytes()
    model = MLPRegressor(
        loss=SEVERAL, callbacks=[Start(lambda fit: fit.estimator.set_params(loss=Quantile([0.5] * 2)))], **parameters
    )
    with pytest.raises(ValueError, match="loss: expected a network with 2 outputs, one for each q, got 3"):
        model.fit(X, y, X_val=X, y_val=y)


@BOTH
def test_sparse_data_are_refused_with_standardize(Estimator, data):
    X, y = scipy.sparse.csr_array(unequal(data)[0]), data[1] > 1
    for fit in (Estimator(standardize=True).fit, MLPRegressor(standardize=True).partial_fit):
        with pytest.raises(TypeError, match="X: expected a dense array with standardize=True, got a sparse one"):
            fit(X, y)
    Estimator(max_iter=1).fit(X, y)


MORE = {
    "l1": 0.1,
    "clip_norm": 5.0,
    "clip_value": 0.5,
    "schedule": Step(40),
    "callbacks": [fastnn.EarlyStopping("loss", patience=100)],
    "progress": True,
    "dropout": 0.25,
    "normalization": "layer",
}


def never(fit, history):
    return False


@BOTH
def test_lbfgs_refuses_what_belongs_to_epochs(Estimator, data):
    for name, value in MORE.items():
        with pytest.raises(ValueError, match=f"{name}: expected solver 'sgd' or 'adam' with it, got 'lbfgs'"):
            Estimator(solver="lbfgs", **{name: value}).fit(data[0], data[1] > 1)
    with pytest.raises(ValueError, match="X_val: expected solver 'sgd' or 'adam' with it"):
        Estimator(solver="lbfgs").fit(data[0], data[1] > 1, X_val=data[0], y_val=data[1] > 1)
    Estimator(solver="lbfgs", l1=0, callbacks=[], max_iter=3).fit(data[0], data[1] > 1)


WRONG = {
    "l1": -1,
    "clip_norm": 0,
    "clip_value": -1,
    "schedule": 0.1,
    "callbacks": 3,
    "progress": 2,
    "dropout": 1.0,
    "normalization": "instance",
    "standardize": 1,
}


@BOTH
def test_wrong_values_are_refused(Estimator, data):
    for name, wrong in WRONG.items():
        with pytest.raises(ValueError, match=f"The '{name}' parameter of MLP.* must be"):
            Estimator(**{name: wrong}).fit(data[0], data[1] > 1)


# Which units are dropped depends on where a row lies, and the averages over a batch on how many rows it has: a row of
# weight 2 is there not the same as two rows.
WEIGHTED = {"check_sample_weight_equivalence_on_dense_data", "check_sample_weight_equivalence_on_sparse_data"}


@BOTH
@pytest.mark.parametrize(
    ("more", "failing"),
    [
        ({name: value for name, value in MORE.items() if name != "dropout"}, set()),
        ({"dropout": 0.25}, WEIGHTED),
        ({"normalization": "batch"}, WEIGHTED),
        ({"standardize": True}, set()),
    ],
    ids=["all but dropout", "dropout", "batch", "standardize"],
)
def test_all_of_it_is_an_estimator(more, failing, Estimator):
    # A function: objects remember what they have seen, which a check takes for parameters that a fit has changed.
    more = more | ({"callbacks": [never], "progress": False} if "callbacks" in more else {})
    model = Estimator(max_iter=60, **more)
    assert clone(model).get_params() == model.get_params()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(model, on_fail=None, on_skip=None)
    assert {result["check_name"] for result in results if result["status"] == "failed"} == failing


def test_fits_with_everything_are_the_same_on_any_number_of_threads(data):
    def fitted(threads):
        before = fastnn.get_num_threads()
        fastnn.set_num_threads(threads)
        try:
            model = MLPRegressor(
                hidden_layer_sizes=(64, 64),
                max_iter=5,
                random_state=0,
                loss=Quantile(0.7),
                **MORE | {"progress": False},
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", ConvergenceWarning)
                return flat(model.fit(*data)).tobytes()
        finally:
            fastnn.set_num_threads(before)

    assert fitted(1) == fitted(2)


def test_the_examples_of_the_page_run(capsys):
    page = pathlib.Path(__file__).parent.parent / "docs" / "migrating-from-scikit-learn.md"
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        exec(block, {})
    rounding, fit = capsys.readouterr().out.splitlines()
    assert float(rounding) < 1e-12
    share = re.fullmatch(r"History\(\d+ epochs, .*\) ([\d.]+)", fit).group(1)
    assert float(share) == pytest.approx(0.9, abs=0.05)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("make", "targets", "given"),
    [
        (MLPClassifier, lambda y: y % 3, {"normalization": "batch", "dropout": 0.1, "activation": ["gelu", "tanh"]}),
        (MLPClassifier, lambda y: y > 1, {"standardize": True, "normalization": "layer"}),
        (MLPClassifier, lambda y: np.stack([y > 0, y > 1, y > 2], axis=1), {}),
        (MLPRegressor, lambda y: np.stack([y, -y], axis=1).astype(float), {"standardize": True}),
        (MLPRegressor, lambda y: y.astype(float), {"loss": "poisson"}),
    ],
)
def test_the_network_of_an_estimator_predicts_what_it_does(make, targets, given, dtype, rng):
    X, y = rng.normal(3, 2, (40, 5)).astype(dtype), np.arange(40) % 4
    model = make(hidden_layer_sizes=(9, 6), max_iter=3, random_state=0, **given)
    with pytest.raises(NotFittedError):
        model.to_network()
    model.fit(X, targets(y))
    net = model.to_network()
    assert net.dtype == dtype
    expected = model.predict_proba(X) if make is MLPClassifier else model.predict(X).reshape(40, -1)
    found = net.predict(X)
    if found.shape[1] == 1 and make is MLPClassifier:
        expected = expected[:, 1:]
    found = np.exp(found) if model.out_activation_ == "exp" else found
    np.testing.assert_allclose(found, expected, rtol=8 * np.finfo(dtype).eps, atol=0)
    # It is a copy: neither moves the other.
    net.parameters[:] = 0
    np.testing.assert_array_equal(model.predict(X), model.predict(X.copy()))
    assert all(coef.any() for coef in model.coefs_)


def test_a_number_that_will_be_missing_is_told_before_the_first_batch(data):
    batches = type("Batches", (), {"on_batches_end": lambda self, fit, history: pytest.fail("a batch was trained on")})
    plateau = {"schedule": ReduceOnPlateau(), "callbacks": [batches()]}
    for settings, names in (
        ({"callbacks": [fastnn.EarlyStopping(), batches()]}, "loss, seconds"),
        (plateau, "loss, learning_rate, seconds"),
        (
            {"callbacks": [fastnn.EarlyStopping("val_mae"), batches()], "early_stopping": True},
            "loss, val_loss, val_score",
        ),
    ):
        with pytest.raises(ValueError, match=f"monitor: expected one of {names}"):
            MLPRegressor(max_iter=2, **settings).fit(*data)
    model = MLPRegressor(max_iter=2, random_state=0, schedule=ReduceOnPlateau(), callbacks=[fastnn.EarlyStopping()])
    assert len(model.fit(*data, X_val=data[0], y_val=data[1]).history_.metrics["val_loss"]) == 2


# ---- Fits that go on from others, and fits that fail


def two_classes(data):
    return data[0], (data[1] > np.median(data[1])).astype(int)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ({"normalization": "batch"}, {"normalization": None}, "normalization: expected 'batch', as in the fit"),
        ({}, {"standardize": True}, "standardize: expected False, as in the fit .* got True"),
        ({}, {"loss": Quantile([0.1, 0.9])}, "loss: expected one for 1 outputs, .* got Quantile"),
        ({"loss": Quantile([0.1, 0.5, 0.9])}, {"loss": Quantile([0.1, 0.9])}, "loss: expected one for 3 outputs"),
    ],
)
def test_a_fit_goes_on_with_the_network_that_it_has(data, solver, before, after, message):
    model = MLPRegressor(warm_start=True, max_iter=2, **before).fit(*data)
    parameters = flat(model).copy()
    with pytest.raises(ValueError, match=message):
        model.set_params(solver=solver, **after).fit(*data)
    np.testing.assert_array_equal(flat(model), parameters)


def test_partial_fit_after_one_that_failed(data):
    X, y = two_classes(data)
    model = MLPClassifier(random_state=0)
    with pytest.raises(ValueError, match="2 features"):
        model.partial_fit(X, y, classes=[0, 1], X_val=X[:, :2], y_val=y)
    model.partial_fit(X, y, X_val=X, y_val=y)
    same = MLPClassifier(random_state=0).partial_fit(X, y, classes=[0, 1], X_val=X, y_val=y)
    assert len(model.validation_loss_curve_) == len(model.history_.epochs) == 1
    assert model.coefs_[0].shape == same.coefs_[0].shape


def test_partial_fit_after_another_solver_is_scikit_learns(data):
    """The optimizer of the first call is the one that goes on, with its rate that falls."""
    models = [
        kind(solver="sgd", learning_rate="invscaling", learning_rate_init=0.1, random_state=0, momentum=0.5)
        for kind in (sklearn.neural_network.MLPRegressor, MLPRegressor)
    ]
    for model in models:
        model.partial_fit(*data).set_params(solver="adam")
        for _ in range(5):
            model.partial_fit(*data)
    np.testing.assert_allclose(models[1].loss_curve_, models[0].loss_curve_, rtol=1e-9)


def _other_size_by_lbfgs(model, X, y, units):
    model.set_params(solver="lbfgs", hidden_layer_sizes=(units,)).fit(X, y)
    model.set_params(solver="adam")


def _other_size_put_there(model, X, y, units):
    rng = np.random.default_rng(1)
    model.coefs_ = [rng.standard_normal((4, units)), rng.standard_normal((units, 1))]
    model.intercepts_ = [np.zeros(units), np.zeros(1)]


@pytest.mark.parametrize("change", [_other_size_by_lbfgs, _other_size_put_there])
@pytest.mark.parametrize("units", [2, 6, 800])
def test_moments_of_another_network_are_not_taken(change, units, rng):
    """Kernels would read and write beyond their ends."""
    X, y = rng.standard_normal((300, 4)), rng.standard_normal(300)
    model = MLPRegressor(hidden_layer_sizes=(5,), random_state=0, max_iter=3)
    model.fit(X, y)
    change(model, X, y, units)
    model = pickle.loads(pickle.dumps(model))
    message = re.escape(f"sizes [4, 5, 1], of which the optimizer has moments, got [4, {units}, 1]")
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y)
    model.set_params(hidden_layer_sizes=(units,)).fit(X, y).partial_fit(X, y)


@pytest.mark.parametrize("alpha", [np.float16(10), np.float16(0.1), np.float32(0.1)])
def test_lbfgs_computes_the_penalty_in_full_whatever_the_type_of_alpha(alpha, rng):
    X, y = rng.standard_normal((200, 5)), rng.integers(0, 3, 200)
    mine, theirs = (
        kind((4,), solver="lbfgs", activation="logistic", alpha=alpha, random_state=0, max_iter=5, max_fun=10**6)
        for kind in (MLPClassifier, sklearn.neural_network.MLPClassifier)
    )
    for model in (mine, theirs):
        model.fit(X, y)
    for coef, expected in zip(mine.coefs_, theirs.coefs_, strict=True):
        np.testing.assert_allclose(coef, expected, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("units", [1, 3])
def test_the_best_of_another_network_comes_back_as_it_was(units, rng):
    X = rng.standard_normal((300, 4))
    found = []
    for kind in (MLPRegressor, sklearn.neural_network.MLPRegressor):
        model = kind(
            hidden_layer_sizes=(units,),
            early_stopping=True,
            n_iter_no_change=1,
            tol=1.0,
            random_state=0,
            warm_start=True,
            max_iter=3,
            solver="sgd",
        )
        model.fit(X, X[:, 0])
        model.coefs_, model.intercepts_ = [np.ones((4, 6)), np.ones((6, 1))], [np.zeros(6), np.zeros(1)]
        model.set_params(learning_rate_init=1e-9).fit(X, X[:, 0])
        found.append(model)
    mine, theirs = found
    assert [coef.shape for coef in mine.coefs_] == [coef.shape for coef in theirs.coefs_] == [(4, units), (units, 1)]
    np.testing.assert_allclose(mine.predict(X), theirs.predict(X), rtol=1e-9)


@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])
def test_warnings_come_from_where_scikit_learns_come_from(Estimator, rng):
    """A filter by module="sklearn" is what its own examples use."""
    X, y = rng.standard_normal((50, 4)), rng.integers(0, 2, 50)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Estimator(max_iter=1, batch_size=99).fit(X, y)
        Estimator(max_iter=1, solver="lbfgs").fit(X, y)
    assert len(caught) == 3
    assert all(pathlib.Path(each.filename).parts[-3:-1] == ("sklearn", "neural_network") for each in caught)


def test_own_parameters_in_an_estimator_that_was_never_fitted(rng):
    X, y = rng.standard_normal((60, 4)), rng.standard_normal(60)
    losses = []
    for kind in (MLPRegressor, sklearn.neural_network.MLPRegressor):
        model = kind(hidden_layer_sizes=(3,), warm_start=True, max_iter=3, random_state=0, shuffle=False)
        model.coefs_, model.intercepts_ = [np.full((4, 3), 0.5), np.full((3, 1), 0.25)], [np.zeros(3), np.zeros(1)]
        model.n_layers_, model.out_activation_, model.n_outputs_ = 3, "identity", 1
        model.t_ = model.n_iter_ = model._no_improvement_count = 0
        model.loss_curve_, model.best_loss_, model.validation_scores_ = [], np.inf, None
        losses.append(model.fit(X, y).loss_curve_)
    np.testing.assert_allclose(*losses, rtol=1e-9)


@pytest.mark.parametrize("change", [{"activation": "bad"}, {"coefs_": [np.ones((4, 7)), np.ones((5, 1))]}])
def test_a_model_under_its_users_hands_copies_as_it_is(change, rng):
    X, y = rng.standard_normal((60, 4)), rng.standard_normal(60)
    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, random_state=0).fit(X, y)
    before = model.predict(X)
    coefs = model.coefs_
    vars(model).update(change)
    twin = pickle.loads(pickle.dumps(model))
    with pytest.raises(ValueError, match=r"activation: expected|coefs_"):
        twin.predict(X)
    twin.activation, twin.coefs_ = "relu", coefs
    np.testing.assert_array_equal(twin.predict(X), before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rates_that_fall_to_nothing(dtype, rng):
    X, y = rng.standard_normal((230, 4)).astype(dtype), rng.standard_normal(230).astype(dtype)
    model = MLPRegressor(solver="sgd", learning_rate="invscaling", power_t=20.0, max_iter=30, random_state=0)
    assert np.isfinite(model.fit(X, y).loss_)


@pytest.mark.parametrize("rate", [0.0, 1e-320])
def test_a_rate_of_nothing_between_passes(rate, rng):
    X, y = rng.standard_normal((60, 4)), rng.standard_normal(60)
    X[:, 0] = 0
    model = MLPRegressor(hidden_layer_sizes=(5,), solver="sgd", random_state=0).partial_fit(X, y)
    model._optimizer.learning_rate = rate
    before = model.predict(X)
    np.testing.assert_allclose(model.partial_fit(X, y).predict(X), before, rtol=1e-6)


def test_the_optimizers_rate_may_be_set_between_passes(rng):
    X, y = rng.standard_normal((60, 4)), rng.standard_normal(60)
    found = []
    for kind in (MLPRegressor, sklearn.neural_network.MLPRegressor):
        model = kind(hidden_layer_sizes=(5,), solver="sgd", random_state=0, shuffle=False)
        for rate in (1e-2, 1e-3, 5e-2):
            model.partial_fit(X, y)
            model._optimizer.learning_rate = rate
        found.append(model.partial_fit(X, y).predict(X))
    np.testing.assert_allclose(*found, rtol=1e-9)


def test_dropout_that_begins_later_follows_from_random_state(data):
    X, y = two_classes(data)
    found = [
        flat(
            MLPClassifier(random_state=seed)
            .partial_fit(X, y, classes=[0, 1])
            .set_params(dropout=0.5)
            .partial_fit(X, y)
            .set_params(random_state=None)
        )
        for seed in (1, 1, 2)
    ]
    np.testing.assert_array_equal(found[0], found[1])
    model = MLPClassifier(random_state=1).partial_fit(X, y, classes=[0, 1])
    assert model._optimizer.seed is None
    assert model.set_params(dropout=0.5).partial_fit(X, y)._optimizer.seed > 0


# ---- Weights of classes, scorers, validation sets


def test_class_weights_of_a_part_that_lacks_a_class(data):
    X, y = data[0], np.digitize(data[1], [0.7, 2.0])
    assert set(y) == {0, 1, 2}
    for weights in ({2: 5.0}, {0: 0.5, 2: 5.0}):
        model, plain = (MLPClassifier(random_state=0, class_weight=given) for given in (weights, None))
        for part in (y < 2, y >= 0):
            by_class = np.array([weights.get(label, 1.0) for label in y[part]])
            model.partial_fit(X[part], y[part], classes=[0, 1, 2])
            plain.partial_fit(X[part], y[part], by_class, classes=[0, 1, 2])
        np.testing.assert_array_equal(flat(model), flat(plain))


@pytest.mark.parametrize(
    ("weights", "targets", "message"),
    [
        ("balanced", lambda y: np.where(y, np.nan, 1.0), "Input y contains NaN"),
        ({0: 1, 1: 2}, lambda y: np.c_[y, 1 - y], "class_weight: expected 'balanced' or None with several labels"),
        ({0: 1, 7: 2}, lambda y: y, r"The classes, \[1\], are not in class_weight"),
    ],
)
def test_class_weights_that_will_not_do(data, weights, targets, message):
    X, y = two_classes(data)
    with pytest.raises(ValueError, match=message):
        MLPClassifier(class_weight=weights).fit(X, targets(y))


def test_a_scorer_gets_weights_if_it_takes_them(data):
    X, y = data[0], (data[1] > 2).astype(int)
    seen = []

    def plain(estimator, X, y):
        return estimator.score(X, y)

    def weighted(estimator, X, y, sample_weight=None):
        seen.append(sample_weight)
        return estimator.score(X, y, sample_weight)

    parameters = {"early_stopping": True, "max_iter": 2, "random_state": 0, "class_weight": "balanced"}
    for scoring in (plain, weighted, "adjusted_rand_score", "accuracy"):
        model = MLPClassifier(scoring=scoring, **parameters).fit(X, y)
        assert np.isfinite(model.validation_scores_).all()
    assert len(seen) == 2
    assert [np.unique(weight).size for weight in seen] == [2, 2]


def test_validation_targets_are_looked_at_as_targets_are(data):
    X, y = data
    labels = np.c_[y > 1, y > 2].astype(int)
    model = MLPClassifier(max_iter=2, random_state=0)
    sparse = model.fit(X, labels, X_val=X, y_val=scipy.sparse.csr_matrix(labels)).validation_loss_curve_
    assert sparse == model.fit(X, labels, X_val=X, y_val=labels).validation_loss_curve_
    for y_val, message in (
        (labels * 3, r"y_val: expected classes of y, \[0, 1\], got 3"),
        (labels[:, 0], r"y_val: expected shape \(\*, 2\), got \(60,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            model.fit(X, labels, X_val=X, y_val=y_val)
    with pytest.raises(ValueError, match=r"y_val: expected classes of y, \[0, 1\], got None"):
        model.fit(X, labels[:, 0], X_val=X, y_val=[None] * 60)
    with pytest.raises(ValueError, match="Input y_val contains NaN"):
        MLPRegressor().fit(X, y, X_val=X, y_val=np.where(y > 1, y, np.nan))


def test_a_fit_that_is_refused_tells_no_callback():
    class Told:
        def on_fit_begin(self, fit, history):
            raise AssertionError

        def __call__(self, fit, history):
            pass

    model = MLPClassifier(normalization="batch", batch_size=40, callbacks=[Told()])
    X, y = np.random.default_rng(0).standard_normal((81, 3)), np.arange(81) % 2
    with pytest.raises(ValueError, match="expected at least 2 rows in every batch"):
        model.fit(X, y)


@pytest.mark.parametrize("output", ["identity", "logistic", "softmax", "tanh", "relu", "exp"])
def test_predictions_follow_an_output_activation_that_the_user_has_set(output, data):
    options = {"hidden_layer_sizes": (5,), "max_iter": 3, "random_state": 0}
    X, y = data
    predictions = []
    for Kind in (sklearn.neural_network.MLPRegressor, MLPRegressor):
        model = Kind(**options).fit(X, np.c_[y, -y])
        model.out_activation_ = output
        predictions.append(model.predict(X))
    np.testing.assert_allclose(predictions[1], predictions[0], rtol=1e-9, atol=1e-12)
    net = model.to_network().predict(X)
    np.testing.assert_allclose(np.exp(net) if output == "exp" else net, predictions[1], rtol=1e-12, atol=1e-15)


def test_no_other_loss_is_trained_than_the_one_that_was_asked_for(data):
    X, y = data
    model = MLPRegressor(random_state=0, max_iter=3).fit(X, y)
    for output, told in (("softmax", "expected 'identity' to train by the loss 'squared_error'"), ("exp", "poisson")):
        model.out_activation_ = output
        before = flat(model)
        with pytest.raises(ValueError, match=told):
            model.partial_fit(X, y)
        assert flat(model).tobytes() == before.tobytes()
    model.out_activation_ = "mish"
    with pytest.raises(ValueError, match=r"out_activation_: expected one of identity, .*, got 'mish'"):
        model.predict(X)
    classifier = MLPClassifier(random_state=0, max_iter=3).fit(X, y > 0)
    classifier.out_activation_ = "identity"
    with pytest.raises(ValueError, match="out_activation_: expected 'softmax' or 'logistic'"):
        classifier.partial_fit(X, y > 0)


@pytest.mark.parametrize("activation", ["logistic", "relu"])
def test_a_list_of_one_activation_starts_as_its_name_does(activation, data):
    start = [
        flat(MLPRegressor(hidden_layer_sizes=(5, 4), activation=given, random_state=0, max_iter=2).fit(*data))
        for given in (activation, [activation] * 2)
    ]
    assert start[0].tobytes() == start[1].tobytes()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_fit_goes_on_with_what_a_callback_has_put_in_the_place_of_weights(dtype, data):
    X, y = (array.astype(dtype) for array in data)

    def replace(fit, history):
        if fit.epochs == 2:
            fit.estimator.coefs_ = [coef * 0.5 for coef in fit.estimator.coefs_]

    def write(fit, history):
        if fit.epochs == 2:
            for coef in fit.estimator.coefs_:
                coef *= 0.5

    def misshape(fit, history):
        fit.estimator.coefs_ = [coef[:, :-1] for coef in fit.estimator.coefs_]

    options = {"hidden_layer_sizes": (5,), "max_iter": 6, "random_state": 0}
    models = [MLPRegressor(**options, callbacks=[callback]).fit(X, y) for callback in (replace, write)]
    assert flat(models[0]).tobytes() == flat(models[1]).tobytes()
    assert models[0].loss_curve_ == models[1].loss_curve_
    with pytest.raises(ValueError, match="coefs_: expected the shapes"):
        MLPRegressor(**options, callbacks=[misshape]).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "given"),
    [
        ({}, {"X_val": np.zeros((3, 2)), "y_val": [0, 1, 2]}),
        ({}, {"X_val": np.zeros((3, 3)), "y_val": [0, 1, 7]}),
        ({"class_weight": {"0": 1}}, {}),
        ({"normalization": "batch", "batch_size": 59}, {}),
        ({"callbacks": [5]}, {}),
        ({"callbacks": [fastnn.EarlyStopping("val_loss")]}, {}),
        ({"activation": ["relu", "relu"]}, {}),
        ({"activation": [["relu"]]}, {}),
    ],
)
def test_a_refused_fit_leaves_the_model_that_was_there(parameters, given, data):
    X, _ = data
    y = np.arange(60) % 3
    model = MLPClassifier(hidden_layer_sizes=(5,), random_state=0, max_iter=3).fit(X, y)
    before = flat(model)
    fresh = clone(model)
    for each in (model, fresh):
        each.set_params(**parameters)
        with pytest.raises((ValueError, TypeError)):
            each.fit(X, y, **given)
    assert flat(model).tobytes() == before.tobytes()
    with pytest.raises(NotFittedError):
        fresh.predict(X)


def test_partial_fit_takes_up_early_stopping_and_lets_it_go(data):
    X, y = data
    for solver in ("adam", "lbfgs"):
        model = MLPRegressor(solver=solver, random_state=0, max_iter=3).fit(X, y)
        model.set_params(early_stopping=True, solver="adam")
        model.partial_fit(X, y, X_val=X, y_val=y)
        assert len(model.validation_scores_) == 1
        model.set_params(early_stopping=False)
        assert model.partial_fit(X, y).best_loss_ == model.loss_


def test_weights_may_be_a_sparse_matrix_or_a_number(data):
    X, y = data
    models = [
        Kind(random_state=0, max_iter=3).fit(X, y) for Kind in (sklearn.neural_network.MLPRegressor, MLPRegressor)
    ]
    for model in models:
        model.coefs_[0] = scipy.sparse.csr_array(np.where(abs(model.coefs_[0]) < 0.1, 0, model.coefs_[0]))
        model.intercepts_[-1] = 0.5
    np.testing.assert_allclose(models[1].predict(X), models[0].predict(X), rtol=1e-9)
    models[1].partial_fit(X, y)
    assert models[1].intercepts_[-1].shape == (1,)


def test_a_sparse_frame_is_told_as_sparse_data_are(data):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(np.round(data[0])).astype(pd.SparseDtype(float, 0))
    with pytest.raises(TypeError, match="X: expected a dense array with standardize=True"):
        MLPRegressor(standardize=True).fit(frame, data[1])


class _Told:
    """A callback of scikit-learn's protocol that notes what it is told."""

    def __init__(self):
        self.seen = []
        self.max_propagation_depth = None

    def __deepcopy__(self, memo):
        return self

    def setup(self, *where, **data):
        self.seen.append("setup")

    def on_fit_task_begin(self, *where, **data):
        self.seen.append("begin")

    def on_fit_task_end(self, *where, **data):
        self.seen.append("end")

    def teardown(self, *where, **data):
        self.seen.append("teardown")


def test_a_refused_fit_ends_the_callbacks_of_scikit_learn(data):
    """Or a bar of theirs would keep the process alive."""
    told = _Told()
    model = MLPRegressor(hidden_layer_sizes=(5, 4), activation=["tanh"], max_iter=2).set_callbacks(told)
    with pytest.raises(ValueError, match="activation: expected a name, or one for each of 2"):
        model.fit(*data)
    assert told.seen == ["setup", "begin", "teardown"]


def test_an_interrupt_before_the_first_update_leaves_the_model_that_was_there(data):
    class Interrupts:
        def on_fit_begin(self, fit, history):
            raise KeyboardInterrupt

    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=3, random_state=0).fit(*data)
    before = flat(model)
    with pytest.raises(KeyboardInterrupt):
        model.set_params(callbacks=[Interrupts()], random_state=1).fit(*data)
    assert flat(model).tobytes() == before.tobytes()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_what_a_callback_writes_to_the_weights_of_another_dtype_is_trained(dtype, data):
    X, y = data

    def clear(fit, history):
        for coef in fit.estimator.coefs_:
            coef.fill(0)

    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, random_state=0).fit(X.astype(np.float32), y)
    model.set_params(callbacks=[clear]).partial_fit(X.astype(dtype), y)
    assert model.coefs_[0].dtype == np.float32
    assert not any(coef.any() for coef in model.coefs_)


def test_arrays_of_other_shapes_from_a_callback_do_not_stay(data):
    def misshape(fit, history):
        fit.estimator.coefs_ = [coef[:, :-1] for coef in fit.estimator.coefs_]

    model = MLPRegressor(hidden_layer_sizes=(5,), max_iter=2, random_state=0, callbacks=[misshape])
    with pytest.raises(ValueError, match="coefs_: expected the shapes"):
        model.fit(*data)
    assert model.predict(data[0]).shape == (60,)


def test_a_callback_cannot_begin_a_fit_of_its_own_estimator(data):
    found = []

    def again(fit, history):
        with pytest.raises(RuntimeError, match="this estimator is in a fit"):
            fit.estimator.fit(*data)
        found.append(fit.epochs)

    MLPRegressor(max_iter=2, random_state=0, callbacks=[again]).fit(*data)
    assert found == [1, 2]


def test_one_output_has_no_softmax_to_train(data):
    model = MLPClassifier(max_iter=2, random_state=0).fit(data[0], data[1] > 0)
    model.out_activation_ = "softmax"
    with pytest.raises(ValueError, match="out_activation_: expected 'logistic' to train one output"):
        model.partial_fit(data[0], data[1] > 0)


# ---- What is left of earlier fits


def test_partial_fit_after_one_without_an_update_begins_anew():
    X, y = np.array([[0.0], [1.0]]), np.array([0, 1])
    model = MLPClassifier(schedule=lambda t, rate: -1.0, random_state=0)
    with pytest.raises(ValueError, match="learning_rate: expected a finite number of at least 0"):
        model.partial_fit(X, y, classes=[0, 1])
    assert model.set_params(schedule=None).partial_fit(X, y).t_ == 2


def test_another_call_after_an_early_stop_goes_on(data):
    X, y = data
    model = MLPRegressor(early_stopping=True, tol=1e9, n_iter_no_change=1, random_state=0)
    stopped = [model.partial_fit(X, y, X_val=X, y_val=y).early_stopped_ for _ in range(5)]
    first = stopped.index(True)
    assert stopped[first : first + 2] == [True, False]


def test_a_fit_forgets_the_validation_set_of_the_one_before(data):
    X, y = data
    model = MLPRegressor(max_iter=2, random_state=0)
    for _ in range(2):
        assert len(model.fit(X, y, X_val=X, y_val=y).validation_loss_curve_) == 2
    assert not hasattr(model.fit(X, y), "validation_loss_curve_")
    model.set_params(early_stopping=True)
    assert hasattr(model.partial_fit(X, y, X_val=X, y_val=y), "early_stopped_")
    assert not hasattr(model.fit(X, y), "early_stopped_")


def test_an_interrupted_fit_does_not_end_for_its_callbacks(data):
    ended = []

    class Watch:
        def on_epoch_end(self, fit, history):
            raise KeyboardInterrupt

        def on_fit_end(self, fit, history):
            ended.append(fit.epochs)

    with pytest.warns(UserWarning, match="interrupted"):
        MLPRegressor(callbacks=[Watch()], random_state=0).fit(*data)
    assert not ended


def test_there_is_no_bar_for_a_single_pass(data, capsys):
    MLPRegressor(progress=True).partial_fit(*data)
    assert capsys.readouterr().err == ""


def test_a_scorer_of_any_keywords_gets_weights(data):
    seen = []

    def score(estimator, X, y, **named):
        seen.append(sorted(named))
        return estimator.score(X, y)

    parameters = {"early_stopping": True, "max_iter": 2, "random_state": 0, "class_weight": "balanced"}
    MLPClassifier(scoring=score, **parameters).fit(data[0], data[1] > 2)
    assert seen == [["sample_weight"]] * 2


def test_weights_of_a_validation_set_may_be_a_list_and_are_looked_at(data):
    X, y = data
    model = MLPRegressor(max_iter=1, random_state=0)
    weight = np.linspace(0.5, 2, 60)
    curves = [
        model.fit(X, y, X_val=X, y_val=y, sample_weight_val=given).validation_loss_curve_
        for given in (weight, weight.tolist())
    ]
    assert curves[0] == curves[1]
    with pytest.raises(ValueError, match="sample_weight"):
        model.fit(X, y, X_val=X, y_val=y, sample_weight_val=weight[:9])


def test_running_averages_of_float32_follow_data_of_float64(data):
    X, y = data
    model = MLPRegressor(normalization="batch", max_iter=1, random_state=0).fit(X.astype("f4"), y.astype("f4"))
    before = model.running_means_[0].copy()
    model.partial_fit(X + 1, y)
    assert model.running_means_[0].dtype == np.float32
    assert (model.running_means_[0] != before).all()


def test_a_scale_that_is_put_in_its_place_is_heard(data):
    X, y = data
    model = MLPRegressor(standardize=True, max_iter=1, random_state=0).fit(X, y)
    expected = model.predict(X)
    model.input_scale_ = 2 * model.input_scale_
    np.testing.assert_allclose(model.predict(2 * X - model.input_mean_), expected, rtol=1e-9, atol=1e-12)


FROM_A_MAP = """
import sys
import joblib

model, X, y = joblib.load(sys.argv[1], mmap_mode="r")
joblib.dump(model.partial_fit(X, y), sys.argv[2])
"""


def test_moments_in_memory_that_is_read_only_are_copied(data, tmp_path):
    """In a process of its own: a write to them would end it."""
    joblib = pytest.importorskip("joblib")
    model, paths = MLPRegressor(random_state=0).partial_fit(*data), [tmp_path / "model", tmp_path / "trained"]
    joblib.dump((model, *data), paths[0])
    command = [sys.executable, "-W", "error", "-c", FROM_A_MAP, *map(str, paths)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr
    assert flat(joblib.load(paths[1])).tobytes() == flat(model.partial_fit(*data)).tobytes()
