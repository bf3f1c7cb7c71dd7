"""`fastnn check --exhaustive`: every float32 number through every elementwise activation and its derivative.

The exact value of a float32 result is the float64 kernel's, whose own error, found here against pairs of doubles on
samples of all exponents, is 2^-29 of what is looked for. A derivative is that of the kernel's `saved` argument: the
output of the activation, or its input for those in `NEEDS_PRE_ACTIVATION`.

Derivatives have zeros, near which no sum of rounded terms has correct digits: they are also measured in the ULP of
max(|f'|, 1/4). So is the whole way from x to f'(x), which includes the rounding of the saved output.
"""

import concurrent.futures
import datetime
import platform
import re
import sys
import time

import numba
import numpy as np

from .files import write_whole
from .info import cpu_model
from .kernels import accuracy, simd
from .kernels.activation import LEAKY_SLOPE, activate, activate_backward
from .kernels.codes import NEEDS_PRE_ACTIVATION, ROW_WISE, Activation
from .kernels.double_double import exact_activation, exact_derivative
from .kernels.threads import get_num_threads

ELEMENTWISE = [code for code in Activation if code not in ROW_WISE]
# Numbers looked at together: their arrays stay in the cache, and from 2^16 on each would be mapped anew.
CHUNK = 1 << 15
FLOOR = 0.25
# The lines of a Markdown file between which the tables are.
BEGIN, END = "<!-- check --exhaustive -->\n", "<!-- end of check -->\n"

# Largest errors in ULP that pass: of the activation, and of its derivative in the ULP of max(|f'|, 1/4).
BOUNDS = dict.fromkeys(ELEMENTWISE, (2.0, 4.0))
# Of float64, found by samples: gelu multiplies the normal distribution function, up to 1.6 ULP off at 1/2 and 2.7 in
# the tail, by a number that may lie just below a power of two; gelu_tanh's argument is a polynomial; silu is a product
# of a sigmoid 1.6 ULP off, of 10^9 the worst 2.35.
BOUNDS64 = dict.fromkeys(ELEMENTWISE, (2.0, 4.0)) | {
    Activation.GELU: (4.5, 4.0),
    Activation.GELU_TANH: (3.0, 4.0),
    Activation.SILU: (2.5, 4.0),
}


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
        self.code, self.bounds = code, bounds[code]
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
    """Take in how far results lie from exact ones, an array of float64 or a pair of those."""
    found = np.empty(accuracy.FINDINGS)
    if isinstance(exact, tuple):
        accuracy.distances64(actual, *exact, FLOOR, found)
    else:
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
    number = x.dtype.type
    exact = {
        Activation.IDENTITY: lambda: x,
        Activation.RELU: lambda: np.where(x <= 0, number(0), x),
        Activation.LEAKY_RELU: lambda: np.where(x > 0, x, x * number(LEAKY_SLOPE)),
    }.get(code)
    if exact is not None:
        expected, bits = exact(), f"u{x.itemsize}"
        same = (y.view(bits) == expected.view(bits)) | (np.isnan(y) & np.isnan(expected))
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


# ---- float64 against pairs of doubles

# The exponent bits of 2^-60 to 2^9, beyond which every function is a straight line, and those of all finite numbers,
# with the share of each in the samples.
STRATA = (range(1023 - 60, 1023 + 10), 15 / 16), (range(2047), 1 / 16)


class Stratum:
    """Some exponents of both signs, and how many numbers to take with each."""

    def __init__(self, exponents, count):
        self.patterns = np.array([*exponents, *(exponent + 2048 for exponent in exponents)], np.int64) << 52
        self.each = max(1, round(count / self.patterns.size))

    def parts(self):
        """Ranges of the numbers to take, each of at most CHUNK."""
        count = self.each * self.patterns.size
        return [range(first, min(count, first + CHUNK)) for first in range(0, count, CHUNK)]

    def draw(self, part, rng):
        """float64 numbers: of each exponent one, at random, in each of so many equal parts."""
        which, place = np.divmod(np.arange(part.start, part.stop), self.each)
        fraction = ((place + rng.random(which.size)) * (2.0**52 / self.each)).astype(np.int64)
        return (self.patterns[which] | np.minimum(fraction, 2**52 - 1)).view(np.float64)


def _pair(function, arguments, code, result):
    pair = np.empty_like(result), np.empty_like(result)
    function(*arguments, code, result, *pair)
    return pair


