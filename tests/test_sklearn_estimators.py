"""fastnn.sklearn as estimators: scikit-learn's checks, the tools around them, what its tests of MLPs ask."""

import copy
import inspect
import pickle
import subprocess
import sys
import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.neural_network
from sklearn import datasets
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.exceptions import ConvergenceWarning
from sklearn.inspection import permutation_importance
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import accuracy_score
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils.estimator_checks import _NotAnArray, check_estimator

import fastnn
from fastnn.sklearn import _REPLACED, MLPClassifier, MLPRegressor

BOTH = pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor])

# Fits here are short on purpose; tests of the warning itself ask for it with pytest.warns.
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def iris():
    X, y = datasets.load_iris(return_X_y=True)
    return StandardScaler().fit_transform(X), y


@pytest.fixture(scope="module")
def digits():
    X, y = datasets.load_digits(n_class=3, return_X_y=True)
    return MinMaxScaler().fit_transform(X), y


@BOTH
def test_all_that_is_replaced_in_scikit_learn_is_looked_at(Estimator):
    theirs = getattr(sklearn.neural_network, Estimator.__name__)
    ours = [kind for kind in Estimator.__mro__ if kind.__module__.startswith("fastnn")]
    names = {name for kind in ours for name, member in vars(kind).items() if inspect.isfunction(member)}
    replaced = {name for name in names if name.startswith("_") and not name.endswith("__") and hasattr(theirs, name)}
    assert len(replaced) > 5
    assert replaced <= _REPLACED.keys()


# ---- scikit-learn's checks


def failing_checks(estimator):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, on_fail=None)
    assert len(results) > 50
    return {result["check_name"] for result in results if result["status"] not in ("passed", "skipped")}


@BOTH
@pytest.mark.parametrize(
    "parameters",
    [
        {"max_iter": 60},
        {"max_iter": 60, "solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.01},
        {"max_iter": 20, "solver": "lbfgs"},
        {"max_iter": 20, "solver": "lbfgs", "early_stopping": True},
        {"max_iter": 60, "activation": ["gelu", "tanh"], "hidden_layer_sizes": (20, 10), "learning_rate_init": 0.01},
    ],
    ids=str,
)
def test_check_estimator(Estimator, parameters):
    assert failing_checks(Estimator(**parameters)) == set()


@BOTH
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_check_estimator_with_early_stopping(Estimator, solver):
    """Of these checks scikit-learn's own classes fail some: partial_fit refuses, 15 rows are too few for a split.

    Ours may fail no other but the check of class_weight, a parameter that theirs has not: the score of a few weighted
    rows picks the epoch. A subclass stands for scikit-learn's classes, for which themselves it makes exceptions.
    """
    parameters = {"max_iter": 20, "early_stopping": True, "solver": solver, "validation_fraction": 0.3}
    theirs = type("Theirs", (getattr(sklearn.neural_network, Estimator.__name__),), {})
    allowed = failing_checks(theirs(**parameters)) | {"check_class_weight_classifiers"}
    assert failing_checks(Estimator(**parameters)) <= allowed


def test_the_signatures_are_scikit_learns():
    for ours in (MLPClassifier, MLPRegressor):
        theirs = getattr(sklearn.neural_network, ours.__name__)
        more = {
            "scoring": None,
            "l1": 0.0,
            "clip_norm": None,
            "clip_value": None,
            "schedule": None,
            "callbacks": (),
            "progress": False,
            "dropout": 0.0,
            "normalization": None,
            "standardize": False,
        }
        if ours is MLPClassifier:
            more["class_weight"] = None
        assert ours().get_params() == theirs().get_params() | more
        assert repr(ours(alpha=1)) == repr(theirs(alpha=1))
        assert isinstance(ours(), theirs)


# ---- What people put estimators into


def test_pipeline_grid_search_and_cross_validation(iris):
    X, y = iris
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(solver="lbfgs", max_iter=50, random_state=0))
    search = GridSearchCV(pipeline, {"mlpclassifier__alpha": [1e-4, 1e-2], "mlpclassifier__max_iter": [30]}, n_jobs=2)
    assert search.fit(X, y).best_score_ > 0.9
    assert np.mean(cross_val_score(pipeline, X, y, cv=3)) > 0.9


