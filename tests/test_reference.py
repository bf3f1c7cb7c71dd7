"""The reference against independent knowledge: closed forms in scalar `math`, published values, central differences."""

import math

import numpy as np
import pytest

from fastnn.kernels import reference
from fastnn.kernels.codes import NEEDS_PRE_ACTIVATION, Activation, EstimatorLoss, Loss, Optimizer

INF, NAN = math.inf, math.nan
NO_WEIGHTS = np.empty(0)
ELEMENTWISE = [a for a in Activation if a not in (Activation.SOFTMAX, Activation.LOG_SOFTMAX)]
# Away from the kinks at 0 and +-3, so that central differences exist everywhere.
POINTS = np.array([-37.0, -9.5, -4.0, -2.9, -1.3, -0.7, -1e-3, 1e-3, 0.4, 1.0, 2.2, 3.1, 6.0, 20.0])


def name(code):
    return code.name.lower()


def apply(activation, x):
    x = np.asarray(x)
    out = np.empty_like(x)
    getattr(reference, name(activation))(x, out)
    return out


def backward(activation, dy, z):
    """dx at the pre-activation z, whichever of z and y the backward takes."""
    z = np.asarray(z)
    saved = z if activation in NEEDS_PRE_ACTIVATION else apply(activation, z)
    out = np.empty_like(z)
    getattr(reference, f"{name(activation)}_backward")(np.asarray(dy, dtype=z.dtype), saved, out)
    return out


def central_difference(function, x, step=1e-5):
    """d function / d x for a scalar function of an array, element by element."""
    derivative = np.empty_like(x)
    for i in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[i] += step
        below[i] -= step
        derivative[i] = (function(above) - function(below)) / (above[i] - below[i])
    return derivative


def assert_near_difference(actual, difference):
    # Truncation is step^2 = 1e-10 times a third derivative, rounding is eps / step = 2e-11 times a value; both factors
    # are of order 1 to 100 here.
    np.testing.assert_allclose(actual, difference, rtol=1e-8, atol=1e-8)


# ---- Activations

SCALAR = {
    Activation.IDENTITY: lambda x: x,
    Activation.RELU: lambda x: x if x > 0 else 0.0,
    Activation.LEAKY_RELU: lambda x: x if x > 0 else x / 100,
    Activation.ELU: lambda x: x if x > 0 else math.exp(x) - 1,
    Activation.SELU: lambda x: (
        1.0507009873554805 * x if x > 0 else 1.0507009873554805 * 1.6732632423543772 * (math.exp(x) - 1)
    ),
    Activation.SIGMOID: lambda x: 1 / (1 + math.exp(-x)),
    Activation.TANH: lambda x: 1 - 2 / (math.exp(2 * x) + 1),
    Activation.SOFTPLUS: lambda x: math.log(1 + math.exp(x)),
    Activation.GELU: lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2,
    Activation.GELU_TANH: lambda x: 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))),
    Activation.SILU: lambda x: x / (1 + math.exp(-x)),
    Activation.HARDSIGMOID: lambda x: min(max(x + 3, 0), 6) / 6,
    Activation.HARDSWISH: lambda x: x * min(max(x + 3, 0), 6) / 6,
}


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=name)
def test_activation_is_the_textbook_formula(activation):
    # The textbook forms cancel in the tails: an absolute error of a few eps times |x| up to 37.
    np.testing.assert_allclose(
        apply(activation, POINTS), [SCALAR[activation](x) for x in POINTS.tolist()], rtol=1e-14, atol=1e-14
    )


@pytest.mark.parametrize(
    ("activation", "x", "y"),
    [
        (Activation.RELU, -2.0, 0.0),
        (Activation.RELU, 2.0, 2.0),
        (Activation.LEAKY_RELU, -200.0, -2.0),
        (Activation.ELU, -math.log(2.0), -0.5),
        (Activation.ELU, -1e-20, -1e-20),  # exp(x) - 1 would be 0
        (Activation.SELU, -INF, -1.7580993408473766),
        (Activation.SELU, 1.0, 1.0507009873554805),
        (Activation.SIGMOID, 0.0, 0.5),
        (Activation.SIGMOID, math.log(3.0), 0.75),
        (Activation.SIGMOID, -700.0, 9.859676543759770e-305),
        (Activation.TANH, math.log(2.0), 0.6),
        (Activation.SOFTPLUS, 0.0, 0.6931471805599453),
        (Activation.SOFTPLUS, -50.0, 1.928749847963918e-22),  # log(1 + exp(x)) would be 0
        (Activation.SOFTPLUS, 1000.0, 1000.0),
        (Activation.GELU, 1.0, 0.8413447460685429),  # Phi(1)
        (Activation.GELU, -2.0, -0.04550026389635842),  # the two-sided 2 sigma tail
        (Activation.GELU, -10.0, -7.619853024160527e-23),  # 10 Phi(-10); 1 + erf would be 0
        (Activation.SILU, math.log(3.0), 0.75 * math.log(3.0)),
        (Activation.HARDSIGMOID, 1.5, 0.75),
        (Activation.HARDSIGMOID, -3.0, 0.0),
        (Activation.HARDSIGMOID, 3.0, 1.0),
        (Activation.HARDSWISH, 1.5, 1.125),
        (Activation.HARDSWISH, -1.5, -0.375),
        (Activation.HARDSWISH, 4.0, 4.0),
    ],
)
def test_activation_at_known_points(activation, x, y):
    np.testing.assert_allclose(apply(activation, [x]), [y], rtol=1e-14, atol=0)


