"""Learning rates over a fit, for `fastnn.LearningRateScheduler`. Formulas are those of PyTorch's `lr_scheduler`.

t counts epochs or updates from 0, base is the optimizer's learning rate, and a schedule that has to know its end takes
the fit's own unless `total` says otherwise. All is worked out by additions, multiplications and divisions alone, which
give the same bits on every machine: the C library's cosines and powers do not. An argument outside of its range, or of
another kind, is a ValueError or TypeError that names it.

>>> Step(size=2, gamma=0.5)([0, 1, 2, 3, 4], base=0.1, total=5).tolist()
[0.1, 0.1, 0.05, 0.05, 0.025]
"""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .arguments import choice, flag, real_number, shown, whole_number

__all__ = ["Cosine", "Exponential", "OneCycle", "ReduceOnPlateau", "Step"]

# Numbers of a history of which more is better, whatever the data.
_SCORES = frozenset({"accuracy", "val_accuracy", "val_score"})


class Schedule:
    """Calling one gives learning rates, float64 (n,).

    It takes t, whole numbers (n,); base, the optimizer's learning rate, a float; and total, how many epochs or updates
    the fit has.
    """

    per = "epoch"

    def __post_init__(self):
        for name, check in _CHECKS.items():
            if hasattr(self, name):
                object.__setattr__(self, name, check(getattr(self, name), name))


def check_monitor(monitor, mode):
    """Raise TypeError or ValueError unless monitor names a number that mode, "min" or "max", can be meant for."""
    if not isinstance(monitor, str):
        raise TypeError(f"monitor: expected the name of a number in History.metrics, got {shown(monitor)}")
    if monitor in _SCORES and mode == "min":
        raise ValueError(f"mode: expected 'max' with monitor={monitor!r}, of which more is better, got 'min'")


def _count(value, name, at_least=0):
    return whole_number(value, name, at_least, 63)


def _optional(value, name):
    return None if value is None else _count(value, name, 1)


def _positive(value, name):
    return real_number(value, name, 0, above=True)


def _share(value, name):
    return real_number(value, name, 0, below=1)


def _at_least_0(value, name):
    return real_number(value, name, 0)


_CHECKS = {
    "size": lambda value, name: _count(value, name, 1),
    "gamma": _positive,
    "total": _optional,
    "warmup": _count,
    "warmup_factor": _positive,
    "minimum": _at_least_0,
    "rising": _share,
    "start_divisor": _positive,
    "end_divisor": _positive,
    "three_phases": flag,
    "factor": _share,
    "patience": _count,
    "threshold": _at_least_0,
    "threshold_mode": lambda value, name: choice(value, {"rel": "rel", "abs": "abs"}, name),
    "mode": lambda value, name: choice(value, {"min": "min", "max": "max"}, name),
    "cooldown": _count,
    "eps": _at_least_0,
}


def _power(base, exponents):
    """base ** exponents by squaring."""
    exponents = np.array(exponents, np.int64)
    result = np.ones(exponents.shape)
    while exponents.any():
        result = np.where(exponents & 1, result * base, result)
        base *= base
        exponents >>= 1
    return result


# Of sin(x) / x in x^2, for x up to pi / 4: what is left out is below 2^-60 of the sum.
_SINE = [(-1) ** i / math.factorial(2 * i + 1) for i in range(9)]


def _fall(share):
    """(1 + cos(pi share)) / 2 for shares in [0, 1]: from 1, exactly, to 0."""
    x = math.pi / 2 * np.minimum(share, 1 - share)
    sine = np.zeros_like(x)
    for coefficient in reversed(_SINE):
        sine = sine * (x * x) + coefficient
    square = (sine * x) ** 2
    return np.where(share <= 0.5, 1 - square, square)


