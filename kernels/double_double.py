"""The activations and their derivatives in pairs of doubles, to 2^-70: the exact values for tests of float64.

    a number = high + low, |low| at most half a unit in high's last place

(Dekker 1971; the sums and products are those of Joldes, Muller and Popescu 2017). Nothing here is shared with
`elementary` but a first guess of a logarithm, which a Newton step replaces: other reductions, Taylor series where that
has fitted polynomials, a series and a continued fraction for the normal distribution.

Results come times 2^256 where the float64 result is below 2^-500, so that what is denormal there has all its digits
here. Each function is of one number or a Vector; arguments are finite.
"""

from .activation import (
    ELU,
    GELU,
    GELU_TANH,
    HARDSIGMOID,
    HARDSWISH,
    LEAKY_RELU,
    RELU,
    SELU,
    SIGMOID,
    SILU,
    SOFTPLUS,
    TANH,
)
from .elementary import LN2_HIGH64, LOG2_E, SHIFT64, log1p, scalar
from .float_bits import power_of_two_halves
from .jit import inner, kernel
from .simd import constant, copysign, flat_pointer, fma, lanes_of, load_vector, select, store_vector

# Float64 results below SMALL are looked at times 2^UP.
SMALL, UP = 2.0**-500, 256.0
SCALE = 2.0**UP

# Numbers that no double holds, as pairs. ln(2) less LN2_HIGH64, whose products with exponents are exact.
LN2_REST = 1.9082149292705877e-10, 1.1612227229362532e-26
THIRD = 0.3333333333333333, 1.850371707708594e-17
SIXTH = 0.16666666666666666, 9.25185853854297e-18
HUNDREDTH = 0.01, -2.0816681711721684e-19
INVERSE_SQRT_2PI = 0.3989422804014327, -2.49232720227773e-17
SQRT_8_OVER_PI = 1.5957691216057308, -9.96930880911092e-17
CUBIC, CUBIC_3 = (0.044715, 2.1960211427085595e-18), (0.134145, 1.3526957332032908e-17)
SELU_SCALE, SELU_SLOPE = (1.0507009873554805, 3.9874847667154144e-17), (1.7580993408473768, 1.41535193800845e-17)

# exp(r) is the 2^HALVINGS-th power of exp(r / 2^HALVINGS), and so many terms of its series are taken in double.
HALVINGS, LAST_TERM = 8, 9
# Below e^EXP_END times 2^UP nothing is left; the exponent of its halves is still that of a normal number.
EXP_END = -1100.0
# |x| from which x sigmoid(u) in gelu_tanh is x, or 0.
GELU_TANH_END = 30.0
# Where the normal distribution's series gives way to the continued fraction; the tail's end.
SERIES_END, TAIL_END = 4.0, 45.0


# ---- Arithmetic


@scalar
def quick_sum(a, b):
    """a + b for |a| >= |b|, as a pair."""
    s = a + b
    return s, b - (s - a)


@scalar
def exact_sum(a, b):
    """a + b as a pair."""
    s = a + b
    part = s - a
    return s, (a - (s - part)) + (b - part)


@scalar
def exact_product(a, b):
    """a * b as a pair."""
    p = a * b
    return p, fma(a, b, -p)


@scalar
def add(a, b):
    s, e = exact_sum(a[0], b[0])
    t, f = exact_sum(a[1], b[1])
    s, e = quick_sum(s, e + t)
    return quick_sum(s, e + f)


@scalar
def multiply(a, b):
    p, e = exact_product(a[0], b[0])
    return quick_sum(p, fma(a[0], b[1], fma(a[1], b[0], e)))


@scalar
def divide(a, b):
    q = a[0] / b[0]
    p, e = exact_product(q, b[0])
    rest = (((a[0] - p) - e) + a[1]) - q * b[1]
    return quick_sum(q, rest / b[0])


@scalar
def negative(a):
    return -a[0], -a[1]


@scalar
def times(a, factor):
    """a * factor, a power of two."""
    return a[0] * factor, a[1] * factor


@scalar
def choose(condition, a, b):
    return select(condition, a[0], b[0]), select(condition, a[1], b[1])


