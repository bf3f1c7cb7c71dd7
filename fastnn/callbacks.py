"""What a fit calls: to stop early, to keep checkpoints, to schedule the learning rate, to write a log.

A callback is a function f(trainer, history), called after every epoch, or an object with any of these methods:

    on_fit_begin(trainer, history)      before the first batch, and again when a fit resumes
    on_batches_end(trainer, history)    every time that some batches are done, about every 0.05 s
    on_epoch_end(trainer, history)      after every epoch; True as result ends the fit after this epoch
    on_fit_end(trainer, history)        when the fit has come to its end; not after an interrupt or an error
    state_dict() -> state               what the object has to remember if the fit resumes: a dict of JSON and arrays
    load_state_dict(state)              called when a fit resumes, after on_fit_begin

They are called in the order of the list. A resumed fit calls those that a phase had not finished with: one that was
interrupted itself is called again for the same epoch, which those of this module tell and do not count twice.
"""

from __future__ import annotations

import csv
import itertools
import math
import time
from collections import namedtuple
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .arguments import choice, file_path, flag, real_number, shown, whole_number
from .files import check_writable
from .other_names import did_you_mean
from .schedules import ReduceOnPlateau, Schedule, check_monitor
from .typing import PathLike, ScheduleLike

if TYPE_CHECKING:
    from .history import History
    from .position import Position
    from .trainer import Trainer

__all__ = ["CSVLogger", "Checkpoint", "EarlyStopping", "LearningRateScheduler"]


def refuse_unknown(monitor, names):
    """Raise ValueError for a number that is none of these names."""
    if monitor is not None and monitor not in names:
        no_validation = str(monitor).startswith("val_") and "val_loss" not in names
        hint = "; a fit with validation data has it" if no_validation else did_you_mean(monitor, names)
        raise ValueError(f"monitor: expected one of {', '.join(names)}, got {shown(monitor)}{hint}")


def monitored(history, name):
    """A number of the epoch that was just done."""
    refuse_unknown(name, history.metrics)
    return history.metrics[name][-1]


def _with_monitor(watcher, state):
    """A state, with what its numbers are of; watcher: what has a monitor and its mode."""
    return state | {"monitor": watcher.monitor, "mode": watcher.mode}


def _of_monitor(callback, watcher, state):
    """The state without that; ValueError if it is one of other numbers. Those of earlier versions do not say."""
    state = dict(state)
    for name in ("monitor", "mode"):
        now = getattr(watcher, name)
        before = state.pop(name, now)
        if before != now:
            kind = type(callback).__name__
            raise ValueError(f"callbacks: expected {kind} with {name}={before!r}, as in the fit, got {name}={now!r}")
    return state


def _direction(mode):
    """By what a number is multiplied so that smaller ones are better."""
    return choice(mode, {"min": 1.0, "max": -1.0}, "mode")


def _improves(direction, number, than, min_delta=0.0):
    """Whether a number is better than another by more than min_delta, or than none if that is None. NaN never is."""
    return direction * number < (math.inf if than is None else direction * than - min_delta)


def _settings(callback, *names):
    """The repr of a callback: its class, and the settings of these names."""
    settings = ", ".join(f"{name}={getattr(callback, name)!r}" for name in names)
    return f"{type(callback).__name__}({settings})"


