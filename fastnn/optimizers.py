"""How parameters move. g is the gradient, p a parameter, t counts updates from 1.

Formulas and defaults are PyTorch's, but for SGD's learning rate, which is Keras', and for clip_norm: PyTorch adds 1e-6
to the norm.

Arguments are real numbers, and keywords but for the first, the learning rate:

    learning_rate, eps                at least 0
    momentum, alpha, beta1, beta2     at least 0 and below 1

else a ValueError or TypeError names the argument. Besides, every optimizer takes

    clip_norm       scale the gradient down to this 2-norm; None does not
    clip_value      then cut each of its elements to [-clip_value, clip_value]; None does not
    weight_decay    then g += weight_decay p for all parameters (AdamW: see there)
    l1, l2          and g += l1 sign(p) + l2 p for weights, not for biases, with sign(0) = 0: the slope of the penalty
                    l1 sum |p| + l2 / 2 sum p^2, as Keras' L1 and, but for its factor 2, L2 regularizers add it

`loss_and_gradient` and the losses that a fit reports are those of the data, without penalties.

Optimizers are frozen. To change the learning rate while training, assign `trainer.learning_rate`; for the rest give the
trainer another of the same kind, whose moments are kept:
`trainer.optimizer = dataclasses.replace(trainer.optimizer, momentum=0.95)`. All are of the class `Base`.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from .arguments import enum_member, flag, real_number, shape_text, shown, wrong_shape
from .kernels import optimizer as layout
from .kernels.codes import Optimizer
from .validation import real_array

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]


class Base:
    """What optimizers have in common."""

    code: ClassVar[Optimizer]
    learning_rate: float

    def __post_init__(self):
        for name, check in _CHECKS.items():
            if hasattr(self, name):
                object.__setattr__(self, name, check(getattr(self, name), name))

    @property
    def name(self) -> str:
        """The name by which the optimizer can be asked for."""
        return self.code.name.lower()

    def hyper(self) -> np.ndarray:
        """The hyper-parameters as `fastnn.kernels` takes them: float64 (12,), see `kernels.adam` and others for places.

        Kernels of single optimizers clip by value alone; for clip_norm call `kernels.clip_by_norm` on the gradient
        before, and add l1 sign(p) + l2 p to it for weights. `Trainer.apply_gradient` does all of that.

        >>> float(SGD(0.5).hyper()[0])  # the learning rate
        0.5
        """
        values = np.zeros(layout.HYPER_SIZE)
        for name, position in _POSITIONS.items():
            values[position] = getattr(self, name, None) or values[position]
        return values

    def states(self) -> tuple[bool, bool]:
        """Whether the update needs state1, and state2, arrays of the parameters' size.

        >>> Adam().states(), SGD(momentum=0.9).states(), SGD().states()
        ((True, True), (True, False), (False, False))
        """
        return True, False


def _limit(value, name):
    return None if value is None else real_number(value, name, 0, above=True)


def _factor(value, name):
    return real_number(value, name, 0, below=1)


def _learning_rate(value, name):
    if callable(value):
        raise TypeError(
            f"{name}: expected a real number, got {shown(value)}; a schedule goes into the callbacks of a fit, in a "
            "LearningRateScheduler"
        )
    return real_number(value, name, 0)


_CHECKS = {
    "learning_rate": _learning_rate,
    "momentum": _factor,
    "alpha": _factor,
    "beta1": _factor,
    "beta2": _factor,
    "eps": lambda value, name: real_number(value, name, 0),
    "weight_decay": lambda value, name: real_number(value, name, 0),
    "l1": lambda value, name: real_number(value, name, 0),
    "l2": lambda value, name: real_number(value, name, 0),
    "nesterov": flag,
    "clip_norm": _limit,
    "clip_value": _limit,
}
_POSITIONS = {
    "learning_rate": layout.LEARNING_RATE,
    "momentum": layout.MOMENTUM,
    "beta1": layout.MOMENTUM,
    "beta2": layout.BETA2,
    "alpha": layout.BETA2,
    "eps": layout.EPS,
    "weight_decay": layout.WEIGHT_DECAY,
    "l1": layout.L1,
    "l2": layout.L2,
    "nesterov": layout.NESTEROV,
    "clip_value": layout.CLIP_VALUE,
    "clip_norm": layout.CLIP_NORM,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(Base):
    """Gradient descent: v = momentum v + g;  p -= learning_rate (g + momentum v if nesterov else v).

    Args:
        learning_rate: the length of a step, at least 0; may be given by its place.
        momentum: the share of the last v that stays, in [0, 1); 0 keeps none.
        nesterov: look ahead (Sutskever et al. 2013), as in PyTorch; needs a momentum above 0.
        weight_decay, clip_norm, clip_value, l1, l2: what becomes of g before, see `fastnn.optimizers`.

    Raises:
        ValueError, TypeError: an argument is out of its range; the message names it.

    >>> from fastnn import MLP, Trainer
    >>> net = MLP([1, 1], dtype="float64", seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> Trainer(net, "mse", SGD(0.1)).step([[1.0]], [[1.0]])  # slope 2 for both
    1.0
    >>> net.parameters
    array([ 1.8, -0.2])
    """

    code = Optimizer.SGD
    learning_rate: float = dataclasses.field(default=0.01, kw_only=False)
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0

    def __post_init__(self):
        super().__post_init__()
        if self.nesterov and self.momentum == 0:
            raise ValueError("nesterov: expected a momentum above 0 with it, got 0.0")

    def states(self) -> tuple[bool, bool]:
        return self.momentum > 0, False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMSprop(Base):
    """s = alpha s + (1 - alpha) g^2;  v = momentum v + g / (sqrt(s) + eps);  p -= learning_rate v

    (Tieleman and Hinton 2012.)

    Args:
        learning_rate: at least 0; may be given by its place.
        alpha: the share of the last mean square s that stays, in [0, 1).
        eps: added to its root, at least 0.
        momentum: the share of the last v that stays, in [0, 1).
        weight_decay, clip_norm, clip_value, l1, l2: what becomes of g before, see `fastnn.optimizers`.

    Raises:
        ValueError, TypeError: an argument is out of its range; the message names it.

    A step is learning_rate / sqrt(1 - alpha) long at first, whatever the size of the gradient:

    >>> from fastnn import MLP, Trainer
    >>> net = MLP([1, 1], dtype="float64", seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> loss = Trainer(net, "mse", RMSprop(0.01)).step([[1.0]], [[1.0]])
    >>> net.parameters.round(6)
    array([ 1.9, -0.1])
    """

    code = Optimizer.RMSPROP
    learning_rate: float = dataclasses.field(default=0.01, kw_only=False)
    alpha: float = 0.99
    eps: float = 1e-8
    weight_decay: float = 0.0
    momentum: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0

    def states(self) -> tuple[bool, bool]:
        return True, self.momentum > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adagrad(Base):
    """s += g^2;  p -= learning_rate g / (sqrt(s) + eps) (Duchi et al. 2011).

    Args:
        learning_rate: at least 0; may be given by its place.
        eps: added to the root, at least 0.
        weight_decay, clip_norm, clip_value, l1, l2: what becomes of g before, see `fastnn.optimizers`.

    Raises:
        ValueError, TypeError: an argument is out of its range; the message names it.

    >>> from fastnn import MLP, Trainer
    >>> net = MLP([1, 1], dtype="float64", seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> loss = Trainer(net, "mse", Adagrad(0.01)).step([[1.0]], [[1.0]])
    >>> net.parameters.round(6)
    array([ 1.99, -0.01])
    """

    code = Optimizer.ADAGRAD
    learning_rate: float = dataclasses.field(default=0.01, kw_only=False)
    eps: float = 1e-10
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(Base):
    """m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2;  p -= learning_rate m^ / (sqrt(s^) + eps)

    with m^ = m / (1 - beta1^t) and s^ = s / (1 - beta2^t), which take away the bias towards 0, where m and s begin
    (Kingma and Ba 2014).

    Args:
        learning_rate: at least 0; may be given by its place.
        beta1, beta2: the shares of the last m and s that stay, in [0, 1).
        eps: added to the root, at least 0.
        weight_decay, clip_norm, clip_value, l1, l2: what becomes of g before, see `fastnn.optimizers`.

    Raises:
        ValueError, TypeError: an argument is out of its range; the message names it.

    The first step is learning_rate long, whatever the size of the gradient:

    >>> from fastnn import MLP, Trainer
    >>> net = MLP([1, 1], dtype="float64", seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> loss = Trainer(net, "mse", Adam(0.01)).step([[1.0]], [[1.0]])
    >>> net.parameters.round(6)
    array([ 1.99, -0.01])
    """

    code = Optimizer.ADAM
    learning_rate: float = dataclasses.field(default=0.001, kw_only=False)
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0

    def states(self) -> tuple[bool, bool]:
        return True, True


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(Base):
    """`Adam` after p *= 1 - learning_rate weight_decay, which keeps the decay out of the moments.

    (Loshchilov and Hutter 2017.)

    Args:
        learning_rate, beta1, beta2, eps: as in `Adam`.
        weight_decay: at least 0; of all parameters, biases too.
        clip_norm, clip_value, l1, l2: what becomes of g before, see `fastnn.optimizers`.

    Raises:
        ValueError, TypeError: an argument is out of its range; the message names it.

    >>> from fastnn import MLP, Trainer
    >>> net = MLP([1, 1], dtype="float64", seed=0)
    >>> net.parameters = [2.0, 0.0]
    >>> loss = Trainer(net, "mse", AdamW(0.01, weight_decay=0.5)).step([[1.0]], [[1.0]])
    >>> net.parameters.round(6)  # the weight has shrunk by 0.01 too
    array([ 1.98, -0.01])
    """

    code = Optimizer.ADAMW
    learning_rate: float = dataclasses.field(default=0.001, kw_only=False)
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.01
    clip_norm: float | None = None
    clip_value: float | None = None
    l1: float = 0.0
    l2: float = 0.0

    def states(self) -> tuple[bool, bool]:
        return True, True


_BY_CODE: dict[Optimizer, type[Base]] = {kind.code: kind for kind in (SGD, RMSprop, Adagrad, Adam, AdamW)}


def get(optimizer) -> Base:
    """The optimizer that an object, or with its defaults a name or an `Optimizer` member, means; None is SGD()."""
    if isinstance(optimizer, Base):
        # By these kernels know which memory to read: a subclass may not have others.
        kind = _BY_CODE.get(optimizer.code)
        if kind is None or not isinstance(optimizer, kind) or optimizer.states() != kind.states(optimizer):
            raise TypeError(f"optimizer: expected the code and states of its base class, got {shown(optimizer)}")
        return optimizer
    if optimizer is None:
        return SGD()
    return _BY_CODE[enum_member(optimizer, Optimizer, "optimizer", ", or an object of fastnn.optimizers")]()


def hyper_of(optimizer):
    """The hyper-parameters of an optimizer, an array of its own for kernels: those of a subclass may be any."""
    hyper = np.array(real_array(optimizer.hyper(), "optimizer: hyper"), np.float64)
    if hyper.shape != (layout.HYPER_SIZE,):
        raise wrong_shape("optimizer: hyper", shape_text(layout.HYPER_SIZE), hyper)
    return hyper
