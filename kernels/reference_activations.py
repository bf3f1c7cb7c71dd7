"""References of the activations and their backward."""

import math

import numpy as np

from .codes import Activation
from .reference_common import log_of_softmax, logistic, quiet, wide

LEAKY_SLOPE = 0.01
SELU_ALPHA = 1.6732632423543772848170429916717
SELU_SCALE = 1.0507009873554804934193349852946
GELU_TANH_CUBIC = 0.044715

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
@quiet
def identity(x, out):
    """No activation.

    >>> out = np.empty(2)
    >>> reference.identity(np.array([-1.0, 2.0]), out)
    >>> out
    array([-1.,  2.])
    """
    out[...] = x


@quiet
def identity_backward(dy, saved, out):
    """Ignores `saved`.

    >>> out = np.empty(2)
    >>> reference.identity_backward(np.full(2, 2.0), np.array([-1.0, 2.0]), out)
    >>> out
    array([2., 2.])
    """
    out[...] = dy


# y = max(x, 0), NaN if x is NaN ; dx = dy where y > 0, else 0 (a choice, not a product: 0 even where dy is inf or NaN)
@quiet
def relu(x, out):
    """Rectified linear unit (Nair & Hinton 2010).

    >>> out = np.empty(3)
    >>> reference.relu(np.array([-1.0, 0.0, 2.0]), out)
    >>> out
    array([0., 0., 2.])
    """
    out[...] = np.maximum(wide(x), 0.0)


@quiet
def relu_backward(dy, saved, out):
    """From the output; the derivative at 0 is 0.

    >>> out = np.empty(3)
    >>> reference.relu_backward(np.full(3, 2.0), np.array([0.0, 0.0, 2.0]), out)
    >>> out
    array([0., 0., 2.])
    """
    out[...] = np.where(wide(saved) > 0, wide(dy), 0.0)


# y = x where x > 0, else 0.01 x ; dx = dy where y > 0, else 0.01 dy
@quiet
def leaky_relu(x, out):
    """Rectifier that leaks below zero (Maas et al. 2013).

    >>> out = np.empty(3)
    >>> reference.leaky_relu(np.array([-1.0, 0.0, 2.0]), out)
    >>> out
    array([-0.01,  0.  ,  2.  ])
    """
    x = wide(x)
    out[...] = np.where(x > 0, x, LEAKY_SLOPE * x)


@quiet
def leaky_relu_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(3)
    >>> reference.leaky_relu_backward(np.full(3, 2.0), np.array([-0.01, 0.0, 2.0]), out)
    >>> out
    array([0.02, 0.02, 2.  ])
    """
    out[...] = wide(dy) * np.where(wide(saved) > 0, 1.0, LEAKY_SLOPE)


# y = x where x > 0, else exp(x) - 1 ; dx = dy where y > 0, else dy (y + 1)
@quiet
def elu(x, out):
    """Exponential linear unit, alpha = 1 (Clevert et al. 2015).

    >>> out = np.empty(2)
    >>> reference.elu(np.array([-np.log(2), 2.0]), out)
    >>> out
    array([-0.5,  2. ])
    """
    x = wide(x)
    out[...] = np.where(x > 0, x, np.expm1(x))


@quiet
def elu_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.elu_backward(np.full(2, 2.0), np.array([-0.5, 2.0]), out)
    >>> out
    array([1., 2.])
    """
    y = wide(saved)
    out[...] = wide(dy) * np.where(y > 0, 1.0, y + 1.0)


# y = scale x where x > 0, else scale alpha (exp(x) - 1) ; dx = dy scale where y > 0, else dy (y + scale alpha)
@quiet
def selu(x, out):
    """Self-normalizing ELU with its two fixed constants (Klambauer et al. 2017).

    >>> out = np.empty(2)
    >>> reference.selu(np.array([-np.log(2), 2.0]), out)
    >>> out.round(4)
    array([-0.879 ,  2.1014])
    """
    x = wide(x)
    out[...] = SELU_SCALE * np.where(x > 0, x, SELU_ALPHA * np.expm1(x))