def test_calibration_and_permutation_importance(iris):
    X, y = iris
    model = MLPClassifier(max_iter=40, learning_rate_init=0.02, random_state=0)
    calibrated = CalibratedClassifierCV(model, cv=3).fit(X, y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    X = np.c_[X, np.random.default_rng(0).standard_normal(len(X))]
    importances = permutation_importance(model.fit(X, y), X, y, random_state=0).importances_mean
    assert importances[2:4].sum() > importances[4] + 0.1


@BOTH
def test_clone_pickle_joblib_and_copies(Estimator, iris, tmp_path):
    X, y = iris
    model = Estimator(max_iter=5, random_state=0, solver="sgd", learning_rate_init=0.01, batch_size=40).fit(X, y)
    assert clone(model).get_params() == model.get_params()
    joblib.dump(model, tmp_path / "model.joblib")
    copies = [
        pickle.loads(pickle.dumps(model)),
        copy.deepcopy(model),
        joblib.load(tmp_path / "model.joblib"),
        joblib.load(tmp_path / "model.joblib", mmap_mode="r"),
    ]
    before = model.predict(X)
    # They all go on with the velocity that the first has built up.
    model.partial_fit(X, y)
    for twin in copies:
        assert np.array_equal(twin.predict(X), before)
        twin.partial_fit(X, y)
        assert all(map(np.array_equal, twin.coefs_, model.coefs_))
        assert np.array_equal(twin.predict(X), model.predict(X))
    assert not np.array_equal(pickle.loads(pickle.dumps(model)).coefs_[0], Estimator(max_iter=1).fit(X, y).coefs_[0])


def test_feature_names_and_pandas_output(iris):
    X = pd.DataFrame(iris[0], columns=["a", "b", "c", "d"])
    model = MLPClassifier(early_stopping=True, max_iter=5, random_state=0).fit(X, iris[1])
    assert model.feature_names_in_.tolist() == ["a", "b", "c", "d"]
    with pytest.raises(ValueError, match="feature names"):
        model.predict(X[["b", "a", "c", "d"]])
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        model.predict(iris[0])
    pipeline = make_pipeline(StandardScaler(), MLPClassifier(max_iter=5, random_state=0)).set_output(transform="pandas")
    assert pipeline.fit(X, iris[1])[-1].feature_names_in_.tolist() == ["a", "b", "c", "d"]


def test_the_parameters_are_live(iris):
    """What the user writes into coefs_, or puts in its place, is what predicts and what is trained on."""
    X, y = iris
    model = MLPClassifier(max_iter=3, random_state=0, hidden_layer_sizes=4).fit(X, y)
    theirs = sklearn.neural_network.MLPClassifier(max_iter=3, random_state=0, hidden_layer_sizes=4).fit(X, y)
    for estimator in (model, theirs):
        estimator.coefs_[0][:] *= 2
        estimator.coefs_[1] = estimator.coefs_[1] + 1
        estimator.intercepts_ = [np.ones_like(values) for values in estimator.intercepts_]
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)
    for estimator in (model, theirs):
        estimator.partial_fit(X, y)
    np.testing.assert_allclose(model.coefs_[0], theirs.coefs_[0], rtol=1e-9)


@pytest.mark.parametrize(
    "parameters", [{}, {"normalization": "batch"}, {"normalization": "layer", "standardize": True}], ids=str
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_change_after_a_prediction_is_heard_at_the_next(dtype, parameters, iris):
    """Written into an array or put in its place, in both dtypes' networks: as a copy with these values predicts."""
    X, y = iris
    parameters |= {"max_iter": 2, "hidden_layer_sizes": 4, "random_state": 0}
    model = MLPClassifier(**parameters).fit(X.astype(dtype), y)
    names = ["coefs_", "intercepts_"]
    names += ["scales_", "shifts_"] * ("normalization" in parameters)
    names += ["running_means_", "running_variances_"] * (parameters.get("normalization") == "batch")

    def write(arrays):
        arrays[0][...] *= 1.25

    def replace(arrays):
        arrays[0] = arrays[0] + arrays[0].dtype.type(0.25)

    changes = [(getattr(model, name), change) for name in names for change in (write, replace, write)]
    if "standardize" in parameters:
        held = [model.input_mean_], [model.input_scale_]
        changes += [(arrays, write) for arrays in held]
    for arrays, change in changes:
        before = [model.predict_proba(X.astype(each)) for each in (np.float32, np.float64)]
        change(arrays)
        fresh = pickle.loads(pickle.dumps(model))
        for each, old in zip((np.float32, np.float64), before, strict=True):
            new = model.predict_proba(X.astype(each))
            assert not np.array_equal(new, old)
            assert np.array_equal(new, fresh.predict_proba(X.astype(each)))


def test_a_prediction_copies_nothing_where_nothing_was_replaced(iris):
    model = MLPClassifier((6, 4), max_iter=2, random_state=0, normalization="batch").fit(*iris)
    net = model._network(np.dtype(np.float64))
    expected = model.predict_proba(iris[0])
    for layer in net.layers:
        for array in (layer._weight, layer._bias, *layer._scale_and_shift, layer._statistics):
            array.flags.writeable = False
    assert np.array_equal(model.predict_proba(iris[0]), expected)
    assert np.array_equal(model.predict_proba(iris[0][:1]), expected[:1])
    assert model._network(np.dtype(np.float64)) is net
    model.coefs_[1] = model.coefs_[1].copy()
    assert np.array_equal(model.predict_proba(iris[0]), expected)
    other = model._network(np.dtype(np.float64))
    assert other is not net
    assert model._network(np.dtype(np.float64)) is other


def test_arrays_that_were_put_aside_stay_as_they_are(iris):
    """Ablation: a layer's arrays are replaced for a prediction, and come back."""
    X, y = iris
    model = MLPClassifier((5, 5, 5), max_iter=20, random_state=0).fit(X, y)
    theirs = sklearn.neural_network.MLPClassifier((5, 5, 5), max_iter=20, random_state=0).fit(X, y)
    expected, values = model.predict_proba(X), [coef.copy() for coef in model.coefs_]
    for i, aside in enumerate(model.coefs_):
        model.coefs_[i] = np.zeros_like(aside)
        assert not np.array_equal(model.predict_proba(X), expected)
        model.coefs_[i] = aside
        assert np.array_equal(model.predict_proba(X), expected)
    for estimator in (model, theirs):
        estimator.coefs_[1], estimator.coefs_[2] = estimator.coefs_[2], estimator.coefs_[1]
        estimator.intercepts_[0] = estimator.intercepts_[1]
    np.testing.assert_allclose(model.predict_proba(X), theirs.predict_proba(X), rtol=1e-9)
    assert all(map(np.array_equal, values, np.array(model.coefs_, dtype=object)[[0, 2, 1, 3]]))
    # A pass more makes the arrays part of a network again, and leaves those alone that have been put aside.
    aside, model.coefs_[0] = model.coefs_[0], np.ones((4, 5))
    model.partial_fit(X, y)
    assert np.array_equal(aside, values[0])
    assert model._network(np.dtype(np.float64)) is model._network(np.dtype(np.float64))
    assert all(map(np.shares_memory, model.coefs_, [model._network(np.dtype(np.float64)).parameters] * 4))


def test_weights_of_one_row_are_not_spread_over_all(iris):
    X, y = iris
    for Estimator in (MLPClassifier, sklearn.neural_network.MLPClassifier):
        model = Estimator((5,), max_iter=2, random_state=0).fit(X, y)
        model.intercepts_[0] = model.intercepts_[0][:1]  # as NumPy adds it
        assert model.predict(X).shape == y.shape
        model.coefs_[1] = model.coefs_[1][:1]
        with pytest.raises(ValueError, match=r"coefs_\[1\]: expected shape \(5, 3\), got \(1, 3\)|matmul: "):
            model.predict(X)


def test_a_view_in_another_shape_may_be_replaced(iris):
    X, y = iris
    model = MLPClassifier(6, max_iter=2, random_state=0).fit(X, y)
    expected, weight = model.predict_proba(X), model.coefs_[0].copy()
    with warnings.catch_warnings():
        # NumPy would rather have it done by reshape.
        warnings.simplefilter("ignore", DeprecationWarning)
        model.coefs_[0].shape = (6, 4)
    model.coefs_[0] = weight
    assert np.array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize(
    "y",
    [
        np.arange(150) % 3,
        np.array(["a", "bcd"])[np.arange(150) % 2],
        np.arange(150) % 2 == 0,
        np.array(["x", "yy", "z"], dtype=object)[np.arange(150) % 3],
        (np.arange(150) % 3).astype(np.float64),
        np.ones(150, int),
        np.arange(450).reshape(150, 3) // 4 % 2,
    ],
    ids=["multiclass", "words", "bool", "objects", "floats", "one class", "multilabel"],
)
@pytest.mark.parametrize("finite", [True, False])
def test_predictions_and_scores_are_scikit_learns_of_the_same_outputs(y, finite, iris):
    model = MLPClassifier(4, max_iter=3, random_state=0).fit(iris[0], y)
    if not finite:
        model.coefs_[0][0, 0] = np.nan
    outputs = model._forward_pass_fast(iris[0])
    expected = model._label_binarizer.inverse_transform(outputs.ravel() if outputs.shape[1] == 1 else outputs)
    found = model.predict(iris[0])
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)
    others = [y, y[::-1], y.tolist(), y.reshape(150, -1), np.zeros(150, int), np.full(150, "a"), y[:-1], y[:0]]
    if y.ndim == 1:
        others += [pd.Series(y), y.astype(str), y.astype(bytes), np.linspace(0, 1, 150), np.full(150, np.nan)]
    for other in others:
        for rows, weight in ((150, None), (90, None), (150, np.linspace(0, 1, 150))):
            scores = []
            for score in (
                lambda rows=rows, other=other, weight=weight: model.score(iris[0][:rows], other[:rows], weight),
                lambda rows=rows, other=other, weight=weight: accuracy_score(
                    other[:rows], expected[:rows], sample_weight=weight
                ),
            ):
                with warnings.catch_warnings(record=True) as told:
                    warnings.simplefilter("always")
                    try:
                        scores.append(score())
                    except (ValueError, TypeError) as error:
                        scores.append((type(error), str(error)))
                scores.append([str(warning.message) for warning in told])
            assert scores[:2] == scores[2:]