# At -inf, inf. NaN gives NaN for all.
AT_INFINITY = {
    Activation.IDENTITY: (-INF, INF),
    Activation.RELU: (0, INF),
    Activation.LEAKY_RELU: (-INF, INF),
    Activation.ELU: (-1, INF),
    Activation.SELU: (-1.7580993408473766, INF),
    Activation.SIGMOID: (0, 1),
    Activation.TANH: (-1, 1),
    Activation.SOFTPLUS: (0, INF),
    Activation.GELU: (0, INF),
    Activation.GELU_TANH: (0, INF),
    Activation.SILU: (0, INF),
    Activation.HARDSIGMOID: (0, 1),
    Activation.HARDSWISH: (0, INF),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("activation", ELEMENTWISE, ids=name)
def test_activation_at_infinity_and_nan(activation, dtype):
    y = apply(activation, np.array([-INF, INF, NAN], dtype))
    np.testing.assert_allclose(y, [*AT_INFINITY[activation], NAN], rtol=np.finfo(dtype).eps, atol=0)


# The derivative at -inf, inf: the limits. From a NaN the choices relu, hardsigmoid take 0, leaky_relu its slope.
DERIVATIVE_AT_INFINITY = {
    Activation.IDENTITY: (1, 1, 1),
    Activation.RELU: (0, 1, 0),
    Activation.LEAKY_RELU: (0.01, 1, 0.01),
    Activation.ELU: (0, 1, NAN),
    Activation.SELU: (0, 1.0507009873554805, NAN),
    Activation.SIGMOID: (0, 0, NAN),
    Activation.TANH: (0, 0, NAN),
    Activation.SOFTPLUS: (0, 1, NAN),
    Activation.GELU: (0, 1, NAN),
    Activation.GELU_TANH: (0, 1, NAN),
    Activation.SILU: (0, 1, NAN),
    Activation.HARDSIGMOID: (0, 0, 0),
    Activation.HARDSWISH: (0, 1, NAN),
}


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=name)
def test_derivative_at_infinity_and_nan(activation):
    dx = backward(activation, np.ones(3), np.array([-INF, INF, NAN]))
    np.testing.assert_allclose(dx, DERIVATIVE_AT_INFINITY[activation], rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("activation", [Activation.GELU, Activation.GELU_TANH, Activation.SILU], ids=name)
def test_huge_arguments_reach_the_limits(activation):
    x = np.array([-1e200, -2000.0, 2000.0, 1e200])
    np.testing.assert_array_equal(apply(activation, x), [0, 0, 2000.0, 1e200])
    np.testing.assert_array_equal(backward(activation, np.ones(4), x), [0, 0, 1, 1])


def test_derivatives_at_the_kinks():
    for activation, z, derivative in [
        (Activation.RELU, [0.0], [0]),
        (Activation.LEAKY_RELU, [0.0], [0.01]),
        (Activation.ELU, [0.0], [1]),
        (Activation.HARDSIGMOID, [-3.0, 3.0], [0, 0]),
        (Activation.HARDSWISH, [-3.0, 3.0], [0, 1]),
    ]:
        np.testing.assert_array_equal(backward(activation, np.ones(len(z)), z), derivative)


@pytest.mark.parametrize("activation", [Activation.RELU, Activation.HARDSIGMOID], ids=name)
def test_a_closed_gate_stops_infinite_gradients(activation):
    np.testing.assert_array_equal(backward(activation, [INF, NAN], [-5.0, -5.0]), [0, 0])


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=name)
def test_activation_backward_is_the_derivative(activation):
    dy = np.linspace(-2.0, 3.0, len(POINTS))
    difference = np.array([central_difference(lambda x: apply(activation, x)[0], z.reshape(1))[0] for z in POINTS])
    assert_near_difference(backward(activation, dy, POINTS), dy * difference)


@pytest.mark.parametrize("activation", [Activation.SOFTMAX, Activation.LOG_SOFTMAX], ids=name)
def test_row_activation_backward_is_the_derivative(activation):
    rng = np.random.default_rng(1)
    z, dy = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    assert_near_difference(
        backward(activation, dy, z), central_difference(lambda x: (dy * apply(activation, x)).sum(), z)
    )


