"""What a fit leaves behind."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from .arguments import is_number, shown
from .metrics import RESERVED

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(repr=False)
class History:
    """Numbers of a fit, one for each epoch.

    Attributes:
        epochs: numbers of the epochs, from 1; a trainer goes on counting from fit to fit.
        metrics: lists by name: "loss", "seconds" (wall time), with validation data "val_loss", each metric that was
            asked for with its "val_" twin, with a `LearningRateScheduler` "learning_rate", the epoch's last, and what
            callbacks of your own `note`. NaN stands for numbers that epochs before did not have.
        seed: the seed of the shuffles, drawn if none was given.

    As a table: `pandas.DataFrame(history.metrics, index=history.epochs)`.

    >>> history = History(seed=1)
    >>> history.append(1, {"loss": 0.5, "seconds": 0.25})
    >>> history, history.metrics["loss"]
    (History(1 epoch, loss 0.5), [0.5])
    """

    epochs: list[int] = field(default_factory=list)
    metrics: dict[str, list[float]] = field(default_factory=dict)
    seed: int | None = None

    def append(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Begin with the numbers of an epoch, a dict by name; others of it may be noted until the next one begins.

        Raises:
            TypeError: one of them is no number.

        >>> history = History()
        >>> history.append(1, {"loss": 0.5})
        >>> history.epochs, history.metrics
        ([1], {'loss': [0.5]})
        """
        self.epochs.append(epoch)
        for column in self.metrics.values():
            column += [math.nan] * (len(self.epochs) - 1 - len(column))
        for name, number in numbers.items():
            self._put(name, number)

    def note(self, name: str, number: float) -> None:
        """Note a number of the last epoch: for callbacks, whose own numbers go into logs and files with the others.

        A second number of that name takes the place of the first, as when a callback that was interrupted is called
        again.

        Raises:
            TypeError: number is none, or name no text.
            ValueError: there is no epoch yet, or name is one that fits give: "epoch", "loss", "val_loss",
                "learning_rate", "seconds".

        >>> history = History()
        >>> history.append(1, {"loss": 0.5})
        >>> history.append(2, {"loss": 0.25})
        >>> history.note("norm", 3.0)
        >>> history.metrics["norm"]
        [nan, 3.0]
        """
        if not isinstance(name, str):
            raise TypeError(f"name: expected a str, got {shown(name)}")
        if name in RESERVED:
            raise ValueError(f"name: expected another one than fits give, {', '.join(sorted(RESERVED))}, got {name!r}")
        self._put(name, number)

    def _put(self, name, number):
        if not is_number(number):
            raise TypeError(f"number: expected a float for {name}, got {shown(number)}")
        if not self.epochs:
            raise ValueError(f"name: expected an epoch whose number {name} is, but none is done; note it at its end")
        column, before = self.metrics.setdefault(name, []), len(self.epochs) - 1
        column += [math.nan] * (before - len(column))
        column[before:] = [number if type(number) is int else float(number)]

    def plot(self, ax: Axes | None = None) -> Axes:
        """Draw every number but seconds and learning rate against the epochs; needs matplotlib.

        Args:
            ax: matplotlib axes; None makes a figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.

        >>> history = History()
        >>> history.append(1, {"loss": 0.5})
        >>> history.plot().get_xlabel()  # doctest: +SKIP
        'epoch'
        """
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError('plot needs matplotlib: pip install "matplotlib>=3.8"') from error
            ax = plt.subplots()[1]
        for name, numbers in self.metrics.items():
            if name not in ("seconds", "learning_rate"):
                # One that has no number of the last epoch is shorter.
                ax.plot(self.epochs[: len(numbers)], numbers, label=name)
        ax.set_xlabel("epoch")
        # Of no epochs there is nothing to name.
        if self.epochs:
            ax.legend()
        return ax

    def __repr__(self):
        # "seconds" are those of one epoch, and would be read as those of the fit.
        numbers = {name: numbers[-1] for name, numbers in self.metrics.items() if numbers and name != "seconds"}
        last = "".join(f", {name} {number:.6g}" for name, number in numbers.items())
        return f"History({len(self.epochs)} {'epoch' if len(self.epochs) == 1 else 'epochs'}{last})"
