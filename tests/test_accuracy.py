"""`fastnn check --exhaustive`, in its short form: bounds hold, and what is wrong is found."""

import re

import mpmath
import numpy as np
import pytest
from conftest import FULL

import fastnn
from fastnn import accuracy
from fastnn.__main__ import main
from fastnn.kernels.accuracy import (
    FINDINGS,
    MISPLACED,
    WHERE,
    WHERE_FLOORED,
    WORST,
    WORST_FLOORED,
    distances,
    distances64,
)
from fastnn.kernels.codes import NEEDS_PRE_ACTIVATION, Activation
from fastnn.kernels.double_double import SCALE, SMALL, exact_activation, exact_derivative

SHORT = [] if FULL else ["--sample", "300000"]
COUNT64 = 10**8 if FULL else 30_000
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


def found_in64(actual, high, low=0.0, floor=0.25):
    found, actual = np.empty(FINDINGS), np.array(actual, np.float64)
    pair = (np.broadcast_to(np.array(part, np.float64), actual.shape).copy() for part in (high, low))
    distances64(actual, *pair, floor, found)
    return found


def test_distances_of_float64_count_units_in_the_last_place():
    for exact in (1.0, 1.5, 2.0**-400, 1.7e308, -0.7):
        step = np.spacing(abs(exact))
        for low in (0.0, 0.25 * step, -0.1 * step):
            # Below a power of two the unit is half as large.
            unit = step / 2 if np.frexp(exact)[0] == 0.5 and low < 0 else step
            found = found_in64([exact, exact + step], exact, low)
            distances = abs(low) / unit, (step - low) / unit
            assert found[WORST] == max(distances)
            assert found[WHERE] == np.argmax(distances)
    # Where the result is below SMALL the pair comes times SCALE, and has the digits that a denormal has not.
    assert found_in64([2.0**-1074], 0.0)[WORST] == 1
    assert found_in64([0.0], 0.75 * (2.0**-1074 * SCALE))[WORST] == 0.75
    assert found_in64([3 * 2.0**-1074], 3.25 * (2.0**-1074 * SCALE))[WORST] == 0.25
    assert found_in64([2.0**-600], 2.0**-600 * SCALE, 2.0**-653 * SCALE)[WORST] == 0.5
    assert found_in64([2.0**-600], 2.0**-400)[WORST] > 1e15
    found = found_in64([2.0**-20, 0.5], [0.0, 0.5])
    assert found[[WORST_FLOORED, WHERE_FLOORED]].tolist() == [2.0**-20 / 2.0**-54, 0]
    # A little below the floor counts as the floor.
    found = found_in64([0.25], 0.25, -(2.0**-56))
    assert found[[WORST, WORST_FLOORED]].tolist() == [0.5, 0.25]
    inf, nan = np.inf, np.nan
    assert found_in64([nan, inf, 1.0, 1.0, nan], [nan, 1.0, inf, nan, 1.0])[MISPLACED] == 5
    found = found_in64([inf, -inf, inf], [inf, -inf, nan])
    assert found[MISPLACED] == found[WORST] == 0


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


def test_smooth_functions_keep_to_two_units_but_for_three_of_float64():
    assert max(bound for bound, _ in accuracy.BOUNDS.values()) == 2
    assert {code.name: bound for code, (bound, _) in accuracy.BOUNDS64.items() if bound > 2} == {
        "GELU": 4.5,
        "GELU_TANH": 3.0,
        "SILU": 2.5,
    }


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
    assert "unknown activation softmax; there are: identity, relu" in capsys.readouterr().err


def test_the_least_numbers_that_may_be_given_are_enough(capsys):
    assert main(["check", "--exhaustive", "relu", "--sample", "1", "--float64", "0"]) == 0
    assert "all within their bounds" in capsys.readouterr().out


def test_its_settings_are_not_taken_without_it(capsys):
    with pytest.raises(SystemExit):
        main(["check", "relu", "--sample", "100"])
    assert "go with --exhaustive" in capsys.readouterr().err