def test_softmax_by_hand():
    z = np.log([[1.0, 2.0, 5.0], [4.0, 4.0, 8.0]])
    p = np.array([[1 / 8, 2 / 8, 5 / 8], [1 / 4, 1 / 4, 1 / 2]])
    np.testing.assert_allclose(apply(Activation.SOFTMAX, z), p, rtol=1e-15)
    np.testing.assert_allclose(apply(Activation.LOG_SOFTMAX, z), np.log(p), rtol=1e-14)
    dy = np.array([[1.0, -2.0, 3.0], [0.5, 0.0, -1.0]])
    for row in range(2):
        jacobian = np.diag(p[row]) - np.outer(p[row], p[row])
        np.testing.assert_allclose(backward(Activation.SOFTMAX, dy, z)[row], jacobian @ dy[row], rtol=1e-14)


def test_softmax_is_stable_and_passes_special_values():
    z = np.array([[1000.0, 1000.0, -1000.0], [-INF, 0.0, 0.0], [INF, 0.0, 1.0], [NAN, 0.0, 1.0], [-INF, -INF, -INF]])
    p = [[0.5, 0.5, 0], [0, 0.5, 0.5], [NAN] * 3, [NAN] * 3, [NAN] * 3]
    np.testing.assert_array_equal(apply(Activation.SOFTMAX, z), p)
    half = -math.log(2.0)
    log_p = [[half, half, half - 2000], [-INF, half, half], [NAN] * 3, [NAN] * 3, [NAN] * 3]
    np.testing.assert_allclose(apply(Activation.LOG_SOFTMAX, z), log_p, rtol=1e-15)


@pytest.mark.parametrize("activation", list(Activation), ids=name)
def test_backward_may_overwrite_dy(activation):
    rng = np.random.default_rng(2)
    z, dy = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    expected = backward(activation, dy, z)
    saved = z if activation in NEEDS_PRE_ACTIVATION else apply(activation, z)
    getattr(reference, f"{name(activation)}_backward")(dy, saved, dy)
    np.testing.assert_array_equal(dy, expected)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (1, 1)])
@pytest.mark.parametrize("activation", list(Activation), ids=name)
def test_activation_takes_empty_arrays(activation, shape):
    assert apply(activation, np.zeros(shape)).shape == shape
    assert backward(activation, np.zeros(shape), np.zeros(shape)).shape == shape


@pytest.mark.parametrize("activation", ELEMENTWISE, ids=name)
def test_float32_is_the_float64_result_rounded_once(activation):
    x = POINTS.astype(np.float32)
    np.testing.assert_array_equal(apply(activation, x), apply(activation, x.astype(np.float64)).astype(np.float32))


# ---- One dense layer

X = np.array([[1.0, 2.0, -1.0], [0.0, -3.0, 2.0]])
WEIGHT = np.array([[1.0, -1.0], [0.5, 2.0], [4.0, 0.0]])
BIAS = np.array([0.25, -0.5])
DZ = np.array([[1.0, -2.0], [3.0, 0.5]])


def test_linear_by_hand():
    out = np.empty((2, 2))
    reference.linear(X, WEIGHT, BIAS, Activation.IDENTITY, out)
    np.testing.assert_array_equal(out, [[-1.75, 2.5], [6.75, -6.5]])
    reference.linear(X, WEIGHT, BIAS, Activation.RELU, out)
    np.testing.assert_array_equal(out, [[0.0, 2.5], [6.75, 0.0]])
    reference.linear(X, WEIGHT, BIAS, Activation.SIGMOID, out)
    np.testing.assert_allclose(out[0], [1 / (1 + math.exp(1.75)), 1 / (1 + math.exp(-2.5))], rtol=1e-15)


@pytest.mark.parametrize("activation", list(Activation), ids=name)
def test_linear_dispatches_by_the_code(activation):
    out = np.empty((2, 2))
    reference.linear(X, WEIGHT, BIAS, int(activation), out)
    np.testing.assert_array_equal(out, apply(activation, [[-1.75, 2.5], [6.75, -6.5]]))


def test_linear_takes_any_strides_and_no_inputs():
    out = np.empty((2, 2), np.float32)
    padded = np.zeros((4, 6), np.float32)
    padded[::2, ::-2] = X
    reference.linear(padded[::2, ::-2], WEIGHT.astype(np.float32), BIAS.astype(np.float32), Activation.IDENTITY, out)
    np.testing.assert_array_equal(out, [[-1.75, 2.5], [6.75, -6.5]])
    reference.linear(np.empty((2, 0)), np.empty((0, 2)), BIAS, Activation.IDENTITY, out)
    np.testing.assert_array_equal(out, [BIAS, BIAS])