def test_a_new_fit_leaves_the_arrays_of_the_old_one(iris):
    X, y = iris
    for solver in ("adam", "lbfgs"):
        model = MLPClassifier(max_iter=3, random_state=0, solver=solver).fit(X, y)
        old, values = model.coefs_, [coef.copy() for coef in model.coefs_]
        model.set_params(random_state=1).fit(X, y)
        assert all(map(np.array_equal, old, values))
        assert not np.array_equal(model.coefs_[0], values[0])


def test_predictions_leave_the_estimator_alone(iris):
    X, y = iris
    model = MLPClassifier(max_iter=3, random_state=0).fit(X.astype(np.float32), y)
    before = pickle.dumps(model)
    model.predict(X)
    model.predict(X.astype(np.float32))
    assert pickle.dumps(model) == before


# ---- What scikit-learn's tests of its MLPs ask for


def test_one_step_worked_out_by_hand():
    """One sample through 3-2-1 logistic units: gradient descent at rate 0.1 with alpha 0.1."""
    X, y = np.array([[0.6, 0.8, 0.7]]), np.array([0])
    model = MLPClassifier(2, "logistic", solver="sgd", alpha=0.1, learning_rate_init=0.1, momentum=0, random_state=0)
    model.partial_fit(X, y, classes=[0, 1])
    start = [np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0.0]]), np.array([[0.1], [0.2]])]
    model.coefs_, model.intercepts_ = [c.copy() for c in start], [np.array([0.1, 0.1]), np.array([1.0])]
    model.partial_fit(X, y)

    sigmoid = lambda z: 1 / (1 + np.exp(-z))
    hidden = sigmoid(X @ start[0] + 0.1)
    delta2 = sigmoid(hidden @ start[1] + 1.0) - 0
    delta1 = delta2 * start[1].T * hidden * (1 - hidden)
    np.testing.assert_allclose(model.coefs_[0], start[0] - 0.1 * (X.T @ delta1 + 0.1 * start[0]), rtol=1e-12)
    np.testing.assert_allclose(model.coefs_[1], start[1] - 0.1 * (hidden.T @ delta2 + 0.1 * start[1]), rtol=1e-12)
    np.testing.assert_allclose(model.intercepts_[0], 0.1 - 0.1 * delta1[0], rtol=1e-12)
    np.testing.assert_allclose(model.intercepts_[1], 1.0 - 0.1 * delta2[0], rtol=1e-12)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu", "gelu", "softplus"])
