"""The normal distribution and gelu, of one number or a Vector.

Float32: by a table, as sigmoids.py has them, and where it ends by the asymptotic series. Float64: by e^(-x^2 / 2).
"""

from . import tables
from .elementary import (
    LN2_HIGH32,
    LN2_HIGH64,
    LN2_LOW32,
    LN2_LOW64,
    LOG2_E,
    SHIFT32,
    SHIFT64,
    by_precision,
    expm1_reduced,
    product_by_tail,
    scalar,
)
from .float_bits import power_of_two_halves
from .lookup import table_polynomial
from .simd import any_lane, at_most, by_type, clamp, constant, fma, polynomial, select

INVERSE_SQRT_2PI = 0.3989422804014327
# normal_pdf and normal_cdf round to 0 below minus these
TAIL_END32, TAIL_END64 = 14.5, 39.0


@scalar
def _gauss(w):
    """(t, a, b) with e^(-w^2 / 2) = (1 + t) a b; what rounding takes from w^2 is taken into account."""
    half = constant(-0.5, w)
    square = w * w
    shift = by_type(w, SHIFT32, SHIFT64)
    shifted = fma(square, constant(-0.5 * LOG2_E, w), shift)
    n = shifted - shift
    low = fma(half, fma(w, w, -square), n * by_type(w, -LN2_LOW32, -LN2_LOW64))
    r = fma(n, by_type(w, -LN2_HIGH32, -LN2_HIGH64), half * square) + low
    a, b = power_of_two_halves(shifted)
    return expm1_reduced(r), a, b


@scalar
def normal_pdf(x):
    """e^(-x^2 / 2) / sqrt(2 pi).

    At most 1.28 ULP in float32, 1.49 in float64.
    """
    t, a, b = _gauss(clamp(abs(x), constant(0.0, x), by_type(x, TAIL_END32, TAIL_END64)))
    c = constant(INVERSE_SQRT_2PI, x)
    return fma(t, c, c) * a * b


# ---- Float32

# The table's first half serves nearly all numbers at four fifths of the cost of the whole. That takes over for vectors
# with a lane below -COMMON_END, and is left at TABLE_END; each a little before it ends. gelu(x) rounds to x above
# COMMON_END, and normal_cdf(x) to 1. 16 gelu of numbers of deviation 3 take 3.05 ns on a Zen 5 core, with the
# asymptotic series from COMMON_END on 4.3; of deviation 1, 2.4 ns, by the whole table alone 2.9.
_common_cdf, _cdf = table_polynomial(tables.NORMAL_CDF, 16), table_polynomial(tables.NORMAL_CDF, 32)
COMMON_END, TABLE_END = 5.74, 8.38
# w normal_cdf(-w) e^(w^2 / 2) in 1 / w^2 for COMMON_END <= w <= TAIL_END, with the leading term 1 / sqrt(2 pi) of its
# asymptotic series; fitted as in elementary.py: 2^-30.3
MILLS = (
    0.3989422619342804, -0.39893314242362976, 1.1951088905334473, -5.823369979858398, 33.65564727783203,
    -137.53334045410156,
)  # fmt: skip


@scalar
def _number(a):
    """The number of the interval of a, in the lowest bits."""
    # a (a + 1) / 2.5, 12 % faster than by a sum, a product and an fma.
    return fma(fma(a, a, a), constant(1.0 / 2.5, a), constant(SHIFT32, a))


@scalar
def _far_below(x):
    """(t, m, a, b, w) with w normal_cdf(-w) = (1 + t) m a b for w = -x >= TABLE_END, or at TAIL_END if x is below."""
    w = clamp(-x, constant(TABLE_END, x), constant(TAIL_END32, x))
    t, a, b = _gauss(w)
    return t, polynomial(constant(1.0, x) / (w * w), MILLS, MILLS), a, b, w


@scalar
def _cdf_by(x, below):
    """normal_cdf(x) from normal_cdf(-|x|)."""
    return select(x < constant(0.0, x), below, constant(1.0, x) - below)


