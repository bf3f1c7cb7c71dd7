"""Every kernel again in plain NumPy: same name, same arguments, slow, written to be obviously right.

All arithmetic is float64; a result is rounded once, when it is stored in the caller's array. NaN, infinities and
overflow pass through without a warning, as IEEE 754 says. Where x * s(x) would be -inf * 0 the limit is taken instead.

Shapes and dtypes are those that the kernels' docstrings give. Examples take three lines as read:

    import numpy as np
    from fastnn.kernels import reference
    from fastnn.kernels.codes import Activation, Loss, Normalization
"""

import functools
import math

import numpy as np

from .codes import NEEDS_PRE_ACTIVATION, Activation, EstimatorLoss, Loss, Normalization

LEAKY_SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
GELU_TANH_CUBIC = 0.044715
EPS = np.finfo(np.float64).eps


def _quiet(function):
    # A fresh errstate at each call, since one instance used as a decorator is not safe in threads before NumPy 2.
    @functools.wraps(function)
    def quiet(*args, **kwargs):
        with np.errstate(all="ignore"):
            return function(*args, **kwargs)

    return quiet


def _wide(array):
    return np.asarray(array, dtype=np.float64)


def _sigmoid(x):
    # Only exp(-|x|), so that nothing overflows and neither tail loses digits.
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1.0) / (1.0 + e)


def _log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True, initial=-np.inf)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


# The Gaussian's distribution function, by erfc: 1 + erf would lose every digit of the lower tail.
_erfc = np.vectorize(math.erfc, otypes=[np.float64])


def _normal_cdf(x):
    return 0.5 * _erfc(-x / math.sqrt(2.0))


# The functions x * s(x) with a sigmoidal s, and their derivatives, have reached their limits to the last bit of float64
# before |x| = 1000; stopping x there gives the limits at the infinities too, where the formula says inf * 0.
FAR = 1000.0


def _scaled(x, s):
    return np.maximum(x, -FAR) * s


def _near(x):
    return np.clip(x, -FAR, FAR)


# ---- Activations. x, out, dy, saved: one shape. `saved` is z if codes.NEEDS_PRE_ACTIVATION says so, else the output y.


# y = x ; dx = dy
@_quiet
def identity(x, out):
    """No activation.

    >>> out = np.empty(2)
    >>> reference.identity(np.array([-1.0, 2.0]), out)
    >>> out
    array([-1.,  2.])
    """
    out[...] = x


@_quiet
def identity_backward(dy, saved, out):
    """Ignores `saved`.

    >>> out = np.empty(2)
    >>> reference.identity_backward(np.full(2, 2.0), np.array([-1.0, 2.0]), out)
    >>> out
    array([2., 2.])
    """
    out[...] = dy


# y = max(x, 0), NaN if x is NaN ; dx = dy where y > 0, else 0 (a choice, not a product: 0 even where dy is inf or NaN)
@_quiet
def relu(x, out):
    """Rectified linear unit (Nair & Hinton 2010).

    >>> out = np.empty(3)
    >>> reference.relu(np.array([-1.0, 0.0, 2.0]), out)
    >>> out
    array([0., 0., 2.])
    """
    out[...] = np.maximum(_wide(x), 0.0)


@_quiet
def relu_backward(dy, saved, out):
    """From the output; the derivative at 0 is 0.

    >>> out = np.empty(3)
    >>> reference.relu_backward(np.full(3, 2.0), np.array([0.0, 0.0, 2.0]), out)
    >>> out
    array([0., 0., 2.])
    """
    out[...] = np.where(_wide(saved) > 0, _wide(dy), 0.0)


# y = x where x > 0, else 0.01 x ; dx = dy where y > 0, else 0.01 dy
@_quiet
def leaky_relu(x, out):
    """Rectifier that leaks below zero (Maas et al. 2013).

    >>> out = np.empty(3)
    >>> reference.leaky_relu(np.array([-1.0, 0.0, 2.0]), out)
    >>> out
    array([-0.01,  0.  ,  2.  ])
    """
    x = _wide(x)
    out[...] = np.where(x > 0, x, LEAKY_SLOPE * x)


@_quiet
def leaky_relu_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(3)
    >>> reference.leaky_relu_backward(np.full(3, 2.0), np.array([-0.01, 0.0, 2.0]), out)
    >>> out
    array([0.02, 0.02, 2.  ])
    """
    out[...] = _wide(dy) * np.where(_wide(saved) > 0, 1.0, LEAKY_SLOPE)


# y = x where x > 0, else exp(x) - 1 ; dx = dy where y > 0, else dy (y + 1)
@_quiet
def elu(x, out):
    """Exponential linear unit, alpha = 1 (Clevert et al. 2015).

    >>> out = np.empty(2)
    >>> reference.elu(np.array([-np.log(2), 2.0]), out)
    >>> out
    array([-0.5,  2. ])
    """
    x = _wide(x)
    out[...] = np.where(x > 0, x, np.expm1(x))


@_quiet
def elu_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.elu_backward(np.full(2, 2.0), np.array([-0.5, 2.0]), out)
    >>> out
    array([1., 2.])
    """
    y = _wide(saved)
    out[...] = _wide(dy) * np.where(y > 0, 1.0, y + 1.0)


# y = scale x where x > 0, else scale alpha (exp(x) - 1) ; dx = dy scale where y > 0, else dy (y + scale alpha)
@_quiet
def selu(x, out):
    """Self-normalising ELU with its two fixed constants (Klambauer et al. 2017).

    >>> out = np.empty(2)
    >>> reference.selu(np.array([-np.log(2), 2.0]), out)
    >>> out.round(4)
    array([-0.879 ,  2.1014])
    """
    x = _wide(x)
    out[...] = SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x))


@_quiet
def selu_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.selu_backward(np.full(2, 2.0), np.array([-0.879, 2.1014]), out)
    >>> out.round(4)
    array([1.7582, 2.1014])
    """
    y = _wide(saved)
    out[...] = _wide(dy) * np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)


# y = 1 / (1 + exp(-x)) ; dx = dy y (1 - y)
@_quiet
def sigmoid(x, out):
    """Logistic function.

    >>> out = np.empty(2)
    >>> reference.sigmoid(np.array([0.0, np.log(3)]), out)
    >>> out
    array([0.5 , 0.75])
    """
    out[...] = _sigmoid(_wide(x))


@_quiet
def sigmoid_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.sigmoid_backward(np.full(2, 2.0), np.array([0.5, 0.75]), out)
    >>> out
    array([0.5  , 0.375])
    """
    y = _wide(saved)
    out[...] = _wide(dy) * (y * (1.0 - y))


