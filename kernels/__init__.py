"""Numba kernels of dense networks. Each has a NumPy twin of the same name and arguments in `fastnn.kernels.reference`."""

from . import reference
from .activation import (
    activate,
    activate_backward,
    elu,
    elu_backward,
    gelu,
    gelu_backward,
    gelu_tanh,
    gelu_tanh_backward,
    hardsigmoid,
    hardsigmoid_backward,
    hardswish,
    hardswish_backward,
    identity,
    identity_backward,
    leaky_relu,
    leaky_relu_backward,
    log_softmax,
    log_softmax_backward,
    relu,
    relu_backward,
    selu,
    selu_backward,
    sigmoid,
    sigmoid_backward,
    silu,
    silu_backward,
    softmax,
    softmax_backward,
    softplus,
    softplus_backward,
    tanh,
    tanh_backward,
)
from .codes import Activation, Loss, Optimizer
from .dense import linear, linear_backward_input, linear_backward_parameters, outer_update
from .loss import binary_cross_entropy, huber, log_cosh, mae, mse, poisson, softmax_cross_entropy
from .optimizer import adagrad, adam, adamw, clip_by_norm, clip_by_value, rmsprop, sgd