@scalar
def single(x):
    return x, constant(0.0, x)


@scalar
def number(pair, like):
    """A pair of literals, in the type of `like`."""
    return constant(pair[0], like), constant(pair[1], like)


# ---- Elementary functions


@scalar
def _expm1_and_power(a):
    """(e^r - 1, n + SHIFT) with a = n ln(2) + r; a below EXP_END counts as that."""
    end, zero = constant(EXP_END, a[0]), constant(0.0, a[0])
    a = choose(a[0] < end, (end, zero), a)
    shift = constant(SHIFT64, a[0])
    shifted = fma(a[0], constant(LOG2_E, a[0]), shift)
    n = shifted - shift
    r = add(exact_sum(a[0], -n * constant(LN2_HIGH64, n)), (a[1], zero))
    r = add(r, multiply(number(LN2_REST, n), single(-n)))
    t = times(r, constant(2.0**-HALVINGS, n))
    # t + t^2 / 2 + t^3 / 6 in pairs, what follows in double: it is 2^-33 of the sum.
    tail = constant(1.0 / LAST_TERM, n)
    for i in range(LAST_TERM - 1, 3, -1):
        tail = fma(tail, t[0], constant(1.0, n)) * constant(1.0 / i, n)
    square = multiply(t, t)
    cube = multiply(multiply(square, t), number(SIXTH, n))
    tail = tail * t[0] * cube[0]
    e = add(t, add(times(square, constant(0.5, n)), add(cube, single(tail))))
    for _ in range(HALVINGS):
        e = add(times(e, constant(2.0, n)), multiply(e, e))
    return e, shifted


@scalar
def exp(a, up):
    """e^a 2^up."""
    e, shifted = _expm1_and_power(a)
    p, q = power_of_two_halves(shifted + up)
    return times(times(add(single(constant(1.0, up)), e), p), q)


@scalar
def expm1(a):
    """e^a - 1, for a of up to 700."""
    e, shifted = _expm1_and_power(a)
    p, q = power_of_two_halves(shifted)
    power = p * q
    general = add(times(e, power), exact_sum(power, constant(-1.0, power)))
    # x + x^2 / 2: for the general way denormal x have no low part.
    half = constant(0.5, power)
    return choose(abs(a[0]) < constant(2.0**-60, power), (a[0], fma(half * a[0], a[0], a[1])), general)


@scalar
def _log1p_exp(a, up):
    """log(1 + e^-a) 2^up for a >= 0; where up is not 0, a is above 100."""
    e = exp(negative(a), up)
    guess = log1p(e[0])
    found = expm1(single(guess))
    step = divide(add(e, negative(found)), add(single(constant(1.0, up)), found))
    newton = add(single(guess), add(step, single(constant(-0.5, up) * step[0] * step[0])))
    return choose(a[0] > constant(100.0, up), e, newton)


@scalar
def _sigmoid_pair(x, up, scale):
    """(sigmoid(x) scale, 1 - sigmoid(x)), scale = 2^up; the second where up is 0, or x below 0."""
    zero = constant(0.0, up)
    one, below_zero = single(constant(1.0, up)), x[0] < zero
    size = choose(below_zero, x, negative(x))
    sum = add(one, exp(size, zero))
    small, large = divide(exp(size, up), sum), divide(one, sum)
    return choose(below_zero, small, times(large, scale)), choose(below_zero, large, small)


@scalar
def _normal_pdf(x, up):
    """e^(-x^2 / 2) / sqrt(2 pi) 2^up."""
    p, e = exact_product(x, x)
    half = constant(-0.5, x)
    return multiply(number(INVERSE_SQRT_2PI, x), exp((p * half, e * half), up))


