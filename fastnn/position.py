"""Where a fit stands: with the model, the optimizer and the history all that is needed to go on to the same bits."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

# What a fit does one after the other; BATCHES and EPOCH_END for each epoch.
BATCHES, EPOCH_END, FIT_END, DONE = "batches", "epoch_end", "fit_end", "done"
PHASES = (BATCHES, EPOCH_END, FIT_END, DONE)


@dataclass
class Position:
    """A fit's settings, and how far it has come. Trainers change it only in steps that an interrupt cannot break.

    Attributes:
        rows, batch_size, shuffle: that the fit trains on, and how.
        epochs: that the fit is to do.
        held_back: rows behind those, which the fit validates on.
        weighted: whether samples have weights, of their own or of their classes.
        phase: one of PHASES.
        epoch, batch: epochs and, in the epoch on its way, batches done.
        losses: float64 (batches,), the losses of those batches.
        seconds: spent on the epoch on its way.
        learning_rate: of the last update, or None without a scheduler.
        callbacks_done: callbacks that have been called in this phase.
        stop: whether one of them has asked for the end.
        states: the callbacks' states when the fit was left, or None.
    """

    rows: int
    batch_size: int
    shuffle: bool
    epochs: int
    held_back: int = 0
    weighted: bool = False
    phase: str = BATCHES
    epoch: int = 0
    batch: int = 0
    losses: np.ndarray = field(default=None, repr=False)  # type: ignore[arg-type]
    seconds: float = 0.0
    learning_rate: float | None = None
    callbacks_done: int = 0
    stop: bool = False
    states: list[tuple[str, Any]] | None = field(default=None, repr=False)

    def __post_init__(self):
        if self.losses is None:
            self.losses = np.zeros(self.batches)
        if self.epochs == 0 and self.phase == BATCHES:
            self.phase = FIT_END

    @property
    def batches(self) -> int:
        """Batches of an epoch."""
        return -(-self.rows // self.batch_size)

    @property
    def at_start(self) -> bool:
        """Whether nothing is done yet of what a fit is to do."""
        return self.phase == BATCHES and self.epoch == self.batch == 0

    def advance(self, losses: np.ndarray, seconds: float, rates: np.ndarray | None) -> None:
        """Batches are done, with these losses and learning rates, None being the optimizer's."""
        self.losses[self.batch : self.batch + losses.size] = losses
        self.batch += losses.size
        self.seconds += seconds
        self.learning_rate = None if rates is None else float(rates[-1])

    @property
    def place(self) -> tuple[int, float, float | None]:
        """Where it stands in its epoch."""
        return self.batch, self.seconds, self.learning_rate

    def take_back(self, place: tuple[int, float, float | None]) -> None:
        """Updates count as not done: stand where this position stood earlier in its epoch."""
        self.batch, self.seconds, self.learning_rate = place

    def end_epoch(self) -> None:
        """All batches of an epoch are done, and noted."""
        self.epoch += 1
        self.batch = 0
        self.seconds = 0.0
        self._enter(EPOCH_END)

    def next_phase(self) -> None:
        """All callbacks have been called in this one."""
        if self.phase == FIT_END:
            self._enter(DONE)
        else:
            self._enter(FIT_END if self.stop or self.epoch >= self.epochs else BATCHES)

    def _enter(self, phase):
        self.phase = phase
        self.callbacks_done = 0