def _sample_part(code, x):
    """Findings for some float64 numbers."""
    findings = Findings(code, BOUNDS64)
    with np.errstate(under="ignore", over="ignore"):
        y = _apply(code, x)
        saved = x if code in NEEDS_PRE_ACTIVATION else y
        slope = _slope(code, saved)
    _meet(findings, y, _pair(exact_activation, (x,), code, y), x, findings.value, None)
    exact = _pair(exact_derivative, (saved, np.zeros_like(x)), code, slope)
    _meet(findings, slope, exact, x, findings.slope, findings.slope_floored)
    if saved is not x:
        exact = _pair(exact_derivative, _pair(exact_activation, (x,), code, ONES[np.float64][: x.size]), code, slope)
    _meet(findings, slope, exact, x, None, findings.whole_way)
    _properties(findings, code, x, y)
    findings.count = x.size
    return findings


def sample64(code, count, seed=0, map=map):
    """Findings for about `count` random float64 numbers of all exponents; map: like the built-in one."""
    findings = Findings(code, BOUNDS64)
    for exponents, share in STRATA:
        stratum = Stratum(exponents, count * share)
        parts = stratum.parts()
        # Each part its own generator: the numbers are the same in whatever order threads take the parts.
        seeds = np.random.SeedSequence([seed, len(exponents)]).spawn(len(parts))
        look = lambda part, seed, stratum=stratum: _sample_part(code, stratum.draw(part, np.random.default_rng(seed)))
        for more in map(look, parts, seeds):
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


DTYPES = "float32", "float64"


def _finders(stride, count64):
    """Functions from a code and a `map` to findings, by dtype."""
    return {
        "float32": lambda code, map: sweep(code, stride, map),
        "float64": lambda code, map: sample64(code, count64, map=map),
    }


def run(names=(), sample=None, count64=100_000_000, markdown=None, dtypes=DTYPES):
    """Print the tables; returns 0 if all functions are within their bounds, 1 if not, 2 for an unknown name.

    Args:
        names: activations; all elementwise ones if empty.
        sample: about so many float32 inputs of each, evenly over all bit patterns; None takes all 2^32.
        count64: about so many random float64 inputs of each.
        markdown: a file whose tables of these dtypes to renew.
        dtypes: some of DTYPES.
    """
    known = {code.name.lower(): code for code in ELEMENTWISE}
    unknown = [name for name in names if name not in known]
    if unknown:
        print(f"unknown activation {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    codes = [known[name] for name in dict.fromkeys(names)] or ELEMENTWISE
    # An odd stride meets all low bits in turn.
    stride = 1 if sample is None else max(1, (1 << 32) // max(1, sample)) | 1
    began = time.perf_counter()
    finders = _finders(stride, count64)
    # Python threads with kernels on one thread each: they wait for each other at the end of a function alone. Numba
    # counts threads for each Python thread, so those of the caller, and the limit that he has set, stay as they are.
    pool = concurrent.futures.ThreadPoolExecutor(get_num_threads(), initializer=numba.set_num_threads, initargs=(1,))
    try:
        # No loop here: an interrupt at the end of its turn might not be caught, see `Trainer._phases_to_do`.
        sections, passed = _sections(dtypes, codes, finders, pool.map)
    finally:
        # Of some 100,000 calls that wait, none is made after Ctrl-C; nor has it to be pressed once only.
        pool.shutdown(wait=False, cancel_futures=True)
    print("\n".join(sections.values()))
    print(f"{time.perf_counter() - began:.0f} s; " + ("all within their bounds" if passed else "FAILED"))
    if markdown is not None:
        _write(markdown, sections)
    return 0 if passed else 1


def _sections(dtypes, codes, finders, map):
    """(a table for each dtype, whether all functions are within their bounds)."""
    heads = ["f", "f(x): ULP", "f'(saved): ULP", "of max(abs f', 1/4)", "f'(x), of the same", "inputs", "verdict"]
    sections, passed = {}, True
    for name in dtypes:
        rows = [heads]
        for code in codes:
            findings = finders[name](code, map)
            rows.append(_row(findings))
            passed &= findings.passed()
            print("  ".join([name, *rows[-1]]), file=sys.stderr, flush=True)
        sections[name] = f"## {name}\n\n{_heading()}\n\n{_table(rows)}\n"
    return sections, passed


def around_tables(path):
    """(what is before the tables of a file, they, what is behind them); ValueError if it has none."""
    try:
        with open(path, encoding="utf-8") as file:
            before, rest = file.read().split(BEGIN)
        body, after = rest.split(END)
    except (OSError, ValueError) as error:
        raise ValueError(f"expected a file with tables between the lines {BEGIN.strip()} and {END.strip()}") from error
    return before, body, after


def _write(path, sections):
    """Put tables between the two marks of a file, in the place of those of the same dtypes."""
    before, body, after = around_tables(path)
    old = {part.split("\n", 1)[0]: f"## {part.rstrip()}\n" for part in re.split("^## ", body, flags=re.MULTILINE)[1:]}
    text = "\n".join((old | sections)[name] for name in DTYPES if name in old | sections)
    write_whole(path, f"{before}{BEGIN}{text}{END}{after}".encode())
