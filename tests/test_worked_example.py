"""An introductory article's worked example: its errata proved in NumPy alone, its correction, the names in the docs."""

import importlib.util
import pathlib
import re

import numpy as np
import pytest

import fastnn.kernels
from fastnn.kernels import Activation, Loss, reference
from fastnn.kernels.catalog import CATALOG
from fastnn.kernels.network import make_table

ROOT = pathlib.Path(__file__).parent.parent
MATHEMATICS = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
LOSSES = ["binary_cross_entropy", "mse"]


def load_example():
    spec = importlib.util.spec_from_file_location("worked_example", ROOT / "examples" / "worked_example.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load_example()


# ---- The example again, in plain NumPy: samples are rows, a theta has a row for each neuron and its bias first

X = np.array([[0.5, 0.1, 0.2], [0.3, 0.4, 0.6], [0.7, 0.8, 0.9]])
Y = np.array([[0.0], [1.0], [1.0]])


def thetas(hidden=4, seed=7):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(hidden, 4)), rng.normal(size=(1, hidden + 1))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def with_ones(a):
    return np.hstack([np.ones((len(a), 1)), a])


def logits(theta1, theta2):
    return with_ones(sigmoid(with_ones(X) @ theta1.T)) @ theta2.T


def cross_entropy(z3):
    """Summed over the samples."""
    a3 = sigmoid(z3)
    return -(Y * np.log(a3) + (1 - Y) * np.log(1 - a3)).sum()


def half_squared_error(z3):
    """Summed over the samples."""
    return ((sigmoid(z3) - Y) ** 2).sum() / 2


# The example's losses are means; its squared error has no half.
LITERAL_LOSS = {"binary_cross_entropy": lambda z: cross_entropy(z) / 3, "mse": lambda z: half_squared_error(z) * 2 / 3}


def article_gradients(theta1, theta2):
    """a^T delta of both layers with delta3 = a3 - y: the article's formulas, on thetas of the right shapes."""
    x, a2 = with_ones(X), with_ones(sigmoid(with_ones(X) @ theta1.T))
    delta3 = sigmoid(a2 @ theta2.T) - Y
    delta2 = (delta3 @ theta2 * a2 * (1 - a2))[:, 1:]
    return x.T @ delta2, a2.T @ delta3


def central_difference(function, x, step=1e-5):
    derivative = np.empty_like(x)
    for i in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[i] += step
        below[i] -= step
        derivative[i] = (function(above) - function(below)) / (above[i] - below[i])
    return derivative


def assert_near_difference(actual, difference):
    # Truncation is step^2 = 1e-10 times a third derivative below 1, rounding eps / step = 2e-11 times a loss near 1.
    np.testing.assert_allclose(actual, difference, rtol=0, atol=1e-9)


# ---- The four errata


def test_erratum_a_the_printed_shapes_do_not_fit():
    theta1, theta2 = np.ones((4, 3)), np.ones((2, 4))
    with pytest.raises(ValueError, match="matmul"):
        with_ones(X) @ theta1.T
    a2 = with_ones(np.ones((3, len(theta1))))
    with pytest.raises(ValueError, match="matmul"):
        a2 @ theta2.T
    # Read the other way round, theta1 (inputs + bias, neurons) fits, and theta2 then does not.
    a2 = with_ones(sigmoid(with_ones(X) @ theta1))
    with pytest.raises(ValueError, match="matmul"):
        a2 @ theta2
    for hidden in (1, 2, 4, 7):
        assert logits(*thetas(hidden)).shape == (3, 1)


def test_erratum_b_a3_minus_y_is_the_gradient_of_the_cross_entropy():
    z3 = logits(*thetas())
    a3 = sigmoid(z3)
    slope = a3 * (1 - a3)
    by_entropy, by_square = central_difference(cross_entropy, z3), central_difference(half_squared_error, z3)
    assert_near_difference(a3 - Y, by_entropy)
    assert_near_difference((a3 - Y) * slope, by_square)
    # The two differ by sigmoid'(z3), which is nowhere above 1/4.
    np.testing.assert_allclose(by_square / by_entropy, slope, rtol=1e-7)
    assert (np.abs(a3 - Y) >= 4 * np.abs(by_square)).all()


def test_erratum_c_the_gradients_are_transposed():
    for hidden in (2, 4):
        theta1, theta2 = thetas(hidden)
        printed1, printed2 = article_gradients(theta1, theta2)
        by_theta1 = central_difference(lambda theta, other=theta2: cross_entropy(logits(theta, other)), theta1)
        by_theta2 = central_difference(lambda theta, other=theta1: cross_entropy(logits(other, theta)), theta2)
        assert printed1.shape == theta1.shape[::-1]
        assert printed2.shape == theta2.shape[::-1]
        assert_near_difference(printed1.T, by_theta1)
        assert_near_difference(printed2.T, by_theta2)
    # With four hidden neurons both mistakes pass without an error: a square gradient, and a difference that broadcasts.
    assert np.abs(printed1 - by_theta1).max() > 0.05
    assert (theta2 - printed2).shape == (5, 5)


