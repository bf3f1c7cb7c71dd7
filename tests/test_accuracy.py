"""`fastnn check --exhaustive`, in its short form: bounds hold, and what is wrong is found."""

import re

import mpmath
import numpy as np
import pytest
from conftest import FULL

from fastnn import accuracy
from fastnn.__main__ import main
from fastnn.kernels.accuracy import FINDINGS, MISPLACED, WHERE, WHERE_FLOORED, WORST, WORST_FLOORED, distances
from fastnn.kernels.codes import Activation

SHORT = [] if FULL else ["--sample", "300000"]
COUNT64 = 10**7 if FULL else 30_000
NAMES = [code.name.lower() for code in accuracy.ELEMENTWISE]


def found_in(actual, exact, floor=0.25):
    found = np.empty(FINDINGS)
    distances(np.array(actual, np.float32), np.array(exact, np.float64), floor, found)
    return found


def test_distances_count_units_in_the_last_place():
    for exact in (1.0, 1.5, 2.0**-126, 3.1e38, -0.7):
        near = np.float32(exact)
        for steps in range(4):
            found = found_in([exact, near], [exact, exact])
            step = float(np.spacing(abs(np.float32(exact))))
            expected = abs(float(near) - exact) / step
            assert found[WORST] == pytest.approx(expected, abs=1e-12)
            assert found[WHERE] == (1 if expected > found_in([exact], [exact])[WORST] else 0)
            near = np.nextafter(near, np.float32(np.inf))
            assert steps <= 4
    # Denormal results have the unit of the smallest normal ones; infinity counts as the number after the largest.
    assert found_in([2.0**-149], [0.0])[WORST] == 1
    assert found_in([0.0], [0.75 * 2.0**-149])[WORST] == 0.75
    assert found_in([np.inf], [2.0**128 - 2.0**103])[WORST] == 0.5
    assert found_in([np.inf], [1e300])[WORST] == 0
    assert found_in([np.inf, -np.inf], [np.inf, -np.inf])[WORST] == 0
    found = found_in([2.0**-20, 0.5], [0.0, 0.5])
    assert found[[WORST_FLOORED, WHERE_FLOORED]].tolist() == [2.0**-20 / 2.0**-25, 0]
    assert found_in([np.nan, 1, np.nan], [np.nan, np.nan, 1])[MISPLACED] == 2


def test_every_activation_is_within_its_bounds(capsys):
    assert main(["check", "--exhaustive", *SHORT, "--float64", str(COUNT64)]) == 0
    printed = capsys.readouterr().out
    rows = re.findall(r"^\| (\w+) +\|.*\| +([\d,]+) +\| ok +\|$", printed, re.MULTILINE)
    assert [name for name, _ in rows] == 2 * NAMES
    inputs = [int(count.replace(",", "")) for _, count in rows]
    if FULL:
        assert inputs[: len(NAMES)] == [2**32] * len(NAMES)
    assert min(inputs) >= min(COUNT64, 299_000)
    assert "all within their bounds" in printed


def test_all_keep_to_two_units_but_for_the_one_named():
    assert {code.name: bound for code, (bound, _) in accuracy.BOUNDS.items() if bound > 2} == {"HARDSWISH": 2.25}


