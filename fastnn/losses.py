"""What training makes small. A name, a member of `fastnn.Loss` or one of these objects all mean the same.

A function of your own will do too, see `Custom`. All objects are of the class `Base`.

p is the network's output, t the target, d = p - t; the value is the mean over rows and outputs (over rows for
softmax_cross_entropy). With sample weights w_i it is the weighted mean over rows, sum of w_i l_i / sum of w_i.
Formulas and defaults are PyTorch's where it has the loss.

Unless a loss says otherwise its targets are finite real numbers, (rows, out_features), or (rows,) for one output; the
arithmetic is done in the model's dtype. Targets of another shape or kind are a ValueError or TypeError that names y,
raised where the loss is used.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import kernels
from .arguments import enum_member, real_number, shape_text, shown, user_number, users_stacklevel, wrong_shape
from .kernels.codes import Activation, Loss
from .kernels.loss import LINEAR, parameter_array
from .validation import converted, real_array

__all__ = [
    "MAE",
    "MSE",
    "BinaryCrossEntropy",
    "Custom",
    "Huber",
    "LogCosh",
    "Poisson",
    "Quantile",
    "SoftmaxCrossEntropy",
]


# f(y, prediction) -> (loss, gradient), see `Custom`.
LossFunction: TypeAlias = Callable[[np.ndarray, np.ndarray], tuple[SupportsFloat, ArrayLike]]


class Base:
    """What the objects of this module have in common."""

    code: ClassVar[Loss]
    # Whether `repeated` has to make a column for each output of the only one of y.
    repeats = False
    # Whether it is a function of the user's.
    custom = False

    @property
    def name(self) -> str:
        """The name by which the loss can be asked for."""
        return self.code.name.lower()

    @functools.cached_property
    def parameter(self) -> np.ndarray:
        """What kernels take beside the code, an array, whose address they may keep as long as the loss is there."""
        return parameter_array(self.code, None)

    def value(
        self, prediction: np.ndarray, target: np.ndarray, sample_weight: np.ndarray, gradient: np.ndarray
    ) -> float:
        """The loss of arrays as kernels take them, a float; fills gradient."""
        return getattr(kernels, self.name)(prediction, target, sample_weight, gradient)


@dataclass(frozen=True)
class MSE(Base):
    """Mean squared error, d^2; "mse".

    >>> from fastnn import MLP
    >>> net = MLP([1, 1], seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> net.loss_and_gradient([[1.0], [3.0]], [1.0, 4.0], MSE())[0]  # ((2 - 1)^2 + (6 - 4)^2) / 2
    2.5
    """

    code = Loss.MSE


@dataclass(frozen=True)
class MAE(Base):
    """Mean absolute error, |d|; "mae". At d = 0 the gradient is 0.

    >>> from fastnn import MLP
    >>> net = MLP([1, 1], seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> net.loss_and_gradient([[1.0], [3.0]], [1.0, 4.0], MAE())[0]  # (|2 - 1| + |6 - 4|) / 2
    1.5
    """

    code = Loss.MAE


@dataclass(frozen=True)
class _WithParameter(Base):
    """A loss whose first field is its parameter."""

    @functools.cached_property
    def parameter(self) -> np.ndarray:
        numbers = parameter_array(self.code, getattr(self, fields(self)[0].name))
        numbers.flags.writeable = False
        return numbers

    def value(
        self, prediction: np.ndarray, target: np.ndarray, sample_weight: np.ndarray, gradient: np.ndarray
    ) -> float:
        return getattr(kernels, self.name)(prediction, target, sample_weight, gradient, self.parameter)


@dataclass(frozen=True)
class Huber(_WithParameter):
    """d^2 / 2 where |d| < delta, delta (|d| - delta / 2) elsewhere (Huber 1964); "huber" has delta = 1.

    Args:
        delta: where the parabola goes over into straight lines; above 0.

    Raises:
        ValueError, TypeError: delta is not what it should be.

    >>> from fastnn import MLP
    >>> net = MLP([1, 1], seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> net.loss_and_gradient([[1.0], [3.0]], [1.0, 4.0], Huber(delta=1.0))[0]  # (1 / 2 + (2 - 1 / 2)) / 2
    1.0
    """

    delta: float = 1.0
    code = Loss.HUBER

    def __post_init__(self):
        object.__setattr__(self, "delta", real_number(self.delta, "delta", 0, above=True))


@dataclass(frozen=True)
class Quantile(_WithParameter):
    """(1 - q) d where d > 0, else -q d: the "pinball" loss, least at the quantile q of the targets; "quantile".

    (Koenker and Bassett 1978.) A network that makes it small says for each x the number below which the target lies
    with probability q. At d = 0 the gradient is 0. "quantile" has q = 0.5, the median: half the absolute error.

    With a list of q a network learns several quantiles at once, one for each of as many outputs: y has one column,
    which all outputs are compared with, and the loss is the mean over the quantiles. Nothing keeps the outputs in order
    where there are few data. Metrics get y with its column repeated.

    Args:
        q: above 0 and below 1, or a list of such numbers.

    Raises:
        ValueError, TypeError: q is not what it should be.

    >>> Quantile(0.9).q
    0.9
    >>> from fastnn import MLP
    >>> net = MLP([1, 3], dtype="float64", seed=0)
    >>> net.parameters = [0, 0, 0, 1, 2, 3]
    >>> round(net.loss_and_gradient([[5.0]], [2.0], Quantile([0.1, 0.5, 0.9]))[0], 9)  # (0.1 + 0 + 0.1) / 3
    0.066666667
    """

    q: float | Sequence[float] = 0.5
    code = Loss.QUANTILE

    def __post_init__(self):
        check = lambda q, name: real_number(q, name, 0, above=True, below=1)
        if isinstance(self.q, (list, tuple)) or (isinstance(self.q, np.ndarray) and self.q.ndim == 1):
            q = tuple(check(number, f"q[{i}]") for i, number in enumerate(self.q))
            if not q:
                raise ValueError("q: expected at least one number, got none")
        else:
            q = check(self.q, "q")
        object.__setattr__(self, "q", q)

    @property
    def repeats(self) -> bool:  # type: ignore[override]
        return isinstance(self.q, tuple)

    def refuse_others(self, outputs: int) -> None:
        """An error unless a network has as many outputs as there are q, if there are several."""
        if isinstance(self.q, tuple) and outputs != len(self.q):
            raise ValueError(f"loss: expected a network with {len(self.q)} outputs, one for each q, got {outputs}")

    def repeated(self, y: ArrayLike, outputs: int) -> np.ndarray:
        """y, of one column, with as many columns as a network has outputs."""
        self.refuse_others(outputs)
        column = real_array(y, "y")
        if column.ndim not in (1, 2) or column.shape[1:] not in ((), (1,)):
            raise wrong_shape("y", shape_text("*"), column)
        return np.repeat(column.reshape(-1, 1), outputs, axis=1)


@dataclass(frozen=True)
class LogCosh(Base):
    """log(cosh(d)): like d^2 / 2 near 0, like |d| - log(2) far from it; "log_cosh".

    >>> from fastnn import MLP
    >>> net = MLP([1, 1], seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> round(net.loss_and_gradient([[1.0]], [1.0], LogCosh())[0], 4)  # log(cosh(2 - 1))
    0.4338
    """

    code = Loss.LOG_COSH


@dataclass(frozen=True)
class Poisson(Base):
    """exp(p) - t p, the output being the logarithm of a rate and the targets counts of at least 0; "poisson".

    PyTorch's `PoissonNLLLoss(full=False)`: without the logarithm of t!, which does not depend on p.

    >>> from fastnn import MLP
    >>> net = MLP([1, 1], seed=0)
    >>> net.parameters = [0.0, 0.0]
    >>> net.loss_and_gradient([[1.0]], [3.0], Poisson())[0]  # exp(0) - 3 * 0
    1.0
    """

    code = Loss.POISSON


@dataclass(frozen=True)
class BinaryCrossEntropy(Base):
    """log(1 + exp(p)) - t p, the output being logits and the targets probabilities; "binary_cross_entropy".

    Leave the output's activation "identity"; probabilities are `fastnn.activations.sigmoid(net.predict(x))`.

    >>> from fastnn import MLP
    >>> net = MLP([1, 1], seed=0)
    >>> net.parameters = [0.0, 0.0]
    >>> round(net.loss_and_gradient([[1.0]], [1.0], BinaryCrossEntropy())[0], 4)  # -log(1 / 2)
    0.6931
    """

    code = Loss.BINARY_CROSS_ENTROPY


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Base):
    """-sum of t log(softmax(p)) over a row of logits; "softmax_cross_entropy".

    The targets are class labels, (rows,) whole numbers in 0 .. out_features - 1, or rows of probabilities. Leave the
    output's activation "identity"; probabilities are `fastnn.activations.softmax(net.predict(x))`, labels
    `net.predict(x).argmax(axis=1)`.

    >>> from fastnn import MLP
    >>> net = MLP([1, 4], seed=0)
    >>> net.parameters = [0.0] * 8
    >>> round(net.loss_and_gradient([[1.0]], [2], SoftmaxCrossEntropy())[0], 4)  # -log(1 / 4)
    1.3863
    """

    code = Loss.SOFTMAX_CROSS_ENTROPY


@dataclass(frozen=True)
class Custom(Base):
    """A loss of your own. Wherever a loss goes the function alone may go.

    It is called for every batch, with its y and with the network's outputs for it, and returns the loss and its
    gradient with respect to these outputs. A batch that is trained on gives the outputs that training has, with batch
    normalization by its statistics and with units dropped; in validation and `evaluate` they are those of `predict`.

    Args:
        function: f(y, prediction) -> (loss, gradient): a number, and an array of the shape of prediction, which is
            (rows, out_features) of the model's dtype. y is read-only, in the model's dtype: a row for each row of x,
            and as many columns as the user has given: (rows, 1) for 1-D y, none for y=None.

    Sample weights are not taken: they can be a column of y. A checkpoint cannot hold a function: `Trainer.restore`
    takes it. In compiled code `fastnn.parameter_vjp` does what this does.

    Raises:
        TypeError: function cannot be called; when it is used, what it returns is not a number and an array.
        ValueError: the array has another shape.

    >>> import numpy as np
    >>> import fastnn
    >>> def fourth_power(y, prediction):
    ...     d = prediction - y
    ...     return np.mean(d**4), 4 * d**3 / d.size
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> net = fastnn.MLP([1, 16, 1], activation="tanh", seed=0)
    >>> history = net.fit(x, x**2, loss=fourth_power, optimizer="adam", epochs=50, seed=0)
    >>> history.metrics["loss"][-1] < history.metrics["loss"][0]
    True
    """

    function: LossFunction
    code = LINEAR  # type: ignore[assignment]
    name = "custom"
    custom = True

    def __post_init__(self):
        if isinstance(self.function, type) or not callable(self.function):
            raise TypeError(f"function: expected f(y, prediction) -> (loss, gradient), got {shown(self.function)}")

    def evaluated(self, y: np.ndarray, prediction: np.ndarray) -> tuple[float, np.ndarray]:
        """(loss, gradient with respect to the prediction) as kernels take them."""
        # Views: where the function sets the shape of one, kernels go by their own; and y may be the user's own memory.
        y = y[:]
        y.flags.writeable = False
        found = self.function(y, prediction[:])
        name = getattr(self.function, "__name__", type(self.function).__name__)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            raise TypeError(f"loss: expected (loss, gradient) as result of {name}, got {shown(found)}")
        value, gradient = found
        value = user_number(value, f"loss: expected a number as first result of {name}")
        gradient = real_array(gradient, f"loss: gradient of {name}")
        if gradient.shape != prediction.shape:
            raise wrong_shape(f"loss: gradient of {name}", shape_text(*prediction.shape), gradient)
        return value, np.ascontiguousarray(converted(gradient, prediction.dtype))

    def value(
        self, prediction: np.ndarray, target: np.ndarray, sample_weight: np.ndarray, gradient: np.ndarray
    ) -> float:
        value, gradient[...] = self.evaluated(target, prediction)
        return value


# Of losses that take logits: the output activation that makes probabilities of them, as the loss does itself.
_OWN_ACTIVATION = {
    Loss.BINARY_CROSS_ENTROPY: Activation.SIGMOID,
    Loss.SOFTMAX_CROSS_ENTROPY: Activation.SOFTMAX,
}


def warn_of_probabilities(loss, activation):
    """Warn of an output activation after which the loss would make probabilities of probabilities."""
    if _OWN_ACTIVATION.get(loss.code) == activation:
        warnings.warn(
            f"loss: {loss.name} takes logits, but the last layer's activation is {activation.name.lower()}, which the "
            "loss applies itself; train with 'identity' there, and apply it to what predict gives",
            stacklevel=users_stacklevel(),
        )


_KINDS = MSE, MAE, Huber, LogCosh, Poisson, BinaryCrossEntropy, SoftmaxCrossEntropy, Quantile
_BY_CODE: dict[Loss, Base] = {kind.code: kind() for kind in _KINDS}


# What subclasses of users leave as it is.
_KEPT = "custom", "parameter", "repeats", "repeated", "refuse_others", "value"


def get(loss) -> Base:
    """The loss object that a name, a `Loss` member, an object or a function means."""
    if isinstance(loss, Custom):
        return loss
    if isinstance(loss, Base):
        # By it kernels and checks of y know what y holds: a subclass may not have another. By the rest they know how
        # many numbers the parameter has.
        kind = type(_BY_CODE.get(loss.code))
        if not isinstance(loss, kind):
            raise TypeError(f"loss: expected the code of its base class, got {shown(loss)}")
        for name in _KEPT if type(loss) is not kind else ():
            if getattr(type(loss), name, None) is not getattr(kind, name, None):
                raise TypeError(f"loss: expected the {name} of its base class, got {shown(loss)}")
        return loss
    if callable(loss) and not isinstance(loss, type):
        return Custom(loss)
    return _BY_CODE[enum_member(loss, Loss, "loss", ", or a function, or an object of fastnn.losses")]
