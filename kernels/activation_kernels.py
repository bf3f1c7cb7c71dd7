"""A kernel and its backward for each activation, by name.

x is the input, dy the gradient of the loss with respect to the activation's output; out receives f(x), or dy f'(x).
The arrays of a call are of one dtype.

Inside compiled code they run on the thread that calls them. From Python, large work is shared by threads.
"""

import functools

from .activation import (
    ELU,
    GELU,
    GELU_TANH,
    HARDSIGMOID,
    HARDSWISH,
    IDENTITY,
    LEAKY_RELU,
    LOG_SOFTMAX,
    RELU,
    SELU,
    SIGMOID,
    SILU,
    SOFTMAX,
    SOFTPLUS,
    TANH,
    activate_backward_checked,
    activate_checked,
    share_activation,
    share_activation_backward,
)
from .sharing import shares_large_work

# Fewer elements of the costliest activation pay for no second thread.
LEAST = 1024


def _forward(activation):
    """Make a function (x, out) the kernel of an activation, given by its code."""
    return shares_large_work(functools.partial(share_activation, activation), 1, LEAST)


def _backward(activation):
    """Make a function (dy, saved, out) the kernel of an activation's backward."""
    return shares_large_work(functools.partial(share_activation_backward, activation), 2, LEAST)


@_forward(IDENTITY)
def identity(x, out):
    """out = x.

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.identity(x, out)
    >>> out
    array([-2.,  0.,  3.])
    """
    activate_checked(IDENTITY, x, out)


@_backward(IDENTITY)
def identity_backward(dy, saved, out):
    """out = dy: the backward of `identity`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `identity`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.identity(x, y)
    >>> kernels.identity_backward(np.full(3, 10.0), y, dx)
    >>> dx
    array([10., 10., 10.])
    """
    activate_backward_checked(IDENTITY, dy, saved, out)


@_forward(RELU)
def relu(x, out):
    """out = max(x, 0) (Nair and Hinton 2010).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.relu(x, out)
    >>> out
    array([0., 0., 3.])
    """
    activate_checked(RELU, x, out)


@_backward(RELU)
def relu_backward(dy, saved, out):
    """out = dy where saved > 0, else 0: the backward of `relu`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `relu`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.relu(x, y)
    >>> kernels.relu_backward(np.full(3, 10.0), y, dx)
    >>> dx
    array([ 0.,  0., 10.])
    """
    activate_backward_checked(RELU, dy, saved, out)


@_forward(LEAKY_RELU)
def leaky_relu(x, out):
    """out = x if x > 0 else 0.01 x (Maas et al. 2013).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.leaky_relu(x, out)
    >>> out
    array([-0.02,  0.  ,  3.  ])
    """
    activate_checked(LEAKY_RELU, x, out)


@_backward(LEAKY_RELU)
def leaky_relu_backward(dy, saved, out):
    """out = dy where saved > 0, else 0.01 dy: the backward of `leaky_relu`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `leaky_relu`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.leaky_relu(x, y)
    >>> kernels.leaky_relu_backward(np.full(3, 10.0), y, dx)
    >>> dx
    array([ 0.1,  0.1, 10. ])
    """
    activate_backward_checked(LEAKY_RELU, dy, saved, out)


@_forward(ELU)
def elu(x, out):
    """out = x if x > 0 else exp(x) - 1 (Clevert et al. 2015).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.elu(x, out)
    >>> out.round(4)
    array([-0.8647,  0.    ,  3.    ])
    """
    activate_checked(ELU, x, out)


@_backward(ELU)
def elu_backward(dy, saved, out):
    """out = dy where saved > 0, else dy (saved + 1): the backward of `elu`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `elu`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.elu(x, y)
    >>> kernels.elu_backward(np.full(3, 10.0), y, dx)
    >>> dx.round(4)
    array([ 1.3534, 10.    , 10.    ])
    """
    activate_backward_checked(ELU, dy, saved, out)


@_forward(SELU)
def selu(x, out):
    """out = c (x if x > 0 else a (exp(x) - 1)), c = 1.0507..., a = 1.6733... (Klambauer et al. 2017).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.selu(x, out)
    >>> out.round(4)
    array([-1.5202,  0.    ,  3.1521])
    """
    activate_checked(SELU, x, out)


@_backward(SELU)
def selu_backward(dy, saved, out):
    """out = c dy where saved > 0, else dy (saved + c a): the backward of `selu`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `selu`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.selu(x, y)
    >>> kernels.selu_backward(np.full(3, 10.0), y, dx)
    >>> dx.round(4)
    array([ 2.3793, 17.581 , 10.507 ])
    """
    activate_backward_checked(SELU, dy, saved, out)


