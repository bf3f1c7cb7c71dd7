"""Cross-validated scores over seeds beside scikit-learn's, and the command that tables them."""

import os
import pathlib
import sys
import warnings

import numpy as np
import pytest
from sklearn import datasets, neural_network
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import fastnn

sys.path.append(str(pathlib.Path(__file__).parent.parent / "asv_bench"))
import sklearn_scores

FULL = os.environ.get("FASTNN_FULL") == "1"

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize("solver", sklearn_scores.SOLVERS)
@pytest.mark.parametrize("name", sklearn_scores.DATASETS)
def test_scores_are_at_least_scikit_learns(name, solver):
    """Within a standard error of scikit-learn's mean or better."""
    parameters = {"max_iter": 200 if FULL else 25, "hidden_layer_sizes": (100,) if FULL else (30,)}
    theirs, ours, _ = sklearn_scores.scores(name, solver, 20 if FULL else 3, 3, **parameters)
    assert ours.mean() >= theirs.mean() - sklearn_scores.standard_error(theirs)


# What the command silences is to be silenced by it, and not by this file.
@pytest.mark.filterwarnings("error")
def test_the_command_renews_the_table_of_a_page(tmp_path, monkeypatch, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- sklearn_scores.py -->\nold\n<!-- end of sklearn_scores.py -->\nafter\n")
    arguments = [
        "--datasets",
        "iris",
        "--solvers",
        "lbfgs,sgd",
        "--seeds",
        "2",
        "--folds",
        "3",
        "--max-iter",
        "30",
        "--markdown",
    ]
    monkeypatch.setattr(sys, "argv", ["sklearn_scores.py", *arguments, str(page)])
    sklearn_scores.main()
    before, begin, heading, _, heads, rule, *rows, end, after = page.read_text().splitlines()
    assert [before, after] == ["before", "after"]
    assert [begin, end] == ["<!-- sklearn_scores.py -->", "<!-- end of sklearn_scores.py -->"]
    assert heading.endswith("2 seeds, 3 folds, max_iter=30")
    assert f"fastnn {fastnn.__version__}" in heading
    assert heads.count("|") == rule.count("|") == rows[0].count("|")
    assert capsys.readouterr().out.splitlines() == [heading, "", heads, rule, *rows]

    X, y = datasets.load_iris(return_X_y=True)
    for row, solver in zip(rows, ["lbfgs", "sgd"], strict=True):
        name, used, theirs, ours, difference, within, converged = row.strip("| ").split(" | ")
        assert (name, used) == ("iris", solver)
        means = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            for seed in range(2):
                model = neural_network.MLPClassifier(solver=solver, max_iter=30, random_state=seed)
                split = StratifiedKFold(3, shuffle=True, random_state=0)
                means.append(cross_val_score(make_pipeline(StandardScaler(), model), X, y, cv=split).mean())
        mean, error = map(float, theirs.split(" ± "))
        assert mean == pytest.approx(np.mean(means), abs=6e-5)
        assert error == pytest.approx(abs(means[0] - means[1]) / 2, abs=6e-5)
        assert float(difference) == pytest.approx(float(ours.split()[0]) - mean, abs=2e-4)
        assert within == ("yes" if abs(float(difference)) <= abs(means[0] - means[1]) / 2 else "no")
        # lbfgs ends before 30 iterations in some fits, sgd in none.
        assert (converged == "0%") == (solver == "sgd")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--seeds 1", "--seeds: expected at least 2, for a standard error, got 1"),
        (
            "--datasets iris,mnist",
            "--datasets: expected some of digits, breast_cancer, wine, iris, diabetes, got mnist",
        ),
        ("--solvers newton", "--solvers: expected some of adam, sgd, lbfgs, got newton"),
    ],
)
def test_the_command_says_what_it_does_not_know(arguments, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["sklearn_scores.py", *arguments.split()])
    with pytest.raises(SystemExit):
        sklearn_scores.main()
    assert message in capsys.readouterr().err
