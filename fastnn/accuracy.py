"""`fastnn check --exhaustive`: every float32 number through every elementwise activation and its derivative.

The exact value of a float32 result is the float64 kernel's, whose own error, found here against NumPy's long double on
samples of all exponents, is 2^-29 of what is looked for. A derivative is that of the kernel's `saved` argument: the
output of the float32 activation, or its input for those in `NEEDS_PRE_ACTIVATION`.

Derivatives have zeros, near which no sum of rounded terms has correct digits: they are also measured in the ULP of
max(|f'|, 1/4). So is the whole way from x to f'(x), which includes the rounding of the saved output.
"""

import concurrent.futures
import datetime
import platform
import sys
import time

import numba
import numpy as np

from .info import cpu_model
from .kernels import accuracy, simd
from .kernels.activation import LEAKY_SLOPE, activate, activate_backward
from .kernels.codes import NEEDS_PRE_ACTIVATION, ROW_WISE, Activation
from .kernels.sigmoids import GELU_CUBIC
from .kernels.threads import get_num_threads, set_num_threads

ELEMENTWISE = [code for code in Activation if code not in ROW_WISE]
# Numbers looked at together: their arrays stay in the cache, and from 2^16 on each would be mapped anew.
CHUNK = 1 << 15
FLOOR = 0.25

# Largest errors in ULP that pass: of the activation, and of its derivative in the ULP of max(|f'|, 1/4).
# hardswish passes 2 ULP where its result is subnormal.
BOUNDS = dict.fromkeys(ELEMENTWISE, (2.0, 4.0)) | {Activation.HARDSWISH: (2.25, 4.0)}
# Of float64: gelu multiplies the normal distribution function, up to 1.6 ULP off at 1/2 and 2.7 in the tail, by a
# number that may lie just below a power of two; gelu_tanh's argument is a polynomial; silu a product of a sigmoid 1.6
# ULP off.
BOUNDS64 = BOUNDS | {Activation.GELU: (4.5, 4.0), Activation.GELU_TANH: (3.0, 4.0), Activation.SILU: (2.5, 4.0)}


class Worst:
    """The largest distance seen, and where."""

    def __init__(self):
        self.distance, self.where = 0.0, 0.0

    def meet(self, distance, where):
        if distance > self.distance or distance != distance:
            self.distance, self.where = float(distance), float(where)

    def __str__(self):
        return f"{self.distance:.3g} at {self.where:.9g}" if self.distance else "0"


class Findings:
    """Of one function: worst distances of f, of f' from `saved`, of f' from x; and the properties that failed."""

    def __init__(self, code, bounds=BOUNDS):
        self.code = code
        self.bounds = bounds[code]
        self.count = 0
        self.value, self.slope, self.slope_floored, self.whole_way = Worst(), Worst(), Worst(), Worst()
        self.failures = {}

    def add(self, other):
        """Take in the findings of another part."""
        self.count += other.count
        for mine, theirs in zip(self.all(), other.all(), strict=True):
            mine.meet(theirs.distance, theirs.where)
        for what, count in other.failures.items():
            self.fail(what, count)

    def all(self):
        return self.value, self.slope, self.slope_floored, self.whole_way

    def fail(self, what, count):
        """Note that a property failed so many times."""
        if count:
            self.failures[what] = self.failures.get(what, 0) + int(count)

    def passed(self):
        value, slope = self.bounds
        return self.value.distance <= value and self.slope_floored.distance <= slope and not self.failures


def _meet(findings, actual, exact, x, worst, floored):
    found = np.empty(accuracy.FINDINGS)
    accuracy.distances(actual, exact, FLOOR, found)
    if worst is not None:
        worst.meet(found[accuracy.WORST], x[int(found[accuracy.WHERE])])
    if floored is not None:
        floored.meet(found[accuracy.WORST_FLOORED], x[int(found[accuracy.WHERE_FLOORED])])
    findings.fail("NaN in other places", found[accuracy.MISPLACED])