class EarlyStopping:
    """End a fit that no longer improves.

    Args:
        monitor: a name in `History.metrics`; a score of your own is a function in the fit's `metrics`.
        patience: epochs in a row without an improvement that end the fit.
        min_delta: a change counts as improvement if it is larger than this.
        mode: "min" or "max", whether small or large numbers are good.
        baseline: an improvement resets the patience only if it is better than this number; None: always.
        restore_best: when the fit ends, set the parameters to what they were after the best epoch, bit for bit. The
            optimizer's moments stay those of the last epoch. Callbacks run in list order: to have a `Checkpoint` save
            these parameters, put it after this one.

    Attributes:
        best, best_epoch: the best number and its epoch; None before there is one. NaN is never best.

    Raises:
        ValueError, TypeError: an argument is not what it should be, or mode is "min" for an accuracy or a score; in a
            fit, there is no number of that name: raised before the first batch.

    >>> import numpy as np, fastnn
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> stopping = EarlyStopping("loss", patience=3, restore_best=True)
    >>> net = fastnn.MLP([1, 8, 1], activation="tanh", seed=0)
    >>> optimizer = fastnn.Adam(learning_rate=0.1)
    >>> history = net.fit(x, x**2, optimizer=optimizer, epochs=500, seed=0, callbacks=[stopping])
    >>> len(history.epochs) == stopping.best_epoch + 3 < 500
    True
    """

    # epoch: the last one seen; stop: what was answered to it.
    _State = namedtuple("_State", "epoch best best_epoch wait stop parameters statistics")
    # By this name pickle finds it.
    _State.__qualname__ = "EarlyStopping._State"

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        patience: int = 10,
        min_delta: float = 0.0,
        mode: str = "min",
        baseline: float | None = None,
        restore_best: bool = False,
    ) -> None:
        self.monitor = monitor
        self.patience = whole_number(patience, "patience", 1)
        self.min_delta = real_number(min_delta, "min_delta", 0)
        self.mode = mode
        self._direction = _direction(mode)
        check_monitor(monitor, mode)
        self.baseline = None if baseline is None else real_number(baseline, "baseline")
        self.restore_best = flag(restore_best, "restore_best")
        self._begin_anew()

    @property
    def best(self) -> float | None:
        """The best number so far."""
        return self._state.best

    @property
    def best_epoch(self) -> int | None:
        """The epoch that had it."""
        return self._state.best_epoch

    def _begin_anew(self):
        self._state = self._State(None, None, None, 0, False, None, None)

    def on_fit_begin(self, trainer: Trainer, history: History) -> None:
        """Forget earlier fits."""
        self._begin_anew()

    def on_epoch_end(self, trainer: Trainer, history: History) -> bool:
        """True if patience is at its end."""
        last, epoch, number = self._state, history.epochs[-1], monitored(history, self.monitor)
        if last.epoch == epoch:
            return last.stop
        best, best_epoch, parameters, statistics = last.best, last.best_epoch, last.parameters, last.statistics
        wait = last.wait + 1
        if self._better(number, best):
            best, best_epoch = number, epoch
            if self.restore_best:
                parameters, statistics = trainer.net.parameters.copy(), trainer.net.statistics.copy()
            if self._better(number, self.baseline):
                wait = 0
        # One assignment: an interrupt finds the old state or the new one.
        self._state = self._State(epoch, best, best_epoch, wait, wait >= self.patience, parameters, statistics)
        return self._state.stop

    def _better(self, number, than):
        return _improves(self._direction, number, than, self.min_delta)

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """Take the best parameters."""
        if self._state.parameters is not None:
            trainer.net.parameters, trainer.net.statistics = self._state.parameters, self._state.statistics

    def state_dict(self) -> dict[str, Any]:
        """Best number, its epoch and its parameters, and how long there was none."""
        return _with_monitor(self, self._state._asdict())

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the callback that had this state."""
        self._state = self._State(**_of_monitor(self, self, state))

    def __repr__(self):
        return _settings(self, "monitor", "patience", "min_delta", "mode", "baseline", "restore_best")


class Checkpoint:
    """Keep a file from which the fit can resume, see `Trainer.restore` and `Trainer.resume`.

    The file is always a whole one: a new one takes its place only when it is complete and on the disk. It is written
    once more when the fit ends; with a monitor only after epochs that are better than all that were looked at before,
    so that it keeps the best of them.

    Args:
        path: of the file; its folder exists.
        every, unit: how often: a number of "epochs", "updates" or "seconds". Updates and seconds are looked at about
            every 0.05 s, so they may be so much more, and the fit resumes in the middle of an epoch.
        monitor: None, or a name in `History.metrics` by which epochs are better; its unit is "epochs".
        mode: "min" or "max", whether small or large numbers are good.

    Attributes:
        best, best_epoch: with a monitor, the number in the file and its epoch; None before there is one. NaN is never
            best.

    Raises:
        OSError: the file cannot be written. The fit ends, before its first batch if the folder is missing or may not be
            written; the trainer can resume when the reason is gone.
        ValueError, TypeError: an argument is not what it should be, or mode is "min" for an accuracy or a score; in a
            fit, there is no number of the monitor's name: raised before the first batch.

    >>> import pathlib, tempfile, numpy as np, fastnn
    >>> path = pathlib.Path(tempfile.mkdtemp(), "run.safetensors")
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> history = fastnn.MLP([1, 8, 1], seed=0).fit(x, x**2, epochs=5, seed=0, callbacks=[Checkpoint(path, every=2)])
    >>> fastnn.Trainer.restore(path).epochs, fastnn.load(path).parameter_count
    (5, 25)
    >>> best = Checkpoint(path, monitor="val_loss")
    >>> history = fastnn.MLP([1, 8, 1], seed=0).fit(
    ...     x, x**2, epochs=50, seed=0, validation_split=0.2, callbacks=[best]
    ... )
    >>> best.best == min(history.metrics["val_loss"]) == fastnn.load(path).evaluate(x[51:], x[51:] ** 2)["loss"]
    True
    """

    _CLOCKS = {  # noqa: RUF012
        "epochs": lambda trainer: trainer.epochs,
        "updates": lambda trainer: trainer.steps,
        "seconds": lambda trainer: time.monotonic(),
    }

    def __init__(
        self,
        path: PathLike,
        every: float = 1,
        unit: str = "epochs",
        *,
        monitor: str | None = None,
        mode: str = "min",
    ) -> None:
        self.path = file_path(path)
        choice(unit, self._CLOCKS, "unit")
        if monitor is not None and unit != "epochs":
            raise ValueError(f"unit: expected 'epochs' with a monitor, whose number an epoch has, got {unit!r}")
        self.unit = unit
        self.every = (
            real_number(every, "every", 0, above=True) if unit == "seconds" else whole_number(every, "every", 1)
        )
        self.monitor = monitor
        self.mode = mode
        self._direction = _direction(mode)
        if monitor is not None:
            check_monitor(monitor, mode)
        self._last = 0
        self.best: float | None = None
        self.best_epoch: int | None = None

    def _clock(self, trainer):
        return self._CLOCKS[self.unit](trainer)

    def on_fit_begin(self, trainer: Trainer, history: History) -> None:
        """Look whether the file can be written, without touching an old one."""
        check_writable(self.path)
        self._last = self._clock(trainer)
        self.best = self.best_epoch = None

    def on_batches_end(self, trainer: Trainer, history: History) -> None:
        """Write the file if its time has come within an epoch."""
        if self.unit != "epochs":
            self.on_epoch_end(trainer, history)

    def on_epoch_end(self, trainer: Trainer, history: History) -> None:
        """Write the file if its time has come, with a monitor if the epoch is the best."""
        # Another optimizer counts its updates from 0 again.
        if 0 <= self._clock(trainer) - self._last < self.every:
            return
        if self.monitor is None:
            self._write(trainer)
        elif _improves(self._direction, number := monitored(history, self.monitor), self.best):
            self._write(trainer, number, history.epochs[-1])
        else:
            self._last = self._clock(trainer)

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """Write the file, unless it is to keep the best."""
        if self.monitor is None:
            self._write(trainer)

    def _write(self, trainer, best=None, best_epoch=None):
        # The file has the state of this callback too. Where it cannot be written, its turn comes again.
        before = self._last, self.best, self.best_epoch
        self._last, self.best, self.best_epoch = self._clock(trainer), best, best_epoch
        try:
            trainer.save(self.path)
        except BaseException:
            self._last, self.best, self.best_epoch = before
            raise

    def state_dict(self) -> dict[str, Any]:
        """When the file was written or looked at, and what was best."""
        # Another process counts its seconds from elsewhere.
        last = None if self.unit == "seconds" else self._last
        return _with_monitor(self, {"last": last, "best": self.best, "best_epoch": self.best_epoch})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the callback that had this state."""
        state = _of_monitor(self, self, state)
        self.best, self.best_epoch = state["best"], state["best_epoch"]
        if state["last"] is not None:
            self._last = state["last"]

    def __repr__(self):
        return _settings(self, "path", "every", "unit", "monitor", "mode")