@pytest.mark.parametrize("kind", ["binary", "multiclass", "regressions", "poisson"])
def test_gradients_are_differences_of_the_loss(kind, activation, rng):
    X, weight = rng.standard_normal((12, 4)), rng.random(12) + 0.5
    if kind in ("binary", "multiclass"):
        labels = np.arange(12) % (2 if kind == "binary" else 3)
        y = labels[:, np.newaxis] == (np.array([[1]]) if kind == "binary" else np.arange(3))
        model = MLPClassifier((5, 3), activation, solver="lbfgs", alpha=0.3, max_iter=1, random_state=1).fit(X, labels)
    else:
        y = rng.random((12, 1 if kind == "regressions" else 2))
        loss = "poisson" if kind == "poisson" else "squared_error"
        parameters = {"solver": "lbfgs", "alpha": 0.3, "max_iter": 1, "random_state": 1}
        model = MLPRegressor(loss, (5, 3), activation, **parameters).fit(X, y if y.shape[1] > 1 else y.ravel())
    arrays = model.coefs_ + model.intercepts_

    def loss_and_gradients():
        n = len(model.coefs_)
        value, coefs, intercepts = model._backprop(X, y, weight, [None] * n, [None] * n, [None] * n, [None] * n)
        return value, [gradient.copy() for gradient in coefs + intercepts]

    _, gradients = loss_and_gradients()
    for array, gradient in zip(arrays, gradients, strict=True):
        for index in np.ndindex(array.shape):
            values = []
            for sign in (1, -2):
                array[index] += sign * 1e-5
                values.append(loss_and_gradients()[0])
            array[index] += 1e-5
            assert (values[0] - values[1]) / 2e-5 == pytest.approx(gradient[index], rel=1e-5, abs=1e-8)


def test_a_larger_alpha_gives_smaller_weights(digits):
    X, y = digits[0][:100], digits[1][:100]
    sizes = [
        [np.abs(coef).sum() for coef in MLPClassifier(10, alpha=alpha, random_state=1).fit(X, y).coefs_]
        for alpha in (0, 1)
    ]
    assert (np.array(sizes[0]) > sizes[1]).all()


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_lbfgs_learns(activation, digits):
    X, y = digits
    model = MLPClassifier(50, activation, solver="lbfgs", max_iter=150, random_state=1).fit(X[:150], y[:150])
    assert model.score(X[150:], y[150:]) > 0.95
    X, y = datasets.make_regression(200, 10, bias=20.0, noise=100.0, random_state=7)
    y = (y - y.mean()) / y.std()
    model = MLPRegressor(hidden_layer_sizes=50, activation=activation, solver="lbfgs", tol=1e-3, random_state=1)
    assert model.fit(X, y).score(X, y) > (0.8 if activation == "identity" else 0.98)


@BOTH
def test_max_fun_limits_lbfgs(Estimator, digits):
    with pytest.warns(ConvergenceWarning):
        model = Estimator(hidden_layer_sizes=50, solver="lbfgs", max_fun=10, tol=0.0, random_state=1).fit(*digits)
    assert model.n_iter_ <= 10


@BOTH
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_max_iter_warns_and_holds_when_warm(Estimator, solver, iris):
    model = Estimator(solver=solver, warm_start=True, max_iter=3, n_iter_no_change=np.inf, random_state=0, tol=0.0)
    for most in (3, 5):
        with pytest.warns(ConvergenceWarning):
            model.set_params(max_iter=most).fit(*iris)
        assert model.n_iter_ == most


def test_invscaling_goes_on_and_constant_stays_when_warm():
    X, y = [[3, 2], [1, 6], [5, 6], [-2, -4]], [1, 1, 1, 0]
    for learning_rate in ("invscaling", "constant"):
        parameters = {"learning_rate": learning_rate, "power_t": 0.25, "random_state": 0}
        model = MLPClassifier(4, solver="sgd", max_iter=1, warm_start=True, **parameters).fit(X, y).fit(X, y)
        expected = 0.001 if learning_rate == "constant" else 0.001 / (8 + 1) ** 0.25
        assert model._optimizer.learning_rate == expected


def test_adaptive_rates_fall_until_they_are_too_small():
    model = MLPClassifier(tol=0.5, max_iter=3000, solver="sgd", learning_rate="adaptive", random_state=0)
    model.fit([[3, 2], [1, 6]], [1, 0])
    assert model.n_iter_ < 3000
    assert model._optimizer.learning_rate < 1e-6


def test_multilabel(digits):
    X, y = datasets.make_multilabel_classification(n_samples=50, random_state=0)
    parameters = {"hidden_layer_sizes": 50, "random_state": 0, "activation": "logistic", "alpha": 1e-5}
    model = MLPClassifier(solver="lbfgs", max_iter=150, **parameters).fit(X, y)
    assert model.score(X, y) > 0.97
    probabilities = model.predict_proba(X)
    assert np.array_equal(probabilities > 0.5, y)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities))
    model = MLPClassifier(solver="sgd", learning_rate_init=0.2, **parameters)
    for _ in range(100):
        model.partial_fit(X, y, classes=np.arange(5))
    assert model.score(X, y) > 0.9
    assert MLPClassifier(early_stopping=True, max_iter=5).fit(X, y).predict(X).shape == y.shape


def test_partial_fits_are_the_epochs_of_a_fit(digits):
    X, y = digits[0][:200], digits[1][:200]
    parameters = {"solver": "sgd", "random_state": np.random.RandomState(1), "learning_rate_init": 0.2}
    whole = MLPClassifier(max_iter=30, tol=0, **parameters).fit(X, y)
    parts = MLPClassifier(**parameters | {"random_state": np.random.RandomState(1)})
    for _ in range(30):
        parts.partial_fit(X, y, classes=np.unique(y))
    np.testing.assert_allclose(parts.coefs_[0], whole.coefs_[0], rtol=1e-12)
    assert parts.score(X, y) > 0.95


