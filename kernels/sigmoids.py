"""sigmoid, tanh and the activations x sigmoid(.), of one number or a Vector.

Float32: polynomials of |x| in 16 or 32 intervals (tables.py), whose numbers an fma leaves in a float's lowest bits. No
division, two thirds of the operations of the ways by e^x, half their latency and less error: in each interval the
leading coefficients are as good as exact. Where the tables end, results come by e^x, for the vectors that have such
lanes; a lane has the value that it has in any company. Float64, where polynomials would be twice as long: by e^x.
"""

from . import tables
from .elementary import (
    LN2,
    LOG2_E,
    SHIFT32,
    SHIFT64,
    by_precision,
    exp,
    exp_parts,
    expm1_reduced,
    product_by_tail,
    reduce_by_ln2,
    scalar,
)
from .float_bits import power_of_two, power_of_two_halves
from .lookup import table_polynomial
from .simd import any_lane, at_most, by_type, clamp, constant, copysign, fma, select

# ---- Float32

_common_sigmoid, _sigmoid = table_polynomial(tables.SIGMOID, 16), table_polynomial(tables.SIGMOID, 32)
_gelu_tanh_polynomial = table_polynomial(tables.GELU_TANH, 16)
# The numbers of tanh's first eight intervals lie below 2^24; above, where floats are two apart, wider ones begin at 0.
_tanh_polynomial = table_polynomial(tuple(row[8:] + row[:8] for row in tables.TANH), 16)
# Where tables are left, just before they end. From TANH_END on tanh is 1; above SIGMOID_END and GELU_TANH_END
# x sigmoid(.) rounds to x. Of sigmoid's table the first half serves up to COMMON_END, as in normal.py.
COMMON_END, SIGMOID_END, TANH_END, GELU_TANH_END = 8.7, 17.7, 9.015, 5.46
# e^-a and a e^-a round to 0 from here on; and x sigmoid(.) of gelu_tanh.
TAIL_END, GELU_TANH_TAIL_END = 110.0, 12.0


@scalar
def _number(a):
    """The number of sigmoid's interval of a, in the lowest bits."""
    return fma(a, constant(1.0 / 0.5625, a), constant(SHIFT32, a))


@scalar
def _by_table(size, far):
    """(size up to where the table ends, sigmoid(-size), whether some lane is far, which begins at that end)."""
    if any_lane(size > constant(COMMON_END, size)):
        size, some_far = at_most(size, constant(SIGMOID_END, size)), any_lane(far)
        below = _sigmoid(size, _number(size))
    else:
        below, some_far = _common_sigmoid(size, _number(size)), False
    return size, below, some_far


@scalar
def _far_below(a):
    """(t, p, q) with sigmoid(-a) = e^-a - e^-2a + ... = (1 + t) p q for SIGMOID_END < a <= TAIL_END."""
    t, p, q = exp_parts(-a)
    return t - (constant(1.0, a) + t) * p * q, p, q


@scalar
def _pair_by(x, below):
    """(sigmoid(x), 1 - sigmoid(x)) from sigmoid(-|x|)."""
    above = constant(1.0, x) - below
    negative = x < constant(0.0, x)
    return select(negative, below, above), select(negative, above, below)


@scalar
def _sigmoid_pair32(x):
    size = abs(x)
    far = size > constant(SIGMOID_END, x)
    _, below, some_far = _by_table(size, far)
    if some_far:
        t, p, q = _far_below(at_most(size, constant(TAIL_END, x)))
        below = select(far, (constant(1.0, x) + t) * p * q, below)
    return _pair_by(x, below)


@scalar
def _sigmoid32(x):
    return _sigmoid_pair32(x)[0]


@scalar
def _tanh32(x):
    a = at_most(abs(x), constant(TANH_END, x))
    return copysign(_tanh_polynomial(a, fma(a, constant(1.0 / 0.392, a), constant(2.0**24 - 8.0, a))), x)


@scalar
def _silu32(x):
    far = x < constant(-SIGMOID_END, x)
    size, below, some_far = _by_table(abs(x), far)
    y = product_by_tail(x, size, below)
    if some_far:
        # The product comes before the factor that may make it denormal.
        a = at_most(abs(x), constant(TAIL_END, x))
        t, p, q = _far_below(a)
        y = select(far, fma(-a, t, -a) * p * q, y)
    return y


@scalar
def _far_gelu_tanh(x):
    """x e^u for x < -GELU_TANH_END, where sigmoid(u) is e^u."""
    z = clamp(x, constant(-GELU_TANH_TAIL_END, x), constant(-GELU_TANH_END, x))
    u, low = _gelu_tanh_inner(z)
    shifted, r = reduce_by_ln2(u)
    p, q = power_of_two_halves(shifted)
    return fma(z, expm1_reduced(r + low), z) * p * q


@scalar
def _gelu_tanh32(x):
    a = at_most(abs(x), constant(GELU_TANH_END, x))
    at = fma(a, fma(a, constant(1.0 / 2.1, a), constant(0.5 / 2.1, a)), constant(SHIFT32, a))
    y = product_by_tail(x, a, _gelu_tanh_polynomial(a, at))
    # Not by a longer table: 2.5 ULP there, for its intervals are wide where the function falls fast.
    far = x < constant(-GELU_TANH_END, x)
    if any_lane(far):
        y = select(far, _far_gelu_tanh(x), y)
    return y


# ---- Both

# sqrt(8 / pi) and 0.044715 (Hendrycks and Gimpel 2016), and what their roundings leave
SQRT_8_OVER_PI, GELU_CUBIC = 1.5957691216057308, 0.044715
SQRT_8_OVER_PI_LOW32, SQRT_8_OVER_PI_LOW64 = -4.534068042105272e-08, -9.96930880911092e-17
GELU_CUBIC_LOW32, GELU_CUBIC_LOW64 = 1.5461444854736329e-09, 2.1960211427085595e-18


