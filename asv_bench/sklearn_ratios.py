"""fastnn.sklearn against scikit-learn: whole fits and predictions of the same estimators on the same data.

    python asv_bench/sklearn_ratios.py [--markdown docs/migrating-from-scikit-learn.md]

Both run in turns, each after a rest in which the other's threads go to sleep, and medians are compared. Before the
turns each fits once, uncounted: what fastnn compiles then, if its cache is empty, is printed beside the table, measured
in a process of its own with an empty cache. Every row checks that both came to the same result. float64, as
scikit-learn's users have it, unless the row says otherwise.
"""

import argparse
import datetime
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time
import warnings

import numpy as np
from marked import replace, versions
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_info

import fastnn.sklearn
from fastnn.info import cpu_model

REST = 0.15
TURN = 0.05


def digits():
    X, y = datasets.load_digits(return_X_y=True)
    return X / 16, y


def breast_cancer():
    X, y = datasets.load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(X), y


def diabetes():
    return datasets.load_diabetes(return_X_y=True)


def synthetic(regression=False, features=50):
    """100,000 rows; with `regression` of 8 features, as those of the California housing data."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100_000, features))
    score = np.sin(X[:, :4] @ rng.standard_normal((4, 10))) + 0.1 * rng.standard_normal((100_000, 10))
    return X, score[:, 0] if regression else score.argmax(axis=1)


# name, data, kind, parameters
ROWS = (
    ("digits, default network", digits, "MLPClassifier", {}),
    ("digits, default network, float32", lambda: as_float32(digits()), "MLPClassifier", {}),
    ("breast_cancer, default network", breast_cancer, "MLPClassifier", {}),
    ("breast_cancer, sgd, early stopping", breast_cancer, "MLPClassifier", {"solver": "sgd", "early_stopping": True}),
    ("breast_cancer, lbfgs", breast_cancer, "MLPClassifier", {"solver": "lbfgs", "max_iter": 40, "alpha": 1.0}),
    ("diabetes, default regressor", diabetes, "MLPRegressor", {}),
    (
        "100,000 x 50, (256, 128), batch 200, 2 epochs",
        synthetic,
        "MLPClassifier",
        {"hidden_layer_sizes": (256, 128), "batch_size": 200, "max_iter": 2},
    ),
    (
        "100,000 x 50, (256, 128), batch 200, 2 epochs, float32",
        lambda: as_float32(synthetic()),
        "MLPClassifier",
        {"hidden_layer_sizes": (256, 128), "batch_size": 200, "max_iter": 2},
    ),
    (
        "100,000 x 8, default regressor, 5 epochs",
        lambda: synthetic(True, 8),
        "MLPRegressor",
        {"max_iter": 5},
    ),
)


def as_float32(data):
    return data[0].astype(np.float32), data[1]


def seconds(function):
    """Seconds of one call, over enough calls to last a turn."""
    time.sleep(REST)
    start = time.perf_counter()
    function()
    once = time.perf_counter() - start
    if once > TURN:
        return once
    count = int(TURN / once) + 1
    start = time.perf_counter()
    for _ in range(count):
        function()
    return (time.perf_counter() - start) / count


def interleaved(functions, rounds):
    times = [[seconds(function) for function in functions] for _ in range(rounds)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def measure(data, kind, parameters, rounds):
    """(fit ours, fit theirs, predict ours, predict theirs) in seconds."""
    X, y = data()
    models = [getattr(module, kind)(random_state=0, **parameters) for module in (fastnn.sklearn, neural_network)]
    for model in models:
        model.fit(X, y)
    single = X.dtype == np.float32
    np.testing.assert_allclose(models[0].loss_, models[1].loss_, rtol=1e-2 if single else 1e-6)
    predictions = [getattr(model, "predict_proba", model.predict) for model in models]
    # A thousand updates in float32 amplify rounding: single predictions part, though on average they do not.
    error = np.abs(predictions[0](X) - predictions[1](X))
    assert (error.mean() if single else error.max()) < (0.05 if single else 1e-5), error.max()
    fits = interleaved([lambda model=model: model.fit(X, y) for model in models], rounds)
    return *fits, *interleaved([lambda predict=predict: predict(X) for predict in predictions], rounds)


def compile_seconds():
    """How much longer the first fit and prediction last in a process without a cache than the second ones."""
    code = (
        "import time, warnings, numpy as np, fastnn.sklearn as s; warnings.simplefilter('ignore')\n"
        "x, y = np.linspace(0, 1, 400).reshape(100, 4), np.arange(100) % 3\n"
        "def run():\n"
        "    begin = time.perf_counter()\n"
        "    s.MLPClassifier(max_iter=2).fit(x, y).predict_proba(x)\n"
        "    return time.perf_counter() - begin\n"
        "print(run() - run())"
    )
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        cold, warm = (
            float(subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True).stdout)
            for _ in range(2)
        )
    return cold, warm


def table(rounds, rows):
    cold, warm = compile_seconds()
    blas = max(info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas")
    lines = [
        f"{cpu_model()}, {fastnn.get_num_threads()} threads of fastnn, {blas} of BLAS, {datetime.date.today()}; "
        f"{versions('fastnn', 'numba', 'numpy', 'scipy', 'scikit-learn')}. Not in these times: compiling at the first "
        f"fit on a machine, {cold:.0f} s, and loading what was compiled at the first fit of a process, {warm:.1f} s.",
        "",
        "| work | fit, scikit-learn | fit, fastnn | ratio | predict, scikit-learn | predict, fastnn | ratio |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, data, kind, parameters in rows:
        ours, theirs, our_prediction, their_prediction = measure(data, kind, parameters, rounds)
        lines.append(
            f"| {name} | {theirs * 1e3:,.1f} ms | {ours * 1e3:,.1f} ms | {theirs / ours:.1f} "
            f"| {their_prediction * 1e3:,.2f} ms | {our_prediction * 1e3:,.2f} ms "
            f"| {their_prediction / our_prediction:.1f} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", default="", help="a regular expression that the rows' names match")
    parser.add_argument("--markdown", type=pathlib.Path, help="a page whose table is renewed")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    text = table(arguments.rounds, [row for row in ROWS if re.search(arguments.rows, row[0])])
    print("\n" + text)
    if arguments.markdown is not None:
        replace(arguments.markdown, "sklearn_ratios.py", text)


if __name__ == "__main__":
    main()