def _apply(code, x):
    y = np.empty_like(x)
    activate(x, code, y)
    return y


ONES = {dtype: np.ones(CHUNK + 1, dtype) for dtype in (np.float32, np.float64)}


def _slope(code, saved):
    out = np.empty_like(saved)
    activate_backward(ONES[saved.dtype.type][: saved.size], saved, code, out)
    return out


def _monotone(findings, x, y):
    """Bit patterns count up in x for positive numbers and down for negative ones."""
    steps = np.diff(y[~np.isnan(x)])
    findings.fail("not monotone", np.count_nonzero(steps > 0 if np.signbit(x[0]) else steps < 0))


def _properties(findings, code, x, y):
    """What holds to the last bit."""
    if code == Activation.TANH:
        findings.fail("not odd", np.count_nonzero((_apply(code, -x) != -y) & ~np.isnan(y)))
    exact = {
        Activation.IDENTITY: lambda: x,
        Activation.RELU: lambda: np.where(x <= 0, np.float32(0), x),
        Activation.LEAKY_RELU: lambda: np.where(x > 0, x, x * np.float32(LEAKY_SLOPE)),
    }.get(code)
    if exact is not None:
        expected = exact()
        same = (y.view(np.uint32) == expected.view(np.uint32)) | (np.isnan(y) & np.isnan(expected))
        findings.fail("not exact", np.count_nonzero(~same))


def _sweep_part(code, patterns):
    """Findings for float32 numbers of one sign, given by their bit patterns in ascending order."""
    findings = Findings(code)
    needs_input = code in NEEDS_PRE_ACTIVATION
    x = patterns.view(np.float32)
    wide = x.astype(np.float64)
    y, exact = _apply(code, x), _apply(code, wide)
    findings.count = x.size
    _meet(findings, y, exact, x, findings.value, None)
    slope = _slope(code, x if needs_input else y)
    whole = _slope(code, wide if needs_input else exact)
    given = whole if needs_input else _slope(code, y.astype(np.float64))
    _meet(findings, slope, given, x, findings.slope, findings.slope_floored)
    _meet(findings, slope, whole, x, None, findings.whole_way)
    _properties(findings, code, x, y)
    if code in (Activation.SIGMOID, Activation.TANH):
        _monotone(findings, x, y)
    return findings


def sweep(code, stride=1, map=map):
    """Findings for the float32 numbers of every `stride`-th bit pattern; map: like the built-in one."""

    def part(first):
        # Neighbours share a number, so that no step of a monotone function is left out.
        end = min((first & 1 << 31) + (1 << 31), first + CHUNK * stride + 1)
        with np.errstate(invalid="ignore"):  # signalling NaN are among the bit patterns
            found = _sweep_part(code, np.arange(first, end, stride, dtype=np.uint32))
        found.count = min(found.count, CHUNK)
        return found

    findings = Findings(code)
    for half in (0, 1 << 31):
        for more in map(part, range(half, half + (1 << 31), CHUNK * stride)):
            findings.add(more)
    return findings


# ---- float64 against long double


def _long(text):
    return np.longdouble(text)


