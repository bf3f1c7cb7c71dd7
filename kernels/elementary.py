"""Elementary functions of one number or a Vector, float32 or float64, from which activation and loss loops are built.

Each is straight-line code of explicit fma, selects and at most one division, inlined into the caller's loop: the same
bits come out on every vector width.

The worst errors in the docstrings, here and in sigmoids.py and normal.py, are in units in the last place (ULP) of the
exact result, as found over all float32 inputs with 2^-30 <= |x| < 256 and one in eight of the others, and over ten
million random float64 inputs (normal_cdf: sixty thousand; sigmoid, tanh and softplus: 10^9); those of the activations,
over all float32 inputs, stand in docs/accuracy.md. NaN gives NaN; infinities, signed zeros and denormals are treated as
the mathematics says.
"""

import numba
from numba import types
from numba.extending import overload

from .float_bits import power_of_two, power_of_two_halves, split_exponent
from .jit import OPTIONS
from .simd import at_least, by_type, clamp, constant, fma, polynomial, select
from .vector import element_of

# Inlined whatever its size: a call left in a loop would pass vectors through memory.
_INLINED = {**OPTIONS, "forceinline": True, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
scalar = numba.njit(**_INLINED)


def by_precision(single, double, doc):
    """The function of x that is `single` for float32 and Vectors of it, `double` for float64."""

    def function(x):
        raise NotImplementedError("for compiled code alone")

    @overload(function, jit_options=_INLINED)
    def choose(x):
        return (single if element_of(x) == types.float32 else double).py_func

    function.__doc__ = doc
    return function


INFINITY, NAN = float("inf"), float("nan")
SHIFT32, SHIFT64 = 1.5 * 2.0**23, 1.5 * 2.0**52  # x + SHIFT rounds x to an integer and leaves that in the lowest bits
LOG2_E = 1.4426950408889634
LN2 = 0.6931471805599453
SQRT_2 = 1.4142135623730951
# ln(2) in two parts; the first has so few bits that its product with any exponent is exact
LN2_HIGH32, LN2_LOW32 = 0.693359375, -0.00021219444005469057
LN2_HIGH64, LN2_LOW64 = 0.6931471803691238, 1.9082149292705877e-10
# below and above these e^x is 0 and infinity
EXP_LOW32, EXP_LOW64, EXP_HIGH32, EXP_HIGH64 = -104.0, -746.0, 89.0, 710.0

# Coefficients, the constant term first. Fitted with mpmath (50 digits) by Remez exchange for the least relative error
# of the whole function; after rounding the leading float32 coefficients the others were fitted anew. The errors given,
# float32 and float64, are those after rounding.
# fmt: off

# (e^r - 1 - r) / r^2 for |r| <= ln(2) / 2: degree 4, 2^-26.1, and 10, 2^-60.0
EXP32 = (0.4999999701976776, 0.16666539013385773, 0.04166775569319725, 0.00836712121963501, 0.001383579452522099)
EXP64 = (
    0.5, 0.16666666666666677, 0.04166666666666651, 0.00833333333332169, 0.0013888888888962593, 0.0001984126988596976,
    2.4801587172099352e-05, 2.7557244370069776e-06, 2.7557403022555776e-07, 2.5108980307044878e-08,
    2.0875210917679968e-09,
)
# (log(1 + f) - f) / f^2 for sqrt(1/2) <= 1 + f <= sqrt(2): degree 8, 2^-27.8, and 19, 2^-54.8
LOG32 = (
    -0.49999988079071045, 0.33333322405815125, -0.25001609325408936, 0.20002226531505585, -0.166085883975029,
    0.14176155626773834, -0.13241425156593323, 0.12942929565906525, -0.07675082236528397,
)
LOG64 = (
    -0.5000000000000003, 0.33333333333333026, -0.24999999999974912, 0.2000000000008537, -0.16666666671357208,
    0.14285714279611886, -0.12499999604377716, 0.11111111099102793, -0.10000017943482752, 0.09090927448120473,
    -0.08332863987240956, 0.0769143294992346, -0.07149938656343967, 0.06685937495553748, -0.06194359150565733,
    0.05658949646875554, -0.0567811174391557, 0.06529592308269182, -0.06006182013386721, 0.026174300513884353,
)
# log(cosh(x)) / x^2 in x^2 for |x| <= LOG_COSH_SMALL: degree 5, 2^-27.5, and 12, 2^-57.8
LOG_COSH_SMALL = 0.75
LOG_COSH32 = (
    0.5, -0.08333313465118408, 0.022217072546482086, -0.0067022498697042465, 0.0020205772016197443,
    -0.0004339183506090194,
)
LOG_COSH64 = (
    0.5, -0.08333333333333272, 0.02222222222215991, -0.0067460317435653165, 0.0021869488027875636,
    -0.0007386023356379774, 0.00025657561770033564, -9.096315970376458e-05, 3.268148892758294e-05,
    -1.1704649188405414e-05, 3.955440808304399e-06, -1.0892296912532566e-06, 1.7174167790873834e-07,
)
# fmt: on


@scalar
def reduce_by_ln2(x):
    """(n + SHIFT, r) with x = n ln(2) + r, n an integer and |r| <= ln(2) / 2."""
    shift = by_type(x, SHIFT32, SHIFT64)
    shifted = fma(x, constant(LOG2_E, x), shift)
    n = shifted - shift
    r = fma(n, by_type(x, -LN2_HIGH32, -LN2_HIGH64), x)
    return shifted, fma(n, by_type(x, -LN2_LOW32, -LN2_LOW64), r)


@scalar
def expm1_reduced(r):
    """exp(r) - 1 for |r| <= ln(2) / 2."""
    return fma(r * r, polynomial(r, EXP32, EXP64), r)


@scalar
def exp_parts(x):
    """(t, a, b) with e^x = (1 + t) a b; a b = 2^n may be no normal number."""
    shifted, r = reduce_by_ln2(x)
    a, b = power_of_two_halves(shifted)
    return expm1_reduced(r), a, b


@scalar
def exp(x):
    """e^x = 2^n (1 + (e^r - 1)), in two steps where 2^n is no normal number.

    At most 1.04 ULP in float32, 0.98 in float64.
    """
    y = clamp(x, by_type(x, EXP_LOW32, EXP_LOW64), by_type(x, EXP_HIGH32, EXP_HIGH64))
    t, a, b = exp_parts(y)
    return (constant(1.0, x) + t) * a * b


@scalar
def product_by_tail(x, size, below):
    """x F(x) from |x| and F(-|x|), for a distribution function with F(-x) = 1 - F(x)."""
    return fma(-size, below, at_least(x, constant(0.0, x)))


@scalar
def expm1(x):
    """e^x - 1 = 2 (2^(n-1) (e^r - 1) + (2^(n-1) - 1/2)); x itself for tiny x.

    At most 1.55 ULP in float32, 1.82 in float64.
    """
    y = clamp(x, by_type(x, -20.0, -40.0), by_type(x, EXP_HIGH32, EXP_HIGH64))
    shifted, r = reduce_by_ln2(y)
    half = power_of_two(shifted, constant(-1.0, x))
    h = fma(half, expm1_reduced(r), half - constant(0.5, x))
    return select(abs(x) < by_type(x, 2.0**-26, 2.0**-55), x, h + h)


@scalar
def _log1p_reduced(f, n):
    """n ln(2) + log(1 + f) for sqrt(1/2) <= 1 + f <= sqrt(2)."""
    low = fma(f * f, polynomial(f, LOG32, LOG64), n * by_type(f, LN2_LOW32, LN2_LOW64))
    return fma(n, by_type(f, LN2_HIGH32, LN2_HIGH64), f + low)


@scalar
def _log1p_exp(a):
    """log(1 + e^-a) for a >= 0."""
    low = by_type(a, EXP_LOW32, EXP_LOW64)
    y = select(-a < low, low, -a)
    shifted, r = reduce_by_ln2(y)
    p, q = power_of_two_halves(shifted)
    e = (constant(1.0, a) + expm1_reduced(r)) * p * q
    large = e > constant(SQRT_2 - 1.0, a)
    half = constant(0.5, a)
    return _log1p_reduced(select(large, fma(e, half, -half), e), select(large, constant(1.0, a), constant(0.0, a)))


@scalar
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).

    At most 1.74 ULP in float32, 1.83 in float64.
    """
    zero = constant(0.0, x)
    return select(x > zero, x, zero) + _log1p_exp(abs(x))


@scalar
def log(x):
    """log(2^n m) = n ln(2) + log(m); -infinity at 0, NaN below.

    At most 0.88 ULP in float32, 1.00 in float64.
    """
    small = x < by_type(x, 2.0**-126, 2.0**-1022)
    shifted, m = split_exponent(select(small, x * by_type(x, 2.0**25, 2.0**54), x))
    n = shifted - by_type(x, SHIFT32, SHIFT64)
    n = select(small, n - by_type(x, 25.0, 54.0), n)
    y = _log1p_reduced(m - constant(1.0, x), n)
    y = select(x < constant(INFINITY, x), y, x)
    return select(x > constant(0.0, x), y, select(x == constant(0.0, x), constant(-INFINITY, x), constant(NAN, x)))


@scalar
def log1p(x):
    """log(1 + x) = n ln(2) + log(1 + f), 1 + f = (1 + x) / 2^n; -infinity at -1, NaN below.

    At most 1.46 ULP in float32, 1.36 in float64.
    """
    shift = by_type(x, SHIFT32, SHIFT64)
    one = constant(1.0, x)
    shifted, _ = split_exponent(one + x)
    n = shifted - shift
    quarter = constant(0.25, x)
    scale = power_of_two(shift - n, constant(2.0, x))  # 4 / 2^n
    y = _log1p_reduced(fma(x * quarter, scale, fma(quarter, scale, -one)), n)
    y = select(x < constant(INFINITY, x), y, x)
    y = select(x > -one, y, select(x == -one, constant(-INFINITY, x), constant(NAN, x)))
    return select(x == constant(0.0, x), x, y)


@scalar
def log_cosh(x):
    """log((e^x + e^-x) / 2) = |x| - ln(2) + log(1 + e^-2|x|); a polynomial near 0.

    At most 2.02 ULP in float32, 1.94 in float64.
    """
    a = abs(x)
    z = a * a
    near = z * polynomial(z, LOG_COSH32, LOG_COSH64)
    far = (a - by_type(x, LN2_HIGH32, LN2_HIGH64)) + (_log1p_exp(a + a) - by_type(x, LN2_LOW32, LN2_LOW64))
    return select(a < constant(LOG_COSH_SMALL, x), near, far)