def test_a_sample_meets_every_exponent_and_both_signs(monkeypatch):
    seen = []
    part = accuracy._sweep_part
    monkeypatch.setattr(accuracy, "_sweep_part", lambda code, x: seen.append(x >> 23) or part(code, x))
    accuracy.sweep(Activation.IDENTITY, (1 << 32) // 300_000 | 1)
    assert len(np.unique(np.concatenate(seen))) == 512


def test_no_number_is_left_out():
    """The parts of a sweep, joined, are the bit patterns; neighbours share one."""
    seen = []
    patterns = lambda part, firsts: [seen.append(first) or accuracy.Findings(Activation.RELU) for first in firsts]
    accuracy.sweep(Activation.RELU, 1, patterns)
    assert seen == list(range(0, 1 << 32, accuracy.CHUNK))


def distorted(code, where, by):
    """_apply with the results near one place changed."""
    apply = accuracy._apply

    def wrong(other, x):
        y = apply(other, x)
        if other == code and x.dtype == np.float32:
            y[(x > where - 1e-3) & (x < where + 1e-3)] += np.float32(by)
        return y

    return wrong


@pytest.mark.parametrize(
    ("name", "by", "message"),
    [
        ("silu", 1e-6, "FAILED"),
        ("tanh", 2.0**-22, "not odd"),
        ("sigmoid", 2.0**-10, "not monotone"),
        ("relu", 1e-6, "not exact"),
    ],
)
def test_what_is_wrong_is_found(name, by, message, monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "_apply", distorted(Activation[name.upper()], 1.25, by))
    assert main(["check", "--exhaustive", name, "--sample", "3000000", "--float64", "1000"]) == 1
    assert message in capsys.readouterr().out


def test_misplaced_nan_is_found(monkeypatch, capsys):
    monkeypatch.setattr(accuracy, "_apply", distorted(Activation.ELU, 2.0, np.nan))
    assert main(["check", "--exhaustive", "elu", "--sample", "1000000", "--float64", "1000"]) == 1
    assert "NaN in other places" in capsys.readouterr().out


def test_an_unknown_name_lists_what_there_is(capsys):
    assert main(["check", "--exhaustive", "softmax"]) == 2
    assert "unknown activation softmax; there are: identity, relu" in capsys.readouterr().out


def test_its_settings_are_not_taken_without_it(capsys):
    with pytest.raises(SystemExit):
        main(["check", "relu", "--sample", "100"])
    assert "go with --exhaustive" in capsys.readouterr().err


def test_markdown_renews_the_tables_alone(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- check --exhaustive -->\nold\n<!-- end of check -->\nafter\n")
    command = ["check", "--exhaustive", "relu", "--sample", "100000", "--float64", "1000", "--markdown", str(page)]
    assert main(command) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- check")
    assert text.endswith("<!-- end of check -->\nafter\n")
    assert "old" not in text
    assert re.search(r"^\| relu +\| 0 ", text, re.MULTILINE)
    capsys.readouterr()


# ---- The long doubles, against forty digits


def _exact_sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def _exact_u(x):
    return mpmath.sqrt(8 / mpmath.pi) * (x + mpmath.mpf("0.044715") * x**3)


def _exact_selu(x):
    scale, alpha = mpmath.mpf("1.0507009873554804934193349852946"), mpmath.mpf("1.6732632423543772848170429916717")
    return scale * (x if x > 0 else alpha * mpmath.expm1(x))


EXACT = {
    Activation.ELU: lambda x: x if x > 0 else mpmath.expm1(x),
    Activation.SELU: _exact_selu,
    Activation.SIGMOID: _exact_sigmoid,
    Activation.TANH: mpmath.tanh,
    Activation.SOFTPLUS: lambda x: mpmath.log1p(mpmath.exp(x)),
    Activation.GELU: lambda x: x * mpmath.ncdf(x),
    Activation.GELU_TANH: lambda x: x * _exact_sigmoid(_exact_u(x)),
    Activation.SILU: lambda x: x * _exact_sigmoid(x),
}


wide_long_doubles = pytest.mark.skipif(
    np.finfo(np.longdouble).nmant < 63, reason="this platform's long double is no wider than a double"
)
WITH_ZEROS = [Activation.GELU, Activation.GELU_TANH, Activation.SILU]


def _to_mpmath(value):
    """A long double, whole: its float64 part and the rest."""
    high = float(value)
    return mpmath.mpf(high) + mpmath.mpf(float(value - np.longdouble(high)))


@wide_long_doubles
@pytest.mark.parametrize("code", EXACT, ids=lambda code: code.name.lower())
def test_long_doubles_are_exact_enough(code, rng):
    x = accuracy.samples64(rng, 300)
    if code in (Activation.GELU, Activation.GELU_TANH):
        x = x[np.abs(x) < 20]  # beyond, in long doubles still something, in float64 0
    found = accuracy._long_functions()[code][0](x.astype(np.longdouble))
    with mpmath.workdps(60):
        for value, argument in zip(found, x, strict=True):
            exact = EXACT[code](mpmath.mpf(float(argument)))
            error = abs(_to_mpmath(value) - exact)
            # A tenth of a float64's unit; gelu_tanh's exponential amplifies the rounding of its argument.
            assert error <= abs(exact) * mpmath.mpf(2) ** -56 + mpmath.mpf(2) ** -1080, (
                float(argument),
                float(error / exact),
            )


@wide_long_doubles
@pytest.mark.parametrize(
    "code", [Activation.GELU, Activation.GELU_TANH, Activation.SILU], ids=lambda code: code.name.lower()
)
def test_long_double_derivatives_are_exact_enough(code, rng):
    x = accuracy.samples64(rng, 100)
    x = x[np.abs(x) < 20]
    found = accuracy._long_functions()[code][1](x.astype(np.longdouble))
    with mpmath.workdps(60):
        for value, argument in zip(found, x, strict=True):
            exact = mpmath.diff(EXACT[code], mpmath.mpf(float(argument)))
            assert abs(_to_mpmath(value) - exact) <= mpmath.mpf(2) ** -58, float(argument)
