"""References of a dense layer, and of dropout, normalization and standardized inputs."""

import numpy as np

from .reference_activations import ACTIVATIONS
from .reference_common import EPS, quiet, wide

# ---- One dense layer. x (m,k), weight (k,n), bias (n,), out and dz (m,n)


# out = f(x W + b)
@quiet
def linear(x, weight, bias, activation, out):
    """Rounded once, after the activation.

    >>> x, weight = np.array([[1.0, 2.0]]), np.array([[1.0, -1.0, 0.0], [0.0, -1.0, 2.0]])
    >>> out = np.empty((1, 3))
    >>> reference.linear(x, weight, np.array([0.5, 0.5, 0.5]), Activation.RELU, out)
    >>> out
    array([[1.5, 0. , 4.5]])
    """
    z = wide(x) @ wide(weight) + wide(bias)
    function, _ = ACTIVATIONS[activation]
    function(z, z)
    out[...] = z


# dx (m,k) = dz W^T
@quiet
def linear_backward_input(dz, weight, out):
    """Gradient with respect to the layer's input.

    >>> out = np.empty((1, 2))
    >>> reference.linear_backward_input(np.array([[1.0, 10.0]]), np.array([[1.0, 2.0], [3.0, 4.0]]), out)
    >>> out
    array([[21., 43.]])
    """
    out[...] = wide(dz) @ wide(weight).T


# dW (k,n) = x^T dz ; db (n,) = sum over the batch of dz
@quiet
def linear_backward_parameters(x, dz, dweight, dbias):
    """Gradient with respect to weight and bias, summed over the batch.

    >>> x, dz = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0], [10.0]])
    >>> dweight, dbias = np.empty((2, 1)), np.empty(1)
    >>> reference.linear_backward_parameters(x, dz, dweight, dbias)
    >>> dweight.ravel(), dbias
    (array([31., 42.]), array([11.]))
    """
    dweight[...] = wide(x).T @ wide(dz)
    dbias[...] = wide(dz).sum(axis=0)


# W -= learning_rate x^T dz ; b -= learning_rate (sum over the batch of dz)
@quiet
def outer_update(x, dz, learning_rate, weight, bias):
    """Plain gradient descent without forming the gradient, in place.

    >>> weight, bias = np.array([[10.0], [10.0]]), np.array([10.0])
    >>> reference.outer_update(np.array([[1.0, 2.0]]), np.array([[4.0]]), 0.5, weight, bias)
    >>> weight.ravel(), bias
    (array([8., 6.]), array([8.]))
    """
    weight[...] = wide(weight) - learning_rate * (wide(x).T @ wide(dz))
    bias[...] = wide(bias) - learning_rate * wide(dz).sum(axis=0)


# ---- Dropout and normalization. x, out, dy, dx (m,n); scale, shift (n,)

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
@quiet
def dropout(x, rate, seed, update, layer, out):
    """Inverted dropout (Srivastava et al. 2014); the rate counts in whole 2^-32.

    >>> out = np.empty((1, 8))
    >>> reference.dropout(np.ones((1, 8)), 0.5, 0, 1, 0, out)
    >>> out
    array([[2., 2., 2., 0., 2., 2., 0., 0.]])
    """
    kept = kept_units(x.size, rate, seed, update, layer).reshape(x.shape)
    out[...] = np.where(kept, wide(x) / (1.0 - min(int(rate * 2**32 + 0.5), 2**32 - 1) / 2**32), 0.0)


NORMALIZATION_EPS = 1e-5
NORMALIZATION_MOMENTUM = 0.1


# x^ = (x - mean) / sqrt(variance + eps), over the axis
def _normalized(x, axis):
    deviation = np.sqrt(x.var(axis, keepdims=True) + NORMALIZATION_EPS)
    return (x - x.mean(axis, keepdims=True)) / deviation, deviation


# d = scale dy ; dx = (d - mean(d) - x^ mean(d x^)) / sqrt(variance + eps) ; dscale = sum dy x^ ; dshift = sum dy
def _normalization_backward(dy, x, scale, axis, dx, dscale, dshift):
    dy, (normalized, deviation) = wide(dy), _normalized(wide(x), axis)
    d = wide(scale) * dy
    mean = lambda values: values.mean(axis, keepdims=True)
    dx[...] = (d - mean(d) - normalized * mean(d * normalized)) / deviation
    dscale[...] = (dy * normalized).sum(axis=0)
    dshift[...] = dy.sum(axis=0)


# out = scale x^ + shift, over each row
@quiet
def layer_norm(x, scale, shift, out):
    """Layer normalization (Ba, Kiros & Hinton 2016).

    >>> out = np.empty((2, 2))
    >>> reference.layer_norm(np.array([[1.0, 3.0], [20.0, 60.0]]), np.ones(2), np.array([0.0, 10.0]), out)
    >>> out.round(4)
    array([[-1., 11.],
           [-1., 11.]])
    """
    out[...] = wide(scale) * _normalized(wide(x), 1)[0] + wide(shift)