def test_linear_backward_by_hand():
    dx = np.empty((2, 3))
    reference.linear_backward_input(DZ, WEIGHT, dx)
    np.testing.assert_array_equal(dx, [[3.0, -3.5, 4.0], [2.5, 2.5, 12.0]])
    dweight, dbias = np.empty((3, 2)), np.empty(2)
    reference.linear_backward_parameters(X, DZ, dweight, dbias)
    np.testing.assert_array_equal(dweight, [[1.0, -2.0], [-7.0, -5.5], [5.0, 3.0]])
    np.testing.assert_array_equal(dbias, [4.0, -1.5])


def test_outer_update_by_hand():
    weight, bias = WEIGHT.copy(), BIAS.copy()
    reference.outer_update(X, DZ, 0.5, weight, bias)
    np.testing.assert_array_equal(weight, [[0.5, 0.0], [4.0, 4.75], [1.5, -1.5]])
    np.testing.assert_array_equal(bias, [-1.75, 0.25])


# ---- Losses

SCALAR_LOSS = {
    Loss.MSE: lambda p, t: (p - t) ** 2,
    Loss.MAE: lambda p, t: abs(p - t),
    Loss.HUBER: lambda p, t: (p - t) ** 2 / 2 if abs(p - t) <= 1 else abs(p - t) - 0.5,
    Loss.LOG_COSH: lambda p, t: math.log(math.cosh(p - t)),
    Loss.POISSON: lambda p, t: math.exp(p) - t * p,
    Loss.BINARY_CROSS_ENTROPY: lambda p, t: (
        -t * math.log(1 / (1 + math.exp(-p))) - (1 - t) * math.log(1 - 1 / (1 + math.exp(-p)))
    ),
    Loss.QUANTILE: lambda p, t: 0.5 * abs(p - t),
}
WEIGHTINGS = {"unweighted": NO_WEIGHTS, "weighted": np.array([1.0, 0.0, 2.5, 0.5])}


def literal_loss(loss, prediction, target, sample_weight):
    """The value by scalar loops, straight from the definitions."""
    rows, outputs = prediction.shape
    weights = sample_weight.tolist() or [1.0] * rows
    total = 0.0
    for w, p, t in zip(weights, prediction.tolist(), target.tolist(), strict=True):
        if loss == Loss.SOFTMAX_CROSS_ENTROPY:
            probabilities = t if len(t) == outputs else [float(j == t[0]) for j in range(outputs)]
            partition = sum(math.exp(z) for z in p)
            total += w * -sum(q * math.log(math.exp(z) / partition) for q, z in zip(probabilities, p, strict=True))
        else:
            total += w * sum(SCALAR_LOSS[loss](a, b) for a, b in zip(p, t, strict=True)) / outputs
    return total / sum(weights)


def loss_arguments(loss, target):
    rng = np.random.default_rng(3)
    prediction = 2.0 * rng.normal(size=(4, 3))
    if target == "labels":
        return prediction, np.array([[2.0], [0.0], [1.0], [2.0]])
    if target == "rows that do not sum to 1":
        return prediction, rng.uniform(0.1, 1.0, size=(4, 3))
    if loss in (Loss.BINARY_CROSS_ENTROPY, Loss.SOFTMAX_CROSS_ENTROPY):
        t = rng.uniform(0.1, 1.0, size=(4, 3))
        return prediction, t / t.sum(axis=1, keepdims=True)
    return prediction, rng.uniform(0.0, 4.0, size=(4, 3))


LOSS_CASES = [(loss, "values") for loss in Loss] + [
    (Loss.SOFTMAX_CROSS_ENTROPY, "labels"),
    (Loss.SOFTMAX_CROSS_ENTROPY, "rows that do not sum to 1"),
]


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(("loss", "kind"), LOSS_CASES)
def test_loss_value_and_gradient(loss, kind, weighting):
    prediction, target = loss_arguments(loss, kind)
    sample_weight = WEIGHTINGS[weighting]
    gradient = np.full_like(prediction, NAN)
    value = getattr(reference, name(loss))(prediction, target, sample_weight, gradient)
    assert isinstance(value, float)
    assert value == pytest.approx(literal_loss(loss, prediction, target, sample_weight), rel=1e-13)
    assert_near_difference(
        gradient, central_difference(lambda p: literal_loss(loss, p, target, sample_weight), prediction)
    )