@quiet
def selu_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.selu_backward(np.full(2, 2.0), np.array([-0.879, 2.1014]), out)
    >>> out.round(4)
    array([1.7582, 2.1014])
    """
    y = wide(saved)
    out[...] = wide(dy) * np.where(y > 0, SELU_SCALE, y + SELU_SCALE * SELU_ALPHA)


# y = 1 / (1 + exp(-x)) ; dx = dy y (1 - y)
@quiet
def sigmoid(x, out):
    """Logistic function.

    >>> out = np.empty(2)
    >>> reference.sigmoid(np.array([0.0, np.log(3)]), out)
    >>> out
    array([0.5 , 0.75])
    """
    out[...] = logistic(wide(x))


@quiet
def sigmoid_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.sigmoid_backward(np.full(2, 2.0), np.array([0.5, 0.75]), out)
    >>> out
    array([0.5  , 0.375])
    """
    y = wide(saved)
    out[...] = wide(dy) * (y * (1.0 - y))


# y = tanh(x) ; dx = dy (1 - y^2)
@quiet
def tanh(x, out):
    """Hyperbolic tangent.

    >>> out = np.empty(2)
    >>> reference.tanh(np.array([0.0, np.log(2)]), out)
    >>> out
    array([0. , 0.6])
    """
    out[...] = np.tanh(wide(x))


@quiet
def tanh_backward(dy, saved, out):
    """From the output; (1 - y)(1 + y) keeps the digits that 1 - y^2 loses near saturation.

    >>> out = np.empty(2)
    >>> reference.tanh_backward(np.full(2, 2.0), np.array([0.0, 0.6]), out)
    >>> out
    array([2.  , 1.28])
    """
    y = wide(saved)
    out[...] = wide(dy) * ((1.0 - y) * (1.0 + y))


# y = log(1 + exp(x)) ; dx = dy (1 - exp(-y))
@quiet
def softplus(x, out):
    """Smooth rectifier (Dugas et al. 2001), beta = 1, without PyTorch's switch to the identity above 20.

    >>> out = np.empty(2)
    >>> reference.softplus(np.array([0.0, np.log(3)]), out)
    >>> out.round(4)
    array([0.6931, 1.3863])
    """
    out[...] = np.logaddexp(0.0, wide(x))


@quiet
def softplus_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(2)
    >>> reference.softplus_backward(np.full(2, 2.0), np.array([np.log(2), np.log(4)]), out)
    >>> out.round(4)
    array([1. , 1.5])
    """
    out[...] = wide(dy) * -np.expm1(-wide(saved))


# y = x Phi(x), Phi and phi the distribution and density of N(0, 1) ; dx = dy (Phi(z) + z phi(z))
@quiet
def gelu(x, out):
    """Gaussian error linear unit, exact (Hendrycks & Gimpel 2016).

    >>> out = np.empty(3)
    >>> reference.gelu(np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1587,  0.    ,  0.8413])
    """
    x = wide(x)
    out[...] = _scaled(x, _normal_cdf(x))


@quiet
def gelu_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(3)
    >>> reference.gelu_backward(np.full(3, 2.0), np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1666,  1.    ,  2.1666])
    """
    z = _near(wide(saved))
    density = np.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    out[...] = wide(dy) * (_normal_cdf(z) + z * density)


# y = x (1 + tanh(u)) / 2 = x s, s = sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3) ; dx = dy (s + z s (1 - s) 2 du/dz)
@quiet
def gelu_tanh(x, out):
    """The approximation of GELU by tanh (Hendrycks & Gimpel 2016).

    >>> out = np.empty(3)
    >>> reference.gelu_tanh(np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1588,  0.    ,  0.8412])
    """
    x = wide(x)
    u = math.sqrt(2.0 / math.pi) * (x + GELU_TANH_CUBIC * x**3)
    out[...] = _scaled(x, logistic(2.0 * u))


