"""What training makes small. A name, a member of `fastnn.Loss` or one of these objects all mean the same.

p is the network's output, t the target, d = p - t; the value is the mean over rows and outputs (over rows for
softmax_cross_entropy). With sample weights w_i it is the weighted mean over rows, sum of w_i l_i / sum of w_i.
Formulas and defaults are PyTorch's.
"""

from dataclasses import dataclass
from typing import ClassVar

from . import kernels
from .kernels.codes import Loss
from .validation import enum_member, shown

__all__ = ["MAE", "MSE", "BinaryCrossEntropy", "Huber", "LogCosh", "Poisson", "SoftmaxCrossEntropy"]


class _Loss:
    code: ClassVar[Loss]

    @property
    def name(self):
        """The name by which the loss can be asked for."""
        return self.code.name.lower()

    @property
    def kernel(self):
        """The kernel (prediction, target, sample_weight, gradient) -> value; fills gradient."""
        return getattr(kernels, self.name)


@dataclass(frozen=True)
class MSE(_Loss):
    """Mean squared error, d^2; "mse".

    >>> MSE().name
    'mse'
    """

    code = Loss.MSE


@dataclass(frozen=True)
class MAE(_Loss):
    """Mean absolute error, |d|; "mae".

    >>> MAE().name
    'mae'
    """

    code = Loss.MAE


@dataclass(frozen=True)
class Huber(_Loss):
    """d^2 / 2 where |d| < 1, |d| - 1/2 elsewhere (Huber 1964, with delta = 1); "huber".

    >>> Huber().name
    'huber'
    """

    code = Loss.HUBER


@dataclass(frozen=True)
class LogCosh(_Loss):
    """log(cosh(d)): like d^2 / 2 near 0, like |d| far from it; "log_cosh".

    >>> LogCosh().name
    'log_cosh'
    """

    code = Loss.LOG_COSH


@dataclass(frozen=True)
class Poisson(_Loss):
    """exp(p) - t p, the output being the logarithm of a rate and the targets counts of at least 0; "poisson".

    >>> Poisson().name
    'poisson'
    """

    code = Loss.POISSON


@dataclass(frozen=True)
class BinaryCrossEntropy(_Loss):
    """log(1 + exp(p)) - t p, the output being logits and the targets probabilities; "binary_cross_entropy".

    >>> BinaryCrossEntropy().name
    'binary_cross_entropy'
    """

    code = Loss.BINARY_CROSS_ENTROPY


@dataclass(frozen=True)
class SoftmaxCrossEntropy(_Loss):
    """-sum of t log(softmax(p)) over a row of logits; "softmax_cross_entropy".

    The targets are class labels, (rows,) whole numbers in 0 .. out_features - 1, or rows of probabilities.

    >>> SoftmaxCrossEntropy().name
    'softmax_cross_entropy'
    """

    code = Loss.SOFTMAX_CROSS_ENTROPY


_BY_CODE = {kind.code: kind() for kind in (MSE, MAE, Huber, LogCosh, Poisson, BinaryCrossEntropy, SoftmaxCrossEntropy)}


def get(loss):
    """The loss object that a name, a `Loss` member or an object means."""
    if isinstance(loss, _Loss):
        # By it kernels and checks of y know what y holds: a subclass may not have another.
        if not isinstance(loss, type(_BY_CODE.get(loss.code))):
            raise TypeError(f"loss: expected the code of its base class, got {shown(loss)}")
        return loss
    return _BY_CODE[enum_member(loss, Loss, "loss")]
