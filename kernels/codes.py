"""The numbers by which kernels know activations, normalizations, losses and optimizers."""

from enum import IntEnum


class Activation(IntEnum):
    """f in a = f(z), by its number: what compiled code and kernels take, and `Dense` and `MLP` besides names.

    >>> Activation.TANH, Activation["RELU"].value
    (<Activation.TANH: 6>, 1)
    """

    IDENTITY = 0
    RELU = 1
    LEAKY_RELU = 2
    ELU = 3
    SELU = 4
    SIGMOID = 5
    TANH = 6
    SOFTPLUS = 7
    GELU = 8
    GELU_TANH = 9
    SILU = 10
    HARDSIGMOID = 11
    HARDSWISH = 12
    SOFTMAX = 13
    LOG_SOFTMAX = 14


# The backward of these takes the pre-activation z; that of every other activation takes the output.
NEEDS_PRE_ACTIVATION = frozenset({Activation.GELU, Activation.GELU_TANH, Activation.SILU, Activation.HARDSWISH})
# These work on whole rows, not on elements.
ROW_WISE = frozenset({Activation.SOFTMAX, Activation.LOG_SOFTMAX})


class Normalization(IntEnum):
    """Over what a layer's pre-activations are normalized: the units of a row, or the rows of a batch.

    >>> Normalization["BATCH"]
    <Normalization.BATCH: 2>
    """

    LAYER = 1
    BATCH = 2


class Loss(IntEnum):
    """A loss by its number: what `fastnn.gradient` takes in compiled code, and what takes names of losses.

    The cross-entropies take logits, poisson the logarithm of the rate; huber and quantile have a parameter.

    >>> Loss["MSE"].value
    0
    """

    MSE = 0
    MAE = 1
    HUBER = 2
    LOG_COSH = 3
    POISSON = 4
    BINARY_CROSS_ENTROPY = 5
    SOFTMAX_CROSS_ENTROPY = 6
    QUANTILE = 7


class EstimatorLoss(IntEnum):
    """scikit-learn's losses, of `fastnn.sklearn`: see loss.py for where they differ from `Loss`.

    >>> EstimatorLoss["LOG_LOSS"].value
    103
    """

    HALF_SQUARED_ERROR = 100
    HALF_POISSON_DEVIANCE = 101
    BINARY_LOG_LOSS = 102
    LOG_LOSS = 103


class Optimizer(IntEnum):
    """An optimizer by its number: see `fastnn.optimizers` for their formulas.

    >>> Optimizer["ADAM"].value
    3
    """

    SGD = 0
    RMSPROP = 1
    ADAGRAD = 2
    ADAM = 3
    ADAMW = 4