def test_markdown_renews_the_tables_alone(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- check --exhaustive -->\nold\n<!-- end of check -->\nafter\n")
    assert accuracy.run(["relu"], sample=100000, count64=1000, markdown=str(page)) == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- check")
    assert text.endswith("<!-- end of check -->\nafter\n")
    assert "old" not in text
    assert re.search(r"^\| relu +\| 0 ", text, re.MULTILINE)
    capsys.readouterr()


def test_samples_of_float64_have_all_exponents_and_no_gaps():
    stratum = accuracy.Stratum(range(2047), 4094 * 40)
    parts = stratum.parts()
    assert [part.stop for part in parts[:-1]] == [part.start for part in parts[1:]]
    x = np.concatenate([stratum.draw(part, np.random.default_rng(0)) for part in parts])
    assert np.isfinite(x).all()
    bits = x.view(np.uint64)
    # Each sign and exponent 40 times, and of each the fractions one in each fortieth.
    assert len(np.unique(bits >> 52)) == 4094
    fortieth = (bits & (2**52 - 1)).astype(float) * 40 // 2**52
    np.testing.assert_array_equal(fortieth.reshape(4094, 40), np.broadcast_to(np.arange(40), (4094, 40)))


def test_one_dtype_alone(tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("<!-- check --exhaustive -->\n## float32\n\nold\n\n## float64\n\nolder\n<!-- end of check -->\n")
    assert accuracy.run(["relu"], count64=1000, markdown=str(page), dtypes=["float64"]) == 0
    assert "## float32" not in capsys.readouterr().out
    text = page.read_text()
    assert text.startswith("<!-- check --exhaustive -->\n## float32\n\nold\n\n## float64\n\n")
    assert "older" not in text
    assert text.endswith(" ok      |\n<!-- end of check -->\n")


# ---- The pairs of doubles, against sixty digits

DIGITS = 60
with mpmath.workdps(DIGITS):
    SELU_SCALE = mpmath.mpf("1.0507009873554804934193349852946")
    SELU_ALPHA = mpmath.mpf("1.6732632423543772848170429916717")


def _sigmoid(x):
    # Beyond, mpmath takes minutes for what is 0 to a thousand digits.
    if abs(x) > 5000:
        return mpmath.mpf(int(x > 0))
    return mpmath.exp(x) / (1 + mpmath.exp(x)) if x < 0 else 1 / (1 + mpmath.exp(-x))


def _normal_cdf(x):
    return mpmath.erfc(-x / mpmath.sqrt(2)) / 2 if abs(x) < 200 else mpmath.mpf(int(x > 0))


def _gelu_tanh_argument(x):
    root = mpmath.sqrt(8 / mpmath.pi)
    cubic = mpmath.mpf("0.044715")
    return root * (x + cubic * x**3), root * (1 + 3 * cubic * x**2)


def _gelu_tanh_slope(x):
    u, du = _gelu_tanh_argument(x)
    return _sigmoid(u) * (1 + x * du * _sigmoid(-u))


def _hard(x):
    return min(max((x + 3) / 6, mpmath.mpf(0)), mpmath.mpf(1))


# f(x), f'(saved)
EXACT = {
    Activation.IDENTITY: (lambda x: x, lambda y: 1),
    Activation.RELU: (lambda x: max(x, 0), lambda y: int(y > 0)),
    Activation.LEAKY_RELU: (lambda x: x if x > 0 else x / 100, lambda y: 1 if y > 0 else mpmath.mpf(1) / 100),
    Activation.ELU: (lambda x: x if x > 0 else mpmath.expm1(x), lambda y: 1 if y > 0 else y + 1),
    Activation.SELU: (
        lambda x: SELU_SCALE * (x if x > 0 else SELU_ALPHA * mpmath.expm1(x)),
        lambda y: SELU_SCALE if y > 0 else y + SELU_SCALE * SELU_ALPHA,
    ),
    Activation.SIGMOID: (_sigmoid, lambda y: y * (1 - y)),
    Activation.TANH: (mpmath.tanh, lambda y: 1 - y * y),
    Activation.SOFTPLUS: (
        lambda x: max(x, 0) + mpmath.log1p(mpmath.exp(-min(abs(x), 5000))),
        lambda y: -mpmath.expm1(-y),
    ),
    Activation.GELU: (
        lambda x: x * _normal_cdf(x),
        lambda x: _normal_cdf(x) + x * mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi),
    ),
    Activation.GELU_TANH: (lambda x: x * _sigmoid(_gelu_tanh_argument(x)[0]), _gelu_tanh_slope),
    Activation.SILU: (lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * _sigmoid(-x))),
    Activation.HARDSIGMOID: (_hard, lambda y: mpmath.mpf(1) / 6 if 0 < y < 1 else 0),
    Activation.HARDSWISH: (
        lambda x: x * _hard(x),
        lambda x: 0 if x <= -3 else 1 if x >= 3 else x / 3 + mpmath.mpf(1) / 2,
    ),
}