# y = tanh(x) ; dx = dy (1 - y^2)
@_quiet
def tanh(x, out):
    """Hyperbolic tangent.

    >>> out = np.empty(2)
    >>> reference.tanh(np.array([0.0, np.log(2)]), out)
    >>> out
    array([0. , 0.6])
    """
    out[...] = np.tanh(_wide(x))


@_quiet
def tanh_backward(dy, saved, out):
    """From the output; (1 - y)(1 + y) keeps the digits that 1 - y^2 loses near saturation.

    >>> out = np.empty(2)
    >>> reference.tanh_backward(np.full(2, 2.0), np.array([0.0, 0.6]), out)
    >>> out
    array([2.  , 1.28])
    """
    y = _wide(saved)
    out[...] = _wide(dy) * ((1.0 - y) * (1.0 + y))


# y = log(1 + exp(x)) ; dx = dy (1 - exp(-y))
@_quiet
def softplus(x, out):
    """Smooth rectifier (Dugas et al. 2001), beta = 1, without PyTorch's switch to the identity above 20.

    >>> out = np.empty(2)
    >>> reference.softplus(np.array([0.0, np.log(3)]), out)
    >>> out.round(4)
    array([0.6931, 1.3863])
    """
    out[...] = np.logaddexp(0.0, _wide(x))


@_quiet
def softplus_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.softplus_backward(np.full(2, 2.0), np.array([np.log(2), np.log(4)]), out)
    >>> out.round(4)
    array([1. , 1.5])
    """
    out[...] = _wide(dy) * -np.expm1(-_wide(saved))


# y = x Phi(x), Phi and phi the distribution and density of N(0, 1) ; dx = dy (Phi(z) + z phi(z))
@_quiet
def gelu(x, out):
    """Gaussian error linear unit, exact (Hendrycks & Gimpel 2016).

    >>> out = np.empty(3)
    >>> reference.gelu(np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    x = _wide(x)
    out[...] = _scaled(x, _normal_cdf(x))


@_quiet
def gelu_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(3)
    >>> reference.gelu_backward(np.full(3, 2.0), np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1666,  1.    ,  2.1666])
    """
    z = _near(_wide(saved))
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    out[...] = _wide(dy) * (_normal_cdf(z) + z * density)


# y = x (1 + tanh(u)) / 2 = x s, s = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) ; dx = dy (s + z s (1 - s) 2 du/dz)
@_quiet
def gelu_tanh(x, out):
    """The approximation of GELU by tanh (Hendrycks & Gimpel 2016).

    >>> out = np.empty(3)
    >>> reference.gelu_tanh(np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    x = _wide(x)
    u = math.sqrt(2.0 / math.pi) * (x + GELU_TANH_CUBIC * x**3)
    out[...] = _scaled(x, _sigmoid(2.0 * u))


@_quiet
def gelu_tanh_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(3)
    >>> reference.gelu_tanh_backward(np.full(3, 2.0), np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1659,  1.    ,  2.1659])
    """
    z = _near(_wide(saved))
    u = math.sqrt(2.0 / math.pi) * (z + GELU_TANH_CUBIC * z**3)
    du = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * GELU_TANH_CUBIC * z**2)
    out[...] = _wide(dy) * (_sigmoid(2.0 * u) + z * _sigmoid(2.0 * u) * _sigmoid(-2.0 * u) * 2.0 * du)


# y = x s, s = sigmoid(x) ; dx = dy s (1 + z (1 - s))
@_quiet
def silu(x, out):
    """Sigmoid linear unit (Elfwing et al. 2017), also called swish (Ramachandran et al. 2017).

    >>> out = np.empty(3)
    >>> reference.silu(np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.2689,  0.    ,  0.7311])
    """
    x = _wide(x)
    out[...] = _scaled(x, _sigmoid(x))


@_quiet
def silu_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(3)
    >>> reference.silu_backward(np.full(3, 2.0), np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([0.1447, 1.    , 1.8553])
    """
    z = _near(_wide(saved))
    out[...] = _wide(dy) * (_sigmoid(z) * (1.0 + z * _sigmoid(-z)))


# y = clip(x/6 + 1/2, 0, 1) ; dx = dy/6 where 0 < y < 1, else 0 (a choice, as in relu)
@_quiet
def hardsigmoid(x, out):
    """Sigmoid of three straight lines (Courbariaux et al. 2015, with the slope of Howard et al. 2019).

    >>> out = np.empty(4)
    >>> reference.hardsigmoid(np.array([-3.0, 0.0, 1.5, 4.0]), out)
    >>> out.round(4)
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    out[...] = np.clip((_wide(x) + 3.0) / 6.0, 0.0, 1.0)


@_quiet
def hardsigmoid_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(4)
    >>> reference.hardsigmoid_backward(np.full(4, 2.0), np.array([0.0, 0.5, 0.75, 1.0]), out)
    >>> out.round(4)
    array([0.    , 0.3333, 0.3333, 0.    ])
    """
    y = _wide(saved)
    out[...] = np.where((y > 0.0) & (y < 1.0), _wide(dy) / 6.0, 0.0)


# y = x clip(x/6 + 1/2, 0, 1) ; dx = 0 where z <= -3, dy where z >= 3, else dy (z/3 + 1/2), NaN if z is NaN
@_quiet
def hardswish(x, out):
    """SiLU with hardsigmoid for the sigmoid (Howard et al. 2019).

    >>> out = np.empty(4)
    >>> reference.hardswish(np.array([-1.5, 0.0, 1.5, 4.0]), out)
    >>> out.round(4)
    array([-0.375,  0.   ,  1.125,  4.   ])
    """
    x = _wide(x)
    out[...] = _scaled(x, np.clip((x + 3.0) / 6.0, 0.0, 1.0))


@_quiet
def hardswish_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(4)
    >>> reference.hardswish_backward(np.full(4, 2.0), np.array([-1.5, 0.0, 1.5, 4.0]), out)
    >>> out.round(4)
    array([0., 1., 2., 2.])
    """
    z, dy = _wide(saved), _wide(dy)
    out[...] = np.where(z <= -3.0, 0.0, np.where(z >= 3.0, dy, dy * (z / 3.0 + 0.5)))


# (m,n): y_ij = exp(x_ij - max_i) / sum_j exp(x_ij - max_i) ; dx_ij = y_ij (dy_ij - sum_j dy_ij y_ij)
@_quiet
def softmax(x, out):
    """Along the last axis (Bridle 1990). A row that holds +inf or NaN, or -inf alone, becomes NaN throughout.

    >>> out = np.empty((2, 2))
    >>> reference.softmax(np.array([[0.0, np.log(3)], [1000.0, 1000.0]]), out)
    >>> out
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    x = _wide(x)
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    out[...] = e / e.sum(axis=-1, keepdims=True)


