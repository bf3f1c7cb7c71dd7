"""What a fit leaves behind."""

import math
from dataclasses import dataclass, field


@dataclass(repr=False)
class History:
    """Numbers of a fit, one for each epoch.

    Attributes:
        epochs: numbers of the epochs, from 1; a trainer goes on counting from fit to fit.
        metrics: lists by name: "loss", "seconds" (wall time), with validation data "val_loss", each metric that was
            asked for with its "val_" twin, and with a `LearningRateScheduler` "learning_rate", the epoch's last. NaN
            stands for a number that was not worked out yet, as in fits of an estimator that differ.
        seed: the seed of the shuffles, drawn if none was given.

    As a table: `pandas.DataFrame(history.metrics, index=history.epochs)`.

    >>> history = History(seed=1)
    >>> history.append(1, {"loss": 0.5, "seconds": 0.25})
    >>> history, history.metrics["loss"]
    (History(1 epochs, loss 0.5, seconds 0.25), [0.5])
    """

    epochs: list = field(default_factory=list)
    metrics: dict = field(default_factory=dict)
    seed: int | None = None

    def append(self, epoch, numbers):
        """Note the numbers of an epoch, a dict by name."""
        self.epochs.append(epoch)
        for name, number in numbers.items():
            column = self.metrics.setdefault(name, [])
            column += [math.nan] * (len(self.epochs) - 1 - len(column))
            column.append(number)

    def plot(self, ax=None):
        """Draw every number but seconds and learning rate against the epochs; needs matplotlib.

        Args:
            ax: matplotlib axes; None makes a figure.

        Returns:
            The axes.

        Raises:
            ImportError: matplotlib is not installed.
        """
        if ax is None:
            try:
                import matplotlib.pyplot as plt
            except ImportError as error:
                raise ImportError('plot needs matplotlib: pip install "fastnn[demo]"') from error
            ax = plt.subplots()[1]
        for name, numbers in self.metrics.items():
            if name not in ("seconds", "learning_rate"):
                ax.plot(self.epochs, numbers, label=name)
        ax.set_xlabel("epoch")
        # Of no epochs there is nothing to name.
        if self.epochs:
            ax.legend()
        return ax

    def __repr__(self):
        last = "".join(f", {name} {numbers[-1]:.6g}" for name, numbers in self.metrics.items() if numbers)
        return f"History({len(self.epochs)} epochs{last})"
