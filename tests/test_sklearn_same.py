"""fastnn.sklearn against scikit-learn: the same data, parameters and random_state give the same fitted attributes.

The grid runs both libraries on every combination. Tolerances are relative to an array's largest element: 1e-9 in
float64 and 1e-4 in float32 for the stochastic solvers, 1e-5 for lbfgs, whose line search amplifies rounding.
"""

import copy
import itertools
import os
import pickle
import warnings

import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning

import fastnn.sklearn

FULL = os.environ.get("FASTNN_FULL") == "1"
KINDS = {"classifier": "MLPClassifier", "regressor": "MLPRegressor"}
ARRAYS = ("coefs_", "intercepts_")
CURVES = ("loss_curve_", "validation_scores_")
NUMBERS = ("loss_", "best_loss_", "best_validation_score_")
COUNTS = ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "_no_improvement_count")


def make_data(task, rows=230, features=7, seed=0):
    """(X, y, sample_weight) of a task, of 230 rows: the last batch of 200 or of 32 is a short one."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((rows, features))
    score = X @ rng.standard_normal((features, 4)) + 0.5 * rng.standard_normal((rows, 4))
    y = {
        "binary": np.where(score[:, 0] > 0, "yes", "no"),
        "multiclass": score.argmax(axis=1) * 2 + 1,
        "multilabel": (score > 0.5).astype(int),
        "regression": score[:, 0] + np.sin(score[:, 1]),
        "regressions": score[:, :3],
        "counts": rng.poisson(np.exp(0.4 * score[:, 0])),
    }[task]
    return X, y, rng.random(rows) + 0.1


def pair(task, **parameters):
    """An estimator of scikit-learn and the like of ours."""
    kind = "MLPRegressor" if task in ("regression", "regressions", "counts") else "MLPClassifier"
    if task == "counts":
        parameters["loss"] = "poisson"
    parameters = {"random_state": 3, **parameters}
    return [getattr(module, kind)(**parameters) for module in (sklearn.neural_network, fastnn.sklearn)]


def moved(model):
    """An estimator of ours that takes the place of a fitted one of scikit-learn's."""
    ours = getattr(fastnn.sklearn, type(model).__name__)(**model.get_params())
    vars(ours).update(copy.deepcopy(vars(model)))
    return ours


def close(actual, expected, tolerance, what):
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, what
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), err_msg=what)
    size = np.nanmax(np.abs(expected), initial=0)
    error = np.nanmax(np.abs(actual - expected), initial=0)
    assert error <= tolerance * size, f"{what}: {error:.3g} of {size:.3g}"


def assert_same(theirs, ours, tolerance):
    """Equal fitted attributes, to the tolerance where they are real numbers."""
    missing = {name for name in vars(theirs) if name.endswith("_")} - set(vars(ours))
    assert not missing, f"attributes missing: {missing}"
    for name in COUNTS:
        assert getattr(ours, name, None) == getattr(theirs, name, None), name
    for name in (*ARRAYS, *CURVES, *NUMBERS):
        expected, actual = getattr(theirs, name, None), getattr(ours, name, None)
        if expected is None:
            assert actual is None, name
        elif name in NUMBERS:
            assert type(actual) is type(expected), name
            close(actual, expected, tolerance, name)
        elif name in ARRAYS:
            for i, (a, b) in enumerate(zip(actual, expected, strict=True)):
                assert a.dtype == b.dtype, name
                close(a, b, tolerance, f"{name}[{i}]")
        else:
            assert {type(number) for number in actual} == {type(number) for number in expected}, name
            close(actual, expected, tolerance, name)
    if hasattr(theirs, "classes_"):
        np.testing.assert_array_equal(ours.classes_, theirs.classes_)


def fitted(models, X, y, **fit_parameters):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        for model in models:
            model.fit(X, y, **fit_parameters)
    return models


def assert_same_predictions(theirs, ours, X, tolerance):
    for name in ("predict_proba", "predict"):
        if not hasattr(theirs, name):
            continue
        expected, actual = getattr(theirs, name)(X), getattr(ours, name)(X)
        assert actual.dtype == expected.dtype
        if expected.dtype.kind == "f":
            close(actual, expected, tolerance, name)
        else:
            np.testing.assert_array_equal(actual, expected)


SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1, "max_iter": 60},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "adam": {"solver": "adam", "epsilon": 1e-3},
}
TASKS = ("binary", "multiclass", "multilabel", "regression", "regressions", "counts")
# What is not a combination of its own goes round: every value meets every solver and every task.
SETTINGS = (
    {"activation": "relu", "batch_size": "auto", "hidden_layer_sizes": (11,)},
    {"activation": "tanh", "batch_size": 32, "hidden_layer_sizes": (11, 6)},
    {"activation": "logistic", "batch_size": 50, "shuffle": False, "hidden_layer_sizes": 8},
    {"activation": "identity", "batch_size": 64, "alpha": 0.5, "hidden_layer_sizes": (5, 5, 5)},
    {"activation": "relu", "batch_size": 32, "alpha": 0.0, "early_stopping": True, "validation_fraction": 0.2},
)


def grid():
    for (name, solver), task in itertools.product(SOLVERS.items(), TASKS):
        for i in range(len(SETTINGS) if FULL else 3):
            index = (i + 2 * TASKS.index(task) + list(SOLVERS).index(name)) % len(SETTINGS)
            weighted = (i + TASKS.index(task)) % 2 == 1
            yield pytest.param(task, {**SETTINGS[index], **solver}, weighted, id=f"{name}-{task}-{index}")


GRID = list(grid())


def test_the_grid_is_a_grid():
    assert len(GRID) >= 100
    for key in ("activation", "shuffle", "early_stopping", "alpha", "learning_rate", "momentum"):
        assert any(key in case.values[1] for case in GRID), key


@pytest.mark.parametrize(("task", "parameters", "weighted"), GRID)
def test_stochastic_solvers(task, parameters, weighted):
    X, y, weight = make_data(task)
    models = pair(task, **{"max_iter": 15, "learning_rate_init": 0.01, **parameters})
    fitted(models, X, y, sample_weight=weight if weighted else None)
    assert_same(*models, 1e-9)
    assert_same_predictions(*models, X[::3], 1e-9)