def test_partial_fit_and_its_classes():
    model = MLPClassifier(solver="sgd", random_state=0)
    with pytest.raises(ValueError, match="classes"):
        clone(model).partial_fit([[3, 2]], [0])
    with pytest.raises(ValueError, match="classes"):
        clone(model).partial_fit([[3, 2], [1, 6]], [1, 0], classes=[2])
    model.partial_fit([[3, 2]], [0], classes=[0, 1])
    with pytest.raises(ValueError, match="classes"):
        model.partial_fit([[3, 2]], [0], classes=[1, 2])
    model = MLPClassifier(random_state=0).partial_fit([[1], [2], [3]], ["a", "b", "c"], classes=["a", "b", "c", "d"])
    assert model.partial_fit([[4]], ["d"]).score([[1], [2], [3], [4]], ["a", "b", "c", "d"]) > 0
    assert not hasattr(MLPClassifier(solver="lbfgs"), "partial_fit")


@BOTH
def test_partial_fit_with_early_stopping_needs_a_validation_set(Estimator, iris):
    model = Estimator(early_stopping=True, max_iter=3, random_state=0).fit(*iris)
    with pytest.raises(ValueError, match="partial_fit with early_stopping=True expects both"):
        model.partial_fit(*iris)


def test_non_finite_weights_are_an_error(rng):
    X = np.finfo(np.float64).max * rng.random((10, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            MLPRegressor(random_state=0).fit(X, rng.standard_normal(10))


def test_binary_probabilities(digits):
    X, y = digits[0][:100], digits[1][:100] == 1
    model = MLPClassifier(5, "logistic", random_state=1, learning_rate_init=0.05).fit(X, y)
    probabilities = model.predict_proba(X)
    assert probabilities.shape == (100, 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    np.testing.assert_allclose(model.predict_log_proba(X), np.log(probabilities))
    assert np.array_equal(probabilities.argmax(axis=1) == 1, model.predict(X))


def test_shuffling_changes_the_fit_and_nothing_else_does():
    X, y = datasets.make_regression(n_samples=50, n_features=5, random_state=0)
    fits = [
        MLPRegressor(hidden_layer_sizes=1, max_iter=1, batch_size=1, random_state=0, shuffle=shuffle).fit(X, y)
        for shuffle in (True, True, False, False)
    ]
    weights = [fit.coefs_[0].tobytes() for fit in fits]
    assert weights[0] == weights[1] != weights[2] == weights[3]


def test_threads_do_not_change_the_fit(digits):
    fits = []
    for threads in (1, 2):
        fastnn.set_num_threads(threads)
        try:
            fits.append(MLPClassifier((100, 50), max_iter=4, random_state=0).fit(*digits))
        finally:
            fastnn.set_num_threads(None)
    assert all(map(np.array_equal, fits[0].coefs_, fits[1].coefs_))
    assert fits[0].loss_curve_ == fits[1].loss_curve_


@BOTH
def test_early_stopping(Estimator, digits):
    X, y = digits[0][:100], digits[1][:100]
    model = Estimator(tol=0.2, max_iter=3000, solver="sgd", early_stopping=True, random_state=0).fit(X, y)
    assert model.n_iter_ < 3000
    assert model.best_loss_ is None
    assert max(model.validation_scores_) == model.best_validation_score_
    assert model.best_validation_score_ + 0.2 > model.validation_scores_[-1]
    model = Estimator(tol=0.2, max_iter=3000, solver="sgd", random_state=0).fit(X, y)
    assert model.validation_scores_ is model.best_validation_score_ is None
    assert model.best_loss_ == min(model.loss_curve_)


def test_early_stopping_with_labels_that_are_words():
    X, y = datasets.make_classification(200, 10, n_classes=3, n_informative=5, random_state=42)
    y = np.array(["red", "green", "blue"], dtype=object)[y]
    model = MLPClassifier(early_stopping=True, max_iter=10, random_state=42).fit(X, y)
    assert len(model.validation_scores_) == model.n_iter_
    assert np.isfinite(model.validation_scores_).all()


def test_early_stopping_needs_enough_rows():
    with pytest.raises(ValueError, match="The validation set is too small"):
        MLPRegressor(early_stopping=True).fit([[1.0, 2.0], [2.0, 1.0]], [0.0, 1.0])
    with pytest.raises(ValueError, match="least populated class"):
        MLPClassifier(early_stopping=True).fit([[1, 2], [2, 3], [3, 4], [4, 5]], [0, 0, 0, 1])


def test_epochs_without_improvement(digits):
    X, y = digits[0][:100], digits[1][:100] == 1
    for patience in (2, 10):
        model = MLPClassifier(tol=0.01, max_iter=3000, solver="sgd", n_iter_no_change=patience, random_state=0)
        assert model.fit(X, y)._no_improvement_count == patience + 1
        assert model.n_iter_ < 3000
    model = MLPClassifier(tol=1e9, max_iter=50, solver="sgd", n_iter_no_change=np.inf, random_state=0).fit(X, y)
    assert model.n_iter_ == 50
    assert model._no_improvement_count == 49


def test_warm_start_wants_the_same_classes(iris):
    X, y = iris
    model = MLPClassifier(2, solver="lbfgs", warm_start=True, random_state=42, tol=1e-2).fit(X, y)
    model.fit(X, np.repeat([0, 1, 2], [40, 40, 70]))
    for other in ([0, 1], [0, 1, 3], [0, 1, 2, 3]):
        labels = np.resize(other, 150)
        with pytest.raises(ValueError, match="warm_start can only be used where `y` has the same classes"):
            model.fit(X, labels)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 2), (1, 2), (2, 1)])