@_quiet
def softmax_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty((1, 2))
    >>> reference.softmax_backward(np.array([[4.0, 0.0]]), np.array([[0.25, 0.75]]), out)
    >>> out
    array([[ 0.75, -0.75]])
    """
    dy, y = _wide(dy), _wide(saved)
    out[...] = y * (dy - (dy * y).sum(axis=-1, keepdims=True))


# (m,n): y_ij = x_ij - max_i - log sum_j exp(x_ij - max_i) ; dx_ij = dy_ij - exp(y_ij) sum_j dy_ij
@_quiet
def log_softmax(x, out):
    """Logarithm of softmax along the last axis, without forming softmax.

    >>> out = np.empty((1, 2))
    >>> reference.log_softmax(np.array([[0.0, 1000.0]]), out)
    >>> out
    array([[-1000.,     0.]])
    """
    out[...] = _log_softmax(_wide(x))


@_quiet
def log_softmax_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty((1, 2))
    >>> reference.log_softmax_backward(np.array([[4.0, 0.0]]), np.log([[0.25, 0.75]]), out)
    >>> out
    array([[ 3., -3.]])
    """
    dy, y = _wide(dy), _wide(saved)
    out[...] = dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


ACTIVATIONS = {
    Activation.IDENTITY: (identity, identity_backward),
    Activation.RELU: (relu, relu_backward),
    Activation.LEAKY_RELU: (leaky_relu, leaky_relu_backward),
    Activation.ELU: (elu, elu_backward),
    Activation.SELU: (selu, selu_backward),
    Activation.SIGMOID: (sigmoid, sigmoid_backward),
    Activation.TANH: (tanh, tanh_backward),
    Activation.SOFTPLUS: (softplus, softplus_backward),
    Activation.GELU: (gelu, gelu_backward),
    Activation.GELU_TANH: (gelu_tanh, gelu_tanh_backward),
    Activation.SILU: (silu, silu_backward),
    Activation.HARDSIGMOID: (hardsigmoid, hardsigmoid_backward),
    Activation.HARDSWISH: (hardswish, hardswish_backward),
    Activation.SOFTMAX: (softmax, softmax_backward),
    Activation.LOG_SOFTMAX: (log_softmax, log_softmax_backward),
}


# ---- One dense layer. x (m,k), weight (k,n), bias (n,), out and dz (m,n)


# out = f(x W + b)
@_quiet
def linear(x, weight, bias, activation, out):
    """Rounded once, after the activation.

    >>> x, weight = np.array([[1.0, 2.0]]), np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 2.0]])
    >>> out = np.empty((1, 3))
    >>> reference.linear(x, weight, np.array([0.5, 0.5, 0.5]), Activation.RELU, out)
    >>> out
    array([[1.5, 0. , 4.5]])
    """
    z = _wide(x) @ _wide(weight) + _wide(bias)
    function, _ = ACTIVATIONS[activation]
    function(z, z)
    out[...] = z


# dx (m,k) = dz W^T
@_quiet
def linear_backward_input(dz, weight, out):
    """Gradient with respect to the layer's input.

    >>> out = np.empty((1, 2))
    >>> reference.linear_backward_input(np.array([[1.0, 10.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]), out)
    >>> out
    array([[21., 43.]])
    """
    out[...] = _wide(dz) @ _wide(weight).T


# dW (k,n) = x^T dz ; db (n,) = sum over the batch of dz
@_quiet
def linear_backward_parameters(x, dz, dweight, dbias):
    """Gradient with respect to weight and bias, summed over the batch.

    >>> x, dz = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]])
    >>> dweight, dbias = np.empty((2, 1)), np.empty(1)
    >>> reference.linear_backward_parameters(x, dz, dweight, dbias)
    >>> dweight.ravel(), dbias
    (array([31., 42.]), array([11.]))
    """
    dweight[...] = _wide(x).T @ _wide(dz)
    dbias[...] = _wide(dz).sum(axis=0)


# W -= learning_rate x^T dz ; b -= learning_rate (sum over the batch of dz)
@_quiet
def outer_update(x, dz, learning_rate, weight, bias):
    """Plain gradient descent without forming the gradient, in place.

    >>> weight, bias = np.array([[10.0], [10.0]]), np.array([10.0])
    >>> reference.outer_update(np.array([[1.0, 2.0]]), np.array([[4.0]]), 0.5, weight, bias)
    >>> weight.ravel(), bias
    (array([8., 6.]), array([8.]))
    """
    weight[...] = _wide(weight) - learning_rate * (_wide(x).T @ _wide(dz))
    bias[...] = _wide(bias) - learning_rate * _wide(dz).sum(axis=0)


# ---- Dropout and normalisation. x, out, dy, dx (m,n); scale, shift (n,)

PHILOX_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
PHILOX_WEYL = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
LOW_WORD = np.uint64(0xFFFFFFFF)


# Ten rounds: (c0, c1, c2, c3) = (hi(M1 c2) ^ c1 ^ k0, lo(M1 c2), hi(M0 c0) ^ c3 ^ k1, lo(M0 c0)) ; k += Weyl constants
def philox(counter, key):
    """Four 32-bit words of Philox 4x32-10 (Salmon et al. 2011) from four of a counter and two of a key, in uint64."""
    c0, c1, c2, c3 = (np.asarray(word, np.uint64) for word in counter)
    k0, k1 = (np.asarray(word, np.uint64) for word in key)
    for _ in range(10):
        first, second = PHILOX_MULTIPLIERS[0] * c0, PHILOX_MULTIPLIERS[1] * c2
        c0 = (second >> np.uint64(32)) ^ c1 ^ k0
        c1 = second & LOW_WORD
        c2 = (first >> np.uint64(32)) ^ c3 ^ k1
        c3 = first & LOW_WORD
        k0, k1 = (k0 + PHILOX_WEYL[0]) & LOW_WORD, (k1 + PHILOX_WEYL[1]) & LOW_WORD
    return c0, c1, c2, c3