@scalar
def _normal_cdf(x, up, scale, terms, depth):
    """The normal distribution function times scale = 2^up, from so many terms and levels; up is 0 for x > SERIES_END.

    |x| <= SERIES_END: 1/2 + pdf(x) (x + x^3 / 3 + x^5 / 15 + ...), beyond: pdf(x) / (x + 1 / (x + 2 / (x + ...))).
    """
    zero, half, end = constant(0.0, x), constant(0.5, x), constant(SERIES_END, x)
    w = abs(x)
    near, far = select(w < end, w, end), select(w < end, end, w)
    square = exact_product(near, near)
    term = total = single(near)
    for n in range(1, terms):
        term = multiply(term, multiply(square, number(divide((1.0, 0.0), (2.0 * n + 1.0, 0.0)), x)))
        total = add(total, term)
    series = add(single(half), negative(multiply(_normal_pdf(near, zero), total)))
    fraction = single(far)
    for n in range(depth, 0, -1):
        fraction = add(single(far), divide(single(constant(1.0 * n, x)), fraction))
    tail = divide(_normal_pdf(far, up), fraction)
    above = add(single(constant(1.0, x)), negative(choose(w < end, series, tail)))
    return choose(x < zero, choose(w < end, times(series, scale), tail), times(above, scale))


@inner
def _lengths(x):
    """(terms, depth) that `_normal_cdf` needs for these numbers: 1 and 0 where none of them takes that way."""
    least, largest = TAIL_END, 0.0
    for v in x:
        least, largest = min(least, abs(v)), max(largest, abs(v))
    terms, depth = 1, 0
    w, size = min(largest, SERIES_END), 1.0
    while size > 2.0**-90:
        size *= w * w / (2 * terms + 1)
        terms += 1
    if largest > SERIES_END:
        # Its error falls as e^(-1.65 w sqrt(depth)) at first, where w is small.
        depth = 14 + int(1300.0 / max(least, SERIES_END) ** 2)
    return terms, depth


@scalar
def _gelu_tanh_argument(x):
    """(u, u') with u = sqrt(8 / pi) (x + 0.044715 x^3)."""
    square = exact_product(x, x)
    one, root = single(constant(1.0, x)), number(SQRT_8_OVER_PI, x)
    u = multiply(multiply(root, single(x)), add(one, multiply(number(CUBIC, x), square)))
    return u, multiply(root, add(one, multiply(number(CUBIC_3, x), square)))


# ---- Activations


@scalar
def _within(x, end):
    end = constant(end, x)
    return select(abs(x) < end, x, copysign(end, x))


@scalar
def _value(activation, x, up, scale, terms, depth):
    """f(x) times scale = 2^up."""
    zero, one = constant(0.0, x), constant(1.0, x)
    scaled = single(x * scale)
    if activation == RELU:
        return choose(x > zero, scaled, single(zero))
    if activation == LEAKY_RELU:
        return choose(x > zero, scaled, multiply(number(HUNDREDTH, x), scaled))
    if activation in (ELU, SELU):
        below = times(expm1(single(select(x < zero, x, zero))), scale)
        if activation == ELU:
            return choose(x > zero, scaled, below)
        above = multiply(number(SELU_SCALE, x), scaled)
        # What overflows is no pair any more: inf - inf.
        above = choose(above[0] == above[0], above, single(constant(SELU_SCALE[0], x) * scaled[0]))
        return choose(x > zero, above, multiply(number(SELU_SLOPE, x), below))
    if activation == SIGMOID:
        return _sigmoid_pair(single(x), up, scale)[0]
    if activation == TANH:
        e = expm1(single(constant(-2.0, x) * abs(x)))
        ratio = divide(negative(e), add(single(constant(2.0, x)), e))
        ratio = copysign(ratio[0], x), ratio[1] * copysign(one, x)
        # x - x^3 / 3
        return choose(abs(x) < constant(2.0**-60, x), scaled, times(ratio, scale))
    if activation == SOFTPLUS:
        rest = _log1p_exp(single(abs(x)), up)
        return choose(x > zero, add(single(x), rest), rest)
    if activation == GELU:
        return multiply(single(x), _normal_cdf(_within(x, TAIL_END), up, scale, terms, depth))
    if activation == GELU_TANH:
        u, _ = _gelu_tanh_argument(_within(x, GELU_TANH_END))
        return multiply(single(x), _sigmoid_pair(u, up, scale)[0])
    if activation == SILU:
        return multiply(single(x), _sigmoid_pair(single(x), up, scale)[0])
    if activation in (HARDSIGMOID, HARDSWISH):
        three = constant(3.0, x)
        inside = multiply(number(SIXTH, x), exact_sum(_within(x, 4.0), three))
        inside = choose(x > -three, inside, single(zero))
        inside = choose(x < three, inside, single(one))
        # Of a large negative x, times the scale, is left inf.
        product = choose(x > -three, multiply(scaled, inside), single(zero))
        return times(inside, scale) if activation == HARDSIGMOID else product
    return scaled