def _long_sigmoid(x):
    e = np.exp(-abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


def _long_pdf(w):
    # The square in two parts, the first of them exact: exp amplifies a rounding by the size of the square.
    high = w.astype(np.float32).astype(np.longdouble)
    return (
        np.exp(-high * high / 2) * np.exp(-(w - high) * (w + high) / 2) / np.sqrt(2 * _long("3.141592653589793238463"))
    )


def _long_cdf(x):
    """Series of positive terms below 1, Laplace's continued fraction of the tail above."""
    w = np.minimum(abs(x), 45)
    small = np.minimum(w, 1)
    term = total = small
    for n in range(1, 40):
        term = term * small * small / (2 * n + 1)
        total = total + term
    large = np.maximum(w, 1)
    fraction = large
    for n in range(600, 0, -1):
        fraction = large + n / fraction
    tail = np.where(w < 1, _long("0.5") - _long_pdf(small) * total, _long_pdf(large) / fraction)
    return np.where(x < 0, tail, 1 - tail)


def _long_gelu_tanh_parts(x):
    root, cubic = np.sqrt(8 / _long("3.141592653589793238463")), _long(repr(GELU_CUBIC))
    u = root * (x + cubic * x * x * x)
    return _long_sigmoid(u), _long_sigmoid(-u), root * (1 + 3 * cubic * x * x)


def _long_gelu_tanh_slope(x):
    s, rest, du = _long_gelu_tanh_parts(x)
    return s + x * du * s * rest


def _long_functions():
    """{code: (f(x), f'(saved))} on long doubles."""
    scale, slope = _long("1.0507009873554804934193349852946"), _long("1.6732632423543772848170429916717")
    where, one, leak, sixth = np.where, _long(1), _long("0.01"), _long(1) / 6
    hard = lambda x: np.clip((x + 3) / 6, 0, 1)
    inside = lambda y: (y > 0) & (y < 1)
    return {
        Activation.IDENTITY: (lambda x: x, lambda y: y * 0 + 1),
        Activation.RELU: (lambda x: np.maximum(x, 0), lambda y: where(y > 0, one, 0)),
        Activation.LEAKY_RELU: (lambda x: where(x > 0, x, leak * x), lambda y: where(y > 0, one, leak)),
        Activation.ELU: (lambda x: where(x > 0, x, np.expm1(x)), lambda y: where(y > 0, one, y + 1)),
        Activation.SELU: (
            lambda x: scale * where(x > 0, x, slope * np.expm1(x)),
            lambda y: where(y > 0, scale, y + scale * slope),
        ),
        Activation.SIGMOID: (_long_sigmoid, lambda y: y * (1 - y)),
        Activation.TANH: (np.tanh, lambda y: 1 - y * y),
        Activation.SOFTPLUS: (lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))), lambda y: -np.expm1(-y)),
        Activation.GELU: (lambda x: x * _long_cdf(x), lambda x: _long_cdf(x) + x * _long_pdf(x)),
        Activation.GELU_TANH: (lambda x: x * _long_gelu_tanh_parts(x)[0], _long_gelu_tanh_slope),
        Activation.SILU: (
            lambda x: x * _long_sigmoid(x),
            lambda x: _long_sigmoid(x) * (1 + x * _long_sigmoid(-x)),
        ),
        Activation.HARDSIGMOID: (hard, lambda y: where(inside(y), sixth, 0)),
        Activation.HARDSWISH: (
            lambda x: x * hard(x),
            lambda x: where(x <= -3, 0, where(x >= 3, one, x / 3 + 0.5)),
        ),
    }


def _distances64(actual, exact, floor):
    exponent = np.frexp(np.maximum(abs(exact), floor))[1] - 1
    ulp = np.ldexp(np.longdouble(1), np.maximum(exponent, -1022) - 52)
    return (abs(actual - exact) / ulp).astype(np.float64)


def samples64(rng, count):
    """Of both signs between 2^-60 and 1000, exponents uniform: beyond, every function is a straight line."""
    x = np.ldexp(rng.uniform(1, 2, count), rng.integers(-60, 10, count)) * rng.choice([-1.0, 1.0], count)
    return np.clip(x, -1000, 1000)


def _sample_part(code, rng, count):
    """Findings for `count` random float64 numbers."""
    findings = Findings(code, BOUNDS64)
    value, derivative = _long_functions()[code]
    with np.errstate(under="ignore", over="ignore"):
        x = samples64(rng, count)
        wide = x.astype(np.longdouble)
        y = _apply(code, x)
        saved = x if code in NEEDS_PRE_ACTIVATION else y
        slope, exact_slope = _slope(code, saved), derivative(saved.astype(np.longdouble))
        whole = exact_slope if saved is x else derivative(value(wide))
        for worst, actual, exact, floor in (
            (findings.value, y, value(wide), 0),
            (findings.slope, slope, exact_slope, 0),
            (findings.slope_floored, slope, exact_slope, FLOOR),
            (findings.whole_way, slope, whole, FLOOR),
        ):
            distance = _distances64(actual, exact, floor)
            worst.meet(distance.max(), x[distance.argmax()])
    findings.count = count
    return findings