@dataclasses.dataclass(frozen=True)
class Step(Schedule):
    """base gamma^floor(t / size), PyTorch's `StepLR`.

    Args:
        size: epochs (or updates) with one rate, at least 1.
        gamma: what the rate is multiplied by, above 0.

    >>> Step(2, gamma=0.5)([0, 1, 2, 3, 4], base=1.0, total=5).tolist()
    [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    size: int
    gamma: float = 0.1

    def __call__(self, t: ArrayLike, base: float, total: int) -> np.ndarray:
        return base * _power(self.gamma, np.asarray(t) // self.size)


@dataclasses.dataclass(frozen=True)
class Exponential(Schedule):
    """base gamma^t, PyTorch's `ExponentialLR`.

    Args:
        gamma: what the rate is multiplied by, above 0.

    >>> Exponential(0.5)([0, 1, 2], base=1.0, total=3).tolist()
    [1.0, 0.5, 0.25]
    """

    gamma: float

    def __call__(self, t: ArrayLike, base: float, total: int) -> np.ndarray:
        return base * _power(self.gamma, t)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """base (f + (1 - f) t / warmup) for t < warmup, then minimum + (base - minimum) (1 + cos(pi s)) / 2.

    f is warmup_factor and s = (t - warmup) / (total - warmup), at most 1: PyTorch's `SequentialLR` of `LinearLR` and
    `CosineAnnealingLR` (Loshchilov and Hutter 2016, without restarts).

    Args:
        warmup: epochs (or updates) in which the rate goes up, at least 0.
        warmup_factor: the share of base with which it begins, above 0.
        minimum: the rate at the end, at least 0.
        total: where the end is; None is the end of the fit.

    >>> Cosine(warmup=2, warmup_factor=0.5)([0, 1, 2, 4, 6], base=1.0, total=6).round(12).tolist()
    [0.5, 0.75, 1.0, 0.5, 0.0]
    """

    warmup: int = 0
    warmup_factor: float = 1 / 3
    minimum: float = 0.0
    total: int | None = None

    def __call__(self, t: ArrayLike, base: float, total: int) -> np.ndarray:
        t, total = np.asarray(t), total if self.total is None else self.total
        rising = base * (self.warmup_factor + (1 - self.warmup_factor) * t / max(self.warmup, 1))
        share = np.clip((t - self.warmup) / max(total - self.warmup, 1), 0, 1)
        return np.where(t < self.warmup, rising, self.minimum + (base - self.minimum) * _fall(share))


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up from base / start_divisor to base and down to base / (start_divisor end_divisor), PyTorch's `OneCycleLR`.

    Per update. Up to update rising * total - 1 the rate goes up, from there to total - 1 it goes down, both along
    half a cosine; with three_phases it goes down to where it began in as many updates as it went up, and the rest is
    for the last, low stretch (Smith and Topin 2017). base, the optimizer's learning rate, is PyTorch's max_lr; the
    momentum stays as it is (cycle_momentum=False).

    Args:
        rising: the share of the updates in which the rate goes up, in [0, 1), with three_phases at most 0.5.
        start_divisor, end_divisor: how small the rate is at the beginning and the end, above 0.
        three_phases: whether it comes down in two stretches.
        total: updates of the whole cycle; None is all of the fit.

    >>> OneCycle(start_divisor=10, rising=0.5)([0, 4, 9], base=1.0, total=10).round(6).tolist()
    [0.1, 1.0, 1e-05]
    """

    per = "update"
    rising: float = 0.3
    start_divisor: float = 25.0
    end_divisor: float = 1e4
    three_phases: bool = False
    total: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.three_phases and self.rising > 0.5:
            raise ValueError(f"rising: expected at most 0.5 with three phases, got {self.rising}")

    def __call__(self, t: ArrayLike, base: float, total: int) -> np.ndarray:
        total = total if self.total is None else self.total
        t = np.asarray(t, np.float64)
        low = base / self.start_divisor
        top = self.rising * total - 1
        ends = [top, 2 * top, total - 1] if self.three_phases else [top, total - 1]
        values = [low, base, low, low / self.end_divisor] if self.three_phases else [low, base, low / self.end_divisor]
        rates, begin = np.full(t.shape, values[-1]), [0.0, *ends[:-1]]
        # From the last phase to the first: where two meet, the earlier one counts.
        for first, last, start, end in reversed(list(zip(begin, ends, values[:-1], values[1:], strict=True))):
            share = np.clip((t - first) / (last - first), 0, 1) if last > first else np.ones_like(t)
            rates = np.where(t <= last, end + (start - end) * _fall(share), rates)
        return rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReduceOnPlateau(Schedule):
    """learning rate *= factor when a number has not improved for more than `patience` epochs, `ReduceLROnPlateau`.

    Args:
        monitor: a name in `History.metrics`.
        factor: what the rate is multiplied by, in [0, 1).
        patience: epochs without an improvement that are let pass, at least 0.
        mode: "min" or "max".
        threshold, threshold_mode: an improvement is a number below best (1 - threshold), for "abs" best - threshold;
            for "max" above best (1 + threshold) or best + threshold.
        cooldown: epochs after a reduction that do not count.
        minimum: no learning rate below this.
        eps: a reduction by no more than this is not made.

    >>> schedule = ReduceOnPlateau(monitor="loss", patience=1)
    >>> state = schedule.start()
    >>> for loss in [2.0, 1.0, 1.0, 1.0]:
    ...     state = schedule.observe(state, loss, base=0.5)
    >>> state.learning_rate
    0.05
    """

    monitor: str = "val_loss"
    factor: float = 0.1
    patience: int = 10
    mode: str = "min"
    threshold: float = 1e-4
    threshold_mode: str = "rel"
    cooldown: int = 0
    minimum: float = 0.0
    eps: float = 1e-8

    def __post_init__(self):
        super().__post_init__()
        check_monitor(self.monitor, self.mode)

    class State(NamedTuple):
        """The learning rate after reductions from base, the optimizer's then; None before the first number."""

        learning_rate: float | None
        base: float | None
        best: float | None
        bad: int
        cooldown: int

    def start(self) -> ReduceOnPlateau.State:
        """The state before the first epoch."""
        return self.State(None, None, None, 0, 0)

    def current(self, state: ReduceOnPlateau.State, base: float) -> float:
        """The learning rate in this state; base is the optimizer's, which counts if it is another one now."""
        return base if state.learning_rate is None or state.base != base else state.learning_rate

    def observe(self, state: ReduceOnPlateau.State, number: float, base: float) -> ReduceOnPlateau.State:
        """The state after an epoch with this number."""
        rate, best, bad, cooldown = self.current(state, base), state.best, state.bad, state.cooldown
        if self._better(number, best):
            best, bad = number, 0
        else:
            bad += 1
        if cooldown > 0:
            cooldown, bad = cooldown - 1, 0
        if bad > self.patience:
            new = max(rate * self.factor, self.minimum)
            rate = new if rate - new > self.eps else rate
            bad, cooldown = 0, self.cooldown
        return self.State(rate, base, best, bad, cooldown)

    def _better(self, number, best):
        if best is None:
            return number < math.inf if self.mode == "min" else number > -math.inf
        margin = self.threshold * (best if self.threshold_mode == "rel" else 1)
        return number < best - margin if self.mode == "min" else number > best + margin
