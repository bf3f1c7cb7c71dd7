"""A kernel and its backward for each activation, by name.

Args of all, C-contiguous float32 or float64 arrays of one shape and dtype:
    x: the input; for softmax and log_softmax its last axis is the row.
    out: receives the result; may be x, or dy.
    dy: the gradient of the loss with respect to the activation's output.
    saved: the output of the activation, or its input x where the docstring says so.

They run on the thread that calls them; `activate` and `activate_backward` (activation.py) share large work.
"""

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
    activate_array,
    activate_array_backward,
)
from .jit import kernel


@kernel
def identity(x, out):
    """out = x"""
    activate_array(IDENTITY, x, out, out.shape[-1])


@kernel
def identity_backward(dy, saved, out):
    """out = dy * didentity/dx; saved is the output of identity."""
    activate_array_backward(IDENTITY, dy, saved, out, out.shape[-1])


@kernel
def relu(x, out):
    """out = max(x, 0)"""
    activate_array(RELU, x, out, out.shape[-1])


@kernel
def relu_backward(dy, saved, out):
    """out = dy * drelu/dx; saved is the output of relu."""
    activate_array_backward(RELU, dy, saved, out, out.shape[-1])


@kernel
def leaky_relu(x, out):
    """out = x if x > 0 else 0.01 x"""
    activate_array(LEAKY_RELU, x, out, out.shape[-1])


@kernel
def leaky_relu_backward(dy, saved, out):
    """out = dy * dleaky_relu/dx; saved is the output of leaky_relu."""
    activate_array_backward(LEAKY_RELU, dy, saved, out, out.shape[-1])


@kernel
def elu(x, out):
    """out = x if x > 0 else exp(x) - 1 (Clevert et al. 2015)"""
    activate_array(ELU, x, out, out.shape[-1])


@kernel
def elu_backward(dy, saved, out):
    """out = dy * delu/dx; saved is the output of elu."""
    activate_array_backward(ELU, dy, saved, out, out.shape[-1])


@kernel
def selu(x, out):
    """out = scale * (x if x > 0 else alpha (exp(x) - 1)) (Klambauer et al. 2017)"""
    activate_array(SELU, x, out, out.shape[-1])


@kernel
def selu_backward(dy, saved, out):
    """out = dy * dselu/dx; saved is the output of selu."""
    activate_array_backward(SELU, dy, saved, out, out.shape[-1])


@kernel
def sigmoid(x, out):
    """out = 1 / (1 + exp(-x))"""
    activate_array(SIGMOID, x, out, out.shape[-1])


@kernel
def sigmoid_backward(dy, saved, out):
    """out = dy * dsigmoid/dx; saved is the output of sigmoid."""
    activate_array_backward(SIGMOID, dy, saved, out, out.shape[-1])


@kernel
def tanh(x, out):
    """out = tanh(x)"""
    activate_array(TANH, x, out, out.shape[-1])


@kernel
def tanh_backward(dy, saved, out):
    """out = dy * dtanh/dx; saved is the output of tanh."""
    activate_array_backward(TANH, dy, saved, out, out.shape[-1])


@kernel
def softplus(x, out):
    """out = log(1 + exp(x))"""
    activate_array(SOFTPLUS, x, out, out.shape[-1])


@kernel
def softplus_backward(dy, saved, out):
    """out = dy * dsoftplus/dx; saved is the output of softplus."""
    activate_array_backward(SOFTPLUS, dy, saved, out, out.shape[-1])


@kernel
def gelu(x, out):
    """out = x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel 2016)"""
    activate_array(GELU, x, out, out.shape[-1])


@kernel
def gelu_backward(dy, saved, out):
    """out = dy * dgelu/dx; saved is the input of gelu."""
    activate_array_backward(GELU, dy, saved, out, out.shape[-1])


@kernel
def gelu_tanh(x, out):
    """out = x / 2 * (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))"""
    activate_array(GELU_TANH, x, out, out.shape[-1])


@kernel
def gelu_tanh_backward(dy, saved, out):
    """out = dy * dgelu_tanh/dx; saved is the input of gelu_tanh."""
    activate_array_backward(GELU_TANH, dy, saved, out, out.shape[-1])


@kernel
def silu(x, out):
    """out = x * sigmoid(x) (Elfwing et al. 2017)"""
    activate_array(SILU, x, out, out.shape[-1])


@kernel
def silu_backward(dy, saved, out):
    """out = dy * dsilu/dx; saved is the input of silu."""
    activate_array_backward(SILU, dy, saved, out, out.shape[-1])


@kernel
def hardsigmoid(x, out):
    """out = min(max(x / 6 + 1/2, 0), 1)"""
    activate_array(HARDSIGMOID, x, out, out.shape[-1])


@kernel
def hardsigmoid_backward(dy, saved, out):
    """out = dy * dhardsigmoid/dx; saved is the output of hardsigmoid."""
    activate_array_backward(HARDSIGMOID, dy, saved, out, out.shape[-1])


@kernel
def hardswish(x, out):
    """out = x * hardsigmoid(x) (Howard et al. 2019)"""
    activate_array(HARDSWISH, x, out, out.shape[-1])


@kernel
def hardswish_backward(dy, saved, out):
    """out = dy * dhardswish/dx; saved is the input of hardswish."""
    activate_array_backward(HARDSWISH, dy, saved, out, out.shape[-1])


@kernel
def softmax(x, out):
    """out = exp(x) / sum(exp(x)) along the last axis"""
    activate_array(SOFTMAX, x, out, out.shape[-1])


@kernel
def softmax_backward(dy, saved, out):
    """out = dy * dsoftmax/dx; saved is the output of softmax."""
    activate_array_backward(SOFTMAX, dy, saved, out, out.shape[-1])


@kernel
def log_softmax(x, out):
    """out = x - log(sum(exp(x))) along the last axis"""
    activate_array(LOG_SOFTMAX, x, out, out.shape[-1])


@kernel
def log_softmax_backward(dy, saved, out):
    """out = dy * dlog_softmax/dx; saved is the output of log_softmax."""
    activate_array_backward(LOG_SOFTMAX, dy, saved, out, out.shape[-1])