@scalar
def _slope(activation, y, up, scale, terms, depth):
    """f' times scale = 2^up from the pair y: the output, or the input where the derivative is a function of that."""
    x, zero = y[0], constant(0.0, y[0])
    one = single(constant(1.0, x))
    if activation == RELU:
        return choose(x > zero, one, single(zero))
    if activation == LEAKY_RELU:
        return choose(x > zero, one, number(HUNDREDTH, x))
    if activation == ELU:
        return choose(x > zero, one, times(add(one, y), scale))
    if activation == SELU:
        return choose(x > zero, number(SELU_SCALE, x), times(add(number(SELU_SLOPE, x), y), scale))
    if activation == SIGMOID:
        return multiply(times(y, scale), add(one, negative(y)))
    if activation == TANH:
        return times(add(one, negative(multiply(y, y))), scale)
    if activation == SOFTPLUS:
        return times(negative(expm1(negative(y))), scale)
    if activation == GELU:
        w = _within(x, TAIL_END)
        return add(_normal_cdf(w, up, scale, terms, depth), multiply(single(w), _normal_pdf(w, up)))
    if activation == GELU_TANH:
        z = _within(x, GELU_TANH_END)
        u, du = _gelu_tanh_argument(z)
        s, rest = _sigmoid_pair(u, up, scale)
        return multiply(s, add(one, multiply(multiply(single(z), du), rest)))
    if activation == SILU:
        s, rest = _sigmoid_pair(y, up, scale)
        return multiply(s, add(one, multiply(y, rest)))
    if activation == HARDSIGMOID:
        inside = (x > zero) & (add(one, negative(y))[0] > zero)
        return choose(inside, number(SIXTH, x), single(zero))
    if activation == HARDSWISH:
        three = constant(3.0, x)
        line = add(multiply(number(THIRD, x), single(_within(x, 4.0))), single(constant(0.5, x)))
        line = choose(x > -three, times(line, scale), single(zero))
        return choose(x < three, line, one)
    return one


@scalar
def _up(result):
    """(up, 2^up) for the exact value that a float64 result is compared with."""
    small = abs(result) < constant(SMALL, result)
    zero, one = constant(0.0, result), constant(1.0, result)
    return select(small, constant(UP, result), zero), select(small, constant(SCALE, result), one)


@kernel
def exact_activation(x, activation, result, high, low):
    """high + low = f(x), times SCALE where |result|, the float64 result that it is for, is below SMALL.

    Args:
        x, result: finite float64 arrays, flat and of one size, as are high and low, which are filled.
        activation: an elementwise `Activation`.
    """
    p, r, h, l, count = flat_pointer(x), flat_pointer(result), flat_pointer(high), flat_pointer(low), x.size
    terms, depth = _lengths(x)
    for i in range(0, count, lanes_of(p)):
        up, scale = _up(load_vector(r, i, count))
        a, b = _value(activation, load_vector(p, i, count), up, scale, terms, depth)
        store_vector(h, i, count, a)
        store_vector(l, i, count, b)


@kernel
def exact_derivative(saved, saved_low, activation, result, high, low):
    """high + low = f' from saved + saved_low, which the backward takes; otherwise as `exact_activation`."""
    p, q, r, h, l = (
        flat_pointer(saved),
        flat_pointer(saved_low),
        flat_pointer(result),
        flat_pointer(high),
        flat_pointer(low),
    )
    count = saved.size
    terms, depth = _lengths(saved)
    for i in range(0, count, lanes_of(p)):
        up, scale = _up(load_vector(r, i, count))
        y = load_vector(p, i, count), load_vector(q, i, count)
        a, b = _slope(activation, y, up, scale, terms, depth)
        store_vector(h, i, count, a)
        store_vector(l, i, count, b)