@quiet
def layer_norm_backward(dy, x, scale, dx, dscale, dshift):
    """Gradients by x, scale and shift.

    >>> x, dx, dscale, dshift = np.array([[1.0, 2.0, 6.0]]), np.empty((1, 3)), np.empty(3), np.empty(3)
    >>> reference.layer_norm_backward(np.array([[1.0, 0.0, 0.0]]), x, np.ones(3), dx, dscale, dshift)
    >>> dx.round(4), dscale.round(4), dshift
    (array([[ 0.1763, -0.2204,  0.0441]]), array([-0.9258,  0.    ,  0.    ]), array([1., 0., 0.]))
    """
    _normalization_backward(dy, x, scale, 1, dx, dscale, dshift)


# out = scale x^ + shift, over each column ; running = 0.9 running + 0.1 (mean, or variance m / (m - 1))
@quiet
def batch_norm(x, scale, shift, running_mean, running_variance, out):
    """Batch normalization in training (Ioffe & Szegedy 2015); updates the running averages.

    >>> out, mean, variance = np.empty((2, 1)), np.zeros(1), np.ones(1)
    >>> reference.batch_norm(np.array([[1.0], [3.0]]), np.ones(1), np.zeros(1), mean, variance, out)
    >>> out.ravel().round(4), mean, variance
    (array([-1.,  1.]), array([0.2]), array([1.1]))
    """
    x, momentum = wide(x), NORMALIZATION_MOMENTUM
    out[...] = wide(scale) * _normalized(x, 0)[0] + wide(shift)
    running_mean[...] = (1 - momentum) * wide(running_mean) + momentum * x.mean(axis=0)
    running_variance[...] = (1 - momentum) * wide(running_variance) + momentum * x.var(axis=0, ddof=1)


@quiet
def batch_norm_backward(dy, x, scale, dx, dscale, dshift):
    """Gradients by x, scale and shift.

    >>> x, dx, dscale, dshift = np.array([[1.0], [2.0], [6.0]]), np.empty((3, 1)), np.empty(1), np.empty(1)
    >>> reference.batch_norm_backward(np.array([[1.0], [0.0], [0.0]]), x, np.ones(1), dx, dscale, dshift)
    >>> dx.ravel().round(4), dscale.round(4), dshift
    (array([ 0.1763, -0.2204,  0.0441]), array([-0.9258]), array([1.]))
    """
    _normalization_backward(dy, x, scale, 0, dx, dscale, dshift)


# out = scale (x - running mean) / sqrt(running variance + eps) + shift
@quiet
def batch_norm_running(x, scale, shift, running_mean, running_variance, out):
    """Batch normalization in use.

    >>> out = np.empty((1, 2))
    >>> mean, variance = np.array([1.0, 2.0]), np.array([1.0, 4.0])
    >>> reference.batch_norm_running(np.array([[3.0, 6.0]]), np.ones(2), np.zeros(2), mean, variance, out)
    >>> out.round(4)
    array([[2., 2.]])
    """
    deviation = np.sqrt(wide(running_variance) + NORMALIZATION_EPS)
    out[...] = wide(scale) * (wide(x) - wide(running_mean)) / deviation + wide(shift)


# ---- Standardized inputs. x, dy, out (m,n); mean, scale (n,), which are no parameters.


# out = (x - mean) / scale
@quiet
def standardize(x, mean, scale, out):
    """Features brought to mean 0 and standard deviation 1.

    >>> out = np.empty((1, 2))
    >>> reference.standardize(np.array([[3.0, 100.0]]), np.array([1.0, 200.0]), np.array([4.0, 100.0]), out)
    >>> out
    array([[ 0.5, -1. ]])
    """
    out[...] = (wide(x) - wide(mean)) / wide(scale)


# dx = dy / scale
@quiet
def standardize_backward(dy, scale, out):
    """The gradient with respect to x.

    >>> out = np.empty((1, 2))
    >>> reference.standardize_backward(np.array([[1.0, 1.0]]), np.array([4.0, 100.0]), out)
    >>> out
    array([[0.25, 0.01]])
    """
    out[...] = wide(dy) / wide(scale)


# mean_j = sum_i w_i x_ij / sum_i w_i ; scale_j = sqrt(sum_i w_i (x_ij - mean_j)^2 / sum_i w_i) over finite x_ij
# scale_j = 1 if the variance is at most m eps variance + (m eps mean)^2 : it may be rounding alone
@quiet
def standardization(x, sample_weight, mean, scale):
    """What scikit-learn's StandardScaler learns; fills mean and scale (n,).

    >>> mean, scale = np.empty(2), np.empty(2)
    >>> reference.standardization(np.array([[1.0, 7.0], [5.0, 7.0]]), np.empty(0), mean, scale)
    >>> mean, scale
    (array([3., 7.]), array([2., 1.]))
    """
    weights = wide(sample_weight) if sample_weight.size else np.ones(len(x))
    mean[...], scale[...] = 0, 1
    for j, column in enumerate(wide(x).T):
        used = np.isfinite(column) & (weights > 0)
        if used.any():
            count = np.count_nonzero(used)
            average = np.average(column[used], weights=weights[used])
            variance = np.average((column[used] - average) ** 2, weights=weights[used])
            mean[j] = average
            if variance > count * EPS * variance + (count * EPS * average) ** 2:
                scale[j] = np.sqrt(variance)
