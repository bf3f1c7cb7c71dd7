"""fastnn.sklearn against scikit-learn: mean cross-validated scores of the same estimators over seeds.

    python asv_bench/sklearn_scores.py [--markdown docs/migrating-from-scikit-learn.md]

Accuracy of a classifier, R^2 of a regressor, each the mean over folds that are the same for all seeds; a seed draws the
initial weights and the order of the rows. Everything but `solver`, `random_state` and `max_iter` is the default.
Features of different sizes come through a StandardScaler in a pipeline with the estimator; those of digits, all of one
size, are divided by 16. The target of diabetes is brought to mean 0 and deviation 1: no R^2 depends on that, but
default learning rates are made for it. The standard error is that of scikit-learn's mean over seeds; "converged" is the
share of fits, of both libraries, that ended before `max_iter`.
"""

import argparse
import datetime
import pathlib
import warnings

import numpy as np
from marked import replace, versions
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import KFold, StratifiedKFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn.sklearn
from fastnn.info import cpu_model

DATASETS = "digits", "breast_cancer", "wine", "iris", "diabetes"
SOLVERS = "adam", "sgd", "lbfgs"
HEADS = "data", "solver", "scikit-learn", "fastnn", "difference", "within one standard error", "converged"


def load(name):
    X, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    if name == "digits":
        X = X / 16
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    return X, y


def scores(name, solver, seeds, folds, **parameters):
    """(scikit-learn's, fastnn's, converged): two arrays (seeds,) of means over folds, the share of fits that did."""
    X, y = load(name)
    kind = "MLPRegressor" if name == "diabetes" else "MLPClassifier"
    split = (KFold if kind == "MLPRegressor" else StratifiedKFold)(folds, shuffle=True, random_state=0)
    found, ended = [], []
    for module in (neural_network, fastnn.sklearn):
        means = []
        for seed in range(seeds):
            model = getattr(module, kind)(solver=solver, random_state=seed, **parameters)
            if name != "digits":
                model = make_pipeline(StandardScaler(), model)
            result = cross_validate(model, X, y, cv=split, return_estimator=True, error_score="raise")
            means.append(result["test_score"].mean())
            fitted = [model if name == "digits" else model[-1] for model in result["estimator"]]
            ended += [model.n_iter_ < model.max_iter for model in fitted]
        found.append(np.array(means))
    return *found, np.mean(ended)


def standard_error(values):
    return values.std(ddof=1) / np.sqrt(values.size)


def row(name, solver, theirs, ours, converged):
    """The cells of one line of the table."""
    difference = ours.mean() - theirs.mean()
    within = abs(difference) <= standard_error(theirs)
    return (
        name,
        solver,
        *(f"{each.mean():.4f} ± {standard_error(each):.4f}" for each in (theirs, ours)),
        f"{difference:+.5f}",
        "yes" if within else "no",
        f"{converged:.0%}",
    )


def line(cells):
    return f"| {' | '.join(cells)} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="at least 2")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--max-iter", type=int, default=200, help="the estimators' default is 200")
    parser.add_argument("--datasets", default=",".join(DATASETS))
    parser.add_argument("--solvers", default=",".join(SOLVERS))
    parser.add_argument("--markdown", type=pathlib.Path, help="a page whose table is renewed")
    options = parser.parse_args()
    if options.seeds < 2:
        parser.error(f"--seeds: expected at least 2, for a standard error, got {options.seeds}")
    chosen = {}
    for option, known in (("datasets", DATASETS), ("solvers", SOLVERS)):
        chosen[option] = getattr(options, option).split(",")
        if unknown := set(chosen[option]) - set(known):
            parser.error(f"--{option}: expected some of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    # Of fits that end at max_iter the table tells the share.
    warnings.simplefilter("ignore", ConvergenceWarning)
    lines = [
        f"{cpu_model()}, {datetime.date.today()}; {versions('fastnn', 'numba', 'numpy', 'scipy', 'scikit-learn')}; "
        f"{options.seeds} seeds, {options.folds} folds, max_iter={options.max_iter}",
        "",
        line(HEADS),
        line(["---", "---", "---:", "---:", "---:", "---", "---:"]),
    ]
    print("\n".join(lines))
    for name in chosen["datasets"]:
        for solver in chosen["solvers"]:
            found = scores(name, solver, options.seeds, options.folds, max_iter=options.max_iter)
            lines.append(line(row(name, solver, *found)))
            print(lines[-1], flush=True)
    if options.markdown is not None:
        replace(options.markdown, "sklearn_scores.py", "\n".join(lines))


if __name__ == "__main__":
    main()
