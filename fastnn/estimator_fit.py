"""An estimator's fit as those see it who watch it: callbacks, schedules, the progress bar, scikit-learn's callbacks."""

import math
import time

from .history import History
from .hooks import call, callback_list, ends_fit, refuse_missing, scheduled_rates, scheduler_among
from .position import Position
from .progress import progress_bar

# What a fit notes of itself after every epoch if there is such a number, besides loss and seconds.
NUMBERS = {"val_loss", "val_score", "learning_rate"}


class EstimatorFit:
    """A fit of an estimator of `fastnn.sklearn`, which its callbacks get in the place of a `Trainer`.

    Attributes:
        estimator: the `MLPClassifier` or `MLPRegressor`; it can predict while it is fitted.
        net: the `Sequential` under it, which ends before the output activation. To set its parameters sets `coefs_`
            and `intercepts_`.
        optimizer: its `learning_rate` is that on which a schedule builds.
        history: the `History` of the fit, by epoch: "loss" with its penalties, "val_loss" with a validation set,
            "val_score" with early stopping too, "learning_rate" with a schedule, "seconds".
        epochs, steps: epochs and updates done so far.
    """

    def __init__(self, estimator, net, optimizer, rows, batch_size, begins, after_change, visible):
        self.estimator, self.net, self.optimizer = estimator, net, optimizer
        if begins:
            estimator.history_ = History()
        self.history = estimator.history_
        scheduler = [] if optimizer.scheduler is None else [optimizer.scheduler]
        self._callbacks = callback_list([*scheduler, *estimator.callbacks])
        self._scheduler = scheduler_among(self._callbacks)
        if self._scheduler is not None and estimator.solver == "sgd" and estimator.learning_rate != "constant":
            raise ValueError(
                f"learning_rate: expected 'constant' with a schedule of fastnn's, got {estimator.learning_rate!r}"
            )
        refuse_missing(self._callbacks, self._numbers())
        self._position = Position(rows, batch_size, estimator.shuffle, estimator.max_iter)
        self._position.epoch = self.epochs
        self._after_change = after_change
        self._bar = progress_bar(bool(estimator.progress) and visible, self._position)
        self._mark = time.perf_counter()
        if begins:
            self._call("on_fit_begin")

    epochs = property(lambda self: len(self.history.epochs))
    steps = property(lambda self: self.optimizer.steps)

    def _numbers(self):
        """Names of the numbers that the history gets after every epoch, in their order."""
        scored = self.estimator.early_stopping
        validated = scored or self.estimator._own_validation is not None
        there = {"loss": True, "val_loss": validated, "val_score": scored, "learning_rate": self._scheduler is not None}
        return [*(name for name, is_there in there.items() if is_there), "seconds"]

    def learning_rates(self, count):
        """Those of the next `count` updates, float64 (count,), or None for the optimizer's."""
        return scheduled_rates(self._scheduler, self.optimizer.learning_rate, self._position, count)

    def batches_done(self, losses, rates):
        """Updates are done, with these losses and learning rates."""
        now = time.perf_counter()
        self._position.advance(losses, now - self._mark, rates)
        self._mark = now
        self._bar.update(losses.size, self.epochs + 1, losses[-1])
        self._call("on_batches_end")

    def end_epoch(self, numbers):
        """An epoch is done, with these numbers by name; True if a callback asks for the end."""
        position = self._position
        if self._scheduler is not None:
            numbers["learning_rate"] = position.learning_rate
        # Of an earlier `partial_fit` or warm start, which was another kind of fit.
        numbers |= dict.fromkeys(NUMBERS & self.history.metrics.keys() - numbers.keys(), math.nan)
        seconds = position.seconds + time.perf_counter() - self._mark
        self.history.append(self.epochs + 1, numbers | {"seconds": seconds})
        position.end_epoch()
        self._bar.scores(numbers)
        stop = self._call("on_epoch_end")
        self._mark = time.perf_counter()
        return stop

    def end(self):
        """The last epoch is done."""
        self._call("on_fit_end")

    def close(self):
        """Take the bar away, whatever has happened."""
        self._bar.close()

    def save(self, path):
        """Write the network to a file for `fastnn.load`: what `Checkpoint` keeps of an estimator's fit."""
        self.net.save(path)

    def _call(self, hook):
        if not self._callbacks:
            return False
        before = self.estimator._values_beside(self.net)
        said = [call(callback, hook, self, self.history) for callback in self._callbacks]
        self.estimator._take_up(self.net, before)
        if self._after_change:
            self._after_change()
        return any(map(ends_fit, said))


class CallbackTasks:
    """A fit as scikit-learn's callback protocol has it: a task, and in it one for every epoch.

    Args:
        estimator, X, y, sample_weight: of the fit, as the user gave them.
        most: epochs at most; 0 if they will not be told.
        fitted: a function without arguments that returns attributes which make a copy of the estimator a fitted one.
    """

    def __init__(self, estimator, X, y, sample_weight, most, fitted):
        metadata = {} if sample_weight is None else {"sample_weight": sample_weight}
        self._data = {"estimator": estimator, "X": X, "y": y, "metadata": metadata}
        self._fitted = fitted
        self._fit = estimator._init_callback_context(max_subtasks=most)
        self._fit.call_on_fit_task_begin(**self._data)

    def begin_epoch(self):
        """An epoch begins."""
        self._epoch = self._fit.subcontext(task_name="epoch")
        self._epoch.call_on_fit_task_begin(**self._data)

    def end_epoch(self):
        """An epoch is done; True if a callback asks for the end."""
        return self._epoch.call_on_fit_task_end(**self._data, reconstruction_attributes=self._fitted)

    def end(self):
        """The fit is done."""
        self._fit.call_on_fit_task_end(**self._data, reconstruction_attributes=self._fitted)