def error_of(pair, results, arguments, exact, floor):
    """The largest relative error of pairs, results below `floor` counting as that, and its argument."""
    worst = mpmath.mpf(0), None
    for high, low, result, argument in zip(*pair, results, arguments, strict=True):
        scale = mpmath.mpf(SCALE if abs(result) < SMALL else 1)
        wanted = exact(mpmath.mpf(float(argument))) * scale
        error = abs(mpmath.mpf(float(high)) + mpmath.mpf(float(low)) - wanted) / max(abs(wanted), floor * scale)
        worst = max(worst, (error, float(argument)), key=lambda pair: pair[0])
    return worst


@pytest.mark.parametrize("code", EXACT, ids=lambda code: code.name.lower())
def test_pairs_are_exact_enough(code, rng):
    """To 2^-70: of a number of one exponent at a time, for which as many terms are taken as its exponent needs."""
    value, slope = EXACT[code]
    # Of those whose functions are no straight lines more.
    exponents = [*range(-1022, 1024, 97), *range(-70, -10, 7), *range(-10, 11)] if not FULL else range(-1022, 1024)
    for exponent in exponents:
        x = accuracy.Stratum([exponent + 1023], 16).draw(range(16), rng)
        with np.errstate(all="ignore"):
            y = accuracy._apply(code, x)
            finite = np.isfinite(y)
            x, y = x[finite], y[finite]
            saved = x if code in NEEDS_PRE_ACTIVATION else y
            dy = accuracy._slope(code, saved)
        with mpmath.workdps(DIGITS):
            pair = accuracy._pair(exact_activation, (x,), code, y)
            error, where = error_of(pair, y, x, value, mpmath.mpf(2) ** -1074)
            assert error <= mpmath.mpf(2) ** -70, (where, float(error))
            pair = accuracy._pair(exact_derivative, (saved, np.zeros_like(x)), code, dy)
            # Near their zeros derivatives are sums whose terms cancel.
            error, where = error_of(
                pair, dy, saved, slope, mpmath.mpf(2) ** (-1074 if code == Activation.SIGMOID else -9)
            )
            assert error <= mpmath.mpf(2) ** -70, (where, float(error))


def test_the_limit_of_threads_stays_the_users(monkeypatch, capsys):
    seen, look = [], accuracy._sample_part

    def sample_part(*arguments):
        seen.append(fastnn.get_num_threads())
        return look(*arguments)

    monkeypatch.setattr(accuracy, "_sample_part", sample_part)
    default = fastnn.get_num_threads()
    for limit, expected in ((1, 1), (None, default)):
        fastnn.set_num_threads(limit)
        try:
            assert accuracy.run(["relu"], count64=1000, dtypes=["float64"]) == 0
            assert fastnn.get_num_threads() == expected
        finally:
            fastnn.set_num_threads(None)
    assert set(seen) == {1}