@_forward(SIGMOID)
def sigmoid(x, out):
    """out = 1 / (1 + exp(-x)), the logistic function.

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.sigmoid(x, out)
    >>> out.round(4)
    array([0.1192, 0.5   , 0.9526])
    """
    activate_checked(SIGMOID, x, out)


@_backward(SIGMOID)
def sigmoid_backward(dy, saved, out):
    """out = dy saved (1 - saved): the backward of `sigmoid`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `sigmoid`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.sigmoid(x, y)
    >>> kernels.sigmoid_backward(np.full(3, 10.0), y, dx)
    >>> dx.round(4)
    array([1.0499, 2.5   , 0.4518])
    """
    activate_backward_checked(SIGMOID, dy, saved, out)


@_forward(TANH)
def tanh(x, out):
    """out = tanh(x).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.tanh(x, out)
    >>> out.round(4)
    array([-0.964 ,  0.    ,  0.9951])
    """
    activate_checked(TANH, x, out)


@_backward(TANH)
def tanh_backward(dy, saved, out):
    """out = dy (1 - saved^2): the backward of `tanh`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `tanh`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.tanh(x, y)
    >>> kernels.tanh_backward(np.full(3, 10.0), y, dx)
    >>> dx.round(4)
    array([ 0.7065, 10.    ,  0.0987])
    """
    activate_backward_checked(TANH, dy, saved, out)


@_forward(SOFTPLUS)
def softplus(x, out):
    """out = log(1 + exp(x)) (Dugas et al. 2001).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.softplus(x, out)
    >>> out.round(4)
    array([0.1269, 0.6931, 3.0486])
    """
    activate_checked(SOFTPLUS, x, out)


@_backward(SOFTPLUS)
def softplus_backward(dy, saved, out):
    """out = dy (1 - exp(-saved)): the backward of `softplus`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `softplus`.

    >>> x, y, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3), np.empty(3)
    >>> kernels.softplus(x, y)
    >>> kernels.softplus_backward(np.full(3, 10.0), y, dx)
    >>> dx.round(4)
    array([1.192 , 5.    , 9.5257])
    """
    activate_backward_checked(SOFTPLUS, dy, saved, out)


@_forward(GELU)
def gelu(x, out):
    """out = x Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.gelu(x, out)
    >>> out.round(4)
    array([-0.0455,  0.    ,  2.996 ])
    """
    activate_checked(GELU, x, out)


@_backward(GELU)
def gelu_backward(dy, saved, out):
    """out = dy (Phi(saved) + saved phi(saved)), phi the normal density: the backward of `gelu`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the input of `gelu`.

    >>> x, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.gelu_backward(np.full(3, 10.0), x, dx)
    >>> dx.round(4)
    array([-0.8523,  5.    , 10.1195])
    """
    activate_backward_checked(GELU, dy, saved, out)


@_forward(GELU_TANH)
def gelu_tanh(x, out):
    """out = x / 2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3))), near gelu (Hendrycks and Gimpel 2016).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.gelu_tanh(x, out)
    >>> out.round(4)
    array([-0.0454,  0.    ,  2.9964])
    """
    activate_checked(GELU_TANH, x, out)


@_backward(GELU_TANH)
def gelu_tanh_backward(dy, saved, out):
    """out = dy (s + 2 saved s (1 - s) u'), u as in `gelu_tanh`, s = sigmoid(2 u): the backward of `gelu_tanh`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the input of `gelu_tanh`.

    >>> x, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.gelu_tanh_backward(np.full(3, 10.0), x, dx)
    >>> dx.round(4)
    array([-0.861 ,  5.    , 10.1158])
    """
    activate_backward_checked(GELU_TANH, dy, saved, out)


@_forward(SILU)
def silu(x, out):
    """out = x sigmoid(x), also called swish (Elfwing et al. 2017).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.silu(x, out)
    >>> out.round(4)
    array([-0.2384,  0.    ,  2.8577])
    """
    activate_checked(SILU, x, out)


@_backward(SILU)
def silu_backward(dy, saved, out):
    """out = dy s (1 + saved (1 - s)), s = sigmoid(saved): the backward of `silu`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the input of `silu`.

    >>> x, dx = np.array([-2.0, 0.0, 3.0]), np.empty(3)
    >>> kernels.silu_backward(np.full(3, 10.0), x, dx)
    >>> dx.round(4)
    array([-0.9078,  5.    , 10.881 ])
    """
    activate_backward_checked(SILU, dy, saved, out)