# Element e = 64 g + 16 w + i takes word w of the block 16 g + i
def kept_units(size, rate, seed, update, layer):
    """Which of a layer's elements, in the order in which they lie, dropout keeps."""
    element = np.arange(size)
    block = element // 64 * 16 + element % 16
    low, high = int(update) & 0xFFFFFFFF, int(update) >> 32
    counter = block, np.full(size, int(layer)), np.full(size, low), np.full(size, high)
    words = np.array(philox(counter, (int(seed) & 0xFFFFFFFF, int(seed) >> 32 & 0xFFFFFFFF)))
    return words[element // 16 % 4, element] >= min(int(rate * 2**32 + 0.5), 2**32 - 1)


# out = x / (1 - rate) where kept, else 0 ; of dy it makes dx
@_quiet
def dropout(x, rate, seed, update, layer, out):
    """Inverted dropout (Srivastava et al. 2014); the rate counts in whole 2^-32.

    >>> out = np.empty((1, 8))
    >>> reference.dropout(np.ones((1, 8)), 0.5, 0, 1, 0, out)
    >>> out
    array([[2., 2., 2., 0., 2., 2., 0., 0.]])
    """
    kept = kept_units(x.size, rate, seed, update, layer).reshape(x.shape)
    out[...] = np.where(kept, _wide(x) / (1.0 - min(int(rate * 2**32 + 0.5), 2**32 - 1) / 2**32), 0.0)


NORMALIZATION_EPS = 1e-5
NORMALIZATION_MOMENTUM = 0.1


# x^ = (x - mean) / sqrt(variance + eps), over the axis
def _normalized(x, axis):
    deviation = np.sqrt(x.var(axis, keepdims=True) + NORMALIZATION_EPS)
    return (x - x.mean(axis, keepdims=True)) / deviation, deviation


# d = scale dy ; dx = (d - mean(d) - x^ mean(d x^)) / sqrt(variance + eps) ; dscale = sum dy x^ ; dshift = sum dy
def _normalization_backward(dy, x, scale, axis, dx, dscale, dshift):
    dy, (normalized, deviation) = _wide(dy), _normalized(_wide(x), axis)
    d = _wide(scale) * dy
    mean = lambda values: values.mean(axis, keepdims=True)
    dx[...] = (d - mean(d) - normalized * mean(d * normalized)) / deviation
    dscale[...] = (dy * normalized).sum(axis=0)
    dshift[...] = dy.sum(axis=0)


# out = scale x^ + shift, over each row
@_quiet
def layer_norm(x, scale, shift, out):
    """Layer normalisation (Ba, Kiros & Hinton 2016).

    >>> out = np.empty((2, 2))
    >>> reference.layer_norm(np.array([[1.0, 3.0], [20.0, 60.0]]), np.ones(2), np.array([0.0, 10.0]), out)
    >>> out.round(4)
    array([[-1., 11.],
           [-1., 11.]])
    """
    out[...] = _wide(scale) * _normalized(_wide(x), 1)[0] + _wide(shift)


@_quiet
def layer_norm_backward(dy, x, scale, dx, dscale, dshift):
    """Gradients by x, scale and shift.

    >>> x, dx, dscale, dshift = np.array([[1.0, 2.0, 6.0]]), np.empty((1, 3)), np.empty(3), np.empty(3)
    >>> reference.layer_norm_backward(np.array([[1.0, 0.0, 0.0]]), x, np.ones(3), dx, dscale, dshift)
    >>> dx.round(4), dscale.round(4), dshift
    (array([[ 0.1763, -0.2204,  0.0441]]), array([-0.9258,  0.    ,  0.    ]), array([1., 0., 0.]))
    """
    _normalization_backward(dy, x, scale, 1, dx, dscale, dshift)


# out = scale x^ + shift, over each column ; running = 0.9 running + 0.1 (mean, or variance m / (m - 1))
@_quiet
def batch_norm(x, scale, shift, running_mean, running_variance, out):
    """Batch normalisation in training (Ioffe & Szegedy 2015); updates the running averages.

    >>> out, mean, variance = np.empty((2, 1)), np.zeros(1), np.ones(1)
    >>> reference.batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), mean, variance, out)
    >>> out.ravel().round(4), mean, variance
    (array([-1.,  1.]), array([0.2]), array([1.1]))
    """
    x, momentum = _wide(x), NORMALIZATION_MOMENTUM
    out[...] = _wide(scale) * _normalized(x, 0)[0] + _wide(shift)
    running_mean[...] = (1 - momentum) * _wide(running_mean) + momentum * x.mean(axis=0)
    running_variance[...] = (1 - momentum) * _wide(running_variance) + momentum * x.var(axis=0, ddof=1)


@_quiet
def batch_norm_backward(dy, x, scale, dx, dscale, dshift):
    """Gradients by x, scale and shift.

    >>> x, dx, dscale, dshift = np.array([[1.0], [2.0], [6.0]]), np.empty((3, 1)), np.empty(1), np.empty(1)
    >>> reference.batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), x, np.ones(1), dx, dscale, dshift)
    >>> dx.ravel().round(4), dscale.round(4), dshift
    (array([ 0.1763, -0.2204,  0.0441]), array([-0.9258]), array([1.]))
    """
    _normalization_backward(dy, x, scale, 0, dx, dscale, dshift)


# out = scale (x - running mean) / sqrt(running variance + eps) + shift
@_quiet
def batch_norm_running(x, scale, shift, running_mean, running_variance, out):
    """Batch normalisation in use.

    >>> out = np.empty((1, 2))
    >>> mean, variance = np.array([1.0, 2.0]), np.array([1.0, 4.0])
    >>> reference.batch_norm_running(np.array([[3.0, 6.0]]), np.ones(2), np.zeros(2), mean, variance, out)
    >>> out.round(4)
    array([[2., 2.]])
    """
    deviation = np.sqrt(_wide(running_variance) + NORMALIZATION_EPS)
    out[...] = _wide(scale) * (_wide(x) - _wide(running_mean)) / deviation + _wide(shift)


# ---- Standardised inputs. x, dy, out (m,n); mean, scale (n,), which are no parameters.


# out = (x - mean) / scale
@_quiet
def standardize(x, mean, scale, out):
    """Features brought to mean 0 and standard deviation 1.

    >>> out = np.empty((1, 2))
    >>> reference.standardize(np.array([[3.0, 100.0]]), np.array([1.0, 200.0]), np.array([4.0, 100.0]), out)
    >>> out
    array([[ 0.5, -1. ]])
    """
    out[...] = (_wide(x) - _wide(mean)) / _wide(scale)


# dx = dy / scale
@_quiet
def standardize_backward(dy, scale, out):
    """The gradient with respect to x.

    >>> out = np.empty((1, 2))
    >>> reference.standardize_backward(np.array([[1.0, 1.0]]), np.array([4.0, 100.0]), out)
    >>> out
    array([[0.25, 0.01]])
    """
    out[...] = _wide(dy) / _wide(scale)


# mean_j = sum_i w_i x_ij / sum_i w_i ; scale_j = sqrt(sum_i w_i (x_ij - mean_j)^2 / sum_i w_i) over finite x_ij
# scale_j = 1 if the variance is at most m eps variance + (m eps mean)^2 : it may be rounding alone
@_quiet
def standardization(x, sample_weight, mean, scale):
    """What scikit-learn's StandardScaler learns; fills mean and scale (n,).

    >>> mean, scale = np.empty(2), np.empty(2)
    >>> reference.standardization(np.array([[1.0, 7.0], [5.0, 7.0]]), np.empty(0), mean, scale)
    >>> mean, scale
    (array([3., 7.]), array([2., 1.]))
    """
    weights = _wide(sample_weight) if sample_weight.size else np.ones(len(x))
    mean[...], scale[...] = 0, 1
    for j, column in enumerate(_wide(x).T):
        used = np.isfinite(column) & (weights > 0)
        if used.any():
            count = np.count_nonzero(used)
            average = np.average(column[used], weights=weights[used])
            variance = np.average((column[used] - average) ** 2, weights=weights[used])
            mean[j] = average
            if variance > count * EPS * variance + (count * EPS * average) ** 2:
                scale[j] = np.sqrt(variance)


# ---- Losses. prediction, target, gradient (m,n); sample_weight (m,) or empty. Fill `gradient`, return the value.


# value = sum_i w_i l_i / sum_i w_i ; d value / d p_ij = w_i (d l_i / d p_ij) / sum_i w_i ; both 0 if all weights are 0
# row_loss: l (m,) ; row_gradient: d l_i / d p_ij (m,n)
def _weighted_mean(row_loss, row_gradient, sample_weight, gradient):
    weights = _wide(sample_weight) if sample_weight.size else np.ones(len(row_loss))
    total = weights.sum()
    if total == 0:
        gradient[...] = 0
        return 0.0
    gradient[...] = weights[:, np.newaxis] / total * row_gradient
    return float((weights * row_loss).sum() / total)


# l_i = mean over outputs of element_loss (m,n)
def _elementwise(element_loss, element_gradient, sample_weight, gradient):
    outputs = max(element_loss.shape[1], 1)
    return _weighted_mean(element_loss.sum(axis=1) / outputs, element_gradient / outputs, sample_weight, gradient)


# d^2, with d = p - t ; derivative 2 d
@_quiet
def mse(prediction, target, sample_weight, gradient):
    """Mean squared error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.mse(p, t, np.empty(0), gradient)
    2.0
    >>> gradient.ravel()
    array([2., 0.])
    """
    d = _wide(prediction) - _wide(target)
    return _elementwise(d * d, 2.0 * d, sample_weight, gradient)


# |d| ; derivative sign(d), 0 at 0
@_quiet
def mae(prediction, target, sample_weight, gradient):
    """Mean absolute error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.mae(p, t, np.empty(0), gradient)
    1.0
    >>> gradient.ravel()
    array([0.5, 0. ])
    """
    d = _wide(prediction) - _wide(target)
    return _elementwise(np.abs(d), np.sign(d), sample_weight, gradient)


# d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2) ; derivative clip(d, -delta, delta)
@_quiet
def huber(prediction, target, sample_weight, gradient, delta=1.0):
    """Squared error with linear tails (Huber 1964).

    >>> p, t, gradient = np.array([[3.0], [1.5]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.huber(p, t, np.empty(0), gradient, 1.0)
    0.8125
    >>> gradient.ravel()
    array([0.5 , 0.25])
    """
    d = _wide(prediction) - _wide(target)
    element_loss = np.where(np.abs(d) <= delta, 0.5 * d * d, delta * (np.abs(d) - 0.5 * delta))
    return _elementwise(element_loss, np.clip(d, -delta, delta), sample_weight, gradient)


# max(-q d, (1 - q) d), with d = p - t ; derivative -q where d < 0, 1 - q where d > 0, 0 at 0 ; q a number or (n,)
@_quiet
def quantile(prediction, target, sample_weight, gradient, q=0.5):
    """The pinball loss, least where the share q of the targets lies below (Koenker & Bassett 1978).

    >>> p, t, gradient = np.array([[3.0], [0.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.quantile(p, t, np.empty(0), gradient, 0.75)
    0.625
    >>> gradient.ravel()
    array([ 0.125, -0.375])
    """
    d = _wide(prediction) - _wide(target)
    slope = np.where(np.isnan(d), d, np.where(d > 0, 1.0 - q, np.where(d < 0, -q, 0.0)))
    return _elementwise(np.maximum(-q * d, (1.0 - q) * d), slope, sample_weight, gradient)


# log cosh d = |d| + log(1 + exp(-2|d|)) - log 2 ; derivative tanh(d)
@_quiet
def log_cosh(prediction, target, sample_weight, gradient):
    """Logarithm of the hyperbolic cosine of the error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> round(reference.log_cosh(p, t, np.empty(0), gradient), 4)
    0.6625
    >>> gradient.ravel().round(4)
    array([0.482, 0.   ])
    """
    d = _wide(prediction) - _wide(target)
    element_loss = np.abs(d) + np.log1p(np.exp(-2.0 * np.abs(d))) - math.log(2.0)
    return _elementwise(element_loss, np.tanh(d), sample_weight, gradient)


# exp(p) - t p ; derivative exp(p) - t
@_quiet
def poisson(prediction, target, sample_weight, gradient):
    """Negative Poisson log-likelihood without its constant log t!; the prediction is the logarithm of the rate.

    >>> p, t, gradient = np.array([[0.0], [0.0]]), np.array([[1.0], [4.0]]), np.empty((2, 1))
    >>> reference.poisson(p, t, np.empty(0), gradient)
    1.0
    >>> gradient.ravel()
    array([ 0. , -1.5])
    """
    p, t = _wide(prediction), _wide(target)
    return _elementwise(np.exp(p) - t * p, np.exp(p) - t, sample_weight, gradient)


# -t log s - (1 - t) log(1 - s), s = sigmoid(z), = max(z, 0) - z t + log(1 + exp(-|z|)) ; derivative s - t
@_quiet
def binary_cross_entropy(prediction, target, sample_weight, gradient):
    """On logits; the target is a probability.

    >>> p, t, gradient = np.array([[0.0], [2.0]]), np.array([[1.0], [0.5]]), np.empty((2, 1))
    >>> round(reference.binary_cross_entropy(p, t, np.empty(0), gradient), 4)
    0.91
    >>> gradient.ravel().round(4)
    array([-0.25  ,  0.1904])
    """
    z, t = _wide(prediction), _wide(target)
    element_loss = np.maximum(z, 0.0) - z * t + np.log1p(np.exp(-np.abs(z)))
    return _elementwise(element_loss, _sigmoid(z) - t, sample_weight, gradient)


# l_i = -sum_j t_ij log s_ij, s = softmax(z) (m,n) ; d l_i / d z_ij = s_ij sum_j t_ij - t_ij
# A target of z's own shape is the probabilities t; a target (m,1) holds the label c_i: t is the indicator of c_i.
@_quiet
def softmax_cross_entropy(prediction, target, sample_weight, gradient):
    """On logits; mean over the batch. The gradient is the exact one even for target rows that do not sum to 1.

    A label and its indicator are the same target:

    >>> logits, gradient = np.array([[0.0, np.log(3)]]), np.empty((1, 2))
    >>> round(reference.softmax_cross_entropy(logits, np.array([[1.0]]), np.empty(0), gradient), 4)
    0.2877
    >>> gradient
    array([[ 0.25, -0.25]])
    >>> round(reference.softmax_cross_entropy(logits, np.array([[0.0, 1.0]]), np.empty(0), gradient), 4)
    0.2877
    """
    log_s, t = _log_softmax(_wide(prediction)), _wide(target)
    if t.shape == log_s.shape:
        row_loss = -(t * log_s).sum(axis=1)
        row_gradient = np.exp(log_s) * t.sum(axis=1, keepdims=True) - t
    else:
        rows, labels = np.arange(len(t)), t[:, 0].astype(np.int64)
        # Picked, not multiplied by an indicator: a logit of -inf elsewhere in the row would give 0 * -inf = NaN.
        row_loss = -log_s[rows, labels]
        row_gradient = np.exp(log_s)
        row_gradient[rows, labels] -= 1.0
    return _weighted_mean(row_loss, row_gradient, sample_weight, gradient)


# ---- scikit-learn's losses: means over rows, sums over outputs. Probabilities q of a value lie in [eps, 1 - eps].


def _inside(q, dtype):
    eps = np.finfo(dtype).eps
    return np.clip(q, eps, 1.0 - eps)


# d^2 / 2, with d = p - t, as a value the mean over outputs too ; derivative d, that of the sum
@_quiet
def half_squared_error(prediction, target, sample_weight, gradient):
    """Half the squared error.

    >>> p, t, gradient = np.array([[3.0], [1.0]]), np.array([[1.0], [1.0]]), np.empty((2, 1))
    >>> reference.half_squared_error(p, t, np.empty(0), gradient)
    1.0
    >>> gradient.ravel()
    array([1., 0.])
    """
    d = _wide(prediction) - _wide(target)
    return _weighted_mean((0.5 * d * d).mean(axis=1), d, sample_weight, gradient)


# t log(t / r) - t + r, with r = exp(p), the first term 0 where t = 0 ; derivative r - t
@_quiet
def half_poisson_deviance(prediction, target, sample_weight, gradient):
    """Half the deviance of Poisson counts; the prediction is the logarithm of the rate.

    >>> p, t, gradient = np.array([[0.0], [0.0]]), np.array([[1.0], [4.0]]), np.empty((2, 1))
    >>> round(reference.half_poisson_deviance(p, t, np.empty(0), gradient), 4)
    1.2726
    >>> gradient.ravel().round(4)
    array([ 0. , -1.5])
    """
    r, t = np.exp(_wide(prediction)), _wide(target)
    share = np.where(t == 0, 0.0, t * np.log(np.where(t == 0, 1.0, t) / r))
    return _weighted_mean((share - t + r).sum(axis=1), r - t, sample_weight, gradient)


# -log q where t = 1, -log(1 - q) where t = 0, with q = sigmoid(z) ; derivative q - t
@_quiet
def binary_log_loss(prediction, target, sample_weight, gradient):
    """On logits; targets are 0 or 1.

    >>> p, t, gradient = np.array([[0.0], [2.0]]), np.array([[1.0], [0.0]]), np.empty((2, 1))
    >>> round(reference.binary_log_loss(p, t, np.empty(0), gradient), 4)
    1.41
    >>> gradient.ravel().round(4)
    array([-0.25  ,  0.4404])
    """
    q, t = _sigmoid(_wide(prediction)), _wide(target)
    kept = _inside(q, prediction.dtype)
    element_loss = -np.log(np.where(t == 1, kept, 1.0 - kept))
    return _weighted_mean(element_loss.sum(axis=1), q - t, sample_weight, gradient)


# l_i = -log q_ic, with q = softmax(z) (m,n) and c the row's label, target (m,1) ; d l_i / d z_ij = q_ij - (j = c)
@_quiet
def log_loss(prediction, target, sample_weight, gradient):
    """On logits.

    >>> p, t, gradient = np.array([[0.0, np.log(3)]]), np.array([[0.0]]), np.empty((1, 2))
    >>> round(reference.log_loss(p, t, np.empty(0), gradient), 4)
    1.3863
    >>> gradient.round(4)
    array([[-0.75,  0.75]])
    """
    q = np.exp(_log_softmax(_wide(prediction)))
    hit = np.arange(q.shape[1]) == _wide(target)
    row_loss = -np.log(_inside(q[hit], prediction.dtype))
    return _weighted_mean(row_loss, q - hit, sample_weight, gradient)


LOSSES = {
    Loss.MSE: mse,
    Loss.MAE: mae,
    Loss.HUBER: huber,
    Loss.LOG_COSH: log_cosh,
    Loss.POISSON: poisson,
    Loss.BINARY_CROSS_ENTROPY: binary_cross_entropy,
    Loss.SOFTMAX_CROSS_ENTROPY: softmax_cross_entropy,
    Loss.QUANTILE: quantile,
    EstimatorLoss.HALF_SQUARED_ERROR: half_squared_error,
    EstimatorLoss.HALF_POISSON_DEVIANCE: half_poisson_deviance,
    EstimatorLoss.BINARY_LOG_LOSS: binary_log_loss,
    EstimatorLoss.LOG_LOSS: log_loss,
}


def _loss_of(loss, parameter, prediction, target, sample_weight, gradient):
    given = loss in (Loss.HUBER, Loss.QUANTILE) and parameter is not None
    return LOSSES[loss](prediction, target, sample_weight, gradient, *([parameter] if given else []))


# ---- Optimisers. parameters p, gradient g, state1, state2: flat; p and the states change in place. step t = 1, 2, ...
# hyper: [0] learning rate lr, [1] momentum mu or beta1, [2] beta2 or alpha, [3] eps, [4] weight decay wd, [5] nesterov,
# [9] adam's "epsilon hat".
# Weight decay means g + wd p for g, except in adamw. What is stored is rounded; p is moved by the unrounded state.


def _moment(v, dtype):
    """0 where v would be subnormal in the dtype in which it is kept."""
    return np.where(np.abs(v) < np.finfo(dtype).tiny, 0.0, v)


# v = mu v + g ; p -= lr v, or with nesterov lr (g + mu v) ; mu = 0: p -= lr g and state1 is not touched
@_quiet
def sgd(parameters, gradient, state1, state2, step, hyper):
    """Gradient descent with momentum as in PyTorch (Sutskever et al. 2013 with the rate outside the velocity).

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.empty(0), np.zeros(12)
    >>> hyper[:2] = 0.5, 0.9
    >>> reference.sgd(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p, state1
    (array([0.75, 2.  ]), array([ 0.5, -2. ]))
    """
    learning_rate, momentum, _, _, weight_decay, nesterov = hyper[:6]
    p = _wide(parameters)
    g = _wide(gradient) + weight_decay * p
    if momentum != 0:
        velocity = _moment(momentum * _wide(state1) + g, state1.dtype)
        state1[...] = velocity
        g = g + momentum * velocity if nesterov else velocity
    parameters[...] = p - learning_rate * g


# s = alpha s + (1 - alpha) g^2 ; d = g / (sqrt(s) + eps) ; p -= lr d, or with momentum b = mu b + d ; p -= lr b
@_quiet
def rmsprop(parameters, gradient, state1, state2, step, hyper):
    """RMSprop (Tieleman & Hinton 2012), not centred.

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.empty(0), np.zeros(12)
    >>> hyper[:4] = 0.01, 0.0, 0.99, 1e-8
    >>> reference.rmsprop(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1.round(4)
    (array([0.9, 1.1]), array([0.0025, 0.04  ]))
    """
    learning_rate, momentum, alpha, eps, weight_decay = hyper[:5]
    p = _wide(parameters)
    g = _wide(gradient) + weight_decay * p
    square_average = alpha * _wide(state1) + (1.0 - alpha) * g * g
    state1[...] = square_average
    direction = g / (np.sqrt(square_average) + eps)
    if momentum != 0:
        direction = _moment(momentum * _wide(state2) + direction, state2.dtype)
        state2[...] = direction
    parameters[...] = p - learning_rate * direction


# s = s + g^2 ; p -= lr g / (sqrt(s) + eps)
@_quiet
def adagrad(parameters, gradient, state1, state2, step, hyper):
    """Adagrad (Duchi et al. 2011).

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.empty(0), np.zeros(12)
    >>> hyper[[0, 3]] = 0.5, 1e-10
    >>> reference.adagrad(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1
    (array([0.5, 1.5]), array([0.25, 4.  ]))
    """
    learning_rate, _, _, eps, weight_decay = hyper[:5]
    p = _wide(parameters)
    g = _wide(gradient) + weight_decay * p
    square_sum = _wide(state1) + g * g
    state1[...] = square_sum
    parameters[...] = p - learning_rate * g / (np.sqrt(square_sum) + eps)


# m = b1 m + (1 - b1) g ; v = b2 v + (1 - b2) g^2 ; p -= lr / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + eps)
# epsilon hat: p -= lr sqrt(1 - b2^t) / (1 - b1^t) m / (sqrt(v) + eps)
def _adam(p, g, state1, state2, step, hyper):
    learning_rate, beta1, beta2, eps = hyper[:4]
    m = _moment(beta1 * _wide(state1) + (1.0 - beta1) * g, state1.dtype)
    v = beta2 * _wide(state2) + (1.0 - beta2) * g * g
    state1[...] = m
    state2[...] = v
    m_unbiased = m / (1.0 - beta1**step)
    if hyper[9]:
        return p - learning_rate * math.sqrt(1.0 - beta2**step) * m_unbiased / (np.sqrt(v) + eps)
    v_unbiased = v / (1.0 - beta2**step)
    return p - learning_rate * m_unbiased / (np.sqrt(v_unbiased) + eps)


@_quiet
def adam(parameters, gradient, state1, state2, step, hyper):
    """Adam (Kingma & Ba 2014); weight decay is L2, through the gradient.

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2), np.zeros(12)
    >>> hyper[:4] = 0.001, 0.9, 0.999, 1e-8
    >>> reference.adam(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1
    (array([0.999, 1.001]), array([ 0.05, -0.2 ]))
    """
    p = _wide(parameters)
    parameters[...] = _adam(p, _wide(gradient) + hyper[4] * p, state1, state2, step, hyper)


# p = (1 - lr wd) p ; then adam without weight decay
@_quiet
def adamw(parameters, gradient, state1, state2, step, hyper):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2017).

    >>> p, state1, state2, hyper = np.array([1.0, 1.0]), np.zeros(2), np.zeros(2), np.zeros(12)
    >>> hyper[:5] = 0.1, 0.9, 0.999, 1e-8, 0.5
    >>> reference.adamw(p, np.array([0.5, -2.0]), state1, state2, 1, hyper)
    >>> p.round(4), state1
    (array([0.85, 1.05]), array([ 0.05, -0.2 ]))
    """
    p = (1.0 - hyper[0] * hyper[4]) * _wide(parameters)
    parameters[...] = _adam(p, _wide(gradient), state1, state2, step, hyper)


# g = clip(g, -limit, limit) ; NaN stays
@_quiet
def clip_by_value(gradient, limit):
    """In place.

    >>> gradient = np.array([3.0, -4.0, 0.5])
    >>> reference.clip_by_value(gradient, 1.0)
    >>> gradient
    array([ 1. , -1. ,  0.5])
    """
    gradient[...] = np.clip(_wide(gradient), -limit, limit)


# norm = sqrt(sum g^2) ; g = g limit / norm if norm > limit
@_quiet
def clip_by_norm(gradient, limit):
    """In place; returns the norm before. A NaN in the gradient makes the norm NaN and leaves the gradient as it is.

    >>> gradient = np.array([3.0, 4.0])
    >>> reference.clip_by_norm(gradient, 1.0)
    5.0
    >>> gradient
    array([0.6, 0.8])
    """
    g = _wide(gradient)
    largest = np.abs(g).max(initial=0.0)
    # Divided by the largest, so that no square overflows or underflows.
    norm = largest * np.sqrt(((g / largest) ** 2).sum()) if 0 < largest < np.inf else largest
    if norm > limit:
        gradient[...] = g * (limit / norm)
    return float(norm)


# ---- Networks. table (layers, 18): in_features, out_features, offset of weight, offset of bias, activation, ...
# x (m, first in_features), out (m, last out_features). Between layers nothing is rounded; `workspace` is not used.


def _layers(table, parameters):
    """Per layer: (weight's slice, bias' slice, weight (k,n), bias (n,), activation)."""
    for in_features, out_features, at_weight, at_bias, activation in table[:, :5].tolist():
        weight = slice(at_weight, at_weight + in_features * out_features)
        bias = slice(at_bias, at_bias + out_features)
        matrix = _wide(parameters[weight]).reshape(in_features, out_features)
        yield weight, bias, matrix, _wide(parameters[bias]), activation


# a = x ; for each layer a = f(a W + b) ; out = a
@_quiet
def forward(table, parameters, x, out, workspace):
    """The network's output.

    >>> from fastnn.kernels.network import make_table
    >>> table, _ = make_table([2, 1, 1], [Activation.RELU, Activation.IDENTITY])
    >>> parameters = np.array([1.0, 2.0, -1.0, 3.0, 0.5])  # relu(x @ [1, 2] - 1) * 3 + 0.5
    >>> out = np.empty((2, 1))
    >>> reference.forward(table, parameters, np.array([[1.0, 1.0], [0.0, 0.0]]), out, None)
    >>> out.ravel()
    array([6.5, 0.5])
    """
    a = _wide(x)
    for _, _, weight, bias, activation in _layers(table, parameters):
        y = np.empty((len(a), len(bias)))
        linear(a, weight, bias, activation, y)
        a = y
    out[...] = a


# From the last layer to the first: dz = dy f'(z) ; dW = a^T dz ; db = sum dz ; dy of the layer before = dz W^T
@_quiet
def loss_and_gradient(table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None):
    """The loss of the network's output against y (the losses' `target`); fills `gradient`, flat like the parameters.

    loss_parameter: that of huber or quantile, None for their default; other losses have none.

    >>> from fastnn.kernels.network import make_table
    >>> table, count = make_table([2, 1], [Activation.IDENTITY])
    >>> x, y, gradient = np.array([[1.0, 2.0]]), np.array([[1.0]]), np.empty(count)
    >>> reference.loss_and_gradient(table, np.array([1.0, 1.0, 0.0]), x, y, np.empty(0), Loss.MSE, gradient, None)
    4.0
    >>> gradient
    array([4., 8., 4.])
    """
    layers = list(_layers(table, parameters))
    a = _wide(x)
    record = []
    for _, _, weight, bias, activation in layers:
        z = a @ weight + bias
        output = np.empty_like(z)
        ACTIVATIONS[activation][0](z, output)
        record.append((a, z if activation in NEEDS_PRE_ACTIVATION else output))
        a = output

    dy = np.empty_like(a)
    value = _loss_of(loss, loss_parameter, a, y, sample_weight, dy)

    for (weight_slice, bias_slice, weight, _, activation), (layer_input, saved) in zip(
        reversed(layers), reversed(record), strict=True
    ):
        dz = np.empty_like(dy)
        ACTIVATIONS[activation][1](dy, saved, dz)
        gradient[weight_slice] = (layer_input.T @ dz).ravel()
        gradient[bias_slice] = dz.sum(axis=0)
        dy = dz @ weight.T
    return value


# ---- Networks with normalised layers: columns 7 to 9 of the table are normalisation (0, or a code), the offset of
# scale and, behind it, shift, and in `statistics` that of the running mean and, behind it, the running variance. Column
# 17 of the first layer is in_features if x is standardised: mean and scale are then the end of `statistics`.


# a = x, or standardised x ; for each layer a = f(normalised(a W + b)), over the batch by running averages ; out = a
@_quiet
def normalized_forward(table, parameters, statistics, x, out, workspace):
    """The network's output.

    >>> from fastnn.kernels.network import make_table
    >>> table, _ = make_table([1, 1], [Activation.IDENTITY], [Normalization.BATCH])
    >>> parameters = np.array([2.0, 0.0, 10.0, 1.0])  # weight, bias, scale, shift
    >>> statistics, out = np.array([4.0, 1.0]), np.empty((2, 1))  # running mean and variance of 2 x
    >>> reference.normalized_forward(table, parameters, statistics, np.array([[2.0], [3.0]]), out, None)
    >>> out.ravel().round(4)
    array([ 1.    , 20.9999])
    """
    a, statistics = _wide(x).copy(), _wide(statistics)
    if table[0, 17]:
        standardize(x, *np.split(statistics[-2 * table[0, 17] :], 2), a)
    for row, (_, _, weight, bias, activation) in zip(table.tolist(), _layers(table, parameters), strict=True):
        n, (normalization, at_scale, at_mean) = len(bias), row[7:10]
        z = a @ weight + bias
        if normalization:
            scale, shift = np.split(_wide(parameters[at_scale : at_scale + 2 * n]), 2)
            if normalization == Normalization.LAYER:
                layer_norm(z.copy(), scale, shift, z)
            else:
                batch_norm_running(z.copy(), scale, shift, *np.split(statistics[at_mean : at_mean + 2 * n], 2), z)
        a = np.empty_like(z)
        ACTIVATIONS[activation][0](z, a)
    out[...] = a


NORMALIZATIONS = {
    Normalization.LAYER: (lambda x, scale, shift, out: layer_norm(x, scale, shift, out), layer_norm_backward),
    Normalization.BATCH: (
        lambda x, scale, shift, out: batch_norm(x, scale, shift, np.zeros(x.shape[1]), np.zeros(x.shape[1]), out),
        batch_norm_backward,
    ),
}


# As loss_and_gradient, with u = normalised z between z and f(u)
@_quiet
def normalized_loss_and_gradient(
    table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None
):
    """The loss of the network's output against y, by the statistics of the batch; fills `gradient`.

    If the table has x standardised, x is what `standardize` made of it.

    >>> from fastnn.kernels.network import make_table
    >>> table, count = make_table([1, 1], [Activation.IDENTITY], [Normalization.BATCH])
    >>> x, y, gradient = np.array([[1.0], [3.0]]), np.zeros((2, 1)), np.empty(count)
    >>> parameters = np.array([2.0, 0.0, 10.0, 1.0])  # weight, bias, scale, shift
    >>> value = reference.normalized_loss_and_gradient(table, parameters, x, y, np.empty(0), Loss.MSE, gradient, None)
    >>> round(value, 2), gradient[2:].round(4)
    (101.0, array([20.,  2.]))
    """
    a, record = _wide(x), []
    for row, layer in zip(table.tolist(), _layers(table, parameters), strict=True):
        _, _, weight, bias, activation = layer
        n, (normalization, at_scale) = len(bias), row[7:9]
        z = a @ weight + bias
        u, scale = z.copy(), None
        if normalization:
            scale, shift = np.split(_wide(parameters[at_scale : at_scale + 2 * n]), 2)
            NORMALIZATIONS[normalization][0](z, scale, shift, u)
        output = np.empty_like(z)
        ACTIVATIONS[activation][0](u, output)
        saved = u if activation in NEEDS_PRE_ACTIVATION else output
        record.append((a, z, scale, saved, normalization, slice(at_scale, at_scale + 2 * n), *layer))
        a = output

    dy = np.empty_like(a)
    value = _loss_of(loss, loss_parameter, a, y, sample_weight, dy)
    for (
        layer_input,
        z,
        scale,
        saved,
        normalization,
        scales,
        weight_slice,
        bias_slice,
        weight,
        _,
        activation,
    ) in reversed(record):
        dz = np.empty_like(dy)
        ACTIVATIONS[activation][1](dy, saved, dz)
        if normalization:
            both = np.empty((2, len(scale)))
            NORMALIZATIONS[normalization][1](dz.copy(), z, scale, dz, *both)
            gradient[scales] = both.ravel()
        gradient[weight_slice] = (layer_input.T @ dz).ravel()
        gradient[bias_slice] = dz.sum(axis=0)
        dy = dz @ weight.T
    return value