def test_targets_of_another_width_than_the_network_are_refused(before, after, solver, iris):
    """Kernels would read beyond them. The estimator stays as it was."""
    X, targets = iris[0], {1: iris[0][:, 0], 2: iris[0][:, :2], 3: iris[0][:, :3]}
    model = MLPRegressor(hidden_layer_sizes=5, solver=solver, max_iter=3, random_state=0, warm_start=True)
    model.fit(X, targets[before])
    state = pickle.dumps(model)
    calls = [lambda: model.fit(X, targets[after])]
    if solver == "adam":
        calls.append(lambda: model.partial_fit(X, targets[after]))
    for call in calls:
        with pytest.raises(ValueError, match=rf"^y: expected {before} columns, the width of coefs_, got {after}$"):
            call()
        assert pickle.dumps(model) == state
    model.coefs_[0] = np.zeros((7, 5))
    for call in [*calls, lambda: model.fit(X, targets[before])]:
        with pytest.raises(ValueError, match=r"^X: expected 7 columns, the width of coefs_, got 4$"):
            call()
    if solver == "adam":
        for early_stopping in (False, True):
            model.set_params(early_stopping=early_stopping, warm_start=False)
            with pytest.raises(ValueError, match=rf"^y_val: expected shape \(\*, {before}\), got \(150,"):
                model.fit(X, targets[before], X_val=X, y_val=targets[after])


@BOTH
@pytest.mark.parametrize("sizes", [(5, 5), (), [4, 3, 2]])
def test_a_network_of_another_depth_than_the_parameters_ask_for_is_refused(Estimator, sizes, iris):
    """scikit-learn's classes fail in NumPy then. To go on with the old one would be to leave a parameter unread."""
    model = Estimator(hidden_layer_sizes=5, max_iter=2, random_state=0, warm_start=True).fit(*iris)
    model.set_params(hidden_layer_sizes=sizes)
    state = pickle.dumps(model)
    for call in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=r"^hidden_layer_sizes: expected 1 layers, as coefs_ have, got [(\[]"):
            call(*iris)
        assert pickle.dumps(model) == state
    assert len(model.set_params(warm_start=False).fit(*iris).coefs_) == len(sizes) + 1


@pytest.mark.parametrize(("before", "after"), [("squared_error", "poisson"), ("poisson", "huber")])
def test_a_loss_of_other_outputs_is_refused_by_a_fit_that_goes_on(before, after, iris):
    """Poisson has the exponential as output activation, which belongs to the network."""
    model = MLPRegressor(loss=before, max_iter=2, random_state=0, warm_start=True).fit(*iris)
    model.set_params(loss=after)
    state = pickle.dumps(model)
    for call in (model.fit, model.partial_fit):
        with pytest.raises(ValueError, match=rf"^loss: expected .*'poisson', as in the fit .*, got '{after}'$"):
            call(*iris)
        assert pickle.dumps(model) == state
    assert np.isfinite(model.set_params(warm_start=False).fit(*iris).loss_)


def test_targets_of_text_are_no_numbers(iris):
    """NumPy would make numbers of these."""
    model, text = MLPRegressor(max_iter=2, random_state=0), iris[1].astype(str)
    for call in (model.fit, model.partial_fit):
        with pytest.raises(TypeError, match=r"^y: expected numbers, got dtype <U"):
            call(iris[0], text)
        assert not hasattr(model, "coefs_")
    with pytest.raises(TypeError, match=r"^y_val: expected numbers, got dtype <U"):
        model.fit(*iris, X_val=iris[0], y_val=text)


@pytest.mark.parametrize("weight", [None, np.float32, np.float64])
@pytest.mark.parametrize("targets", [np.float32, np.uint8])
@pytest.mark.parametrize(
    ("kind", "parameters"),
    [
        ("MLPClassifier", {}),
        ("MLPRegressor", {}),
        ("MLPRegressor", {"loss": "poisson"}),
        ("MLPRegressor", {"alpha": np.float64(1e-4)}),
        ("MLPRegressor", {"batch_size": 50}),
        ("MLPRegressor", {"solver": "lbfgs"}),
    ],
)
def test_the_loss_has_the_type_that_it_has_there(kind, parameters, targets, weight, iris):
    X, y = iris[0].astype(np.float32), iris[1].astype(targets)
    weight = None if weight is None else np.linspace(1, 2, 150, dtype=weight)
    parameters = {"max_iter": 2, "random_state": 0, "hidden_layer_sizes": 5, **parameters}
    theirs, ours = (
        getattr(module, kind)(**parameters).fit(X, y, weight) for module in (sklearn.neural_network, fastnn.sklearn)
    )
    for name in ("loss_", "best_loss_"):
        assert type(getattr(ours, name, None)) is type(getattr(theirs, name, None)), name
    assert [type(loss) for loss in vars(ours).get("loss_curve_", [])] == [
        type(loss) for loss in vars(theirs).get("loss_curve_", [])
    ]


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_a_validation_set_without_weight_has_no_score(kind, iris):
    X, y, seen = iris[0], (iris[1] == 0) + 0, []
    make = lambda module: getattr(module, kind)(hidden_layer_sizes=2, early_stopping=True, max_iter=2, random_state=0)
    model = make(sklearn.neural_network)
    model._score = lambda X, y, sample_weight: seen.append(X) or 0.5
    model.fit(X, y, np.ones(150))
    weight = np.where((X[:, np.newaxis] == seen[0]).all(axis=2).any(axis=1), 0.0, 1.0)
    assert 0 < weight.sum() < 150
    for module in (sklearn.neural_network, fastnn.sklearn):
        with pytest.raises(ValueError, match="Sample weights must contain at least one non-zero number"):
            make(module).fit(X, y, weight)


def test_a_score_predicts_once(iris):
    """Of labels that are not of the classes' dtype, too: it would warn of missing names a second time."""
    frame = pd.DataFrame(iris[0], columns=list("abcd"))
    model = MLPClassifier(max_iter=2, random_state=0).fit(frame, iris[1])
    for labels in (iris[1], iris[1].astype(np.int8), iris[1].astype(float)):
        with pytest.warns(UserWarning, match="X does not have valid feature names") as warned:
            score = model.score(iris[0], labels)
        assert len(warned) == 1
        assert score == accuracy_score(iris[1], model.predict(frame))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@BOTH
