"""Data frames of pandas and polars, through models and estimators."""

import datetime

import numpy as np
import pandas as pd
import pytest

import fastnn
from fastnn.sklearn import MLPClassifier, MLPRegressor

A = np.random.default_rng(0).standard_normal((40, 3))
LABELS = (A[:, 0] > 0).astype(int)
NAMES = ["age", "height", "weight"]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=["pandas", "polars"])
def library(request):
    return pytest.importorskip(request.param, reason=f"{request.param} is not installed")


def frame(library, array=A, names=NAMES):
    return library.DataFrame({name: array[:, i] for i, name in enumerate(names)})


def test_models_take_frames(library):
    X, y, weight = frame(library), library.Series(LABELS), library.Series(np.linspace(1, 2, 40))
    net = fastnn.MLP([3, 4, 1], dtype="float64", seed=0)
    assert net.predict(X).tobytes() == net.predict(A).tobytes()
    assert net.predict(library.Series([1.0, 2.0, 3.0])).shape == (1,)
    expected = net.loss_and_gradient(A, LABELS, "binary_cross_entropy", np.linspace(1, 2, 40))
    value, gradient = net.loss_and_gradient(X, y, "binary_cross_entropy", weight)
    assert value == expected[0]
    assert gradient.tobytes() == expected[1].tobytes()
    twin = net.copy()
    history = net.fit(X, y, epochs=2, seed=0, sample_weight=weight, validation_data=(X, y))
    same = twin.fit(A, LABELS, epochs=2, seed=0, sample_weight=np.linspace(1, 2, 40), validation_data=(A, LABELS))
    assert history.metrics["val_loss"] == same.metrics["val_loss"]
    assert net.parameters.tobytes() == twin.parameters.tobytes()
    targets = frame(library, A[:, :2], ["a", "b"])
    assert fastnn.MLP([3, 2], seed=0).loss_and_gradient(X, targets)[0] > 0


def test_columns_of_different_kinds_of_numbers(library):
    kinds = {"a": A[:, 0].astype(np.float32), "b": np.arange(40), "c": A[:, 1] > 0}
    net = fastnn.MLP([3, 1], dtype="float64", seed=0)
    expected = net.predict(np.stack([column.astype(np.float64) for column in kinds.values()], axis=1))
    np.testing.assert_array_equal(net.predict(library.DataFrame(kinds)), expected)


def test_times_are_no_numbers(library):
    times = [datetime.datetime(2024, 1, 1), datetime.datetime(2024, 1, 2)]
    kinds = {"when": times, "long": [times[1] - times[0]] * 2}
    net = fastnn.MLP([2, 1], seed=0)
    for name, values in kinds.items():
        with pytest.raises(TypeError, match=f"x: expected columns of real numbers, got column '{name}' of "):
            net.predict(library.DataFrame({name: values, "v": [1.0, 2.0]}))


def test_a_missing_number_is_nan(library):
    X = library.DataFrame({"a": [None, 1, 2], "b": [1, 2, 3]})
    if library is pd:
        X = X.convert_dtypes()
        assert str(X["a"].dtype) == "Int64"
    out = fastnn.MLP([2, 1], seed=0).predict(X)
    assert np.isnan(out[:, 0]).tolist() == [True, False, False]
    with pytest.raises(ValueError, match="NaN"):
        MLPRegressor(max_iter=1).fit(X, [1, 2, 3])


def test_columns_without_numbers_are_named(library):
    X = library.DataFrame({"age": [1.0, 2.0], "city": ["Rome", "Bonn"]})
    net = fastnn.MLP([2, 1], seed=0)
    with pytest.raises(TypeError, match="x: expected columns of real numbers, got column 'city' of "):
        net.predict(X)
    with pytest.raises(TypeError, match="y: expected columns of real numbers, got column 'city' of "):
        net.fit([[1, 2], [3, 4]], X)
    # Numbers written as words are words.
    with pytest.raises(TypeError, match="got column 'age' of "):
        net.predict(library.DataFrame({"age": ["1", "2"], "height": [1.0, 2.0]}))
    with pytest.raises(TypeError, match="y: expected an array of real numbers"):
        net.fit([[1, 2], [3, 4]], library.Series(["Rome", "Bonn"]))
    with pytest.raises(ValueError, match=r"x: expected shape \(\*, 2\), got \(40, 3\)"):
        net.predict(frame(library))


def test_a_lazy_frame_says_what_to_do():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    with pytest.raises(TypeError, match="x: expected an array of real numbers, got a LazyFrame; collect it first"):
        fastnn.MLP([3, 1], seed=0).predict(frame(polars).lazy())


def test_labels_of_pandas_own_kind():
    labels = pd.Series(LABELS).astype("Int64")
    net = fastnn.MLP([3, 2], dtype="float64", seed=0)
    expected = net.loss_and_gradient(A, LABELS, "softmax_cross_entropy")[0]
    assert net.loss_and_gradient(A, labels, "softmax_cross_entropy")[0] == expected


@pytest.mark.parametrize("Estimator", [MLPClassifier, MLPRegressor], ids=["classifier", "regressor"])
def test_estimators_check_the_names(Estimator, library):
    X, y = frame(library), library.Series(LABELS)
    model = Estimator(max_iter=3, random_state=0, early_stopping=True).fit(X, y, X_val=X, y_val=y)
    assert model.feature_names_in_.tolist() == NAMES
    plain = Estimator(max_iter=3, random_state=0, early_stopping=True).fit(A, LABELS, X_val=A, y_val=LABELS)
    np.testing.assert_array_equal(model.predict(X), plain.predict(A))
    assert model.validation_loss_curve_ == plain.validation_loss_curve_
    swapped = X[["height", "age", "weight"]]
    for call in (
        lambda: model.predict(swapped),
        lambda: model.partial_fit(swapped, y, X_val=X, y_val=y),
        lambda: Estimator(max_iter=1).fit(X, y, X_val=swapped, y_val=y),
    ):
        with pytest.raises(ValueError, match="feature names should match"):
            call()
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(A)