class LearningRateScheduler:
    """Let the learning rate follow a schedule. The optimizer keeps its own, on which the schedule builds.

    "learning_rate" in `History.metrics` is what the last update of each epoch had.

    Args:
        schedule: an object of `fastnn.schedules`, or a function f(t, learning_rate) -> learning rate of t = 0, 1, ...
            and the optimizer's; it must give the same for the same t whenever it is called.
        per: "epoch" or "update", what t counts from the start of the fit. None is what the schedule is made for: update
            for `OneCycle`, epoch for all others and for functions.

    Raises:
        ValueError, TypeError: an argument is not what it should be; in a fit, a learning rate is not a finite number of
            at least 0.

    >>> import fastnn
    >>> x = [[0.0], [1.0]]
    >>> halve = LearningRateScheduler(lambda epoch, learning_rate: learning_rate / 2**epoch)
    >>> optimizer = fastnn.SGD(learning_rate=0.1)
    >>> history = fastnn.MLP([1, 1], seed=0).fit(x, x, optimizer=optimizer, epochs=3, seed=0, callbacks=[halve])
    >>> history.metrics["learning_rate"]
    [0.1, 0.05, 0.025]
    """

    def __init__(self, schedule: ScheduleLike, *, per: str | None = None) -> None:
        if isinstance(schedule, type) or not (isinstance(schedule, Schedule) or callable(schedule)):
            raise TypeError(f"schedule: expected an object of fastnn.schedules or a function, got {shown(schedule)}")
        self.schedule: ScheduleLike = schedule
        per = getattr(schedule, "per", "epoch") if per is None else per
        self.per = choice(per, {name: name for name in ("epoch", "update")}, "per")
        if isinstance(schedule, ReduceOnPlateau) and self.per != "epoch":
            raise ValueError(
                "per: expected 'epoch' for ReduceOnPlateau, which looks at numbers of epochs, got 'update'"
            )
        self._begin_anew()

    @property
    def monitor(self) -> str | None:
        """The number that the schedule looks at, None for one that goes by the time alone."""
        return self.schedule.monitor if isinstance(self.schedule, ReduceOnPlateau) else None

    def _begin_anew(self):
        # With plateaus, the epoch that the schedule was last shown and its state.
        self._plateau = (None, self.schedule.start()) if isinstance(self.schedule, ReduceOnPlateau) else None

    def on_fit_begin(self, trainer: Trainer, history: History) -> None:
        """Forget earlier fits."""
        self._begin_anew()

    def learning_rates(self, base: float, position: Position, count: int) -> np.ndarray:
        """Those of the next `count` updates of a fit, float64 (count,); base is the optimizer's."""
        if isinstance(self.schedule, ReduceOnPlateau):
            rates = self.schedule.current(self._plateau[1], base)
        elif self.per == "epoch":
            rates = self._at(np.array([position.epoch]), base, position.epochs)
        else:
            done = position.epoch * position.batches + position.batch
            rates = self._at(done + np.arange(count), base, position.epochs * position.batches)
        return np.ascontiguousarray(np.broadcast_to(np.asarray(rates, np.float64), count))

    def _at(self, t, base, total):
        if isinstance(self.schedule, Schedule):
            # Rates fall below the smallest numbers, or rise beyond the largest, whatever np.seterr says.
            with np.errstate(all="ignore"):
                return self.schedule(t, base, total)
        return [real_number(self.schedule(int(i), base), "schedule: learning_rate", 0) for i in t]

    def on_epoch_end(self, trainer: Trainer, history: History) -> None:
        """Show the epoch's number to a schedule that waits for plateaus."""
        if isinstance(self.schedule, ReduceOnPlateau) and self._plateau[0] != history.epochs[-1]:
            number = monitored(history, self.schedule.monitor)
            state = self.schedule.observe(self._plateau[1], number, trainer.optimizer.learning_rate)
            self._plateau = history.epochs[-1], state

    def state_dict(self) -> dict[str, Any]:
        """What a schedule that waits for plateaus has seen."""
        if self._plateau is None:
            return {}
        return _with_monitor(self.schedule, {"epoch": self._plateau[0], "plateau": self._plateau[1]._asdict()})

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on as the callback that had this state."""
        waits = isinstance(self.schedule, ReduceOnPlateau)
        if waits != bool(state):
            expected = "another schedule than ReduceOnPlateau" if waits else "ReduceOnPlateau"
            raise ValueError(f"callbacks: expected {expected}, as in the fit, got {shown(self.schedule)}")
        if waits:
            state = _of_monitor(self, self.schedule, state)
            self._plateau = state["epoch"], ReduceOnPlateau.State(**state["plateau"])

    def __repr__(self):
        return _settings(self, "schedule", "per")


class CSVLogger:
    """Write a line of a CSV file after every epoch: its number and those of `History.metrics`, exactly.

    A new fit begins the file anew; one that resumes makes it that of the whole fit. What callbacks behind it `note` of
    an epoch comes to its line when the next one is written, and that of the last epoch at the end.

    Args:
        path: of the file; its folder exists.

    Raises:
        OSError: the file cannot be written. The fit ends, before its first batch if the folder is missing or may not be
            written.
        ValueError, TypeError: path is not the name of a file.

    >>> import pathlib, tempfile, fastnn
    >>> path = pathlib.Path(tempfile.mkdtemp(), "log.csv")
    >>> x = [[0.0], [1.0]]
    >>> history = fastnn.MLP([1, 1], seed=0).fit(x, x, epochs=2, seed=0, callbacks=[CSVLogger(path)])
    >>> print(path.read_text().splitlines()[0])
    epoch,loss,seconds
    """

    def __init__(self, path: PathLike) -> None:
        self.path = file_path(path)
        self._begin_anew()

    def _begin_anew(self):
        # The header, how many lines follow it, and the numbers of the last one as text, in which nan is nan.
        self._names, self._lines, self._last = [], 0, ""

    def on_fit_begin(self, trainer: Trainer, history: History) -> None:
        """Look whether the file can be written; what an old one holds stays until the next epoch begins it."""
        # Not by `check_writable`: a log may be a pipe.
        open(self.path, "a", encoding="utf-8").close()
        self._begin_anew()
        if history.epochs:
            self.on_epoch_end(trainer, history)

    def on_epoch_end(self, trainer: Trainer, history: History) -> None:
        """Write what is not in the file yet; all that there is, if the file's last epoch has other numbers now."""
        names, lines = ["epoch", *history.metrics], len(history.epochs)
        columns: list[list] = [history.epochs, *history.metrics.values()]
        rows_from = lambda first: list(
            itertools.zip_longest(*(column[first:lines] for column in columns), fillvalue=math.nan)
        )
        last = str(rows_from(self._lines - 1)[:1]) if self._lines else ""
        if names != self._names or last != self._last:
            self._lines = 0
        rows = rows_from(self._lines)
        if not rows:
            return
        with open(self.path, "a" if self._lines else "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if not self._lines:
                writer.writerow(names)
            writer.writerows(rows)
        self._names, self._lines, self._last = names, lines, str(rows[-1:])

    def on_fit_end(self, trainer: Trainer, history: History) -> None:
        """Write what has been noted of the last epoch since."""
        self.on_epoch_end(trainer, history)

    def __repr__(self):
        return _settings(self, "path")