def test_dtypes_are_kept(Estimator, dtype, digits):
    X = digits[0].astype(dtype)
    model = Estimator(hidden_layer_sizes=(5, 3), random_state=1, max_iter=20).fit(X, digits[1])
    assert {array.dtype for array in model.coefs_ + model.intercepts_} == {np.dtype(dtype)}
    result = model.predict_proba(X) if Estimator is MLPClassifier else model.predict(X)
    assert result.dtype == dtype


def test_a_linear_poisson_network_is_the_generalised_linear_model(rng):
    X = np.linspace(0, 1, 100)[:, np.newaxis]
    y = rng.poisson(np.exp(X[:, 0] + 1))
    expected = PoissonRegressor(alpha=0, tol=1e-7).fit(X, y).predict(X)
    parameters = {"hidden_layer_sizes": 1, "activation": "identity", "alpha": 0, "solver": "lbfgs", "tol": 1e-7}
    np.testing.assert_allclose(
        MLPRegressor("poisson", random_state=1, **parameters).fit(X, y).predict(X), expected, 1e-4
    )
    assert not np.allclose(MLPRegressor(random_state=1, **parameters).fit(X, y).predict(X), expected, rtol=1e-4)


def test_weights_of_one_are_no_weights():
    X, y = datasets.make_regression(n_samples=100, n_features=2, random_state=42)
    parameters = {"hidden_layer_sizes": 10, "early_stopping": True, "learning_rate_init": 0.01, "batch_size": 10}
    fits = [
        MLPRegressor(random_state=42, max_iter=20, **parameters).fit(X, y, sample_weight=w) for w in (None, y * 0 + 1)
    ]
    np.testing.assert_allclose(fits[0].predict(X), fits[1].predict(X), rtol=1e-10)


def test_a_batch_without_any_weight_is_an_error(iris):
    weight = np.ones(150)
    weight[100:] = 0
    with pytest.raises(ZeroDivisionError, match="sum to zero"):
        MLPClassifier(batch_size=50, shuffle=False).fit(*iris, sample_weight=weight)
    weight[:] = np.tile([1, -1], 75)
    with pytest.raises(ZeroDivisionError, match="sum to zero"):
        MLPClassifier(solver="lbfgs").fit(*iris, sample_weight=weight)


# ---- Around a fit


def test_verbose_tells_each_epoch(capsys, iris):
    MLPClassifier(max_iter=2, verbose=True, early_stopping=True, random_state=0).fit(*iris)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["Iteration", "Validation"] * 2
    assert lines[0].startswith("Iteration 1, loss = 0.9")


def test_a_batch_larger_than_the_data_is_cut_with_a_warning(iris):
    with pytest.warns(UserWarning, match="Got `batch_size` 1000, larger than the 150 training samples"):
        model = MLPClassifier(batch_size=1000, max_iter=3, random_state=0).fit(*iris)
    same = MLPClassifier(batch_size=150, max_iter=3, random_state=0).fit(*iris)
    assert np.array_equal(model.coefs_[0], same.coefs_[0])