@pytest.mark.parametrize("solver", ["nesterov", "adam"])
@pytest.mark.parametrize("task", TASKS)
def test_float32(task, solver):
    X, y, weight = make_data(task)
    X, weight = X.astype(np.float32), weight.astype(np.float32)
    models = pair(task, **SOLVERS[solver], max_iter=10, learning_rate_init=0.01, hidden_layer_sizes=(11, 6))
    fitted(models, X, y, sample_weight=weight if task == "binary" else None)
    assert models[1].coefs_[0].dtype == np.float32
    assert_same(*models, 1e-4)
    assert_same_predictions(*models, X[::3], 1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("activation", ["tanh", "logistic", "identity"])
def test_lbfgs(activation, task, dtype):
    X, y, weight = make_data(task)
    X = X.astype(dtype)
    models = pair(task, solver="lbfgs", max_iter=12, activation=activation, hidden_layer_sizes=6, alpha=0.1)
    fitted(models, X, y, sample_weight=weight if task in ("binary", "regression") else None)
    tolerance = 1e-5 if dtype == np.float64 else 1e-4
    assert_same(*models, tolerance)
    assert_same_predictions(*models, X[::3], tolerance)


@pytest.mark.parametrize("solver", [*SOLVERS, "lbfgs"])
@pytest.mark.parametrize("task", ["multiclass", "regression"])
def test_warm_start(task, solver):
    X, y, weight = make_data(task)
    parameters = SOLVERS.get(solver, {"solver": solver, "activation": "tanh"}) | {"max_iter": 6}
    models = pair(task, **parameters, warm_start=True, learning_rate_init=0.02, hidden_layer_sizes=5)
    for _ in range(3):
        fitted(models, X, y)
        assert_same(*models, 1e-5 if solver == "lbfgs" else 1e-9)
    fitted(models, X, y, sample_weight=weight)
    assert_same(*models, 1e-5 if solver == "lbfgs" else 1e-9)


def test_warm_start_with_early_stopping():
    """The best parameters of one fit are those that the next one begins with, and may fall back to."""
    X, y, _ = make_data("multiclass")
    models = pair("multiclass", early_stopping=True, warm_start=True, max_iter=8, n_iter_no_change=2, tol=0.01)
    for rate in (0.001, 0.01, 10.0, 0.1):
        for model in models:
            model.set_params(learning_rate_init=rate)
        fitted(models, X, y)
        assert_same(*models, 1e-9)


@pytest.mark.parametrize("solver", list(SOLVERS))
@pytest.mark.parametrize("task", TASKS)
def test_partial_fit(task, solver):
    X, y, weight = make_data(task)
    models = pair(task, **SOLVERS[solver], learning_rate_init=0.02, hidden_layer_sizes=(9,), batch_size=30)
    labels = np.arange(4) if task == "multilabel" else np.unique(y)
    classes = {} if task in ("regression", "regressions", "counts") else {"classes": labels}
    for i, rows in enumerate((slice(0, 90), slice(90, 150), slice(150, 151), slice(0, 230))):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Got `batch_size`")
            for model in models:
                model.partial_fit(X[rows], y[rows], sample_weight=weight[rows] if i % 2 else None, **classes)
        classes = {}
        assert_same(*models, 1e-9)


@pytest.mark.parametrize(("first", "then"), [(np.float32, np.float64), (np.float64, np.float32)])
@pytest.mark.parametrize("solver", ["nesterov", "adam"])
def test_data_of_another_dtype_later(solver, first, then):
    """scikit-learn keeps the dtype of the first data for its parameters and computes in the wider one."""
    X, y, _ = make_data("multiclass")
    models = pair("multiclass", **SOLVERS[solver], learning_rate_init=0.02, batch_size=50)
    for dtype in (first, then, then, first):
        for model in models:
            model.partial_fit(X.astype(dtype), y, classes=np.unique(y))
        assert_same(*models, 1e-4)
        for other in (first, then):
            assert_same_predictions(*models, X.astype(other), 1e-4)


@pytest.mark.parametrize("form", [scipy.sparse.csr_array, scipy.sparse.csc_array, scipy.sparse.csr_matrix])
@pytest.mark.parametrize("parameters", [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"shuffle": False}], ids=str)
def test_sparse_input(form, parameters, monkeypatch):
    X, y, weight = make_data("multiclass")
    X = form(np.where(np.abs(X) > 0.8, X, 0))
    models = pair("multiclass", max_iter=8, batch_size=40, **parameters)
    # Pieces of 45 rows: several for a fit, and for a prediction.
    monkeypatch.setattr(fastnn.sparse_rows, "DENSE_BYTES", 45 * 7 * 8)
    fitted(models, X, y, sample_weight=weight)
    tolerance = 1e-5 if parameters.get("solver") == "lbfgs" else 1e-9
    assert_same(*models, tolerance)
    assert_same_predictions(*models, X, tolerance)


@pytest.mark.parametrize("sparse", [False, True])
def test_float32_after_lbfgs_has_made_the_parameters_float64(sparse):
    X, y, weight = make_data("multiclass")
    X = scipy.sparse.csr_array(X.astype(np.float32)) if sparse else X.astype(np.float32)
    models = fitted(pair("multiclass", max_iter=5, warm_start=True), X, y)
    for solver in ("lbfgs", "adam", "lbfgs", "sgd"):
        for model in models:
            model.set_params(solver=solver)
        fitted(models, X, y, sample_weight=weight)
        assert_same(*models, 1e-4)
    assert models[1].coefs_[0].dtype == np.float64


def test_memory_maps_and_read_only_data(tmp_path):
    X, y, weight = make_data("regression")
    np.save(tmp_path / "X.npy", X)
    for form in (np.load(tmp_path / "X.npy", mmap_mode="r"), np.asfortranarray(X)):
        form.flags.writeable = False
        for parameters in ({"early_stopping": True}, {"solver": "lbfgs"}):
            models = fitted(pair("regression", max_iter=4, **parameters), form, y, sample_weight=weight)
            assert_same(*models, 1e-6)
            assert_same_predictions(*models, form, 1e-6)


def test_sparse_multilabel_targets():
    X, y, _ = make_data("multilabel")
    models = fitted(pair("multilabel", max_iter=4), X, scipy.sparse.csr_array(y))
    assert_same(*models, 1e-9)
    results = [model.predict(X) for model in models]
    assert type(results[0]) is type(results[1])
    assert (results[0] != results[1]).nnz == 0