@pytest.mark.parametrize(
    ("loss", "prediction", "target", "value", "gradient"),
    [
        (Loss.MSE, [[1.0, 3.0]], [[0.0, 5.0]], 2.5, [[1.0, -2.0]]),
        (Loss.MAE, [[1.0, 3.0, 2.0, 2.0]], [[0.0, 5.0, 2.0, 1.0]], 1.0, [[0.25, -0.25, 0.0, 0.25]]),
        (Loss.HUBER, [[0.5, -4.0]], [[0.0, 0.0]], (0.125 + 3.5) / 2, [[0.25, -0.5]]),
        (Loss.HUBER, [[1.0005]], [[0.0]], 0.5005, [[1.0]]),
        (Loss.LOG_COSH, [[math.log(2.0)]], [[0.0]], math.log(1.25), [[0.6]]),
        (Loss.LOG_COSH, [[-1000.0]], [[0.0]], 1000.0 - math.log(2.0), [[-1.0]]),
        (Loss.POISSON, [[math.log(3.0)]], [[2.0]], 3.0 - 2.0 * math.log(3.0), [[1.0]]),
        (Loss.BINARY_CROSS_ENTROPY, [[0.0]], [[1.0]], math.log(2.0), [[-0.5]]),
        (Loss.BINARY_CROSS_ENTROPY, [[-1000.0, 1000.0]], [[1.0, 1.0]], 500.0, [[-0.5, 0.0]]),
        (Loss.BINARY_CROSS_ENTROPY, [[40.0]], [[1.0]], 4.248354255291589e-18, [[0.0]]),
        (Loss.SOFTMAX_CROSS_ENTROPY, [[0.0, 0.0]], [[1.0]], math.log(2.0), [[0.5, -0.5]]),
        (Loss.SOFTMAX_CROSS_ENTROPY, [[1000.0, 0.0]], [[1.0]], 1000.0, [[1.0, -1.0]]),
        (Loss.SOFTMAX_CROSS_ENTROPY, [[0.0, 0.0, -INF]], [[1.0]], math.log(2.0), [[0.5, -0.5, 0.0]]),
        (Loss.SOFTMAX_CROSS_ENTROPY, [[3.0], [-2.0]], [[0.0], [0.0]], 0.0, [[0.0], [0.0]]),
        (EstimatorLoss.HALF_SQUARED_ERROR, [[1.0, 3.0]], [[0.0, 5.0]], 1.25, [[1.0, -2.0]]),
        (
            EstimatorLoss.HALF_POISSON_DEVIANCE,
            [[math.log(3.0), 0.0]],
            [[2.0, 0.0]],
            2 * math.log(2 / 3) - 2 + 3 + 1,
            [[1.0, 1.0]],
        ),
        (EstimatorLoss.BINARY_LOG_LOSS, [[0.0, math.log(3.0)]], [[1.0, 0.0]], math.log(8.0), [[-0.5, 0.75]]),
        (EstimatorLoss.BINARY_LOG_LOSS, [[-1000.0]], [[1.0]], 52 * math.log(2.0), [[-1.0]]),
        (EstimatorLoss.LOG_LOSS, [[0.0, math.log(3.0)]], [[1.0]], math.log(4 / 3), [[0.25, -0.25]]),
        (EstimatorLoss.LOG_LOSS, [[1000.0, 0.0]], [[1.0]], 52 * math.log(2.0), [[1.0, -1.0]]),
    ],
)
def test_loss_by_hand(loss, prediction, target, value, gradient):
    actual = np.empty_like(np.array(prediction))
    result = getattr(reference, name(loss))(np.array(prediction), np.array(target), NO_WEIGHTS, actual)
    assert result == pytest.approx(value, rel=1e-14, abs=0)
    np.testing.assert_allclose(actual, gradient, rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize(
    ("loss", "parameter", "prediction", "value", "gradient"),
    [
        # Against targets of 1.
        (Loss.HUBER, 2.0, [[2.0, 6.0, -3.0, 3.0]], (0.5 + 8.0 + 6.0 + 2.0) / 4, [[0.25, 0.5, -0.5, 0.5]]),
        (Loss.HUBER, 0.25, [[1.125, 0.5]], (0.0078125 + 0.09375) / 2, [[0.0625, -0.125]]),
        (Loss.QUANTILE, 0.75, [[3.0, -1.0, 1.0, 1.5]], (0.5 + 1.5 + 0 + 0.125) / 4, [[0.0625, -0.1875, 0, 0.0625]]),
        (Loss.QUANTILE, 0.25, [[3.0, -1.0]], (1.5 + 0.5) / 2, [[0.375, -0.125]]),
    ],
)
def test_loss_with_a_parameter_by_hand(loss, parameter, prediction, value, gradient):
    prediction = np.array(prediction)
    actual = np.empty_like(prediction)
    function = getattr(reference, name(loss))
    assert function(prediction, np.ones_like(prediction), NO_WEIGHTS, actual, parameter) == pytest.approx(
        value, rel=1e-14
    )
    np.testing.assert_allclose(actual, gradient, rtol=1e-14)
    weight = np.array([2.0])
    assert function(prediction, np.ones_like(prediction), weight, actual, parameter) == pytest.approx(value, rel=1e-14)


@pytest.mark.parametrize("loss", list(Loss), ids=name)
def test_loss_without_any_weight_is_zero(loss):
    gradient = np.full((2, 3), NAN)
    function = getattr(reference, name(loss))
    assert function(np.ones((2, 3)), np.ones((2, 3)), np.zeros(2), gradient) == 0.0
    np.testing.assert_array_equal(gradient, 0)
    assert function(np.empty((0, 3)), np.empty((0, 3)), NO_WEIGHTS, np.empty((0, 3))) == 0.0


@pytest.mark.parametrize("loss", [EstimatorLoss.BINARY_LOG_LOSS, EstimatorLoss.LOG_LOSS], ids=name)
def test_a_sure_prediction_costs_eps(loss, dtype):
    value = getattr(reference, name(loss))(
        np.array([[50.0, -50.0, -50.0]], dtype)[:, : 1 if loss == EstimatorLoss.BINARY_LOG_LOSS else 3],
        np.array([[1.0 if loss == EstimatorLoss.BINARY_LOG_LOSS else 0.0]], dtype),
        np.empty(0, dtype),
        np.empty((1, 1 if loss == EstimatorLoss.BINARY_LOG_LOSS else 3), dtype),
    )
    assert value == pytest.approx(np.finfo(dtype).eps, rel=1e-6)


@pytest.mark.parametrize("loss", list(Loss), ids=name)
def test_loss_passes_nan(loss):
    gradient = np.zeros((1, 3))
    value = getattr(reference, name(loss))(np.array([[0.5, NAN, 1.0]]), np.full((1, 3), 0.25), NO_WEIGHTS, gradient)
    assert math.isnan(value)
    assert math.isnan(gradient[0, 1])


# ---- Optimizers: three steps of one parameter, written out as a recurrence on Python floats

LEARNING_RATE, MOMENTUM, BETA1, BETA2, ALPHA, EPS, DECAY = 0.1, 0.9, 0.8, 0.95, 0.97, 1e-3, 0.05
GRADIENTS = [0.5, -2.0, 0.125]
START = 1.5


def literal_sgd(momentum, nesterov, decay):
    p, velocity = START, 0.0
    for g in GRADIENTS:
        g = g + decay * p
        velocity = momentum * velocity + g
        p = p - LEARNING_RATE * (g + momentum * velocity if nesterov else velocity)
    return p, velocity


def literal_rmsprop(momentum, decay):
    p, average, buffer = START, 0.0, 0.0
    for g in GRADIENTS:
        g = g + decay * p
        average = ALPHA * average + (1 - ALPHA) * g**2
        buffer = momentum * buffer + g / (math.sqrt(average) + EPS)
        p = p - LEARNING_RATE * buffer
    return p, average, buffer


def literal_adagrad(decay):
    p, total = START, 0.0
    for g in GRADIENTS:
        g = g + decay * p
        total = total + g**2
        p = p - LEARNING_RATE * g / (math.sqrt(total) + EPS)
    return p, total


def literal_adam(decay, decoupled):
    p, m, v = START, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        if decoupled:
            p = p * (1 - LEARNING_RATE * decay)
        else:
            g = g + decay * p
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        p = p - LEARNING_RATE / (1 - BETA1**t) * m / (math.sqrt(v) / math.sqrt(1 - BETA2**t) + EPS)
    return p, m, v


def run_optimizer(optimizer, hyper, states, dtype=np.float64, epsilon_hat=0):
    hyper = np.array([LEARNING_RATE, *hyper, *[0] * (5 - len(hyper)), 0, 0, 0, epsilon_hat], dtype=np.float64)
    parameters = np.full(2, START, dtype)
    state1, state2 = (np.zeros(2 if i < states else 0, dtype) for i in range(2))
    for step, g in enumerate(GRADIENTS, start=1):
        getattr(reference, name(optimizer))(parameters, np.full(2, g, dtype), state1, state2, step, hyper)
    return [a for a in (parameters, state1, state2) if a.size]


OPTIMIZER_CASES = [
    # optimizer, hyper[1:6], number of states, parameter and states after three steps
    (Optimizer.SGD, (0, 0, 0, 0, 0), 0, (START - LEARNING_RATE * sum(GRADIENTS),)),
    (Optimizer.SGD, (0, 0, 0, DECAY, 0), 0, literal_sgd(0.0, False, DECAY)[:1]),
    (Optimizer.SGD, (MOMENTUM, 0, 0, DECAY, 0), 1, literal_sgd(MOMENTUM, False, DECAY)),
    (Optimizer.SGD, (MOMENTUM, 0, 0, DECAY, 1), 1, literal_sgd(MOMENTUM, True, DECAY)),
    (Optimizer.RMSPROP, (0, ALPHA, EPS, 0, 0), 1, literal_rmsprop(0.0, 0.0)[:2]),
    (Optimizer.RMSPROP, (MOMENTUM, ALPHA, EPS, DECAY, 0), 2, literal_rmsprop(MOMENTUM, DECAY)),
    (Optimizer.ADAGRAD, (0, 0, EPS, 0, 0), 1, literal_adagrad(0.0)),
    (Optimizer.ADAGRAD, (0, 0, EPS, DECAY, 0), 1, literal_adagrad(DECAY)),
    (Optimizer.ADAM, (BETA1, BETA2, EPS, 0, 0), 2, literal_adam(0.0, False)),
    (Optimizer.ADAM, (BETA1, BETA2, EPS, DECAY, 0), 2, literal_adam(DECAY, False)),
    (Optimizer.ADAMW, (BETA1, BETA2, EPS, DECAY, 0), 2, literal_adam(DECAY, True)),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("optimizer", "hyper", "states", "expected"), OPTIMIZER_CASES)
def test_optimizer_is_its_recurrence(optimizer, hyper, states, expected, dtype):
    arrays = run_optimizer(optimizer, hyper, states, dtype)
    assert len(arrays) == len(expected)
    for array, value in zip(arrays, expected, strict=True):
        # Three roundings of numbers of order 1, none amplified by more than 1 / sqrt(1 - alpha) < 6.
        np.testing.assert_allclose(array, [value, value], rtol=0, atol=3 * 6 * 2 * np.finfo(dtype).eps)


def test_epsilon_hat_lies_outside_the_correction():
    p, m, v = START, 0.0, 0.0
    for t, g in enumerate(GRADIENTS, start=1):
        m = BETA1 * m + (1 - BETA1) * g
        v = BETA2 * v + (1 - BETA2) * g**2
        p -= LEARNING_RATE * math.sqrt(1 - BETA2**t) / (1 - BETA1**t) * m / (math.sqrt(v) + EPS)
    parameters, *_ = run_optimizer(Optimizer.ADAM, (BETA1, BETA2, EPS, 0, 0), 2, epsilon_hat=1)
    np.testing.assert_allclose(parameters, p, rtol=1e-14)
    plain, *_ = run_optimizer(Optimizer.ADAM, (BETA1, BETA2, EPS, 0, 0), 2)
    assert abs(plain - parameters).max() > 1e-4


def test_first_step_of_adam_is_the_learning_rate():
    parameters, gradient = np.array([1.0, 1.0]), np.array([1e-3, -1e3])
    hyper = np.array([0.1, 0.9, 0.999, 0.0, 0.0, 0, 0, 0, 0, 0])
    reference.adam(parameters, gradient, np.zeros(2), np.zeros(2), 1, hyper)
    np.testing.assert_allclose(parameters, [0.9, 1.1], rtol=1e-12)
    np.testing.assert_array_equal(gradient, [1e-3, -1e3])


def test_clip_by_value():
    gradient = np.array([-INF, -2.0, -0.5, 0.0, 1.0, 7.0, NAN])
    reference.clip_by_value(gradient, 1.0)
    np.testing.assert_array_equal(gradient, [-1.0, -1.0, -0.5, 0.0, 1.0, 1.0, NAN])


@pytest.mark.parametrize(
    ("gradient", "limit", "norm", "clipped"),
    [
        ([3.0, -4.0], 2.5, 5.0, [1.5, -2.0]),
        ([3.0, -4.0], 5.0, 5.0, [3.0, -4.0]),
        ([3e200, -4e200], 1.0, 5e200, [0.6, -0.8]),
        ([3e-200, 4e-200], 1.0, 5e-200, [3e-200, 4e-200]),
        ([0.0, 0.0], 1.0, 0.0, [0.0, 0.0]),
        ([], 1.0, 0.0, []),
        ([1.0, NAN], 0.5, NAN, [1.0, NAN]),
        ([1.0, INF], 0.5, INF, [0.0, NAN]),
    ],
)
def test_clip_by_norm(gradient, limit, norm, clipped):
    gradient = np.array(gradient)
    assert reference.clip_by_norm(gradient, limit) == pytest.approx(norm, rel=1e-15, nan_ok=True)
    np.testing.assert_allclose(gradient, clipped, rtol=1e-15)


# ---- Networks


def network(sizes, activations, seed=4):
    """(table, parameters) of layers sizes[0] -> sizes[1] -> ..., as the kernels' convention has them."""
    rows, offset, outputs, saved = [], 0, 0, 0
    for k, n, activation in zip(sizes[:-1], sizes[1:], activations, strict=True):
        needs = activation in NEEDS_PRE_ACTIVATION
        rows.append([k, n, offset, offset + k * n, activation, outputs, saved if needs else -1, 0])
        offset, outputs, saved = offset + k * n + n, outputs + n, saved + n * needs
    return np.array(rows, dtype=np.int64), np.random.default_rng(seed).normal(size=offset)


def run_loss_and_gradient(table, parameters, x, y, sample_weight, loss):
    gradient = np.full_like(parameters, NAN)
    value = reference.loss_and_gradient(table, parameters, x, y, sample_weight, loss, gradient, np.empty(0))
    return value, gradient


def test_forward_by_hand():
    # The layer of test_linear_by_hand, then the sum of its outputs.
    table, _ = network([3, 2, 1], [Activation.RELU, Activation.IDENTITY])
    parameters = np.concatenate([WEIGHT.ravel(), BIAS, [1.0, 1.0], [10.0]])
    out = np.empty((2, 1))
    reference.forward(table, parameters, X, out, np.empty(0))
    np.testing.assert_array_equal(out, [[12.5], [16.75]])


def test_backward_of_the_two_layer_sigmoid_network_is_the_textbook_one():
    # delta2 = dL/da2 f'(z2) ; delta1 = (delta2 W2^T) f'(z1) ; dW = a^T delta, with L the mean squared error.
    x = np.array([[0.5, 0.1, 0.2], [0.3, 0.4, 0.6], [0.7, 0.8, 0.9]])
    y = np.array([[0.0], [1.0], [1.0]])
    table, parameters = network([3, 4, 1], [Activation.SIGMOID, Activation.SIGMOID])
    w1, b1, w2, b2 = np.split(parameters, [12, 16, 20])
    w1, w2 = w1.reshape(3, 4), w2.reshape(4, 1)
    a1 = 1 / (1 + np.exp(-(x @ w1 + b1)))
    a2 = 1 / (1 + np.exp(-(a1 @ w2 + b2)))
    delta2 = 2 * (a2 - y) / 3 * a2 * (1 - a2)
    delta1 = delta2 @ w2.T * a1 * (1 - a1)
    expected = np.concatenate([(x.T @ delta1).ravel(), delta1.sum(0), (a1.T @ delta2).ravel(), delta2.sum(0)])

    value, gradient = run_loss_and_gradient(table, parameters, x, y, NO_WEIGHTS, Loss.MSE)
    assert value == pytest.approx(((a2 - y) ** 2).mean(), rel=1e-14)
    np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-16)