def test_an_interrupt_keeps_what_is_done(iris, monkeypatch):
    model = MLPClassifier(max_iter=50, random_state=0, early_stopping=True)
    real, calls = fastnn.estimator_training._epoch, []

    def epoch(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(fastnn.estimator_training, "_epoch", epoch)
    with pytest.warns(UserWarning, match="interrupted"):
        model.fit(*iris)
    assert model.n_iter_ == 3
    assert model.predict(iris[0]).shape == (150,)


def test_a_fit_in_many_calls_is_the_fit_in_one(digits, monkeypatch):
    parameters = {"max_iter": 3, "random_state": 0, "batch_size": 32}
    whole = MLPClassifier(**parameters).fit(*digits)
    monkeypatch.setattr(fastnn.estimator_training, "CALL_WORK", 1)
    parts = MLPClassifier(**parameters).fit(*digits)
    assert all(map(np.array_equal, whole.coefs_, parts.coefs_))
    assert whole.loss_curve_ == parts.loss_curve_


@pytest.mark.parametrize("activation", ["leaky_relu", "elu", "selu", "softplus", "gelu", "silu", "hardswish"])
def test_activations_beyond_scikit_learns(activation, iris):
    assert (
        MLPClassifier(20, activation, max_iter=100, learning_rate_init=0.02, random_state=0).fit(*iris).score(*iris)
        > 0.95
    )


def test_an_activation_for_each_layer(iris):
    X, y = iris
    model = MLPClassifier((8, 6), ["gelu", "logistic"], max_iter=3, random_state=0).fit(X, y)
    net = fastnn.MLP([4, 8, 6, 3], ["gelu", "sigmoid"], "softmax", dtype="float64")
    for layer, coef, intercept in zip(net.layers, model.coefs_, model.intercepts_, strict=True):
        layer.weight, layer.bias = coef, intercept
    np.testing.assert_allclose(model.predict_proba(X), net.predict(X), rtol=1e-12)
    for wrong in (["gelu"], ["gelu", "sine"], ["gelu", "softmax"]):
        with pytest.raises(ValueError, match="activation: expected a name, or one for each of 2 hidden layers"):
            MLPClassifier((8, 6), wrong).fit(X, y)


# ---- Beyond scikit-learn's


def test_class_weight_multiplies_sample_weight(iris):
    X, y = iris[0][:120], np.array(["a", "b", "c"])[iris[1][:120]]
    weight = np.linspace(0.5, 1.5, 120)
    parameters = {"max_iter": 5, "random_state": 0}
    same = lambda a, b: all(map(np.array_equal, a.coefs_, b.coefs_))

    by_class = np.where(y == "c", 3.0, 1.0)
    model = MLPClassifier(class_weight={"c": 3.0}, **parameters)
    assert same(model.fit(X, y), MLPClassifier(**parameters).fit(X, y, by_class))
    assert same(model.fit(X, y, weight), MLPClassifier(**parameters).fit(X, y, weight * by_class))
    assert same(
        MLPClassifier(class_weight="balanced", **parameters).fit(X, y),
        MLPClassifier(**parameters).fit(X, y, np.where(y == "c", 120 / 3 / 20, 120 / 3 / 50)),
    )
    assert not same(model, MLPClassifier(**parameters).fit(X, y))
    model.partial_fit(X, y)
    with pytest.raises(ValueError, match="class_weight: 'balanced' needs all of the data"):
        MLPClassifier(class_weight="balanced").partial_fit(X, y, classes=np.unique(y))
    with pytest.raises(ValueError, match="class_weight"):
        MLPClassifier(class_weight="fair").fit(X, y)


def test_class_weight_sees_what_scikit_learn_sees(iris):
    """Whatever becomes an array is one, and what is wrong with y is said in scikit-learn's words."""
    X, y = iris
    model = MLPClassifier(class_weight="balanced", max_iter=3, random_state=0)
    expected = model.fit(X, y).predict_proba(X)
    for same in (list(y), pd.Series(y, index=y + 7), _NotAnArray(y)):
        assert np.array_equal(model.fit(X, same).predict_proba(X), expected)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        model.fit(X, None)
    labels = np.c_[y == 0, y > 0].astype(int)
    outputs = [model.fit(X, each).predict_proba(X) for each in (labels, scipy.sparse.csr_array(labels))]
    np.testing.assert_array_equal(*outputs)


@BOTH
def test_a_validation_set_of_ones_own(Estimator, iris):
    X, y = iris
    X_val, y_val, weight = X[::7], y[::7], np.linspace(0, 1, len(X[::7]))
    model = Estimator(early_stopping=True, max_iter=6, random_state=0, learning_rate_init=0.01, n_iter_no_change=9)
    model.fit(X, y, X_val=X_val, y_val=y_val, sample_weight_val=weight)
    # All rows train, as in a fit without early stopping, and the best parameters on the set are the ones that stay.
    plain = Estimator(max_iter=6, random_state=0, learning_rate_init=0.01).fit(X, y)
    assert model.t_ == plain.t_ == 6 * 150
    assert model.loss_curve_ == plain.loss_curve_
    assert model.best_validation_score_ == model.score(X_val, y_val, weight) == max(model.validation_scores_)

    for arguments, message in [
        ({"X_val": X_val}, "X_val, y_val: expected both"),
        ({"X_val": X_val[:, :2], "y_val": y_val}, "2 features"),
        ({"X_val": X_val, "y_val": y_val[1:]}, "inconsistent numbers of samples"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, **arguments)
    with pytest.raises(ValueError, match="y_val: expected classes of y"):
        MLPClassifier(early_stopping=True).fit(X, y, X_val=X_val, y_val=y_val + 1)


def test_early_stopping_by_a_scorer_of_ones_own(iris):
    X, y = pd.DataFrame(iris[0], columns=["a", "b", "c", "d"]), iris[1]
    parameters = {"early_stopping": True, "max_iter": 8, "random_state": 0, "validation_fraction": 0.3}
    model = MLPClassifier(scoring="neg_log_loss", **parameters).fit(X, y)
    assert (np.diff(model.validation_scores_) > 0).all()
    assert -2 < model.validation_scores_[0] < 0
    seen = []

    def scorer(estimator, X, y):
        seen.append((X.shape, y.shape))
        return -len(seen)

    model = MLPClassifier(scoring=scorer, **parameters).fit(X, y)
    assert model.validation_scores_ == [-1, -2, -3, -4, -5, -6, -7, -8]
    assert set(seen) == {((45, 4), (45,))}
    first = MLPClassifier(**parameters | {"max_iter": 1}).fit(X, y)
    assert np.array_equal(model.coefs_[0], first.coefs_[0])
    with pytest.raises(ValueError, match="scoring"):
        MLPClassifier(scoring="beauty").fit(X, y)


def test_bad_parameters_are_scikit_learns_errors(iris):
    for parameters in ({"activation": "sine"}, {"alpha": -1}, {"solver": "newton"}, {"hidden_layer_sizes": (3, 0)}):
        with pytest.raises(ValueError, match=next(iter(parameters))):
            MLPClassifier(**parameters).fit(*iris)
    model = MLPClassifier(max_iter=2).fit(*iris)
    for X, message in [
        (iris[0][:, :3], "3 features"),
        (np.where(iris[0] > 0, np.nan, 0), "NaN"),
        (np.full((2, 4), np.inf), "infinity"),
        (iris[0][0], "Expected 2D array"),
        (np.empty((0, 4)), "0 sample"),
    ]:
        with pytest.raises(ValueError, match=message):
            model.predict(X)
    # The sum of these overflows; they are finite all the same.
    assert model.predict(np.full((2, 4), 1e308)).shape == (2,)


def test_without_scikit_learn_the_error_names_the_extra():
    code = "import sys; sys.modules['sklearn'] = None; import fastnn; fastnn.sklearn"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    told = 'fastnn.sklearn needs the extra "sklearn": pip install "scikit-learn>=1.9,<1.10" "scipy>=1.12"'
    assert f"ImportError: {told}" in result.stderr


def test_other_inner_workings_of_scikit_learn_are_an_error():
    code = (
        "import sklearn.neural_network as n; n.MLPClassifier._backprop = lambda self, X, y: None; import fastnn.sklearn"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 1
    assert "has other inner workings than the 1.9 that this version is made for" in result.stderr
