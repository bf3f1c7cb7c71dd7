"""References of whole networks: forward, and the loss and gradient of a batch."""

import numpy as np

from .codes import NEEDS_PRE_ACTIVATION, Normalization
from .reference_activations import ACTIVATIONS
from .reference_common import quiet, wide
from .reference_layers import (
    batch_norm,
    batch_norm_backward,
    batch_norm_running,
    layer_norm,
    layer_norm_backward,
    linear,
    standardize,
)
from .reference_losses import loss_of

# ---- Networks. table (layers, 18): in_features, out_features, offset of weight, offset of bias, activation, ...
# x (m, first in_features), out (m, last out_features). Between layers nothing is rounded; `workspace` is not used.


def _layers(table, parameters):
    """Per layer: (weight's slice, bias' slice, weight (k,n), bias (n,), activation)."""
    for in_features, out_features, at_weight, at_bias, activation in table[:, :5].tolist():
        weight = slice(at_weight, at_weight + in_features * out_features)
        bias = slice(at_bias, at_bias + out_features)
        matrix = wide(parameters[weight]).reshape(in_features, out_features)
        yield weight, bias, matrix, wide(parameters[bias]), activation


# a = x ; for each layer a = f(a W + b) ; out = a
@quiet
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
    a = wide(x)
    for _, _, weight, bias, activation in _layers(table, parameters):
        y = np.empty((len(a), len(bias)))
        linear(a, weight, bias, activation, y)
        a = y
    out[...] = a


# From the last layer to the first: dz = dy f'(z) ; dW = a^T dz ; db = sum dz ; dy of the layer before = dz W^T
@quiet
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
    a = wide(x)
    record = []
    for _, _, weight, bias, activation in layers:
        z = a @ weight + bias
        output = np.empty_like(z)
        ACTIVATIONS[activation][0](z, output)
        record.append((a, z if activation in NEEDS_PRE_ACTIVATION else output))
        a = output

    dy = np.empty_like(a)
    value = loss_of(loss, loss_parameter, a, y, sample_weight, dy)

    for (weight_slice, bias_slice, weight, _, activation), (layer_input, saved) in zip(
        reversed(layers), reversed(record), strict=True
    ):
        dz = np.empty_like(dy)
        ACTIVATIONS[activation][1](dy, saved, dz)
        gradient[weight_slice] = (layer_input.T @ dz).ravel()
        gradient[bias_slice] = dz.sum(axis=0)
        dy = dz @ weight.T
    return value


# ---- Networks with normalized layers: columns 7 to 9 of the table are normalization (0, or a code), the offset of
# scale and, behind it, shift, and in `statistics` that of the running mean and, behind it, the running variance. Column
# 17 of the first layer is in_features if x is standardized: mean and scale are then the end of `statistics`.


# a = x, or standardized x ; for each layer a = f(normalized(a W + b)), over the batch by running averages ; out = a
@quiet
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
    a, statistics = wide(x).copy(), wide(statistics)
    if table[0, 17]:
        standardize(x, *np.split(statistics[-2 * table[0, 17] :], 2), a)
    for row, (_, _, weight, bias, activation) in zip(table.tolist(), _layers(table, parameters), strict=True):
        n, (normalization, at_scale, at_mean) = len(bias), row[7:10]
        z = a @ weight + bias
        if normalization:
            scale, shift = np.split(wide(parameters[at_scale : at_scale + 2 * n]), 2)
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


# As loss_and_gradient, with u = normalized z between z and f(u)
@quiet
def normalized_loss_and_gradient(
    table, parameters, x, y, sample_weight, loss, gradient, workspace, loss_parameter=None
):
    """The loss of the network's output against y, by the statistics of the batch; fills `gradient`.

    If the table has x standardized, x is what `standardize` made of it.

    >>> from fastnn.kernels.network import make_table
    >>> table, count = make_table([1, 1], [Activation.IDENTITY], [Normalization.BATCH])
    >>> x, y, gradient = np.array([[1.0], [3.0]]), np.zeros((2, 1)), np.empty(count)
    >>> parameters = np.array([2.0, 0.0, 10.0, 1.0])  # weight, bias, scale, shift
    >>> value = reference.normalized_loss_and_gradient(table, parameters, x, y, np.empty(0), Loss.MSE, gradient, None)
    >>> round(value, 2), gradient[2:].round(4)
    (101.0, array([20.,  2.]))
    """
    a, record = wide(x), []
    for row, layer in zip(table.tolist(), _layers(table, parameters), strict=True):
        _, _, weight, bias, activation = layer
        n, (normalization, at_scale) = len(bias), row[7:9]
        z = a @ weight + bias
        u, scale = z.copy(), None
        if normalization:
            scale, shift = np.split(wide(parameters[at_scale : at_scale + 2 * n]), 2)
            NORMALIZATIONS[normalization][0](z, scale, shift, u)
        output = np.empty_like(z)
        ACTIVATIONS[activation][0](u, output)
        saved = u if activation in NEEDS_PRE_ACTIVATION else output
        record.append((a, z, scale, saved, normalization, slice(at_scale, at_scale + 2 * n), *layer))
        a = output

    dy = np.empty_like(a)
    value = loss_of(loss, loss_parameter, a, y, sample_weight, dy)
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