def test_erratum_d_a_plus_sign_climbs():
    for sign in (-1, 1):
        theta1, theta2 = thetas()
        losses = [cross_entropy(logits(theta1, theta2))]
        for _ in range(100):
            gradient1, gradient2 = article_gradients(theta1, theta2)
            theta1, theta2 = theta1 + sign * 0.1 * gradient1.T, theta2 + sign * 0.1 * gradient2.T
            losses.append(cross_entropy(logits(theta1, theta2)))
        assert (sign * np.diff(losses) > 0).all()


# ---- The corrected example


@pytest.mark.parametrize("hidden", [1, 4, 5])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_central_differences(loss, hidden):
    theta1, theta2 = thetas(hidden)
    gradient1, gradient2 = example.back_propagation(X, Y[:, 0], theta1, theta2, loss)
    literal = LITERAL_LOSS[loss]
    assert gradient1.shape == theta1.shape
    assert gradient2.shape == theta2.shape
    assert_near_difference(gradient1, central_difference(lambda theta: literal(logits(theta, theta2)), theta1))
    assert_near_difference(gradient2, central_difference(lambda theta: literal(logits(theta1, theta)), theta2))
    assert example.loss_of(theta1, theta2, loss) == pytest.approx(literal(logits(theta1, theta2)), rel=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_reference_network(loss):
    theta1, theta2 = thetas()
    output = Activation.IDENTITY if loss == "binary_cross_entropy" else Activation.SIGMOID
    table, count = make_table([3, 4, 1], [Activation.SIGMOID, output])
    flat = lambda a, b: np.concatenate([a[:, 1:].T.ravel(), a[:, 0], b[:, 1:].T.ravel(), b[:, 0]])
    expected = np.full(count, np.nan)
    arguments = table, flat(theta1, theta2), X, Y, np.empty(0), Loss[loss.upper()], expected, np.empty(0)
    value = reference.loss_and_gradient(*arguments)
    actual = flat(*example.back_propagation(X, Y[:, 0], theta1, theta2, loss))
    # Sums of at most five numbers of order 1, through slopes below 1.
    np.testing.assert_allclose(actual, expected, rtol=0, atol=16 * np.finfo(float).eps)
    assert example.loss_of(theta1, theta2, loss) == pytest.approx(value, rel=1e-14)


def test_the_thetas_passed_in_stay_as_they_are():
    theta1, theta2 = thetas()
    before = theta1.copy(), theta2.copy()
    example.descend(theta1, theta2, 0.5, 3)
    np.testing.assert_array_equal(theta1, before[0])
    np.testing.assert_array_equal(theta2, before[1])


def test_main_trains_by_hand_and_as_mlp_to_the_same_predictions(capsys):
    example.main([])
    printed = capsys.readouterr().out
    losses = [float(number) for number in re.findall(r"loss (\S+)", printed)]
    assert len(losses) == 6
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.02 < 0.5 < losses[0]
    by_hand, as_mlp = [
        [float(number) for number in row.split()] for row in re.findall(r"predictions \[(.*)\]", printed)[-2:]
    ]
    assert by_hand == as_mlp
    assert [round(a) for a in by_hand] == [0, 1, 1]
    assert "agree to 12 digits: True" in printed


def test_the_documented_proof_is_what_the_command_prints(capsys):
    example.main(["--errata"])
    assert f"```text\n{capsys.readouterr().out}```" in MATHEMATICS


# ---- The tables of docs/mathematics.md


def table_rows():
    """Every row of every table with a kernel, a reference and a test column: dicts of the names in backticks there."""
    rows, header = [], None
    for line in MATHEMATICS.splitlines():
        if not line.startswith("|"):
            header = None
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if header is None:
            header = cells
            continue
        assert len(cells) == len(header), f"a cell holds a bar: {line}"
        if not set(line) <= set("|-"):
            columns = dict(zip(header, cells, strict=True))
            rows.append({key: re.findall(r"`([^`]+)`", columns[key]) for key in ("kernel", "reference", "test")})
    return rows


TABLE_ROWS = table_rows()


def resolve(module, dotted):
    for part in dotted.split("."):
        module = getattr(module, part)
    return module


def test_every_row_names_a_kernel_a_reference_and_a_test():
    assert len(TABLE_ROWS) > 40
    for row in TABLE_ROWS:
        assert all(row.values()), row


@pytest.mark.parametrize(("column", "module"), [("kernel", fastnn.kernels), ("reference", reference)])
def test_every_function_in_the_tables_exists(column, module):
    for name in {name for row in TABLE_ROWS for name in row[column]}:
        assert callable(resolve(module, name)), name


def test_every_test_in_the_tables_exists():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("**/test_*.py")]
    defined = {name for source in sources for name in re.findall(r"^def (test_\w+)", source, re.MULTILINE)}
    assert {name for row in TABLE_ROWS for name in row["test"]} - defined == set()


def test_the_tables_hold_every_kernel_of_the_catalog():
    compared = {name for row in TABLE_ROWS for name in row["kernel"] if "test_kernel_matches_reference" in row["test"]}
    assert compared == {row.name for row in CATALOG}
