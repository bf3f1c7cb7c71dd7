"""How parameters move. g is the gradient, p a parameter, t counts updates from 1.

Formulas and defaults are PyTorch's, but for SGD's learning rate, which is Keras'.

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
`trainer.optimizer = dataclasses.replace(trainer.optimizer, momentum=0.95)`.
"""

import dataclasses
from typing import ClassVar

import numpy as np

from .kernels import optimizer as layout
from .kernels.codes import Optimizer
from .validation import enum_member, flag, real_array, real_number, shape_text, shown, wrong_shape

__all__ = ["SGD", "Adagrad", "Adam", "AdamW", "RMSprop"]


class _Base:
    code: ClassVar[Optimizer]

    def __post_init__(self):
        for name, check in _CHECKS.items():
            if hasattr(self, name):
                object.__setattr__(self, name, check(getattr(self, name), name))

    @property
    def name(self):
        """The name by which the optimizer can be asked for."""
        return self.code.name.lower()

    def hyper(self):
        """The hyper-parameters as kernels take them, a float64 array."""
        values = np.zeros(layout.HYPER_SIZE)
        for name, position in _POSITIONS.items():
            values[position] = getattr(self, name, None) or values[position]
        return values

    def states(self):
        """Which of state1 and state2, each of the parameters' size, the update needs."""
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
class SGD(_Base):
    """g += weight_decay p;  v = momentum v + g;  p -= learning_rate (g + momentum v if nesterov else v).

    nesterov (Sutskever et al. 2013) wants a momentum above 0. `fastnn.optimizers` tells what all optimizers take.

    >>> SGD(learning_rate=0.1, momentum=0.9).states()
    (True, False)
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

    def states(self):
        return self.momentum > 0, False


@dataclasses.dataclass(frozen=True, kw_only=True)
class RMSprop(_Base):
    """s = alpha s + (1 - alpha) g^2;  v = momentum v + g / (sqrt(s) + eps);  p -= learning_rate v

    (Tieleman and Hinton 2012.) Weight decay is added to the gradient.
    `fastnn.optimizers` tells what all optimizers take.

    >>> RMSprop(momentum=0.5).states()
    (True, True)
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

    def states(self):
        return True, self.momentum > 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adagrad(_Base):
    """s += g^2;  p -= learning_rate g / (sqrt(s) + eps) (Duchi et al. 2011).

    Weight decay is added to the gradient. `fastnn.optimizers` tells what all optimizers take.

    >>> Adagrad().states()
    (True, False)
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
class Adam(_Base):
    """m = beta1 m + (1 - beta1) g;  s = beta2 s + (1 - beta2) g^2, both freed of their bias towards 0;
    p -= learning_rate m / (sqrt(s) + eps) (Kingma and Ba 2014). Weight decay is added to the gradient.
    `fastnn.optimizers` tells what all optimizers take.

    >>> Adam(learning_rate=3e-4).beta2
    0.999
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

    def states(self):
        return True, True


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(_Base):
    """Adam after p *= 1 - learning_rate weight_decay, which keeps the decay out of the moments.

    (Loshchilov and Hutter 2017.) `fastnn.optimizers` tells what all optimizers take.

    >>> AdamW().weight_decay
    0.01
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

    def states(self):
        return True, True


_BY_CODE = {kind.code: kind for kind in (SGD, RMSprop, Adagrad, Adam, AdamW)}


def get(optimizer):
    """The optimizer that an object, or with its defaults a name or an `Optimizer` member, means; None is SGD()."""
    if isinstance(optimizer, _Base):
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