def sample64(code, count, seed=0, map=map):
    """Findings for `count` random float64 numbers; map: like the built-in one."""
    findings = Findings(code, BOUNDS64)
    sizes = [min(CHUNK, count - first) for first in range(0, count, CHUNK)]
    part = lambda rng, size: _sample_part(code, rng, size)
    for more in map(part, np.random.default_rng(seed).spawn(len(sizes)), sizes):
        findings.add(more)
    return findings


# ---- The command


def _heading():
    return (
        f"{cpu_model()}, {8 * simd.VECTOR_BYTES}-bit vectors; Python {platform.python_version()}, "
        f"NumPy {np.__version__}, Numba {numba.__version__}; {datetime.date.today().isoformat()}"
    )


def _table(rows):
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["| " + " | ".join(map(str.ljust, row, widths)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def _row(findings):
    verdict = "ok" if findings.passed() else "FAILED"
    if findings.failures:
        verdict += ": " + ", ".join(f"{what} ({count})" for what, count in findings.failures.items())
    return [findings.code.name.lower(), *map(str, findings.all()), f"{findings.count:,}", verdict]


def _sections(stride, count64):
    """(dtype's name, function from a code to its findings), while their threads are there.

    Python threads with kernels on one thread each: they wait for each other at the end of a function alone.
    """
    threads = get_num_threads()
    set_num_threads(1)
    try:
        with concurrent.futures.ThreadPoolExecutor(threads) as pool:
            yield "float32", lambda code: sweep(code, stride, pool.map)
            if np.finfo(np.longdouble).nmant >= 63:
                yield "float64", lambda code: sample64(code, count64, map=pool.map)
    finally:
        set_num_threads(None)


def run(names=(), sample=None, count64=1_000_000, markdown=None):
    """Print the tables; returns 0 if all functions are within their bounds, 1 if not, 2 for an unknown name.

    Args:
        names: activations; all elementwise ones if empty.
        sample: about so many float32 inputs of each, evenly over all bit patterns; None takes all 2^32.
        count64: random float64 inputs of each.
        markdown: a file for the tables.
    """
    known = {code.name.lower(): code for code in ELEMENTWISE}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown activation {', '.join(unknown)}; there are: {', '.join(known)}")
        return 2
    codes = [known[name] for name in names] or ELEMENTWISE
    # An odd stride meets all low bits in turn.
    stride = 1 if sample is None else max(1, (1 << 32) // max(1, sample)) | 1
    began = time.perf_counter()
    heads = ["f", "f(x): ULP", "f'(saved): ULP", "of max(abs f', 1/4)", "f'(x), of the same", "inputs", "verdict"]
    tables, passed = [], True
    for name, find in _sections(stride, count64):
        rows = [heads]
        for code in codes:
            findings = find(code)
            rows.append(_row(findings))
            passed &= findings.passed()
            print("  ".join([name, *rows[-1]]), file=sys.stderr, flush=True)
        tables.append(f"## {name}\n\n{_table(rows)}")
    if len(tables) == 1:
        tables.append("float64: not checked, this platform's long double is no wider")
    text = "\n\n".join([_heading(), *tables])
    print(text)
    print(f"\n{time.perf_counter() - began:.0f} s; " + ("all within their bounds" if passed else "FAILED"))
    if markdown is not None:
        _write(markdown, text)
    return 0 if passed else 1


def _write(path, text):
    """Put the tables between the two marks of a file."""
    with open(path, encoding="utf-8") as file:
        before, rest = file.read().split("<!-- check --exhaustive -->\n")
    after = rest.split("<!-- end of check -->\n")[1]
    with open(path, "w", encoding="utf-8") as file:
        file.write(f"{before}<!-- check --exhaustive -->\n{text}\n<!-- end of check -->\n{after}")