@quiet
def gelu_tanh_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(3)
    >>> reference.gelu_tanh_backward(np.full(3, 2.0), np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.1659,  1.    ,  2.1659])
    """
    z = _near(wide(saved))
    u = math.sqrt(2.0 / math.pi) * (z + GELU_TANH_CUBIC * z**3)
    du = math.sqrt(2.0 / math.pi) * (1.0 + 3.0 * GELU_TANH_CUBIC * z**2)
    out[...] = wide(dy) * (logistic(2.0 * u) + z * logistic(2.0 * u) * logistic(-2.0 * u) * 2.0 * du)


# y = x s, s = sigmoid(x) ; dx = dy s (1 + z (1 - s))
@quiet
def silu(x, out):
    """Sigmoid linear unit (Elfwing et al. 2017), also called swish (Ramachandran et al. 2017).

    >>> out = np.empty(3)
    >>> reference.silu(np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([-0.2689,  0.    ,  0.7311])
    """
    x = wide(x)
    out[...] = _scaled(x, logistic(x))


@quiet
def silu_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(3)
    >>> reference.silu_backward(np.full(3, 2.0), np.array([-1.0, 0.0, 1.0]), out)
    >>> out.round(4)
    array([0.1447, 1.    , 1.8553])
    """
    z = _near(wide(saved))
    out[...] = wide(dy) * (logistic(z) * (1.0 + z * logistic(-z)))


# y = clip(x/6 + 1/2, 0, 1) ; dx = dy/6 where 0 < y < 1, else 0 (a choice, as in relu)
@quiet
def hardsigmoid(x, out):
    """Sigmoid of three straight lines (Courbariaux et al. 2015, with the slope of Howard et al. 2019).

    >>> out = np.empty(4)
    >>> reference.hardsigmoid(np.array([-3.0, 0.0, 1.5, 4.0]), out)
    >>> out.round(4)
    array([0.  , 0.5 , 0.75, 1.  ])
    """
    out[...] = np.clip((wide(x) + 3.0) / 6.0, 0.0, 1.0)


@quiet
def hardsigmoid_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty(4)
    >>> reference.hardsigmoid_backward(np.full(4, 2.0), np.array([0.0, 0.5, 0.75, 1.0]), out)
    >>> out.round(4)
    array([0.    , 0.3333, 0.3333, 0.    ])
    """
    y = wide(saved)
    out[...] = np.where((y > 0.0) & (y < 1.0), wide(dy) / 6.0, 0.0)


# y = x clip(x/6 + 1/2, 0, 1) ; dx = 0 where z <= -3, dy where z >= 3, else dy (z/3 + 1/2), NaN if z is NaN
@quiet
def hardswish(x, out):
    """SiLU with hardsigmoid for the sigmoid (Howard et al. 2019).

    >>> out = np.empty(4)
    >>> reference.hardswish(np.array([-1.5, 0.0, 1.5, 4.0]), out)
    >>> out.round(4)
    array([-0.375,  0.   ,  1.125,  4.   ])
    """
    x = wide(x)
    out[...] = _scaled(x, np.clip((x + 3.0) / 6.0, 0.0, 1.0))


@quiet
def hardswish_backward(dy, saved, out):
    """From the pre-activation.

    >>> out = np.empty(4)
    >>> reference.hardswish_backward(np.full(4, 2.0), np.array([-1.5, 0.0, 1.5, 4.0]), out)
    >>> out.round(4)
    array([0., 1., 2., 2.])
    """
    z, dy = wide(saved), wide(dy)
    out[...] = np.where(z <= -3.0, 0.0, np.where(z >= 3.0, dy, dy * (z / 3.0 + 0.5)))


# (m,n): y_ij = exp(x_ij - max_i) / sum_j exp(x_ij - max_i) ; dx_ij = y_ij (dy_ij - sum_j dy_ij y_ij)
@quiet
def softmax(x, out):
    """Along the last axis (Bridle 1990). A row that holds +inf or NaN, or -inf alone, becomes NaN throughout.

    >>> out = np.empty((2, 2))
    >>> reference.softmax(np.array([[0.0, np.log(3)], [1000.0, 1000.0]]), out)
    >>> out
    array([[0.25, 0.75],
           [0.5 , 0.5 ]])
    """
    x = wide(x)
    e = np.exp(x - x.max(axis=-1, keepdims=True, initial=-np.inf))
    out[...] = e / e.sum(axis=-1, keepdims=True)


@quiet
def softmax_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty((1, 2))
    >>> reference.softmax_backward(np.array([[4.0, 0.0]]), np.array([[0.25, 0.75]]), out)
    >>> out
    array([[ 0.75, -0.75]])
    """
    dy, y = wide(dy), wide(saved)
    out[...] = y * (dy - (dy * y).sum(axis=-1, keepdims=True))


# (m,n): y_ij = x_ij - max_i - log sum_j exp(x_ij - max_i) ; dx_ij = dy_ij - exp(y_ij) sum_j dy_ij
@quiet
def log_softmax(x, out):
    """Logarithm of softmax along the last axis, without forming softmax.

    >>> out = np.empty((1, 2))
    >>> reference.log_softmax(np.array([[0.0, 1000.0]]), out)
    >>> out
    array([[-1000.,     0.]])
    """
    out[...] = log_of_softmax(wide(x))


@quiet
def log_softmax_backward(dy, saved, out):
    """From the output.

    >>> out = np.empty((1, 2))
    >>> reference.log_softmax_backward(np.array([[4.0, 0.0]]), np.log([[0.25, 0.75]]), out)
    >>> out
    array([[ 3., -3.]])
    """
    dy, y = wide(dy), wide(saved)
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
