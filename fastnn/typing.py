"""What arguments may be, by the names that signatures have for it; for annotations in your own code too.

    ArrayLike           numbers: NumPy's arrays, frames, nested lists, numpy.typing's alias
    DTypeLike           float32 or float64, by name or NumPy's
    PathLike            the name of a file

A name, a member of an enum, an object or a function of the user's:

    ActivationLike, NormalizationLike, InitializerLike
    LossLike, LossFunction, OptimizerLike, ScheduleLike, MetricLike, CallbackLike
    ClassWeightLike     weights by class, or "balanced"

>>> from fastnn import MLP, Sequential
>>> from fastnn.typing import ActivationLike
>>> def narrow(activation: ActivationLike) -> Sequential:
...     return MLP([2, 8, 1], activation)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, SupportsFloat, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from . import losses, optimizers
from .kernels.codes import Activation, Loss, Normalization, Optimizer
from .losses import LossFunction
from .schedules import Schedule

if TYPE_CHECKING:
    from .history import History
    from .trainer import Trainer

__all__ = [
    "ActivationLike",
    "ArrayLike",
    "CallbackLike",
    "ClassWeightLike",
    "DTypeLike",
    "InitializerLike",
    "LossFunction",
    "LossLike",
    "MetricLike",
    "NormalizationLike",
    "OptimizerLike",
    "PathLike",
    "ScheduleLike",
]

DTypeLike: TypeAlias = str | np.dtype[Any] | type[float] | type[np.float32]
PathLike: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]

ActivationLike: TypeAlias = str | Activation
NormalizationLike: TypeAlias = str | Normalization
# f(rng, fan_in, fan_out, dtype)
InitializerLike: TypeAlias = str | Callable[[np.random.Generator, int, int, np.dtype[Any]], ArrayLike]

LossLike: TypeAlias = str | Loss | losses.Base | LossFunction
OptimizerLike: TypeAlias = str | Optimizer | optimizers.Base
# f(t, learning_rate)
ScheduleLike: TypeAlias = Schedule | Callable[[int, float], float]
# f(y, prediction)
MetricLike: TypeAlias = str | losses.Base | Callable[[np.ndarray, np.ndarray], SupportsFloat]
ClassWeightLike: TypeAlias = Mapping[Any, float] | ArrayLike


# A callback has one of these methods or several. As protocols, also of functions: their trainer is built on this file.


class _Function(Protocol):
    def __call__(self, trainer: Trainer, history: History, /) -> object: ...


class _OnFitBegin(Protocol):
    def on_fit_begin(self, trainer: Trainer, history: History, /) -> object: ...


class _OnBatchesEnd(Protocol):
    def on_batches_end(self, trainer: Trainer, history: History, /) -> object: ...


class _OnEpochEnd(Protocol):
    def on_epoch_end(self, trainer: Trainer, history: History, /) -> object: ...


class _OnFitEnd(Protocol):
    def on_fit_end(self, trainer: Trainer, history: History, /) -> object: ...


CallbackLike: TypeAlias = _Function | _OnFitBegin | _OnBatchesEnd | _OnEpochEnd | _OnFitEnd