def test_predictions_of_other_dtypes_and_layouts():
    X, y, _ = make_data("multiclass")
    for dtype in (np.float32, np.float64):
        models = fitted(pair("multiclass", max_iter=5), X.astype(dtype), y)
        for other in (
            X,
            X.astype(np.float32),
            np.asfortranarray(X),
            X[::-2],
            np.round(X).astype(np.int64),
            np.round(X).astype(np.int8),
            X > 0,
            X.astype(np.float16),
            X.astype(">f8"),
            X.tolist(),
        ):
            assert_same_predictions(*models, other, 1e-4 if dtype == np.float32 else 1e-9)


def test_large_errors_cost_what_they_cost_there():
    """Unscaled data: sure and wrong predictions, whose probabilities the loss keeps within [eps, 1 - eps]."""
    for task in ("binary", "multiclass"):
        X, y, _ = make_data(task)
        models = fitted(pair(task, max_iter=10, solver="sgd", learning_rate_init=1e-4), X * 300, y)
        assert models[0].loss_curve_[0] > 5
        assert_same(*models, 1e-9)


def test_sure_predictions_cost_what_they_cost_there(dtype):
    X = np.array([[-1.0], [1.0]] * 20, dtype)
    for y in (np.tile([0, 1], 20), np.tile([0, 1, 2, 1], 10)):
        X = X + np.asarray(y)[:, np.newaxis].astype(dtype) * 10
        models = pair("binary", max_iter=150, learning_rate_init=0.5, alpha=0.0, n_iter_no_change=200)
        fitted(models, X, y)
        assert_same(*models, 1e-4 if dtype == np.float32 else 1e-9)


def test_a_diverging_fit_scores_nan_and_restores_the_start():
    X, y, _ = make_data("regression")
    parameters = {"activation": "identity", "solver": "sgd", "learning_rate_init": 5.0, "early_stopping": True}
    models = pair("regression", max_iter=20, **parameters)
    with np.errstate(all="ignore"):
        fitted(models, X * 10, y)
    assert np.isnan(models[1].validation_scores_[-1])
    for a, b in zip(models[1].coefs_, models[0].coefs_, strict=True):
        close(a, b, 1e-9, "coefs_")


def test_a_generator_is_left_where_scikit_learn_leaves_it():
    X, y, _ = make_data("binary")
    generators = [np.random.RandomState(5) for _ in range(2)]
    for generator, model in zip(generators, pair("binary", early_stopping=True, max_iter=4), strict=True):
        fitted([model.set_params(random_state=generator)], X, y)
    assert generators[0].randint(2**31) == generators[1].randint(2**31)


@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("task", TASKS)
def test_a_fitted_model_moves_over(task, solver):
    """It predicts the same, and goes on as scikit-learn's does; that stays as it was."""
    X, y, weight = make_data(task)
    parameters = {"solver": solver, "momentum": 0.0, "early_stopping": solver == "adam", "max_iter": 5}
    (theirs,) = fitted(pair(task, **parameters)[:1], X, y)
    before = pickle.dumps(theirs)
    tolerance = 1e-5 if solver == "lbfgs" else 1e-9
    assert_same_predictions(theirs, moved(theirs), X, 1e-12)
    assert_same_predictions(theirs, pickle.loads(pickle.dumps(moved(theirs))), X, 1e-12)

    warm = [copy.deepcopy(theirs), moved(theirs)]
    for model in warm:
        model.set_params(warm_start=True, tol=1.0, n_iter_no_change=3, max_iter=7)
    assert_same(*fitted(warm, X, y, sample_weight=weight), tolerance)
    if solver == "sgd":
        # Without momentum there is no more to an optimizer than its rate, and it may begin anew.
        parts = [copy.deepcopy(theirs), moved(theirs)]
        for model in parts:
            model.partial_fit(X, y).partial_fit(X[::-1], y[::-1])
        assert_same(*parts, tolerance)
    if solver == "adam":
        (plain,) = fitted(pair(task, solver=solver, max_iter=5)[:1], X, y)
        assert moved(plain).partial_fit(X, y).loss_ < plain.loss_
    assert pickle.dumps(theirs) == before