def assert_gradient_is_the_difference(table, parameters, x, y, sample_weight, loss):
    value, gradient = run_loss_and_gradient(table, parameters, x, y, sample_weight, loss)

    def loss_at(p):
        out = np.empty((len(x), table[-1, 1]))
        reference.forward(table, p, x, out, np.empty(0))
        return literal_loss(loss, out, y, sample_weight)

    assert value == pytest.approx(loss_at(parameters), rel=1e-12)
    assert_near_difference(gradient, central_difference(loss_at, parameters))


@pytest.mark.parametrize("activation", list(Activation), ids=name)
def test_network_gradient_for_every_hidden_activation(activation):
    rng = np.random.default_rng(5)
    table, parameters = network([3, 4, 2], [activation, Activation.IDENTITY])
    x, y = rng.normal(size=(4, 3)), rng.normal(size=(4, 2))
    assert_gradient_is_the_difference(table, parameters, x, y, WEIGHTINGS["weighted"], Loss.MSE)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize(("loss", "kind"), LOSS_CASES)
def test_network_gradient_for_every_loss(loss, kind, weighting):
    table, parameters = network([2, 5, 3, 3], [Activation.GELU, Activation.TANH, Activation.IDENTITY])
    x = np.random.default_rng(6).normal(size=(4, 2))
    _, y = loss_arguments(loss, kind)
    assert_gradient_is_the_difference(table, parameters, x, y, WEIGHTINGS[weighting], loss)


def test_network_in_float32_is_the_float64_result_rounded_once():
    table, parameters = network([3, 4, 2], [Activation.SILU, Activation.LOG_SOFTMAX])
    x, y = np.random.default_rng(7).normal(size=(2, 4, 3)).astype(np.float32)
    narrow, y = parameters.astype(np.float32), y[:, :2]
    value, gradient = run_loss_and_gradient(table, narrow, x, y, NO_WEIGHTS, Loss.HUBER)
    wide_value, wide_gradient = run_loss_and_gradient(table, narrow.astype(np.float64), x, y, NO_WEIGHTS, Loss.HUBER)
    assert value == wide_value
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, wide_gradient.astype(np.float32))


def test_every_code_has_its_reference():
    assert set(reference.ACTIVATIONS) == set(Activation)
    assert set(reference.LOSSES) == {*Loss, *EstimatorLoss}
    for code, pair in reference.ACTIVATIONS.items():
        assert [f.__name__ for f in pair] == [name(code), f"{name(code)}_backward"]
    for code, function in reference.LOSSES.items():
        assert function.__name__ == name(code)
    assert all(callable(getattr(reference, name(code))) for code in Optimizer)