@scalar
def _by_table(x):
    """(size, normal_cdf(-size), whether some x is far below), size being |x| up to where results need it no more."""
    if any_lane(x < constant(-COMMON_END, x)):
        size = at_most(abs(x), constant(TABLE_END, x))
        below, some_far = _cdf(size, _number(size)), any_lane(x < constant(-TABLE_END, x))
    else:
        size = at_most(abs(x), constant(COMMON_END, x))
        below, some_far = _common_cdf(size, _number(size)), False
    return size, below, some_far


@scalar
def _normal_cdf32(x):
    _, below, some_far = _by_table(x)
    y = _cdf_by(x, below)
    if some_far:
        t, m, a, b, w = _far_below(x)
        m = m / w
        y = select(x < constant(-TABLE_END, x), fma(t, m, m) * a * b, y)
    return y


@scalar
def _gelu32(x):
    size, below, some_far = _by_table(x)
    y = product_by_tail(x, size, below)
    if some_far:
        t, m, a, b, _ = _far_below(x)
        y = select(x < constant(-TABLE_END, x), -fma(t, m, m) * a * b, y)
    return y


# ---- Float64

# normal_cdf(-w) e^(w^2 / 2) (w + TAIL_SHIFT) in 1 / (w + TAIL_SHIFT) - TAIL_CENTRE for 0 <= w <= TAIL_END64: least
# squares in Chebyshev nodes, degree 22, 2^-54.9. Rejected: a quotient of polynomials in w, of degrees 10 and 11; it
# fits as well, but where all its terms are large their roundings add up to 5 ULP.
TAIL_SHIFT, TAIL_CENTRE = 4.0, 0.140625
TAIL = (
    0.8377004943765662, 5.711236614054071, 29.624241646329228, 111.48735524546652, 262.9030658146928,
    144.73379496731013, -1261.1728169888888, -2874.5815533245445, 6391.574364248428, 26815.664337463684,
    -49847.96807429683, -237088.1870319162, 596420.0582537833, 1928456.0812596981, -8352404.072975993,
    -10271757.98468149, 112326638.2474289, -63516810.242739916, -1319889669.9683733, 2611502521.617625,
    12953130429.092823, -27515951314.290417, -89418782991.60506,
)  # fmt: skip


@scalar
def _tail(w):
    """(t, a, b) with normal_cdf(-w) = t a b = e^(-w^2 / 2) P(v) v for w >= 0, v = 1 / (w + TAIL_SHIFT).

    What rounding takes from v is computed, `rest`, and goes into both factors.
    """
    one, shift = constant(1.0, w), constant(TAIL_SHIFT, w)
    w = clamp(w, constant(0.0, w), constant(TAIL_END64, w))
    t, a, b = _gauss(w)
    high = w + shift
    v = one / high
    rest = fma(-v, w - (high - shift), fma(-v, high, one))
    p = polynomial(fma(v, rest, v - constant(TAIL_CENTRE, w)), TAIL, TAIL)
    return fma(p, t + rest, p) * v, a, b


@scalar
def _normal_cdf64(x):
    t, a, b = _tail(abs(x))
    tail = t * a * b
    return select(x < constant(0.0, x), tail, constant(1.0, x) - tail)


@scalar
def _gelu64(x):
    """Below 0 the product is formed before the last factor: a denormal normal_cdf has lost digits that it needs."""
    t, a, b = _tail(abs(x))
    end = constant(TAIL_END64, x)
    below = select(x < -end, -end, x) * (t * a) * b
    return select(x < constant(0.0, x), below, x * (constant(1.0, x) - t * a * b))


# ---- By the type of x

normal_cdf = by_precision(
    _normal_cdf32,
    _normal_cdf64,
    """(1 + erf(x / sqrt(2))) / 2, to full relative precision in the lower tail.

    At most 2.38 ULP in float32, 2.71 in float64.
    """,
)
gelu = by_precision(_gelu32, _gelu64, """x normal_cdf(x).""")