@_forward(HARDSIGMOID)
def hardsigmoid(x, out):
    """out = min(max(x / 6 + 1/2, 0), 1) (Courbariaux et al. 2015, with the slope of Howard et al. 2019).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-4.0, 0.0, 1.5]), np.empty(3)
    >>> kernels.hardsigmoid(x, out)
    >>> out.round(4)
    array([0.  , 0.5 , 0.75])
    """
    activate_checked(HARDSIGMOID, x, out)


@_backward(HARDSIGMOID)
def hardsigmoid_backward(dy, saved, out):
    """out = dy / 6 where 0 < saved < 1, else 0: the backward of `hardsigmoid`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `hardsigmoid`.

    >>> x, y, dx = np.array([-4.0, 0.0, 1.5]), np.empty(3), np.empty(3)
    >>> kernels.hardsigmoid(x, y)
    >>> kernels.hardsigmoid_backward(np.full(3, 10.0), y, dx)
    >>> dx.round(4)
    array([0.    , 1.6667, 1.6667])
    """
    activate_backward_checked(HARDSIGMOID, dy, saved, out)


@_forward(HARDSWISH)
def hardswish(x, out):
    """out = x hardsigmoid(x) (Howard et al. 2019).

    x, out: C-contiguous float32 or float64 arrays of one shape; out may be x.

    >>> x, out = np.array([-4.0, 0.0, 1.5]), np.empty(3)
    >>> kernels.hardswish(x, out)
    >>> out.round(4)
    array([0.   , 0.   , 1.125])
    """
    activate_checked(HARDSWISH, x, out)


@_backward(HARDSWISH)
def hardswish_backward(dy, saved, out):
    """out = 0 where saved <= -3, dy where saved >= 3, else dy (saved / 3 + 1/2): the backward of `hardswish`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the input of `hardswish`.

    >>> x, dx = np.array([-4.0, 0.0, 1.5]), np.empty(3)
    >>> kernels.hardswish_backward(np.full(3, 10.0), x, dx)
    >>> dx.round(4)
    array([ 0.,  5., 10.])
    """
    activate_backward_checked(HARDSWISH, dy, saved, out)


@_forward(SOFTMAX)
def softmax(x, out):
    """out = exp(x) / sum(exp(x)) along the last axis (Bridle 1990).

    x, out: C-contiguous float32 or float64 arrays of one shape; the last axis is the row; out may be x.

    >>> x, out = np.array([[0.0, 1.0, 2.0]]), np.empty((1, 3))
    >>> kernels.softmax(x, out)
    >>> out.round(4)
    array([[0.09  , 0.2447, 0.6652]])
    """
    activate_checked(SOFTMAX, x, out)


@_backward(SOFTMAX)
def softmax_backward(dy, saved, out):
    """out = saved (dy - sum(dy saved)) along the last axis: the backward of `softmax`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `softmax`.

    >>> x, y, dx = np.array([[0.0, 1.0, 2.0]]), np.empty((1, 3)), np.empty((1, 3))
    >>> kernels.softmax(x, y)
    >>> kernels.softmax_backward(np.array([[10.0, 0.0, 0.0]]), y, dx)
    >>> dx.round(4)
    array([[ 0.8193, -0.2203, -0.5989]])
    """
    activate_backward_checked(SOFTMAX, dy, saved, out)


@_forward(LOG_SOFTMAX)
def log_softmax(x, out):
    """out = x - log(sum(exp(x))) along the last axis, the logarithm of softmax.

    x, out: C-contiguous float32 or float64 arrays of one shape; the last axis is the row; out may be x.

    >>> x, out = np.array([[0.0, 1.0, 2.0]]), np.empty((1, 3))
    >>> kernels.log_softmax(x, out)
    >>> out.round(4)
    array([[-2.4076, -1.4076, -0.4076]])
    """
    activate_checked(LOG_SOFTMAX, x, out)


@_backward(LOG_SOFTMAX)
def log_softmax_backward(dy, saved, out):
    """out = dy - exp(saved) sum(dy) along the last axis: the backward of `log_softmax`.

    dy, saved, out: C-contiguous float32 or float64 arrays of one shape; out may be dy.
    saved: the output of `log_softmax`.

    >>> x, y, dx = np.array([[0.0, 1.0, 2.0]]), np.empty((1, 3)), np.empty((1, 3))
    >>> kernels.log_softmax(x, y)
    >>> kernels.log_softmax_backward(np.array([[10.0, 0.0, 0.0]]), y, dx)
    >>> dx.round(4)
    array([[ 9.0997, -2.4473, -6.6524]])
    """
    activate_backward_checked(LOG_SOFTMAX, dy, saved, out)
