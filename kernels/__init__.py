"""Numba kernels of dense networks; those of the catalog, which `fastnn check` lists, have a NumPy twin in `reference`.

Arrays of floats are all of one dtype, float32 or float64. Kernels follow raw pointers, so they refuse dtypes, layouts,
shapes and read-only results that do not fit, and have then written nothing. They do not look for results that overlap
inputs where their docstrings forbid it, nor at the numbers in a `net.table`: `fastnn`'s layers, models and activations
do.

Examples in docstrings take three lines as read:

    import numpy as np
    import fastnn
    from fastnn import kernels
"""

from . import reference
from .activation import activate, activate_backward
from .activation_kernels import (
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
from .codes import Activation, EstimatorLoss, Loss, Normalization, Optimizer
from .dense import linear, linear_backward_input, linear_backward_parameters, outer_update
from .dropout import dropout
from .embedded_apply import apply, apply_into, workspace
from .embedded_derivatives import gradient, jacobian, parameter_vjp, vjp
from .inference import forward
from .loss_kernels import (
    binary_cross_entropy,
    binary_log_loss,
    half_poisson_deviance,
    half_squared_error,
    huber,
    log_cosh,
    log_loss,
    mae,
    mse,
    poisson,
    quantile,
    softmax_cross_entropy,
)
from .network import Network, NormalizedNetwork
from .normalization import batch_norm, batch_norm_backward, batch_norm_running, layer_norm, layer_norm_backward
from .normalized_inference import normalized_forward
from .optimizer import adagrad, adam, adamw, clip_by_norm, clip_by_value, rmsprop, sgd
from .regularized_training import normalized_loss_and_gradient
from .standardization import standardization, standardize, standardize_backward
from .sweeps import Optimization
from .training import loss_and_gradient

__all__ = [
    "Activation",
    "EstimatorLoss",
    "Loss",
    "Network",
    "Normalization",
    "NormalizedNetwork",
    "Optimization",
    "Optimizer",
    "activate",
    "activate_backward",
    "adagrad",
    "adam",
    "adamw",
    "apply",
    "apply_into",
    "batch_norm",
    "batch_norm_backward",
    "batch_norm_running",
    "binary_cross_entropy",
    "binary_log_loss",
    "clip_by_norm",
    "clip_by_value",
    "dropout",
    "elu",
    "elu_backward",
    "forward",
    "gelu",
    "gelu_backward",
    "gelu_tanh",
    "gelu_tanh_backward",
    "gradient",
    "half_poisson_deviance",
    "half_squared_error",
    "hardsigmoid",
    "hardsigmoid_backward",
    "hardswish",
    "hardswish_backward",
    "huber",
    "identity",
    "identity_backward",
    "jacobian",
    "layer_norm",
    "layer_norm_backward",
    "leaky_relu",
    "leaky_relu_backward",
    "linear",
    "linear_backward_input",
    "linear_backward_parameters",
    "log_cosh",
    "log_loss",
    "log_softmax",
    "log_softmax_backward",
    "loss_and_gradient",
    "mae",
    "mse",
    "normalized_forward",
    "normalized_loss_and_gradient",
    "outer_update",
    "parameter_vjp",
    "poisson",
    "quantile",
    "reference",
    "relu",
    "relu_backward",
    "rmsprop",
    "selu",
    "selu_backward",
    "sgd",
    "sigmoid",
    "sigmoid_backward",
    "silu",
    "silu_backward",
    "softmax",
    "softmax_backward",
    "softmax_cross_entropy",
    "softplus",
    "softplus_backward",
    "standardization",
    "standardize",
    "standardize_backward",
    "tanh",
    "tanh_backward",
    "vjp",
    "workspace",
]