@scalar
def _gelu_tanh_inner(z):
    """sqrt(8 / pi) (z + 0.044715 z^3) in two parts.

    The exponential amplifies a rounding by the size of this, 90 in the lower tail. With one part: 163 ULP in float32.
    """
    square = z * z
    cubic, one = constant(GELU_CUBIC, z), constant(1.0, z)
    factor = fma(cubic, square, one)
    factor_low = fma(cubic, fma(z, z, -square), fma(cubic, square, one - factor))
    factor_low = fma(by_type(z, GELU_CUBIC_LOW32, GELU_CUBIC_LOW64), square, factor_low)
    root = constant(SQRT_8_OVER_PI, z)
    scaled = root * z
    scaled_low = fma(by_type(z, SQRT_8_OVER_PI_LOW32, SQRT_8_OVER_PI_LOW64), z, fma(root, z, -scaled))
    u = scaled * factor
    return u, fma(scaled_low, factor, fma(scaled, factor_low, fma(scaled, factor, -u)))


# ---- Float64

SCALE = 600.0  # binary orders by which sigmoid scales its denominator down
# e^-a rounds to 0 from here on; and a e^-a; and x sigmoid(.) of gelu_tanh.
EXP_END64, PRODUCT_END64, GELU_TANH_END64 = 746.0, 753.0, 22.0


@scalar
def _scaled_sigmoid(x, low, end):
    """sigmoid(x + low) 2^SCALE for -x <= end; low, which may be 0, is below half a unit in x's last place.

    With e^-x = s + s (e^r - 1); the quotient takes up the rounding error of the denominator in a Newton step, without
    which it would be off by 2.3 ULP. Both terms of the denominator are scaled down, so that a denormal result comes
    from no infinity.
    """
    y = clamp(-x, constant(-40.0, x), end)
    shifted, r = reduce_by_ln2(y)
    t = expm1_reduced(r - low)
    s = power_of_two(shifted, constant(-SCALE, x))
    whole = s + constant(2.0**-SCALE, x)
    high = fma(s, t, whole)
    low = fma(s, t, whole - high)
    one = constant(1.0, x)
    q = one / high
    return fma(fma(-q, low, fma(-q, high, one)), q, q)


@scalar
def _sigmoid64(x):
    return _scaled_sigmoid(x, constant(0.0, x), constant(EXP_END64, x)) * constant(2.0**-SCALE, x)


@scalar
def _sigmoid_pair64(x):
    zero, one = constant(0.0, x), constant(1.0, x)
    e = exp(-abs(x))
    high = one + e
    low = (one - high) + e
    q = one / high
    q = fma(fma(-q, low, fma(-q, high, one)), q, q)
    rest = e * q
    return select(x < zero, rest, q), select(x < zero, q, rest)


@scalar
def _times_sigmoid(x, u, low):
    """x sigmoid(u + low), u having the sign of x.

    Below 0 the product is formed before the scale is taken off: a denormal sigmoid has lost the digits that the
    product needs.
    """
    end = constant(PRODUCT_END64, x)
    q = _scaled_sigmoid(u, low, end)
    scale = constant(2.0**-SCALE, x)
    # What lies below -end gives 0, as -end does.
    return select(x > constant(0.0, x), x * (q * scale), select(x < -end, -end, x) * q * scale)


@scalar
def _silu64(x):
    return _times_sigmoid(x, x, constant(0.0, x))


@scalar
def _gelu_tanh64(x):
    end = constant(GELU_TANH_END64, x)
    u, low = _gelu_tanh_inner(clamp(x, -end, end))
    return _times_sigmoid(x, u, low)


@scalar
def _tanh64(x):
    """e / (e + 2) with e = e^2|x| - 1.

    The quotient takes up the rounding error of the denominator. One fma reduces the argument: the error of ln(2) as one
    number stays below the rounding of the result.
    """
    one, two, limit = constant(1.0, x), constant(2.0, x), constant(40.0, x)
    y = abs(x) + abs(x)
    y = select(y > limit, limit, y)
    shifted = fma(y, constant(LOG2_E, x), constant(SHIFT64, x))
    r = fma(constant(SHIFT64, x) - shifted, constant(LN2, x), y)
    s = power_of_two(shifted, constant(0.0, x))
    e = fma(s, expm1_reduced(r), s - one)
    high = e + two
    low = (two - high) + e
    inverse = one / high
    q = e * inverse
    return copysign(fma(fma(-q, low, fma(-q, high, e)), inverse, q), x)


# ---- By the type of x

sigmoid = by_precision(
    _sigmoid32,
    _sigmoid64,
    """1 / (1 + e^-x).

    Monotone over all float32 inputs.
    At most 1.03 ULP in float32, 1.74 in float64.
    """,
)
sigmoid_pair = by_precision(
    _sigmoid_pair32,
    _sigmoid_pair64,
    """(sigmoid(x), 1 - sigmoid(x)), the second without the cancellation of a difference.""",
)
tanh = by_precision(
    _tanh32,
    _tanh64,
    """(e^x - e^-x) / (e^x + e^-x), exactly odd.

    Monotone over all float32 inputs.
    At most 1.04 ULP in float32, 1.95 in float64.
    """,
)
silu = by_precision(_silu32, _silu64, """x sigmoid(x).""")
gelu_tanh = by_precision(
    _gelu_tanh32,
    _gelu_tanh64,
    """x sigmoid(sqrt(8 / pi) (x + 0.044715 x^3)): x / 2 (1 + tanh(u / 2)) without its cancellation below 0.""",
)
